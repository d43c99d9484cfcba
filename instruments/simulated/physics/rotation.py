"""The client's mode-selective receiver: rotation, amplifier, splitter, and the way back.

The unit takes one voltage for the real and one for the imaginary part of each slot's coefficient
and is clocked by the generator that plays them: one cycle is one row. Slot 0 of a cycle (pilot)
passes untouched; the last slot carries the collected mode out to the measured arm; those between
are rotated. Coefficients are sampled at the slot's middle and have unit norm over the row, since
the unit is passive; a row whose levels all stay below 10 mV, a generator's noise, is not rotated.
Without a running cycle, light passes through the clone slot by slot.

The b modes of a cycle are collected by a line of b elements: element k turns by the angle whose
sine is |c_k| over the norm of c_1 ... c_k, and shifts mode k's phase. Errors of angles and phases
add up along the line, and every mode passes b elements on its way in and b on its way out, so the
rotation is the worse the larger the block. The way out undoes what the elements do, with their
errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labctl.instruments.simulated.physics.drive import DriveOutput
from labctl.instruments.simulated.physics.grid import Field, Noise, Window
from labctl.instruments.simulated.physics.path import lose

_LEAST_LEVEL_V = 10e-3


@dataclass(frozen=True)
class RotationParameters:
    """Amplifier gain per volt of its control above 1 and n_sp; slot and storage in grid samples.

    Each element loses `loss_db_per_mode` of the light; its angle and phase are off by fixed amounts
    of the given standard deviations in rad.
    """

    gain_per_v: float
    emission_factor: float
    slot_samples: int
    storage_samples: int
    loss_db_per_mode: float = 0.0
    coupler_error_rad: float = 0.0
    phase_error_rad: float = 0.0

    def transmittance(self, modes: int) -> float:
        """Return what a block of that many modes lets through, each way."""
        return float(10.0 ** (-modes * self.loss_db_per_mode / 10.0))


@dataclass(frozen=True)
class Cycles:
    """The rows that a generator plays: first grid sample, samples per cycle, number of cycles."""

    start: int
    length: int
    count: int

    @property
    def window(self) -> Window:
        """All cycles."""
        return Window(self.start, self.length * self.count)


class RotationUnit:
    """The receiver's optics up to its detector."""

    def __init__(
        self,
        parameters: RotationParameters,
        real: DriveOutput,
        imaginary: DriveOutput,
        gain_control: DriveOutput,
        noise: Noise,
        elements: np.random.SeedSequence | None = None,
    ) -> None:
        """`elements` seeds the errors of couplers and phases; without it they are exact."""
        self.parameters = parameters
        self._elements = elements
        self._real = real
        self._imaginary = imaginary
        self._gain_control = gain_control
        self._noise = noise

    def gain(self) -> float:
        """Return the amplifier's gain now; a negative control voltage leaves it at 1."""
        return 1.0 + self.parameters.gain_per_v * max(self._gain_control.steady_voltage(), 0.0)

    def cycles(self, window: Window) -> Cycles | None:
        """Return the whole cycles that touch a window, or None when none runs."""
        drive = self._real.drive
        if drive is None or drive.cycles is None:
            return None
        start, length = self._real.start_sample(), self._real.period_samples()
        first = max((window.start - start) // length, 0)
        last = min(-(-(window.stop - start) // length), drive.cycles)
        if last <= first or length % self.parameters.slot_samples:
            return None
        return Cycles(start + first * length, length, last - first)

    def pass_through(
        self, field: Field, window: Window, cycles: Cycles | None
    ) -> tuple[Field, Field]:
        """Return measured arm and returned field for the field that arrives in `window`.

        `window` must contain all of `cycles`. The returned field is not yet delayed by storage.
        """
        if cycles is None:
            return self._clone(field)
        inner = cycles.window.within(window)
        measured = np.empty_like(field)
        returned = np.empty_like(field)
        for part in (slice(0, inner.start), slice(inner.stop, len(field))):
            measured[part], returned[part] = self._clone(field[part])
        measured[inner], returned[inner] = self._rows(field[inner], cycles)
        return measured, returned

    def _rows(self, field: Field, cycles: Cycles) -> tuple[Field, Field]:
        slot = self.parameters.slot_samples
        light = field.reshape(cycles.count, -1, slot)
        coefficients = self._coefficients(cycles)
        arm = np.zeros_like(light)
        if coefficients is None:
            measured, _ = self._clone(arm.reshape(-1) + self._noise.vacuum(arm.size))
            return measured, field
        light = self._lost(light)
        collected = np.matmul(coefficients.conj()[None, None, :], light)[:, 0, :]
        arm += self._noise.vacuum(arm.size).reshape(arm.shape)
        arm[:, -1, :] = collected
        measured, after = self._clone(arm.reshape(-1))
        change = after.reshape(arm.shape)[:, -1, :] - collected
        light = light + coefficients[None, :, None] * change[:, None, :]
        return measured, self._lost(light).reshape(-1)

    def _lost(self, light: Field) -> Field:
        """Return what the elements let through of the slots between the first and the last."""
        through = self.parameters.transmittance(light.shape[1] - 2)
        if through == 1.0:
            return light
        modes = light[:, 1:-1].reshape(-1)
        lose(modes, through, self._noise)
        passed = light.copy()
        passed[:, 1:-1] = modes.reshape(passed[:, 1:-1].shape)
        return passed

    def _coefficients(self, cycles: Cycles) -> Field | None:
        """Return the slots' coefficients with unit norm, or None when no level is above noise."""
        cycle = Window(cycles.start, cycles.length)
        slot = self.parameters.slot_samples
        real = self._real.voltage(cycle)[slot // 2 :: slot]
        imaginary = self._imaginary.voltage(cycle)[slot // 2 :: slot]
        coefficients = (real + 1j * imaginary).astype(np.complex64)
        coefficients[0] = coefficients[-1] = 0.0
        if np.max(np.abs(coefficients)) < _LEAST_LEVEL_V:
            return None
        coefficients /= np.float32(np.linalg.norm(coefficients))
        coefficients[1:-1] = self._mistaken(coefficients[1:-1])
        return coefficients

    def _mistaken(self, wanted: Field) -> Field:
        """Return the coefficients that the elements make of those they are set to."""
        p = self.parameters
        if self._elements is None or p.coupler_error_rad == p.phase_error_rad == 0.0:
            return wanted
        errors = np.random.Generator(np.random.SFC64(self._elements)).standard_normal(
            (len(wanted), 2)
        )
        errors[0, 0] = 0.0
        size = np.abs(wanted).astype(np.float64)
        collected = np.sqrt(np.append(0.0, np.cumsum(size**2)[:-1]))
        angle = np.arctan2(size, collected)
        angle[0] = math.pi / 2.0
        angle += p.coupler_error_rad * errors[:, 0]
        passed_on = np.append(np.cumprod(np.cos(angle[:0:-1]))[::-1], 1.0)
        phase = np.angle(wanted) + p.phase_error_rad * np.cumsum(errors[:, 1])
        made: Field = (np.sin(angle) * passed_on * np.exp(1j * phase)).astype(np.complex64)
        return made

    def _clone(self, field: Field) -> tuple[Field, Field]:
        """Amplify by G, then split 1 - 1/G to the measured arm and 1/G to the returned one.

        Caves, PRD 26, 1817 (1982): the amplifier's idler enters conjugated, with sqrt(G - 1).
        """
        gain = self.gain()
        excess = math.sqrt(2.0 * self.parameters.emission_factor - 1.0)
        amplified = self._noise.vacuum(len(field))
        amplified *= np.float32(math.sqrt(gain - 1.0) * excess)
        amplified += np.float32(math.sqrt(gain)) * field
        vacuum = self._noise.vacuum(len(field))
        to_arm, to_line = np.float32(math.sqrt(1.0 - 1.0 / gain)), np.float32(math.sqrt(1.0 / gain))
        returned = to_line * amplified + to_arm * vacuum
        amplified *= to_arm
        vacuum *= to_line
        amplified -= vacuum
        return amplified, returned
