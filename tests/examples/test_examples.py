"""Bench scripts as their users run them: separate processes, on the simulated laboratory."""

from __future__ import annotations

import csv
import math
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import pytest

from labctl.calibration.calibrator import Calibrator
from labctl.calibration.catalogue import ROUTINES
from labctl.calibration.names import Name
from labctl.calibration.store import Store
from labctl.data import shipped_lab_path
from labctl.data.run_file import read_run
from labctl.station import Station
from labctl.station.equipment import equipment_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = ("align_and_calibrate", "secure_inference", "drift_watch")
QUICK = ("--effort", "0.02")
ENVIRONMENT = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
CHANCE = 5e-4
DRIFT_WATCH: dict[str, Any] = runpy.run_path(str(EXAMPLES / "drift_watch.py"))

Result = subprocess.CompletedProcess[str]


def command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / f"{script}.py"), *arguments]


def run(folder: Path, script: str, *arguments: str) -> Result:
    return subprocess.run(
        command(script, *arguments),
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        timeout=280.0,
        check=False,
    )


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run a script in this process, in an empty folder: for what ends before anything is opened."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *arguments: str) -> Result:
        path = str(EXAMPLES / f"{script}.py")
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(path, run_name="__main__")
        out, err = capsys.readouterr()
        code = stop.value.code
        # As the interpreter does: a text is written to stderr, and means 1.
        if isinstance(code, str):
            return Result([path, *arguments], 1, out, f"{err}{code}\n")
        return Result([path, *arguments], code or 0, out, err)

    return run


def looks_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Align and calibrate the laboratory once; return where, and what was said."""
    folder = tmp_path_factory.mktemp("bench")
    return folder, run(folder, "align_and_calibrate", "--simulate", *QUICK)


@pytest.fixture
def calibrated(aligned: tuple[Path, Result], tmp_path: Path) -> Path:
    """Return an empty folder with the laboratory's calibration in it."""
    shutil.copytree(aligned[0] / "labctl-calibration", tmp_path / "labctl-calibration")
    return tmp_path


@pytest.fixture
def still_station(tmp_path: Path) -> Path:
    """Return a station file whose bench is the laboratory's, but for biases that do not drift."""
    folder = tmp_path / "still"
    folder.mkdir()
    lab = shipped_lab_path()
    bench = (lab.parent / "lab_bench.toml").read_text(encoding="utf-8")
    still, changed = re.subn(r"bias_drift_v_pi_rth = [\d.]+", "bias_drift_v_pi_rth = 0.0", bench)
    assert changed == 1
    (folder / "lab_bench.toml").write_text(still, encoding="utf-8")
    return Path(shutil.copy(lab, folder / "lab.toml"))


@pytest.fixture
def calibrator(calibrated: Path) -> Iterator[Calibrator]:
    with Station.read(shipped_lab_path()) as station:
        store = Store(calibrated / "labctl-calibration")
        opened = Calibrator(station, equipment_of(station), store, ROUTINES, effort=0.02)
        opened.bench.learn(opened.demand())
        yield opened


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_how_to_run_a_script(script: str, tmp_path: Path) -> None:
    told = run(tmp_path, script, "--help")
    assert told.returncode == 0, told.stderr
    assert f"examples/{script}.py --simulate" in told.stdout
    assert "--calibrations" in told.stdout


