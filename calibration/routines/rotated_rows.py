"""Rows of known symbols that the client's rotation turns by random coefficients, new ones a record.

What the routines of the rotation and of its clone have in common: a frame whose first rows pass
untouched, an amplifier at one gain, and a generator that plays one row's coefficients per cycle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.routines.known_symbols import Amplitude
from labctl.calibration.routines.receiver_noise import brightest, set_client_gain
from labctl.dsp.layout import FrameLayout
from labctl.errors import CalibrationError

_ROTATION = "COEFFICIENTS"
# An amplitude below 8 standard errors counts as none; chance never makes one that large.
_LEAST_SIGMA = 8.0


@contextmanager
def amplifying(bench: CalibrationBench, gain: float) -> Iterator[None]:
    """Have the brightest light and the amplifier at a gain; leave it idle and nothing driven."""
    bench.light_on()
    try:
        brightest(bench.equipment.server.attenuator)
        set_client_gain(bench, gain)
        yield
    finally:
        bench.equipment.client.gain.set(0.0)
        forget_rotation(bench)
        bench.light_on()
        bench.sender.forget()


def random_coefficients(bench: CalibrationBench, modes: int) -> npt.NDArray[np.complex128]:
    """Return coefficients (modes,) of unit norm and random direction."""
    parts = bench.draw.standard_normal((2, modes))
    coefficients = parts[0] + 1j * parts[1]
    return np.asarray(coefficients / np.linalg.norm(coefficients), np.complex128)


def load_rotation(
    bench: CalibrationBench,
    layout: FrameLayout,
    coefficients: npt.NDArray[np.complex128],
    arrival_s: float,
    untouched: int,
) -> None:
    """Have the client's generator rotate the rows after the first `untouched`."""
    rotation = bench.equipment.client.rotation
    interleaved = np.stack([coefficients.real, coefficients.imag], axis=1).ravel()
    levels = layout.rotation_levels(interleaved.astype(np.float32))
    row_s = layout.row_slots / layout.symbol_rate_hz
    rotation.play_in_cycles(
        _ROTATION,
        levels,
        sample_rate_hz=layout.sample_rate_hz,
        cycles=layout.rows - untouched,
        delay_s=arrival_s + layout.rows_start_s + untouched * row_s,
    )


def forget_rotation(bench: CalibrationBench) -> None:
    """Switch the rotation off and have its generator forget its coefficients."""
    bench.rest_rotation()
    for channel in bench.equipment.client.rotation.channels:
        bench.equipment.client.rotation.generator.forget(channel)


def require_light(party: str, amplitude: Amplitude) -> None:
    """Raise CalibrationError where known symbols do not stand out of the noise."""
    noise = math.sqrt(amplitude.residual_v2 / max(amplitude.freedom, 1))
    if not amplitude.power > (_LEAST_SIGMA * noise) ** 2:
        raise CalibrationError(
            f"{party}: known symbols do not show ({amplitude.power:.2g} V^2, noise {noise:.2g} V): "
            "is light blocked, the rotation's generator running away, the layout right?"
        )
