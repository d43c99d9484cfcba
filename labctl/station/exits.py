"""No program ends with a station's light on: what a plain script needs no `with` for.

1. `open` puts the station on a list, before its first instrument. The first one on it installs
   handlers for SIGINT, SIGTERM and SIGHUP where nobody else has: they raise KeyboardInterrupt or
   SystemExit, which unwinds the program. A signal that is ignored stays ignored, and a handler of
   the program's own stays in place.
2. All that is still on the list when the interpreter ends (the last line of a script, an error
   that nobody caught, `sys.exit`, a notebook's shutdown) is left safe by an `atexit` function. It
   must run before PyVISA's own, which closes all sessions: the last to be registered is the first
   to run, and so it is registered again after each instrument that was opened.
3. A second signal that arrives while the first one unwinds must not cut the way out short, not even
   if both were pending together: it is only noted. See `labctl.safety.unwinding`.
4. A notebook's cell swallows SystemExit as it does any error, and the kernel would go on. There the
   signal is given again, once the cell has ended, to the loop that waits for the next one.
5. A child that was forked has no part in its parent's instruments: it forgets the list.

SIGKILL, a crash of the interpreter and a power failure cannot be met here.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

from labctl.errors import InstrumentError, StillLitError
from labctl.safety import ENDING_SIGNALS, last_words, unwinding

_log = logging.getLogger(__name__)


class Leavable(Protocol):
    """What has to be left safe."""

    def close(self) -> None:
        """Leave everything safe and close it."""
        ...


_open: dict[int, Leavable] = {}
_lit: dict[int, tuple[str, ...]] = {}
_replaced: dict[int, Any] = {}
# How long a cell may take to end after SystemExit. Jupyter and containers kill after 2.5 to 10 s.
_CELL_ENDS_S = 1.0
# A signal's default action, and Python's own for Ctrl-C: whose place may be taken.
_UNCLAIMED = (signal.SIG_DFL, signal.default_int_handler)


def leave_at_exit(station: Leavable) -> None:
    """Leave a station safe when the program ends, however it ends."""
    if id(station) not in _open:
        _open[id(station)] = station
        unwinding.watch()
    _take_signals()


def leave_first() -> None:
    """Be left before anything is closed that was opened until now."""
    atexit.unregister(leave_all)
    atexit.register(leave_all)


def holds(station: Leavable) -> bool:
    """Tell whether a station is still to be left."""
    return id(station) in _open


def left(station: Leavable) -> None:
    """Forget a station that has been left; after the last one, signals are as they were.

    A signal that came while it was left takes effect now.
    """
    del _open[id(station)]
    noted = unwinding.release()
    try:
        if noted is not None:
            _take_effect(noted)
    finally:
        if not _open:
            _give_signals_back()


def may_be_lit(station: Leavable, lit: Sequence[str]) -> None:
    """Remember what may still emit of a station that was left: the program's last words."""
    _lit[id(station)] = tuple(lit)


def _say_last_words() -> None:
    """Say what may still emit, after everything else, and end with exit code 4."""
    lit = [name for names in _lit.values() for name in names]
    if not lit:
        return
    logging.shutdown()
    with suppress(OSError, ValueError):  # nobody may be left to read it
        print(f"labctl: {last_words(lit)}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    # Nothing but this sets the code of a program that ends in any other way.
    os._exit(StillLitError.exit_code)


def leave_all() -> None:
    """Leave all open stations safe, the last opened first; name on stderr what could not be."""
    for station in reversed(list(_open.values())):
        try:
            station.close()
        except InstrumentError as error:
            print(f"labctl: {error}", file=sys.stderr)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not unwinding.begins(number):
        return
    _log.info("signal %d: the program ends, all instruments are left safe", number)
    if number != signal.SIGINT and _in_ipython():
        again = threading.Timer(_CELL_ENDS_S, _give_again, (number,))
        again.daemon = True
        again.start()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _in_ipython() -> bool:
    module = sys.modules.get("IPython")
    return module is not None and module.get_ipython() is not None


def _give_again(number: int) -> None:
    if _open:
        unwinding.lapse()
        os.kill(os.getpid(), number)


def _take_effect(number: int) -> None:
    handler = signal.getsignal(number)
    if callable(handler) and threading.current_thread() is threading.main_thread():
        handler(number, None)
    else:
        signal.raise_signal(number)


def _take_signals() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ENDING_SIGNALS:
        current = signal.getsignal(number)
        if current in _UNCLAIMED:
            signal.signal(number, _interrupt)
            _replaced[number] = current


def _give_signals_back() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number, previous in list(_replaced.items()):
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, previous)
        del _replaced[number]


def _forget() -> None:
    _open.clear()
    _lit.clear()
    unwinding.forget()
    _give_signals_back()


# The first to be registered is the last to run.
atexit.register(_say_last_words)
atexit.register(leave_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
