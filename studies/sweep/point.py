"""One point: what it is called, where its random numbers come from, and how it is evaluated.

A point's key is the hash of all that its values depend on but the code: task, settings, content of
its files, repeat and the sweep's seed. Its own seed is spawned from the key, so that neither the
order of the points nor the other points of the sweep have a say in it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labctl.errors import LabctlError, UsageError
from labctl.studies.sweep.code_version import code_version
from labctl.studies.sweep.single_thread import blas_kernels, keep_single_threaded
from labctl.studies.sweep.task import Scalar, Settings, SweepTask
from labctl.studies.sweep.tasks import TASKS

_KEY_BYTES = 16
# Every reader of JSON holds a whole number of 53 bits exactly.
_SEED_BITS = 53


@dataclass(frozen=True)
class Point:
    """Plain values: what to run, which repeat, and the sweep's seed; `key` names them all."""

    task: str
    settings: Mapping[str, Scalar]
    repeat: int
    sweep_seed: int
    key: str

    @property
    def seed(self) -> int:
        """The seed of the point's random numbers, below 2**53."""
        words = [int(self.key[start : start + 8], 16) for start in range(0, len(self.key), 8)]
        sequence = np.random.SeedSequence(self.sweep_seed, spawn_key=words)
        return int(sequence.generate_state(1, np.uint64)[0]) >> 64 - _SEED_BITS


@dataclass(frozen=True)
class PointOutcome:
    """What came of a point: its values, or None and why; how long it took and on what."""

    key: str
    values: Mapping[str, Scalar] | None
    error: str | None
    duration_s: float
    blas: str


def point_of(task: SweepTask, settings: Settings, repeat: int, sweep_seed: int) -> Point:
    """Return the point of checked settings; reads the files they name (once per process)."""
    content = {
        "task": task.name,
        "settings": task.identity(settings),
        "repeat": repeat,
        "seed": sweep_seed,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    key = hashlib.sha256(text.encode()).hexdigest()[: 2 * _KEY_BYTES]
    return Point(task.name, settings.model_dump(), repeat, sweep_seed, key)


def evaluate(point: Point, code: str, prepare: Callable[[], None] = lambda: None) -> PointOutcome:
    """Return the point's values, or what went wrong; `code` is the version that it must run on."""
    started = time.perf_counter()
    values, error = None, None
    try:
        prepare()
        values = dict(_values(point, code))
    except LabctlError as problem:
        error = str(problem)
    except Exception as problem:  # one point's failure must not end the others
        error = f"unexpected {type(problem).__name__}: {problem}"
    return PointOutcome(point.key, values, error, time.perf_counter() - started, blas_kernels())


def evaluate_elsewhere(point: Point, code: str) -> PointOutcome:
    """Evaluate a point in a process that is there for it, whose BLAS keeps to one thread."""
    return evaluate(point, code, keep_single_threaded)


def _values(point: Point, code: str) -> Mapping[str, Any]:
    if code_version() != code:
        raise UsageError(f"the worker runs {code_version()}, the sweep {code}")
    task = TASKS[point.task]
    settings = task.settings.model_validate(dict(point.settings))
    if point_of(task, settings, point.repeat, point.sweep_seed).key != point.key:
        raise UsageError("the worker reads other files than the sweep under the same names")
    values = task.run(settings, point.seed)
    json.dumps(values, allow_nan=False)
    return values
