"""Which physical quantities a setter sets: what limits are named by, and checked on.

A quantity is a parameter's name with its unit, as in `set_power(power_w)`. Some setters say one
quantity by others: `play(amplitude_v, offset_v)` puts offset - amplitude to offset + amplitude on
the output, so a limit of `voltage_v` must bind it too. `RULES` has these by the names of the
parameters, in any driver; `sets` declares what only the driver itself can know.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

from labctl.units import SPEED_OF_LIGHT_M_S, dbm_to_w

UNITS = {
    "v": "V",
    "a": "A",
    "w": "W",
    "hz": "Hz",
    "m": "m",
    "s": "s",
    "db": "dB",
    "dbm": "dBm",
    "ohm": "ohm",
    "rad": "rad",
    "k": "K",
    "c": "°C",
    "m_s": "m/s",
}
"""Unit of a quantity by the end of its name."""

_Function = TypeVar("_Function", bound=Callable[..., object])
_DECLARED = "__sets__"
_NO_INSTRUMENTS = ("builtins", "numpy", "typing", "collections.abc")
_SEVERAL = re.compile(r"Sequence|Iterable|NDArray|list|tuple")


@dataclass(frozen=True)
class Rule:
    """One quantity that follows from others: its values by the parameters of these names.

    `parameters` may hold "self", the instrument. `method`: the only method it is for, if any.
    """

    quantity: str
    parameters: tuple[str, ...]
    values: Callable[..., Iterable[float]]
    method: str | None = None


RULES = (
    # A waveform between -1 and +1 takes the output from offset - amplitude to offset + amplitude.
    Rule("voltage_v", ("amplitude_v", "offset_v"), lambda a, o: (o - abs(a), o + abs(a))),
    Rule("voltage_v", ("low_v", "high_v"), lambda low, high: (low, high)),
    Rule("amplitude_v", ("low_v", "high_v"), lambda low, high: ((high - low) / 2,)),
    Rule("offset_v", ("low_v", "high_v"), lambda low, high: ((high + low) / 2,)),
    # A current source goes up to its voltage limit in either direction.
    Rule("voltage_v", ("voltage_limit_v",), lambda limit: (-limit, limit)),
    Rule("current_a", ("current_limit_a",), lambda limit: (-limit, limit)),
    # Light has one colour, given as a wavelength or as a frequency. (`set_wavelength` is a power
    # meter's: it tunes nothing.)
    Rule("wavelength_m", ("frequency_hz",), lambda f: (_colour(f),), "set_frequency"),
    Rule("wavelength_m", ("start_m", "stop_m"), lambda start, stop: (start, stop)),
    Rule("frequency_hz", ("start_m", "stop_m"), lambda a, b: (_colour(a), _colour(b))),
    # A driver may itself have setters in the units that people speak in.
    Rule("power_w", ("power_dbm",), lambda p: (_watts(p),)),
    Rule("wavelength_m", ("wavelength_nm",), lambda nm: (nm * 1e-9,)),
    Rule("frequency_hz", ("wavelength_nm",), lambda nm: (_colour(nm * 1e-9),)),
)


def _watts(power_dbm: float) -> float:
    """Return a power in W; infinite where no float holds it."""
    try:
        return dbm_to_w(power_dbm)
    except OverflowError:
        return math.inf


def _colour(value: float) -> float:
    """Return the frequency in Hz of a wavelength in m, or the other way round; NaN for 0."""
    return SPEED_OF_LIGHT_M_S / value if value else float("nan")


def sets(**derived: Callable[..., float]) -> Callable[[_Function], _Function]:
    """Declare quantities that a setter of a driver sets without naming them.

    Each value is a function of some of the setter's parameters, by name, and of `self`, the
    driver; it returns the quantity that the call would set. A frequency in Hz is also a wavelength.
    """
    rules = []
    for quantity, function in derived.items():
        parameters = tuple(inspect.signature(function).parameters)
        rules.append(Rule(quantity, parameters, lambda *found, say=function: (say(*found),)))
        if quantity == "frequency_hz":
            colour = Rule(
                "wavelength_m", parameters, lambda *found, say=function: (_colour(say(*found)),)
            )
            rules.append(colour)

    def declare(function: _Function) -> _Function:
        setattr(function, _DECLARED, tuple(rules))
        return function

    return declare


def unit_of(name: str) -> str | None:
    """Return the unit at the end of a quantity's name, None if it has none.

    >>> unit_of("power_w"), unit_of("speed_m_s"), unit_of("channel")
    ('W', 'm/s', None)
    """
    parts = name.split("_")
    for length in (2, 1):
        end = "_".join(parts[-length:])
        if len(parts) > length and end in UNITS:
            return UNITS[end]
    return None


@dataclass(frozen=True)
class Setter:
    """A method with what it sets: parameters that are quantities themselves, and derived ones."""

    signature: inspect.Signature
    named: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...]

    @property
    def quantities(self) -> frozenset[str]:
        """All quantities by which a limit binds this method."""
        names = {name for names in self.named.values() for name in names}
        return frozenset(names | {rule.quantity for rule in self.rules})

    def values(
        self, target: object, arguments: tuple[object, ...], named: Mapping[str, object]
    ) -> Iterator[tuple[str, object]]:
        """Yield each quantity with a value that a call would set; raises TypeError as the call."""
        bound = self.signature.bind(*arguments, **named)
        bound.apply_defaults()
        given: dict[str, Any] = {"self": target}
        for name, value in bound.arguments.items():
            if self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                given.update(value)
            else:
                given[name] = value
        for name, value in given.items():
            for quantity in self.named.get(name, _named(name)):
                if value is not None:
                    yield quantity, value
        for rule in self.rules:
            found = [given.get(name) for name in rule.parameters]
            if all(value is not None for value in found):
                for value in rule.values(*found):
                    yield rule.quantity, value


@cache
def setter(function: Callable[..., object]) -> Setter | None:
    """Return what an unbound method sets, None if it takes no quantity."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a method written in C may have no signature
        return None
    parameters = list(signature.parameters.values())[1:]
    named = {each.name: _named(each.name, str(each.annotation)) for each in parameters}
    names = {"self", *named}
    method = getattr(function, "__name__", "")
    rules = (*RULES, *getattr(function, _DECLARED, ()))
    fitting = tuple(
        rule
        for rule in rules
        if names.issuperset(rule.parameters) and rule.method in (None, method)
    )
    open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    if not (any(named.values()) or fitting or open_ended):
        return None
    return Setter(signature.replace(parameters=parameters), named, fitting)


