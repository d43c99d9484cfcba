"""`labctl record` and `labctl replay`: a program with its wire on file, then without a wire."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]

INFER = (
    *("labctl", "infer", "--link", "bench", "--images", "1", "--model", "tiny.safetensors"),
    *("--stale", "accept"),
)
SCRIPT = """\
import sys
from pathlib import Path
from labctl.instruments.capabilities import PowerMeter, TunableLaser
from labctl.station import Station

with Station.read(Path("demo.toml")) as station:
    laser = station.instrument("server_laser", TunableLaser)
    meter = station.instrument("monitor", PowerMeter)
    meter.set_wavelength(float(sys.argv[1]))
    laser.set_power(10e-3)
    laser.set_emission(True)
    Path(sys.argv[2]).write_text(repr(meter.power_w()))
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture
def script(demo_station: Path) -> Callable[..., tuple[str, ...]]:
    """Return the command of a script that measures power over the demo's station."""
    demo_station.with_name("script.py").write_text(SCRIPT, encoding="utf-8")

    def command(
        *, wavelength: str = "1.55e-6", to: str = "power.txt", code: int = 0
    ) -> tuple[str, ...]:
        return ("--", sys.executable, "script.py", wavelength, to, str(code))

    return command


@pytest.fixture
def without_bench(demo_station: Path) -> Callable[[], None]:
    """Take the simulated bench away: opening an instrument now fails."""
    return demo_station.with_name("demo_bench.toml").unlink


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_script_is_recorded_and_played_back_without_a_bench(
    script: Callable[..., tuple[str, ...]],
    without_bench: Callable[[], None],
    tmp_path: Path,
    run_here: Callable[..., Result],
) -> None:
    recorded = run_here("record", "--out", "wire.jsonl", *script())
    assert recorded.returncode == 0, recorded.stderr
    header, *entries = lines(tmp_path / "wire.jsonl")
    assert header["command"] == list(script()[1:])
    assert {"server_laser", "monitor"} <= {entry["instrument"] for entry in entries}
    without_bench()
    played = run_here("replay", "wire.jsonl", *script(to="again.txt"))
    assert played.returncode == 0, played.stderr
    assert f"{len(entries)} lines of wire.jsonl played, no difference" in " ".join(
        played.stderr.split()
    )
    power = (tmp_path / "power.txt").read_text()
    assert float(power) > 0
    assert (tmp_path / "again.txt").read_text() == power


@pytest.mark.long
def test_inference_over_the_bench_plays_back_with_the_same_result(
    tiny_network: str, tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    assert tiny_network in INFER
    command = ("--out", "wire.jsonl", "--blocks", "keep", "--", *INFER, "--runs")
    recorded = run_here("record", *command, "first")
    assert recorded.returncode == 0, recorded.stderr
    played = run_here("replay", "wire.jsonl", "--", *INFER, "--runs", "second")
    assert played.returncode == 0, played.stderr
    from labctl.data.run_file import read_run

    for party in ("server", "client"):
        first, second = (
            read_run(next((tmp_path / name).glob(f"*-{party}.h5"))) for name in ("first", "second")
        )
        assert first.verification == second.verification
        assert first.leakage == second.leakage


def test_the_first_difference_is_told_and_fails(
    script: Callable[..., tuple[str, ...]],
    tmp_path: Path,
    run_here: Callable[..., Result],
    is_refusal: Callable[..., str],
) -> None:
    assert run_here("record", "--out", "wire.jsonl", *script()).returncode == 0
    due = "SENS:CORR:WAV 1550.000000"
    number = next(i for i, entry in enumerate(lines(tmp_path / "wire.jsonl"), 1)
                  if entry.get("text") == due)  # fmt: skip
    line = is_refusal(run_here("replay", "wire.jsonl", *script(wavelength="1.31e-6")), 1)
    assert line == (
        f"error: wire.jsonl: line {number}: expected monitor sent '{due}', got monitor sent "
        "'SENS:CORR:WAV 1310.000000' (the program ended with exit code 1)"
    )


def test_a_program_that_stops_early_is_a_difference(
    script: Callable[..., tuple[str, ...]],
    run_here: Callable[..., Result],
    is_refusal: Callable[..., str],
) -> None:
    assert run_here("record", "--out", "wire.jsonl", *script()).returncode == 0
    stops = ("--", sys.executable, "-c", "pass")
    line = is_refusal(run_here("replay", "wire.jsonl", *stops), 1)
    assert "line 2: expected server_laser opened at ASRL1::INSTR, got the end of the" in line


def test_both_end_with_the_exit_code_of_the_program(
    script: Callable[..., tuple[str, ...]], run_here: Callable[..., Result]
) -> None:
    assert run_here("record", "--out", "wire.jsonl", *script(code=3)).returncode == 3
    assert run_here("replay", "wire.jsonl", *script(code=4)).returncode == 4


def test_a_program_that_a_signal_ends_has_the_code_that_a_shell_gives(
    run_here: Callable[..., Result],
) -> None:
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    result = run_here("record", "--out", "wire.jsonl", "--", sys.executable, "-c", dies)
    assert result.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, 5)])
