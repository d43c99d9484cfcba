"""A direct-current source and the load on it: a resistor, held at a voltage or a current."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.instruments.simulated.physics.grid import Noise


@dataclass(frozen=True)
class LoadParameters:
    """Resistance in ohm, and white noise in V rms of each reading of the output."""

    resistance_ohm: float
    noise_v: float


class SourceOutput:
    """One output with its load; implements `SourcePort`."""

    def __init__(self, parameters: LoadParameters, noise: Noise) -> None:
        self._parameters = parameters
        self._noise = noise
        self._held_v = 0.0

    def force_voltage(self, on: bool, voltage_v: float, current_limit_a: float) -> None:
        """Hold a voltage, or what the current limit leaves of it; see `SourcePort`."""
        most_v = abs(current_limit_a) * self._parameters.resistance_ohm
        self._held_v = min(max(voltage_v, -most_v), most_v) if on else 0.0

    def force_current(self, on: bool, current_a: float, voltage_limit_v: float) -> None:
        """Hold a current, or what the voltage limit leaves of it; see `SourcePort`."""
        wanted_v = current_a * self._parameters.resistance_ohm
        most_v = abs(voltage_limit_v)
        self._held_v = min(max(wanted_v, -most_v), most_v) if on else 0.0

    def held_v(self) -> float:
        """Return the voltage at the load, as the optics behind it see it."""
        return self._held_v

    def voltage_v(self) -> float:
        """Return a reading of the output voltage, exactly 0 when nothing is held."""
        return self._held_v + self._reading_noise_v()

    def current_a(self) -> float:
        """Return a reading of the load's current."""
        return (self._held_v + self._reading_noise_v()) / self._parameters.resistance_ohm

    def _reading_noise_v(self) -> float:
        if self._held_v == 0.0:
            return 0.0
        return self._parameters.noise_v * float(self._noise.normals(1)[0])
