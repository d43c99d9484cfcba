"""Real numbers on light: two weights ride on one mode, two inputs make one coefficient.

Mode k of a row carries weight 2k on X and weight 2k + 1 on P; an odd last weight rides alone.
Arrays of "interleaved quadratures" have X of mode k in column 2k and P in column 2k + 1. A row is
sent whole or in blocks of modes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.errors import ModelError, SettingError

Floats = npt.NDArray[np.float32]

# Quadratures of 2 sqrt(mu) = 6e4 SNU, which single precision rounds to 0.004, far below the noise.
MOST_PHOTONS = 1e9
# One photon in 1e12 modes, years of light at 20 MBaud: below, squares of amplitudes in single
# precision vanish in time.
LEAST_PHOTONS = 1e-12
PHOTON_RANGE = f"{LEAST_PHOTONS:g} to {MOST_PHOTONS:g} (mu, photons per mode)"


@dataclass(frozen=True)
class Blocks:
    """How the modes of a row are grouped: blocks of `size` modes, the last one with what is left.

    The modes that a short last block lacks are empty slots where blocks must be of one size.
    """

    modes: int
    size: int

    @classmethod
    def of(cls, modes: int, block_modes: int | None) -> Blocks:
        """Return the blocks of a row of `modes` modes; None sends it whole.

        Raises SettingError for fewer than one mode per block.

        >>> Blocks.of(392, 100).sizes
        (100, 100, 100, 92)
        """
        if block_modes is not None:
            checks.at_least("block_modes", block_modes, 1, note=", or none for whole rows")
        return cls(modes, modes if block_modes is None else min(block_modes, modes))

    @property
    def count(self) -> int:
        """Blocks per row."""
        return -(-self.modes // self.size)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Modes of each block in order."""
        last = self.modes - (self.count - 1) * self.size
        return (self.size,) * (self.count - 1) + (last,)

    def collected(self, clones: int) -> int:
        """Return the collected modes of a row: `clones` of each block, all of a smaller one."""
        return sum(min(clones, size) for size in self.sizes)

    def slices(self, per_mode: int = 1) -> tuple[slice, ...]:
        """Return each block's columns in an array with `per_mode` columns per mode."""
        edges = [per_mode * min(index * self.size, self.modes) for index in range(self.count + 1)]
        return tuple(slice(*pair) for pair in pairwise(edges))

    def split(self, values: Floats) -> Floats:
        """Return (..., k modes) as (..., blocks, k size), empty slots being zero."""
        per_mode = values.shape[-1] // self.modes
        empty = per_mode * (self.count * self.size - self.modes)
        full = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, empty)]) if empty else values
        return full.reshape(*values.shape[:-1], self.count, per_mode * self.size)

    def join(self, values: Floats) -> Floats:
        """Return (..., blocks, k size) as (..., k modes), without the empty slots."""
        per_mode = values.shape[-1] // self.size
        return values.reshape(*values.shape[:-2], -1)[..., : per_mode * self.modes]


def require_block_modes(block_modes: int | None, modes: int) -> None:
    """Raise SettingError for blocks of more modes than the longest row has, or of none."""
    if block_modes is not None and not 1 <= block_modes <= modes:
        valid = f"1 to {modes}, the modes of the longest row, or left out for whole rows"
        raise SettingError("block_modes", block_modes, valid)


def modes_of(inputs: int) -> int:
    """Return the modes that one row of `inputs` real weights needs.

    >>> modes_of(784), modes_of(5)
    (392, 3)
    """
    return (inputs + 1) // 2


def unit_rms(weights: Floats) -> Floats:
    """Return a layer's weights (m, N) scaled to unit root mean square over the layer.

    >>> unit_rms(np.array([[3.0, -3.0]], np.float32)).tolist()
    [[1.0, -1.0]]
    """
    rms = math.sqrt(float(np.mean(np.square(weights, dtype=np.float64))))
    if not (math.isfinite(rms) and rms > 0.0):
        raise ModelError(f"a layer's root mean square is {rms}: weights must be finite, not all 0")
    scaled: Floats = (weights / rms).astype(np.float32)
    return scaled


def quadratures(weights: Floats, mean_photons: float) -> Floats:
    """Return mean interleaved quadratures (m, 2n) of a layer sent with `mean_photons` per mode.

    Each quadrature has variance 2 mu over the layer; odd N is padded with an empty quadrature.

    >>> quadratures(np.array([[3.0, -3.0, 3.0]], np.float32), 8.0).tolist()
    [[4.0, -4.0, 4.0, 0.0]]
    """
    holds = LEAST_PHOTONS <= mean_photons <= MOST_PHOTONS
    checks.require(holds, "mean_photons", mean_photons, PHOTON_RANGE)
    amplitude = np.float32(math.sqrt(2.0 * mean_photons))
    return pad_to_modes(unit_rms(weights) * amplitude)


def pad_to_modes(values: Floats) -> Floats:
    """Return values (..., N) with a zero appended on the last axis if N is odd."""
    if values.shape[-1] % 2 == 0:
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 1)])


def unit_norm(inputs: Floats) -> Floats:
    """Return inputs (B, N) scaled to unit Euclidean norm; rows of zeros stay zero.

    >>> unit_norm(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    # In double precision the squares of no float32 vanish or overflow.
    norms = np.sqrt(np.einsum("ij,ij->i", inputs, inputs, dtype=np.float64))[:, None]
    unit: Floats = np.divide(inputs, norms, out=np.zeros_like(inputs), where=norms > 0.0)
    return unit
