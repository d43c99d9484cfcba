"""Drawn benches: their own seeds and truths, refusals named, and nothing that processes change."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from labctl.calibration.names import V_PI_V, Name
from labctl.data import shipped_station_path
from labctl.errors import SettingError, StationFileError
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.studies.coverage import modulator_truths, truths
from labctl.studies.coverage.benches import (
    BenchResult,
    Setup,
    calibrated,
    planned,
    setup,
    with_seed,
)
from labctl.studies.coverage.count import counted
from labctl.studies.coverage.run import run
from labctl.studies.coverage.seen import Seen, Truth
from labctl.toml_file import read_toml

FOLDER = shipped_station_path().parent
BENCH, STATION = FOLDER / "lab_bench.toml", FOLDER / "lab.toml"
SEEDS = (1000, 1001, 1002)
UNKNOWN = truths.why_unjudged("server.colour")
QUICK = ("half_wave_voltage", "attenuator")


@pytest.fixture(scope="module")
def quick() -> Setup:
    return setup(BENCH, STATION, QUICK, 0.05)


@pytest.fixture(scope="module")
def results(quick: Setup) -> list[BenchResult]:
    return [calibrated(quick, seed) for seed in SEEDS]


def values(results: list[BenchResult]) -> list[Mapping[str, tuple[float, float | None]]]:
    return [{case.name: (case.quantity.value, case.truth) for case in one.cases} for one in results]


def test_truths_differ_from_bench_to_bench_and_are_found(results: list[BenchResult]) -> None:
    """Three benches: 5 standard uncertainties have a chance of 3e-4 with 21 degrees of freedom."""
    assert [result.seed for result in results] == list(SEEDS)
    for result in results:
        assert {case.name for case in result.cases} == {
            "server.v_pi_i_v",
            "server.v_pi_q_v",
            "server.attenuator_slope",
            "server.launch_over_monitor",
        }
        assert result.refused == {}
        assert all(abs(case.pull) < 5.0 for case in result.cases)
    for name in ("server.v_pi_i_v", "server.attenuator_slope"):
        assert len({each[name][1] for each in values(results)}) == len(SEEDS)


def test_processes_change_nothing(quick: Setup, results: list[BenchResult]) -> None:
    done: list[int] = []
    found = run(quick, SEEDS[:2], 2, on_bench=lambda result: done.append(result.seed))
    assert values(found) == values(results[:2])
    assert sorted(done) == list(SEEDS[:2])


@pytest.mark.long
def test_an_interruption_ends_all_processes(quick: Setup) -> None:
    def asked() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(quick, range(1000, 1100), 2, check=asked)
    assert multiprocessing.active_children() == []


def test_an_interruption_ends_a_run_in_this_process(quick: Setup) -> None:
    steps: list[str] = []

    def asked() -> None:
        steps.append("step")
        if len(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(quick, SEEDS, 1, check=asked)
    assert len(steps) == 2


def test_a_wrong_truth_shows(quick: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 % more than V_pi is 300 standard uncertainties; 0 of 3 exclude 90 % (70.8 % at most)."""
    true = modulator_truths.half_wave_voltage_v

    def off(seen: Seen, name: Name) -> float:
        return 1.01 * true(seen, name)

    wrong: dict[truths.Kind, Truth] = {V_PI_V: off}
    monkeypatch.setattr(truths, "TRUTHS", {**truths.TRUTHS, **wrong})
    found = counted([calibrated(quick, seed) for seed in SEEDS])
    verdicts = {row.name: row.verdict for row in found.rows}
    assert verdicts["server.v_pi_i_v"] == verdicts["server.v_pi_q_v"] == "no"
    assert verdicts["server.attenuator_slope"] != "no"


