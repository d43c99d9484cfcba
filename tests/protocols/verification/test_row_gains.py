"""Gain of single rows: what repeats on an honest bench is taken off, what a thief does is seen."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from labctl.protocols.encoding import Floats
from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.server.varying_evidence import VaryingEvidence
from labctl.protocols.verification.collective import Placement
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.gain_deviation import gain_deviations
from labctl.protocols.verification.row_gains import RowGains, SlotTerms
from labctl.protocols.verification.row_moments import RowMoments, monomials, unit_products

Doubles = npt.NDArray[np.float64]
ROWS, MODES, NOISE = 120, 40, 1.2


def weights_of(rows: int = ROWS) -> Floats:
    """X and P of a mode alike, as neighbouring pixels are, and a third of the rows brighter."""
    random = np.random.default_rng(3)
    own = random.normal(0.1, 1.0, (rows, MODES, 2)) + random.normal(size=(rows, MODES, 1))
    own[: rows // 3] *= 4.0
    return own.reshape(rows, 2 * MODES).astype(np.float32)


def evidence_of(
    seed: int,
    *,
    moves: bool,
    queries: int = 8,
    noise: float = 1.0,
    x_gain: float = 0.0,
    distorted: float = 0.0,
    turns: float = 0.0,
    weak: float = 0.0,
    rows: int = ROWS,
) -> LayerEvidence:
    """`x_gain`: of X over that of P; `turns`: spread of rows' own; `weak`: of what slot 7 lacks.

    Each query is read on X or on P in all rows, as a bench does it. Rows are in a fresh order in
    each query if they move.
    """
    random, own = np.random.default_rng(seed), np.random.default_rng(seed + 10**6)
    weights = weights_of(rows)
    turn = turns * own.normal(size=(rows, 1))
    x, p = (weights[:, part::2].astype(np.float64) for part in (0, 1))
    on_x = (0.9 + x_gain) * x + turn * p - distorted * (x**3 / 50.0 - x * p / 9.0)
    on_p = 0.9 * p - turn * x - distorted * (p**3 / 90.0 + 0.2 * x)
    gain = np.ones((rows, 1))
    gain[7] -= weak
    found = VaryingEvidence(LayerLight(0, weights), weights, 1)
    for query in range(queries):
        order = random.permutation(rows) if moves else np.arange(rows)
        read_x = query % 2 == 0 if queries > 1 else True
        part = on_x if read_x else on_p
        read = gain * part[order] + noise * math.sqrt(NOISE) * random.normal(size=x.shape)
        cosine = np.full((rows, 1), float(read_x), np.float32)
        placed = Placement(
            order, np.ones(rows, np.float32), np.arange(2 * MODES), np.ones(2 * MODES, np.float32)
        )
        returned = ReturnedLight(read.astype(np.float32), cosine, np.float32(1.0) - cosine)
        found.add_query(LayerLight(0, weights[order]), placed, returned)
    return found


def sigmas(evidence: LayerEvidence) -> Doubles:
    """Deviations of the rows in standard deviations."""
    sums = evidence.row_sums()
    deviation, variance = gain_deviations(
        evidence, sums, sums.sent > 0.0, by_row=True, white=NOISE, doubt=0.0
    )
    found: Doubles = deviation / np.sqrt(variance)
    return found


@pytest.mark.parametrize("moves", [False, True])
def test_white_noise_leaves_every_row_unit_variance(moves: bool) -> None:
    # 100 sessions of 120 rows: a normal law by Kolmogorov and Smirnov, its variance to five
    # standard errors, and single rows' to one in a million each; seeds 100 to 199.
    found = np.array(
        [
            sigmas(evidence_of(100 + i, moves=moves, turns=0.0 if moves else 0.05, x_gain=0.02))
            for i in range(100)
        ]
    )
    assert stats.kstest(found.ravel(), "norm").pvalue > 0.01
    assert found.var() == pytest.approx(1.0, abs=5.0 * math.sqrt(2.0 / found.size))
    low, high = (float(stats.chi2.ppf(p, 100)) / 100.0 for p in (1e-6, 1.0 - 1e-6))
    by_row = np.mean(found**2, axis=0)
    assert low < by_row.min()
    assert by_row.max() < high


@pytest.mark.parametrize("moves", [False, True])
def test_distortion_that_all_light_has_in_common_is_explained(moves: bool) -> None:
    clean = sigmas(evidence_of(1, moves=moves))
    common = evidence_of(1, moves=moves, x_gain=0.2, distorted=0.05)
    # Rows that rule the fit are judged by themselves.
    alike = np.abs(sigmas(common) - clean) < 5e-3
    assert np.mean(alike) > 0.95
    # Without the fit the same rows would be far off.
    sums = common.row_sums()
    plain = (sums.cross / sums.sent - sums.cross.sum() / sums.sent.sum()) * np.sqrt(sums.sent)
    assert np.abs(plain / math.sqrt(NOISE)).max() > np.abs(clean).max() + 1.0


def test_turns_of_single_rows_change_nothing() -> None:
    steady = sigmas(evidence_of(2, moves=False, queries=9))
    turned = sigmas(evidence_of(2, moves=False, queries=9, turns=0.1))
    np.testing.assert_allclose(turned, steady, atol=2e-3)


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("queries", [1, 8])
def test_one_weak_row_is_seen_with_nearly_all_of_its_size(moves: bool, queries: int) -> None:
    # The fit's 20 terms of 120 rows take sqrt(1 - 20/120) = 0.91 on average, a turn 0.9 at most.
    weak = evidence_of(6, moves=moves, noise=0.0, weak=0.05, queries=queries)
    found = sigmas(weak)
    full = 0.045 * math.sqrt(float(weak.row_sums().sent[7]) / NOISE)
    assert int(np.argmax(np.abs(found))) == 7
    assert -full < found[7] < -0.8 * full


def test_of_few_rows_turn_and_gains_of_x_and_p_alone_are_fitted() -> None:
    # 30 rows are too few for twenty terms, and enough for four.
    clean = sigmas(evidence_of(4, moves=True, rows=30))
    common = sigmas(evidence_of(4, moves=True, rows=30, x_gain=0.1))
    np.testing.assert_allclose(common, clean, atol=5e-3)


def test_gain_and_turn_are_those_of_least_squares_over_single_weights() -> None:
    """Against a plain least-squares fit in double precision, rows read between X and P; seed 9."""
    random = np.random.default_rng(9)
    rows, modes = 5, 12
    pattern = random.normal(size=(rows, 2 * modes)).astype(np.float32)
    angles = random.uniform(0.0, math.pi, (7, rows))
    cosine, sine = np.cos(angles), np.sin(angles)
    shares = np.stack([(cosine**2).sum(0), (cosine * sine).sum(0), (sine**2).sum(0)])
    left = random.normal(size=(7, rows, modes))
    sums = np.zeros((rows, 2 * modes))
    sums[:, 0::2] = np.einsum("qr,qrn->rn", cosine, left)
    sums[:, 1::2] = np.einsum("qr,qrn->rn", sine, left)
    found = RowGains.of(RowMoments.of(pattern, sums.astype(np.float32), shares, None))
    unit = pattern / math.sqrt(float(np.mean(np.square(pattern, dtype=np.float64))))
    for row in range(rows):
        x, p = unit[row, 0::2], unit[row, 1::2]
        design = np.stack(
            [
                (cosine[:, row, None] * x + sine[:, row, None] * p).ravel(),
                (cosine[:, row, None] * p - sine[:, row, None] * x).ravel(),
            ],
            axis=1,
        ).astype(np.float64)
        inverse = np.linalg.inv(design.T @ design)
        fitted = inverse @ design.T @ left[:, row].ravel()
        assert found.gain[row] == pytest.approx(fitted[0], abs=1e-6)
        assert found.variance[row] == pytest.approx(inverse[0, 0], rel=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_terms_of_slots_are_sums_over_what_they_carried(signed: bool) -> None:
    """Query by query with each query's own light, read at any phase; more than one batch of 128."""
    random, rows = np.random.default_rng(4), 9
    weights = random.normal(size=(rows, 12)).astype(np.float32)
    weights /= np.float32(np.sqrt(np.mean(np.square(weights))))
    found, expected = SlotTerms(rows, lambda: unit_products(weights)), np.zeros((rows, 20))
    for query in range(150):
        order, angle = random.permutation(rows), random.uniform(0.0, 2.0 * np.pi, rows)
        # The first batch has signs only from its middle on.
        signs = None
        if signed and query > 60:
            signs = random.choice(np.array([-1.0, 1.0], np.float32), rows)
        cosine, sine = np.cos(angle), np.sin(angle)
        found.add_rows(order, signs, np.stack([cosine**2, cosine * sine, sine**2]))
        light = weights[order] * (1.0 if signs is None else signs[:, None])
        x, p = light[:, 0::2].astype(np.float64), light[:, 1::2].astype(np.float64)
        sent = cosine[:, None] * x + sine[:, None] * p
        products = np.einsum("rn,trn->rt", sent, monomials(x, p))
        expected += np.hstack([cosine[:, None] * products, sine[:, None] * products])
    np.testing.assert_allclose(found.sums, expected, rtol=0.0, atol=1e-4)
