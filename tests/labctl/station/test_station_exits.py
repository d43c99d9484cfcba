"""However a program ends, its station is left safe: by real processes, without `with`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.data import shipped_bench_path
from labctl.errors import StoppedError
from labctl.instruments.lasers.itla_registers import ItlaRegisters
from labctl.safety import Unwinding
from labctl.station import Station, exits
from labctl.station.guard import unguarded

# Instruments that only say what is done to them; `lamp` is the one that emits.
INSTRUMENTS = """
import os, signal, sys, threading, time
from labctl.safety import interruptible
from labctl.station import Station
import labctl.station.drivers

class Instrument:
    @classmethod
    def open(cls, name, address, *, library, options):
        opened = cls() if name != "lamp" else Lamp()
        opened.name = name
        return opened
    def identify(self):
        return self.name
    def safe_state(self):
        print("safe", self.name, flush=True)
    def close(self):
        print("closed", self.name, flush=True)
    def set_voltage(self, voltage_v):
        pass

class Lamp(Instrument):
    def set_emission(self, on):
        print("dark" if not on else "light", self.name, flush=True)

labctl.station.drivers.find_driver = lambda driver: Instrument

def both_at_once(first, second):
    signal.pthread_sigmask(signal.SIG_BLOCK, (first, second))
    # To the main thread: another one would take them at once.
    signal.pthread_kill(threading.main_thread().ident, first)
    signal.pthread_kill(threading.main_thread().ident, second)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (first, second))
    for _ in range(1000):
        pass

