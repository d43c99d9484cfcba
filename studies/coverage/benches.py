"""One drawn bench: calibrated over drivers and wire, each interval laid beside its hidden truth.

A separate bench for each seed: a copy of the bench file with that seed, and of the station file
that points to it. Truths are asked for as soon as a routine has ended, for biases drift on.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pyvisa import highlevel

from labctl import checks
from labctl.calibration.calibrator import Calibrator
from labctl.calibration.catalogue import ROUTINES
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import Record
from labctl.calibration.routine import Outcome, Routine
from labctl.calibration.store import About, Store
from labctl.errors import LabctlError, SettingError, StationFileError
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.station import Station
from labctl.station.equipment import equipment_of
from labctl.station.file import StationFile, library_of
from labctl.studies.coverage.seen import Seen
from labctl.studies.coverage.session import SESSION, session_on
from labctl.studies.coverage.truths import truth_of
from labctl.toml_file import ENCODING, read_toml

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BENCH, _STATION = "bench.toml", "station.toml"
_SEED = re.compile(r"^seed\s*=[^\n#]*", re.MULTILINE)
_LIBRARY = re.compile(r"^library\s*=[^\n#]*", re.MULTILINE)


@dataclass(frozen=True)
class Setup:
    """What is calibrated: the bench file's text, the station file's, routines and effort."""

    bench: str
    station: str
    routines: tuple[str, ...]
    effort: float


@dataclass(frozen=True)
class Case:
    """One interval and the truth, None where the bench has none.

    `held`: of a bound, whether it held; its failure probability is 5 % at most.
    """

    routine: str
    name: str
    quantity: Quantity
    truth: float | None
    held: bool | None = None

    @property
    def covered(self) -> bool:
        """Whether the 95 % interval holds the truth; False where there is none."""
        if self.held is not None:
            return self.held
        low, high = self.quantity.interval()
        return self.truth is not None and low <= self.truth <= high

    @property
    def pull(self) -> float:
        """Error over standard uncertainty; 0 where there is no truth or no uncertainty.

        Where the interval is not symmetric, its side towards the truth over k is the uncertainty.
        """
        quantity = self.quantity
        if self.truth is None or quantity.standard_uncertainty == 0.0:
            return 0.0
        error, spread = quantity.value - self.truth, quantity.standard_uncertainty
        if quantity.span is not None:
            low, high = quantity.span
            side = quantity.value - low if error > 0.0 else high - quantity.value
            spread = side / quantity.coverage_factor()
        return error / spread if spread > 0.0 else 0.0


@dataclass(frozen=True)
class BenchResult:
    """What came of one bench: `refused` has the complaint of each routine that found nothing."""

    seed: int
    cases: tuple[Case, ...]
    refused: dict[str, str]


def planned(names: Sequence[str]) -> tuple[str, ...]:
    """Return routines (none: all) with what they need, in order; raises SettingError.

    `session` needs all of them and comes last.
    """
    routines = {routine.name: routine for routine in ROUTINES}
    if SESSION in names:
        return (*routines, SESSION)
    wanted: set[str] = set()
    waiting = list(names or routines)
    while waiting:
        name = waiting.pop()
        if name not in routines:
            valid = f"one of {', '.join(routines)}, or {SESSION}"
            raise SettingError("routine", name, valid)
        wanted.add(name)
        waiting += [need for need in routines[name].needs if need not in wanted]
    return tuple(name for name in routines if name in wanted)


def setup(bench: Path, station: Path, names: Sequence[str], effort: float) -> Setup:
    """Return what to calibrate; raises StationFileError or SettingError before anything runs."""
    read_toml(bench, BenchFile)
    read_toml(station, StationFile)
    checks.above("--effort", effort, 0.0, 1.0)
    texts = [path.read_text(encoding=ENCODING) for path in (bench, station)]
    return Setup(texts[0], texts[1], planned(names), effort)


def with_seed(text: str, seed: int) -> str:
    """Return a bench file's text with another seed."""
    head, table, rest = _before_tables(text)
    line = f"seed = {seed} "
    head = _SEED.sub(line, head, count=1) if _SEED.search(head) else f"{line}\n{head}"
    return head + table + rest


def _with_library(text: str, library: str) -> str:
    head, table, rest = _before_tables(text)
    line = f'library = "{library}" '
    head = _LIBRARY.sub(line, head, count=1) if _LIBRARY.search(head) else f"{line}\n{head}"
    return head + table + rest


