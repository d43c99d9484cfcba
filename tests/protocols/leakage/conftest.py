"""Gaussian attacks on a few modes, by covariance matrices alone: what they show and what they tell.

Independent of the package: symplectic matrices, their eigenvalues, and entropies. Quadratures are
ordered X1, P1, X2, P2, ...; the vacuum is the identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import expm

Matrix = NDArray[np.float64]


def form(modes: int) -> Matrix:
    return np.kron(np.eye(modes), np.array([[0.0, 1.0], [-1.0, 0.0]]))


def entropy(covariance: Matrix) -> float:
    modes = len(covariance) // 2
    values = np.abs(np.linalg.eigvals(1j * form(modes) @ covariance))
    total = 0.0
    for value in np.sort(values)[::2]:
        photons = max(value - 1.0, 0.0) / 2.0
        if photons > 1e-13:
            total += (photons + 1.0) * math.log2(photons + 1.0) - photons * math.log2(photons)
    return total


@dataclass(frozen=True)
class Attack:
    """A symplectic matrix on the modes sent, then the client's, which start in vacuum."""

    symplectic: Matrix
    modes: int

    def seen(self, prior: Matrix) -> tuple[float, float]:
        """Return the slope of what returns on what was sent, and the mean excess noise about it."""
        size = 2 * self.modes
        rows = self.symplectic[:size]
        through = rows[:, :size]
        slope = float(np.trace(through @ prior) / np.trace(prior))
        off = through - slope * np.eye(size)
        noise = rows @ rows.T + off @ prior @ off.T
        return slope, float(np.trace(noise)) / size - 1.0

    def learned(self, prior: Matrix) -> float:
        """Return the Holevo information of the client's modes about what was sent, in bits."""
        size = 2 * self.modes
        rows = self.symplectic[size:]
        known = rows @ rows.T
        return entropy(known + rows[:, :size] @ prior @ rows[:, :size].T) - entropy(known)


def random_attack(modes: int, own: int, strength: float, rng: np.random.Generator) -> Attack:
    """Return exp(Omega H) for a random symmetric H on the modes sent and `own` more."""
    size = 2 * (modes + own)
    raw = rng.normal(size=(size, size))
    generator = form(modes + own) @ (raw + raw.T) * strength
    return Attack(expm(generator), modes)


def skew_tap(tap: float, back_action: float, root: float) -> Attack:
    """Return the attack of one mode and one of the client's that `direction` calls a tap.

    X and P divide by different angles: `tap` theta and theta + phi, `back_action` being phi, in
    radians; `root` the r that makes the variance of X that returns r^2.
    """
    both = tap + back_action
    on_x = np.array(
        [[root * math.cos(tap), root * math.sin(tap)], [-math.sin(both), math.cos(both)]]
    )
    on_p = np.linalg.inv(on_x).T
    symplectic = np.zeros((4, 4))
    symplectic[0::2, 0::2], symplectic[1::2, 1::2] = on_x, on_p
    return Attack(symplectic, 1)


@pytest.fixture(name="random_attack")
def random_attack_fixture() -> Callable[..., Attack]:
    return random_attack


@pytest.fixture(name="skew_tap")
def skew_tap_fixture() -> Callable[[float, float, float], Attack]:
    return skew_tap


def purified_bits(
    variance: float, *, through_x: float, through_p: float, noise_x: float, noise_p: float
) -> float:
    """Return what the holder of the purification learns of X of this prior variance, in bits.

    The vacuum with X displaced by a normal of `variance` is one half of a pure state. Half of it
    passes a channel of amplitudes `through_*`, and returns with the variances `noise_*` given the
    displacement. What the other holder has is as mixed as these two modes together.
    """
    sent = 1.0 + variance
    reference = np.zeros((4, 4))
    x, p = np.ix_([0, 2], [0, 2]), np.ix_([1, 3], [1, 3])
    shared = math.sqrt(variance * sent)
    reference[x] = [
        [sent, through_x * shared],
        [through_x * shared, noise_x + through_x**2 * variance],
    ]
    opposite = -math.sqrt(variance / sent)
    reference[p] = [[1.0, through_p * opposite], [through_p * opposite, noise_p]]
    return entropy(reference) - entropy(np.diag([noise_x, noise_p]))


@pytest.fixture(name="purified_bits")
def purified_bits_fixture() -> Callable[..., float]:
    return purified_bits


@pytest.fixture
def reads_principal_modes() -> Callable[..., Any]:
    """Return what makes an attack that couples ancillas to principal modes, and the prior there."""

    def make(weights: Matrix, mean_photons: float, excess_noise: float) -> tuple[Attack, Matrix]:
        amplitudes = math.sqrt(mean_photons / 2.0) * (weights[:, 0::2] + 1j * weights[:, 1::2])
        powers, modes = np.linalg.eigh(amplitudes.T @ amplitudes.conj() / len(amplitudes))
        turned = amplitudes @ modes.conj()
        quadratures = 2.0 * np.stack([turned.real, turned.imag], axis=2).reshape(len(turned), -1)
        count = len(powers)
        # Noise on both quadratures in proportion to the mode's light.
        noise = excess_noise * powers / powers.mean()
        symplectic = np.eye(6 * count)
        for mode in range(count):
            x, first, second = 2 * mode, 2 * count + 2 * mode, 4 * count + 2 * mode
            reads_x, reads_p = np.eye(6 * count), np.eye(6 * count)
            strength = math.sqrt(noise[mode])
            reads_x[first, x], reads_x[x + 1, first + 1] = strength, -strength
            reads_p[second, x + 1], reads_p[x, second + 1] = strength, strength
            symplectic = reads_p @ reads_x @ symplectic
        whole = form(3 * count)
        assert np.allclose(symplectic @ whole @ symplectic.T, whole)
        return Attack(symplectic, count), quadratures.T @ quadratures / len(quadratures)

    return make
