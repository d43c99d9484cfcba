"""What of a calibration one of two sites can do by itself, by the roles in its station file."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.calibration.catalogue import SERVERS_OWN
from labctl.calibration.routine import Routine
from labctl.cli import output
from labctl.errors import UsageError
from labctl.station import Station
from labctl.station.equipment import Equipment, equipment_of, server_site_of


def own_routines(
    station: Station, routines: tuple[Routine, ...], asked: Sequence[str] = ()
) -> tuple[Routine, ...]:
    """Return those of all routines that a station's site runs; says which others there are.

    asked: by name. Raises UsageError where these, or all, need light of both sites.
    """
    parties = [name for name in ("server", "client") if name in station.table.model_fields_set]
    if len(parties) != 1:
        return routines
    own = SERVERS_OWN if parties == ["server"] else ()
    joint = ", ".join(each.name for each in routines if each.name not in own)
    about = f"need light of both sites, and {station.path} has [{parties[0]}] alone"
    if not own or any(name not in own for name in asked):
        raise UsageError(
            f"{joint} {about}. It runs by itself: {', '.join(own) or 'none'}. Calibrate both sites "
            "with one station file before they part: docs/two-sites.md"
        )
    output.say_step(f"left out, for they {about}: {joint}")
    return tuple(each for each in routines if each.name in own)


def site_of(station: Station) -> Equipment:
    """Return an opened station's instruments by role, of the server's site alone if it is one."""
    both = "client" in station.table.model_fields_set
    return equipment_of(station) if both else server_site_of(station)
