"""Rules that every driver keeps: limits before the wire, waits that end, safe states in full."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from labctl.clock import Clock, wait_until
from labctl.errors import (
    ConnectionFailedError,
    InstrumentError,
    InstrumentTimeoutError,
    LimitError,
)
from labctl.haste import in_haste

_T = TypeVar("_T")


def require_range(
    instrument: str, name: str, value: float, lowest: float, highest: float, unit: str = ""
) -> None:
    """Raise LimitError unless `lowest` <= `value` <= `highest`; NaN is refused as well."""
    if not lowest <= value <= highest:
        valid = f"{lowest:.9g} to {highest:.9g} {unit}".rstrip()
        raise LimitError(instrument, name, value, valid)


def require_positive(
    instrument: str, name: str, value: float, highest: float = math.inf, unit: str = ""
) -> None:
    """Raise LimitError unless 0 < `value` <= `highest` and finite."""
    if not (0 < value <= highest and value < math.inf):
        valid = "above 0 and finite" if math.isinf(highest) else f"above 0, at most {highest:g}"
        raise LimitError(instrument, name, value, f"{valid} {unit}".rstrip())


def require_finite(instrument: str, name: str, value: float) -> None:
    """Raise LimitError unless `value` is a finite number."""
    if not math.isfinite(value):
        raise LimitError(instrument, name, value, "a finite number")


def require_channel(instrument: str, channel: int, channels: range) -> None:
    """Raise LimitError unless the instrument has this channel."""
    if channel not in channels:
        valid = f"{channels[0]} to {channels[-1]}"
        raise LimitError(instrument, "channel", channel, valid)


def require_channels(instrument: str, chosen: Sequence[int], channels: range) -> None:
    """Raise LimitError unless at least one channel is chosen and the instrument has all of them."""
    if not chosen:
        raise LimitError(instrument, "channels", chosen, "at least one channel")
    for channel in chosen:
        require_channel(instrument, channel, channels)


def require_ascending(
    instrument: str, start_m: float, stop_m: float, limits_m: tuple[float, float]
) -> None:
    """Raise LimitError unless a sweep goes up within the wavelength limits; all in m."""
    lowest, highest = limits_m
    if not lowest <= start_m < stop_m <= highest:
        valid = f"ascending within {lowest:.8g} to {highest:.8g} m"
        raise LimitError(instrument, "(start_m, stop_m)", (start_m, stop_m), valid)


def require_speed(instrument: str, speed_m_s: float, speeds_nm_s: Sequence[float]) -> None:
    """Raise LimitError unless a speed in m/s is one of the list in nm/s; an empty list has all."""
    known = not speeds_nm_s or any(math.isclose(speed_m_s, each * 1e-9) for each in speeds_nm_s)
    if not 0 < speed_m_s < math.inf or not known:
        valid = " or ".join(f"{each * 1e-9:g}" for each in speeds_nm_s) or "above 0 and finite"
        raise LimitError(instrument, "speed_m_s", speed_m_s, valid)


def wait_for(
    condition: Callable[[], bool],
    clock: Clock,
    timeout_s: float,
    *,
    instrument: str,
    problem: str,
    command: str,
    interval_s: float = 0.05,
) -> None:
    """Poll a condition on the instrument's clock, every `interval_s` (s).

    Raises InstrumentTimeoutError with the text `problem` unless it holds within `timeout_s` (s).
    """
    if not wait_until(condition, clock, timeout_s, interval_s):
        raise InstrumentTimeoutError(instrument, problem, command)


def asked_again(ask: Callable[[], _T]) -> _T:
    """Return what `ask` returns; ask again if no answer comes in time.

    For questions that change nothing, so that a dropped reply costs no run. In haste a caller has
    its own attempts, and the time for them.
    """
    try:
        return ask()
    except InstrumentTimeoutError as silence:
        if in_haste():
            raise
        try:
            return ask()
        except ConnectionFailedError as error:
            # That the wire cannot get in step again says less than that nobody answers.
            raise silence from error


def try_all(*actions: Callable[[], object]) -> None:
    """Do all actions, each also when another fails; then raise the first failure, if any."""
    failures: list[InstrumentError] = []
    for action in actions:
        try:
            action()
        except InstrumentError as error:
            failures.append(error)
    if failures:
        raise failures[0]
