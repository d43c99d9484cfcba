"""Rules that drivers share: what is let through, what is refused and in which words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from labctl.clock import wait_until
from labctl.errors import InstrumentError, InstrumentTimeoutError, LimitError
from labctl.instruments.driver_rules import (
    require_ascending,
    require_channel,
    require_channels,
    require_finite,
    require_positive,
    require_range,
    require_speed,
    try_all,
    wait_for,
)

JUST_ABOVE_2, JUST_BELOW_1 = math.nextafter(2.0, 3.0), math.nextafter(1.0, 0.0)


def refused(check: Callable[[], None], name: str, value: object, valid: str) -> None:
    """The error names the instrument, the setting, the value and what would be valid."""
    with pytest.raises(LimitError) as caught:
        check()
    error = caught.value
    assert (error.instrument, error.name, error.valid) == ("laser", name, valid)
    assert str(error.value) == str(value)
    assert error.command is None
    assert str(error) == f"laser: {name} = {value!r} refused, must be {valid}"


@pytest.mark.parametrize("value", [1.0, 1.5, 2.0])
def test_a_range_has_its_ends(value: float) -> None:
    require_range("laser", "power_w", value, 1.0, 2.0, "W")


@pytest.mark.parametrize("value", [JUST_BELOW_1, JUST_ABOVE_2, -1.5, math.inf, math.nan])
def test_what_is_outside_a_range_is_refused(value: float) -> None:
    refused(
        lambda: require_range("laser", "power_w", value, 1.0, 2.0, "W"),
        "power_w",
        value,
        "1 to 2 W",
    )


def test_a_range_without_unit_is_told_without_a_blank_behind() -> None:
    refused(lambda: require_range("laser", "n", 9, -1.5, 2.25), "n", 9, "-1.5 to 2.25")


def test_a_range_is_told_to_nine_digits() -> None:
    """A wavelength in m needs them: 1.52763123e-06 m is a picometre grid."""
    refused(
        lambda: require_range("laser", "wavelength_m", 0.0, 1.52763123e-6, 1.56787654e-6, "m"),
        "wavelength_m",
        0.0,
        "1.52763123e-06 to 1.56787654e-06 m",
    )


@pytest.mark.parametrize("value", [5e-324, 1.0, 2.0])
def test_positive_is_above_zero_up_to_the_highest(value: float) -> None:
    require_positive("laser", "speed", value, 2.0, "nm/s")


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, JUST_ABOVE_2, math.inf, math.nan])
def test_what_is_not_positive_or_above_the_highest_is_refused(value: float) -> None:
    refused(
        lambda: require_positive("laser", "speed", value, 2.0, "nm/s"),
        "speed",
        value,
        "above 0, at most 2 nm/s",
    )


def test_positive_without_a_highest_has_any_finite_number() -> None:
    require_positive("laser", "timeout_s", 1e308)


@pytest.mark.parametrize("value", [0.0, -1e-300, math.inf, math.nan])
def test_positive_without_a_highest_refuses_infinity_too(value: float) -> None:
    refused(
        lambda: require_positive("laser", "timeout_s", value),
        "timeout_s",
        value,
        "above 0 and finite",
    )


@pytest.mark.parametrize("value", [0.0, -1e308, 1e308])
def test_finite_numbers_of_either_sign_pass(value: float) -> None:
    require_finite("laser", "offset_v", value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_refused(value: float) -> None:
    refused(
        lambda: require_finite("laser", "offset_v", value), "offset_v", value, "a finite number"
    )


CHANNELS = range(1, 5)


@pytest.mark.parametrize("channel", [1, 4])
def test_the_first_and_the_last_channel_are_channels(channel: int) -> None:
    require_channel("laser", channel, CHANNELS)


@pytest.mark.parametrize("channel", [0, 5, -1])
def test_a_channel_that_is_not_there_is_refused(channel: int) -> None:
    refused(lambda: require_channel("laser", channel, CHANNELS), "channel", channel, "1 to 4")


def test_channels_need_not_be_in_order_nor_all() -> None:
    require_channels("laser", [4, 1], CHANNELS)


def test_each_chosen_channel_is_looked_at() -> None:
    for chosen in ([0, 1, 2], [1, 0, 2], [1, 2, 0]):
        refused(
            partial(require_channels, "laser", chosen, CHANNELS),
            "channel",
            0,
            "1 to 4",
        )


def test_no_channel_at_all_is_refused() -> None:
    chosen: Sequence[int] = ()
    refused(
        lambda: require_channels("laser", chosen, CHANNELS),
        "channels",
        chosen,
        "at least one channel",
    )


LIMITS_M = (1500e-9, 1600e-9)


def test_a_sweep_may_go_from_limit_to_limit() -> None:
    require_ascending("laser", *LIMITS_M, LIMITS_M)


@pytest.mark.parametrize(
    ("start_m", "stop_m"),
    [
        (1499.9e-9, 1550e-9),
        (1550e-9, 1600.1e-9),
        (1550e-9, 1550e-9),
        (1560e-9, 1550e-9),
        (math.nan, 1550e-9),
        (1550e-9, math.nan),
    ],
)
def test_a_sweep_that_leaves_the_limits_or_does_not_go_up_is_refused(
    start_m: float, stop_m: float
) -> None:
    refused(
        lambda: require_ascending("laser", start_m, stop_m, LIMITS_M),
        "(start_m, stop_m)",
        (start_m, stop_m),
        "ascending within 1.5e-06 to 1.6e-06 m",
    )


@pytest.mark.parametrize("speed_m_s", [0.5e-9, 5e-9, 5e-9 * (1 + 1e-12)])
def test_a_speed_of_the_list_passes_rounding_and_all(speed_m_s: float) -> None:
    require_speed("laser", speed_m_s, [0.5, 5.0])


@pytest.mark.parametrize("speed_m_s", [5.0, 2e-9, 5e-9 * (1 + 1e-6), 0.0, -5e-9, math.nan])
def test_a_speed_that_is_not_in_the_list_is_refused(speed_m_s: float) -> None:
    refused(
        lambda: require_speed("laser", speed_m_s, [0.5, 5.0]),
        "speed_m_s",
        speed_m_s,
        "5e-10 or 5e-09",
    )


def test_without_a_list_any_finite_speed_above_zero_passes() -> None:
    require_speed("laser", 1e-12, [])
    for speed_m_s in (0.0, -1.0, math.inf, math.nan):
        refused(
            partial(require_speed, "laser", speed_m_s, []),
            "speed_m_s",
            speed_m_s,
            "above 0 and finite",
        )


class Watch:
    """A clock that counts what it is asked."""

    def __init__(self) -> None:
        self.time_s = 100.0
        self.naps_s: list[float] = []

    def now_s(self) -> float:
        return self.time_s

    def sleep(self, duration_s: float) -> None:
        self.naps_s.append(duration_s)
        self.time_s += duration_s


def test_waiting_ends_as_soon_as_the_condition_holds() -> None:
    watch = Watch()
    wait_for(
        lambda: watch.time_s >= 100.5,
        watch,
        1.0,
        instrument="laser",
        problem="is slow",
        command="GO",
        interval_s=0.25,
    )
    assert watch.naps_s == [0.25, 0.25]


def test_waiting_does_not_sleep_when_the_condition_holds_already() -> None:
    watch = Watch()
    wait_for(lambda: True, watch, 0.0, instrument="laser", problem="is slow", command="GO")
    assert watch.naps_s == []


def test_waiting_polls_twenty_times_a_second_unless_told() -> None:
    watch = Watch()
    wait_for(lambda: len(watch.naps_s) == 2, watch, 1.0, instrument="a", problem="b", command="c")
    assert watch.naps_s == [0.05, 0.05]


def test_waiting_in_vain_names_instrument_problem_and_command() -> None:
    watch = Watch()
    with pytest.raises(InstrumentTimeoutError, match=re.escape("laser: is slow (command 'GO')")):
        wait_for(
            lambda: False,
            watch,
            1.0,
            instrument="laser",
            problem="is slow",
            command="GO",
            interval_s=0.25,
        )
    assert watch.time_s == 101.0


def test_a_condition_that_holds_at_the_deadline_holds_in_time() -> None:
    watch = Watch()
    assert wait_until(lambda: watch.time_s >= 101.0, watch, 1.0, 0.5)


def test_all_actions_are_done_and_the_first_failure_is_raised() -> None:
    done: list[str] = []

    def fails(name: str) -> Callable[[], None]:
        def action() -> None:
            done.append(name)
            raise InstrumentError("laser", name)

        return action

    with pytest.raises(InstrumentError, match="laser: first"):
        try_all(lambda: done.append("a"), fails("first"), fails("second"), lambda: done.append("b"))
    assert done == ["a", "first", "second", "b"]


def test_without_a_failure_nothing_is_raised() -> None:
    done: list[int] = []
    try_all(lambda: done.append(1), lambda: done.append(2))
    try_all()
    assert done == [1, 2]


def test_an_error_that_is_no_instruments_is_not_held_back() -> None:
    """A mistake in the program must not wait until the other actions are through."""
    done: list[int] = []
    with pytest.raises(ZeroDivisionError):
        try_all(lambda: 1 // 0, lambda: done.append(1))
    assert done == []