def test_a_signal_to_the_recorder_lets_the_program_end_in_its_own_way(
    number: signal.Signals, code: int, run_here: Callable[..., Result]
) -> None:
    """SIGTERM is passed on; Ctrl-C reaches the program from the terminal, not from here."""
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))\n"
        f"os.kill(os.getppid(), {int(number)})\n"
        f"signal.pause() if {number is signal.SIGTERM} else sys.exit(5)\n"
    )
    result = run_here("record", "--out", "wire.jsonl", "--", sys.executable, "-c", program)
    assert result.returncode == code


def test_a_recorder_that_is_killed_takes_its_program_along(tmp_path: Path) -> None:
    """The program gets SIGTERM, and leaves its instruments safe."""
    program = (
        "import os, pathlib, signal, sys\n"
        "def leave(number, frame):\n"
        "    pathlib.Path('left').write_text('safe')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "print(os.getpid(), flush=True)\n"
        "while True:\n"
        "    signal.pause()\n"
    )
    command = [sys.executable, "-m", "labctl", "record", "--", sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline()
        recorder.kill()
        # Ends when the program has closed it too.
        assert recorder.stdout.read() == ""
    assert (tmp_path / "left").read_text() == "safe"


def test_without_a_name_records_go_to_the_folder_of_runs(
    tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    for _ in range(2):
        assert run_here("record", sys.executable, "-c", "pass").returncode == 0
    assert len(list((tmp_path / "labctl-runs").glob("*-wire*.jsonl"))) == 2


def test_secrets_on_the_command_line_are_masked(
    tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    program = (sys.executable, "-c", "pass", "--password", "hunter22")
    assert run_here("record", "--out", "wire.jsonl", "--", *program).returncode == 0
    assert "hunter22" not in (tmp_path / "wire.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["record", "--"], "Missing argument"),
        (
            ["record", "--out", "w.jsonl", "--", "no-such-program"],
            "'no-such-program': must be a",
        ),
        (["record", "--blocks", "melt", "--", "true"], "must be one of hash, keep"),
        (["replay", "wire.jsonl"], "Missing argument"),
        (["replay", "wire.jsonl", "--"], "must be the program to run"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_no_record(
    arguments: list[str], told: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    if arguments[0] == "replay":
        (tmp_path / "wire.jsonl").write_text('{"format": "labctl wire record 1"}\n')
    assert told in refused(*arguments)
    assert not (tmp_path / "w.jsonl").exists()


def test_a_record_that_exists_is_not_replaced(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "wire.jsonl").write_text("precious")
    line = refused("record", "--out", "wire.jsonl", "--", "true", code=1)
    assert "wire.jsonl exists already: choose another name" in line
    assert (tmp_path / "wire.jsonl").read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot be read"), ("nonsense", ":1: must be one JSON object")]
)
def test_what_is_no_record_is_refused(
    content: str | None, told: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    if content is not None:
        (tmp_path / "wire.jsonl").write_text(content)
    assert told in refused("replay", "wire.jsonl", "--", "true", code=1)


@pytest.mark.parametrize("switch", ["LABCTL_RECORD", "LABCTL_REPLAY"])
def test_recording_is_not_nested(
    switch: str, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setenv(switch, "other.jsonl")
    assert f"{switch} is set" in refused("record", "--out", "wire.jsonl", "--", "true")
