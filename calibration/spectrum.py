"""Noise of a receiver: its variance and how well it is known, its spectrum, and what spoils both.

The variance of m samples with autocorrelation r_k has the relative standard uncertainty
sqrt(2/m (1 + 2 sum r_k^2)) (Bartlett, J. R. Stat. Soc. Suppl. 8, 27 (1946), for Gaussian noise):
as that of m / (1 + 2 sum r_k^2) independent samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from labctl.errors import CalibrationError

Values = npt.NDArray[np.floating]
Reals = npt.NDArray[np.float64]

# Samples over which correlations are counted: a receiver's band of a tenth of the sampling rate
# makes correlations over some 10.
_LAGS = 24
# A variance of fewer is known worse than to 14 %.
_LEAST_SAMPLES = 100
# Samples that Gaussian noise should have beyond the largest that was seen. Chance leaves out so
# many with probability exp(-30).
_MISSING_SAMPLES = 30.0
# Standard deviations per step of the converter: below, most samples have one value.
_LEAST_STEPS = 0.5
# Enough to see every value that a converter takes often; all of a long record would cost sorting.
_STEP_SAMPLES = 20_000
# Of half the range: a record that ends there was cut off by the oscilloscope, not by the detector.
_EDGE = 0.98
# Chance of scatter between records below which it is taken to be real.
_UNSTEADY = 1e-3
# Samples of a segment: 128 frequencies up to half the sampling rate.
_SEGMENT = 256


@dataclass(frozen=True)
class NoiseVariance:
    """A variance about the mean, worth `samples` independent ones (effective, 2 or more).

    `steady_probability`: chance of such scatter between its records, were the noise steady.
    """

    variance: float
    samples: float
    steady_probability: float = 1.0

    @property
    def standard_uncertainty(self) -> float:
        """Standard uncertainty of the variance, in its unit."""
        return self.variance * math.sqrt(2.0 / self.samples)


def effective_samples(values: Values) -> float:
    """Return how many independent samples would give the variance as well as these (100 or more).

    Correlations over up to 24 samples are counted; what chance adds to their squares, 1/m each, is
    taken off.
    """
    centred = values.astype(np.float64) - np.mean(values, dtype=np.float64)
    size = len(centred)
    if size < _LEAST_SAMPLES:
        raise CalibrationError(f"{size} noise samples: {_LEAST_SAMPLES} or more are needed")
    power = float(centred @ centred)
    if power <= 0.0:
        raise CalibrationError("a record without noise: is the detector on and connected?")
    correlations = np.array(
        [float(centred[:-lag] @ centred[lag:]) / power for lag in range(1, _LAGS + 1)]
    )
    squares = float(np.sum(correlations**2 - 1.0 / size))
    return (size - 1) / (1.0 + 2.0 * max(squares, 0.0))


def pooled_variance(records: Sequence[Values]) -> NoiseVariance:
    """Return the variance of records, each about its own mean; one or more of 100 or more samples.

    Where records scatter more than their samples explain (below 0.1 % chance), the scatter counts.
    """
    counts = np.array([effective_samples(record) for record in records])
    variances = np.array([np.var(record, ddof=1, dtype=np.float64) for record in records])
    variance = float(np.average(variances, weights=counts))
    total = float(counts.sum())
    freedom = len(records) - 1
    if freedom == 0:
        return NoiseVariance(variance, total)
    spread = float(np.sum((variances / variance - 1.0) ** 2 * counts / 2.0))
    chance = float(special.chdtrc(freedom, spread))
    if chance < _UNSTEADY:
        total /= spread / freedom
    return NoiseVariance(variance, max(total, 2.0), chance)


def check_noise(voltage_v: Values, range_v: float, who: str) -> None:
    """Refuse a record of noise that is cut off, too coarse, or not there; `who` begins the message.

    Gaussian noise that never goes beyond its largest value, where 30 samples should, is cut off.
    Raises CalibrationError; it names detector or digitizer by the full scale (V, peak to peak).
    """
    centred = voltage_v - np.mean(voltage_v, dtype=np.float64)
    deviation = float(np.std(centred, dtype=np.float64))
    codes = np.unique(voltage_v[:_STEP_SAMPLES])
    if len(codes) < 2 or deviation == 0.0:
        raise CalibrationError(
            f"{who}: record of a constant {float(voltage_v[0]):.3g} V: is the detector on, its "
            "output connected, the digitizer's range small enough?"
        )
    step = float(np.min(np.diff(codes)))
    for side in (1.0, -1.0):
        largest = side * float(np.max(side * centred))
        missing = len(centred) * float(special.ndtr(-(abs(largest) + step) / deviation))
        if missing > _MISSING_SAMPLES:
            _refuse_cut(float(np.max(side * voltage_v)), range_v, who)
    if deviation < _LEAST_STEPS * step:
        raise CalibrationError(
            f"{who}: noise of {deviation:.2g} V is lost in the digitizer's steps of {step:.2g} V: "
            f"is the range ({range_v:.3g} V) too large, the detector off?"
        )


def _refuse_cut(extreme_v: float, range_v: float, who: str) -> None:
    # Less two steps of a converter of 8 bits.
    if extreme_v >= _EDGE * range_v / 2.0 - range_v / 128.0:
        raise CalibrationError(
            f"{who}: record is cut off at {extreme_v:.3g} V: the oscilloscope's range "
            f"({range_v:.3g} V) is too small"
        )
    raise CalibrationError(
        f"{who}: record is cut off at {extreme_v:.3g} V within a range of {range_v:.3g} V: the "
        "detector is saturated; less local oscillator, or is bright light on the signal port?"
    )


def spectral_density(records: Sequence[Values], interval_s: float) -> tuple[Reals, Reals]:
    """Return frequencies in Hz and the mean one-sided spectral density in V^2/Hz, without 0 Hz.

    Welch's method, Hann windows of 256 samples that overlap by half.
    """
    from scipy import signal

    densities = [
        signal.welch(record, 1.0 / interval_s, nperseg=_SEGMENT, detrend="constant")
        for record in records
    ]
    frequency_hz = np.asarray(densities[0][0][1:], np.float64)
    mean = np.mean([density[1:] for _, density in densities], axis=0, dtype=np.float64)
    return frequency_hz, np.asarray(mean)
