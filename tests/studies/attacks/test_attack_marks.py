"""The mark that each attack claims to leave is what the server's verdict finds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.link import MonitoredLink
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
from labctl.studies.attacks.attack import Attack, ChangingAttack, carry_out
from labctl.studies.attacks.chosen_inputs import ChosenInputs
from labctl.studies.attacks.heterodyne_resend import HeterodyneResend
from labctl.studies.attacks.hidden_tap import HiddenTap
from labctl.studies.attacks.intercept_resend import InterceptResend
from labctl.studies.attacks.local_oscillator import LocalOscillator
from labctl.studies.attacks.marks import layer_paths
from labctl.studies.attacks.more_modes import CloneMoreModes
from labctl.studies.attacks.outsider import Leg
from labctl.studies.attacks.over_gain import OverGain
from labctl.studies.attacks.own_laser import NothingReturned, OwnLaser
from labctl.studies.attacks.quantum_memory import QuantumMemory
from labctl.studies.attacks.tap import Tap

QUERIES = 60
ERRORS = 5.0
# Two layers whose rotations lose differently, one of them with an odd weight that rides alone.
GENERATOR = np.random.default_rng(3)
NETWORK = Network(
    tuple(GENERATOR.standard_normal(size).astype(np.float32) for size in ((60, 41), (9, 60))),
    "gaussian",
    {},
)
IMAGES = LabelledImages(
    GENERATOR.random((QUERIES, 41), dtype=np.float32), np.zeros(QUERIES, np.uint8)
)
REAL = SessionSettings(
    light=Light(4.0, PLAIN),
    channel=Channel(loss_db=1.0, technical_noise=0.05, rotation=Rotation(loss_db_per_mode=0.01)),
    receiver=CloneReceiver(2.0, 1.3, Homodyne(0.8, 0.1)),
    verifier=Homodyne(0.7, 0.15),
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.ALL,
    seed=1,
)
TAPPED_BLOCKS = replace(
    REAL,
    receiver=TapReceiver.of_gain(2.0, Homodyne(0.8, 0.1)),
    channel=replace(REAL.channel, block_modes=8),
)
IDEAL = replace(
    REAL,
    receiver=CloneReceiver(2.0, 1.0, Homodyne(1.0, 0.0)),
    verifier=Homodyne(1.0, 0.0),
    channel=replace(REAL.channel, loss_db=0.0, technical_noise=0.0, rotation=Rotation()),
)
ATTACK_KINDS = (
    OverGain,
    CloneMoreModes,
    HeterodyneResend,
    HiddenTap,
    OwnLaser,
    NothingReturned,
    ChosenInputs,
    LocalOscillator,
    QuantumMemory,
    AdaptiveTap,
    Tap,
    InterceptResend,
)
ATTACKS: tuple[Attack, ...] = (
    OverGain(8.0),
    CloneMoreModes(5),
    HeterodyneResend(0.3),
    HeterodyneResend(1.0, rescaling=0.8),
    HiddenTap(0.6),
    OwnLaser(0.3),
    NothingReturned(0.5),
    NothingReturned(1.0),
    ChosenInputs(1.0),
    LocalOscillator(0.15),
    LocalOscillator(0.6),
    LocalOscillator(0.2, share=0.0),
    LocalOscillator(-0.5),
    QuantumMemory(1.0),
    QuantumMemory(0.6),
    QuantumMemory(3.0),
    AdaptiveTap(1.0),
    AdaptiveTap(0.6),
    AdaptiveTap(3.0),
    Tap(0.3),
    Tap(0.3, Leg.RETURN),
    InterceptResend(0.4),
    InterceptResend(0.4, Leg.RETURN),
)


def attack_id(value: object) -> str | None:
    if not isinstance(value, ATTACK_KINDS):
        return None
    return f"{value.name}-{value.strength:g}"


def expected_transmittance(settings: SessionSettings) -> float:
    """Return the square of the honest mean slope, by the light sent in each layer."""
    paths = layer_paths(NETWORK, settings)
    sent = [path.rows * path.modes * path.sent_variance for path in paths]
    slopes = [path.leg for path in paths]
    return (math.fsum(map(float.__mul__, slopes, sent)) / math.fsum(sent)) ** 2


@pytest.mark.parametrize("settings", [REAL, TAPPED_BLOCKS], ids=["clone", "tap in blocks"])
@pytest.mark.parametrize("attack", ATTACKS, ids=attack_id)
def test_the_verdict_finds_the_mark(attack: Attack, settings: SessionSettings) -> None:
    # 60 queries of 1530 modes, seed 1: the standard error of the excess noise is near 0.008 SNU.
    verdict = carry_out(attack, NETWORK, settings, IMAGES).verification
    assert verdict.excess_noise is not None
    assert verdict.excess_noise_expected is not None
    assert verdict.transmittance is not None
    assert verdict.excess_noise_standard_error is not None
    mark = (
        attack.mark_after(QUERIES, NETWORK, settings)
        if isinstance(attack, ChangingAttack)
        else attack.mark(NETWORK, settings)
    )
    assert mark is not None
    found = verdict.excess_noise - verdict.excess_noise_expected
    # Which modes are read varies from query to query, and with them the light missing.
    spread = 0.05 * abs(mark.excess_noise) if isinstance(attack, NothingReturned) else 0.0
    error = ERRORS * verdict.excess_noise_standard_error + spread
    assert found == pytest.approx(mark.excess_noise, abs=error)
    wanted = mark.transmittance_ratio * expected_transmittance(settings)
    noise = (1.0 + settings.verifier.electronic_noise) / settings.verifier.efficiency + 3.0
    slope_error = math.sqrt(noise / (2.0 * settings.light.mean_photons * verdict.samples))
    error = ERRORS * (2.0 * math.sqrt(wanted) * slope_error + slope_error**2)
    assert verdict.transmittance == pytest.approx(wanted, abs=error)


@pytest.mark.parametrize(
    ("attack", "noise", "ratio"),
    [
        (OverGain(4.0), 0.5, 1.0),
        (CloneMoreModes(3), 2.0, 1.0),
        (HeterodyneResend(0.25), 0.5, 1.0),
        (NothingReturned(1.0), 0.0, 0.0),
        (ChosenInputs(1.0), 0.0, 1.0),
        (LocalOscillator(0.1, share=0.0), None, 0.9),
        (Tap(0.1), 0.0, 0.9),
        (InterceptResend(1.0), 2.0, 1.0),
        (InterceptResend(0.5, Leg.RETURN), 1.0, 1.0),
    ],
    ids=attack_id,
)
def test_marks_without_loss_are_those_on_paper(
    attack: Attack, noise: float | None, ratio: float
) -> None:
    network = Network((np.ones((5, 14), np.float32),), "flat", {})
    settings = replace(IDEAL, receiver=CloneReceiver(2.0, 1.0, Homodyne(1.0, 0.0)))
    mark = attack.mark(network, settings)
    assert mark is not None
    modes = 7
    if isinstance(attack, LocalOscillator):
        honest = 1.0 / modes
        noise = 0.9 * honest - 0.1 - honest
    elif isinstance(attack, (OverGain, CloneMoreModes)):
        assert noise is not None
        noise /= modes
    assert mark.excess_noise == pytest.approx(noise, abs=1e-12)
    assert mark.transmittance_ratio == pytest.approx(ratio)


def test_the_oscillator_hides_excess_noise_only_where_loss_can_be_undone() -> None:
    attack = LocalOscillator(0.2)
    lossy, lossless = replace(IDEAL, channel=replace(IDEAL.channel, loss_db=1.0)), IDEAL
    hidden, open_ = attack.mark(NETWORK, lossy), attack.mark(NETWORK, lossless)
    assert hidden.excess_noise == pytest.approx(0.0, abs=1e-12)
    assert hidden.transmittance_ratio == pytest.approx(1.0)
    assert attack.resent_share(NETWORK, lossy) > 0.1
    assert open_.transmittance_ratio == pytest.approx(0.8)


@pytest.mark.parametrize(("dimming", "share"), [(0.1, 1.0), (0.0, 0.0), (-0.5, 0.0)])
def test_behind_all_too_much_loss_a_dimmed_oscillator_hides_everything(
    dimming: float, share: float
) -> None:
    dark = replace(REAL, channel=replace(REAL.channel, loss_db=1000.0))
    assert LocalOscillator(dimming).resent_share(NETWORK, dark) == share


def test_the_guess_of_ones_own_laser_gets_better() -> None:
    attack = OwnLaser(1.0)
    first = attack.mark(NETWORK, IDEAL)
    later = attack.mark_after(1000, NETWORK, IDEAL)
    assert first == attack.mark_after(1, NETWORK, IDEAL)
    # mu = 4: the first guess is (4/5) (q + noise of 2 SNU).
    assert first.transmittance_ratio == pytest.approx(0.64)
    assert first.excess_noise == pytest.approx(1.28)
    assert later.excess_noise < 0.02
    assert later.transmittance_ratio > 0.99
    with pytest.raises(SettingError, match="queries"):
        attack.mark_after(0, NETWORK, IDEAL)


@pytest.mark.parametrize(
    ("attack", "caught"),
    [
        (CloneMoreModes(1), False),
        (ChosenInputs(1.0), False),
        (HiddenTap(1.0), False),
        (LocalOscillator(0.15), True),
        (HeterodyneResend(0.3), True),
        (OwnLaser(1.0), True),
        (NothingReturned(0.3), True),
        (LocalOscillator(0.6), True),
        (Tap(0.3), True),
        (InterceptResend(0.4, Leg.RETURN), True),
    ],
    ids=attack_id,
)
def test_who_is_caught(attack: Attack, caught: bool) -> None:
    # Of marks many standard errors large or exactly zero; 60 queries, seed 1.
    assert carry_out(attack, NETWORK, REAL, IMAGES).caught is caught


@pytest.mark.parametrize(("monitor_samples", "caught"), [(0, False), (1_000_000, True)])
def test_only_the_monitor_sees_an_oscillator_behind_loss(
    monitor_samples: int, caught: bool
) -> None:
    watched = replace(REAL, verification=VerificationSettings(monitor_samples=monitor_samples))
    verdict = carry_out(LocalOscillator(0.15), NETWORK, watched, IMAGES).verification
    assert [check.name for check in verdict.failed] == ["shot noise"] * caught


def test_the_monitor_reads_the_oscillator_and_the_electronics() -> None:
    link = LocalOscillator(0.15).mount(NETWORK, REAL).link
    assert isinstance(link, MonitoredLink)
    reading = link.monitor()
    assert reading is not None
    # 0.85 of the shot noise, all of the electronic noise; 1e6 samples, five standard errors.
    wanted = (0.85 + 0.15) / 1.15
    assert reading.blocked_variance == pytest.approx(wanted, rel=5.0 * math.sqrt(2e-6))
    unwatched = replace(REAL, verification=VerificationSettings(monitor_samples=0))
    link = LocalOscillator(0.15).mount(NETWORK, unwatched).link
    assert isinstance(link, MonitoredLink)
    assert link.monitor() is None


def test_without_reading_the_returned_light_nobody_is_caught() -> None:
    blind = replace(REAL, sampling=Sampling.MEASURED)
    outcome = carry_out(HeterodyneResend(1.0), NETWORK, blind, IMAGES)
    assert not outcome.caught
    assert outcome.learned.weights_correlation is not None
    assert outcome.learned.weights_correlation > 0.9


def test_a_hidden_tap_needs_loss() -> None:
    for act in (HiddenTap(1.0).mark, HiddenTap(1.0).mount):
        with pytest.raises(SettingError, match="loss"):
            act(NETWORK, IDEAL)
    only_rotation = replace(
        IDEAL, channel=replace(IDEAL.channel, rotation=Rotation(loss_db_per_mode=0.01))
    )
    assert HiddenTap(1.0).mark(NETWORK, only_rotation).excess_noise == 0.0


def test_less_than_the_agreed_gain_is_no_over_gain() -> None:
    with pytest.raises(SettingError, match="at least the agreed gain 2"):
        OverGain(1.5).mount(NETWORK, IDEAL)


@pytest.mark.parametrize("block_modes", [1, 8, None])
def test_a_block_of_few_modes_is_cloned_wholly(block_modes: int | None) -> None:
    settings = replace(IDEAL, channel=replace(IDEAL.channel, block_modes=block_modes))
    most = CloneMoreModes(1000)
    few = LabelledImages(IMAGES.images[:3], IMAGES.labels[:3])
    outcome = carry_out(most, NETWORK, settings, few)
    assert outcome.learned.weights_correlation is not None
    modes = sum(path.rows * path.modes for path in layer_paths(NETWORK, settings))
    blocks = sum(path.rows * path.blocks.count for path in layer_paths(NETWORK, settings))
    mark = most.mark(NETWORK, settings)
    assert mark.excess_noise == pytest.approx(1.0 - blocks / modes)
    seen: NDArray[np.float64] = np.array(outcome.verification.excess_noise)
    # Every mode cloned: 1 SNU for any blocks; 3 queries, standard error 0.05 SNU.
    assert float(seen) == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 1.0])
def test_noise_on_few_modes_scatters_as_a_mixture_does(share: float) -> None:
    mark = HeterodyneResend(share).mark(NETWORK, IDEAL)
    paths = layer_paths(NETWORK, IDEAL)
    modes = [path.rows * path.modes for path in paths]
    clone = float(np.average([path.clone_noise for path in paths], weights=modes))
    # 4,000,000 residuals, seed 9: their squares' variance is known to 1 %.
    draw = np.random.default_rng(9)
    variance = 1.0 + clone + 2.0 * (draw.random(4_000_000) < share)
    squares = variance * draw.standard_normal(len(variance)) ** 2
    assert mark.scatter == pytest.approx(squares.var() / (2.0 * squares.mean() ** 2), rel=0.02)


def test_noise_on_all_modes_scatters_as_white_noise_does() -> None:
    assert OverGain(4.0).mark(NETWORK, IDEAL).scatter == pytest.approx(1.0, abs=1e-4)
    assert HiddenTap(1.0).mark(NETWORK, REAL).scatter == 1.0
    # Nothing done is nothing scattered.
    assert HeterodyneResend(0.0).mark(NETWORK, IDEAL).scatter == pytest.approx(1.0, abs=1e-4)
