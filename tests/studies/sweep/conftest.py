"""Sweeps to run, and a task that does what its settings say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import SettingError
from labctl.studies.sweep.results_file import read_results
from labctl.studies.sweep.run import plan, run_sweep
from labctl.studies.sweep.sweep_file import Sweep, read_sweep
from labctl.studies.sweep.task import Scalar, Settings
from labctl.studies.sweep.tasks import TASKS
from labctl.studies.sweep.workers import OpenWorkers, here

Values = dict[str, dict[str, Scalar]]


class CoinSettings(Settings):
    """What a coin's toss depends on."""

    weight: float
    side: str = "head"


@dataclass
class CoinTask:
    """A value drawn from the seed; fails at the weights in `broken`, and counts what it ran."""

    broken: set[float] = field(default_factory=set)
    ran: list[float] = field(default_factory=list)
    act: Callable[[CoinSettings], None] = lambda settings: None
    name: str = "coin"
    settings: type[Settings] = CoinSettings
    seeded: bool = True
    values: tuple[str, ...] = ("toss", "toss_standard_error", "fell")
    headline: tuple[str, ...] = ("toss",)

    def resolved(self, settings: Any, folder: Path) -> Any:
        return settings

    def check(self, settings: Any) -> None:
        if settings.weight < 0.0:
            raise SettingError("weight", settings.weight, "0 or more")

    def identity(self, settings: Any) -> dict[str, Scalar]:
        return dict(settings.model_dump())

    def probe(self, settings: Any) -> tuple[Any, float]:
        return settings, 1.0

    def assumptions(self, settings: Any) -> tuple[str, ...]:
        return ("a fair coin",)

    def run(self, settings: Any, seed: int) -> dict[str, Scalar]:
        self.act(settings)
        if settings.weight in self.broken:
            raise ZeroDivisionError("on its edge")
        self.ran.append(settings.weight)
        toss = settings.weight + seed / 2**53
        return {"toss": toss, "toss_standard_error": 0.25, "fell": True}


@pytest.fixture
def coin(monkeypatch: pytest.MonkeyPatch) -> CoinTask:
    """Register a task `coin` in this process."""
    task = CoinTask()
    monkeypatch.setitem(TASKS, "coin", task)
    return task


@pytest.fixture
def swept(tmp_path: Path) -> Callable[[str], Sweep]:
    """Read a sweep file of this text."""

    def read(text: str) -> Sweep:
        path = tmp_path / "sweep.toml"
        path.write_text(text, encoding="utf-8")
        return read_sweep(path)

    return read


@pytest.fixture
def run_all() -> Callable[..., Values]:
    """Run what a sweep's results file lacks; return its values by key."""

    def run(sweep: Sweep, path: Path, workers: OpenWorkers = here) -> Values:
        run_sweep(sweep, plan(sweep, path).remaining, path, workers)
        records = read_results(path).of(sweep)
        assert {record.error for record in records.values()} == {None}
        return {key: dict(record.values or {}) for key, record in records.items()}

    return run