@cache
def quantities_of(kind: type) -> frozenset[str]:
    """Return all quantities that a driver, and what it hands out, says it sets.

    What it hands out is known by the annotations of its methods, properties and attributes.
    """
    found: set[str] = set()
    _collect(kind, found, set())
    return frozenset(found)


def public_methods(kind: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the public instance methods of a class by name."""
    for name in dir(kind):
        method = inspect.getattr_static(kind, name)
        if not name.startswith("_") and inspect.isfunction(method):
            yield name, method


def handed_out(method: Callable[..., object]) -> type | None:
    """Return the class that a method's annotation says it returns, None if it says none."""
    return next(_classes(_hints(method).get("return")), None)


def _collect(kind: type, found: set[str], seen: set[type]) -> None:
    if kind in seen:
        return
    seen.add(kind)
    for _, method in public_methods(kind):
        known = setter(method)
        found.update(known.quantities if known else ())
        for part in _classes(_hints(method).get("return")):
            _collect(part, found, seen)
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        if name.startswith("_") or not isinstance(member, property):
            continue
        if member.fset is not None:
            found.update(_named(name))
        for part in _classes(_hints(member.fget).get("return")):
            _collect(part, found, seen)
    for base in kind.__mro__:
        for name, hint in _hints(base).items():
            if not name.startswith("_"):
                for part in _classes(hint):
                    _collect(part, found, seen)


def _named(name: str, annotation: str = "") -> tuple[str, ...]:
    """Return the quantities that a parameter's own name says; none without a unit.

    Several values have the quantity of one: `voltages_v` are limited by `voltage_v`.
    """
    if unit_of(name) is None:
        return ()
    stem, _, unit = name.rpartition("_")
    if stem.endswith("s") and _SEVERAL.search(annotation):
        return name, f"{stem[:-1]}_{unit}"
    return (name,)


def _hints(owner: Any) -> dict[str, Any]:
    """Return annotations as types; those that cannot be resolved here are left out."""
    module = sys.modules.get(getattr(owner, "__module__", None) or "")
    names = getattr(owner, "__globals__", vars(module) if module else {})
    found = {}
    for name, hint in inspect.get_annotations(owner).items():
        # A name that is imported for type checkers alone cannot be looked up.
        with suppress(NameError, TypeError, AttributeError, SyntaxError):
            found[name] = eval(hint, names) if isinstance(hint, str) else hint
    return found


def _classes(hint: object) -> Iterator[type]:
    """Yield the classes of what an annotation hands out that may have setters."""
    if get_origin(hint) is not None:
        for part in get_args(hint):
            yield from _classes(part)
    elif isinstance(hint, type) and not issubclass(hint, Enum):
        yield from () if hint.__module__ in _NO_INSTRUMENTS else (hint,)
