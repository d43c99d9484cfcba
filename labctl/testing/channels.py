"""Channels of an instrument: each is set alone, and no two of them say the same to it."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from labctl.errors import InstrumentError
from labctl.instruments.capabilities import Laser, Restartable, SourceMeter
from labctl.testing.alone import about
from labctl.testing.on_bench import OnBench, numbers_of
from labctl.testing.properties import (
    Property,
    numbered_properties,
    properties_of,
    put_if_valid,
    two_values,
)
from labctl.testing.shape import (
    CAPABILITIES,
    capabilities_of,
    channels_of,
    hint,
    parts_of,
    public_methods,
)

# A reading is what was set if it is this much nearer to it than to the other value.
_OF_A_STEP = 0.1
# As many channels as are tried of a method that takes their number.
_MOST_NUMBERS = 64


@dataclass(frozen=True)
class _Channel:
    """One of several equal channels: the object, if it is one, and its properties by name."""

    object: Any
    properties: Mapping[str, Property]


def each_channel_is_set_alone(bench: OnBench) -> None:
    """Every property of every channel: it is read back there, and all others stay as they were."""
    for group in _groups(bench):
        if len(group) < 2:
            continue
        _switch_on(group)
        steps = {
            (number, name): two_values(each)
            for number, channel in group.items()
            for name, each in channel.properties.items()
        }
        for (number, name), (rest, _) in steps.items():
            group[number].properties[name].put(rest)
        for (number, name), (rest, other) in steps.items():
            with about(f"channel {number} {name}({other})"):
                group[number].properties[name].put(other)
                for (there, what), step in steps.items():
                    wanted = other if (there, what) == (number, name) else step[0]
                    found = group[there].properties[what].get()
                    shown = f"channel {there} {what}: expected {wanted}, got {found}"
                    assert _is(found, wanted, step), shown
                _check_measured(group[number], name, other)
                group[number].properties[name].put(rest)
    bench.instrument.safe_state()


def no_two_channels_send_the_same(bench: OnBench) -> None:
    """What is sent to one channel is not word for word what is sent to another one.

    A question may be the same if its reply has the values of several channels.
    """
    for method in channels_of(type(bench.instrument)):
        use = getattr(bench.instrument, method)
        channels = {number: use(number) for number in numbers_of(use)}
        for name in public_methods(type(next(iter(channels.values())))):
            calls = _calls(channels, name)
            said = {number: _said(bench, call, len(calls)) for number, call in calls.items()}
            _check_different(name, said)
    for part in parts_of(bench.instrument):
        for name, method in public_methods(type(part)).items():
            call = _numbered_call(part, name, method)
            if call is not None:
                _check_different(name, _said_by_number(bench, call))
    bench.instrument.safe_state()


def _groups(bench: OnBench) -> Iterator[dict[int, _Channel]]:
    """Yield channels by number: those that are objects, and those that are a method's argument."""
    given = bench.place.values
    for method in channels_of(type(bench.instrument)):
        use = getattr(bench.instrument, method)
        channels = {number: use(number) for number in numbers_of(use)}
        yield {
            number: _Channel(each, {found.name: found for found in properties_of(each, given)})
            for number, each in channels.items()
        }
    for part in parts_of(bench.instrument):
        names = [each.name for each in numbered_properties(part, 1, given)]
        for name in names:

            def one(number: int, part: object = part, name: str = name) -> Property:
                found = numbered_properties(part, number, given)
                return next(each for each in found if each.name == name)

            def ask(number: int, one: Callable[[int], Property] = one) -> object:
                return one(number).get()

            yield {number: _Channel(None, {name: one(number)}) for number in numbers_of(ask)}


def _switch_on(group: Mapping[int, _Channel]) -> None:
    """Let lasers emit: they read the power that they emit."""
    for channel in group.values():
        if isinstance(channel.object, Laser):
            channel.object.set_emission(True)


