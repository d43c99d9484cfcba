"""Gain of single modes beyond what distortion of the whole layer explains."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from labctl.protocols.verification.gain_terms import beyond_both, beyond_terms, gain_terms

Doubles = npt.NDArray[np.float64]
ROWS, MODES = 120, 100
UNCERTAINTY = 1e-3


@pytest.fixture
def weights() -> Doubles:
    random = np.random.default_rng(3)
    brightness = np.exp(random.normal(0.0, 0.4, 2 * MODES))
    return random.normal(0.1, 1.0, (ROWS, 2 * MODES)) * brightness


def over_sent(weights: Doubles) -> Doubles:
    """The terms of each mode over what was sent in it."""
    terms = gain_terms(weights.astype(np.float32))
    found: Doubles = terms / (weights**2).sum(axis=0).reshape(-1, 2).sum(axis=1)[:, None]
    return found


def slopes(sent: Doubles, read: Doubles) -> Doubles:
    """The slope of each mode, over X and P of all rows, by plain sums."""
    products = (read * sent).sum(axis=0)
    squares = (sent * sent).sum(axis=0)
    found: Doubles = products.reshape(-1, 2).sum(axis=1) / squares.reshape(-1, 2).sum(axis=1)
    return found


def test_distortion_to_the_third_order_is_explained_whole(weights: Doubles) -> None:
    x, p = weights[:, 0::2], weights[:, 1::2]
    read = np.empty_like(weights)
    read[:, 0::2] = 0.99 * x - 0.002 * x**2 + 0.003 * p**2 - 4e-4 * (x**3 + x * p**2 + p**3)
    read[:, 1::2] = 1.01 * p + 0.004 * x * p - 7e-4 * p**3 + 3e-4 * x**3 - 0.02 * x
    deviation = slopes(weights, read) - 1.0
    assert np.abs(deviation).max() > 8e-4
    terms = over_sent(weights)
    left, variance = beyond_terms(deviation, np.full(MODES, UNCERTAINTY**2), terms)
    # Some of the brightest modes rule the fit: these are judged by themselves.
    followed = variance < UNCERTAINTY**2
    assert np.mean(followed) > 0.95
    assert np.abs(left[followed]).max() < 1e-7


def test_white_noise_keeps_unit_variance_beyond_the_terms(weights: Doubles) -> None:
    # 400 draws of 100 modes: the mean square of 40,000 less 14 in 100, to five standard errors.
    random = np.random.default_rng(8)
    terms = over_sent(weights)
    uncertainty = UNCERTAINTY * np.exp(random.normal(0.0, 0.5, MODES))
    found = []
    for _ in range(400):
        left, variance = beyond_terms(random.normal(0.0, uncertainty), uncertainty**2, terms)
        found.append(left**2 / variance)
    assert np.mean(found) == pytest.approx(1.0, abs=5.0 * np.sqrt(2.0 / 40_000))


def test_one_mode_that_deviates_is_still_seen(weights: Doubles) -> None:
    terms = over_sent(weights)
    for mode in (0, 17, 99):
        deviation = np.zeros(MODES)
        deviation[mode] = 10.0 * UNCERTAINTY
        left, variance = beyond_terms(deviation, np.full(MODES, UNCERTAINTY**2), terms)
        sigmas = np.abs(left) / np.sqrt(variance)
        assert int(np.argmax(sigmas)) == mode
        assert sigmas[mode] > 7.0


def test_few_groups_are_left_as_they_are() -> None:
    deviation, variance = np.arange(10.0), np.ones(10)
    left, kept = beyond_terms(deviation, variance, np.ones((10, 14)))
    np.testing.assert_array_equal(left, deviation)
    np.testing.assert_array_equal(kept, variance)


def test_modes_without_light_have_no_terms() -> None:
    weights = np.zeros((3, 4), np.float32)
    weights[0, 0] = 2.0
    terms = gain_terms(weights)
    # x to x^4 of the only weight.
    assert np.count_nonzero(terms[0]) == 4
    assert not terms[1:].any()


def test_variance_after_two_fits_is_that_of_the_whole_covariance() -> None:
    """Against projections of the 60 by 60 covariance itself, an earlier fit having taken a part."""
    random = np.random.default_rng(11)
    groups = 60
    variance, scale = random.uniform(0.5, 2.0, groups), random.uniform(0.5, 2.0, groups)
    terms, taken = random.normal(size=(groups, 5)), 0.05 * random.normal(size=(25, groups))
    deviation, alone = random.normal(size=groups), (np.zeros(groups), np.ones(groups))
    weight = np.diag(1.0 / np.sqrt(variance))
    basis = np.linalg.qr(weight @ terms)[0]
    left = np.eye(groups) - basis @ basis.T
    part = (taken * scale).T @ (taken * scale)
    whole = left @ weight @ (np.diag(variance) - part) @ weight @ left
    found = beyond_both(deviation, variance, terms, taken, scale, alone)
    np.testing.assert_allclose(found[1], variance * np.diag(whole), rtol=1e-10)
    expected = np.sqrt(variance) * (left @ weight @ deviation)
    np.testing.assert_allclose(found[0], expected, rtol=0.0, atol=1e-12)
