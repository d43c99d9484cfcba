"""A probe line: a laser and an attenuator in one fibre, beside the link."""

from __future__ import annotations

from labctl.instruments.simulated.physics.laser import Laser
from labctl.instruments.simulated.physics.path import VariableAttenuator


class ProbeLine:
    """Light from a laser through an attenuator; without either, a dark fibre."""

    def __init__(self, laser: Laser, insertion_loss_db: float) -> None:
        self.laser = laser
        self.attenuator = VariableAttenuator(insertion_loss_db, laser.emitted_power_w)

    def power_w(self) -> float:
        """Return the power at the end of the line."""
        return self.attenuator.output_power_w()

    def frequency_hz(self) -> float:
        """Return the optical frequency of its light."""
        return self.laser.frequency_hz
