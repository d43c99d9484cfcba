"""What a driver class is made of: its options, methods, channels, parts and capabilities."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from labctl.instruments import capabilities
from labctl.instruments.transports.opening import DriverOptions

UNITS = {"hz": "Hz", "v": "V", "w": "W", "s": "s", "m": "m", "a": "A", "db": "dB", "dbm": "dBm",
         "ohm": "ohm", "rad": "rad", "k": "K", "c": "°C"}  # fmt: skip
"""Units by the ending that denotes them in a name."""

CAPABILITIES: dict[type[Any], frozenset[str]] = {
    kind: frozenset(
        member
        for base in kind.__mro__
        if base.__module__ == capabilities.__name__
        for member in vars(base)
        if not member.startswith("_")
    )
    for name, kind in vars(capabilities).items()
    if inspect.isclass(kind) and getattr(kind, "_is_protocol", False)
    if kind.__module__ == capabilities.__name__ and name not in ("Instrument", "Driver")
}
"""The capabilities there are, each with the names of its methods."""

# Of labctl itself only these folders hold drivers and their parts; codecs, transports and values
# are no instruments.
_DRIVER_FOLDERS = tuple(
    f"labctl.instruments.{folder}."
    for folder in (
        "attenuators",
        "digitizers",
        "generators",
        "lasers",
        "modulators",
        "oscilloscopes",
        "power_meters",
        "sources",
    )
)


def options_of(driver: type[Any]) -> type[DriverOptions]:
    """Return the options model that a driver's constructor declares."""
    declared = typing.get_type_hints(driver.__init__)["options"]
    models = [kind for kind in typing.get_args(declared) if kind is not type(None)]
    assert len(models) == 1, f"options: {declared} must be one model, or None"
    model = models[0]
    assert inspect.isclass(model)
    assert issubclass(model, DriverOptions), f"{model.__name__} must be a DriverOptions"
    return model


def public_methods(kind: type[object]) -> dict[str, Any]:
    """Return a class's public methods by name."""
    found = inspect.getmembers(kind, callable)
    kept = ((name, member) for name, member in found if not name.startswith("_"))
    return {name: member for name, member in kept if not inspect.isclass(member)}


def capabilities_of(kind: type[object]) -> list[type[Any]]:
    """Return the capabilities that a class has by the names of its methods, as isinstance tells."""
    return [each for each, members in CAPABILITIES.items() if members <= set(dir(kind))]


def channels_of(kind: type[object]) -> dict[str, type[object]]:
    """Return the methods that hand out one channel as a separate object, with its class."""
    found = {}
    for name, member in public_methods(kind).items():
        parameters = list(inspect.signature(member).parameters.values())[1:]
        hints = typing.get_type_hints(member) if inspect.isfunction(member) else {}
        one_number = len(parameters) == 1 and hints.get(parameters[0].name) is int
        if one_number and inspect.isclass(hints["return"]) and capabilities_of(hints["return"]):
            found[name] = hints["return"]
    return found


def parts_of(instrument: object) -> list[Any]:
    """Return an instrument and its parts: public attributes whose class is the driver's own kind.

    That is a class of the same package, or of the same folder where there is no package.
    """
    owned = [value for name, value in vars(instrument).items() if not name.startswith("_")]
    return [instrument, *(each for each in owned if _is_part(type(each), type(instrument)))]


def _is_part(kind: type[object], driver: type[object]) -> bool:
    if kind.__module__.startswith("labctl."):
        return kind.__module__.startswith(_DRIVER_FOLDERS)
    root = kind.__module__.partition(".")[0]
    if root == "builtins" or root in sys.stdlib_module_names:
        return False
    same_package = root == driver.__module__.partition(".")[0]
    return bool(public_methods(kind)) and (same_package or _folder(kind) == _folder(driver))


def _folder(kind: type[object]) -> Path | None:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return Path(file).parent if file else None


