"""Which limits cannot be kept at an accuracy: the fewest of them that no setting keeps together."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from itertools import combinations

from labctl.studies.planner.option import PlanLimits
from labctl.studies.planner.search import Search


class BindingLimit(StrEnum):
    """A limit on a plan, in words."""

    WEIGHTS = "the limit on the weights"
    DATA = "the limit on the data"
    LABELS = "the limit on label reading"
    COPIES = "the limit on copies"


def binding(search: Search, signal_to_noise: float, limits: PlanLimits) -> tuple[BindingLimit, ...]:
    """Return the fewest limits that no setting of this F keeps together.

    The limit on copies is the search's own. Empty where all can be kept, or where no setting gives
    this F with any limits.
    """
    asked = [
        limit
        for limit, given in (
            (BindingLimit.WEIGHTS, limits.weights_bits is not None),
            (BindingLimit.DATA, limits.data_bits is not None),
            (BindingLimit.LABELS, limits.label_success is not None),
            (BindingLimit.COPIES, search.spares_copies is not None),
        )
        if given
    ]
    if not _kept(search, signal_to_noise, limits, ()):
        return ()
    for many in range(1, len(asked) + 1):
        for some in combinations(asked, many):
            if not _kept(search, signal_to_noise, limits, some):
                return some
    return ()


def _kept(
    search: Search, signal_to_noise: float, limits: PlanLimits, some: tuple[BindingLimit, ...]
) -> bool:
    only = PlanLimits(
        limits.weights_bits if BindingLimit.WEIGHTS in some else None,
        limits.data_bits if BindingLimit.DATA in some else None,
        limits.label_success if BindingLimit.LABELS in some else None,
    )
    spares = search.spares_copies if BindingLimit.COPIES in some else None
    free = replace(search, spares_copies=spares)
    return free.within(free.least_weights(signal_to_noise, only), only)
