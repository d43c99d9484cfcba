"""Stations in one call: a file's, or the simulated ones that are shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from labctl import checks
from labctl.data import shipped_fleet_station_path, shipped_lab_path, shipped_station_path
from labctl.station import Station

_SHIPPED = {
    "demo": shipped_station_path,
    "lab": shipped_lab_path,
    "fleet": shipped_fleet_station_path,
}


def open_station(path: str | Path) -> Station:
    """Open all instruments of a station file and return them by name.

    It is left safe by `close`, by `with`, or when the program ends in any way. Raises
    StationFileError for a wrong file, InstrumentError if an instrument does not answer.
    """
    return Station.read(path).open()


def simulated_station(name: Literal["demo", "lab", "fleet"] = "demo") -> Station:
    """Open a shipped station on its simulated bench.

    "demo": the protocol's twelve instruments, exactly as the file says. "lab": the same, whose
    hardware only calibration can find out. "fleet": one instrument of every kind there is a driver
    for, and no experiment. Raises SettingError for another name.
    """
    checks.one_of("name", name, _SHIPPED)
    return open_station(_SHIPPED[name]())
