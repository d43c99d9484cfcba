"""No program ends with a station's light on: what a plain script needs no `with` for.

1. `open` puts the station on a list, before its first instrument. The first one on it installs
   handlers for SIGINT, SIGTERM, SIGHUP, SIGQUIT and others that end a program, where nobody else
   has: they raise KeyboardInterrupt or SystemExit, which unwinds the program. A signal that is
   ignored stays ignored, and a handler of the program's own stays in place.
2. All that is still on the list when the interpreter ends (the last line of a script, an error
   that nobody caught, `sys.exit`, a notebook's shutdown) is left safe by an `atexit` function. It
   must run before PyVISA's own, which closes all sessions: the last to be registered is the first
   to run, and so it is registered again after each instrument that was opened.
3. A second signal that arrives while the first one unwinds must not cut the way out short, not even
   if both were pending together: it is only noted. See `labctl.safety.unwinding`.
4. A notebook's cell or a test of pytest swallows SystemExit as it does any error, and Python drops
   it in a destructor. Then the signal is given again: `labctl.station.insistence`.
5. A child that was forked has no part in its parent's instruments: it forgets the list.
6. Ctrl-Z would stop the program with its light on: it is refused, with a line that says why.
7. A thread that is no daemon keeps the interpreter from its `atexit` functions until it has ended:
   stations are left before such threads are waited for.
8. If the program has not come to its way out soon after it was asked to end (its main thread is in
   a long call into C, or tidies up first), what emits is switched off from another thread.

SIGKILL and a crash of the interpreter are met by another process: `labctl.station.watchdog`. A
power failure is for the hardware's own interlock.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import Any, Protocol

from labctl.errors import InstrumentError, StillLitError
from labctl.safety import ENDING_SIGNALS, UNWINDS, interruption, last_words, unwinding
from labctl.said_in_time import sayer
from labctl.station.insistence import Insistence, in_ipython
from labctl.station.sentinel import Sentinel
from labctl.visible import visible_line, visible_logger

_log = visible_logger(__name__)


class Leavable(Protocol):
    """What has to be left safe."""

    def close(self) -> None:
        """Leave everything safe and close it."""
        ...

    def stop_emission(self, reason: str) -> None:
        """Switch off what emits, from any thread, and refuse all further use."""
        ...


class Forgettable(Protocol):
    """What belongs to the process that made it."""

    def forget(self) -> None:
        """Let go of it in another process, without a trace."""
        ...


_open: dict[int, Leavable] = {}
_held: list[Forgettable] = []
_lit: dict[int, tuple[str, ...]] = {}
_replaced: dict[int, Any] = {}
_met: set[int] = set()
# How long the main thread has to come to the way out before its light is switched off without it:
# with the half second that a silent wire may take, within 1 s of the signal.
_GRACE_S = 0.4
# Further signals that end a program unless somebody handles them.
_FATAL = tuple(
    getattr(signal, name)
    for name in ("SIGALRM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGVTALRM")
    if hasattr(signal, name)
)
_STOP = getattr(signal, "SIGTSTP", None)  # Ctrl-Z
_NOT_STOPPED = (
    b"labctl: not stopped: instruments are open, and a program that stands still cannot switch "
    b"them off; end it with Ctrl-C\n"
)
# A signal's default action, and Python's own for Ctrl-C: whose place may be taken.
_UNCLAIMED = (signal.SIG_DFL, signal.default_int_handler)


def leave_at_exit(station: Leavable) -> None:
    """Leave a station safe when the program ends, however it ends."""
    if id(station) not in _open:
        _open[id(station)] = station
        unwinding.watch()
    _take_signals()


def keep(held: Forgettable) -> None:
    """Let a forked child forget what only its parent has a part in."""
    _held.append(held)


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
    line = visible_line(f"labctl: {last_words(lit)}")
    sayer.say(logging.shutdown)
    sayer.say(lambda: print(line, file=sys.stderr, flush=True))
    if sys.stdout is not None:
        sayer.say(sys.stdout.flush)
    sayer.finish()
    # Nothing but this sets the code of a program that ends in any other way.
    os._exit(StillLitError.exit_code)


def leave_all() -> None:
    """Leave all open stations safe, the last opened first; name on stderr what could not be."""
    for station in reversed(list(_open.values())):
        try:
            station.close()
        except InstrumentError as error:
            line = visible_line(f"labctl: {error}")
            sayer.say(partial(print, line, file=sys.stderr, flush=True))


def _interrupt(number: int, frame: FrameType | None) -> None:
    _met.add(number)
    if not unwinding.begins(number):
        return
    _log.info("signal %d: the program ends, all instruments are left safe", number)
    if number == signal.SIGINT:
        raise _insistence.raises(KeyboardInterrupt())
    if _insistence.was_caught and not in_ipython():
        raise _insistence.raises(interruption(number))
    raise _insistence.raises(SystemExit(128 + number))


vars(_interrupt)[UNWINDS] = True


def _refuse(number: int, frame: FrameType | None) -> None:
    # Not by `print`: the signal may have come in the middle of one, and the terminal may be gone.
    # Without a standard error the number is that of some other file.
    if sys.stderr is not None:
        sayer.say(partial(os.write, 2, _NOT_STOPPED))


def _hear(number: int) -> None:
    """In the sentinel's thread: make sure that light goes off soon after a signal."""
    # One that was met may have been given back since: the station was left at once.
    leads_out = number in _met or getattr(signal.getsignal(number), UNWINDS, False)
    if number == _STOP or not leads_out:
        return
    # A program that has answered may open another station meanwhile: that one is not meant.
    waiter = threading.Timer(_GRACE_S, _see_to_it, (number, tuple(_open.values())))
    waiter.daemon = True
    waiter.start()


def _see_to_it(number: int, stations: Sequence[Leavable]) -> None:
    met = number in _met
    _met.discard(number)
    # Ctrl-C that arrived is the program's to answer: it may catch it and go on.
    if not (unwinding.holds or (met and number == signal.SIGINT)):
        for station in stations:
            if not holds(station):
                continue
            station.stop_emission(f"{signal.Signals(number).name} asked the program to end")
    if met:
        _insistence.see_to(number)


def _take_effect(number: int) -> None:
    handler = signal.getsignal(number)
    if callable(handler) and threading.current_thread() is threading.main_thread():
        handler(number, None)
    else:
        signal.raise_signal(number)


def _take_signals() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in filter(None, (*ENDING_SIGNALS, *_FATAL, _STOP)):
        current = signal.getsignal(number)
        if current in _UNCLAIMED:
            signal.signal(number, _interrupt if number != _STOP else _refuse)
            _replaced[number] = current
    _sentinel.stand()
    _insistence.listen()


def _give_signals_back() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number, previous in list(_replaced.items()):
        if signal.getsignal(number) in (_interrupt, _refuse):
            signal.signal(number, previous)
        del _replaced[number]
    _sentinel.leave()
    _insistence.leave()


def _forget() -> None:
    _open.clear()
    _lit.clear()
    _sentinel.forget()
    for held in _held:
        held.forget()
    _held.clear()
    unwinding.forget()
    _give_signals_back()


_sentinel = Sentinel(_hear)
_insistence = Insistence()
# Python's own list of what is done before threads are waited for; `concurrent.futures` is on it.
_before_threads = getattr(threading, "_register_atexit", None)
if _before_threads is not None:
    _before_threads(leave_all)
    _before_threads(_insistence.ends)
# The first to be registered is the last to run.
atexit.register(_say_last_words)
atexit.register(_insistence.ends)
atexit.register(leave_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
