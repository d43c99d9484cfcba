"""One BLAS thread: the number of threads sets the order of a product's sums, so its last bits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import scipy.linalg  # noqa: F401 - loads the second BLAS that a point may use, to be found below
from threadpoolctl import ThreadpoolController

from labctl.errors import LabctlError

_LOCK = threading.Lock()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep every matrix product of this process on one thread while the block runs.

    Raises LabctlError where something else in the process keeps them on more.
    """
    with _libraries().limit(limits=1):
        _require_one_thread()
        yield


def keep_single_threaded() -> None:
    """Keep every matrix product of this process on one thread from here on.

    Raises LabctlError where something else in the process keeps them on more.
    """
    with _LOCK:
        _libraries().limit(limits=1)
        _require_one_thread()


@cache
def blas_kernels() -> str:
    """Return the BLAS libraries in use with the kind of processor that each computes for.

    Results of other kernels differ in their last bits.
    """
    found = [
        " ".join(str(info[key]) for key in ("internal_api", "version", "architecture"))
        for info in _libraries().info()
        if info["user_api"] == "blas" and "architecture" in info
    ]
    return ", ".join(sorted(set(found))) or "unknown"


def _require_one_thread() -> None:
    used = max(
        (i["num_threads"] for i in _libraries().info() if i["user_api"] == "blas"), default=1
    )
    if used > 1:
        raise LabctlError(
            f"BLAS keeps {used} threads: something else in this process controls their number"
        )


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
