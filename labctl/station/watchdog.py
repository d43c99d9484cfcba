"""The watchdog process: takes a station to safe when the program that holds it dies or freezes.

`python -m labctl.station.watchdog STATION PID FROZEN_AFTER_S COMPUTING_S`, started by `heartbeat`
in a separate session, so that no terminal reaches it. Its standard input is the heartbeat:

- the pipe ends, or the parent is another process than PID: the program died (SIGKILL, a crash, out
  of memory). Everything is made safe.
- no beat for FROZEN_AFTER_S: the program is stopped, or hangs in a call. While its main thread has
  work for the processor (one long product of matrices) it has COMPUTING_S. It is asked to end by
  SIGTERM, which takes effect if it ever goes on; everything is made safe from outside; if the light
  cannot be reached because the frozen program holds the wire, that program is killed.
- a farewell: the program left its station safe itself.

The first line on the pipe is what the station file said when the program read it: what was opened
by it is what is made safe, also where the file has changed or is gone.

Time in which the watchdog itself did not get the processor (a suspended computer) does not count:
the program did not get it either.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from labctl.errors import LabctlError
from labctl.safety import ENDING_SIGNALS
from labctl.said_in_time import sayer
from labctl.station.file import from_line, library_of
from labctl.station.heartbeat import FAREWELL
from labctl.station.rescue import make_safe
from labctl.station.station import Station
from labctl.streams import occupy
from labctl.visible import visible_line

_LOOK_S = 0.1
# Nobody else is there to try: a laser that did not answer may be busy, or another program may have
# been talking to it.
_ATTEMPTS = 10
_PAUSE_S = 0.5
# Later than this after the time asked for, the watchdog itself stood still.
_STOOD_STILL_S = 0.5


def main(arguments: list[str]) -> int:
    """Watch, act if need be, and return the exit code: 4 if something may still emit."""
    occupy()
    path, program = Path(arguments[0]), int(arguments[1])
    frozen_after_s, computing_s = map(float, arguments[2:4])
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    station, farewell = _received(sys.stdin.fileno(), path)
    if farewell:
        return 0
    _load_libraries(station)
    with suppress(OSError):  # the program may be gone by now
        os.write(sys.stdout.fileno(), b"r")
    reason = watch(sys.stdin.fileno(), program, frozen_after_s, computing_s)
    if reason is None:
        return 0
    _say(f"process {program} {reason}: station {station.table.name!r} is made safe")
    if reason.startswith("has not moved"):
        _send(program, signal.SIGTERM)
    left = make_safe(station)
    if left.lit and os.getppid() == program:
        _say(f"{left}; process {program} may hold the wire and is killed")
        _send(program, signal.SIGKILL)
        left = make_safe(station)
    for attempt in range(_ATTEMPTS):
        if not left.lit:
            break
        _say(f"{left}; attempt {attempt + 2}")
        time.sleep(_PAUSE_S)
        left = make_safe(station)
    _say(f"station {station.table.name!r}: {left}" if left else "all is safe")
    sayer.finish()
    return 4 if left.lit else 0


def _received(pipe: int, path: Path) -> tuple[Station, bool]:
    """Return the station that the program opened, and whether it has said farewell already.

    From the file if the program died before it could tell.
    """
    said = b""
    while b"\n" not in said:
        more = os.read(pipe, 1 << 16)
        if not more:
            return Station.read(path), False
        said += more
    line, _, beats = said.partition(b"\n")
    return Station(path, from_line(line)), FAREWELL in beats


def watch(pipe: int, program: int, frozen_after_s: float, computing_s: float) -> str | None:
    """Return why a program needs help, when it does; None when it says farewell."""
    silent_s = still_s = 0.0
    looked_s = time.monotonic()
    while True:
        ready = select.select([pipe], [], [], _LOOK_S)[0]
        now_s = time.monotonic()
        passed_s, looked_s = min(now_s - looked_s, _LOOK_S + _STOOD_STILL_S), now_s
        if ready:
            said = os.read(pipe, 4096)
            if FAREWELL in said:
                return None
            if not said:
                return "has ended without leaving its station"
            silent_s = still_s = 0.0
        elif os.getppid() != program:
            return "has ended without leaving its station"
        else:
            silent_s += passed_s
            still_s += 0.0 if _computes(program) else passed_s
        if still_s > frozen_after_s or silent_s > computing_s:
            return f"has not moved for {silent_s:.1f} s"


def _computes(program: int) -> bool:
    """Tell whether a program's main thread has work for the processor, or waits for a disk."""
    with suppress(OSError, IndexError):  # no Linux, or gone: then nobody can tell
        return Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[0] in "RD"
    return False


def _load_libraries(station: Station) -> None:
    """Load what opening an instrument would load, while there is time."""
    for name in station.names:
        address = station.table.instruments[name].address.upper()
        library = library_of(station.table, station.path, name)
        if address.endswith("SOCKET") and library in ("", "@py"):
            continue
        with suppress(LabctlError):  # reported when the instrument itself is opened
            from labctl.instruments.transports.visa_link import resource_manager

            resource_manager(library)


def _send(program: int, number: int) -> None:
    with suppress(OSError):  # it has ended meanwhile
        os.kill(program, number)


def _say(what: str) -> None:
    line = visible_line(f"labctl watchdog: {what}")
    sayer.say(lambda: print(line, file=sys.stderr, flush=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
