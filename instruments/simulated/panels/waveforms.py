"""Standard waveforms of a function generator: one period each, between -1 and +1."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

# Fewest, for a shape that is recognised; most, for steps of 1.5e-3 of a sine's amplitude.
PERIOD_SAMPLES = (16, 4096)
# Played again and again.
NOISE_SAMPLES = 1 << 16
# One draw in a thousand lies beyond and is clipped.
NOISE_CREST = 3.3


def standard_waveform(
    function: str,
    frequency_hz: float,
    phase_rad: float,
    max_sample_rate_hz: float,
    *,
    high: float = 0.5,
    symmetry: float = 1.0,
) -> tuple[Samples, float]:
    """Return one period of SIN, SQU, RAMP, TRI or PULS and its sample rate in Hz.

    A period has 16 to 4096 samples, as many as the largest sample rate allows. SQU and
    PULS are high for the part `high` of it, RAMP rises for the part `symmetry`.
    """
    fewest, most = PERIOD_SAMPLES
    count = int(min(max(max_sample_rate_hz / frequency_hz, fewest), most))
    turns = (np.arange(count) / count + phase_rad / math.tau) % 1.0
    if function == "SIN":
        samples = np.sin(math.tau * turns)
    elif function == "RAMP":
        samples = _ramp((turns + (symmetry / 2.0 or 0.5)) % 1.0, symmetry)
    elif function == "TRI":
        samples = 1.0 - 4.0 * np.abs((turns + 0.25) % 1.0 - 0.5)
    else:
        samples = np.where(turns < high, 1.0, -1.0)
    return samples.astype(np.float32), count * frequency_hz


def _ramp(turns: npt.NDArray[np.float64], symmetry: float) -> npt.NDArray[np.float64]:
    """Return a triangle that starts at -1 and rises for the part `symmetry` of its period."""
    if symmetry in (0.0, 1.0):
        return (2.0 * turns - 1.0) * (1.0 if symmetry else -1.0)
    rising = 2.0 * turns / symmetry - 1.0
    falling = 1.0 - 2.0 * (turns - symmetry) / (1.0 - symmetry)
    return np.where(turns < symmetry, rising, falling)


def noise_waveform(seed: int) -> Samples:
    """Return white Gaussian noise, clipped at 3.3 standard deviations, which are 1."""
    draws = np.random.default_rng(seed).standard_normal(NOISE_SAMPLES)
    clipped = np.clip(draws / NOISE_CREST, -1.0, 1.0)
    return clipped.astype(np.float32)


def rms_of_unit(function: str, samples: Samples | None) -> float:
    """Return the RMS value of a waveform that swings from -1 to +1, its DC part included."""
    if function == "ARB" and samples is not None:
        return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) or 1.0
    known = {"SIN": math.sqrt(0.5), "RAMP": 3.0**-0.5, "TRI": 3.0**-0.5, "NOIS": 1 / NOISE_CREST}
    return float(known.get(function, 1.0))
