"""What a bench session was run at: each uncertainty is that of what it rests on."""

from __future__ import annotations

import math

import pytest

from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.protocols.parameters import session_parameters
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, TapReceiver
from labctl.protocols.server.transmitter import Level
from labctl.protocols.verification.verdict import Estimate

LEVEL = Level(mean_photons=0.7, attenuation_db=15.0, relative_error=0.001, readings=16)
RECEIVER = CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE)
ESTIMATE = Estimate(
    transmittance=0.8,
    transmittance_error=0.004,
    excess_noise=0.01,
    excess_noise_error=0.002,
    slope=0.5,
    slope_error=0.001,
    variance_ratio=1.01,
    samples=100_000,
)
MEASURED = {
    Name("server.fixed_attenuation_db"): Quantity(20.0, 0.1, "dB"),
    Name("server.attenuator_slope"): Quantity(1.01, 0.002, "1"),
    Name("server.efficiency"): Quantity(0.8, 0.04, "1"),
    Name("client.gain_per_v"): Quantity(0.5, 0.01, "1/V"),
}


def test_the_mean_photon_number_is_known_as_well_as_the_loss_behind_the_monitor() -> None:
    found = session_parameters(LEVEL, RECEIVER, ESTIMATE, MEASURED).mean_photons
    assert found is not None
    assert found.value == 0.7
    # 0.1 dB is 2.3 %, 15 times 0.002 dB are 0.69 %, and the readings' 0.1 %.
    expected = math.hypot(0.1 * math.log(10.0) / 10.0, 0.03 * math.log(10.0) / 10.0, 0.001)
    assert found.standard_uncertainty == pytest.approx(0.7 * expected, rel=1e-12)


def test_of_the_gain_only_what_exceeds_1_is_uncertain() -> None:
    found = session_parameters(LEVEL, RECEIVER, ESTIMATE, MEASURED).gain
    assert found is not None
    assert found.value == 1.3
    assert found.standard_uncertainty == pytest.approx(0.3 * 0.02)


def test_the_transmittance_inherits_efficiency_and_mean_photon_number() -> None:
    parameters = session_parameters(LEVEL, RECEIVER, ESTIMATE, MEASURED)
    assert parameters.transmittance is not None
    assert parameters.mean_photons is not None
    of_mu = parameters.mean_photons.standard_uncertainty / 0.7
    expected = math.hypot(0.004, 0.8 * 0.05, 0.8 * of_mu)
    assert parameters.transmittance.standard_uncertainty == pytest.approx(expected, rel=1e-12)


def test_the_excess_noise_scales_with_the_efficiency() -> None:
    found = session_parameters(LEVEL, RECEIVER, ESTIMATE, MEASURED).excess_noise
    assert found is not None
    assert found.unit == "SNU"
    assert found.standard_uncertainty == pytest.approx(math.hypot(0.002, 0.01 * 0.05), rel=1e-12)


def test_what_was_not_measured_is_not_told() -> None:
    assert session_parameters(LEVEL, RECEIVER, ESTIMATE, {}).known() == {}
    without_light = session_parameters(LEVEL, RECEIVER, None, MEASURED)
    assert set(without_light.known()) == {"mean_photons", "gain"}
    tapped = session_parameters(LEVEL, TapReceiver.of_gain(1.3, IDEAL_HOMODYNE), None, MEASURED)
    assert set(tapped.known()) == {"mean_photons"}
