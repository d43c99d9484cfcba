"""A probe line carries a laser's light through an attenuator to a power head."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.instruments.simulated.physics.detection import PowerHead, SensorParameters
from labctl.instruments.simulated.physics.grid import Noise
from labctl.instruments.simulated.physics.laser import Laser, LaserParameters
from labctl.instruments.simulated.physics.probe import ProbeLine


def noise(seed: int) -> Noise:
    return Noise(np.random.SeedSequence(seed))


def line() -> ProbeLine:
    laser = Laser(LaserParameters(linewidth_hz=1e5, rin_db_hz=-145.0), 160e6, noise(1))
    return ProbeLine(laser, insertion_loss_db=1.0)


def head_of(probe: ProbeLine, parameters: SensorParameters, seed: int) -> PowerHead:
    return PowerHead(probe.power_w, probe.frequency_hz, parameters, noise(seed))


def test_power_is_the_lasers_less_both_losses() -> None:
    probe = line()
    probe.laser.set_emission(True, 1e-3, 193.4e12)
    probe.attenuator.set_attenuation(9.0)
    assert probe.power_w() == pytest.approx(1e-4)


def test_a_laser_that_is_off_leaves_the_dark_current() -> None:
    head = head_of(line(), SensorParameters(1.0, 2e-9, 0.0), 2)
    assert head.photocurrent_a(0.1) == 2e-9


def test_current_follows_power_and_wavelength() -> None:
    probe = line()
    head = head_of(probe, SensorParameters(1.0, 0.0, 0.0), 2)
    probe.laser.set_emission(True, 1e-3, 299_792_458.0 / 1550e-9)
    at_1550 = head.photocurrent_a(0.1)
    probe.laser.set_emission(True, 1e-3, 299_792_458.0 / 1520e-9)
    assert at_1550 == pytest.approx(1e-3 * 10.0**-0.1)
    assert head.photocurrent_a(0.1) == pytest.approx(at_1550 * 1520.0 / 1550.0)


@pytest.mark.parametrize("averaging_s", [1e-3, 0.1])
def test_noise_falls_with_averaging(averaging_s: float) -> None:
    """4,000 readings, five standard errors of their scatter: 6 %."""
    head = head_of(line(), SensorParameters(1.0, 0.0, 1e-9), 5)
    readings = [head.photocurrent_a(averaging_s) for _ in range(4000)]
    assert np.std(readings) == pytest.approx(1e-9 / np.sqrt(averaging_s / 1e-3), rel=0.06)
