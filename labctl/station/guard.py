"""What a station hands out: an instrument behind its limits, as is all that it hands out in turn.

A guard replaces one object. Each public method of the object is one of the guard, which looks at
what the call would set before it passes it on; results that have setters themselves come out
behind guards too. So a limit binds any caller, through any channel. The driver's own calls
of itself are not looked at: a safe state must be reached under any limits.

To `isinstance` a guard is the object that it guards.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from enum import Enum
from functools import wraps
from inspect import signature
from typing import Any

from labctl.quantities import Setter, public_methods, setter, unit_of
from labctl.station.conveniences import conveniences
from labctl.station.limits import Limits

_SPECIAL = ("__len__", "__iter__", "__contains__", "__getitem__", "__call__", "__enter__")
_VALUES = (int, float, complex, str, bytes, bytearray, memoryview, Enum, BaseException, type)
_OWN = frozenset({"_guarded_target", "_guarded_limits"})
_with_setters: dict[tuple[type, str], bool] = {}


class Guard:
    """An object behind limits; made by `guarded`, which gives it the object's methods."""

    _guarded_target: Any
    _guarded_limits: Limits

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._guarded_target, name)
        if name.startswith("_"):
            return found
        if callable(found) and not isinstance(found, type):
            return _passing(self, found)
        return _handed_out(self, found)

    def __setattr__(self, name: str, value: object) -> None:
        self._guarded_limits.check_open()
        if unit_of(name) is not None:
            self._guarded_limits.check(name, value)
        setattr(self._guarded_target, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._guarded_target, name)

    def __dir__(self) -> list[str]:
        own = (name for name in vars(type(self)) if not name.startswith("_"))
        return sorted({*own, *dir(self._guarded_target)})

    def __repr__(self) -> str:
        limits = ", ".join(self._guarded_limits.allowed) or "none"
        kind = type(self._guarded_target).__name__
        return f"<{kind} {self._guarded_limits.instrument!r}, limits: {limits}>"

    def __eq__(self, other: object) -> bool:
        return bool(self._guarded_target == unguarded(other))

    def __hash__(self) -> int:
        return hash(self._guarded_target)


def guarded(target: object, limits: Limits) -> Any:
    """Return `target` behind the limits of its instrument."""
    kind = type(target)
    members: dict[str, Any] = {"__slots__": tuple(_OWN), "__doc__": kind.__doc__}
    members["__class__"] = property(lambda self: kind)
    for name, method in public_methods(kind):
        members[name] = _checked(name, method, setter(method))
    for name in dir(kind):
        if isinstance(inspect.getattr_static(kind, name), property) and not name.startswith("_"):
            members[name] = _attribute(name)
    for name in getattr(target, "__dict__", {}):
        if not name.startswith("_"):
            members[name] = _attribute(name)
    for name in _SPECIAL:
        if _defines(kind, name):
            members[name] = _checked(name, getattr(kind, name), None)
    if _defines(kind, "__exit__"):
        members["__exit__"] = lambda self, *error: self._guarded_target.__exit__(*error)
    members.update(conveniences(kind))
    guard: Any = object.__new__(type(kind.__name__, (Guard,), members))
    object.__setattr__(guard, "_guarded_target", target)
    object.__setattr__(guard, "_guarded_limits", limits)
    return guard


def unguarded(guard: object) -> Any:
    """Return the object that a guard guards; anything else as it is."""
    if issubclass(type(guard), Guard):
        return object.__getattribute__(guard, "_guarded_target")
    return guard


def _checked(name: str, method: Callable[..., Any], known: Setter | None) -> Callable[..., Any]:
    """Return a guard's method: look at what the call would set, call, guard what comes out."""

    @wraps(method)
    def call(self: Guard, *arguments: Any, **named: Any) -> Any:
        target, limits = self._guarded_target, self._guarded_limits
        limits.check_open()
        if known is not None and limits.allowed:
            for quantity, value in known.values(target, arguments, named):
                limits.check(quantity, value)
        with limits.called():
            result = getattr(target, name)(*arguments, **named)
        return _handed_out(self, result)

    return call


def _passing(guard: Guard, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a callable that is an attribute of the object itself, looked at like a method."""
    plain = getattr(function, "__func__", function)
    known = setter(_with_self(plain) if plain is function else plain)

    def call(*arguments: Any, **named: Any) -> Any:
        guard._guarded_limits.check_open()
        if known is not None:
            for quantity, value in known.values(guard._guarded_target, arguments, named):
                guard._guarded_limits.check(quantity, value)
        with guard._guarded_limits.called():
            result = function(*arguments, **named)
        return _handed_out(guard, result)

    return call


def _with_self(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the same parameters behind `self`, for `setter` to look at."""

    def method(*arguments: Any, **named: Any) -> Any:
        return function(*arguments[1:], **named)

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return method
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    if any(each.name == "self" for each in parameters):
        return method
    vars(method)["__signature__"] = inspect.Signature([first, *parameters])
    return method


def _attribute(name: str) -> property:
    def read(self: Guard) -> Any:
        return self.__getattr__(name)

    return property(read)


def _handed_out(guard: Guard, value: Any) -> Any:
    """Return a result, behind the guard's limits if anything could be set through it."""
    if value is guard._guarded_target:
        return guard
    if value is None or isinstance(value, _VALUES):
        return value
    if isinstance(value, tuple | list | dict) or _is_iterator(value):
        return _handed_out_each(guard, value)
    if isinstance(value, types.FunctionType | types.MethodType):
        return _passing(guard, value)
    package = _package(type(guard._guarded_target))
    return guarded(value, guard._guarded_limits) if _may_set(value, package) else value


def _handed_out_each(guard: Guard, values: Any) -> Any:
    """Return a collection of results; the same one if nothing could be set through it."""
    if isinstance(values, dict):
        return {key: _handed_out(guard, part) for key, part in values.items()}
    if not isinstance(values, tuple | list):
        return (_handed_out(guard, part) for part in values)
    parts = [_handed_out(guard, part) for part in values]
    if all(new is old for new, old in zip(parts, values, strict=True)):
        return values
    return type(values)(parts) if type(values) in (tuple, list) else type(values)(*parts)


def _is_iterator(value: object) -> bool:
    """Tell a generator or the like from an object that can be iterated over among other things."""
    return isinstance(value, Iterator) and type(value).__module__ == "builtins"


def _may_set(value: object, package: str) -> bool:
    """Tell whether anything could be set through an object, or what it holds."""
    parts = getattr(value, "__dict__", {})
    return _has_setters(type(value), package) or any(
        _has_setters(type(part), package)
        for name, part in parts.items()
        if not (name.startswith("_") or isinstance(part, _VALUES))
    )


def _has_setters(kind: type, package: str) -> bool:
    """Tell whether something could be set through an object of a class.

    In the driver's own package that is any class with a method that takes an argument: methods of a
    value take none. A class of another package (a path, a table, a fraction) is a value unless some
    method of it takes a quantity.
    """
    if (kind, package) not in _with_setters:
        methods = [method for _, method in public_methods(kind)]
        own = _package(kind) == package
        _with_setters[kind, package] = _package(kind) not in sys.stdlib_module_names and (
            any(known.quantities for known in map(setter, methods) if known)
            or (own and any(len(signature(method).parameters) > 1 for method in methods))
            or (own and any(_defines(kind, name) for name in ("__getitem__", "__call__")))
        )
    return _with_setters[kind, package]


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _defines(kind: type, name: str) -> bool:
    """Tell whether a class has a special method itself, which its metaclass does not count for."""
    return any(name in vars(base) for base in kind.__mro__)
