"""What a role of a station file names: an instrument, or some of its channels, and what it sets."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Channel = Annotated[int, Field(ge=0)]

_REFERENCE = re.compile(r"(?P<instrument>[^/]+)(?:/(?P<channel>[0-9]{1,4}))?")


STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
"""Of all tables of a station file: their keys are known, and they never change."""


class _Table(BaseModel):
    model_config = STRICT


def split_reference(reference: str) -> tuple[str, int | None]:
    """Return instrument and channel of "meter/3"; no channel for "meter".

    Raises ValueError if it is neither.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise ValueError(
            f"expected an instrument, or one of its channels as 'meter/3', got {reference!r}"
        )
    channel = found["channel"]
    return found["instrument"], None if channel is None else int(channel)


def _checked_reference(reference: str) -> str:
    split_reference(reference)
    return reference


Reference = Annotated[str, AfterValidator(_checked_reference)]
"""An instrument, or one of its channels as "meter/3"."""


class _Reference(_Table):
    """An instrument, which may be written "meter/3" for its channel 3."""

    @model_validator(mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        table = {"instrument": given} if isinstance(given, str) else given
        if not isinstance(table, dict) or "/" not in str(table.get("instrument")):
            return table
        instrument, channel = split_reference(table["instrument"])
        if table.get("channel", channel) != channel:
            raise ValueError(f"two channels: {table['instrument']!r} and {table['channel']!r}")
        return table | {"instrument": instrument, "channel": channel}


class OutputRole(_Reference):
    """One channel of an instrument; a single-channel instrument needs none."""

    instrument: str
    channel: Channel | None = None

    @property
    def reference(self) -> str:
        """The instrument with its channel, as "meter/3"."""
        return self.instrument if self.channel is None else f"{self.instrument}/{self.channel}"


class InputRole(_Reference):
    """One channel of a digitizer."""

    instrument: str
    channel: Annotated[int, Field(ge=1)]


class LocalOscillatorRole(OutputRole):
    """The client's own laser as its local oscillator, `beat_hz` above the signal's frequency.

    `power_dbm`: of the laser. `wavelength_nm`: of the signal, in vacuum. `linewidth_hz`: of this
    laser, `signal_linewidth_hz`: of the server's, both Lorentzian full widths. `highest_beat_hz`:
    what the detector still passes; a beat beyond is not looked for. The receiver is a heterodyne
    one then: `efficiency` in [client.constants] stays that of detector and mode matching, of which
    each quadrature has half.
    """

    power_dbm: float
    wavelength_nm: Annotated[float, Field(gt=1200.0, lt=1700.0)]
    linewidth_hz: NotNegative
    signal_linewidth_hz: NotNegative
    beat_hz: Positive
    highest_beat_hz: Positive

    @model_validator(mode="after")
    def _within(self) -> LocalOscillatorRole:
        if self.beat_hz > self.highest_beat_hz:
            raise ValueError(
                f"beat_hz = {self.beat_hz:g}: at most highest_beat_hz = {self.highest_beat_hz:g}"
            )
        return self


class PairRole(_Table):
    """Two channels of a generator for the two parts of a complex waveform."""

    instrument: str
    i_channel: Annotated[int, Field(ge=1)]
    q_channel: Annotated[int, Field(ge=1)]


class MeterRole(OutputRole):
    """One input of a power meter that sees a known share of a fibre's light.

    `ratio`: power in the fibre over power at the input, with its relative standard uncertainty
    (that of the meter's own calibration included).
    """

    ratio: Positive
    ratio_uncertainty: Annotated[float, Field(gt=0.0, lt=0.5)]
