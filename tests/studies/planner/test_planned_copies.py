"""Copies in the planner: a limit on them excludes settings; what a probation takes is reckoned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.data.models import load_network
from labctl.errors import SettingError
from labctl.protocols.copies.figure import CopyFigure, no_figure
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.leakage import Assumptions, LayerShape, Trust
from labctl.protocols.leakage.setting import WeightsFigure
from labctl.protocols.probation.slack import SlackWatch
from labctl.protocols.receiver import IDEAL_HOMODYNE
from labctl.studies.planner.copies import CopyLimit, PlannedCopies, watching
from labctl.studies.planner.option import Conditions, Option, PlanLimits
from labctl.studies.planner.search import Search

UNTRUSTED = Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED)
SHAPES = (LayerShape(784, 392, 784), LayerShape(10, 392, 784))
LOSSLESS = Conditions(
    SHAPES, UNTRUSTED, 0.0, 0.0, IDEAL_HOMODYNE, IDEAL_HOMODYNE,
    weights_figure=WeightsFigure.HONEST,
)  # fmt: skip
NETWORK = load_network("noise-aware")
COPIES = PlannedCopies(NETWORK.sha256, NETWORK.name, NETWORK.sizes)


def spend_of(signal_to_noise: float, gain: float, copies: PlannedCopies = COPIES) -> CopyFigure:
    option = Search(LOSSLESS).option(signal_to_noise, gain, 392)
    assert option is not None
    return copies.figure(LOSSLESS, option, 1)


def test_bright_light_at_small_gain_hides_more_and_decoys_leave_more() -> None:
    dim, bright = spend_of(0.3, 1.3), spend_of(0.3, 1.0128)
    assert dim.spend is not None
    assert bright.spend is not None
    assert bright.spend > 10.0 * dim.spend
    assert (bright.accuracy or 0.0) >= (dim.accuracy or 1.0)
    hidden_among = spend_of(0.3, 1.3, replace(COPIES, hiding=Hiding(3)))
    assert (hidden_among.spend or 0.0) == pytest.approx(dim.spend + 3 * 0.57 * 0.4615, rel=0.01)


def test_a_limit_on_copies_excludes_settings_and_keeps_the_best_of_the_others() -> None:
    free = Search(LOSSLESS).least_weights(0.3, PlanLimits())
    assert free is not None

    def bright_enough(option: Option) -> bool:
        return option.mean_photons <= 0.8 * free.mean_photons

    limited = replace(Search(LOSSLESS), spares_copies=bright_enough)
    found = limited.least_weights(0.3, PlanLimits())
    assert found is not None
    assert bright_enough(found)
    assert found.weights_bits > free.weights_bits
    assert limited.within(found, PlanLimits())
    assert not limited.within(free, PlanLimits())
    assert (
        replace(limited, spares_copies=lambda one: False).least_weights(0.3, PlanLimits()) is None
    )


def test_limits_of_copies_keep_figures_and_never_the_lack_of_one() -> None:
    found = CopyFigure(30, accuracy=0.9, classes_alone=0.86)
    assert CopyLimit(accuracy=0.9).keeps(found)
    assert not CopyLimit(accuracy=0.89).keeps(found)
    assert CopyLimit(distance=0.05).keeps(found)
    assert not CopyLimit(accuracy=0.95, distance=0.03).keeps(found)
    assert CopyLimit().keeps(no_figure(30, "not measured"))
    assert not CopyLimit(accuracy=0.99).keeps(no_figure(30, "not measured"))
    with pytest.raises(SettingError, match="accuracy"):
        CopyLimit(accuracy=1.5)


def test_a_probation_in_numbers() -> None:
    """Against the formulas of the pooled check, written out."""
    watch = SlackWatch(311_248, 10**10, 1e-3)
    found = watching(watch, honest_noise=0.00118, seconds_per_query=0.0157, real_share=0.1)
    score = 3.0902
    assert found.added == pytest.approx(score * (2 / 311_248) ** 0.5, rel=1e-3)
    assert (found.queries_to_honest, found.queries_to_half) == (45, 178)
    (_, one), *_, (_, hundred) = found.robbed
    # p N slack(N)/slack(1) with N = Q/p is sqrt(p Q), but for the calibration.
    assert one == pytest.approx(0.1**0.5, rel=1e-2)
    assert hundred == pytest.approx(10.0**0.5, rel=2e-2)
