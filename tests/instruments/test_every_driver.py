"""What every driver owes its callers, from any author: found by entry point, none exempt.

A driver that a shipped station file opens on a simulated bench is checked against its panel too.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from labctl.data import shipped_station_path
from labctl.errors import StationFileError
from labctl.instruments import drivers
from labctl.station.file import SIMULATED, InstrumentTable, library_of, read_station_file
from labctl.testing import Check, driver_checks
from labctl.testing.abilities import CHECKS
from labctl.testing.shape import CAPABILITIES

QUESTIONS = {"oz_optics_dd100": (b"CD", b"D")}
VALUES = {"qontrol_q8iv": {"set_voltages": ((0.5,) * 8, (1.0, 2.0) * 4)}}


@cache
def places() -> dict[str, tuple[Path, InstrumentTable]]:
    """Return for each driver a bench file with its panel, and how a station opens it there."""
    found: dict[str, tuple[Path, InstrumentTable]] = {}
    for path in sorted(shipped_station_path().parent.glob("*.toml")):
        try:
            station = read_station_file(path)
        except StationFileError:
            continue  # a bench file
        for name, table in station.instruments.items():
            bench = Path(library_of(station, path, name).removesuffix(SIMULATED))
            found.setdefault(table.driver, (bench, table))
    return found


def all_checks() -> list[object]:
    found: list[object] = []
    for name in drivers.names():
        if name in places():
            bench, table = places()[name]
            checks = driver_checks(
                name,
                bench=bench,
                address=table.address,
                options=table.options,
                questions=QUESTIONS.get(name, ()),
                values=VALUES.get(name),
            )
        else:
            checks = driver_checks(name)
        found += [pytest.param(check, id=f"{name}-{check.name}") for check in checks]
    return found


@pytest.mark.parametrize("check", all_checks())
def test_a_driver_keeps_what_every_driver_owes(check: Check) -> None:
    check()


def test_every_shipped_driver_is_checked_against_a_panel() -> None:
    shipped = {name for name in drivers.names() if drivers.load(name).__module__[:7] == "labctl."}
    assert shipped
    assert shipped <= set(places())


def test_every_capability_has_its_check() -> None:
    assert set(CAPABILITIES) == set(CHECKS)
