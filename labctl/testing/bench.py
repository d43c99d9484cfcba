"""A simulated bench for one test: no other test has seen it, and its noise starts at its seed."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from labctl.clock import Clock
from labctl.instruments.simulated.faults.plan import FaultyBench
from labctl.instruments.transports.visa_link import close_library, resource_manager
from labctl.station import Station
from labctl.station.file import SIMULATED, read_station_file

_Instrument = TypeVar("_Instrument")

# The first table of a TOML file ends its top-level keys, of which `seed` is one that every bench
# file has.
_SEED = re.compile(r"^(\s*seed\s*=\s*)[0-9_]+", re.MULTILINE)


class Bench:
    """A copy of a bench file, with a seed, and the simulated world that it describes.

    `path` is the copy, `library` the VISA library string for drivers, PyVISA and station files,
    `seed` what all its noise is drawn from. The world begins when it is first used and ends with
    `close`. Raises StationFileError when it is first used if the file is wrong.
    """

    def __init__(self, source: str | Path, folder: Path, seed: int | None = None) -> None:
        """Copy the bench file `source` into `folder`, with its own seed unless one is given."""
        text = Path(source).read_text(encoding="utf-8-sig")
        if seed is not None:
            text = _SEED.sub(rf"\g<1>{seed}", text, count=1)
        found = _SEED.search(text)
        self.seed = int(found[0].rpartition("=")[2]) if found else None
        self.path = folder / Path(source).name
        self.path.write_text(text, encoding="utf-8")
        self.library = f"{self.path}{SIMULATED}"
        self._opened = ExitStack()
        self._faults: FaultyBench | None = None

    @property
    def world(self) -> Any:
        """The bench itself, its front panels and its physics: what no message shows."""
        return self._library().world

    @property
    def clock(self) -> Clock:
        """The bench's time, which passes as its instruments work and when one sleeps on it."""
        clock: Clock = self._library().clock
        return clock

    def open(
        self,
        driver: type[_Instrument],
        address: str,
        *,
        name: str = "dut",
        options: Mapping[str, object] | None = None,
    ) -> _Instrument:
        """Open a driver at an address of the bench; it is left safe and closed with the bench.

        name: the instrument's name in messages; options: the driver's own. Raises SettingError or
        ConnectionFailedError.
        """
        kind: Any = driver
        opened: Any = kind.open(name, address, library=self.library, options=dict(options or {}))
        self._opened.callback(opened.close)
        self._opened.callback(opened.safe_state)
        found: _Instrument = opened
        return found

    def station(self, path: str | Path) -> Station:
        """Open a station file, all its instruments on this bench; left safe with the bench.

        Raises StationFileError or InstrumentError.
        """
        path = Path(path)
        table = read_station_file(path)
        instruments = {
            name: each.model_copy(update={"library": None})
            for name, each in table.instruments.items()
        }
        here = {"library": self.library, "instruments": instruments, "record": None}
        station = Station(path, table.model_copy(update=here)).open()
        self._opened.callback(station.close)
        return station

    @property
    def faults(self) -> FaultyBench:
        """What can be broken on this bench: wires, instruments and light.

        Ask for it before a session is opened: sessions that are open keep their whole wires.
        """
        if self._faults is None:
            self._faults = FaultyBench(self.world)
        return self._faults

    def close(self) -> None:
        """Leave safe and close all that was opened here, and end the world."""
        try:
            self._opened.close()
        finally:
            close_library(self.library)

    def _library(self) -> Any:
        return resource_manager(self.library).visalib


def close_idle_benches() -> None:
    """End each simulated world in this process to which no session is open.

    Within a process a bench continues between openings, as a real one does: who opens it next finds
    its settings, its time and its noise where they were. After this it begins again.
    """
    backend: Any = sys.modules.get("labctl.instruments.simulated.visa_backend")
    if backend is None:
        return
    from pyvisa import highlevel

    for library in list(highlevel.VisaLibraryBase._registry.values()):
        idle = isinstance(library, backend.LabctlVisaLibrary) and not library.in_use
        if idle and library.resource_manager is not None:
            library.resource_manager.close()
