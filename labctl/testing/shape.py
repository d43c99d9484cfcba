"""What a driver class is made of: its options, methods, channels, parts and capabilities."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
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
    declared = hint(driver.__init__, "options")
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
        if may_hand_out_a_channel(member):
            result = typing.get_type_hints(member).get("return")
            if inspect.isclass(result) and capabilities_of(result):
                found[name] = result
    return found


def may_hand_out_a_channel(member: Any) -> bool:
    """Tell whether a method takes one whole number, as what hands out a channel does."""
    if not inspect.isfunction(member):
        return False
    parameters = list(inspect.signature(member).parameters)[1:]
    return len(parameters) == 1 and typing.get_type_hints(member).get(parameters[0]) is int


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


def hint(function: Any, name: str) -> Any:
    """Return the type of a parameter, or of what is returned; fails if it is not annotated."""
    hints = typing.get_type_hints(function)
    what = "what it returns" if name == "return" else f"its parameter {name}"
    assert name in hints, f"{function.__qualname__}: expected a type for {what}, got none"
    return hints[name]


def documentation(kind: type[object], method: str) -> str:
    """Return what is written of a method: in the class, and in the capabilities that have it."""
    protocols = [each for each in vars(capabilities).values() if hasattr(each, method)]
    texts = [inspect.getdoc(getattr(each, method)) or "" for each in (kind, *protocols)]
    return "\n".join(texts)
