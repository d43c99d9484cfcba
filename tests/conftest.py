"""What every test starts from: one thread, the same drawn examples, a Ctrl-C that works."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest
from hypothesis import settings

# A worker for each processor needs no threads of its own for matrix products. NumPy, which nothing
# has imported yet, reads this once; the workers and the processes that tests start inherit it.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# The same examples on each run and on each machine, however loaded it is.
settings.register_profile("labctl", derandomize=True, database=None, deadline=None)
settings.load_profile("labctl")

# Fixtures for tests of several folders.
pytest_plugins = ["fixtures.command_line", "fixtures.unit_bench"]


def pytest_xdist_auto_num_workers() -> int:
    """Return the processors that this process may use; pytest-xdist may count cores instead."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Give each test fresh benches, before its fixtures open any: the same noise in any order.

    Within a process a simulated bench goes on between openings, as a real one does. One that a
    module's fixture holds open is left alone.
    """
    backend: Any = sys.modules.get("labctl.instruments.simulated.visa_backend")
    if backend is None:
        return
    from pyvisa import highlevel

    for library in list(highlevel.VisaLibraryBase._registry.values()):
        idle = isinstance(library, backend.LabctlVisaLibrary) and not library.in_use
        if idle and library.resource_manager is not None:
            library.resource_manager.close()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_not_ignored() -> None:
    """A shell starts background jobs with SIGINT ignored, which child processes would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
