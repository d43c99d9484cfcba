"""Real numbers on light: two weights ride on one mode, two inputs make one coefficient.

Mode k of a row carries weight 2k on X and weight 2k + 1 on P; an odd last weight rides alone.
Arrays of "interleaved quadratures" have X of mode k in column 2k and P in column 2k + 1.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from labctl.errors import ModelError, SettingError

Floats = npt.NDArray[np.float32]

MOST_PHOTONS = 1e9
PHOTON_RANGE = f"above 0, at most {MOST_PHOTONS:g} (mu, photons per mode)"


def modes_of(inputs: int) -> int:
    """Return the modes that one row of `inputs` real weights needs."""
    return (inputs + 1) // 2


def unit_rms(weights: Floats) -> Floats:
    """Return a layer's weights (m, N) scaled to unit root mean square over the layer."""
    rms = math.sqrt(float(np.mean(np.square(weights, dtype=np.float64))))
    if not (math.isfinite(rms) and rms > 0.0):
        raise ModelError(f"a layer's root mean square is {rms}: weights must be finite, not all 0")
    scaled: Floats = (weights / rms).astype(np.float32)
    return scaled


def quadratures(weights: Floats, mean_photons: float) -> Floats:
    """Return mean interleaved quadratures (m, 2n) of a layer sent with `mean_photons` per mode.

    Each quadrature has variance 2 mu over the layer; odd N is padded with an empty quadrature.
    """
    if not 0.0 < mean_photons <= MOST_PHOTONS:
        raise SettingError("mean_photons", mean_photons, PHOTON_RANGE)
    amplitude = np.float32(math.sqrt(2.0 * mean_photons))
    return pad_to_modes(unit_rms(weights) * amplitude)


def pad_to_modes(values: Floats) -> Floats:
    """Return values (..., N) with a zero appended on the last axis if N is odd."""
    if values.shape[-1] % 2 == 0:
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 1)])


def unit_norm(inputs: Floats) -> Floats:
    """Return inputs (B, N) scaled to unit Euclidean norm; rows of zeros stay zero."""
    # In double precision the squares of no float32 vanish or overflow.
    norms = np.sqrt(np.einsum("ij,ij->i", inputs, inputs, dtype=np.float64))[:, None]
    unit: Floats = np.divide(inputs, norms, out=np.zeros_like(inputs), where=norms > 0.0)
    return unit
