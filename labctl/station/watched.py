"""Which readings an open station watches: [watch.limits], and what arrives at the client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labctl.station.arriving import CLIENT, KEY, QUANTITY, arriving_within
from labctl.station.file import SIMULATED, StationFile, library_of, split_watched
from labctl.station.limits import Allowed
from labctl.toml_file import place


@dataclass(frozen=True)
class WatchedReading:
    """A reading that is taken, and what `ratio` times it must be within.

    `shown`, `quantity`: the name in messages. `method`: of the instrument or its channel.
    """

    instrument: str
    channel: int | None
    method: str
    allowed: Allowed
    ratio: float
    shown: str
    quantity: str

    @property
    def reference(self) -> str:
        """The instrument, with its channel if it has one, as "meter/2"."""
        return self.instrument if self.channel is None else f"{self.instrument}/{self.channel}"


def watched_readings(table: StationFile, path: Path) -> Iterator[WatchedReading]:
    """Yield what the station file at `path` asks to watch.

    The arrival meter is not read where it is simulated in this process: nothing arrives there that
    could harm, and its readings by the wall's clock would change the noise of each run.
    """
    for key, limit in table.watch.limits.items() if table.watch else ():
        name, channel, quantity = split_watched(key)
        where = place(path, "watch", "limits", key)
        allowed = Allowed(limit.low, limit.high, where, f"watch.limits.{quantity}")
        shown = key.removesuffix(f".{quantity}")
        yield WatchedReading(name, channel, quantity, allowed, limit.ratio, shown, quantity)
    if CLIENT not in table.model_fields_set:
        return
    maximum_w, meter = table.client.maximum_arriving_power_w, table.client.arrival_meter
    if maximum_w is None or meter is None:
        return
    if library_of(table, path, meter.instrument).endswith(SIMULATED):
        return
    yield WatchedReading(
        meter.instrument,
        meter.channel,
        "power_w",
        arriving_within(maximum_w, place(path, CLIENT, KEY)),
        meter.ratio,
        CLIENT,
        QUANTITY,
    )
