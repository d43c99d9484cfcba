"""A client whose local oscillator is its own laser, at mode level: what its phases are known to.

The same closed forms as the bench is held against (dsp/pilot_variance.py). A row's phase error is
one normal number; those of neighbouring rows are drawn apart, though a smoother's are alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from labctl import checks
from labctl.dsp.pilot_variance import (
    LARGEST_RESIDUAL_RAD2,
    MOST_PREDICTED_RAD2,
    RowPhase,
    pilot_rad2,
)
from labctl.errors import SettingError

# Of the shipped stations' frames.
SYMBOL_RATE_HZ = 20e6
# A pilot's field is 0.95 of the modulator's largest, the RMS of each of a mode's quadratures 0.1:
# 0.95^2/(2 x 0.1^2) times a mode's photons (dsp/layout.py, protocols/server/transmitter.py).
PILOT_RATIO = 0.95**2 / (2.0 * 0.1**2)
# Beside the modes of a block: its pilot and its readout.
_OVERHEAD = 2


class LocalOscillatorKind(StrEnum):
    """Where the client's local oscillator comes from: sent by the server, or its own laser."""

    SENT = "sent"
    OWN = "own"


@dataclass(frozen=True)
class OwnOscillator:
    """Both lasers' Lorentzian full widths in Hz, 0 or more, and the frame that they are seen in.

    pilot_ratio: photons of a pilot over those of a mode. A heterodyne receiver reads X and P, each
    with half of the efficiency (`Homodyne.heterodyne`).
    """

    linewidth_hz: float
    signal_linewidth_hz: float
    symbol_rate_hz: float = SYMBOL_RATE_HZ
    pilot_ratio: float = PILOT_RATIO

    def __post_init__(self) -> None:
        for name in ("linewidth_hz", "signal_linewidth_hz"):
            value = getattr(self, name)
            checks.require(0.0 <= value < math.inf, name, value, "0 or more, in Hz")
        checks.positive("symbol_rate_hz", self.symbol_rate_hz, " Hz")
        checks.positive("pilot_ratio", self.pilot_ratio)

    def row(self, modes: int) -> RowPhase:
        """Return what both phases do in a row, or a block, of `modes` modes."""
        return RowPhase.of(
            modes + _OVERHEAD,
            modes,
            symbol_rate_hz=self.symbol_rate_hz,
            signal_linewidth_hz=self.signal_linewidth_hz,
            oscillator_linewidth_hz=self.linewidth_hz,
        )

    def phase_rad2(self, modes: int, *, arriving_photons: float, referred_noise: float) -> float:
        """Return the variance of a value's phase in rad^2, its modes' spread included.

        arriving_photons: of a mode. referred_noise: D of the receiver for one quadrature. Raises
        SettingError for linewidths that rows of this length do not allow.
        """
        row = self.row(modes)
        pilot = pilot_rad2(self.pilot_ratio * arriving_photons, referred_noise)
        predicted, residual = row.predicted_rad2(pilot), row.residual_rad2(pilot)
        if predicted > MOST_PREDICTED_RAD2 or residual > LARGEST_RESIDUAL_RAD2:
            raise SettingError(
                "linewidth_hz",
                self.linewidth_hz,
                f"narrow enough for rows of {modes} modes: with {self.signal_linewidth_hz:g} Hz of "
                f"the signal a pilot's phase is known to {predicted:.2g} rad^2 beforehand and a "
                f"row's to {residual:.2g}, at most {MOST_PREDICTED_RAD2} and "
                f"{LARGEST_RESIDUAL_RAD2}; smaller blocks (block_modes) or more light allow more",
            )
        return residual + row.within_rad2
