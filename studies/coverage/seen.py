"""A bench as a routine has left it, with the parameters that it was drawn with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Name, Party
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import Outcome
from labctl.dsp.layout import FrameLayout
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_light import Receiver
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.bench_truth import BenchTruth


@dataclass(frozen=True)
class Seen:
    """A bench as a routine has left it, the file that it was drawn from, and what was found."""

    world: LinkBench
    table: BenchFile
    bench: CalibrationBench
    outcome: Outcome
    settings: Mapping[str, SettingValue]

    @property
    def truth(self) -> BenchTruth:
        """The drawn parameters."""
        return self.world.truth()

    def found(self, name: Name) -> float:
        """Return a value of this routine, or of one that it rests on."""
        quantities = self.outcome.quantities
        known = quantities if name in quantities else self.bench.knowledge.quantities
        return known[name].value

    def receiver(self, name: Name) -> Receiver:
        """Return the receiver of the party that a quantity is of."""
        return self.world.optics.receivers[party_of(name)]

    def layout(self, rows: int = 1, modes: int = 1) -> FrameLayout:
        """Return a frame of the station's."""
        return self.bench.sender.layout(rows=rows, modes=modes)


Truth = Callable[[Seen, Name], float]


def party_of(name: Name) -> Party:
    """Return the party that a quantity is of."""
    return "client" if name.startswith("client.") else "server"
