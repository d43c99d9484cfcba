"""Theory of the pooled checks on a given network: what it takes from network and settings."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from labctl.errors import SettingError
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.rotation import Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attack, Mark
from labctl.studies.attacks.catalogue import attack_of
from labctl.studies.attacks.chosen_inputs import ChosenInputs
from labctl.studies.attacks.detection import DetectionTheory, honesty_of
from labctl.studies.attacks.detection_cases import IDEAL, LOSSY, UNWATCHED
from labctl.studies.attacks.detection_curve import random_network
from labctl.studies.attacks.heterodyne_resend import HeterodyneResend
from labctl.studies.attacks.hidden_tap import HiddenTap
from labctl.studies.attacks.local_oscillator import LocalOscillator
from labctl.studies.attacks.own_laser import NothingReturned, OwnLaser
from labctl.studies.attacks.power import detection
from labctl.studies.attacks.tap import Tap

NETWORK = random_network((36, 30, 7), 1)
UNEVEN = replace(
    LOSSY, channel=replace(LOSSY.channel, rotation=Rotation(loss_db_per_mode=0.02), block_modes=8)
)


@pytest.mark.parametrize("settings", [IDEAL, LOSSY, UNEVEN], ids=["ideal", "lossy", "blocks"])
def test_honest_light_is_what_a_session_expects(settings: SessionSettings) -> None:
    """Which quadrature of a row is read is drawn: 30 images, seed 2026, 1 % of the noise."""
    session = Session(NETWORK, settings, ModeLink(settings))
    data = np.random.default_rng(0).random((30, 36), dtype=np.float32)
    for _ in session.run(data):
        pass
    expected, honest = session.expectation(), honesty_of(NETWORK, settings)
    sent = sum(part.sent_power for part in session.server.evidence)
    assert honest.modes * 30 == sum(part.samples for part in session.server.evidence)
    assert 2.0 * honest.light.mean_photons == pytest.approx(sent / honest.modes / 30, rel=0.02)
    assert honest.light.transmittance == pytest.approx(expected.transmittance, rel=1e-3)
    assert honest.light.excess_noise == pytest.approx(expected.excess_noise, rel=0.01)
    assert honest.gain_variance > honest.light.variance


def test_the_gain_threshold_is_that_of_the_verdict() -> None:
    """Transmittance where the low-gain check begins to fail, from one honest verdict."""
    session = Session(NETWORK, LOSSY, ModeLink(LOSSY))
    for _ in session.run(np.random.default_rng(0).random((200, 36), dtype=np.float32)):
        pass
    verdict = session.verdict(figures=False)
    limit = next(check.threshold for check in verdict.checks if check.name == "low gain")
    assert limit is not None
    theory = DetectionTheory(Tap(0.0), NETWORK, LOSSY)
    ratio = limit / theory.honesty.light.transmittance
    alarm = LOSSY.verification.false_alarm_probability
    # At the threshold the check fails every other time.
    power = theory.power(Mark(0.0, ratio), verdict.samples, alarm)
    assert power.gain == pytest.approx(0.5, abs=0.05)


def test_on_a_large_network_the_clones_direction_does_not_matter() -> None:
    network = random_network((784, 784, 10), 0)
    honest = honesty_of(network, IDEAL)
    theory = DetectionTheory(Tap(0.02), network, IDEAL)
    mark = theory.mark()
    plain = detection(mark, honest.light, 50_000, 10**8, 1e-6)
    assert theory.power(mark, 50_000, 1e-6).either == pytest.approx(plain.either, abs=0.02)
    noisy = DetectionTheory(HeterodyneResend(0.01), network, IDEAL)
    # Light of less than two queries has the sums' share of the false alarms besides.
    found = noisy.modes_to_catch(1e-6, 0.99)
    assert found is not None
    mark = noisy.mark()
    assert detection(mark, honest.light, found, 10**8, 1e-6).either < 0.99
    assert detection(mark, honest.light, round(found / 0.99), 10**8, 1e-6).either > 0.99


def test_on_a_small_network_the_gain_is_allowed_more() -> None:
    theory = DetectionTheory(Tap(0.05), NETWORK, IDEAL)
    plain = detection(theory.mark(), theory.honesty.light, 10_000, 10**8, 1e-3)
    assert theory.power(theory.mark(), 10_000, 1e-3).gain < plain.gain


def test_a_monitor_takes_its_share_of_the_alarms() -> None:
    attack = LocalOscillator(0.02)
    watched = DetectionTheory(attack, NETWORK, IDEAL).after(20, 1e-3)
    unwatched = DetectionTheory(attack, NETWORK, UNWATCHED).after(20, 1e-3)
    assert unwatched.gain > watched.gain


@pytest.mark.parametrize(
    ("attack", "settings"), [(HiddenTap(1.0), LOSSY), (ChosenInputs(1.0), IDEAL)]
)
def test_what_leaves_no_mark_is_never_caught(attack: Attack, settings: SessionSettings) -> None:
    theory = DetectionTheory(attack, NETWORK, settings)
    assert theory.modes_to_catch(1e-3, 0.5) is None
    # The shares of the pooled noise and of a low and a high gain: 0.45 + 2 x 0.021.
    assert theory.after(1000, 1e-3).either == pytest.approx(0.492e-3, rel=0.1)


def test_power_grows_with_images_and_falls_with_the_alarms() -> None:
    theory = DetectionTheory(HeterodyneResend(0.02), NETWORK, IDEAL)
    powers = [theory.after(images, 1e-3).either for images in (1, 10, 100)]
    assert all(before < after for before, after in pairwise(powers))
    assert theory.after(10, 1e-6).either < theory.after(10, 1e-3).either


def test_the_least_number_of_modes_reaches_the_power() -> None:
    theory = DetectionTheory(HeterodyneResend(0.05), NETWORK, IDEAL)
    least = theory.modes_to_catch(1e-3, 0.9)
    assert least is not None
    mark = theory.mark()
    assert theory.power(mark, least, 1e-3).either >= 0.9
    assert theory.power(mark, least - 1, 1e-3).either < 0.9


def test_a_guess_that_gets_better_is_caught_early_or_never() -> None:
    theory = DetectionTheory(OwnLaser(0.3), NETWORK, IDEAL)
    assert theory.mark(1).excess_noise > theory.mark(50).excess_noise
    first = theory.modes_to_catch(1e-3, 0.9)
    assert first is not None
    assert first < 5 * theory.honesty.modes
    assert DetectionTheory(OwnLaser(0.001), NETWORK, IDEAL).modes_to_catch(1e-6, 0.9) is None


def test_marks_of_modes_chosen_for_a_session_depend_on_its_seed() -> None:
    theory = DetectionTheory(NothingReturned(0.02), NETWORK, IDEAL)
    assert theory.mark(1, 3) == theory.mark(1, 3) != theory.mark(1, 4)
    powers = [theory.power(theory.mark(1, seed), 2000, 1e-3).either for seed in (3, 4)]
    assert theory.mean_power(2000, 1e-3, (3, 4)) == pytest.approx(sum(powers) / 2)


def test_what_cannot_be_asked_is_refused() -> None:
    for name in ("label-reading", "bright-probes", "squeezed-probes"):
        with pytest.raises(SettingError, match="the verdict is the server's own"):
            DetectionTheory(attack_of(name), NETWORK, IDEAL)
    theory = DetectionTheory(Tap(0.1), NETWORK, IDEAL)
    for power in (0.0, 1.0):
        with pytest.raises(SettingError, match="power"):
            theory.modes_to_catch(1e-3, power)
    with pytest.raises(SettingError, match="modes"):
        theory.power(Mark(), 1, 1e-3)
    with pytest.raises(SettingError, match="false_alarm"):
        theory.power(Mark(), 10, 0.0)
