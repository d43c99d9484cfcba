"""What a station file says of the way out: each instrument's hazard, wire, budget and shutter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labctl.hazards import Hazard, emits, hazard_of
from labctl.station.file import StationFile, transport_of
from labctl.station.teardown import BUDGET_S, Leaving, Ramp, Shutter


def leaving_of(table: StationFile, path: Path, name: str, driver: type) -> Leaving:
    """Return an instrument as the way out sees it; not open yet."""
    own = table.instruments[name]
    driver_s: float = getattr(driver, "leaving_s", BUDGET_S)
    return Leaving(
        name,
        hazard=Hazard(own.hazard) if own.hazard else hazard_of(driver),
        transport=transport_of(table, path, name),
        address=own.address,
        budget_s=own.budget_s or driver_s,
        shutter=_shutters(table).get(name),
        ramp=None if own.ramp is None else Ramp(tuple(own.ramp.channels), own.ramp.v_per_s),
        emits=emits(driver),
    )


def _shutters(table: StationFile) -> Mapping[str, Shutter]:
    """Return the shutters by the instrument that drives them: by role, or by its own table."""
    found: dict[str, Shutter] = {}
    if "server" in table.model_fields_set:
        role, closed_v = table.server.shutter, table.server.constants.shutter_closed_v
        found[role.instrument] = Shutter(role.channel, closed_v)
    for name, own in table.instruments.items():
        if own.shutter is not None:
            found[name] = Shutter(own.shutter.channel, own.shutter.closed_v)
    return found