def test_a_refusal_is_told_and_so_is_what_needed_it(quick: Setup) -> None:
    dark = quick.bench.replace("signal_fraction = 0.1 ", "signal_fraction = 1e-9 ")
    assert dark != quick.bench
    result = calibrated(
        Setup(dark, quick.station, planned(["linearisation", "lo_phase"]), 0.05), 1000
    )
    assert result.cases == ()
    assert "is the laser on" in result.refused["half_wave_voltage"]
    assert result.refused["linearisation"] == "needs half_wave_voltage, which was refused"
    assert "no preamble" in result.refused["lo_phase"]
    (first, *_) = counted([result, result]).refusals
    assert (first.routine, first.benches) == ("half_wave_voltage", 2)


@pytest.mark.long
def test_every_catalogued_quantity_has_a_truth_or_a_reason() -> None:
    """One bench, all routines; none is refused."""
    result = calibrated(setup(BENCH, STATION, (), 0.02), 1003)
    assert result.refused == {}
    assert len({case.routine for case in result.cases}) == len(planned(()))
    named = {case.name for case in result.cases}
    without = {case.name for case in result.cases if case.truth is None}
    assert [name for name in without if truths.why_unjudged(name) == UNKNOWN] == []
    both = {name for name in named - without if truths.why_unjudged(name) != UNKNOWN}
    assert both == set()
    # 1 in 10^6 by chance for a single Gaussian, and 3 degrees of freedom have wide tails.
    assert [case.name for case in result.cases if abs(case.pull) > 12.0] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed = 3 # drawn\n[a]\nseed = 4\n", "seed = 7 # drawn\n[a]\nseed = 4\n"),
        ("grid_hz = 1.0\n[a]\nseed = 4\n", "seed = 7 \ngrid_hz = 1.0\n[a]\nseed = 4\n"),
        ("seed = 3", "seed = 7 "),
    ],
)
def test_the_seed_of_the_top_level_is_replaced(text: str, expected: str) -> None:
    assert with_seed(text, 7) == expected


def test_nothing_but_the_seed_changes(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(with_seed(BENCH.read_text(encoding="utf-8"), 5), encoding="utf-8")
    shipped, changed = read_toml(BENCH, BenchFile), read_toml(path, BenchFile)
    assert changed == shipped.model_copy(update={"seed": 5})


def test_routines_come_with_what_they_need() -> None:
    assert planned(["linearisation"]) == ("half_wave_voltage", "linearisation")
    assert planned(["linearisation", "half_wave_voltage"]) == planned(["linearisation"])
    with pytest.raises(SettingError, match="one of electronics"):
        planned(["colour"])


def test_a_bad_file_or_effort_is_refused_at_once(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("colour = 1\n")
    with pytest.raises(StationFileError, match="colour"):
        setup(bad, STATION, QUICK, 0.05)
    with pytest.raises(StationFileError):
        setup(tmp_path / "none.toml", STATION, QUICK, 0.05)
    for effort in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(SettingError, match="effort"):
            setup(BENCH, STATION, QUICK, effort)


def test_temporary_folders_are_gone(
    quick: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    calibrated(quick, 1000)
    assert list(tmp_path.iterdir()) == []


def test_a_defect_is_no_refusal_and_names_its_bench(
    quick: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(seen: Seen, name: Name) -> float:
        raise ZeroDivisionError(name)

    monkeypatch.setattr(truths, "TRUTHS", {V_PI_V: broken})
    with pytest.raises(ZeroDivisionError) as caught:
        calibrated(quick, 1000)
    assert caught.value.__notes__[-1] == "on the bench of seed 1000"


def test_a_station_of_another_library_stands_on_the_drawn_bench(quick: Setup) -> None:
    elsewhere = quick.station.replace("lab_bench.toml@labctl", "@py")
    assert elsewhere != quick.station
    result = calibrated(Setup(quick.bench, elsewhere, ("half_wave_voltage",), 0.05), 1000)
    assert {case.name for case in result.cases} == {"server.v_pi_i_v", "server.v_pi_q_v"}
