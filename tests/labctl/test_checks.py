"""Each word of the vocabulary refuses what is outside, at both ends, and says what is valid."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from labctl import checks
from labctl.errors import SettingError

Check = Callable[[float], None]


@pytest.mark.parametrize(
    ("check", "valid", "refused", "says"),
    [
        (lambda x: checks.finite("x", x), (-1e9, 0.0), (math.inf, -math.inf), "a finite number"),
        (lambda x: checks.positive("x", x), (1e-300, 9.0), (0.0, -1.0, math.inf), "above 0"),
        (lambda x: checks.not_negative("x", x), (0.0, 9.0), (-1e-9, math.inf), "0 or more"),
        (lambda x: checks.at_least("x", x, 2), (2, 3), (1, math.inf), "2 or more"),
        (lambda x: checks.within("x", x, 1, 0x100), (1, 256), (0, 257, math.inf), "1 to 256"),
        (lambda x: checks.inside("x", x, 0.0, 0.5), (0.1,), (0.0, 0.5), "above 0 and below 0.5"),
        (lambda x: checks.above("x", x, 0.0, 1.0), (0.1, 1.0), (0.0, 1.1), "above 0, at most 1"),
        (lambda x: checks.above("x", x, 1.0), (1.1, 1e9), (1.0, math.inf), "above 1"),
        (lambda x: checks.below("x", x, 0.0, 1.0), (0.0, 0.9), (-0.1, 1.0), "0 or more, below 1"),
    ],
)
def test_a_range_ends_where_it_says(
    check: Check, valid: tuple[float, ...], refused: tuple[float, ...], says: str
) -> None:
    for value in valid:
        check(value)
    for value in (*refused, math.nan):
        with pytest.raises(SettingError) as caught:
            check(value)
        assert str(caught.value) == f"x = {value!r}: must be {says}"


def test_a_note_is_added_to_what_is_valid() -> None:
    with pytest.raises(SettingError, match=r"^noise = -1.0: must be 0 or more, in SNU$"):
        checks.not_negative("noise", -1.0, ", in SNU")
    with pytest.raises(SettingError, match=r"^n = 0: must be 1 to 1000000, per day$"):
        checks.within("n", 0, 1, 1_000_000, note=", per day")


def test_one_of_lists_what_there_is() -> None:
    checks.one_of("colour", "red", {"red": 1, "blue": 2})
    with pytest.raises(SettingError, match=r"^colour = 'green': must be one of red, blue$"):
        checks.one_of("colour", "green", {"red": 1, "blue": 2})
