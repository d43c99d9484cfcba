"""The settings of an instrument, asked for: every `set_<noun>` that has a `<noun>` to read back."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any

from labctl.errors import InstrumentError, LabctlError
from labctl.quantities import public_methods, unit_of
from labctl.station.check import channel_methods

_SETS = "set_"
# More than any supported instrument has.
_MOST_CHANNELS = 64


def settings_of(instrument: object) -> dict[str, Any]:
    """Return what can be set and asked for, as plain values by the name of what asks.

    Parts that are attributes of the instrument have their own settings under the part's name,
    channels under their number: `laser.channel`, `2.voltage_v`. A question that fails has its error
    as text instead of a value.
    """
    found: dict[str, Any] = {}
    _collect(instrument, "", found)
    for name, part in getattr(instrument, "__dict__", {}).items():
        if not name.startswith("_") and any(
            method.startswith(_SETS) for method, _ in public_methods(type(part))
        ):
            _collect(part, f"{name}.", found)
    for method in channel_methods(type(instrument)):
        for number, part in _channels(getattr(instrument, method)):
            _collect(part, f"{number}.", found)
    return found


def _channels(hand_out: Any) -> Iterator[tuple[int, Any]]:
    """Yield the channels of an instrument, counted from 0 or from 1, until one is refused."""
    for number in range(_MOST_CHANNELS + 1):
        try:
            yield number, hand_out(number)
        except InstrumentError:
            if number:
                return


def _collect(owner: object, prefix: str, found: dict[str, Any]) -> None:
    methods = dict(public_methods(type(owner)))
    nouns = {name.removeprefix(_SETS) for name in methods if name.startswith(_SETS)}
    for name, method in methods.items():
        noun = _without_unit(name)
        takes_nothing = len(inspect.signature(method).parameters) == 1
        if takes_nothing and (name in nouns or noun in nouns) and not name.startswith(_SETS):
            found[prefix + name] = _asked(getattr(owner, name))


def _without_unit(name: str) -> str:
    if unit_of(name) is None:
        return name
    return name.removesuffix("_m_s") if name.endswith("_m_s") else name.rpartition("_")[0]


def _asked(question: Any) -> Any:
    try:
        return _plain(question())
    except LabctlError as error:
        return f"{type(error).__name__}: {error}"


def _plain(value: Any) -> Any:
    """Return a value as JSON could say it, except for infinities."""
    if isinstance(value, Enum):
        return value.name.lower()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value)
