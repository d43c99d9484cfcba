"""Frames: where the preamble, the pilots and the payload of one layer lie, and their waveforms.

A frame is a train of slots, one pulse each: preamble, guard, then per row a pilot slot, the row's
modes, and a slot in which the client's receiver reads out the collected mode; a guard ends it. A
pulse fills most of its slot and leaves the rest to the tails that finite bandwidth makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError

Floats = npt.NDArray[np.float32]
Complexes = npt.NDArray[np.complex64]

PEAK = 0.95
_ROW_OVERHEAD = 2
_PULSE_SHARE = 7.0 / 8.0


def pulse(time_slots: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the pulse's field at times in slots from the slot's start: a Hann pulse of 7/8 slot.

    It begins 1/8 slot early, so that what a causal receiver delays still ends within the slot.
    """
    phase = (time_slots + 0.125) / _PULSE_SHARE
    inside = (phase > 0.0) & (phase < 1.0)
    return np.where(inside, np.sin(math.pi * phase) ** 2, 0.0)


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
    """The slots of one layer's frame."""

    symbol_rate_hz: float
    sample_rate_hz: float
    preamble_symbols: int
    guard_symbols: int
    rows: int
    modes: int

    def __post_init__(self) -> None:
        ratio = self.sample_rate_hz / self.symbol_rate_hz
        if ratio < 4.0 or abs(ratio - round(ratio)) > 1e-9:
            raise SettingError(
                "sample_rate_hz",
                self.sample_rate_hz,
                "a whole multiple (4 or more) of the symbol rate",
            )

    @property
    def samples_per_symbol(self) -> int:
        """Generator samples per slot."""
        return round(self.sample_rate_hz / self.symbol_rate_hz)

    @property
    def row_slots(self) -> int:
        """Slots per row: pilot, modes, readout."""
        return self.modes + _ROW_OVERHEAD

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
        """One pilot symbol per row, alternately on X and on P, so that one quadrature sees both."""
        symbols = np.ones(self.rows, np.complex64)
        symbols[1::2] = 1j
        return symbols

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
        rows[:, 1:-1] = (quadratures[:, 0::2] + 1j * quadratures[:, 1::2]) * np.float32(scale)
        if pilots:
            frame[: self.preamble_symbols] = np.float32(PEAK) * self.preamble
            rows[:, 0] = np.float32(PEAK) * self.pilots
        return frame

    def pulses(self, values: Floats) -> Floats:
        """Return the field samples (slots * samples per symbol) of one real value per slot."""
        times = np.arange(self.samples_per_symbol) / self.samples_per_symbol
        shape = pulse(times).astype(np.float32)
        return np.outer(values, shape).ravel()

    def rotation_levels(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """Return one row's control waveforms, real and imaginary, with peak 1; zero stays zero.

        `coefficients`: interleaved (2n,), as `Client.coefficients` gives them for one image.
        """
        levels = np.zeros((2, self.row_slots), np.float32)
        largest = float(np.max(np.abs(coefficients)))
        if largest > 0.0:
            levels[0, 1:-1] = coefficients[0::2] / np.float32(largest)
            levels[1, 1:-1] = coefficients[1::2] / np.float32(largest)
        held = np.repeat(levels, self.samples_per_symbol, axis=1)
        return held[0], held[1]


def modulator_drive(field: Floats) -> Floats:
    """Return the drive in units of V_pi (-1 to 1) that gives `field` (-1 to 1) at the null point.

    A null-biased child passes sin(pi v / (2 V_pi)); its inverse makes the field linear.
    """
    return np.arcsin(field) * np.float32(2.0 / math.pi)
