"""The mismatch of a real clone: what returns has net amplitude 1 + delta and a phase, not quite 1.

A splice, a coupler's ratio, an amplifier's gain or an arm's length that is not as planned leaves
the returned mode b with mean (1 + delta) e^(i phi) b. The measured arm is as planned. It is
modelled as one more element behind an ideal clone: a loss for delta < 0, for delta > 0 an amplifier
at the quantum limit (Caves, PRD 26, 1817 (1982)); either adds |(1 + delta)^2 - 1| of vacuum noise.
Excess gain of the clone's own amplifier adds the same to first order in delta. Someone who knows
the light b sees kappa b = ((1 + delta) e^(i phi) - 1) b left along the client's direction c.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl import checks

# Twice the amplitude, 6 dB, is no clone.
_MOST_GAIN_ERROR = 1.0


@dataclass(frozen=True)
class CloneMismatch:
    """Net amplitude gain 1 + `gain_error` and phase `phase_rad` of what a clone returns.

    gain_error: delta, relative, above -1 and at most 1; 0.01 is 0.086 dB. phase_rad: -pi to pi.
    Raises SettingError.
    """

    gain_error: float = 0.0
    phase_rad: float = 0.0

    def __post_init__(self) -> None:
        checks.require(
            -1.0 < self.gain_error <= _MOST_GAIN_ERROR,
            "gain_error",
            self.gain_error,
            "above -1, at most 1",
        )
        checks.require(
            -math.pi <= self.phase_rad <= math.pi, "phase_rad", self.phase_rad, "-pi to pi"
        )

    @property
    def matched(self) -> bool:
        """Whether the clone returns its input as it is."""
        return self.gain_error == 0.0 and self.phase_rad == 0.0

    @property
    def kappa(self) -> complex:
        """What is left of a returned amplitude of 1 when 1 is subtracted."""
        return (1.0 + self.gain_error) * cmath.exp(1j * self.phase_rad) - 1.0

    @property
    def added_noise(self) -> float:
        """Noise |(1 + delta)^2 - 1| that the mismatch itself adds to either quadrature, in SNU."""
        return abs((1.0 + self.gain_error) ** 2 - 1.0)

    def returned_noise(self, kick: float) -> float:
        """Return the excess over vacuum of the returned mode, `kick` SNU being an ideal clone's.

        The server sees it as the variance of the kick along c.
        """
        power = (1.0 + self.gain_error) ** 2
        # A matched clone's kick comes out as it went in, to the last digit.
        return power * kick + (power - 1.0) + self.added_noise

    def change(
        self,
        mode: npt.NDArray[np.complexfloating],
        kick: npt.NDArray[np.complexfloating],
        vacuum: npt.NDArray[np.complexfloating],
    ) -> npt.NDArray[np.complex128]:
        """Return what mode b differs by after a clone: its kick and the effect of the mismatch.

        All X + iP in SNU and of one shape; `mode` is b as it came, `kick` what an ideal clone
        adds, `vacuum` a fresh draw.
        """
        extra = math.sqrt(self.added_noise) * vacuum
        return np.asarray(self.kappa * (mode + kick) + kick + extra, np.complex128)

    def excess_noise(self, photons_of_mode: float, modes: int) -> float:
        """Return the excess noise per mode, in SNU, as which the server sees the mean alone.

        2 |kappa|^2 N/n for rows with on average N photons in mode b, one of n modes; the
        mean of X^2 is that of P^2 when both are read, each 2 N |kappa|^2.
        """
        return 2.0 * abs(self.kappa) ** 2 * photons_of_mode / modes


MATCHED_CLONE = CloneMismatch()
