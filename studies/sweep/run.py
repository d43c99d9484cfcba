"""Running a sweep: what is not done yet, handed to workers, each result written as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from labctl.errors import LabctlError, UsageError
from labctl.safety import interruptible
from labctl.studies.sweep.code_version import code_version
from labctl.studies.sweep.point import Point, PointOutcome
from labctl.studies.sweep.results_file import ResultsWriter, read_results, require_same_sweep
from labctl.studies.sweep.single_thread import single_threaded
from labctl.studies.sweep.sweep_file import Sweep
from labctl.studies.sweep.workers import OpenWorkers, Workers

# How often an interrupt is looked for while points are computed, in s.
_LOOK_S = 1.0
# Enough to see how long a point takes, spread over the sweep.
_TIMED_POINTS = 5


@dataclass(frozen=True)
class Plan:
    """Which points of a sweep are done, and which there are to run (failed ones again)."""

    done: int
    failed: int
    remaining: tuple[Point, ...]


def plan(sweep: Sweep, path: Path, *, mix_versions: bool = False) -> Plan:
    """Compare a sweep with its results file.

    Raises UsageError if the file is another sweep's, or if points were computed by other code than
    this and `mix_versions` does not allow that.
    """
    held = read_results(path)
    require_same_sweep(path, held, sweep)
    records = held.of(sweep)
    done = {key: record for key, record in records.items() if record.values is not None}
    code = code_version()
    others = {record.code for record in done.values()} - {code}
    if others and not mix_versions:
        raise UsageError(
            f"{path}: holds points computed by {', '.join(sorted(others))}; this is {code}: "
            "choose another --out, or --mix-versions to keep them"
        )
    return Plan(
        done=len(done),
        failed=len(records) - len(done),
        remaining=tuple(point for point in sweep.points if point.key not in done),
    )


def run_sweep(
    sweep: Sweep,
    points: Iterable[Point],
    path: Path,
    open_workers: OpenWorkers,
    *,
    on_point: Callable[[], None] = lambda: None,
    on_step: Callable[[str], None] = lambda step: None,
) -> None:
    """Evaluate points of the sweep and append each to the results file as it comes.

    A point that fails is recorded with its error and the others continue. Ctrl-C hands out no more
    points and waits for those that run; a second one drops them. Raises LabctlError if workers are
    lost, RunFileError if the file cannot be written.
    """
    left = list(points)
    code = code_version()
    with (
        interruptible() as check,
        ResultsWriter.open(path, sweep, code) as writer,
        open_workers(len(left)) as workers,
    ):
        running: dict[Future[PointOutcome], Point] = {}

        def collect(ready: Iterable[Future[PointOutcome]]) -> None:
            for future in ready:
                point = running[future]
                writer.append(point, _outcome(future, point))
                del running[future]
                on_point()

        try:
            waiting = iter(left)
            while True:
                for point in islice(waiting, workers.at_once - len(running)):
                    running[workers.submit(point, code)] = point
                if not running:
                    return
                collect(wait(running, _LOOK_S, FIRST_COMPLETED).done)
                _require_alive(workers)
                check()
        except KeyboardInterrupt:
            _wind_down(workers, running, collect, on_step)
            raise
        except BaseException:
            workers.abandon()
            raise


def _wind_down(
    workers: Workers,
    running: dict[Future[PointOutcome], Point],
    collect: Callable[[Iterable[Future[PointOutcome]]], None],
    on_step: Callable[[str], None],
) -> None:
    """Keep what is done, drop what waits, and wait for the rest unless another is given."""
    try:
        for future in [future for future in running if future.cancel()]:
            del running[future]
        if not all(future.done() for future in running):
            on_step(f"finishing {len(running)} running points; Ctrl-C again drops them")
        while running:
            collect(wait(running, _LOOK_S, FIRST_COMPLETED).done)
            _require_alive(workers)
    except BaseException:
        workers.abandon()
        raise


def _require_alive(workers: Workers) -> None:
    if not workers.alive():
        raise LabctlError("the scheduler is gone; the same command continues from what is done")


def _outcome(future: Future[PointOutcome], point: Point) -> PointOutcome:
    """Return what came of a point; what went wrong on the way to it is the point's failure."""
    try:
        return future.result()
    except (BrokenExecutor, CancelledError) as error:
        raise LabctlError(
            "workers are lost (killed, or out of memory); the same command continues from what is "
            f"done, with fewer --processes if memory is short ({type(error).__name__})"
        ) from error
    except Exception as error:  # of the worker or the way there, such as a missing package
        reason = f"not evaluated, {type(error).__name__}: {error}"
        return PointOutcome(point.key, None, reason, 0.0, "")


def estimate_s(sweep: Sweep, todo: Plan, path: Path) -> float:
    """Return about how long the remaining points take one after another.

    From the points that are done; if there are none, a few are timed at a fraction of their size.
    """
    known = [record.duration_s for record in read_results(path).of(sweep).values() if record.values]
    if known:
        return sum(known) / len(known) * len(todo.remaining)
    step = max(len(todo.remaining) // _TIMED_POINTS, 1)
    with single_threaded():
        timed = [_timed_s(sweep, point) for point in todo.remaining[::step]]
    return sum(timed) / max(len(timed), 1) * len(todo.remaining)


def _timed_s(sweep: Sweep, point: Point) -> float:
    task = sweep.task
    quick, times = task.probe(task.settings.model_validate(dict(point.settings)))
    started = time.perf_counter()
    task.run(quick, point.seed)
    return (time.perf_counter() - started) * times
