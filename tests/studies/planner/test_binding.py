"""Of limits that cannot be kept the fewest are named that no setting keeps together."""

from __future__ import annotations

import pytest

from labctl.protocols.leakage import Assumptions, LayerShape, Trust, WeightsFigure
from labctl.protocols.receiver import IDEAL_HOMODYNE
from labctl.studies.planner.binding import BindingLimit, binding
from labctl.studies.planner.option import Conditions, Option, PlanLimits
from labctl.studies.planner.search import Search

F = 0.25
CONDITIONS = Conditions(
    layers=(LayerShape(784, 392, 784), LayerShape(10, 392, 784)),
    weights_figure=WeightsFigure.HONEST,
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    loss_db=0.0,
    technical_noise=0.0,
    client=IDEAL_HOMODYNE,
    verifier=IDEAL_HOMODYNE,
)


def none_spared(option: Option) -> bool:
    return False


def dim_spared(option: Option) -> bool:
    return option.mean_photons < 1.0


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (PlanLimits(), ()),
        (PlanLimits(weights_bits=0.1, data_bits=0.1), ()),
        (PlanLimits(weights_bits=1e-6), (BindingLimit.WEIGHTS,)),
        (PlanLimits(weights_bits=1e-6, data_bits=0.5), (BindingLimit.WEIGHTS,)),
        (PlanLimits(weights_bits=0.1, data_bits=1e-12), (BindingLimit.DATA,)),
        (
            PlanLimits(weights_bits=0.0036, data_bits=0.0025),
            (BindingLimit.WEIGHTS, BindingLimit.DATA),
        ),
    ],
)
def test_the_limits_at_fault_are_named(limits: PlanLimits, named: tuple[BindingLimit, ...]) -> None:
    assert binding(Search(CONDITIONS), F, limits) == named


def test_a_limit_on_copies_is_named_only_where_it_is_at_fault() -> None:
    nothing = Search(CONDITIONS, spares_copies=none_spared)
    assert binding(nothing, F, PlanLimits(weights_bits=0.1)) == (BindingLimit.COPIES,)
    # At fault too, but the weights already are: each alone, the first is named.
    assert binding(nothing, F, PlanLimits(weights_bits=1e-6)) == (BindingLimit.WEIGHTS,)
    dim = Search(CONDITIONS, spares_copies=dim_spared)
    assert binding(dim, F, PlanLimits()) == ()
