"""Session settings are checked once, before anything is sent, and name what is wrong."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions import ideal_session

from labctl.errors import SettingError
from labctl.protocols.settings import (
    SessionSettings,
    VerificationSettings,
)

VALID = ideal_session(4.0, 2.0, seed=1)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_mean_photons_above_0(value: float) -> None:
    with pytest.raises(SettingError, match="mean_photons"):
        replace(VALID, light=replace(VALID.light, mean_photons=value))


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, 5000.0])
def test_loss_that_leaves_light(value: float) -> None:
    with pytest.raises(SettingError, match="loss_db"):
        replace(VALID, channel=replace(VALID.channel, loss_db=value))


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_technical_noise_not_negative(value: float) -> None:
    with pytest.raises(SettingError, match="technical_noise"):
        replace(VALID, channel=replace(VALID.channel, technical_noise=value))


def test_seed_not_negative() -> None:
    with pytest.raises(SettingError, match="seed"):
        replace(VALID, seed=-1)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_probabilities_are_neither_0_nor_1(value: float) -> None:
    with pytest.raises(SettingError, match="failure_probability"):
        VerificationSettings(failure_probability=value)
    with pytest.raises(SettingError, match="false_alarm_probability"):
        VerificationSettings(false_alarm_probability=value)


@pytest.mark.parametrize("value", [1, 0, -5])
def test_a_variance_needs_two_samples(value: int) -> None:
    with pytest.raises(SettingError, match="calibration_samples"):
        VerificationSettings(calibration_samples=value)


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan])
def test_a_limit_of_no_bits_can_never_be_met(value: float) -> None:
    with pytest.raises(SettingError, match="weights_bits_limit"):
        VerificationSettings(weights_bits_limit=value)


def test_what_hides_an_assumption_has_no_default() -> None:
    parameters = inspect.signature(SessionSettings).parameters
    for name in ("assumptions", "channel", "seed", "sampling"):
        assert parameters[name].default is inspect.Parameter.empty


def test_default_failure_probability_is_one_in_ten_thousand_million() -> None:
    assert VerificationSettings().failure_probability == 1e-10
    assert VerificationSettings().weights_bits_limit is None


@settings(deadline=None)
@given(st.floats(0.0, 100.0))
def test_half_the_loss_lies_on_each_leg(loss_db: float) -> None:
    lossy = replace(VALID, channel=replace(VALID.channel, loss_db=loss_db))
    assert lossy.transmittance == pytest.approx(10.0 ** (-loss_db / 10.0), rel=1e-9)
    assert lossy.leg_transmittance**2 == pytest.approx(lossy.transmittance, rel=1e-9)


def test_the_client_measures_light_that_lost_one_leg_only() -> None:
    """F = 2 mu sqrt(T)/D with D = 2 at G = 2."""
    assert VALID.signal_to_noise == pytest.approx(4.0)
    halved = replace(VALID, channel=replace(VALID.channel, loss_db=10.0 * math.log10(4.0)))
    assert halved.signal_to_noise == pytest.approx(2.0)
