"""Numbers that instruments reply, read strictly: what is not a number never becomes one.

Python's `float` takes `1_0`, `nan`, `infinity` and digits of other scripts. An instrument sends
none of these for a number, so that a damaged reply must not pass as one. SCPI instruments write
infinity, overload and "not a number" as large numbers: 9.9E37, -9.9E37 and 9.91E37 (SCPI-99 volume
1, 7.2.1.4 and 7.2.1.5; docs/wire/scpi.md, section Numbers).
"""

from __future__ import annotations

import re

# Some instruments send single precision, which rounds 9.9E37 by up to one part in 1.7e7.
OVERFLOW = 9.9e37 * (1.0 - 1e-6)
"""Magnitude from which a reply means infinity, overload or not a number: never a value."""

# NR1, NR2 and NR3 of IEEE 488.2-1992, 8.7.2 to 8.7.4. A space may replace a plus sign.
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def number_of(reply: str) -> float:
    """Return the finite number that a reply is.

    Raises ValueError if it is not written as a number, OverflowError if it means overload,
    infinity or "not a number".

    >>> number_of(" +1.5E-3")
    0.0015
    >>> number_of("9.91E+37")
    Traceback (most recent call last):
        ...
    OverflowError: expected a number, got '9.91E+37', which means overload or no value
    """
    text = reply.strip(" \t\r\n")
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"expected a number, got {reply!r}")
    value = float(text)
    if abs(value) >= OVERFLOW:
        raise OverflowError(f"expected a number, got {reply!r}, which means overload or no value")
    return value
