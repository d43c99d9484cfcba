"""How one layer runs on light, as arithmetic that NumPy and JAX share: noise, modulator, digitizer.

Unit-L2 input, unit-RMS weights times √F, unit Gaussian noise on each measured value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from labctl import checks
from labctl.errors import SettingError

# Added to a squared norm, far below that of any image or measured layer, so that an all-zero
# vector stays zero instead of becoming NaN.
TINY = 1e-12
_MOST_BITS = 32


@dataclass(frozen=True)
class TrainingChannel:
    """What the hardware adds to a layer beyond the noise that F counts; the default is nothing.

    technical_noise: extra variance of every measured value at the client, in units of the noise
    that F counts (ξ/D for ξ SNU referred to the mode that carries the inner product).
    weight_bits: of the modulator's drive, whose full scale is the layer's largest weight; the
    network that training gives has these levels, as they are what is sent. weight_dither: after
    rounding each weight is moved at random within this share of its level's cell (0: levels alone,
    1: evenly over the whole cell, which leaves no levels); needs a drive that is finer than that.
    value_bits: of the client's digitizer, whose range is ± value_range standard deviations that
    a measured value has with random weights, √(1 + technical_noise + F); None: not quantised.
    Raises SettingError.
    """

    technical_noise: float = 0.0
    weight_bits: int | None = None
    value_bits: int | None = None
    value_range: float = 4.0
    weight_dither: float = 0.0

    def __post_init__(self) -> None:
        checks.not_negative("technical_noise", self.technical_noise, ", in units of the noise in F")
        for name in ("weight_bits", "value_bits"):
            bits = getattr(self, name)
            whole = isinstance(bits, int) and not isinstance(bits, bool)
            if bits is not None and not (whole and 2 <= bits <= _MOST_BITS):
                raise SettingError(name, bits, f"a whole number from 2 to {_MOST_BITS}, or None")
        checks.positive("value_range", self.value_range)
        if not (self.weight_dither == 0 or (self.weight_bits and 0 < self.weight_dither <= 1)):
            valid = "0, or up to 1 with bits of weights: a share of a level's cell"
            raise SettingError("weight_dither", self.weight_dither, valid)


IDEAL_CHANNEL = TrainingChannel()


def levels(xp: Any, channel: TrainingChannel, unit: Any) -> Any:
    """Return a layer at the levels that the modulator's bits allow; xp: numpy or jax.numpy."""
    if channel.weight_bits is None:
        return unit
    step = _step(xp, channel.weight_bits, unit)
    return xp.round(unit / step) * step


def dithered(xp: Any, channel: TrainingChannel, unit: Any, uniform: Any) -> Any:
    """Return a layer of unit RMS at its levels, moved within their cells where that is asked for.

    uniform: as many numbers as weights, even over 0 to 1. With dither the RMS is 1 again: what it
    adds shares the light.
    """
    rounded = levels(xp, channel, unit)
    if channel.weight_bits is None or channel.weight_dither == 0:
        return rounded
    width = channel.weight_dither * _step(xp, channel.weight_bits, unit)
    moved = rounded + width * (uniform - 0.5)
    return moved / xp.sqrt(xp.mean(moved**2))


def _step(xp: Any, bits: int, unit: Any) -> Any:
    return xp.max(xp.abs(unit)) / (2 ** (bits - 1) - 1)


def value_limits(xp: Any, channel: TrainingChannel, signal_to_noise: Any) -> tuple[Any, Any, Any]:
    """Return the digitizer's step and its lowest and highest value, in RMS of F's noise.

    signal_to_noise: F, one or an array. Without noise (math.inf) values are in units of what
    random weights give, and so are the limits.
    """
    bits = 0 if channel.value_bits is None else channel.value_bits
    infinite = isinstance(signal_to_noise, float) and signal_to_noise == math.inf
    spread = 1.0 if infinite else xp.sqrt(1 + channel.technical_noise + signal_to_noise)
    step = 2 * channel.value_range * spread / 2**bits
    most = 2 ** (bits - 1)
    return step, -most * step, (most - 1) * step
