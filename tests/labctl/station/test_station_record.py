"""A station file that asks for a wire record gets one a session, and loses none."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from labctl.data import shipped_bench_path, shipped_station_path
from labctl.errors import RunFileError, StationFileError
from labctl.station import Station


@pytest.fixture(autouse=True)
def _no_tap_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in ("LABCTL_RECORD", "LABCTL_RECORD_BLOCKS", "LABCTL_REPLAY"):
        monkeypatch.delenv(switch, raising=False)


@pytest.fixture
def recorded_station(tmp_path: Path) -> Path:
    shutil.copy(shipped_bench_path(), tmp_path)
    text = shipped_station_path().read_text(encoding="utf-8")
    path = tmp_path / "demo.toml"
    path.write_text(text.replace("\nlibrary", '\nrecord = "wire.jsonl"\nlibrary', 1), "utf-8")
    return path


def instruments_in(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return {json.loads(line)["instrument"] for line in lines}


def test_the_record_holds_all_instruments_from_opening_to_the_safe_state(
    recorded_station: Path,
) -> None:
    with Station.read(recorded_station) as station:
        assert station.record == recorded_station.with_name("wire.jsonl").resolve()
        assert "LABCTL_RECORD" not in os.environ
    assert station.record is not None
    assert instruments_in(station.record) == set(station.table.instruments)
    last = [json.loads(line) for line in station.record.read_text("utf-8").splitlines()]
    assert [entry["event"] for entry in last[-len(station.table.instruments) :]] == ["close"] * len(
        station.table.instruments
    )
    assert ":STOP" in [entry.get("text") for entry in last]


def test_each_session_has_a_record_of_its_own(recorded_station: Path) -> None:
    names = []
    for _ in range(3):
        with Station.read(recorded_station) as station:
            assert station.record is not None
            names.append(station.record.name)
    assert names == ["wire.jsonl", "wire-2.jsonl", "wire-3.jsonl"]


def test_a_record_named_as_a_file_that_is_none_opens_nothing(recorded_station: Path) -> None:
    other = recorded_station.with_name("wire.jsonl")
    other.write_text('{"weights": [1, 2]}\n', "utf-8")
    with pytest.raises(StationFileError, match=r"demo.toml:\d+: record: .*is no wire record"):
        Station.read(recorded_station).open()
    assert other.read_text("utf-8") == '{"weights": [1, 2]}\n'
    assert [path.name for path in recorded_station.parent.glob("*.jsonl")] == ["wire.jsonl"]


def test_no_process_appends_its_record_to_another_kind_of_file(
    recorded_station: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = recorded_station.with_name("notes.txt")
    other.write_text("gain 3\n", "utf-8")
    monkeypatch.setenv("LABCTL_RECORD", str(other))
    with pytest.raises(RunFileError, match="is no wire record"):
        Station.read(recorded_station).open()
    assert other.read_text("utf-8") == "gain 3\n"


def test_a_station_that_asks_for_none_has_none(tmp_path: Path) -> None:
    shutil.copy(shipped_bench_path(), tmp_path)
    with Station.read(Path(shutil.copy(shipped_station_path(), tmp_path))) as station:
        assert station.record is None
    assert list(tmp_path.glob("*.jsonl")) == []


def test_a_process_that_is_recorded_as_a_whole_keeps_its_one_record(
    recorded_station: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = recorded_station.with_name("whole.jsonl")
    monkeypatch.setenv("LABCTL_RECORD", str(whole))
    with Station.read(recorded_station) as station:
        assert station.record is None
    assert instruments_in(whole) == set(station.table.instruments)
    assert not recorded_station.with_name("wire.jsonl").exists()


def test_a_record_that_cannot_be_written_opens_nothing(recorded_station: Path) -> None:
    text = recorded_station.read_text(encoding="utf-8")
    recorded_station.write_text(text.replace("wire.jsonl", "absent/wire.jsonl"), "utf-8")
    with (
        pytest.raises(RunFileError, match=r"absent/wire.jsonl: cannot be written"),
        Station.read(recorded_station),
    ):
        pytest.fail("the station was opened")
    assert "LABCTL_RECORD" not in os.environ


@pytest.mark.parametrize("value", ['""', "5", "true"])
def test_a_record_must_be_a_file_name(recorded_station: Path, value: str) -> None:
    text = recorded_station.read_text(encoding="utf-8")
    recorded_station.write_text(text.replace('"wire.jsonl"', value), "utf-8")
    with pytest.raises(StationFileError, match="record = "):
        Station.read(recorded_station)
