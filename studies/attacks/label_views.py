"""What a server sees of one block of modes, per way of reading: features and likelihoods.

Scatter and templates are taken in the `dimensions` strongest principal components of the templates.
The draws are those of `wishart`. Here the clone is matched: what returns says nothing of the rows
but noise. `label_joint` adds what a mismatched clone shows of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from labctl.protocols.labels.reading import Reading
from labctl.studies.attacks.wishart import (
    Complexes,
    Reals,
    complex_scatter,
    photon_counts,
    real_scatter,
)

# Share of the templates' mean in the rates of each: a pixel dark in one template is not dark for
# sure in an image like it.
MEAN_SHARE = 0.1
_DARK_SHARE = 0.01


class View(Protocol):
    """One block of modes as a receiver sees it."""

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        """Return what is read of inputs of these directions (B, b), as features (B, F)."""
        ...

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        """Return (T, F) and (T,): log likelihoods are features times the first plus the second."""
        ...


@dataclass(frozen=True, eq=False)
class HeterodyneView:
    """The scatter of both quadratures in `basis`."""

    basis: Complexes
    spike: float
    samples: int

    @classmethod
    def of(cls, templates: Complexes, reading: Reading, dimensions: int) -> HeterodyneView:
        """Return the view of one block, templates (T, b)."""
        moments = templates.T @ templates.conj()
        return cls(strongest(moments, dimensions), reading.spike, reading.samples)

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        """Return features (B, F) of inputs of these directions (B, b)."""
        inside = directions @ self.basis.conj()
        return self.features(complex_scatter(generator, inside, self.spike, self.samples))

    def features(self, scatter: Complexes) -> Reals:
        """Return Re + Im: of two Hermitian matrices, one's Re and the other's Im are orthogonal."""
        centred = scatter - self.samples * np.eye(scatter.shape[-1], dtype=np.float32)
        return flat(centred.real + centred.imag)

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        """Return slopes (T, F) and biases (T,) of the log likelihoods."""
        inside = templates @ self.basis.conj()
        power = np.sum(np.abs(inside) ** 2, axis=1)
        slope = self.spike / (1.0 + self.spike * power)
        bias = self.samples * (slope * power - np.log1p(self.spike * power))
        real, imaginary = inside.real, inside.imag
        left = np.stack([real, imaginary], axis=2) * slope[:, None, None]
        right = np.stack([real - imaginary, real + imaginary], axis=1)
        return flat(left.astype(np.float32) @ right), bias.astype(np.float32)


@dataclass(frozen=True, eq=False)
class HomodyneView:
    """The scatter of one quadrature per row in `basis`."""

    basis: Reals
    spike: float
    samples: int

    @classmethod
    def of(cls, templates: Complexes, reading: Reading, dimensions: int) -> HomodyneView:
        """Return the view of one block, templates (T, b)."""
        moments = (templates.T @ templates.conj()).real
        return cls(strongest(moments, dimensions), reading.spike, reading.samples)

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        """Return features (B, F) of inputs of these directions (B, b)."""
        inside = directions @ self.basis
        return self.features(real_scatter(generator, inside, self.spike, self.samples))

    def features(self, scatter: Reals) -> Reals:
        """Return the upper triangle of the centred scatter."""
        return upper(scatter - self.samples * np.eye(scatter.shape[-1], dtype=np.float32))

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        """Return slopes (T, F) and biases (T,) of the log likelihoods."""
        inside = templates @ self.basis
        # The phase that makes Re c and Im c orthogonal: then they are the covariance's axes.
        turned = np.exp(-0.5j * np.angle(np.sum(inside**2, axis=1)))[:, None] * inside
        axes = np.stack([turned.real, turned.imag], axis=1).astype(np.float32)
        power = np.sum(axes**2, axis=2)
        slope = 0.5 * self.spike / (1.0 + self.spike * power)
        bias = self.samples * (slope * power - 0.5 * np.log1p(self.spike * power))
        matrices = (axes * slope[:, :, None]).swapaxes(1, 2) @ axes
        return upper(matrices), np.sum(bias, axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class CountingView:
    """Photons counted in each mode; `mean`: shares of modes in all templates."""

    mean: Reals
    photons: float
    background: float
    samples: int

    @classmethod
    def of(cls, templates: Complexes, reading: Reading, _dimensions: int) -> CountingView:
        """Return the view of one block, templates (T, b)."""
        mean = np.mean(np.abs(templates) ** 2, axis=0)
        even = np.mean(mean) + np.zeros_like(mean)
        likely = (1.0 - _DARK_SHARE) * mean + _DARK_SHARE * even
        return cls(likely, reading.spike, reading.background, reading.samples)

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        """Return features (B, F) of inputs of these directions (B, b)."""
        return photon_counts(generator, directions, self.photons, self.background, self.samples)

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        """Return slopes (T, F) and biases (T,) of the log likelihoods."""
        shape = (1.0 - MEAN_SHARE) * np.abs(templates) ** 2 + MEAN_SHARE * self.mean
        rates = self.samples * (self.photons * shape + self.background)
        return np.log(rates).astype(np.float32), -np.sum(rates, axis=1).astype(np.float32)


def strongest(moments: npt.NDArray[Any], dimensions: int) -> Any:
    """Return the eigenvectors (b, dimensions) of the largest second moments."""
    _, vectors = np.linalg.eigh(moments)
    return np.ascontiguousarray(vectors[:, ::-1][:, :dimensions])


def flat(matrices: npt.NDArray[Any]) -> Reals:
    """Return matrices (B, ...) as vectors."""
    return np.asarray(matrices.reshape(len(matrices), -1), np.float32)


def upper(matrices: Reals) -> Reals:
    """Return symmetric matrices (B, k, k) as vectors with the same inner products."""
    size = matrices.shape[-1]
    rows, columns = np.triu_indices(size)
    weight = np.where(rows == columns, 1.0, math.sqrt(2.0)).astype(np.float32)
    kept: Reals = np.take(flat(matrices), rows * size + columns, axis=1) * weight
    return kept
