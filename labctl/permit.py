"""Whether this thread may still talk to instruments: asked before each message to one.

A call of a driver may be several messages. One that another thread began before the light was
switched off could switch it on again with its next message: a check at its beginning is too early.
What runs inside `only_while` asks again, at the wire, when its turn has come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Here(threading.local):
    check: Callable[[], None] | None = None


_here = _Here()


@contextmanager
def only_while(check: Callable[[], None] | None) -> Iterator[None]:
    """Let this thread's messages pass `check`, which raises if they may not; None: all may."""
    before = _here.check
    _here.check = check
    try:
        yield
    finally:
        _here.check = before


def require_permit() -> None:
    """Raise what the check of this thread raises."""
    if _here.check is not None:
        _here.check()
