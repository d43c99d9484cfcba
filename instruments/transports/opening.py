"""What every driver does to be opened: read its options, make sure who answers, share the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from labctl.clock import Clock
from labctl.errors import ConnectionFailedError, InstrumentTimeoutError, SettingError
from labctl.instruments.capabilities import Identity, Instrument
from labctl.instruments.transports.masking import conceal
from labctl.instruments.transports.recognition import Recognition, wires_asked
from labctl.instruments.transports.taps import tapped_clock
from labctl.wording import plain_fault

_CLOCK = "clock"
_I = TypeVar("_I", bound=Instrument)
_O = TypeVar("_O", bound="DriverOptions")


class DriverOptions(BaseModel):
    """Base of a driver's options: frozen, nothing unknown, no number written as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def channel_range(self) -> range | None:
        """Return the numbers of the channels; None for an instrument that has none to number.

        With it a station file that names any other channel is refused before anything is opened.
        """
        return None


def read_options(model: type[_O], instrument: str, options: Mapping[str, object]) -> _O:
    """Return the options as the driver's model; raises SettingError naming the first wrong one."""
    try:
        read = model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "options"
        if first["type"] == "extra_forbidden":
            valid = "one of the options " + ", ".join(sorted(model.model_fields))
        else:
            valid = plain_fault(first["msg"]).removeprefix("must be ")
        raise SettingError(f"{instrument} option {key}", first["input"], valid) from error
    conceal(read.model_dump())
    return read


def open_clock(library: str, record: Path | None = None) -> Clock:
    """Return the clock by which instruments behind a VISA library wait, once they are opened.

    A simulated bench's own time passes as its instruments work; everything else has the wall's.
    Its readings go to the process's wire record, or to `record`, as those of instrument "clock",
    and a replay gives them back.
    """
    from labctl.instruments.transports.visa_link import library_clock

    return tapped_clock(_CLOCK, lambda: library_clock(library), str(record) if record else None)


def verified(instrument: _I, address: str, *checks: Callable[[], object]) -> _I:
    """Return the instrument once all checks have passed, or close it and raise what went wrong.

    Silence becomes ConnectionFailedError: the address exists, but nothing there answers. Who
    answers (a check that returns an Identity) has to answer again after a lost connection.
    """
    recognition: Recognition | None = None
    try:
        with wires_asked() as wires:
            for check in checks:
                found = check()
                if isinstance(found, Identity):
                    recognition = Recognition(found, check)
    except InstrumentTimeoutError as error:
        instrument.close()
        problem = (
            f"{address} opened but nothing answers: check that the instrument is on, that the "
            f"address is its own, and the baud rate of a serial line ({error.problem})"
        )
        raise ConnectionFailedError(instrument.name, problem, error.command) from error
    except BaseException:
        instrument.close()
        raise
    for wire in wires:
        wire.recognition = recognition
    return instrument
