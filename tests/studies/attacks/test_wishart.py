"""Sums over rows drawn at once have the law of sums over rows drawn one by one.

Moments are compared at 4000 draws each, with tolerances of five standard errors; seeds are stated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.errors import SettingError
from labctl.studies.attacks.wishart import complex_scatter, photon_counts, real_scatter

DRAWS = 4000
SPIKE = 0.7
Draw = Callable[..., NDArray[Any]]


def direction(size: int) -> NDArray[np.complex64]:
    drawn = np.random.default_rng(3).standard_normal((size, 2)).astype(np.float32)
    c = drawn.view(np.complex64)[:, 0]
    return np.asarray(c / np.linalg.norm(c), np.complex64)


def rows_one_by_one(c: NDArray[np.complex64], rows: int, real: bool) -> NDArray[Any]:
    """Return DRAWS scatter matrices from explicit rows, white noise plus a kick along c."""
    generator = np.random.default_rng(11)

    def normal(*shape: int) -> NDArray[Any]:
        return generator.standard_normal(shape) + 1j * generator.standard_normal(shape)

    kicks = np.sqrt(SPIKE) * normal(DRAWS, rows, 1) * c
    if real:
        # One quadrature of light whose X and P are both kicked.
        read = generator.standard_normal((DRAWS, rows, len(c))) + kicks.real
    else:
        read = np.sqrt(0.5) * (normal(DRAWS, rows, len(c)) + kicks)
    return np.asarray(read.swapaxes(1, 2) @ read.conj())


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 40])
@pytest.mark.parametrize(("draw", "real"), [(complex_scatter, False), (real_scatter, True)])
def test_a_scatter_matrix_has_the_moments_of_explicit_rows(
    rows: int, draw: Draw, real: bool
) -> None:
    c = direction(4)
    drawn = draw(np.random.default_rng(1), np.tile(c, (DRAWS, 1)), SPIKE, rows)
    slow = rows_one_by_one(c, rows, real)
    fast = drawn.astype(slow.dtype)
    for one, two in ((fast, slow), (np.abs(fast) ** 2, np.abs(slow) ** 2)):
        error = np.sqrt((one.var(axis=0) + two.var(axis=0)) / DRAWS)
        assert np.all(np.abs(one.mean(axis=0) - two.mean(axis=0)) < 5.0 * error)


@pytest.mark.parametrize(("draw", "degrees"), [(complex_scatter, 2), (real_scatter, 1)])
def test_the_mean_is_the_covariance_and_what_lies_along_c_is_chi_squared(
    draw: Draw, degrees: int
) -> None:
    """t S t has mean M (1 + spike) and variance 2 M (1 + spike)^2/degrees: seed 5, 4000 draws."""
    rows, c = 50, np.array([0.6, 0.8, 0.0], np.complex64)
    drawn = draw(np.random.default_rng(5), np.tile(c, (DRAWS, 1)), SPIKE, rows)
    along = np.einsum("i,bij,j->b", c.conj(), drawn, c).real
    # A real direction is kicked by one quadrature alone.
    mean, variance = rows * (1 + SPIKE), 2 / degrees * rows * (1 + SPIKE) ** 2
    assert along.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / DRAWS))
    assert along.var() == pytest.approx(variance, rel=5 * np.sqrt(2.4 / DRAWS))
    across = drawn[:, 2, 2].real
    assert across.mean() == pytest.approx(rows, abs=5 * np.sqrt(2 / degrees * rows / DRAWS))


@pytest.mark.parametrize("background", [0.0, 0.2])
@pytest.mark.parametrize("rows", [1, 30])
def test_counts_are_thermal(rows: int, background: float) -> None:
    """Mean and covariance of Gaussian amplitudes' intensities, and Poisson's noise: seed 8."""
    c, photons, draws = np.array([0.6, 0.8j, 0.0], np.complex64), 0.5, 40_000
    counted = photon_counts(
        np.random.default_rng(8), np.tile(c, (draws, 1)), photons, background, rows
    )
    covariance = background * np.eye(3) + photons * np.outer(c, c.conj())
    mean = rows * covariance.diagonal().real
    # Intensities of circular Gaussian amplitudes have covariance |cov|^2 (Siegert).
    second = rows * np.abs(covariance) ** 2 + np.diag(mean)
    error = np.sqrt(second.diagonal() / draws)
    assert np.all(np.abs(counted.mean(axis=0) - mean) <= 5 * error)
    scale = np.sqrt(np.outer(second.diagonal(), second.diagonal())) + 1e-12
    assert np.all(np.abs(np.cov(counted.T) - second) < 8.0 * scale / np.sqrt(draws) * 3.0)
    assert np.issubdtype(counted.dtype, np.floating)
    assert np.all(counted == np.round(counted))


@pytest.mark.parametrize(
    ("spike", "rows", "told"),
    [(-0.1, 5, "kick = -0.1"), (np.nan, 5, "kick"), (np.inf, 5, "kick"), (0.1, 0, "rows = 0")],
)
@pytest.mark.parametrize("draw", [complex_scatter, real_scatter])
def test_what_cannot_be_drawn_is_refused(draw: Draw, spike: float, rows: int, told: str) -> None:
    with pytest.raises(SettingError, match=told):
        draw(np.random.default_rng(0), direction(3)[None], spike, rows)


def test_a_background_cannot_be_negative() -> None:
    with pytest.raises(SettingError, match="background_photons"):
        photon_counts(np.random.default_rng(0), direction(3)[None], 0.1, -1.0, 4)
