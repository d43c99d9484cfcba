"""Words beside numbers in what people read."""

from __future__ import annotations

import math


def counted(number: int, one: str, many: str, shown: str = "d") -> str:
    """Return a number of things in words, the number as the format `shown` has it.

    >>> counted(1, "query", "queries"), counted(3, "query", "queries")
    ('1 query', '3 queries')
    >>> counted(1234567, "image", "images", ".3g")
    '1.23e+06 images'
    """
    return f"{number:{shown}} {one if number == 1 else many}"


def at_most_percent(share: float, digits: int = 1) -> str:
    """Return a maximum, as a share of 1, in percent: rounded up, for a bound is never rounded down.

    >>> at_most_percent(0.97306), at_most_percent(0.976), at_most_percent(0.5, 0)
    ('97.4%', '97.6%', '50%')
    """
    scale = 10.0**digits
    # 0.976 is a little more than that in binary; a millionth of the last digit is no rounding down.
    return f"{math.ceil(100.0 * share * scale - 1e-6) / scale:.{digits}f}%"


def plain_fault(message: str) -> str:
    """Return what a model of pydantic says is wrong in the words of all other errors.

    >>> plain_fault("Input should be a valid number")
    'must be a valid number'
    >>> plain_fault("Value error, expected base64, got '%'")
    "expected base64, got '%'"
    """
    message = message.removeprefix("Value error, ")
    model = "Input should be "
    return f"must be {message.removeprefix(model)}" if message.startswith(model) else message
