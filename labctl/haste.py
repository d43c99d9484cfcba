"""Patience of this thread: how long a link may wait for an answer where light must go off.

A driver's own time-outs are made for measurements; on the way out a silent instrument would keep
its turn for as long. What runs inside `at_most` waits for no answer longer than it says.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Here(threading.local):
    limit_s = math.inf


_here = _Here()


@contextmanager
def at_most(limit_s: float) -> Iterator[None]:
    """Let links wait no longer than `limit_s` (s, above 0) in this thread, inside the block."""
    before_s = _here.limit_s
    _here.limit_s = limit_s
    try:
        yield
    finally:
        _here.limit_s = before_s


def patience_s(own_s: float) -> float:
    """Return how long to wait in s for what would be waited for `own_s`."""
    return min(own_s, _here.limit_s)


def in_haste() -> bool:
    """Tell whether this thread's patience is limited."""
    return _here.limit_s < math.inf
