"""However a program ends or hangs, the laser of a bench that outlives it goes dark: by real kills.

The large run, hundreds of kills and pairs of signals, is `benchmarks/kill_the_bench.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labctl.errors import BenchHeldError
from labctl.station import Station

if TYPE_CHECKING:
    from served_bench import Run, ServedBench

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

MEASURE = "while True:\n    station.monitor.power_w()\n"
AFTER_SIGNAL_S, AFTER_KILL_S = 1.0, 3.0
# A busy machine may not give the processes of a test their turn at once.
SLACK_S = 2.0


@pytest.mark.parametrize(
    ("numbers", "script", "code"),
    [
        ((signal.SIGTERM,), MEASURE, 143),
        ((signal.SIGHUP, signal.SIGINT), MEASURE, 129),
        ((signal.SIGUSR1,), "time.sleep(60)\n", 128 + signal.SIGUSR1),
        (
            (signal.SIGTERM,),
            "threading.Thread(target=lambda: time.sleep(3)).start()\ntime.sleep(60)\n",
            143,
        ),
    ],
    ids=["TERM", "HUP and INT", "USR1", "TERM beside a thread that is no daemon"],
)
def test_a_signal_darkens_the_bench(
    served_bench: ServedBench,
    program: Run,
    tmp_path: Path,
    numbers: tuple[int, ...],
    script: str,
    code: int,
) -> None:
    running = program(served_bench.station(tmp_path), script)
    for number in numbers:
        os.kill(running.pid, number)
    served_bench.goes_dark_within_s(AFTER_SIGNAL_S + SLACK_S)
    assert running.wait(20) in (code, 130)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_watchdog_darkens_the_bench_of_a_program_that_cannot(
    served_bench: ServedBench, program: Run, tmp_path: Path, number: int
) -> None:
    running = program(served_bench.station(tmp_path), MEASURE)
    os.kill(running.pid, number)
    served_bench.goes_dark_within_s(AFTER_KILL_S + SLACK_S)
    if number == signal.SIGSTOP:
        os.kill(running.pid, signal.SIGCONT)
        assert running.wait(20) == 143
    else:
        assert running.wait(20) == -number
        with Station.read(served_bench.station(tmp_path)) as station:
            assert station["laser"].emission() is False


# A terminal that was stopped, a connection that stalls: nothing more can be written to stderr.
STUCK = """
import fcntl, logging
logging.basicConfig(level=logging.INFO)
reading, writing = os.pipe()
os.dup2(writing, 2)
os.set_blocking(2, False)
for size in (4096, 1):
    try:
        while True:
            os.write(2, bytes(size))
    except BlockingIOError:
        pass
os.set_blocking(2, True)
print("stuck", flush=True)
"""
AGAIN = """
os.kill(station._heartbeat.process_id, signal.SIGKILL)
ended = station._heartbeat.process_id
while station._heartbeat.process_id == ended:
    time.sleep(0.05)
