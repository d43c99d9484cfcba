"""Which channels an instrument has, by its driver's options alone: nothing is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from labctl.station.file import (
    InputRole,
    InstrumentTable,
    OutputRole,
    PairRole,
    StationFile,
    split_reference,
)
from labctl.toml_file import place


def absent_channel(table: InstrumentTable, driver: type, name: str, channel: int | None) -> str:
    """Return in words that an instrument has no channel of this number; "" if it has, or may have.

    The options' model says which there are by `channel_range()`.
    """
    model = getattr(driver, "Options", None)
    if channel is None or not (isinstance(model, type) and issubclass(model, BaseModel)):
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
    for role, key, name, channel in _of_roles(station):
        table = station.instruments[name]
        if name in drivers and (absent := absent_channel(table, drivers[name], name, channel)):
            yield f"{place(path, *role.split('.'))}: role {role}: {key} = {channel}: {absent}"


def _of_roles(station: StationFile) -> Iterator[tuple[str, str, str, int | None]]:
    """Yield each role with the key, the instrument and the number of each channel it uses."""
    for party, roles in (("server", station.server), ("client", station.client)):
        if party not in station.model_fields_set:
            continue
        for role in type(roles).model_fields:
            name, used = f"{party}.{role}", getattr(roles, role)
            if isinstance(used, PairRole):
                yield name, "i_channel", used.instrument, used.i_channel
                yield name, "q_channel", used.instrument, used.q_channel
            elif isinstance(used, OutputRole | InputRole):
                yield name, "channel", used.instrument, used.channel
            elif isinstance(used, str):
                yield name, "channel", *split_reference(used)
