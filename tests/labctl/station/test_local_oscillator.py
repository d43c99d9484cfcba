"""The client's own laser in a station file: its role, its limits, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_laser import own_laser_station

from labctl.errors import LimitError, StationFileError
from labctl.station import Station
from labctl.station.equipment import client_equipment_of, require_roles
from labctl.station.file import read_station_file
from labctl.units import wavelength_to_frequency_hz


def changed(folder: Path, old: str, new: str) -> Path:
    path = own_laser_station(folder)
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_it_is_a_role_with_an_instrument(tmp_path: Path) -> None:
    table = read_station_file(own_laser_station(tmp_path))
    assert dict(table.roles())["client.local_oscillator"] == "client_laser"


def test_its_laser_is_opened_with_what_is_known_of_it(tmp_path: Path) -> None:
    with Station.read(own_laser_station(tmp_path, linewidth_hz=300.0)) as station:
        client = client_equipment_of(station)
        own = client.local_oscillator
        assert own is not None
        assert not own.laser.emission()
        assert own.linewidth_hz == 300.0
        assert own.power_w == pytest.approx(0.02, rel=0.01)
        assert own.signal_frequency_hz == pytest.approx(wavelength_to_frequency_hz(1550e-9))
        assert client.constants.efficiency == station.table.client.constants.efficiency / 2.0


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('instrument = "client_laser"', 'instrument = "no_laser"', "no_laser"),
        ("beat_hz = 34e6\n", "beat_hz = 80e6\n", "at most highest_beat_hz"),
        ("beat_hz = 34e6\n", "", "beat_hz"),
        ("signal_linewidth_hz = 100.0", "signal_linewidth_hz = -1.0", "signal_linewidth_hz"),
        ("wavelength_nm = 1550.0\nlinewidth", "wavelength_nm = 155.0\nlinewidth", "wavelength_nm"),
    ],
)
def test_what_is_no_local_oscillator_is_refused(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    with pytest.raises(StationFileError, match=told):
        read_station_file(changed(tmp_path, old, new))


def test_an_instrument_that_is_no_tunable_laser_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, 'instrument = "client_laser"', 'instrument = "monitor"')
    with pytest.raises(StationFileError, match=r"client\.local_oscillator.*TunableLaser"):
        require_roles(Station.read(path))


def test_light_beyond_the_files_own_limits_is_refused_before_it_is_lit(tmp_path: Path) -> None:
    path = changed(tmp_path, "power_dbm = 13.0\nwave", "power_dbm = 15.0\nwave")
    with pytest.raises(StationFileError, match=r"demo\.toml:123: client_laser: power_w"):
        require_roles(Station.read(path))
    with Station.read(path) as station, pytest.raises((LimitError, StationFileError)):
        client_equipment_of(station)
