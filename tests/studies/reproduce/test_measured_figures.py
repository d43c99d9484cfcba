"""Accuracy against F and over the leakage plane, from a curve whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from labctl.data.models import Network
from labctl.protocols.leakage import LayerShape
from labctl.studies.planner.accuracy_curve import AccuracyCurve, AccuracyPoint
from labctl.studies.reproduce import accuracy, authors
from labctl.studies.reproduce.figure import Origin, Reproduction
from labctl.studies.reproduce.ours import F_GRID, Measured, gain_of_data_bits, leakage_at

_IMAGES = 1_000_000


def network(name: str, seed: int = 1) -> Network:
    random = np.random.default_rng(seed)
    layers = tuple(random.standard_normal(shape).astype(np.float32) for shape in ((4, 6), (2, 4)))
    return Network(layers, name, {})


def with_probit(name: str, middle_f: float, most: float = 1.0) -> Measured:
    """Return a network that has the accuracy most * Phi(2 log10(F/middle)) at every F."""
    points = []
    for f in F_GRID:
        right = round(_IMAGES * most * float(ndtr(2.0 * math.log10(f / middle_f))))
        points.append(AccuracyPoint(f, (_IMAGES - right, right)))
    own = network(name)
    return Measured(own, AccuracyCurve(own.sha256, "0" * 64, tuple(points)))


def f_for(level: float, middle_f: float) -> float:
    return float(middle_f * 10.0 ** (ndtri(level) / 2.0))


def lines(figure: Reproduction, origin: Origin, variant: int) -> dict[str, list[float]]:
    return {
        one.tag: list(one.x)
        for one in figure.panels[1].series
        if (one.origin, one.variant, one.points) == (origin, variant, False)
    }


def test_accuracies_are_shown_where_they_were_measured() -> None:
    measured = [with_probit("plain", 0.5), with_probit("hardened", 0.05)]
    figure = accuracy.against_f(measured)
    for panel in figure.panels:
        for one, label in zip(measured, ("ours, plain", "ours, hardened"), strict=True):
            series = next(s for s in panel.series if s.label == label)
            np.testing.assert_allclose(10.0 ** (np.array(series.x) / 10.0), F_GRID)
            found = [100.0 * point.accuracy for point in one.curve.points]
            np.testing.assert_allclose(series.y, found)
            assert len(series.y_error) == len(series.y)


def test_their_maps_and_their_fit_cross_where_the_root_of_half_of_f_is_f() -> None:
    figure = accuracy.against_f([with_probit("plain", 0.5)])
    shown = {series.label: series for series in figure.panels[0].series}
    fit, maps = shown["theirs, logistic fit"], shown["theirs, as in their maps"]
    above = [m > f for m, f in zip(maps.y, fit.y, strict=True)]
    crossing_db = fit.x[above.index(False)]
    # sqrt(F/2) = F at F = 1/2.
    assert crossing_db == pytest.approx(10.0 * math.log10(0.5), abs=0.25)


def test_steps_from_the_maps_to_the_simulated_values_add_up() -> None:
    figure = accuracy.against_f([with_probit("plain", 0.5)])
    rows = [row for row in figure.differences if row.where.startswith(authors.BRIGHT.label)]
    root, half, fit, together = rows
    assert root.published == together.published
    assert (root.here, half.here) == pytest.approx((half.published, fit.published))
    assert fit.here == together.here
    assert together.here == pytest.approx(97.03, abs=0.01)
    assert together.published == pytest.approx(95.88, abs=0.02)


def test_footnote_names_what_was_measured_and_nothing_else() -> None:
    measured = with_probit("hardened", 0.05)
    expected = f"hardened {100.0 * measured.curve.accuracy(0.3):.1f} %"
    assert expected in accuracy.against_f([measured]).footnote


def test_lines_of_equal_accuracy_have_the_f_that_the_accuracy_needs() -> None:
    figure = accuracy.over_leakage([with_probit("plain", 0.5), with_probit("hardened", 0.05)])
    for variant, middle in enumerate((0.5, 0.05)):
        shown = lines(figure, Origin.OURS, variant)
        assert list(shown) == ["80 %", "90 %", "95 %"]
        for tag, weights in shown.items():
            f = f_for(float(tag.split()[0]) / 100.0, middle)
            expected = [
                leakage_at(
                    authors.Setting(authors.photons_for(f, gain), gain),
                    layers=(LayerShape(rows=4, modes=3, inputs=6), LayerShape(2, 2, 4)),
                )
                for gain in accuracy._GAINS
            ]
            # Between points a tenth of a decade of F off, the curve is not a straight probit.
            np.testing.assert_allclose(
                weights, [one.weights_bits_per_real for one in expected], rtol=0.02
            )


def test_our_point_is_at_the_accuracy_and_data_leakage_that_the_journal_claims() -> None:
    measured = with_probit("hardened", 0.05)
    figure = accuracy.over_leakage([measured])
    (point,) = [s for s in figure.panels[1].series if s.points and s.origin is Origin.OURS]
    # A network of 6-4-2: 4 rows of 3 modes, 2 rows of 2.
    gain = gain_of_data_bits(0.1, measured.shapes)
    assert measured.shapes == (LayerShape(4, 3, 6), LayerShape(2, 2, 4))
    f = measured.curve.needed(0.95).value
    setting = authors.Setting(authors.photons_for(f, gain), gain)
    leakage = leakage_at(setting, layers=measured.shapes)
    assert point.x == pytest.approx((leakage.weights_bits_per_real,))
    assert point.y == (0.1,)
    assert leakage.data_bits_journal == pytest.approx(0.1)
    row = next(row for row in figure.differences if "hardened" in row.what)
    assert row.published == 0.1
    assert row.here == pytest.approx(point.x[0])


def test_accuracy_out_of_reach_has_no_line_and_no_point() -> None:
    figure = accuracy.over_leakage([with_probit("weak", 0.5, most=0.85)])
    assert list(lines(figure, Origin.OURS, 0)) == ["80 %"]
    assert not [s for s in figure.panels[1].series if s.points and s.origin is Origin.OURS]
    assert "weak" not in figure.footnote


def test_a_claim_is_drawn_per_real_weight_and_the_first_versions_per_symbol_too() -> None:
    figure = accuracy.over_leakage([with_probit("plain", 0.5)])
    claim = figure.panels[1].series[-1]
    assert (claim.x, claim.y) == ((0.1,), (0.1,))
    abstract = figure.panels[0].series[-1]
    assert (abstract.x, abstract.y) == ((0.05, 0.1), (0.01, 0.01))
