"""Which channels an instrument has, by its driver's options alone: nothing is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from labctl.station.drivers import options_model
from labctl.station.file import InstrumentTable, StationFile
from labctl.toml_file import place


def absent_channel(table: InstrumentTable, driver: type, name: str, channel: int | None) -> str:
    """Return in words that an instrument has no channel of this number; "" if it has, or may have.

    The options' model says which there are by `channel_range()`.
    """
    model = options_model(driver)
    if channel is None or model is None:
        return ""
    try:
        stated = getattr(model.model_validate(table.options), "channel_range", lambda: None)()
    except ValidationError:  # reported as a fault of the options
        return ""
    if stated is None or channel in stated:
        return ""
    return f"{name} has no channel {channel}; valid here: {stated[0]} to {stated[-1]}"


def absent_in_roles(station: StationFile, path: Path, drivers: dict[str, type]) -> Iterator[str]:
    """Yield the channels that roles name and their instruments have not."""
    for role, key, name, channel in station.channels():
        table = station.instruments[name]
        if name in drivers and (absent := absent_channel(table, drivers[name], name, channel)):
            yield f"{place(path, *role.split('.'))}: role {role}: {key} = {channel}: {absent}"