station = Station.read(sys.argv[1])
"""
LEFT = ["dark lamp", "safe lamp", "safe meter", "safe source"]
LEFT += ["closed meter", "closed source", "closed lamp"]
THREE = {
    "lamp": ("fake", "GPIB0::1::INSTR"),
    "source": ("fake", "GPIB0::2::INSTR"),
    "meter": ("fake", "GPIB0::3::INSTR"),
}

PLAIN = "station.open()\n"
DROPPED = (
    PLAIN + "class Dropped:\n    def __del__(self):\n        os.kill(os.getpid(), {number})\n"
    "Dropped()\ntime.sleep(30)"
)
ENDS: dict[str, tuple[str, int]] = {
    "the last line": (PLAIN, 0),
    "sys.exit": (PLAIN + "sys.exit(3)", 3),
    "an error that nobody catches": (PLAIN + "1 / 0", 1),
    "a station that was forgotten": ("def run():\n    Station.read(sys.argv[1]).open()\nrun()", 0),
    "SIGTERM": (PLAIN + "os.kill(os.getpid(), signal.SIGTERM)", 128 + 15),
    "SIGHUP": (PLAIN + "os.kill(os.getpid(), signal.SIGHUP)", 128 + 1),
    "SIGINT": (PLAIN + "os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    "SIGINT and SIGTERM together": (PLAIN + "both_at_once(2, 15)", -signal.SIGINT),
    "both together, inside with": ("with station:\n    both_at_once(15, 2)", -signal.SIGINT),
    "both together, on the command line": (
        "with interruptible(), station:\n    both_at_once(15, 2)",
        -signal.SIGINT,
    ),
    "a notebook's cell that swallows it, then its shutdown": (
        PLAIN + "try:\n    os.kill(os.getpid(), 15)\nexcept SystemExit:\n    pass\nsys.exit(0)",
        0,
    ),
    "a notebook's cell that swallows it, and a kernel that waits for the next": (
        "import types\n"
        "sys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: 'a shell')\n"
        + PLAIN
        + "try:\n    os.kill(os.getpid(), 15)\nexcept SystemExit:\n    pass\n"
        "time.sleep(30)",
        128 + 15,
    ),
    "SIGTERM that a destructor dropped": (DROPPED.format(number=15), 128 + 15),
    "SIGINT that a destructor dropped": (DROPPED.format(number=2), -signal.SIGINT),
    "SIGTERM that a runner of tests caught, its station left": (
        PLAIN + "try:\n    os.kill(os.getpid(), 15)\nexcept SystemExit:\n    station.close()\n"
        "time.sleep(30)",
        -signal.SIGTERM,
    ),
    "SIGTERM that a runner of tests caught, its station open": (
        PLAIN + "try:\n    os.kill(os.getpid(), 15)\nexcept SystemExit:\n    pass\n"
        "while True:\n    try:\n        time.sleep(30)\n    except SystemExit:\n        pass",
        -signal.SIGINT,
    ),
    "a signal on the way out": (
        PLAIN + "Instrument.identify = None\n"
        "Lamp.set_emission = lambda self, on: (print('dark', self.name, flush=True),"
        " os.kill(os.getpid(), 15))\n"
        "try:\n    station.close()\nexcept SystemExit:\n    sys.exit(7)",
        7,
    ),
    "a forked child that ends first": (
        PLAIN + "child = os.fork()\nif child == 0:\n    sys.exit(0)\nos.waitpid(child, 0)",
        0,
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("end", ENDS)
def test_a_program_that_ends_leaves_its_station_safe_once(
    end: str, small_station: Callable[..., Path]
) -> None:
    script, code = ENDS[end]
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", INSTRUMENTS + script, str(small_station(THREE, roles=False))],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        signal.signal(signal.SIGINT, previous)
    done = ended.stdout.splitlines()
    # A program that does not end soon has its light switched off beforehand, by another thread.
    assert done[done.count("dark lamp") - 1 :] == LEFT, ended.stderr
    assert ended.returncode == code, ended.stderr


REAL = """
import os, sys
import labctl
station = labctl.open_station(sys.argv[1])
station.laser.set_power_dbm(10.0)
station.laser.set_emission(True)
os.kill(os.getpid(), int(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [0, 15])
def test_drivers_reach_their_instruments_although_pyvisa_closes_at_exit_too(
    number: int, tmp_path: Path
) -> None:
    path, record = tmp_path / "two.toml", tmp_path / "wire.jsonl"
    path.write_text(
        f'library = "{shipped_bench_path()}@labctl"\nrecord = "wire.jsonl"\n'
        '[instruments.laser]\ndriver = "purephotonics_ppcl550"\naddress = "ASRL1::INSTR"\n'
        '[instruments.monitor]\ndriver = "thorlabs_pm100d"\n'
        'address = "USB0::0x1313::0x8078::P0000001::INSTR"\n',
        encoding="utf-8",
    )
    ended = subprocess.run(
        [sys.executable, "-c", REAL, str(path), str(number)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (128 + 15 if number else 0, "")
    entries = [json.loads(line) for line in record.read_text("utf-8").splitlines()[1:]]
    sent = [str(entry) for entry in entries if entry["instrument"] == "laser"]
    on = max(place for place, entry in enumerate(sent) if "81320008" in entry)
    off = max(place for place, entry in enumerate(sent) if "01320000" in entry)
    assert on < off
    assert [entry["event"] for entry in entries[-2:]] == ["close", "close"]


def test_a_call_under_way_cannot_light_again_what_another_thread_put_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.toml"
    path.write_text(
        f'library = "{shipped_bench_path()}@labctl"\n'
        '[instruments.laser]\ndriver = "purephotonics_ppcl550"\naddress = "ASRL1::INSTR"\n',
        encoding="utf-8",
    )
    with Station.read(path) as station:
        # What switching on waits for, between its first message and the one that lights.
        monkeypatch.setattr(
            ItlaRegisters, "wait_until_ready", lambda _: station.stop_emission("a test")
        )
        laser = station.laser
        with pytest.raises(StoppedError, match="a test"):
            laser.set_emission(True)
        assert not unguarded(laser).emission()


def test_a_signal_that_was_caught_and_passed_over_can_be_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("labctl.safety.time.monotonic", lambda: now_s[0])
    unwinding = Unwinding()
    assert unwinding.begins(2)
    assert unwinding.begins(2), "nothing has to be left: every signal counts"
    unwinding.watch()
    assert unwinding.begins(2)
    assert not unwinding.begins(15), "the first is still on its way"
    now_s[0] += 10.0
    assert unwinding.begins(2), "nothing came of the first"


class Open:
    """A station as the list of open ones sees it."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def close(self) -> None:
        exits.left(self)

    def stop_emission(self, reason: str) -> None:
        self.stopped.set()


def test_a_station_opened_after_a_signal_is_not_stopped_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program that answered Ctrl-C, left its bench and opened it again works on."""
    monkeypatch.setattr(exits, "_GRACE_S", 0.05)
    before, during, after = Open(), Open(), Open()
    for station in (before, during):
        exits.leave_at_exit(station)
    try:
        exits._hear(signal.SIGTERM)
        before.close()
        exits.leave_at_exit(after)
        assert during.stopped.wait(10.0)
        assert not before.stopped.is_set()
        assert not after.stopped.is_set()
    finally:
        during.close()
        after.close()


def test_a_signal_during_a_teardown_takes_effect_after_it_unless_one_led_there() -> None:
    for led_there, left_over in ((False, 15), (True, None)):
        unwinding = Unwinding()
        unwinding.watch()
        if led_there:
            assert unwinding.begins(2)
        unwinding.hold()
        assert not unwinding.begins(15)
        assert unwinding.release() == left_over
