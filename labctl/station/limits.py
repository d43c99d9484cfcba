"""The limits of one instrument of a station file, and the refusal that says which file has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from labctl.errors import LimitError, OtherInstrumentError
from labctl.permit import only_while
from labctl.quantities import unit_of
from labctl.station.gate import Gate
from labctl.station.turns import Turns


@dataclass(frozen=True)
class Allowed:
    """What is allowed of one quantity, in the unit of its name; `where`: the file and line.

    `key`: under which key of the file it stands, where that is not "limits.QUANTITY".
    """

    low: float
    high: float
    where: str
    key: str | None = None


@dataclass(frozen=True)
class Limits:
    """What may be sent to the instrument of this name, by quantity, while its gate is open.

    `turns`: of an instrument that is watched, whose calls and readings must not mix. `stop`: stops
    the station's emission for a reason.
    """

    instrument: str
    allowed: Mapping[str, Allowed]
    gate: Gate = field(default_factory=Gate)
    turns: Turns | None = None
    stop: Callable[[str], None] | None = None

    def check_open(self) -> None:
        """Raise UsageError or StoppedError if the instrument may not be used now."""
        self.gate.check(self.instrument)

    @contextmanager
    def called(self) -> Iterator[None]:
        """Be a call of the program, which no reading of a watch falls into.

        It ends at its next message to the instrument once the gate is closed. One that finds
        another instrument at the address ends all use of the station, dark: what was set, limited
        and calibrated is not in front of it any more.
        """
        try:
            with only_while(self.check_open), self._turn():
                yield
        except OtherInstrumentError as error:
            if self.stop is not None and self.gate.reason is None:
                self.stop(str(error))
            raise

    def _turn(self) -> AbstractContextManager[None]:
        return nullcontext() if self.turns is None else self.turns.call()

    def check(self, quantity: str, value: object) -> None:
        """Raise LimitError unless every number of `value` is allowed; a quantity may be free.

        What cannot be read as numbers is refused as well, and so is NaN.
        """
        limit = self.allowed.get(quantity)
        if limit is None:
            return
        for number in _numbers(value):
            if not limit.low <= number <= limit.high:
                raise LimitError(
                    self.instrument, quantity, _shown(value, number), self.valid(quantity)
                )

    def valid(self, quantity: str) -> str:
        """Return in words what is allowed of a quantity, and where the file says so."""
        limit = self.allowed[quantity]
        unit = unit_of(quantity) or ""
        key = limit.key or f"limits.{quantity}"
        if math.isinf(limit.low):
            within = f"at most {limit.high:.9g}"
        elif math.isinf(limit.high):
            within = f"at least {limit.low:.9g}"
        else:
            within = f"{limit.low:.9g} to {limit.high:.9g}"
        return f"{within} {unit}".rstrip() + f" by {key} at {limit.where}"


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers of a value; NaN for what is none."""
    if isinstance(value, str | bytes):
        yield math.nan
        return
    try:
        yield float(value)
        return
    except (TypeError, ValueError):
        pass
    try:
        parts = list(value)
    except TypeError:
        yield math.nan
        return
    for part in parts:
        yield from _numbers(part)


def _shown(value: object, number: float) -> object:
    """Return the number that is refused, or what was given instead of one."""
    return value if math.isnan(number) and not hasattr(value, "__len__") else number