station._heartbeat.await_ready()
print("watched", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_terminal_that_takes_nothing_does_not_keep_the_light_on(
    served_bench: ServedBench, program: Run, tmp_path: Path, number: int
) -> None:
    # The watchdog has this error stream too, once it is started again.
    running = program(served_bench.station(tmp_path), STUCK + AGAIN + MEASURE)
    assert running.stdout is not None
    assert [running.stdout.readline() for _ in range(2)] == ["stuck\n", "watched\n"]
    os.kill(running.pid, number)
    served_bench.goes_dark_within_s(AFTER_KILL_S + SLACK_S)


def test_the_watchdog_needs_no_station_file_any_more(
    served_bench: ServedBench, program: Run, tmp_path: Path
) -> None:
    path = served_bench.station(tmp_path)
    running = program(path, MEASURE)
    path.write_text("nonsense", encoding="utf-8")
    os.kill(running.pid, signal.SIGKILL)
    served_bench.goes_dark_within_s(AFTER_KILL_S + SLACK_S)


def test_a_watchdog_that_was_killed_is_started_again_without_the_station_file(
    served_bench: ServedBench, program: Run, tmp_path: Path
) -> None:
    path = served_bench.station(tmp_path)
    spoilt = f"open({str(path)!r}, 'w').write('nonsense')\n"
    running = program(path, spoilt + AGAIN + MEASURE)
    assert running.stdout is not None
    assert running.stdout.readline() == "watched\n"
    os.kill(running.pid, signal.SIGKILL)
    served_bench.goes_dark_within_s(AFTER_KILL_S + SLACK_S)


def test_a_main_thread_in_a_long_call_does_not_keep_the_light_on(
    served_bench: ServedBench, program: Run, tmp_path: Path
) -> None:
    # A lock held in C, which lets other threads run and no signal handler.
    hang = "import ctypes\nctypes.CDLL(None).sleep(4)\nctypes.CDLL(None).sleep(4)\n"
    running = program(served_bench.station(tmp_path, "watchdog = { enabled = false }\n"), hang)
    time.sleep(0.2)
    os.kill(running.pid, signal.SIGTERM)
    served_bench.goes_dark_within_s(AFTER_SIGNAL_S + SLACK_S)


def test_ctrl_z_is_refused_while_instruments_are_open(
    served_bench: ServedBench, program: Run, tmp_path: Path
) -> None:
    running = program(served_bench.station(tmp_path), "time.sleep(0.5)\nprint('went on')\n")
    os.kill(running.pid, signal.SIGTSTP)
    out, err = running.communicate(timeout=20)
    assert (out, running.returncode) == ("went on\n", 0)
    assert "not stopped: instruments are open" in err


def test_one_program_holds_a_bench_and_a_dead_one_does_not(
    served_bench: ServedBench, program: Run, tmp_path: Path
) -> None:
    first = served_bench.station(tmp_path)
    other = tmp_path / "other.toml"
    other.write_text(
        f'[instruments.light]\ndriver = "purephotonics_ppcl550"\nlibrary = "@py"\n'
        f'address = "{served_bench.addresses["laser"].lower()}"\n',
        encoding="utf-8",
    )
    running = program(first, MEASURE)
    with pytest.raises(BenchHeldError, match=f"is held by process {running.pid} on .* since "):
        Station.read(other).open()
    shown = subprocess.run(
        [sys.executable, "-m", "labctl", "station", "show", str(other), "--open"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, f"process {running.pid}" in shown.stderr) == (2, True)
    assert served_bench.emits(), "the second program switched the first one's laser off"
    running.kill()
    os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
    with Station.read(other) as station:
        assert station["light"].emission() is False


def test_a_forked_child_may_not_use_what_its_parent_opened(
    served_bench: ServedBench, program: Run, tmp_path: Path
) -> None:
    fork = (
        "if os.fork() == 0:\n"
        "    try:\n        station.laser.set_emission(True)\n"
        "    except labctl.UsageError as error:\n        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\nprint(station.laser.emission())\n"
    )
    running = program(served_bench.station(tmp_path), fork)
    out, _ = running.communicate(timeout=20)
    assert f"laser: opened by process {running.pid}; a forked child" in out
    assert out.splitlines()[-1] == "True"


def test_labctl_safe_darkens_a_bench_that_another_program_holds(
    served_bench: ServedBench, program: Run, tmp_path: Path
) -> None:
    path = served_bench.station(tmp_path)
    running = program(path, "time.sleep(60)\n")
    done = subprocess.run(
        [sys.executable, "-m", "labctl", "safe", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "laser: safe" in done.stdout
    assert f"is held by process {running.pid}" in done.stderr
    assert not served_bench.emits()


def test_what_may_still_be_lit_is_said_last_and_the_exit_code_is_4(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom labctl.errors import InstrumentTimeoutError\n"
        "import labctl.station.drivers\nfrom labctl.station import Station\n"
        "class Lamp:\n"
        "    @classmethod\n    def open(cls, name, address, **more):\n        return cls()\n"
        "    def identify(self):\n        return 'lamp'\n"
        "    def safe_state(self):\n        pass\n"
        "    def close(self):\n        pass\n"
        "    def set_emission(self, on):\n"
        "        raise InstrumentTimeoutError('lamp', 'no answer')\n"
        "labctl.station.drivers.find_driver = lambda name: Lamp\n"
        "Station.read(sys.argv[1]).open()\n"
        "raise ValueError('something else')\n"
    )
    path = tmp_path / "lamp.toml"
    path.write_text(
        'watchdog = { enabled = false }\n[instruments.lamp]\ndriver = "a"\naddress = "GPIB::7"\n'
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 4
    assert ended.stderr.splitlines()[-1] == (
        "labctl: MAY STILL EMIT LIGHT: LAMP (GPIB::7): SWITCH IT OFF BY HAND"
    )
