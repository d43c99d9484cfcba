"""Numbers that instruments reply, read strictly: what is not a number never becomes one.

Python's `float` takes `1_0`, `nan`, `infinity` and digits of other scripts. An instrument sends
none of these for a number, so that a damaged reply must not pass as one. SCPI instruments write
infinity, overload and "not a number" as large numbers: 9.9E37, -9.9E37 and 9.91E37 (SCPI-99 volume
1, 7.2.1.4 and 7.2.1.5; docs/wire/scpi.md, section Numbers).
"""

from __future__ import annotations

import re
from collections.abc import Callable

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


_DIGITS = re.compile(r"\d+", re.ASCII)
_EXPONENT = re.compile(r"[eE]([+-]?\d{1,4})$", re.ASCII)
# From one reading to the next a quantity may change by this many powers of ten without a doubt.
_DECADES = 3


def form_of(reply: str) -> str:
    """Return how the numbers of a reply are written: its text with one 0 for each digit.

    A sign in front is left out, since some instruments write a plus and others none.

    >>> form_of("+1.55000000E-006"), form_of("-9.99"), form_of("1.2,-3")
    ('0.00000000E-000', '0.00', '0.0,0')
    """
    bare = re.sub(r"(^|[,;])\s*[+-]", r"\1", reply)
    return _DIGITS.sub(lambda found: "0" * len(found.group()), bare)


class NumberForms:
    """How an instrument has written the numbers that answer each question so far.

    Instruments write a number in the same form each time, so that one in another form (shorter, a
    different sign of the exponent), or a thousand times larger, may have been cut or changed on its
    way, and is asked for again.
    """

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def confirmed(self, question: str, reply: str, ask: Callable[[], str]) -> str:
        """Return a reply that is like the last one to this question, or like the one after it.

        ask: asks again; it is at most asked twice. Raises ValueError where three replies in a row
        are all unlike.
        """
        known = self._last.get(question, reply)
        for _ in range(2):
            if _alike(reply, known):
                self._last[question] = reply
                return reply
            again = ask()
            if _alike(again, known) or _alike(again, reply):
                self._last[question] = again
                return again
            reply = again
        raise ValueError(f"three replies are written in different ways, the last {reply!r}")


def _alike(one: str, other: str) -> bool:
    """Return whether two replies are written alike, their last numbers of similar size."""
    if form_of(one) != form_of(other):
        return False
    sizes = [_EXPONENT.search(reply) for reply in (one, other)]
    exponents = [int(found[1]) for found in sizes if found is not None]
    return len(exponents) < 2 or abs(exponents[0] - exponents[1]) <= _DECADES
