"""What `set_<noun>` sets and `<noun>` returns, with values in the range and unit of the property.

Values are drawn from what is usual in the unit that the names end in, and from the numbers that a
driver states when it refuses one. The instrument's own refusals sort out the rest.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from labctl.errors import InstrumentReportedError, LimitError
from labctl.quantities import UNITS, unit_of
from labctl.testing.shape import CAPABILITIES, capabilities_of, hint, public_methods

# Usual values by unit, the harmless ones first: wavelengths and lengths, optical frequencies, ...
_USUAL: dict[str | None, tuple[float, ...]] = {
    "V": (1.0, 0.5, 2.0, 0.25, 0.1, 5.0),
    "A": (5e-3, 8e-3, 1e-3, 0.1, 1.0),
    "W": (5e-3, 8e-3, 1e-3, 1e-4, 1e-6, 1e-9),
    "Hz": (1e6, 2e6, 1e3, 25e6, 1e9, 193.4e12, 194e12, 230e12),
    "m": (1550e-9, 1310e-9, 1530e-9, 850e-9, 1e-3, 2e-3),
    "s": (0.1, 0.2, 1.0, 1e-3, 1e-6),
    "dB": (10.0, 3.0, 1.0, 15.5, 0.0),
    "dBm": (0.0, 3.0, 10.0, -10.0, -30.0),
    "ohm": (50.0, 75.0, 1e3, 1e6),
    "rad": (0.5, 1.0, 0.0, -1.0),
    "K": (298.15, 293.15, 300.0),
    "°C": (25.0, 20.0, 30.0),
    "m/s": (50e-9, 10e-9, 1e-6),
    None: (1.0, 2.0, 0.5, 0.25, 5.0, 50.0, 0.0),
}
_WHOLE = (1, 2, 4, 7)
_BEYOND = 10**9
_LEAST_SHARE = 1e-3
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
# Where in a range that a driver states; its ends are valid too.
_SHARES = (0.5, 0.3, 0.7, 0.0, 1.0)
# Setters of capabilities that are named otherwise, with what reads them back.
_OTHERWISE = {"hold_voltage": "bias_voltage_v"}
_CHANNEL = ("channel", "number", "port")


@dataclass(frozen=True)
class Property:
    """A setter and its getter, ready to be called with a value and with nothing.

    `argument`, `kind`: name and type of the value. `given`: values to try instead of drawn ones.
    """

    name: str
    argument: str
    kind: Any
    put: Callable[[Any], object]
    get: Callable[[], Any]
    unit: str | None
    given: tuple[Any, ...] | None = None

    @classmethod
    def of_argument(cls, method: Any, argument: str, put: Callable[[Any], object]) -> Property:
        """Return the argument of a method as a property that cannot be read."""
        kind = _plain(hint(method, argument))
        return cls(method.__name__, argument, kind, put, lambda: None, unit_of(argument))

    def values(self) -> Iterator[Any]:
        """Yield values to try, without repetition."""
        seen: list[Any] = []
        for value in self.given if self.given is not None else self._drawn():
            if value not in seen or isinstance(value, bool):
                seen.append(value)
                yield value

    def _drawn(self) -> Iterator[Any]:
        if typing.get_origin(self.kind) is typing.Literal:
            yield from typing.get_args(self.kind)
        elif inspect.isclass(self.kind) and issubclass(self.kind, Enum):
            yield from self.kind
        elif self.kind is bool:
            yield from (True, False, True)
        elif self.kind is int:
            yield from _WHOLE
            yield from (round(each) for each in self._stated(_BEYOND))
        elif self.kind is float:
            stated = list(self._stated(math.nan))
            # What is far smaller than a range may be below the resolution.
            ranged = len(stated) == len(_SHARES)
            least = _LEAST_SHARE * max(map(abs, stated)) if ranged else 0.0
            yield from (each for each in _USUAL[self.unit] if not 0.0 < abs(each) < least)
            yield from stated

    def _stated(self, wrong: float) -> Iterator[float]:
        """Yield the numbers by which the driver says what is valid, and some between them."""
        try:
            self.put(wrong)
        except LimitError as error:
            between = re.search(rf"({_NUMBER}) to ({_NUMBER})", error.valid)
            if between:
                low, high = map(float, between.groups())
                yield from (low + share * (high - low) for share in _SHARES)
            else:
                yield from map(float, re.findall(_NUMBER, error.valid))
        except InstrumentReportedError:
            return


def properties_of(part: object, given: Mapping[str, tuple[Any, ...]]) -> Iterator[Property]:
    """Yield the properties of an instrument, part or channel, those of capabilities too."""
    yield from _pairs(part, given, None)


def numbered_properties(
    part: object, number: int, given: Mapping[str, tuple[Any, ...]]
) -> Iterator[Property]:
    """Yield properties of one channel: `set_<noun>(channel, value)` with `<noun>(channel)`."""
    yield from _pairs(part, given, number)


def only_argument(part: object, name: str, given: Mapping[str, tuple[Any, ...]]) -> Property:
    """Return a setter of one argument as a property; fails if it is none."""
    method = getattr(part, name, None)
    assert callable(method), f"{name}: expected a method of {type(part).__name__}, got {method!r}"
    needed = [
        each.name
        for each in inspect.signature(method).parameters.values()
        if each.default is inspect.Parameter.empty
    ]
    assert len(needed) == 1, f"{name}: expected one argument, got {needed}"
    found = Property.of_argument(getattr(type(part), name), needed[0], method)
    return replace(found, given=given.get(name))


def further(part: object, found: Iterator[Property]) -> Iterator[Property]:
    """Leave out what belongs to a capability of the part, which has a check itself."""
    covered = set().union(*(CAPABILITIES[each] for each in capabilities_of(type(part))))
    return (each for each in found if each.name not in covered)


def put_if_valid(each: Property, value: Any) -> str | None:
    """Set a value; return who refused it, None if nobody did."""
    try:
        each.put(value)
    except LimitError:
        return "out of range"
    except InstrumentReportedError:
        return "refused by the instrument"
    return None


def two_values(each: Property) -> tuple[Any, Any]:
    """Return two different values that are taken; of numbers, the larger first.

    Fails with an AssertionError if there are none.
    """
    taken: list[Any] = []
    outcomes = []
    for value in each.values():
        refusal = put_if_valid(each, value)
        outcomes.append((value, refusal or "taken"))
        if refusal is None and value not in taken:
            taken.append(value)
        if len(taken) == 2:
            break
    assert len(taken) == 2, none_taken(each, outcomes)
    low, high = sorted(taken, key=abs) if each.kind in (int, float) else taken
    return high, low


def none_taken(each: Property, outcomes: object) -> str:
    """Say that no value of a property fits, and how a test can name some."""
    return (
        f"{each.name}({each.argument}): expected two values that are taken, got "
        f"{outcomes or 'none to try'}; give driver_checks(values={{{each.name!r}: (...)}})"
    )


def _pairs(
    part: object, given: Mapping[str, tuple[Any, ...]], number: int | None
) -> Iterator[Property]:
    methods = public_methods(type(part))
    for setter in methods:
        getter = _getter_of(setter, methods)
        if getter is None or given.get(setter) == ():
            continue
        parameters = inspect.signature(getattr(part, setter)).parameters.values()
        needed = [each for each in parameters if each.default is inspect.Parameter.empty]
        asked = inspect.signature(getattr(part, getter)).parameters.values()
        wanted = [each for each in asked if each.default is inspect.Parameter.empty]
        first: tuple[int, ...] = ()
        if number is not None and needed and needed[0].name in _CHANNEL:
            needed, wanted, first = needed[1:], wanted[1:], (number,)
        if len(needed) != 1 or wanted or (number is not None) != bool(first):
            continue
        argument = needed[0].name
        kind = _plain(hint(getattr(type(part), setter), argument))
        yield Property(
            setter,
            argument,
            kind,
            _setting(getattr(part, setter), first, argument),
            _asking(getattr(part, getter), first),
            unit_of(argument) or unit_of(getter),
            given.get(setter),
        )


def _getter_of(setter: str, methods: Mapping[str, Any]) -> str | None:
    noun = setter.removeprefix("set_")
    if noun == setter:
        return _OTHERWISE.get(setter) if _OTHERWISE.get(setter) in methods else None
    names = [noun, *(f"{noun}_{unit}" for unit in UNITS)]
    return next((each for each in names if each in methods), None)


def _setting(
    method: Callable[..., object], first: tuple[int, ...], argument: str
) -> Callable[[Any], object]:
    return lambda value: method(*first, **{argument: value})


def _asking(method: Callable[..., Any], first: tuple[int, ...]) -> Callable[[], Any]:
    return lambda: method(*first)


def _plain(kind: Any) -> Any:
    """Return a type without its None."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kept = [each for each in typing.get_args(kind) if each is not type(None)]
        return kept[0] if len(kept) == 1 else kind
    return kind
