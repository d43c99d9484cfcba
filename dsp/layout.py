"""Frames: where the preamble, the pilots and the payload of one layer lie, and their waveforms.

A frame is a train of slots, one pulse each: preamble, guard, then per row a pilot slot, the row's
modes, and a slot in which the client's receiver reads out the collected mode; a guard ends it. Rows
too long for the light's coherence carry further pilots between their modes. A Hann pulse fills most
of its slot and leaves the rest to the tails that finite bandwidth makes.

A receiver that collects several modes of a row keeps its light for as many turns, one after the
other. The row then takes as many turns of the same slots: the first carries the modes, the others
are dark except for their pilots, and each ends with its own readout slot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.dsp.pulses import HANN, PulseShape
from labctl.errors import SettingError

Floats = npt.NDArray[np.float32]
Complexes = npt.NDArray[np.complex64]

Indices = npt.NDArray[np.int64]

# Largest field of preamble, pilots and payload, relative to the modulator's largest: the rest is
# room for predistortion, which adds to some drives.
PEAK = 0.95


def zadoff_chu(symbols: int) -> Complexes:
    """Return a unit-modulus sequence of odd length whose cyclic autocorrelation has no sidelobes.

    Chu, IEEE Trans. Inf. Theory 18, 531 (1972), root 1.
    """
    if symbols % 2 == 0:
        raise SettingError("preamble_symbols", symbols, "odd")
    index = np.arange(symbols, dtype=np.float64)
    angle = -math.pi * index * (index + 1.0) / symbols
    sequence: Complexes = np.exp(1j * angle).astype(np.complex64)
    return sequence


@dataclass(frozen=True)
class FrameLayout:
    """The slots of one layer's frame.

    `pilot_spacing`: most modes between two pilots of a row; 0 is one pilot per row. `turns`: how
    often the client's receiver turns a row's light round; it collects a mode in each. A pulse that
    reaches beyond its slot needs a guard as long as its reach; raises SettingError without.
    """

    symbol_rate_hz: float
    sample_rate_hz: float
    preamble_symbols: int
    guard_symbols: int
    rows: int
    modes: int
    pulse_shape: PulseShape = HANN
    pilot_spacing: int = 0
    turns: int = 1

    def __post_init__(self) -> None:
        ratio = self.sample_rate_hz / self.symbol_rate_hz
        if ratio < 4.0 or abs(ratio - round(ratio)) > 1e-9:
            raise SettingError(
                "sample_rate_hz",
                self.sample_rate_hz,
                "a whole multiple (4 or more) of the symbol rate",
            )
        checks.at_least("pilot_spacing", self.pilot_spacing, 0)
        checks.at_least("turns", self.turns, 1)
        reach = math.ceil(max(self.pulse_shape.early_slots, self.pulse_shape.late_slots - 1.0))
        checks.at_least("guard_symbols", self.guard_symbols, reach, note=", the reach of the pulse")

    @property
    def samples_per_symbol(self) -> int:
        """Generator samples per slot."""
        return round(self.sample_rate_hz / self.symbol_rate_hz)

    @property
    def row_slots(self) -> int:
        """Slots per row, all of its turns."""
        return self.turns * self.turn_slots

    @property
    def turn_slots(self) -> int:
        """Slots per turn: pilots, modes, readout."""
        return self._pilots_per_turn + self.modes + 1

    @property
    def pilots_per_row(self) -> int:
        """Pilots of all turns."""
        return self.turns * self._pilots_per_turn

    @property
    def _pilots_per_turn(self) -> int:
        """One before the modes, and one before each further `pilot_spacing` of them."""
        if self.pilot_spacing == 0:
            return 1
        return max(-(-self.modes // self.pilot_spacing), 1)

    @property
    def pilot_offsets(self) -> Indices:
        """Slots of a row's pilots, counted from the row's first."""
        in_turn = np.arange(self._pilots_per_turn) * (self.pilot_spacing + 1)
        return (self._turn_offsets[:, None] + in_turn).ravel()

    @property
    def mode_offsets(self) -> Indices:
        """Slots of a row's modes, counted from the row's first; all in its first turn."""
        return np.setdiff1d(np.arange(self.turn_slots - 1), self.pilot_offsets, assume_unique=True)

    @property
    def readout_offsets(self) -> Indices:
        """Slots in which the client reads out what each turn collects, from the row's first."""
        return self._turn_offsets + self.turn_slots - 1

    @property
    def _turn_offsets(self) -> Indices:
        return np.arange(self.turns) * self.turn_slots

    @property
    def row_starts(self) -> Indices:
        """Slot in which each row begins."""
        return self.first_row_slot + np.arange(self.rows) * self.row_slots

    @property
    def first_row_slot(self) -> int:
        """Slot in which the first row's pilot lies."""
        return self.preamble_symbols + self.guard_symbols

    @property
    def slots(self) -> int:
        """All slots of the frame."""
        return self.first_row_slot + self.rows * self.row_slots + self.guard_symbols

    @property
    def duration_s(self) -> float:
        """Length of the frame in s."""
        return self.slots / self.symbol_rate_hz

    @property
    def rows_start_s(self) -> float:
        """Time from the frame's start to the first row, in s."""
        return self.first_row_slot / self.symbol_rate_hz

    @property
    def preamble(self) -> Complexes:
        """Preamble symbols, modulus 1."""
        return zadoff_chu(self.preamble_symbols)

    @property
    def pilots(self) -> Complexes:
        """Each row's first pilot symbol."""
        return self.pilot_symbols[:, 0]

    @property
    def pilot_symbols(self) -> Complexes:
        """All pilots (rows, pilots per row), in time alternately on X and on P.

        So a receiver of one quadrature sees both.
        """
        symbols = np.ones(self.rows * self.pilots_per_row, np.complex64)
        symbols[1::2] = 1j
        return symbols.reshape(self.rows, self.pilots_per_row)

    @property
    def reference(self) -> tuple[Indices, Complexes]:
        """What everybody knows of a frame: slots of preamble and pilots, and their fields."""
        pilot_slots = self.row_starts[:, None] + self.pilot_offsets
        slots = np.concatenate([np.arange(self.preamble_symbols), pilot_slots.ravel()])
        symbols = np.concatenate([self.preamble, self.pilot_symbols.ravel()])
        return slots.astype(np.int64), (np.float32(PEAK) * symbols).astype(np.complex64)

    def server_symbols(
        self, quadratures: Floats, scale: float, *, pilots: bool = True
    ) -> Complexes:
        """Return the field of each slot, X + iP, in units of the modulator's largest.

        `quadratures`: mean interleaved quadratures (rows, 2n); `scale` takes them to fields of at
        most PEAK. Without `pilots` only the payload is lit.
        """
        frame = np.zeros(self.slots, np.complex64)
        rows = frame[self.first_row_slot : self.slots - self.guard_symbols]
        rows = rows.reshape(self.rows, self.row_slots)
        fields = (quadratures[:, 0::2] + 1j * quadratures[:, 1::2]) * np.float32(scale)
        rows[:, self.mode_offsets] = fields
        if pilots:
            frame[: self.preamble_symbols] = np.float32(PEAK) * self.preamble
            rows[:, self.pilot_offsets] = np.float32(PEAK) * self.pilot_symbols
        return frame

    def pulses(self, values: Floats) -> Floats:
        """Return the field samples (slots * samples per symbol) of one real value per slot.

        Tails that reach before the first slot or beyond the last are cut off.
        """
        step = self.samples_per_symbol
        early = math.floor(self.pulse_shape.early_slots * step)
        taps = early + math.ceil(self.pulse_shape.late_slots * step)
        shape = self.pulse_shape.field((np.arange(taps) - early) / step).astype(np.float32)
        if taps - early <= step and not shape[:early].any():
            return np.outer(values, np.pad(shape[early:], (0, step - taps + early))).ravel()
        from scipy import signal

        train: Floats = signal.upfirdn(shape, values, up=step)
        train = np.pad(train[early:], (0, step))[: len(values) * step]
        return train.astype(np.float32, copy=False)

    def rotation_levels(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """Return one row's control waveforms, real and imaginary, with peak 1; zero stays zero.

        `coefficients`: interleaved (2n,), as `Client.coefficients` gives them for one image, or
        (K, 2n) for the first K turns; the others get none. Raises SettingError for more than there
        are turns.
        """
        each = coefficients.reshape(-1, coefficients.shape[-1])
        if len(each) > self.turns:
            raise SettingError("modes collected", len(each), f"at most {self.turns}, one per turn")
        levels = np.zeros((2, self.turns, self.turn_slots), np.float32)
        for turn, mode in enumerate(each):
            largest = float(np.max(np.abs(mode)))
            if largest > 0.0:
                levels[0, turn, self.mode_offsets] = mode[0::2] / np.float32(largest)
                levels[1, turn, self.mode_offsets] = mode[1::2] / np.float32(largest)
        held = np.repeat(levels.reshape(2, self.row_slots), self.samples_per_symbol, axis=1)
        return held[0], held[1]


def modulator_drive(field: Floats) -> Floats:
    """Return the drive in units of V_pi (-1 to 1) that gives `field` (-1 to 1) at the null point.

    A null-biased child passes sin(pi v / (2 V_pi)); its inverse makes the field linear.
    """
    return np.arcsin(field) * np.float32(2.0 / math.pi)
