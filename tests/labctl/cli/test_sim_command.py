"""`labctl sim serve`: what is announced, to programs and to people, and what is refused."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labctl.data import shipped_bench_path

Result = subprocess.CompletedProcess[str]
Process = subprocess.Popen[str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start `labctl sim serve` in an empty folder; killed in the end if it still runs."""
    started: list[Process] = []

    def run(*arguments: str) -> Process:
        process = subprocess.Popen(
            [sys.executable, "-m", "labctl", "sim", "serve", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def until(process: Process, last: str) -> list[str]:
    """Read lines of stdout up to one, which has to come within a minute."""
    assert process.stdout is not None
    guard = threading.Timer(60.0, process.kill)
    guard.start()
    read = []
    for line in process.stdout:
        read.append(line.rstrip("\n"))
        if read[-1] == last:
            break
    guard.cancel()
    assert read[-1:] == [last]
    return read


def ended(process: Process, number: signal.Signals) -> tuple[int, str, str]:
    """Send a signal; return the exit code and what was still printed."""
    process.send_signal(number)
    rest, errors = process.communicate(timeout=20)
    return process.returncode, rest, errors


def small_bench(folder: Path) -> Path:
    """Write the shipped bench with no panel but the laser and one power meter."""
    text = shipped_bench_path().read_text(encoding="utf-8")
    head, _, panels = text.partition("[panels.")
    kept = [
        part for part in panels.split("[panels.") if part.startswith(("server_laser]", "monitor]"))
    ]
    path = folder / "small [bench].toml"
    path.write_text(head + "".join(f"[panels.{part}" for part in kept), encoding="utf-8")
    return path


def test_programs_get_a_line_for_each_instrument_of_their_bench_and_one_when_it_is_ready(
    tmp_path: Path, start: Callable[..., Process]
) -> None:
    process = start(small_bench(tmp_path).name, "--json")
    *announced, ready = map(json.loads, until(process, '{"ready": true}'))
    assert ready == {"ready": True}
    assert [(offer["name"], offer["panel"]) for offer in announced] == [
        ("server_laser", "itla"),
        ("monitor", "thorlabs_pm100d"),
    ]
    assert all(list(o) == ["name", "panel", "hislip", "socket", "pty", "side"] for o in announced)
    assert all(o["side"] is None for o in announced)
    port = int(announced[1]["socket"].split("::")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20.0) as meter:
        meter.sendall(b"*IDN?\n")
        assert meter.makefile("rb").readline().startswith(b"THORLABS,PM100D,")
    assert ended(process, signal.SIGTERM) == (0, "", "")


def test_people_get_a_table_and_ctrl_c_ends(tmp_path: Path, start: Callable[..., Process]) -> None:
    path = small_bench(tmp_path)
    process = start(path.name)
    text = "\n".join(until(process, "serving, Ctrl-C ends"))
    assert path.name in text
    assert "monitor" in text
    assert "side" not in text
    assert "/dev/pts/" in text
    assert ended(process, signal.SIGINT) == (0, "", "")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_bench_that_is_not_there_is_one_line_and_exit_code_2(
    form: list[str], run_process: Callable[..., Result]
) -> None:
    result = run_process("sim", "serve", "nowhere.toml", *form)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: nowhere.toml: ")
    assert result.stderr.count("\n") == 1


def test_a_folder_a_binary_file_and_a_station_file_are_no_benches(
    tmp_path: Path, demo_station: Path, run_here: Callable[..., Result]
) -> None:
    (tmp_path / "noise.toml").write_bytes(bytes(range(256)))
    for name in (".", "noise.toml", demo_station.name):
        result = run_here("sim", "serve", name)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith(f"error: {name}")
        assert result.stderr.count("\n") == 1


def test_without_a_command_there_is_help(run_here: Callable[..., Result]) -> None:
    result = run_here("sim")
    assert result.returncode == 2
    assert "serve" in result.stdout + result.stderr
