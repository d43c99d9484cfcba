"""The client's mode-selective receiver: rotation, amplifier, splitter, and the way back.

The unit takes one voltage for the real and one for the imaginary part of each slot's coefficient
and is clocked by the generator that plays them: one cycle is one row. A unit built for blocks of
`block_modes` counts the slots from the cycle's start: a block ends after that many modes and two
slots more, or with the cycle. Slot 0 of a block (pilot) passes untouched, or passes the clone in a
unit that shows pilots to its detector; the last slot carries the collected mode out to the measured
arm; those between are rotated. Coefficients are sampled at the slot's middle and have unit norm
over the block, since the unit is passive; a block whose levels all stay below 10 mV, a generator's
noise, is not rotated. Without a running cycle, or in one that is not made of whole blocks or has
more than 2^20 grid samples, light passes through the clone slot by slot.

The b modes of a block are collected by a line of b elements: element k turns by the angle whose
sine is |c_k| over the norm of c_1 ... c_k, and shifts mode k's phase. Errors of angles and phases
add up along the line, and every mode passes b elements on its way in and b on its way out, so the
rotation is the worse the larger the block. The way out undoes what the elements do, with their
errors.

A unit of several turns has a loop that holds a block's light. Slots of the block are played once
for each turn, with its own coefficients: the light of the first turn passes the
elements again in each further turn, with what the clone made of it, and the last slot of each turn
carries a collected mode out. Each turn loses light on its way in and out; one without coefficients
is bypassed, but for the first. What arrives meanwhile, pilots for example, passes untouched. All of
a block's light leaves in the slots of its first turn, delayed by the unit's storage.

What the clone returns is off by a net amplitude gain 1 + delta and a phase: splices, the splitter's
ratio, the arm's length. They walk on the bench clock. From any cause, it acts like one more
element behind an exact clone, a loss for delta < 0, else an amplifier at the quantum limit (Caves,
PRD 26, 1817 (1982)); the measured arm is as it would be.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.instruments.simulated.physics.drive import DriveOutput
from labctl.instruments.simulated.physics.grid import Field, Instants, Noise, Window
from labctl.instruments.simulated.physics.path import lose

# Above a generator's output noise, below any coefficient that is played.
_LEAST_LEVEL_V = 10e-3
# A block's pilot and its readout.
_BLOCK_OVERHEAD = 2
# Grid samples: bounds the memory for a waveform that is no row.
_LONGEST_ROW = 1 << 20


@dataclass(frozen=True)
class RotationParameters:
    """Amplifier gain per volt of its control above 1 and n_sp; slot and storage in grid samples.

    Each element loses `loss_db_per_mode` of the light; its angle and phase are off by fixed amounts
    of the given standard deviations in rad. Without `block_modes` a cycle is one block. A block
    takes `turns` times its slots. With `pilots_measured` a block's first slot passes the clone and
    reaches the measured arm. What the clone returns has net amplitude 1 + `net_gain_error` and
    phase `arm_phase_rad` at time zero; their drifts are standard deviations per square root of an
    hour.
    """

    gain_per_v: float
    emission_factor: float
    slot_samples: int
    storage_samples: int
    loss_db_per_mode: float = 0.0
    coupler_error_rad: float = 0.0
    phase_error_rad: float = 0.0
    block_modes: int | None = None
    net_gain_error: float = 0.0
    arm_phase_rad: float = 0.0
    net_gain_drift_rth: float = 0.0
    arm_phase_drift_rad_rth: float = 0.0
    turns: int = 1
    pilots_measured: bool = False

    def blocks(self, slots: int) -> int | None:
        """Return how many blocks a cycle of that many slots holds, or None if not whole ones."""
        turn_slots, rest = divmod(slots, self.turns)
        if rest:
            return None
        if self.block_modes is None or turn_slots <= self.block_modes + _BLOCK_OVERHEAD:
            return 1
        blocks, rest = divmod(turn_slots, self.block_modes + _BLOCK_OVERHEAD)
        return None if rest else blocks

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
        walks: tuple[Callable[[], float], Callable[[], float]] | None = None,
    ) -> None:
        """`elements` seeds the errors of couplers and phases; without it they are exact.

        `walks` return by how much net gain and arm phase have drifted by now; without, not at all.
        """
        self.parameters = parameters
        self._elements = elements
        self._real = real
        self._imaginary = imaginary
        self._gain_control = gain_control
        self._noise = noise
        self._walks = walks

    def net_amplitude(self) -> complex:
        """Return (1 + delta) e^(i phi), by which the clone multiplies what it returns, now."""
        p = self.parameters
        gain_error, phase_rad = p.net_gain_error, p.arm_phase_rad
        if self._walks is not None:
            gain_error += self._walks[0]()
            phase_rad += self._walks[1]()
        return cmath.rect(1.0 + gain_error, phase_rad)

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
        slots, rest = divmod(length, self.parameters.slot_samples)
        if last <= first or length > _LONGEST_ROW or rest or not self.parameters.blocks(slots):
            return None
        return Cycles(start + first * length, length, last - first)

    def power_change(self, time_s: float) -> tuple[float, float]:
        """Return transmittance to the line, and photons per mode that the amplifier adds to it.

        Means over a block where rows play: one of its modes is amplified in each turn that is set,
        the others pass elements. The clone's way out leaves the signal's power as it is but for its
        net gain: G times, then 1/G of it. Of a block only these modes have that, of all slots of an
        idle unit each.
        """
        p, gain, net = self.parameters, self.gain(), abs(self.net_amplitude()) ** 2
        emitted = net * p.emission_factor * (1.0 - 1.0 / gain) + max(net - 1.0, 0.0)
        if not self._real.playing(time_s):
            return net, emitted
        slots = max(self._real.period_samples() // p.slot_samples, 3 * p.turns)
        per_block = slots // (p.blocks(slots) or 1)
        turns = 1 if p.turns == 1 else self._turns_set()
        through = p.transmittance(per_block // p.turns - _BLOCK_OVERHEAD)
        return through ** (2 * turns), turns * emitted / per_block

    def _turns_set(self) -> int:
        """Return how many turns of a playing cycle's first block have coefficients, at least 1."""
        cycles = self.cycles(Window(self._real.start_sample(), 1))
        if cycles is None:
            return 1
        return max(int(self._coefficients(cycles)[0].any(axis=1).sum()), 1)

    def pass_at(
        self, light: Callable[[Instants], Field], instants: Instants, most_samples: int
    ) -> tuple[Field, Field, int]:
        """Return measured arm and returned field at single instants, and the samples of rows taken.

        `light` is asked for the field there and in all of the rows that they touch; rows that
        would take more than `most_samples` are passed like the light between rows.
        """
        cycles = self.cycles(Window(int(instants[0]), int(instants[-1] - instants[0]) + 1))
        if cycles is None or most_samples < cycles.length:
            return *self._clone(light(instants)), 0
        row, place = np.divmod(instants - cycles.start, cycles.length)
        rows = np.unique(row[(row >= 0) & (row < cycles.count)])[: most_samples // cycles.length]
        if len(rows) == 0:
            return *self._clone(light(instants)), 0
        inside = np.isin(row, rows)
        starts = cycles.start + rows * cycles.length
        of_rows = (starts[:, None] + np.arange(cycles.length)).ravel()
        everywhere = np.concatenate([instants[~inside], of_rows])
        order = np.argsort(everywhere, kind="stable")
        field = np.empty(len(everywhere), np.complex64)
        field[order] = light(everywhere[order])
        between = len(everywhere) - len(of_rows)
        parts = self._clone(field[:between])
        whole = self._rows(field[between:], Cycles(int(starts[0]), cycles.length, len(rows)))
        found = np.searchsorted(rows, row[inside]) * cycles.length + place[inside]
        arms = []
        for part, row_part in zip(parts, whole, strict=True):
            arm = np.empty(len(instants), np.complex64)
            arm[~inside], arm[inside] = part, row_part[found]
            arms.append(arm)
        return arms[0], arms[1], len(of_rows)

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
        coefficients = self._coefficients(cycles)
        shape = (cycles.count, *coefficients.shape, self.parameters.slot_samples)
        returned = field.reshape(shape)
        light = returned[:, :, 0]
        measured = np.empty(shape, np.complex64)
        for turn in range(self.parameters.turns):
            measured[:, :, turn], light = self._turned(light, coefficients[:, turn], turn)
        if self.parameters.turns == 1:
            return measured.reshape(-1), light.reshape(-1)
        returned = returned.copy()
        returned[:, :, 0] = light
        return measured.reshape(-1), returned.reshape(-1)

    def _turned(self, light: Field, coefficients: Field, turn: int) -> tuple[Field, Field]:
        """Return the measured arm of one turn, and the light (rows, blocks, slots, samples) after.

        `coefficients` (blocks, slots) of that turn.
        """
        lit = np.asarray(coefficients.any(axis=1), np.bool_)
        passing = lit if turn else np.ones_like(lit)
        light = self._lost(light, passing)
        collected = np.matmul(coefficients.conj()[None, :, None, :], light)[:, :, 0, :]
        arm = self._noise.vacuum(light.size).reshape(light.shape)
        arm[:, lit, -1, :] = collected[:, lit]
        if self.parameters.pilots_measured:
            arm[:, :, 0, :] = light[:, :, 0, :]
        measured, after = self._clone(arm.reshape(-1))
        change = after.reshape(arm.shape)[:, :, -1, :] - arm[:, :, -1, :]
        light = light + coefficients[None, :, :, None] * change[:, :, None, :]
        if self.parameters.pilots_measured:
            light[:, :, 0, :] = after.reshape(arm.shape)[:, :, 0, :]
        return measured.reshape(arm.shape), self._lost(light, passing)

    def _lost(self, light: Field, passing: npt.NDArray[np.bool_]) -> Field:
        """Return what elements let through of the slots between first and last of some blocks."""
        through = self.parameters.transmittance(light.shape[2] - _BLOCK_OVERHEAD)
        if through == 1.0 or not passing.any():
            return light
        modes = light[:, passing, 1:-1]
        flat = modes.reshape(-1)
        lose(flat, through, self._noise)
        passed = light.copy()
        passed[:, passing, 1:-1] = flat.reshape(modes.shape)
        return passed

    def _coefficients(self, cycles: Cycles) -> Field:
        """Return coefficients (blocks, turns, slots) of unit norm, 0 where no level is above noise.

        The blocks are those of one cycle; all cycles are alike.
        """
        cycle = Window(cycles.start, cycles.length)
        slot = self.parameters.slot_samples
        real = self._real.voltage(cycle)[slot // 2 :: slot]
        imaginary = self._imaginary.voltage(cycle)[slot // 2 :: slot]
        levels = (real + 1j * imaginary).astype(np.complex64)
        blocks = self.parameters.blocks(len(levels)) or 1
        coefficients = levels.reshape(blocks, self.parameters.turns, -1)
        coefficients[..., 0] = coefficients[..., -1] = 0.0
        for turn in coefficients.reshape(-1, coefficients.shape[2]):
            if np.max(np.abs(turn)) < _LEAST_LEVEL_V:
                turn[:] = 0.0
                continue
            turn[:] = turn / np.float32(np.linalg.norm(turn))
            turn[1:-1] = self._mistaken(turn[1:-1])
        return coefficients

    def _mistaken(self, wanted: Field) -> Field:
        """Return the coefficients of the elements when set to these."""
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
        returned = self._mismatched(to_line * amplified + to_arm * vacuum)
        amplified *= to_arm
        vacuum *= to_line
        amplified -= vacuum
        return amplified, returned

    def _mismatched(self, returned: Field) -> Field:
        """Return what an exact clone returns with net gain and phase applied."""
        net = self.net_amplitude()
        if net == 1.0:
            return returned
        changed: Field = np.complex64(net) * returned
        added = math.sqrt(abs(abs(net) ** 2 - 1.0))
        changed += np.float32(added) * self._noise.vacuum(len(returned))
        return changed
