"""`labctl calibrate` measures, keeps, tabulates, and stops in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import Outcome
from labctl.calibration.routines.half_wave_voltage import HalfWaveVoltage
from labctl.calibration.store import Store
from labctl.cli import calibrate, calibration
from labctl.data import shipped_station_path
from labctl.errors import CalibrationError

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]


@dataclass
class Toy:
    """A routine that finds a number, or does something else."""

    name: str
    needs: tuple[str, ...] = ()
    act: Callable[[CalibrationBench], None] = lambda bench: None
    remarks: tuple[str, ...] = ()
    title: str = "a toy"
    roles: tuple[str, ...] = ("server.laser",)
    valid_for_s: float = 3600.0

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        return {}

    def run(self, bench: CalibrationBench) -> Outcome:
        self.act(bench)
        found = {Name(f"{self.name}_v"): Quantity.of(1.0, "V", {"noise": 0.01})}
        return Outcome(found, {"x": np.arange(3.0)}, _draw, remarks=self.remarks)


def _draw(figure: Figure) -> None:
    figure.subplots().set_axis_off()


def fail(bench: CalibrationBench) -> None:
    raise CalibrationError("no light: is the fibre connected?")


@pytest.fixture
def with_routines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(*routines: Toy) -> None:
        monkeypatch.setattr(calibrate, "ROUTINES", routines)
        monkeypatch.setattr(calibration, "ROUTINES", routines)

    return use


@pytest.fixture
def three(with_routines: Callable[..., None]) -> tuple[Toy, Toy, Toy]:
    routines = Toy("base"), Toy("middle", ("base",), remarks=("it was late",)), Toy("alone")
    with_routines(*routines)
    return routines


def objects(result: Result) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return dict(json.loads(result.stdout))


def measured(result: Result) -> list[str]:
    return [record["routine"] for record in objects(result)["records"]]


def test_all_routines_run_on_the_shipped_station_and_a_table_tells_what_they_found(
    three: tuple[Toy, ...], run_here: Run, tmp_path: Path
) -> None:
    result = run_here("calibrate")
    assert result.returncode == 0
    for expected in (
        "Calibration of lab",
        "base_v",
        "1.000 ± 0.010 V",
        "applicable",
        "it was late",
    ):
        assert expected in result.stdout
    assert [record.routine for record in Store(tmp_path / "labctl-calibration").records()] == [
        "base",
        "middle",
        "alone",
    ]
    assert "· middle: a toy" in result.stderr


def test_one_object_tells_records_states_and_store(
    three: tuple[Toy, ...], run_here: Run, demo_station: Path
) -> None:
    found = objects(
        run_here("calibrate", str(demo_station), "middle", "--calibrations", "s", "--json")
    )
    assert found.keys() == {"station", "store", "records", "states", "report"}
    assert (found["station"], found["store"], found["report"]) == (str(demo_station), "s", None)
    assert [record["routine"] for record in found["records"]] == ["base", "middle"]
    assert {name: each["state"] for name, each in found["states"].items()} == {
        "base": "applicable",
        "middle": "applicable",
        "alone": "missing",
    }
    assert found["records"][1]["used"] == {"base": found["records"][0]["id"]}
    assert found["records"][1]["state"] == "applicable"


def test_stale_measures_only_what_does_not_apply(
    three: tuple[Toy, ...], run_here: Run, demo_station: Path
) -> None:
    station = str(demo_station)
    assert measured(run_here("calibrate", station, "base", "--json")) == ["base"]
    assert measured(run_here("calibrate", station, "--only-stale", "--json")) == ["middle", "alone"]
    assert measured(run_here("calibrate", station, "--only-stale", "--json")) == []
    assert "nothing to do" in run_here("calibrate", station, "--only-stale").stdout
    assert measured(run_here("calibrate", station, "--json")) == ["base", "middle", "alone"]


def test_a_report_of_all_that_is_known_can_be_written(
    three: tuple[Toy, ...], run_here: Run, demo_station: Path, tmp_path: Path
) -> None:
    run_here("calibrate", str(demo_station), "base")
    expected = run_here("calibrate", str(demo_station), "alone", "--report", "all.html", "--json")
    found = objects(expected)
    assert found["report"] == "all.html"
    text = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.count("data:image/png;base64") == 2
    assert "middle" in text


def test_a_failure_is_one_line_and_says_what_is_kept(
    three: tuple[Toy, ...], run_here: Run, tmp_path: Path
) -> None:
    three[1].act = fail
    result = run_here("calibrate", "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == (
        "error: no light: is the fibre connected? (in middle, of which nothing was kept) "
        "(records of base are kept; --only-stale continues from there)"
    )
    assert [record.routine for record in Store(tmp_path / "labctl-calibration").records()] == [
        "base"
    ]
    three[1].act = lambda bench: None
    assert measured(run_here("calibrate", "--only-stale", "--json")) == ["middle", "alone"]


def test_ctrl_c_keeps_what_was_measured_and_leaves_the_laser_off(
    three: tuple[Toy, ...], run_here: Run, tmp_path: Path
) -> None:
    from labctl.instruments.lasers.purephotonics_ppcl550 import PurePhotonicsPPCL550

    left_safe: list[str] = []
    original = PurePhotonicsPPCL550.safe_state

    def safe_state(laser: PurePhotonicsPPCL550) -> None:
        original(laser)
        left_safe.append(laser.name)

    def interrupt(bench: CalibrationBench) -> None:
        bench.light_on()
        signal.raise_signal(signal.SIGINT)

    three[1].act = interrupt
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PurePhotonicsPPCL550, "safe_state", safe_state)
        result = run_here("calibrate")
    assert (result.returncode, result.stdout) == (130, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("interrupted (in middle, of which nothing was kept) (records of base ")
    assert "not left safe" not in last
    assert left_safe == ["server_laser"]
    assert len(Store(tmp_path / "labctl-calibration").records()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["FILE", "nope"], "routine = 'nope': must be one of base, middle, alone"),
        (["base"], "STATION = 'base': must be a station file; routines come after it"),
        (["missing.toml"], "missing.toml"),
        (["FILE", "--effort", "0"], "effort = 0.0"),
        (["FILE", "--effort", "nan"], "effort = nan"),
        (["FILE", "--effort", "inf"], "effort = inf"),
        (["FILE", "--seed", "-1"], "seed = -1"),
        (["FILE", "--report", "gone/all.html"], "gone/all.html"),
        (["FILE", "--report", "all.pdf"], ".html"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    arguments: list[str],
    expected: str,
    three: tuple[Toy, ...],
    refused: Callable[..., str],
    demo_station: Path,
    tmp_path: Path,
) -> None:
    given = [str(demo_station) if each == "FILE" else each for each in arguments]
    assert expected in refused("calibrate", *given)
    assert not (tmp_path / "labctl-calibration").exists()


def test_a_damaged_store_is_refused_and_nothing_is_added(
    three: tuple[Toy, ...], refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    path = tmp_path / "s" / "records.jsonl"
    path.write_text("{}\n")
    line = refused("calibrate", "--calibrations", "s", code=1)
    assert "records.jsonl:1: not a calibration record" in line
    assert path.read_text() == "{}\n"


def test_a_store_that_is_a_file_is_refused(
    three: tuple[Toy, ...], refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "s").write_text("")
    assert "no folder" in refused("calibrate", "--calibrations", "s", code=1)


def test_half_wave_voltages_are_measured_by_a_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "labctl", "calibrate"]
    result = subprocess.run(
        [*command, str(shipped_station_path()), HalfWaveVoltage.name, "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    (record,) = objects(result)["records"]
    # 0.5 mV are four standard uncertainties, seed 0.
    for row in record["quantities"].values():
        assert row["value"] == pytest.approx(3.5, abs=5e-4)
