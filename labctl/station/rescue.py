"""Making a station safe from outside: by separate connections, beside a program that holds it."""

from __future__ import annotations

from functools import partial

from labctl.station.crew import Crew
from labctl.station.file import library_of
from labctl.station.leaving import leaving_of
from labctl.station.station import Station
from labctl.station.teardown import Leaving, Left, leave_safe


def make_safe(station: Station) -> Left:
    """Open each instrument, by hazard and each wire on its own, leave it safe and close it.

    What does not answer is reported and holds up nothing but its own wire. The station must not be
    open in this process.
    """
    crew = Crew()
    leaving = [_to_open(station, name) for name in station.names]
    crew.hire({each.transport for each in leaving})
    try:
        return leave_safe(leaving, crew)
    finally:
        crew.dismiss()


def _to_open(station: Station, name: str) -> Leaving:
    table = station.table.instruments[name]
    leaving = leaving_of(station.table, station.path, name, station.driver(name))
    leaving.open = partial(
        station.driver(name).open,
        name,
        table.address,
        library=library_of(station.table, station.path, name),
        options=table.options,
    )
    return leaving
