"""What looks say of weights: the posterior of a Gaussian prior, each row's scale averaged out."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.studies.attacks.copies.looks import Looks, RowPrior
from labctl.studies.attacks.copies.neighbours import Doubles


def drawn(rows: int, inputs: int, looks: int, seed: int) -> tuple[Doubles, Doubles, Doubles]:
    """Return weights, directions and values read at amplitude 2 with noise of variance 0.5."""
    random = np.random.default_rng(seed)
    weights = random.standard_normal((rows, inputs))
    directions = random.standard_normal((looks, inputs))
    noise = random.standard_normal((rows, looks)) * np.sqrt(0.5)
    return weights, directions, 2.0 * weights @ directions.T + noise


def test_a_flat_prior_is_ridge_regression() -> None:
    _, directions, values = drawn(3, 8, 5, 0)
    looks = Looks(3, 8)
    looks.add(directions, values, 2.0, np.full(5, 0.5))
    design = 2.0 * directions
    ridge = np.linalg.solve(design.T @ design / 0.5 + np.eye(8), design.T @ values.T / 0.5).T
    assert looks.estimate(RowPrior.flat(8), scaled=False) == pytest.approx(ridge)


def test_a_prior_of_few_directions_is_conditioning_on_the_joint_covariance() -> None:
    """Compared with the textbook formula from the covariance of weights and values."""
    _, directions, values = drawn(2, 6, 4, 1)
    axes = np.linalg.qr(np.random.default_rng(2).standard_normal((6, 3)))[0]
    prior = RowPrior(axes, np.array([3.0, 1.0, 0.2]))
    covariance = axes @ np.diag(prior.variances) @ axes.T
    seen = 4.0 * directions @ covariance @ directions.T + 0.5 * np.eye(4)
    expected = (2.0 * covariance @ directions.T @ np.linalg.solve(seen, values.T)).T
    looks = Looks(2, 6)
    looks.add(directions[:1], values[:, :1], 2.0, np.full(1, 0.5))
    looks.add(directions[1:], values[:, 1:], 2.0, np.full(3, 0.5))
    assert looks.estimate(prior, scaled=False) == pytest.approx(expected)


def test_dead_rows_are_found_dead() -> None:
    """100 rows, the second half dead, signal as strong as the noise; seed 3."""
    random = np.random.default_rng(3)
    weights = random.standard_normal((100, 30))
    weights[50:] = 0.0
    looks = Looks(100, 30)
    looks.add(np.eye(30), weights + random.standard_normal((100, 30)), 1.0, np.ones(30))
    plain = looks.estimate(RowPrior.flat(30), scaled=False)
    scaled = looks.estimate(RowPrior.flat(30))
    assert np.mean(scaled[50:] ** 2) < 0.3 * np.mean(plain[50:] ** 2)
    assert np.mean((scaled - weights) ** 2) < 0.8 * np.mean((plain - weights) ** 2)


def test_variances_of_all_directions_add_up_to_the_inputs() -> None:
    squares = np.array([4.0, 2.0, 1.0, 1.0])
    whole = RowPrior.along(np.eye(4), squares, 8.0)
    assert whole.variances.sum() == pytest.approx(4.0)
    part = RowPrior.along(np.eye(4)[:, :2], squares[:2], 8.0)
    assert part.variances == pytest.approx(whole.variances[:2])
    assert whole.first(2).directions.shape == (4, 2)
