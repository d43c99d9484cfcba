"""Where points are evaluated: here, in local processes, or on a Dask cluster.

All three are executors of `concurrent.futures`; who runs which point when is theirs to decide.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from labctl import checks
from labctl.errors import SettingError, UsageError
from labctl.safety import ENDING_SIGNALS
from labctl.studies.sweep.point import Point, PointOutcome, evaluate, evaluate_elsewhere
from labctl.studies.sweep.single_thread import single_threaded

# More processors than one machine has; more machines have a scheduler.
MOST_PROCESSES = 256
_QUEUE_PER_WORKER = 2
# The way to a cluster and back takes longer than a short point.
_QUEUE_PER_CLUSTER = 16
_CONNECT_S = 10.0
_WORKERS_S = 60.0
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Workers:
    """An executor, how many points to hand it at once, and whether it still lives.

    `evaluate`: what to hand it. `abandon` gives up what is running.
    """

    executor: Executor
    at_once: int
    evaluate: Callable[[Point, str], PointOutcome]
    alive: Callable[[], bool] = lambda: True
    abandon: Callable[[], None] = lambda: None

    def submit(self, point: Point, code: str) -> Future[PointOutcome]:
        """Hand over a point."""
        return self.executor.submit(self.evaluate, point, code)


@dataclass(frozen=True)
class _Processes(Workers):
    """Local processes, which leave signals to this one, from their first line on."""

    def submit(self, point: Point, code: str) -> Future[PointOutcome]:
        """Hand over a point; a process that begins meanwhile does so with signals held back."""
        with _held_back():
            return super().submit(point, code)


@contextmanager
def _held_back() -> Iterator[None]:
    """Have processes that the block starts begin with signals held back; they wait here too."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


OpenWorkers = Callable[[int], AbstractContextManager[Workers]]


class _Here(Executor):
    """Evaluates at once, in this thread; Ctrl-C goes through."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Return a future that is done."""
        future: Future[_T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def here(points: int) -> Iterator[Workers]:
    """Evaluate in this process, point by point."""
    with single_threaded():
        yield Workers(_Here(), 1, evaluate)


def processes(number: int) -> OpenWorkers:
    """Evaluate in `number` local processes, at most one for each point."""
    checks.within("--processes", number, 1, MOST_PROCESSES)

    @contextmanager
    def opened(points: int) -> Iterator[Workers]:
        count = max(min(number, points), 1)
        others = set(multiprocessing.active_children())
        # Its first lock starts Python's resource tracker, which a closed terminal would end.
        with _held_back():
            spawn = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin_worker)

        def abandon() -> None:
            for child in set(multiprocessing.active_children()) - others:
                child.kill()

        try:
            yield _Processes(pool, _QUEUE_PER_WORKER * count, evaluate_elsewhere, abandon=abandon)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    return opened


def _begin_worker() -> None:
    """Leave signals to the parent, and do not outlive it, not even if it is killed.

    A terminal gives Ctrl-C, and its own end, to all processes at once.
    """
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files for an encrypted way to a cluster: its authority, our certificate and key.

    All three, since the scheduler and we show each other who we are; `key` may be within
    `certificate`. Raises SettingError for a file that is not there.
    """

    authority: Path
    certificate: Path
    key: Path | None = None

    def __post_init__(self) -> None:
        """Check that the files are there."""
        named = {"ca": self.authority, "cert": self.certificate, "key": self.key}
        for name, path in named.items():
            if path is not None and not path.is_file():
                raise SettingError(f"--tls-{name}", str(path), "a PEM file")


def cluster(address: str, tls: TlsFiles | None = None) -> OpenWorkers:
    """Evaluate on the workers of the Dask scheduler at `address`, as tcp://host:8786.

    With `tls`, at tls://host:8786, and nothing is sent unencrypted.

    Raises UsageError when the extra `cluster` is not installed, SettingError when no scheduler
    with workers answers there.
    """
    distributed = _distributed()

    @contextmanager
    def opened(points: int) -> Iterator[Workers]:
        with _quiet(), _connected(distributed, address, tls) as client:
            executor = client.get_executor(pure=False)
            try:
                yield Workers(
                    executor,
                    _QUEUE_PER_CLUSTER + _QUEUE_PER_WORKER * sum(client.nthreads().values()),
                    evaluate_elsewhere,
                    alive=lambda: client.status == "running",
                    abandon=lambda: executor.shutdown(wait=False),
                )
            finally:
                executor.shutdown(wait=False)

    return opened


@contextmanager
def _connected(distributed: Any, address: str, tls: TlsFiles | None) -> Iterator[Any]:
    form = "tcp" if tls is None else "tls"
    valid = f"the address of a running Dask scheduler, as {form}://host:8786"
    try:
        client = distributed.Client(
            address, timeout=_CONNECT_S, set_as_default=False, security=_security(distributed, tls)
        )
    except (OSError, ValueError, TypeError) as error:
        raise SettingError("--scheduler", address, f"{valid} ({error})") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except (OSError, TimeoutError) as error:
            raise SettingError("--scheduler", address, f"{valid} with workers ({error})") from error
        yield client


def _security(distributed: Any, tls: TlsFiles | None) -> Any:
    if tls is None:
        return None
    return distributed.Security(
        require_encryption=True,
        tls_ca_file=str(tls.authority),
        tls_client_cert=str(tls.certificate),
        tls_client_key=str(tls.key or tls.certificate),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask from logging tracebacks of what this command reports in one line."""
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as problem:
        raise UsageError(
            "a sweep on a cluster needs Dask, which is not installed: pip install 'labctl[cluster]'"
        ) from problem
