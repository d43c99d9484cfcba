"""Many drawn benches, in several processes; the same outcome with any number of them.

Each bench depends on its seed alone, and results are handed back in the order of seeds.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event

from labctl.studies.coverage.benches import BenchResult, Setup, calibrated

# How long a wait for benches may keep an interruption from being noticed.
_PATIENCE_S = 0.5
# In a worker process, what its parent ends it by.
_stops: list[Event] = []


def run(
    setup: Setup,
    seeds: Sequence[int],
    processes: int,
    *,
    check: Callable[[], None] = lambda: None,
    on_bench: Callable[[BenchResult], None] = lambda result: None,
) -> list[BenchResult]:
    """Return what came of the bench of each seed, in the order of seeds.

    `check` is called often and may raise to end it all; benches under way are left safe first.
    `on_bench` is called with each bench as it is done, in any order.
    """
    if processes == 1 or len(seeds) < 2:
        return [_alone(setup, seed, check, on_bench) for seed in seeds]
    with _pool(min(processes, len(seeds))) as pool:
        waiting = {pool.submit(_of_seed, setup, seed) for seed in seeds}
        found = {each.seed: each for each in _as_done(waiting, check, on_bench)}
    return [found[seed] for seed in seeds]


def _alone(
    setup: Setup,
    seed: int,
    check: Callable[[], None],
    on_bench: Callable[[BenchResult], None],
) -> BenchResult:
    result = calibrated(setup, seed, lambda step: check())
    on_bench(result)
    return result


def _as_done(
    waiting: set[Future[BenchResult]],
    check: Callable[[], None],
    on_bench: Callable[[BenchResult], None],
) -> Iterator[BenchResult]:
    while waiting:
        done, waiting = wait(waiting, timeout=_PATIENCE_S, return_when=FIRST_COMPLETED)
        check()
        for each in done:
            result = each.result()
            on_bench(result)
            yield result


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield worker processes; the end of the block, also by an error, ends their benches."""
    context = get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(processes, context, _begin, (stop,))
    try:
        yield pool
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(stop: Event) -> None:
    """Leave interruptions to the parent process, which the worker sees by `stop`."""
    _stops.append(stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _of_seed(setup: Setup, seed: int) -> BenchResult:
    return calibrated(setup, seed, _heed)


def _heed(step: str) -> None:
    if any(stop.is_set() for stop in _stops):
        raise KeyboardInterrupt
