"""Honest limits: an attack that does not try hard leaves the joint statistics of an honest link."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data.models import Network
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.link import LayerLight, Link
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne, TapReceiver
from labctl.protocols.rotation import Rotation
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.studies.attacks.adaptive_tap import AdaptiveTap
from labctl.studies.attacks.attack import Attack
from labctl.studies.attacks.block_decision import BlockDecision
from labctl.studies.attacks.chosen_inputs import ChosenInputs
from labctl.studies.attacks.heterodyne_resend import HeterodyneResend
from labctl.studies.attacks.hidden_tap import HiddenTap
from labctl.studies.attacks.intercept_resend import InterceptResend
from labctl.studies.attacks.level_decision import LevelDecision
from labctl.studies.attacks.local_oscillator import LocalOscillator
from labctl.studies.attacks.more_modes import CloneMoreModes
from labctl.studies.attacks.outsider import Leg
from labctl.studies.attacks.over_gain import OverGain
from labctl.studies.attacks.own_laser import NothingReturned, OwnLaser
from labctl.studies.attacks.quantum_memory import QuantumMemory
from labctl.studies.attacks.tampered_link import Path, TamperedLink
from labctl.studies.attacks.tap import Tap

Values = NDArray[np.float64]
Floats = NDArray[np.float32]

ROWS = 60_000
SETTINGS = SessionSettings(
    light=Light(4.0, PLAIN),
    channel=Channel(loss_db=2.0, technical_noise=0.3),
    receiver=CloneReceiver(1.8, 1.6, Homodyne(efficiency=0.7, electronic_noise=0.12)),
    verifier=Homodyne(efficiency=0.65, electronic_noise=0.2),
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.ALL,
    seed=5,
    verification=VerificationSettings(calibration_samples=1000),
)
BY_TAP = replace(SETTINGS, receiver=TapReceiver.of_gain(3.0, Homodyne(0.8, 0.1)))
BY_BLOCKS = replace(
    SETTINGS, channel=replace(SETTINGS.channel, block_modes=2, rotation=Rotation(0.2, 0.3, 0.2))
)
MEAN = np.array([0.5, -1.3, 2.1, 0.6, -0.4, 1.36], np.float32)
INPUT = np.array([0.6, 0.2, -0.5, 0.1, 0.57, 0.0], np.float32)
NETWORK = Network((np.ones((2, 6), np.float32),), "flat", {})

HONEST: tuple[Attack, ...] = (
    OverGain(1.8),
    CloneMoreModes(1),
    HeterodyneResend(0.0),
    HiddenTap(0.0),
    OwnLaser(0.0),
    NothingReturned(0.0),
    ChosenInputs(0.0),
    LocalOscillator(0.0),
    LevelDecision(0.0),
    BlockDecision(0.0),
    QuantumMemory(0.0),
    AdaptiveTap(0.0),
    Tap(0.0),
    Tap(0.0, Leg.RETURN),
    InterceptResend(0.0),
    InterceptResend(0.0, Leg.RETURN),
)


def coefficients(settings: SessionSettings) -> Floats:
    """Return the input at unit norm, whole or in each block of two modes."""
    if settings.channel.block_modes is None:
        return (INPUT / np.linalg.norm(INPUT))[None]
    parts = [part / np.linalg.norm(part) for part in (INPUT[:4], INPUT[4:])]
    return np.concatenate(parts)[None].astype(np.float32)


def readings(link: Link, settings: SessionSettings, given: Floats) -> tuple[Values, Values]:
    """Return what server and client read of identical rows, where X was chosen and where P."""
    light = LayerLight(0, np.tile(MEAN, (ROWS, 1)), settings.channel.block_modes)
    exchange = link.exchange(light, given)
    (returned,) = list(exchange.returned)
    client = exchange.measured[0].reshape(ROWS, -1)
    joint = np.concatenate([returned.measured, client], axis=1).astype(np.float64)
    on_x = returned.cosine[:, 0] == 1.0
    assert np.array_equal(returned.cosine + returned.sine, np.ones((ROWS, 1)))
    return joint[on_x], joint[~on_x]


def assert_same_distribution(found: tuple[Values, Values], wanted: tuple[Values, Values]) -> None:
    """Means and covariances of 30,000 rows each agree within five standard errors."""
    for one, other in zip(found, wanted, strict=True):
        both = len(one), len(other)
        spread = other.std(axis=0)
        error = spread * np.sqrt(1.0 / both[0] + 1.0 / both[1])
        assert np.all(np.abs(one.mean(axis=0) - other.mean(axis=0)) < 5.0 * error)
        difference = np.cov(one.T) - np.cov(other.T)
        scale = np.outer(spread, spread) * np.sqrt(2.0 / both[0] + 2.0 / both[1])
        assert np.all(np.abs(difference) < 5.0 * scale)


@pytest.mark.parametrize("settings", [SETTINGS, BY_TAP, BY_BLOCKS], ids=["clone", "tap", "blocks"])
def test_a_path_without_attacker_is_the_mode_link(settings: SessionSettings) -> None:
    given = coefficients(settings)
    tampered = TamperedLink(settings, Path.honest(settings))
    found = readings(tampered, settings, given)
    assert_same_distribution(found, readings(ModeLink(settings), settings, given))


@pytest.mark.parametrize("attack", HONEST, ids=lambda attack: attack.name)
def test_an_attack_that_does_not_try_is_honest_use(attack: Attack) -> None:
    settings = replace(SETTINGS, seed=6)
    if attack.name == "hidden-tap":
        settings = replace(SETTINGS, seed=8)
    given = coefficients(settings)
    link = attack.mount(NETWORK, settings).link
    found = readings(link, settings, given)
    assert_same_distribution(found, readings(ModeLink(settings), settings, given))
    mark = attack.mark(NETWORK, settings)
    assert mark is not None
    assert mark.excess_noise == pytest.approx(0.0, abs=1e-12)
    assert mark.transmittance_ratio == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("settings", [SETTINGS, BY_TAP], ids=["clone", "tap"])
def test_a_dark_input_adds_nothing_to_the_returned_light(settings: SessionSettings) -> None:
    dark = np.zeros((1, 6), np.float32)
    found = readings(TamperedLink(settings, Path.honest(settings)), settings, dark)
    assert_same_distribution(found, readings(ModeLink(settings), settings, dark))


def test_results_do_not_depend_on_batches() -> None:
    light = LayerLight(0, np.tile(MEAN, (40, 1)))
    given = np.repeat(coefficients(SETTINGS), 3, axis=0)
    attack = HeterodyneResend(0.4)

    def run(sizes: tuple[int, ...]) -> tuple[Floats, Floats]:
        link = attack.mount(NETWORK, SETTINGS).link
        measured, returned, first = [], [], 0
        for size in sizes:
            exchange = link.exchange(light, given[first : first + size])
            returned += [item.measured.copy() for item in exchange.returned]
            measured.append(exchange.measured)
            first += size
        return np.concatenate(measured), np.stack(returned)

    for whole, parts in zip(run((3,)), run((1, 2)), strict=True):
        assert np.array_equal(whole, parts)


def test_values_are_drawn_even_if_nobody_reads_the_returned_light() -> None:
    settings = replace(SETTINGS, sampling=Sampling.MEASURED)
    light = LayerLight(0, np.tile(MEAN, (20_000, 1)))
    exchange = TamperedLink(settings, Path.honest(settings)).exchange(light, coefficients(settings))
    assert list(exchange.returned) == []
    values = exchange.measured[0].astype(np.float64)
    noise = settings.receiver.measured_noise
    assert np.var(values) == pytest.approx(noise, abs=5.0 * noise * np.sqrt(2.0 / 20_000))


def test_calibration_is_that_of_the_honest_link() -> None:
    link = TamperedLink(SETTINGS, Path.honest(SETTINGS))
    assert link.calibrate() == ModeLink(SETTINGS).calibrate()
