"""A program that was asked to end does: the wish is repeated where it got lost on its way.

What a signal's handler raises may be lost in two ways. Python drops it in a destructor or in a
callback (an import has some), and the program goes on as if nothing had been. And SystemExit is
caught by what runs pieces of a program one by one (a notebook's cell, a test of pytest), which goes
on with the next. Whether it is still on its way can be seen from another thread: it is then the
exception that the main thread handles, or led to that one.

KeyboardInterrupt that was caught is the program's own to answer. SystemExit that was caught has the
signal given again; the second time as KeyboardInterrupt, for which test runners end; once nothing
has to be left safe any more, with the effect that it has without labctl.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from labctl.safety import unwinding

CALM_S = 3.0
"""How long a program may go on in s after it caught SystemExit, to end in its own way. Jupyter and
containers kill after 2.5 to 10 s."""
CELL_ENDS_S = 1.0
"""The same for a notebook's cell, in s, which has nothing to end in."""
_LOOK_S = 0.1
# What was not dropped by then was caught.
_DROPPED_WITHIN_S = 0.5


def in_ipython() -> bool:
    """Tell whether the program is a notebook or an IPython prompt."""
    module = sys.modules.get("IPython")
    return module is not None and module.get_ipython() is not None


class Insistence:
    """What signals raised last, and whether it is on its way."""

    def __init__(self) -> None:
        self._raised: BaseException | None = None
        self._dropped = False
        self._caught = False
        self._ends = threading.Event()
        self._report: Callable[[sys.UnraisableHookArgs], Any] | None = None

    @property
    def was_caught(self) -> bool:
        """Whether what was raised before was caught, and the signal is given again for that."""
        return self._caught

    def raises(self, error: BaseException) -> BaseException:
        """Return an error that is about to be raised, and remember it."""
        self._raised, self._dropped = error, False
        return error

    def listen(self) -> None:
        """Notice what Python drops."""
        if self._report is None:
            self._report, sys.unraisablehook = sys.unraisablehook, self._hook

    def leave(self) -> None:
        """Stop noticing it, unless somebody listens behind this one."""
        if self._report is not None and sys.unraisablehook == self._hook:
            sys.unraisablehook, self._report = self._report, None

    def ends(self) -> None:
        """The interpreter ends: nothing is to be repeated any more."""
        self._ends.set()

    def see_to(self, number: int) -> None:
        """Give a signal again if nothing comes of it; in a separate thread."""
        calm_s = CELL_ENDS_S if in_ipython() else CALM_S
        since_s = time.monotonic()
        while not self._ends.wait(_LOOK_S):
            passed_s = time.monotonic() - since_s
            if self._dropped:
                self._give_again(number, caught=False)
                return
            if unwinding.holds or self._is_under_way():
                since_s = time.monotonic()
            elif number == signal.SIGINT and passed_s > _DROPPED_WITHIN_S:
                return
            elif passed_s > calm_s:
                self._give_again(number, caught=True)
                return

    def _give_again(self, number: int, *, caught: bool) -> None:
        self._dropped, self._caught = False, caught
        unwinding.lapse()
        os.kill(os.getpid(), number)

    def _hook(self, found: sys.UnraisableHookArgs) -> None:
        if found.exc_value is not None and found.exc_value is self._raised:
            self._dropped = True
        elif self._report is not None:
            self._report(found)

    def _is_under_way(self) -> bool:
        handled: Any = sys._current_exceptions().get(threading.main_thread().ident or 0)
        # Python 3.11 has the three parts of an exception there, later ones the exception.
        error = handled[1] if isinstance(handled, tuple) else handled
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            if error is self._raised:
                return True
            seen.add(id(error))
            error = error.__context__
        return False
