"""What every test starts from: one thread, the same drawn examples, a Ctrl-C that works."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

# A worker for each processor needs no further threads for matrix products. NumPy, which nothing
# has imported yet, reads this once; the workers and the processes that tests start inherit it.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# JAX compiles each setting's training again, which for networks this small costs more than the
# training; unoptimised it takes half of the time. Read at JAX's import.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Workers and the processes that tests start read labctl compiled. Where the environment forbids to
# keep that, each worker would compile all of it and all tests again, which takes 14 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples on each run and on each machine, however loaded it is.
settings.register_profile("labctl", derandomize=True, database=None, deadline=None)
settings.load_profile("labctl")

# Fixtures for tests of several folders.
pytest_plugins = [
    "pytester",
    "command_line",
    "party_folders",
    "served_bench",
    "shipped_sites",
    "unit_bench",
]


def pytest_xdist_auto_num_workers() -> int:
    """Return the processors that this process may use; pytest-xdist may count cores instead."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from the half a million objects that are collected tests.

    They stay to the end: to look through them was a fifth of collecting and a twentieth of testing.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _locks_are_a_workers_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Workers open made-up instruments of the same addresses at the same time."""
    os.environ["LABCTL_LOCKS"] = str(tmp_path_factory.mktemp("locks"))


@pytest.fixture(scope="session", autouse=True)
def _signals_are_not_ignored() -> None:
    """A shell starts background jobs with SIGINT ignored, `nohup` all with SIGHUP ignored.

    Child processes would inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
