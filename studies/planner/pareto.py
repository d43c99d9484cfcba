"""The Pareto front: what is not worse in everything than something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from labctl.errors import SettingError

T = TypeVar("T")


def pareto_front(items: Iterable[T], costs: Callable[[T], Sequence[float]]) -> tuple[T, ...]:
    """Return the items that no other beats, in order: none has no higher cost and one lower.

    `costs`: as many numbers for each item, less is better; infinity is allowed, NaN is refused
    (SettingError). Of items of the same costs the first stays.
    """
    every = list(items)
    if not every:
        return ()
    table = np.array([list(costs(item)) for item in every], np.float64)
    if np.isnan(table).any():
        raise SettingError("costs", "NaN", "numbers")
    kept = []
    for index, row in enumerate(table):
        no_worse = (table <= row).all(axis=1)
        better = no_worse & (table < row).any(axis=1)
        twin = no_worse & ~better
        if not better.any() and not twin[:index].any():
            kept.append(every[index])
    return tuple(kept)