def _is(found: Any, wanted: Any, step: tuple[Any, Any]) -> bool:
    numbers = all(isinstance(each, int | float) for each in (found, *step))
    if not numbers or isinstance(wanted, bool):
        return bool(found == wanted)
    return math.isclose(found, wanted, rel_tol=0.0, abs_tol=_OF_A_STEP * abs(step[1] - step[0]))


def _check_measured(channel: _Channel, name: str, voltage_v: Any) -> None:
    """All others have a higher voltage: more than its own is the reading of another one."""
    if name == "set_voltage" and isinstance(channel.object, SourceMeter):
        measured_v = channel.object.measured_voltage_v()
        shown = f"measured_voltage_v: expected at most {voltage_v}, got {measured_v}"
        assert abs(measured_v) <= 1.05 * abs(voltage_v) + 5e-3, shown


def _calls(channels: Mapping[int, Any], name: str) -> dict[int, Callable[[], object]]:
    """Return for each channel a call of a method of its capabilities, or of a setter."""
    kind = type(next(iter(channels.values())))
    owners = [each for each in capabilities_of(kind) if name in CAPABILITIES[each]]
    if Restartable in owners or not (owners or name.startswith("set_")):
        return {}
    method = getattr(kind, name)
    needed = _needed(method)[1:]
    returned = hint(method, "return")
    if not needed and returned in (float, type(None)):
        return {number: getattr(each, name) for number, each in channels.items()}
    if len(needed) != 1:
        return {}
    found: dict[int, Callable[[], object]] = {}
    for number, each in channels.items():
        setting = Property.of_argument(method, needed[0].name, getattr(each, name))
        taken = next((v for v in setting.values() if put_if_valid(setting, v) is None), None)
        if taken is not None:
            found[number] = partial(setting.put, taken)
    return found


def _said(bench: OnBench, call: Callable[[], object], channels: int) -> tuple[bytes, ...]:
    """Return what a call sends; nothing if a reply has as many values as there are channels."""
    for _ in range(2):  # what is set up the first time is set up
        bench.sent.clear()
        bench.received.clear()
        with suppress(InstrumentError):
            call()
    if bench.settings():
        return tuple(bench.settings())
    most = max((len(re.split(rb"[,;\s]+", each.strip())) for each in bench.received), default=0)
    block = any(each.startswith(b"#") for each in bench.received)
    return () if block or most >= channels else tuple(bench.sent)


def _said_by_number(bench: OnBench, call: Callable[[int], object]) -> dict[int, tuple[bytes, ...]]:
    """Return the settings that a call sends for each channel that it is not refused for."""
    said: dict[int, tuple[bytes, ...]] = {}
    for number in range(_MOST_NUMBERS):
        bench.sent.clear()
        try:
            call(number)
        except InstrumentError:
            if said:
                break
        else:
            said[number] = tuple(bench.settings())
    return said


def _check_different(name: str, said: Mapping[int, tuple[bytes, ...]]) -> None:
    seen: dict[tuple[bytes, ...], int] = {}
    for number, messages in said.items():
        shown = f"{name}: channels {seen.get(messages)} and {number} both send {messages}"
        assert not messages or messages not in seen, shown
        seen[messages] = number


def _numbered_call(part: object, name: str, method: Any) -> Callable[[int], object] | None:
    """Return a call of a method by the channel's number, with usual values for the rest."""
    needed = _needed(method)[1:] if inspect.isfunction(method) else []
    if not needed or needed[0].name not in ("channel", "number", "port"):
        return None
    if hint(method, needed[0].name) is not int or channels_of(type(part)).get(name):
        return None
    named = {}
    for each in needed[1:]:
        values = Property.of_argument(method, each.name, lambda value: None).values()
        named[each.name] = next(iter(values), None)
        if named[each.name] is None:
            return None
    return lambda number: getattr(part, name)(number, **named)


def _needed(method: Any) -> list[inspect.Parameter]:
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        each
        for each in inspect.signature(method).parameters.values()
        if each.default is inspect.Parameter.empty and each.kind not in several
    ]