def _before_tables(text: str) -> tuple[str, str, str]:
    """Cut a TOML text where its first table begins: before it, the bracket, the rest."""
    begin = re.search(r"^\[", text, re.MULTILINE)
    return (
        text.partition("[") if begin is None else (text[: begin.start()], "[", text[begin.end() :])
    )


def calibrated(
    setup: Setup, seed: int, on_step: Callable[[str], None] = lambda step: None
) -> BenchResult:
    """Calibrate the bench of a seed and return its intervals beside their truths.

    Routines that raise are listed in `refused`, as are those that need one of them. `on_step` is
    called many times on the way; what it raises ends the calibration, instruments safe.
    """
    with tempfile.TemporaryDirectory(prefix="labctl-coverage-") as name:
        folder = Path(name)
        (folder / _BENCH).write_text(with_seed(setup.bench, seed), encoding="utf-8")
        (folder / _STATION).write_text(
            _with_library(setup.station, f"{_BENCH}@labctl"), encoding="utf-8"
        )
        table = read_toml(folder / _BENCH, BenchFile)
        if table.seed != seed:
            raise StationFileError(f"the bench file's seed cannot be replaced by {seed}")
        try:
            with Station.read(folder / _STATION) as station:
                return _Witness(station, folder, table, setup, on_step).run()
        except Exception as error:
            error.add_note(f"on the bench of seed {seed}")
            raise


def _world(station: Station) -> LinkBench:
    library = highlevel.open_visa_library(library_of(station.table, station.path))
    world = getattr(library, "world", None)
    if not isinstance(world, LinkBench):
        raise StationFileError(f"{station.path}: not on a simulated bench in this process")
    return world


class _Judge(Store):
    """Keeps records without raw data and figure, once `judge` has seen their outcome."""

    def __init__(self, folder: Path, judge: Callable[[About, Outcome], None]) -> None:
        super().__init__(folder)
        self._judge = judge

    def append(self, about: About, outcome: Outcome, taken_at: datetime) -> Record:
        """Judge an outcome, and keep what later routines need of it."""
        self._judge(about, outcome)
        return super().append(about, replace(outcome, raw={}, draw=_nothing), taken_at)


def _nothing(figure: Figure) -> None:
    """Leave a figure empty: nobody looks at it."""
    figure.set_size_inches(0.1, 0.1)
    figure.set_layout_engine("none")


@dataclass
class _Witness:
    """Sees a calibration happen, and knows the bench."""

    station: Station
    folder: Path
    table: BenchFile
    setup: Setup
    on_step: Callable[[str], None]
    cases: list[Case] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = [routine for routine in ROUTINES if routine.name in self.setup.routines]
        self.routines: dict[str, Routine] = {routine.name: routine for routine in wanted}
        self.world = _world(self.station)
        self.calibrator = Calibrator(
            self.station,
            equipment_of(self.station),
            _Judge(self.folder / "records", self.judge),
            wanted,
            effort=self.setup.effort,
            seed=self.table.seed,
            on_step=self.on_step,
        )

    def run(self) -> BenchResult:
        """Run all routines, even if others fail."""
        for name, routine in self.routines.items():
            lost = [need for need in routine.needs if need in self.refused]
            if lost:
                self.refused[name] = f"needs {lost[0]}, which was refused"
                continue
            try:
                self.calibrator.run([name])
            except LabctlError as error:
                self.refused[name] = str(error)
        if SESSION in self.setup.routines:
            self.run_session()
        return BenchResult(self.table.seed, tuple(self.cases), dict(self.refused))

    def run_session(self) -> None:
        """Run a session on what was found and lay what it reports beside the truth."""
        try:
            knowledge = self.calibrator.demand(anyway=True)
            nominal = equipment_of(self.station)
            found = session_on(self.world, self.table.seed, nominal, knowledge, self.on_step)
        except LabctlError as error:
            self.refused[SESSION] = str(error)
            return
        for name, (quantity, truth, held) in found.items():
            self.cases.append(Case(SESSION, f"{SESSION}.{name}", quantity, truth, held))

    def judge(self, about: About, outcome: Outcome) -> None:
        """Lay what a routine found beside the truth of this moment."""
        bench = self.calibrator.bench
        seen = Seen(self.world, self.table, bench, outcome, about.settings)
        # A need whose record cannot be shown to apply is measured again: the last one counts.
        self.cases = [case for case in self.cases if case.routine != about.routine]
        for name, quantity in outcome.quantities.items():
            self.cases.append(Case(about.routine, name, quantity, truth_of(name, seen)))
