"""The instruments' time: a bench's own, the wall's elsewhere, and the same again in a replay."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from labctl.clock import SystemClock
from labctl.data import shipped_bench_path, shipped_station_path
from labctl.instruments.transports.opening import open_clock
from labctl.instruments.transports.visa_link import close_library
from labctl.station import Station
from labctl.station.equipment import equipment_of
from labctl.station.file import library_of


@pytest.fixture(autouse=True)
def _no_tap_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in ("LABCTL_RECORD", "LABCTL_RECORD_BLOCKS", "LABCTL_REPLAY"):
        monkeypatch.delenv(switch, raising=False)


@pytest.fixture
def station_path(tmp_path: Path) -> Path:
    shutil.copy(shipped_bench_path(), tmp_path)
    return Path(shutil.copy(shipped_station_path(), tmp_path))


def readings(path: Path) -> list[float]:
    """Return the times at which a station's laser was asked for its power, an hour apart."""
    times = []
    with Station.read(path) as station:
        equipment = equipment_of(station)
        for _ in range(2):
            times.append(equipment.clock.now_s())
            equipment.server.laser.power_w()
            equipment.clock.sleep(3600.0)
        times.append(equipment.clock.now_s())
    close_library(library_of(station.table, path))
    return times


def test_a_bench_has_its_own_time_which_waiting_lets_pass(station_path: Path) -> None:
    started_s = time.monotonic()
    first, second, third = readings(station_path)
    assert 3600.0 < second - first < 3610.0
    assert 3600.0 < third - second < 3610.0
    assert time.monotonic() - started_s < 1000.0


@pytest.mark.parametrize("by", ["the process", "the station"])
def test_a_replay_reads_the_times_that_were_recorded(
    station_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    record = station_path.with_name("wire.jsonl")
    text = station_path.read_text(encoding="utf-8")
    if by == "the process":
        monkeypatch.setenv("LABCTL_RECORD", str(record))
    else:
        recorded = text.replace("\nlibrary", '\nrecord = "wire.jsonl"\nlibrary', 1)
        station_path.write_text(recorded, encoding="utf-8")
    times = readings(station_path)
    monkeypatch.delenv("LABCTL_RECORD", raising=False)
    monkeypatch.setenv("LABCTL_REPLAY", str(record))
    station_path.write_text(text, encoding="utf-8")
    assert readings(station_path) == times
    assert "LABCTL_REPLAY" in os.environ


def test_instruments_of_other_libraries_go_by_the_wall() -> None:
    assert isinstance(open_clock("no such library"), SystemClock)
