"""The client's rotation as it is built: a line of elements that lose light and miss their setting.

The b modes of a block are collected by b elements. Element k turns by the angle whose sine is |c_k|
over the norm of c_1 ... c_k, and shifts mode k's phase. Each loses a share of the light, both on
the way in and on the way out, and is off by its own angle and phase; the phases add up
along the line. The way out undoes what the elements do, errors included, so that errors change
which mode is collected, c', and nothing else: c' has unit norm, and the client's value is that of
c' instead of c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.protocols.encoding import Blocks, Floats
from labctl.protocols.streams import stream
from labctl.units import db_to_ratio

# One element leaves 1e-10 of the light: nothing is collected behind it.
MOST_LOSS_DB_PER_MODE = 100.0
_MOST_ERROR_RAD = math.pi
# Nothing of any light arrives, and 1e-100 is still a number of full precision.
MOST_LOSS_DB = 1000.0
# Of the stream of random numbers that elements' errors come from.
_ELEMENT_KEY = (0, 1)


@dataclass(frozen=True)
class Rotation:
    """Loss of one element in dB, standard deviations of its angle and its phase in rad."""

    loss_db_per_mode: float = 0.0
    coupler_error_rad: float = 0.0
    phase_error_rad: float = 0.0

    def __post_init__(self) -> None:
        for name, most, unit in (
            ("loss_db_per_mode", MOST_LOSS_DB_PER_MODE, "dB"),
            ("coupler_error_rad", _MOST_ERROR_RAD, "rad"),
            ("phase_error_rad", _MOST_ERROR_RAD, "rad"),
        ):
            value = getattr(self, name)
            checks.within(f"rotation {name}", value, 0.0, most, note=f" {unit}")

    @property
    def exact(self) -> bool:
        """Whether every element does what it is set to."""
        return self.coupler_error_rad == self.phase_error_rad == 0.0

    def loss_db(self, block_modes: int, clones: int = 1) -> float:
        """Return the loss in dB of a block of that many modes, each way; 1000 dB is all of it.

        Each of `clones` collected modes has its own line, one after the other.
        """
        return min(clones * block_modes * self.loss_db_per_mode, MOST_LOSS_DB)

    def transmittance(self, block_modes: int, clones: int = 1) -> float:
        """Return the transmittance of a block of that many modes, in and out together."""
        return db_to_ratio(-2.0 * self.loss_db(block_modes, clones))

    def overlap(self, block_modes: int) -> float:
        """Return the mean of Re <c, c'>, which scales the signal, for modes of equal weight.

        With E cos = exp(-sigma^2/2) for each error: mode k passes the b - k + 1 elements from its
        own on (the first mode, whose element turns by 90 degrees in any case, the b - 1
        others) and the phases of elements 1 to k.
        """
        place = np.arange(1, block_modes + 1)
        passed = np.where(place == 1, block_modes - 1, block_modes - place + 1)
        exponent = self.coupler_error_rad**2 * passed + self.phase_error_rad**2 * place
        return float(np.mean(np.exp(-0.5 * exponent)))

    def signal_to_noise(self, ideal: float, block_modes: int) -> float:
        """Return F of an inner product whose F is `ideal` in an exact rotation of the same loss.

        The share r^2 of the signal's variance stays signal, the rest adds to the noise.
        """
        kept = self.overlap(block_modes) ** 2
        return kept * ideal / (1.0 + (1.0 - kept) * ideal)

    def draw_errors(
        self, block_modes: int, generator: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """Return a unit's fixed errors (b, 2): each element's angle and phase in rad."""
        spread = (self.coupler_error_rad, self.phase_error_rad)
        return generator.standard_normal((block_modes, 2)) * spread

    def collected(self, coefficients: Floats, blocks: Blocks, seed: int) -> Floats:
        """Return what the unit of a seed collects when set to `coefficients`.

        (images, 2n), or (images, K, 2n) for K lines, each with its own errors: a line gets what
        those before it left, so that what it collects is orthogonal to what they did.
        """
        if self.exact:
            return coefficients
        generator = stream(seed, *_ELEMENT_KEY)
        if coefficients.ndim == 2:
            return made(coefficients, blocks, self.draw_errors(blocks.size, generator))
        lines = [
            made(line, blocks, self.draw_errors(blocks.size, generator))
            for line in coefficients.swapaxes(0, 1)
        ]
        return _one_after_the_other(np.stack(lines, axis=1), blocks)


IDEAL_ROTATION = Rotation()


def _one_after_the_other(lines: Floats, blocks: Blocks) -> Floats:
    """Return lines (images, K, 2n) less, in each block, what those before them collect.

    What is left is scaled to the norm that the line had: the light is there, in modes that
    the lines before passed on.
    """
    modes = np.array(lines, np.float32, order="C").view(np.complex64)
    for columns in blocks.slices():
        part = modes[..., columns]
        for line in range(1, part.shape[1]):
            own, before = part[:, line], part[:, :line]
            norm = np.linalg.norm(own, axis=-1, keepdims=True)
            overlaps = np.einsum("ikn,in->ik", before.conj(), own)
            squares = np.sum(np.abs(before) ** 2, axis=-1)
            shares = np.divide(overlaps, squares, out=np.zeros_like(overlaps), where=squares > 0.0)
            own = own - np.einsum("ik,ikn->in", shares, before)
            size = np.linalg.norm(own, axis=-1, keepdims=True)
            own *= np.divide(norm, size, out=np.zeros_like(norm), where=size > 0.0)
            part[:, line] = own
    return modes.view(np.float32)


def made(coefficients: Floats, blocks: Blocks, errors: npt.NDArray[np.float64]) -> Floats:
    """Return what a line with these errors collects when set to `coefficients` (images, 2n).

    Of a short last block, what its empty slots add is vacuum: it has less than unit norm. Blocks
    of zeros stay zero.
    """
    split = blocks.split(coefficients).astype(np.float64)
    wanted = split[..., 0::2] + 1j * split[..., 1::2]
    power = np.abs(wanted) ** 2
    before = np.cumsum(power, axis=-1) - power
    angle = np.arctan2(np.abs(wanted), np.sqrt(np.maximum(before, 0.0)))
    angle[..., 0] = math.pi / 2.0
    angle[..., 1:] += errors[1:, 0]
    passed_on = np.ones_like(angle)
    passed_on[..., :-1] = np.cumprod(np.cos(angle[..., :0:-1]), axis=-1)[..., ::-1]
    phase = np.angle(wanted) + np.cumsum(errors[:, 1])
    result = np.sin(angle) * passed_on * np.exp(1j * phase)
    result[~wanted.any(axis=-1)] = 0.0
    interleaved = np.stack([result.real, result.imag], axis=-1).reshape(split.shape)
    return np.ascontiguousarray(blocks.join(interleaved.astype(np.float32)))
