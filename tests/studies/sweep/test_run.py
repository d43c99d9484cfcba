"""Running: nothing is done twice, failures are tried again, other code is not mixed in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import LabctlError, UsageError
from labctl.studies.sweep import run as running
from labctl.studies.sweep.point import PointOutcome, evaluate
from labctl.studies.sweep.results_file import read_results
from labctl.studies.sweep.run import estimate_s, plan, run_sweep
from labctl.studies.sweep.sweep_file import Sweep
from labctl.studies.sweep.workers import Workers, here

Read = Callable[[str], Sweep]
COINS = 'name = "coins"\ntask = "coin"\nrepeats = 2\n[axes]\nweight = {weights}\n'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results" / "r.jsonl"


def test_points_that_are_done_are_not_run_again(
    swept: Read, coin: Any, run_all: Callable[..., Any], out: Path
) -> None:
    first = run_all(swept(COINS.format(weights=[1.0, 2.0])), out)
    assert coin.ran == [1.0, 1.0, 2.0, 2.0]
    wider = run_all(swept(COINS.format(weights=[3.0, 1.0, 2.0])), out)
    assert coin.ran[4:] == [3.0, 3.0]
    assert first.items() <= wider.items()
    assert run_all(swept(COINS.format(weights=[2.0])), out).items() <= first.items()
    assert len(coin.ran) == 6


def test_a_failure_is_recorded_the_others_go_on_and_it_is_tried_again(
    swept: Read, coin: Any, run_all: Callable[..., Any], out: Path
) -> None:
    sweep = swept(COINS.format(weights=[1.0, 2.0, 3.0]))
    coin.broken.add(2.0)
    run_sweep(sweep, plan(sweep, out).remaining, out, here)
    found = plan(sweep, out)
    assert (found.done, found.failed, len(found.remaining)) == (4, 2, 2)
    coin.broken.clear()
    assert len(run_all(sweep, out)) == 6
    assert coin.ran == [1.0, 1.0, 3.0, 3.0, 2.0, 2.0]


def test_points_of_other_code_are_kept_only_if_told(
    swept: Read, coin: Any, monkeypatch: pytest.MonkeyPatch, run_all: Callable[..., Any], out: Path
) -> None:
    sweep = swept(COINS.format(weights=[1.0]))
    run_all(sweep, out)
    monkeypatch.setattr(running, "code_version", lambda: "labctl 9")
    with pytest.raises(UsageError, match=r"computed by labctl .*; this is labctl 9: .*--mix-ver"):
        plan(sweep, out)
    assert plan(sweep, out, mix_versions=True).done == 2
    assert plan(swept(COINS.format(weights=[2.0])), out).done == 0


def test_a_file_of_another_sweep_is_refused(
    swept: Read, coin: Any, run_all: Callable[..., Any], out: Path
) -> None:
    run_all(swept(COINS.format(weights=[1.0])), out)
    other = swept(COINS.format(weights=[1.0]).replace('"coins"', '"dice"'))
    with pytest.raises(
        UsageError, match="holds results of sweep 'coins', task coin, not of 'dice'"
    ):
        plan(other, out)


def test_an_estimate_comes_from_what_is_done_or_from_a_trial(
    swept: Read, coin: Any, run_all: Callable[..., Any], out: Path
) -> None:
    sweep = swept(COINS.format(weights=[float(weight) for weight in range(10)]))
    assert 0.0 < estimate_s(sweep, plan(sweep, out), out) < 60.0
    assert 0 < len(coin.ran) < 20
    assert not out.exists()
    run_all(swept(COINS.format(weights=[1.0])), out)
    taken = [record.duration_s for record in read_results(out).records.values()]
    assert estimate_s(sweep, plan(sweep, out), out) == pytest.approx(sum(taken) / 2 * 18)


def test_ctrl_c_here_keeps_what_was_acknowledged(
    swept: Read, coin: Any, run_all: Callable[..., Any], out: Path
) -> None:
    def interrupt(settings: Any) -> None:
        if settings.weight == 2.0 and len(coin.ran) == 2:
            raise KeyboardInterrupt

    coin.act = interrupt
    sweep = swept(COINS.format(weights=[1.0, 2.0]))
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, plan(sweep, out).remaining, out, here)
    assert plan(sweep, out).done == 2
    coin.ran.append(0.0)
    assert len(run_all(sweep, out)) == 4


@contextmanager
def threads(points: int) -> Iterator[Workers]:
    """Evaluate on two threads, so that a test can hold points where it wants them."""
    with ThreadPoolExecutor(2) as pool:
        yield Workers(pool, 4, evaluate)


def test_ctrl_c_finishes_what_runs_and_drops_what_waits(swept: Read, coin: Any, out: Path) -> None:
    go_on, steps = threading.Event(), []

    def hold(settings: Any) -> None:
        if settings.weight > 0.0:
            assert go_on.wait(30.0)

    def interrupt() -> None:
        raise KeyboardInterrupt

    def told(step: str) -> None:
        steps.append(step)
        go_on.set()

    coin.act = hold
    sweep = swept(COINS.format(weights=[float(weight) for weight in range(8)]))
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, plan(sweep, out).remaining, out, threads, on_point=interrupt, on_step=told)
    assert len(steps) == 1
    assert "Ctrl-C again drops them" in steps[0]
    # The interrupt came after the first: at most the other of 0.0 and two that ran are added.
    assert 2 <= plan(sweep, out).done <= 5
    assert max(coin.ran) <= 2.0


class _Lost(Executor):
    """Hands out futures that were cancelled by somebody else."""

    def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_lost_workers_end_the_sweep_and_are_no_ones_failure(
    swept: Read, coin: Any, out: Path
) -> None:
    abandoned = []

    @contextmanager
    def lost(points: int) -> Iterator[Workers]:
        yield Workers(_Lost(), 2, evaluate, abandon=lambda: abandoned.append(points))

    sweep = swept(COINS.format(weights=[1.0]))
    with pytest.raises(LabctlError, match="workers are lost"):
        run_sweep(sweep, plan(sweep, out).remaining, out, lost)
    assert (plan(sweep, out).failed, abandoned) == (0, [2])


class _Broken(Executor):
    """Cannot even start a point, as where a package is missing."""

    def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[PointOutcome] = Future()
        future.set_exception(ModuleNotFoundError("No module named 'labctl'"))
        return future


def test_a_worker_without_the_package_fails_its_points(swept: Read, coin: Any, out: Path) -> None:
    @contextmanager
    def broken(points: int) -> Iterator[Workers]:
        yield Workers(_Broken(), 1, evaluate)

    sweep = swept(COINS.format(weights=[1.0]))
    run_sweep(sweep, plan(sweep, out).remaining, out, broken)
    errors = {record.error for record in read_results(out).records.values()}
    assert errors == {"not evaluated, ModuleNotFoundError: No module named 'labctl'"}
