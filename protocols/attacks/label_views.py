"""What a server sees of one block of modes, per way of reading: features and likelihoods.

Scatter and templates are taken in the `dimensions` strongest principal components of the templates.
The draws are those of `wishart`. Here the clone is matched: what returns says nothing of the rows
but noise. `label_joint` adds what a mismatched clone shows of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError
from labctl.protocols.attacks.wishart import (
    Complexes,
    Reals,
    complex_scatter,
    photon_counts,
    real_scatter,
)
from labctl.protocols.encoding import Blocks
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.receiver import GAIN_RANGE, MOST_GAIN, added_noise

MOST_ROWS = 1_000_000_000
_MOST_NOISE = 1e6
# Share of the templates' mean in the rates of each: a pixel dark in one template is not dark for
# sure in an image like it.
MEAN_SHARE = 0.1
_DARK_SHARE = 0.01


class Detection(StrEnum):
    """How the server reads what returns."""

    HETERODYNE = "heterodyne"
    HOMODYNE = "homodyne"
    COUNTING = "photon-counting"


# Evidence of a kick that reads as many labels as a nat of the mean does. A kick along a c of one
# phase brings M spike^2/4 nats to homodyne and M spike^2/2 to heterodyne, of which some only say
# that there is a kick; measured, see tests/protocols/attacks/test_label_evidence.py.
EVIDENCE_PER_NAT = {Detection.HOMODYNE: 5.0, Detection.HETERODYNE: 2.5, Detection.COUNTING: 1.0}


@dataclass(frozen=True)
class Reading:
    """What returns and how it is read.

    gain: the client's G. rows: M that carry the same input, `repeats` times. transmittance: from
    the clone to the detector, its efficiency included. technical_noise: in SNU as detected.
    emission_factor: n_sp, or what a tap's detectors make of it. background_photons: per mode and
    row, dark counts and light not nulled, for photon counting alone. vacuum_variance: what is left
    of a homodyne reading's vacuum noise, below 1 where the server sent squeezed light. mismatch:
    of the clone, known to the server: a constant of the hardware is learned over images.
    mode_photons: what a row brings to mode b at the clone on average, mu Q/2 with Q the mean of
    |c^dagger w|^2 for weights of unit RMS; only `evidence` asks for it. Raises SettingError.
    """

    gain: float
    rows: int
    repeats: int = 1
    transmittance: float = 1.0
    technical_noise: float = 0.0
    block_modes: int | None = None
    emission_factor: float = 1.0
    receiver: Detection = Detection.HOMODYNE
    background_photons: float = 0.0
    vacuum_variance: float = 1.0
    mismatch: CloneMismatch = MATCHED_CLONE
    mode_photons: float = 0.0

    def __post_init__(self) -> None:
        Blocks.of(1, self.block_modes)
        few = f"0 to {_MOST_NOISE:g}"
        checks = (
            ("gain", 1.0 < self.gain <= MOST_GAIN, GAIN_RANGE),
            ("rows", self.rows >= 1, "1 or more"),
            ("repeats", self.repeats >= 1 and self.samples <= MOST_ROWS,
             f"1 or more, {MOST_ROWS} rows in all at most"),
            ("transmittance", 0.0 < self.transmittance <= 1.0, "above 0, at most 1"),
            ("technical_noise", 0.0 <= self.technical_noise <= _MOST_NOISE, few),
            ("emission_factor", 1.0 <= self.emission_factor <= _MOST_NOISE, "1 or more, to 1e6"),
            ("vacuum_variance", 0.0 < self.vacuum_variance <= 1.0, "above 0, at most 1"),
            ("background_photons", 0.0 <= self.background_photons <= _MOST_NOISE, few),
            ("mode_photons", 0.0 <= self.mode_photons < math.inf, "0 or more"),
        )  # fmt: skip
        for name, holds, valid in checks:
            if not holds:
                raise SettingError(name, getattr(self, name), valid)
        if self.vacuum_variance != 1.0 and self.receiver is not Detection.HOMODYNE:
            raise SettingError("vacuum_variance", self.vacuum_variance, "1 unless homodyne reads")

    @property
    def samples(self) -> int:
        """Rows in all, M R."""
        return self.rows * self.repeats

    @property
    def spike(self) -> float:
        """Variance of the kick over that of the white noise; for counting, its photons per row."""
        kick = self.mismatch.returned_noise(self.emission_factor * added_noise(self.gain))
        kick *= self.transmittance
        if self.receiver is Detection.COUNTING:
            return kick / 2.0
        vacuum = 2.0 if self.receiver is Detection.HETERODYNE else self.vacuum_variance
        return kick / (vacuum + self.technical_noise)

    @property
    def background(self) -> float:
        """White thermal photons per mode and row that a counter sees besides."""
        return self.background_photons + self.technical_noise / 2.0

    @property
    def kick_evidence(self) -> float:
        """What the kick tells: M R spike^2/(1 + spike), for counting the photons M R spike."""
        if self.receiver is Detection.COUNTING:
            return self.samples * self.spike
        return self.samples * self.spike**2 / (1.0 + self.spike)

    @property
    def mismatch_nats(self) -> float:
        """What the mean tells of an image by homodyne or heterodyne, in nats; photons for counting.

        Half the mean's square over the noise of a reading: |kappa|^2 N M R with N photons in mode
        b, over the noise in vacuum units; heterodyne sees both quadratures, each with half the
        light.
        """
        photons = abs(self.mismatch.kappa) ** 2 * self.mode_photons
        shown = self.samples * self.transmittance * photons
        if self.receiver is Detection.COUNTING:
            return shown
        if self.receiver is Detection.HETERODYNE:
            return shown / (1.0 + 0.5 * self.technical_noise)
        return shown / (self.vacuum_variance + self.technical_noise)

    @property
    def evidence(self) -> float:
        """What success depends on, kick and mismatch together, in units of the kick's evidence."""
        return self.kick_evidence + EVIDENCE_PER_NAT[self.receiver] * self.mismatch_nats


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
