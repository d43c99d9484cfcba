"""`labctl calibration` lists, shows, plots and reports records, and says what they are worth."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from labctl.calibration.calibrator import utc_now
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import Record
from labctl.calibration.routine import Condition, Outcome
from labctl.calibration.store import About, Store
from labctl.data import shipped_station_path

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]
ROUTINE = "half_wave_voltage"
LASER = "Pure Photonics PPCL550 CRTN0001"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "labctl-calibration")


def _draw(figure: Figure) -> None:
    figure.subplots().plot([0.0, 1.0])


def keep(
    store: Store,
    *,
    age_s: float = 60.0,
    station: str = "demo",
    used: Mapping[str, str] | None = None,
) -> Record:
    about = About(ROUTINE, station, {"server.laser": LASER}, {"f_hz": 1.9e14}, 3600.0, used or {})
    measured = Outcome(
        {Name("server.v_pi_i_v"): Quantity.of(3.5, "V", {"meter": 0.03, "noise": 0.04})},
        {"x": np.arange(3.0)},
        _draw,
        {"room_c": Condition(21.0, 2.0, "degC")},
        ("it was late",),
    )
    return store.append(about, measured, utc_now() - timedelta(seconds=age_s))


def objects(result: Result) -> dict[str, Any]:
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    return dict(json.loads(result.stdout))


def test_no_records_are_no_error(run_here: Run) -> None:
    assert "labctl calibrate makes them" in run_here("calibration", "list").stdout
    assert objects(run_here("calibration", "list", "--json"))["records"] == []


def test_records_are_listed_with_age_and_state(store: Store, run_here: Run) -> None:
    old, new = keep(store, age_s=7200.0), keep(store, age_s=120.0)
    text = run_here("calibration", "list").stdout
    for expected in (old.id[:8], new.id[:8], "2.0 h", "expired", "applicable"):
        assert expected in text
    # A busy machine may take some seconds from the record to the list.
    assert re.search(r"2\.\d min", text)
    found = objects(run_here("calibration", "list", "--json"))
    assert found["judged_by_station"] is False
    assert [(each["id"], each["state"]) for each in found["records"]] == [
        (old.id, "expired"),
        (new.id, "applicable"),
    ]
    assert f"{new.id[:8]} is in its place" in found["records"][0]["reason"]


def test_a_record_whose_foundation_is_missing_is_uncertain(store: Store, run_here: Run) -> None:
    keep(store, used={"base": "0123456789abcdef"})
    (record,) = objects(run_here("calibration", "list", "--json"))["records"]
    assert record["state"] == "uncertain"
    assert "not in the store" in record["reason"]


def test_with_a_station_file_what_stands_there_is_judged_too(
    store: Store, run_here: Run, demo_station: Path
) -> None:
    keep(store)
    keep(store, station="other")
    found = objects(run_here("calibration", "list", "--station", str(demo_station), "--json"))
    assert found["judged_by_station"] is True
    (record,) = found["records"]
    assert (record["station"], record["state"]) == ("demo", "mismatch")
    assert "server.bias_i was nothing, is Thorlabs MX10B" in record["reason"]


def test_what_a_station_lacks_is_listed_as_missing(run_here: Run, demo_station: Path) -> None:
    expected = run_here("calibration", "list", "--station", str(demo_station), "--json")
    assert ROUTINE in objects(expected)["missing"]
    text = run_here("calibration", "list", "--station", str(demo_station)).stdout
    assert "missing" in text


def test_a_record_is_shown_with_all_it_says(store: Store, run_here: Run) -> None:
    base = keep(store)
    record = keep(store, used={ROUTINE: base.id})
    text = " ".join(run_here("calibration", "show", record.id[:9]).stdout.split())
    for expected in (
        record.id,
        "3.500 ± 0.050 V",
        "3.500 ± 0.098",
        "noise",
        "0.04 V",
        "0.03 V",
        LASER,
        "f_hz",
        "21 degC, tolerated ± 2",
        "it was late",
        base.id,
        "applicable",
    ):
        assert expected in text, expected
    found = objects(run_here("calibration", "show", record.id, "--json"))
    assert found["state"] == "applicable"
    row = found["quantities"]["server.v_pi_i_v"]
    assert row["budget"] == {"meter": 0.03, "noise": 0.04}
    assert datetime.fromisoformat(found["taken_at"]).tzinfo is not None
    assert found["used"] == {ROUTINE: base.id}


def test_a_figure_is_copied_and_its_path_printed(
    store: Store, run_here: Run, tmp_path: Path
) -> None:
    record = keep(store)
    content = store.figure(record).read_bytes()
    name = f"{ROUTINE}-{record.id}.png"
    assert run_here("calibration", "plot", record.id).stdout == f"{name}\n"
    assert (tmp_path / name).read_bytes() == content
    expected = run_here("calibration", "plot", record.id, "--out", "fit.png", "--json")
    assert objects(expected) == {"figure": "fit.png"}
    assert (tmp_path / "fit.png").read_bytes() == content


def test_a_report_is_written_and_its_path_printed(
    store: Store, run_here: Run, tmp_path: Path, demo_station: Path
) -> None:
    keep(store)
    keep(store, station="other")
    assert run_here("calibration", "report").stdout == "calibration.html\n"
    text = (tmp_path / "calibration.html").read_text(encoding="utf-8")
    assert "station demo, other" in text
    assert text.count("data:image/png;base64") == 2
    options = ("--station", str(demo_station), "--out", "demo.html", "--json")
    assert objects(run_here("calibration", "report", *options)) == {"report": "demo.html"}
    text = (tmp_path / "demo.html").read_text(encoding="utf-8")
    assert re.search("class=.state mismatch.", text)
    assert not list(tmp_path.glob(".*.new"))


@pytest.mark.parametrize(
    ("arguments", "expected", "code"),
    [
        (["show", "zz"], "no record 'zz'", 1),
        (["show", ""], "no record ''", 1),
        (["plot", "zz"], "no record 'zz'", 1),
        (["plot", "ID", "--out", "fit.pdf"], ".png", 2),
        (["plot", "ID", "--out", "gone/fit.png"], "a folder that exists", 2),
        (["report", "--out", "all.pdf"], ".html", 2),
        (["report", "--calibrations", "gone"], "no records to report in gone", 1),
        (["list", "--station", "gone.toml"], "gone.toml", 2),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], expected: str, code: int, store: Store, refused: Callable[..., str]
) -> None:
    record = keep(store)
    given = [record.id if each == "ID" else each for each in arguments]
    assert expected in refused("calibration", *given, code=code)


def test_a_line_that_was_cut_short_is_said(store: Store, run_here: Run) -> None:
    keep(store)
    path = store.folder / "records.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id": "01')
    result = run_here("calibration", "list", "--json")
    assert len(json.loads(result.stdout)["records"]) == 1
    assert "jsonl:2: cut short" in "".join(result.stderr.split("\n"))


def test_a_figure_that_is_gone_is_said(store: Store, refused: Callable[..., str]) -> None:
    record = keep(store)
    shutil.rmtree(store.folder / "figures")
    assert "its figure is gone" in refused("calibration", "plot", record.id, code=1)


def test_times_are_told_in_utc(store: Store, run_here: Run) -> None:
    record = keep(store)
    stamp = f"{record.taken_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    assert stamp in run_here("calibration", "show", record.id).stdout


COVERAGE = ("calibration", "coverage", "half_wave_voltage", "--benches", "2", "--processes", "1")


def test_coverage_is_counted_on_drawn_benches(tmp_path: Path, run_here: Run) -> None:
    table = tmp_path / "table.md"
    expected = objects(run_here(*COVERAGE, "--first-seed", "7", "--out", "table.md", "--json"))
    assert (expected["benches"], expected["first_seed"], expected["effort"]) == (2, 7, 0.05)
    assert expected["table"] == "table.md"
    assert [row["name"] for row in expected["quantities"]] == ["server.v_pi_i_v", "server.v_pi_q_v"]
    for row in expected["quantities"]:
        assert row["cases"] == 2
        assert row["in_band"] == (0.9 <= row["share"] <= 0.98)
        assert abs(row["mean_pull"]) <= row["rms_pull"] < 5.0
    assert (expected["unjudged"], expected["refused"]) == ({}, [])
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[0] == (
        "`labctl calibration coverage half_wave_voltage --benches 2 --first-seed 7 --effort 0.05`"
    )
    assert [line.split(" | ")[1] for line in lines if "server." in line] == [
        "server.v_pi_i_v",
        "server.v_pi_q_v",
    ]


def test_coverage_of_another_bench_is_a_table_and_tells_refusals(
    tmp_path: Path, run_here: Run
) -> None:
    shipped = shipped_station_path().parent / "lab_bench.toml"
    text = shipped.read_text(encoding="utf-8")
    dark = text.replace("signal_fraction = 0.1", "signal_fraction = 1e-9")
    (tmp_path / "dark.toml").write_text(dark, encoding="utf-8")
    result = run_here(*COVERAGE, "--bench", "dark.toml")
    assert result.returncode == 0
    assert "Coverage on 2 benches" in result.stdout
    assert "Refused" in result.stdout
    assert "2: child I: power moves" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("colour",), "routine"),
        (("--effort", "0"), "--effort"),
        (("--benches", "0"), "--benches"),
        (("--processes", "0"), "--processes"),
        (("--bench", "none.toml"), "none.toml"),
        (("--out", "table.txt"), "ends in .md"),
        (("--out", "none/table.md"), "folder that exists"),
    ],
)
def test_coverage_refuses_what_cannot_be(
    run_here: Run, is_refusal: Callable[..., str], options: tuple[str, ...], complaint: str
) -> None:
    assert complaint in is_refusal(run_here("calibration", "coverage", *options))