@pytest.mark.parametrize(
    ("script", "arguments"),
    [*((script, ()) for script in SCRIPTS), (SCRIPTS[0], ("--simulate", "station.toml"))],
)
def test_a_station_file_or_the_simulation_must_be_given(
    script: str, arguments: tuple[str, ...], tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    told = run_here(script, *arguments)
    assert told.returncode == 2
    assert "give a station file, or --simulate" in told.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_station_file_that_is_not_there_is_told_in_one_line(
    script: str, run_here: Callable[..., Result]
) -> None:
    told = run_here(script, "--calibrations", "kept", "nowhere.toml")
    assert told.returncode == 1
    assert "nowhere.toml" in told.stderr
    assert told.stderr.count("\n") == 1


@pytest.mark.long
def test_aligning_finds_the_light_and_calibrating_measures_everything(
    aligned: tuple[Path, Result],
) -> None:
    folder, told = aligned
    assert told.returncode == 0, told.stderr
    delays = {
        party: float(delay)
        for party, delay in re.findall(r"delay to (\w+) +([\d.]+) us", told.stdout)
    }
    # A kilometre of fibre of index 1.468 each way, and its connectors.
    assert delays["client"] == pytest.approx(4.9, abs=0.2)
    assert delays["server"] == pytest.approx(29.8, abs=0.5)
    assert len(re.findall(r"bias lock \w+ +[+-][\d.]+ V", told.stdout)) == 3
    records = {record.routine: record for record in Store(folder / "labctl-calibration").records()}
    assert set(records) == {routine.name for routine in ROUTINES}
    for name, record in records.items():
        assert f"{name}: record {record.id}" in told.stdout
        assert re.search(rf"^{name} +{record.id} +applicable", told.stdout, re.MULTILINE)
        assert str(next(iter(record.quantities.values())).quantity()) in told.stdout


@pytest.mark.long
def test_the_report_shows_every_routine_with_its_figure(aligned: tuple[Path, Result]) -> None:
    html = (aligned[0] / "calibration.html").read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert all(escape(routine.title) in html for routine in ROUTINES)
    assert html.count("data:image/png;base64,") == len(ROUTINES)


@pytest.mark.long
def test_an_inference_says_what_it_found_and_what_that_rests_on(calibrated: Path) -> None:
    told = run(calibrated, "secure_inference", "--simulate", *QUICK)
    assert told.returncode == 0, told.stderr
    client, server = sorted((calibrated / "labctl-runs").iterdir())
    kept = read_run(client)
    assert read_run(server).complete
    assert kept.complete
    assert kept.verification is not None
    assert f"class {kept.predictions[0]}, its label says {kept.labels[0]}" in told.stdout
    told_bits = re.findall(
        r"at most ([\d.]+) bit per real weight \(prior-free\): loss (\w+), technical noise (\w+)",
        told.stdout,
    )
    bits = {(loss, noise): float(bound) for bound, loss, noise in told_bits}
    upper = kept.verification["weights_bits_prior_free_upper"]
    assert bits["untrusted", "untrusted"] == pytest.approx(upper, rel=1e-3)
    # One image on doubtful constants proves nothing: both may be all that was sent.
    assert 0.0 < bits["trusted", "trusted"] <= bits["untrusted", "untrusted"]
    for name in ("mean_photons", "gain", "transmittance", "excess_noise"):
        assert re.search(rf"^{name} +\S+ ± \S+.*95 % interval", told.stdout, re.MULTILINE)
    assert "verdict       accepted" in told.stdout
    for record in Store(calibrated / "labctl-calibration").records():
        assert f"{record.routine:<20} {record.id}" in told.stdout


@pytest.mark.long
def test_a_watch_recalibrates_held_biases_that_drift(calibrated: Path) -> None:
    before = len(Store(calibrated / "labctl-calibration").records())
    hours = ("--interval", "600", "--duration", "14400")
    told = run(calibrated, "drift_watch", "--simulate", *QUICK, *hours)
    assert told.returncode == 0, told.stderr
    looks = looks_of(calibrated / "drift-watch.csv")
    plain = [look for look in looks if look["event"] != "recalibrated"]
    assert len(plain) == 2 * 24
    assert max(float(look["time_s"]) for look in looks) >= 14400.0
    left = [look for look in plain if look["event"] == "left band"]
    # A drift of 0.05 half-wave voltages in an hour, both children: past 0.1 rad within an hour.
    assert "leaked_power_w" in {look["statistic"] for look in left}
    for look in plain:
        inside = float(look["low"]) <= float(look["value"]) <= float(look["high"])
        assert inside == (look["event"] == "in band")
    again = [look for look in looks if look["event"] == "recalibrated"]
    assert len(again) == len(left)
    assert all(float(look["value"]) < float(look["high"]) for look in again)
    made = Store(calibrated / "labctl-calibration").records()[before:]
    assert len(made) >= 1 + len(left)
    assert all(record.id in told.stdout for record in made)
    assert (calibrated / "drift-watch.png").read_bytes().startswith(b"\x89PNG")
    assert "by chance alone" in told.stdout


@pytest.mark.long
def test_a_watch_of_a_station_file_that_does_not_drift_recalibrates_nothing(
    calibrated: Path, still_station: Path
) -> None:
    """24 looks at a chance of 5e-7 each: one of 80,000 such benches would fail."""
    hours = ("--interval", "600", "--duration", "7200", "--false-alarm-probability", "1e-6")
    told = run(calibrated, "drift_watch", *QUICK, str(still_station), *hours)
    assert told.returncode == 0, told.stderr
    looks = looks_of(calibrated / "drift-watch.csv")
    assert len(looks) == 2 * 12
    assert {look["event"] for look in looks} == {"in band"}


@pytest.mark.long
def test_a_watch_that_is_interrupted_leaves_all_safe_and_its_looks_readable(
    calibrated: Path,
) -> None:
    path = calibrated / "drift-watch.csv"
    wire = calibrated / "wire.jsonl"
    process = subprocess.Popen(
        command("drift_watch", "--simulate", *QUICK, "--duration", "1e9"),
        cwd=calibrated,
        env={**ENVIRONMENT, "LABCTL_RECORD": str(wire)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    deadline_s = time.monotonic() + 200.0
    while process.poll() is None and time.monotonic() < deadline_s:
        if path.exists() and len(looks_of(path)) >= 6:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.05)
    out, err = process.communicate(timeout=80.0)
    assert process.returncode == 1, err
    assert err.splitlines()[-1].startswith("interrupted")
    assert "not left safe" not in err
    assert len(looks_of(path)) >= 6
    assert all(math.isfinite(float(look["value"])) for look in looks_of(path))
    assert path.with_suffix(".png").exists()
    assert "by chance alone" in out
    modes = re.findall(r"MZM:MODE: (\d)", wire.read_text(encoding="utf-8"))
    assert modes[-3:] == ["0", "0", "0"]


@pytest.mark.long
def test_a_watch_writes_over_no_other(calibrated: Path) -> None:
    path = calibrated / "drift-watch.csv"
    path.write_text("yesterday's\n", encoding="utf-8")
    told = run(calibrated, "drift_watch", "--simulate", *QUICK)
    assert told.returncode == 1
    assert "a new .csv file" in told.stderr
    assert path.read_text(encoding="utf-8") == "yesterday's\n"


@pytest.mark.long
def test_leaked_light_leaves_its_band_where_a_child_has_drifted_too_far(
    calibrator: Calibrator,
) -> None:
    leaked = DRIFT_WATCH["LeakedLight"](calibrator.bench, 0.1, CHANCE)
    calibrator.run(["bias_points"])
    leaked.calibrated()
    bias = calibrator.bench.equipment.server.bias_q
    held_v = bias.bias_voltage_v()
    v_pi_v = calibrator.bench.knowledge.quantity(Name("server.bias_v_pi_q_v")).value
    for drift_rad, within in ((0.0, True), (0.08, True), (-0.08, True), (0.13, False)):
        bias.hold_voltage(held_v + drift_rad * 2.0 * v_pi_v / math.pi)
        value, low, high = leaked.look()
        assert (low <= value <= high) == within, drift_rad


@pytest.mark.long
def test_shot_noise_leaves_its_band_where_the_light_has_faded(calibrator: Calibrator) -> None:
    """Three looks at the right power, at a chance of 5e-4 each; 15 % less light is 10 sigma."""
    noise = DRIFT_WATCH["ShotNoise"](calibrator.bench, CHANCE)
    server = calibrator.bench.equipment.server
    calibrator.bench.light_on()
    noise.calibrated()
    for _ in range(3):
        value, low, high = noise.look()
        assert low < value < high
    server.laser.set_power(0.85 * server.laser_power_w)
    value, low, high = noise.look()
    assert value < low