def questions_of(part: object) -> list[Callable[[], object]]:
    """Return the methods that need no argument and return something."""
    found = []
    for member in public_methods(type(part)):
        method = getattr(part, member)
        hints = typing.get_type_hints(method) if inspect.ismethod(method) else {}
        if hints.get("return", type(None)) is not type(None):
            parameters = inspect.signature(method).parameters.values()
            if all(each.default is not inspect.Parameter.empty for each in parameters):
                found.append(method)
    return found


def properties_of(part: object) -> Iterator[tuple[str, Any, Any, tuple[Any, ...]]]:
    """Yield what `set_<noun>` sets and `<noun>` or `<noun>_<unit>` returns, with values to try.

    Each as (name of the setter, setter, getter, values).
    """
    methods = public_methods(type(part))
    for setter in methods:
        noun = setter.removeprefix("set_")
        getters = [noun, *(f"{noun}_{unit}" for unit in UNITS)]
        getter = next((each for each in getters if each in methods), None)
        needed = inspect.signature(getattr(part, setter)).parameters if noun != setter else {}
        if getter is None or len(needed) != 1:
            continue
        hints = typing.get_type_hints(getattr(type(part), setter))
        argument = next(iter(needed))
        values = _values_of(hints.get(argument), argument)
        if values:
            yield setter, getattr(part, setter), getattr(part, getter), values


def own_properties_of(part: object) -> Iterator[tuple[str, Any, Any, tuple[Any, ...]]]:
    """Yield what `properties_of` does without what a capability has: that has a check itself."""
    covered = set().union(*(CAPABILITIES[each] for each in capabilities_of(type(part))))
    return (each for each in properties_of(part) if each[0] not in covered)


# Numbers of each unit that instruments of this kind take, in SI: short and long times, powers from
# nW to W, wavelengths of telecom light and lengths, frequencies from MHz to those of light.
_OF_UNIT: dict[str, tuple[float, ...]] = {
    "m": (1.31e-6, 1.55e-6, 1.5505e-6, 1e-3, 1.0),
    "w": (1e-9, 1e-6, 1e-4, 1e-3, 5e-3, 1e-2, 1e-1),
    "s": (0.0, 1e-6, 1e-4, 2e-3, 5e-3, 0.1, 0.2, 1.0),
    "a": (1e-6, 1e-4, 5e-3, 8e-3, 1e-2, 0.1),
    "v": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0),
    "hz": (0.0, 1e6, 2e6, 1e8, 2e8, 1e9, 1.935e14, 1.94e14),
    "db": (0.0, 0.25, 1.0, 2.0, 5.0, 20.0, 50.0),
    "dbm": (-30.0, -10.0, 0.0, 5.0, 7.0, 10.0),
    "rad": (0.0, 0.25, 1.0, 2.0, 3.0),
    "k": (290.0, 295.0, 298.15, 300.0),
    "c": (15.0, 20.0, 25.0, 30.0),
    "ohm": (50.0, 75.0, 1e3, 1e6),
}
_WITHOUT_UNIT = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 50.0)


def _values_of(kind: Any, argument: str) -> tuple[Any, ...]:
    """Return values of a type and a unit to set and read back; none if it is no plain value."""
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return tuple(kind)
    if kind is bool:
        return (True, False, True)
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)
    if kind is int:
        return (1, 2, 4, 7)
    if kind not in (float, float | None):
        return ()
    unit = argument.rpartition("_")[2] if "_" in argument else ""
    numbers = _OF_UNIT.get(unit, _WITHOUT_UNIT)
    return (*numbers, 1e9 * max(numbers), -1.5 * max(numbers))


def documentation(kind: type[object], method: str) -> str:
    """Return what is written of a method: in the class, and in the capabilities that have it."""
    protocols = [each for each in vars(capabilities).values() if hasattr(each, method)]
    texts = [inspect.getdoc(getattr(each, method)) or "" for each in (kind, *protocols)]
    return "\n".join(texts)
