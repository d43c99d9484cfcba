"""Gain of single modes: what rows do is taken off exactly, what a mode does is seen."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.server.varying_evidence import VaryingEvidence
from labctl.protocols.verification.collective import Placement
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.gain_deviation import gain_deviations

Doubles = npt.NDArray[np.float64]
ROWS, MODES, QUERIES = 40, 100, 4
NOISE = 1.3


def layer(rows: int = ROWS, modes: int = MODES) -> LayerLight:
    """Columns of unlike brightness, and most rows three times dimmer than the others."""
    random = np.random.default_rng(3)
    weights = random.normal(0.1, 1.0, (rows, 2 * modes))
    weights *= np.exp(random.normal(0.0, 0.4, 2 * modes))
    weights[rows // 4 :] *= 0.3
    return LayerLight(0, weights.astype(np.float32))


def evidence_of(
    light: LayerLight,
    seed: int,
    *,
    rows_off: float = 0.0,
    noise: float = 1.0,
    queries: int = QUERIES,
    mode_off: float = 0.0,
    distorted: float = 0.0,
) -> LayerEvidence:
    """`rows_off`: spread of gain and turn of rows; `mode_off`: share by which mode 31 is weak."""
    random, own = np.random.default_rng(seed), np.random.default_rng(seed + 10**6)
    shape = (light.rows, 1)
    gain, turn = 0.9 + rows_off * own.normal(size=shape), rows_off * own.normal(size=shape)
    x, p = light.x.astype(np.float64), light.p.astype(np.float64)
    on_x = gain * x + turn * p - distorted * (x**3 - 0.3 * p**2 + x * p)
    on_p = gain * p - turn * x - distorted * (0.5 * p**3 - 0.2 * x**2 * p + x)
    for part in (on_x, on_p):
        part[:, 30] *= 1.0 - mode_off
    found = LayerEvidence(light)
    for _ in range(queries):
        cosine = (random.random(shape) < 0.5).astype(np.float32)
        read = cosine * on_x + (1.0 - cosine) * on_p
        read += noise * math.sqrt(NOISE) * random.normal(size=x.shape)
        found.add(ReturnedLight(read.astype(np.float32), cosine, 1.0 - cosine))
    return found


def sigmas(evidence: LayerEvidence) -> Doubles:
    """Deviations of the modes in standard deviations."""
    sums = evidence.mode_sums()
    used = sums.sent > 0.0
    deviation, variance = gain_deviations(
        evidence, sums, used, by_row=False, white=NOISE, doubt=0.0
    )
    found: Doubles = deviation / np.sqrt(variance)
    return found


@pytest.mark.parametrize(("rows", "modes", "queries"), [(ROWS, MODES, QUERIES), (10, 392, 3)])
def test_white_noise_leaves_every_mode_unit_variance(rows: int, modes: int, queries: int) -> None:
    # 200 sessions, rows a third off: a normal law by Kolmogorov and Smirnov, and its variance
    # to five standard errors. The fits correlate modes by a few percent, which changes neither.
    light = layer(rows, modes)
    found = np.array(
        [
            sigmas(evidence_of(light, 4000 + seed, rows_off=0.3, queries=queries))
            for seed in range(200)
        ]
    )
    assert stats.kstest(found.ravel(), "norm").pvalue > 0.01
    assert found.var() == pytest.approx(1.0, abs=5.0 * math.sqrt(2.0 / found.size))
    # Each mode by itself: chi-squared of 200, to one in a million of each of them.
    low, high = (float(stats.chi2.ppf(p, 200)) / 200.0 for p in (1e-6, 1.0 - 1e-6))
    by_mode = np.mean(found**2, axis=0)
    assert low < by_mode.min()
    assert by_mode.max() < high
    # The largest of a session passes its Bonferroni level as seldom as stated: 5 % of 200, at
    # most 22 with probability 0.9998.
    tails = 2.0 * modes * stats.norm.sf(np.abs(found).max(axis=1))
    assert np.count_nonzero(tails < 0.05) <= 22


def test_a_mode_that_rules_its_rows_keeps_unit_variance() -> None:
    # It has a fifth of each row's power, so that the rows' fits take more than a quarter of its
    # variance. 800 sessions, to 3.5 standard errors: what rows take, not counted, would be 5.
    weights = layer().quadratures.copy()
    weights[:, 60:62] *= 5.0 / np.sqrt(np.mean(weights[:, 60:62] ** 2) / np.mean(weights**2))
    light = LayerLight(0, weights)
    found = [sigmas(evidence_of(light, 7000 + seed, rows_off=0.3))[30] for seed in range(800)]
    assert np.mean(np.square(found)) == pytest.approx(1.0, abs=3.5 * math.sqrt(2.0 / 800.0))


def test_gain_and_turn_of_rows_change_nothing() -> None:
    light = layer()
    steady = sigmas(evidence_of(light, 1))
    np.testing.assert_allclose(sigmas(evidence_of(light, 1, rows_off=0.3)), steady, atol=1e-4)


def test_what_distorts_the_whole_layer_is_explained_with_the_rows() -> None:
    clean = sigmas(evidence_of(layer(), 5))
    distorted = sigmas(evidence_of(layer(), 5, rows_off=0.1, distorted=0.05))
    # Some of the brightest modes rule the fit: these are judged without it.
    alike = np.abs(distorted - clean) < 1e-3
    assert np.mean(alike) > 0.9


def test_one_weak_mode_is_seen_with_most_of_its_size() -> None:
    light = layer()
    weak = evidence_of(light, 6, noise=0.0, mode_off=0.1, rows_off=0.3)
    found = sigmas(weak)
    sent = float(weak.mode_sums().sent[30])
    assert int(np.argmax(np.abs(found))) == 30
    # A tenth of 0.9, the slope; with h of its variance taken by the fits (18 terms of 100 modes
    # and a little for rows), sqrt(1 - h) of its size in standard deviations is left.
    full = 0.09 * math.sqrt(sent / NOISE)
    assert -full < found[30] < -0.85 * full


def test_rows_in_any_order_and_sign_give_the_same() -> None:
    light = layer()
    random = np.random.default_rng(9)
    straight = LayerEvidence(light)
    moved = VaryingEvidence(light, light.quadratures, 1)
    columns = np.arange(2 * MODES)
    for _ in range(QUERIES):
        order = random.permutation(ROWS)
        signs = np.where(random.random(ROWS) < 0.5, -1.0, 1.0).astype(np.float32)
        cosine = (random.random((ROWS, 1)) < 0.5).astype(np.float32)
        shown = 0.9 * (cosine * light.x + (1.0 - cosine) * light.p)
        read = (shown + random.normal(size=light.x.shape)).astype(np.float32)
        straight.add(ReturnedLight(read, cosine, 1.0 - cosine))
        sent = LayerLight(0, light.quadratures[order] * signs[:, None])
        returned = ReturnedLight(read[order] * signs[:, None], cosine[order], 1.0 - cosine[order])
        placed = Placement(order, signs, columns, np.ones(2 * MODES, np.float32))
        moved.add_query(sent, placed, returned)
    assert moved.mode_gains() is not None
    np.testing.assert_allclose(sigmas(moved), sigmas(straight), atol=1e-3)


def test_columns_that_move_have_no_sums_of_modes_without_rows() -> None:
    light = layer()
    moved = VaryingEvidence(light, light.quadratures, 1)
    columns = np.roll(np.arange(2 * MODES), 2)
    ones = np.ones((ROWS, 1), np.float32)
    signs = np.ones(2 * MODES, np.float32)
    sent = LayerLight(0, np.roll(light.quadratures, -2, axis=1))
    placed = Placement(np.arange(ROWS), ones[:, 0], columns, signs)
    moved.add_query(sent, placed, ReturnedLight(sent.x, ones, 0.0 * ones))
    assert moved.mode_gains() is None
