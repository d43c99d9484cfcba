"""The bench's side of the watchdog: starts it, and tells it all the time that work goes on.

Two things count as life. The main thread, if it still gets from one instruction of Python to the
next: every `BEAT_S` a helper thread sends it a signal (SIGURG, which nothing else uses), and the
signal's handler, which Python runs in the main thread alone, writes the beat. A helper that lives
on while the main thread hangs in a call, or while the process is stopped, writes none. And bench
work by any thread: a transaction with an instrument that has ended since the last look.

A main thread that waits (a sleep, a prompt, a lock, a notebook between two cells) is no hung one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from select import select
from types import FrameType
from typing import Any

from labctl.environment import RECORD, REPLAY
from labctl.errors import InstrumentError
from labctl.pulse import pulse
from labctl.service import alive
from labctl.visible import visible_logger

# Six beats are FROZEN_AFTER_S.
BEAT_S = 0.25
FROZEN_AFTER_S = 1.5
"""How long without a beat counts as frozen, in s: six beats, and half of the 3 s in which a station
must be safe."""
COMPUTING_S = 10.0
"""The same, in s, while the main thread computes inside one call into C."""
ALIVE, WORK, FAREWELL = b".", b"w", b"q"
# The interpreter and the drivers are loaded in about 1 s; on a very busy machine in 10.
_READY_S = 30.0
_FAREWELL_S = 2.0
_SIGNAL = getattr(signal, "SIGURG", None)

_log = visible_logger(__name__)


class Heartbeat:
    """A watchdog process over one station file, and the beats that keep it quiet."""

    def __init__(
        self, station: Path, *, content: str, frozen_after_s: float, computing_s: float
    ) -> None:
        """Take what is needed to start; `content` is what the file said, as one line of JSON."""
        self._station, self._content = station.absolute(), content
        self._limits_s = str(frozen_after_s), str(computing_s)
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._beaten_by_main = False
        self._previous: Any = None
        self._owner = os.getpid()

    @property
    def process_id(self) -> int | None:
        """The watchdog's process id; None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the watchdog, and the beats."""
        self._process = self._launched()
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and _SIGNAL and signal.getsignal(_SIGNAL) == signal.SIG_DFL:
            self._previous = signal.signal(_SIGNAL, self._beat)
            self._beaten_by_main = True
        threading.Thread(target=self._run, name="labctl safety: heartbeat", daemon=True).start()

    def await_ready(self) -> None:
        """Return when the watchdog can act at once; raises InstrumentError if it does not start."""
        if self._process is None or self._process.stdout is None:
            return
        waits_for = self._process.stdout
        if not (select([waits_for], [], [], _READY_S)[0] and waits_for.read(1)):
            problem = f"its watchdog did not start within {_READY_S:g} s, see stderr"
            raise InstrumentError(str(self._station), problem)

    def stop(self, *, all_dark: bool) -> None:
        """End the watchdog; if not all is dark it sees to that itself, as if this had crashed."""
        self._stop.set()
        if self._beaten_by_main and threading.current_thread() is threading.main_thread():
            signal.signal(_SIGNAL, self._previous)  # type: ignore[arg-type]
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:
            return
        with suppress(OSError, ValueError):  # it may have ended
            if all_dark:
                os.write(_pipe(process), FAREWELL)
        self._let_go(process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_FAREWELL_S)

    def forget(self) -> None:
        """Close this process's end of the pipe, as a forked child does."""
        self._stop.set()
        if self._process is not None:
            self._let_go(self._process)
            # Another process's child is not this one's to wait for.
            self._process.returncode = 0
            self._process = None

    @staticmethod
    def _let_go(process: subprocess.Popen[bytes]) -> None:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _launched(self) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if k not in (RECORD, REPLAY)}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-P", "-m", "labctl.station.watchdog", str(self._station)]
        process = subprocess.Popen(
            [*command, str(os.getpid()), *self._limits_s],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=environment,
            bufsize=0,
        )
        with suppress(OSError):  # it ended at once: who waits for it says so
            _write_all(_pipe(process), self._content.encode() + b"\n")
        os.set_blocking(_pipe(process), False)
        return process

    def _beat(self, number: int, frame: FrameType | None) -> None:
        self._say(ALIVE)
        alive()

    def _say(self, what: bytes) -> None:
        process = self._process
        if process is not None:
            with suppress(OSError, ValueError):  # full, or ended: `_run` looks after that
                os.write(_pipe(process), what)

    def _run(self) -> None:
        main, seen_s = threading.main_thread(), pulse.last_s
        while not self._stop.wait(BEAT_S):
            if not self._beaten_by_main:
                self._say(ALIVE)
            elif main.is_alive() and main.ident is not None:
                with suppress(OSError):
                    signal.pthread_kill(main.ident, _SIGNAL)  # type: ignore[arg-type]
            if pulse.last_s != seen_s:
                seen_s = pulse.last_s
                self._say(WORK)
            self._restart_if_ended()

    def _restart_if_ended(self) -> None:
        process = self._process
        if process is None or process.poll() is None or self._stop.is_set():
            return
        self._let_go(process)
        with suppress(OSError):
            self._process = self._launched()
        _log.warning("the watchdog ended with code %s and is started again", process.returncode)


def _pipe(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    return process.stdin.fileno()


def _write_all(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]
