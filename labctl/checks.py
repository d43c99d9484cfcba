"""Checks of settings: a small vocabulary, each word of which raises SettingError in the same form.

Each function takes the setting's name as the user knows it, the value, and a `note` that is added
to what would be valid: its unit, or why. Not-a-number is never valid, nor is infinity unless said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral

from labctl.errors import SettingError

# Quantiles further out than that are infinite in double precision.
LEAST_PROBABILITY = 1e-100


def finite(name: str, value: float, note: str = "") -> None:
    """Refuse what is infinite or not a number."""
    require(math.isfinite(value), name, value, "a finite number" + note)


def positive(name: str, value: float, note: str = "") -> None:
    """Refuse 0, less, and what is not finite.

    >>> positive("gain", -1.0)
    Traceback (most recent call last):
    ...
    labctl.errors.SettingError: gain = -1.0: must be above 0
    """
    require(0.0 < value < math.inf, name, value, "above 0" + note)


def not_negative(name: str, value: float, note: str = "") -> None:
    """Refuse what is below 0, or not finite."""
    require(0.0 <= value < math.inf, name, value, "0 or more" + note)


def at_least(name: str, value: float, least: float, note: str = "") -> None:
    """Refuse what is below `least`, or not finite.

    >>> at_least("loss_db", -1.0, 0, note=", in dB")
    Traceback (most recent call last):
    ...
    labctl.errors.SettingError: loss_db = -1.0: must be 0 or more, in dB
    """
    require(least <= value < math.inf, name, value, f"{_shown(least)} or more{note}")


def within(name: str, value: float, least: float, most: float, note: str = "") -> None:
    """Refuse what is not between `least` and `most`, both of which are valid."""
    valid = f"{_shown(least)} to {_shown(most)}{note}"
    require(least <= value <= most, name, value, valid)


def whole(name: str, value: float, least: int, most: int, note: str = "") -> None:
    """Refuse what is no whole number, or not between `least` and `most`, which both are valid.

    >>> whole("queries", 1.5, 1, 10)
    Traceback (most recent call last):
    ...
    labctl.errors.SettingError: queries = 1.5: must be a whole number, 1 to 10
    """
    valid = f"{_shown(least)} to {_shown(most)}{note}"
    require(isinstance(value, Integral), name, value, f"a whole number, {valid}")
    require(least <= value <= most, name, value, valid)


def inside(name: str, value: float, low: float, high: float, note: str = "") -> None:
    """Refuse what is not between `low` and `high`, neither of which is valid."""
    valid = f"above {_shown(low)} and below {_shown(high)}{note}"
    require(low < value < high, name, value, valid)


def above(name: str, value: float, low: float, most: float = math.inf, note: str = "") -> None:
    """Refuse what is not above `low` and at most `most`; infinity if there is no `most`."""
    holds = low < value <= most and value < math.inf
    ends = "" if math.isinf(most) else f", at most {_shown(most)}"
    require(holds, name, value, f"above {_shown(low)}{ends}{note}")


def below(name: str, value: float, least: float, high: float, note: str = "") -> None:
    """Refuse what is not `least` or more and below `high`."""
    valid = f"{_shown(least)} or more, below {_shown(high)}{note}"
    require(least <= value < high, name, value, valid)


def probability(name: str, value: float) -> None:
    """Refuse what is no probability of an error: 1e-100 to below 1.

    >>> probability("failure_probability", 1.0)
    Traceback (most recent call last):
    ...
    labctl.errors.SettingError: failure_probability = 1.0: must be 1e-100 to below 1
    """
    valid = f"{LEAST_PROBABILITY:g} to below 1"
    require(LEAST_PROBABILITY <= value < 1.0, name, value, valid)


def one_of(name: str, value: object, known: Iterable[object], note: str = "") -> None:
    """Refuse what is not among `known`, which the error lists."""
    listed = [*known]
    require(value in listed, name, value, f"one of {', '.join(map(str, listed))}{note}")


def require(holds: bool, name: str, value: object, valid: str) -> None:
    """Refuse a value for which a condition does not hold: a range that needs a name.

    >>> require(3 % 2 == 0, "modes", 3, "even")
    Traceback (most recent call last):
    ...
    labctl.errors.SettingError: modes = 3: must be even
    """
    if not holds:
        raise SettingError(name, value, valid)


def _shown(limit: float) -> str:
    # 1000000 images, but 1e+12 queries.
    return str(limit) if isinstance(limit, int) and limit < 10**9 else f"{limit:g}"
