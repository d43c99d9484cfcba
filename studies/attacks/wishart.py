"""Sums over many returned rows, drawn at once from their exact laws instead of row by row.

A returned row is white noise plus a kick along the direction c of the input. Of M rows a reader of
their covariance needs the scatter matrix S = sum z z^dagger alone. A rotation among the rows, which
leaves white noise white, puts all kicks into one row (heterodyne: kicks are complex, of one
direction) or two (homodyne: Re c and Im c): S is that of these rows plus that of white rows, which
follows Wishart's law and is drawn as L L^dagger (Bartlett, Proc. R. Soc. Edinburgh 53, 260 (1933);
complex: Goodman, Ann. Math. Stat. 34, 152 (1963)). The work does not grow with M.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from labctl import checks

Complexes = npt.NDArray[np.complex64]
Reals = npt.NDArray[np.float32]


def complex_scatter(
    generator: np.random.Generator, directions: Complexes, spike: float, rows: int
) -> Complexes:
    """Return scatter matrices (B, k, k) of `rows` rows of covariance 1 + spike c c^dagger.

    directions: c, (B, k), norms up to 1. The white part has E |z|^2 = 1 per component.
    """
    _check(spike, rows)
    count, size = directions.shape
    if rows - 1 < size:
        kicks = math.sqrt(spike) * _complex_normal(generator, (count, rows, 1))
        read = _complex_normal(generator, (count, rows, size)) + kicks * directions[:, None, :]
        return np.asarray(read.swapaxes(1, 2) @ read.conj(), np.complex64)
    lower = np.tril(_complex_normal(generator, (count, size, size)), -1)
    lengths = generator.gamma((rows - 1) - np.arange(size), size=(count, size))
    lower[:, range(size), range(size)] = np.sqrt(lengths)
    kick = np.sqrt(spike * generator.gamma(rows, size=(count, 1)))
    row = _complex_normal(generator, (count, size)) + kick * directions
    scatter = lower @ lower.conj().swapaxes(1, 2) + row[:, :, None] * row[:, None, :].conj()
    return np.asarray(scatter, np.complex64)


def real_scatter(
    generator: np.random.Generator, directions: Complexes, spike: float, rows: int
) -> Reals:
    """Return scatter matrices (B, k, k) of real rows of covariance 1 + spike Re(c c^dagger)."""
    _check(spike, rows)
    count, size = directions.shape
    along = np.stack([directions.real, directions.imag], axis=1)
    if rows - 2 < size:
        kicks = math.sqrt(spike) * generator.standard_normal((count, rows, 2), np.float32)
        read = generator.standard_normal((count, rows, size), np.float32) + kicks @ along
        return np.asarray(read.swapaxes(1, 2) @ read, np.float32)
    lower = np.tril(generator.standard_normal((count, size, size), np.float32), -1)
    lengths = generator.chisquare((rows - 2) - np.arange(size), size=(count, size))
    lower[:, range(size), range(size)] = np.sqrt(lengths)
    # The kicks (rows, 2) are orthogonal columns times this upper triangle.
    kicks = np.zeros((count, 2, 2), np.float32)
    kicks[:, 0, 0] = np.sqrt(spike * generator.chisquare(rows, size=count))
    kicks[:, 0, 1] = math.sqrt(spike) * generator.standard_normal(count)
    kicks[:, 1, 1] = np.sqrt(spike * generator.chisquare(rows - 1, size=count))
    read = generator.standard_normal((count, 2, size), np.float32) + kicks @ along
    scatter = lower @ lower.swapaxes(1, 2) + read.swapaxes(1, 2) @ read
    return np.asarray(scatter, np.float32)


def photon_counts(
    generator: np.random.Generator,
    directions: Complexes,
    kick_photons: float,
    background_photons: float,
    rows: int,
) -> Reals:
    """Return photons (B, k) counted in each mode over `rows` rows that were nulled.

    Per row the mode along c holds a thermal state of `kick_photons` on average, every mode white
    thermal light of `background_photons`. Given the Gaussian amplitudes (Glauber's P function),
    counts are Poisson; their sum over rows needs the summed intensities alone.
    """
    _check(kick_photons, rows)
    checks.not_negative("background_photons", background_photons, ", per mode and row")
    count, size = directions.shape
    kick = np.sqrt(kick_photons * generator.gamma(rows, size=(count, 1)))
    white = math.sqrt(background_photons) * _complex_normal(generator, (count, size))
    intensity = np.abs(white + kick * directions) ** 2
    if rows > 1 and background_photons > 0.0:
        intensity += background_photons * generator.gamma(rows - 1, size=(count, size))
    return generator.poisson(intensity).astype(np.float32)


def _complex_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Complexes:
    """Return circular normal numbers of E |z|^2 = 1."""
    halves = generator.standard_normal((*shape, 2), np.float32) * np.float32(math.sqrt(0.5))
    return halves.view(np.complex64)[..., 0]


def _check(spike: float, rows: int) -> None:
    checks.not_negative("kick", spike, ", finite")
    checks.at_least("rows", rows, 1)
