"""A probe line: a laser, an attenuator and a power head in one fibre, beside the link."""

from __future__ import annotations

import math

from labctl.instruments.simulated.physics.detection import SensorParameters
from labctl.instruments.simulated.physics.grid import Noise
from labctl.instruments.simulated.physics.laser import Laser
from labctl.instruments.simulated.physics.path import VariableAttenuator
from labctl.units import frequency_to_wavelength_m

_NOISE_AVERAGING_S = 1e-3


class ProbeLine:
    """Light from a laser through an attenuator; without either, a dark fibre."""

    def __init__(self, laser: Laser, insertion_loss_db: float) -> None:
        self.laser = laser
        self.attenuator = VariableAttenuator(insertion_loss_db, laser.emitted_power_w)

    def power_w(self) -> float:
        """Return the power at the end of the line."""
        return self.attenuator.output_power_w()


class LineSensor:
    """A power head at the end of a probe line; implements `PowerSensorPort`."""

    def __init__(self, line: ProbeLine, parameters: SensorParameters, noise: Noise) -> None:
        self._line = line
        self._parameters = parameters
        self._noise = noise

    def photocurrent_a(self, averaging_s: float) -> float:
        """Return the photocurrent in A; noise falls with the square root of the averaging."""
        wavelength_m = frequency_to_wavelength_m(self._line.laser.frequency_hz)
        averages = math.sqrt(max(averaging_s, 1e-6) / _NOISE_AVERAGING_S)
        noise_a = self._parameters.noise_a / averages * float(self._noise.normals(1)[0])
        current_a = self._line.power_w() * self.responsivity_a_w(wavelength_m)
        return current_a + self._parameters.dark_current_a + noise_a

    def responsivity_a_w(self, wavelength_m: float) -> float:
        """Return A/W: an InGaAs head's efficiency is flat in photons below its cut-off."""
        return self._parameters.responsivity_a_w * wavelength_m / 1550e-9
