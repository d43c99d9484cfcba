"""Whole sessions: an honest one is accepted with the figures it should show, others are not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sessions import ideal_session, images_of, network

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.link import Exchange, LayerLight, Link, ReturnedLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.protocols.verification.verdict import Expectation, VerificationReport

Floats = NDArray[np.float32]

IDEAL = ideal_session(4.0, 2.0, seed=7)
REAL = replace(
    IDEAL,
    receiver=CloneReceiver(1.8, 1.6, Homodyne(efficiency=0.7, electronic_noise=0.12)),
    verifier=Homodyne(efficiency=0.65, electronic_noise=0.2),
    channel=replace(IDEAL.channel, loss_db=1.5, technical_noise=0.02),
)


NETWORK = network(41, 30, 10)
IMAGES = images_of(200, 41)
MODES = 200 * (30 * 21 + 10 * 15)


def played(
    settings: SessionSettings, link: Link | None = None, expectation: Expectation | None = None
) -> tuple[Session, VerificationReport]:
    session = Session(NETWORK, settings, link or ModeLink(settings))
    for _ in session.run(IMAGES, batch_images=50):
        pass
    return session, session.verdict(expectation)


@pytest.mark.parametrize("settings", [IDEAL, REAL], ids=["ideal", "real"])
def test_an_honest_session_shows_what_its_settings_say(settings: SessionSettings) -> None:
    """156,000 modes: four standard errors of T and noise, clone noise re-derived per layer."""
    session, report = played(settings)
    gain, heat = settings.receiver.gain, settings.receiver.emission_factor
    leg = 10.0 ** (-settings.channel.loss_db / 20.0)
    clones = 200 * (30 + 10) * heat * (2.0 - 2.0 / gain) / MODES
    excess = leg * clones + settings.channel.technical_noise
    assert report.accepted is True
    assert report.samples == MODES
    assert report.excess_noise_expected == pytest.approx(excess, rel=1e-9)
    assert report.excess_noise_standard_error is not None
    assert report.excess_noise == pytest.approx(excess, abs=4 * report.excess_noise_standard_error)
    assert report.transmittance == pytest.approx(leg**2, rel=0.01)
    assert session.expectation().transmittance == pytest.approx(leg**2, rel=1e-12)
    assert report.excess_noise_upper is not None
    assert report.excess_noise_upper > excess
    assert report.transmittance_lower is not None
    assert report.transmittance_lower < leg**2


def test_the_reported_bound_is_never_below_the_closed_form() -> None:
    for settings in (IDEAL, REAL):
        session, report = played(settings)
        assert report.weights_bits_prior_free_upper is not None
        assert report.weights_bits_prior_free_upper > session.leakage().weights_bits_per_real


def test_closed_form_leakage_assumes_no_less_noise_than_an_honest_link_shows() -> None:
    session, _ = played(REAL)
    assert session.leakage().excess_noise >= session.expectation().excess_noise
    assert session.leakage().assumptions is REAL.assumptions


def test_one_image_of_the_reference_shape_is_accepted() -> None:
    """784-784-10: 311,248 modes, which resolve the excess noise to 0.0025 SNU."""
    session = Session(network(784, 784, 10), IDEAL, ModeLink(IDEAL))
    assert len(list(session.run(images_of(1, 784)))) == 1
    report = session.verdict(figures=False)
    assert report.accepted is True
    assert report.samples == 311_248
    assert report.excess_noise_standard_error == pytest.approx(0.0025, abs=1e-4)
    assert session.leakage().weights_bits_per_real == pytest.approx(0.0437, abs=5e-5)


def test_honest_sessions_are_not_rejected() -> None:
    """40 seeds at the default false-alarm probability of 1e-6."""
    net, images = network(20, 10), images_of(10, 20)
    for seed in range(40):
        settings = replace(REAL, seed=seed)
        session = Session(net, settings, ModeLink(settings))
        assert len(list(session.run(images))) == 1
        assert session.verdict(figures=False).accepted is True


def test_evidence_is_pooled_over_runs_and_does_not_depend_on_batches() -> None:
    net, images = network(12, 9, 4), images_of(8, 12)
    whole = Session(net, REAL, ModeLink(REAL))
    parts = Session(net, REAL, ModeLink(REAL))
    list(whole.run(images))
    list(parts.run(images[:3], batch_images=2))
    list(parts.run(images[3:], batch_images=1))
    ours, theirs = parts.verdict(figures=False), whole.verdict(figures=False)
    assert ours.samples == theirs.samples == 8 * (9 * 6 + 4 * 5)
    assert ours.excess_noise == pytest.approx(theirs.excess_noise, abs=1e-3)
    assert ours.transmittance == pytest.approx(theirs.transmittance, rel=1e-4)


def test_batches_come_in_order_with_their_values() -> None:
    session = Session(NETWORK, REAL, ModeLink(REAL))
    batches = list(session.run(IMAGES, batch_images=64))
    assert [batch.first_image for batch in batches] == [0, 64, 128, 192]
    assert [len(batch.classes) for batch in batches] == [64, 64, 64, 8]
    for batch in batches:
        count = len(batch.classes)
        assert [values.shape for values in batch.measured] == [(count, 30), (count, 10)]
        assert np.array_equal(batch.classes, batch.measured[-1].argmax(axis=1))


def test_no_images_give_no_batches_and_no_verdict() -> None:
    session = Session(NETWORK, IDEAL, ModeLink(IDEAL))
    assert list(session.run(IMAGES[:0])) == []
    assert session.verdict(figures=False).accepted is None


def test_a_run_that_reads_no_returned_light_calibrates_nothing_and_claims_nothing() -> None:
    session, report = played(replace(IDEAL, sampling=Sampling.MEASURED))
    assert session.calibrate() is None
    assert report.accepted is None
    assert report.excess_noise is None
    assert session.leakage().weights_bits_per_real > 0.0


def test_the_verifier_is_calibrated_once() -> None:
    link = CountingLink(ModeLink(REAL))
    session, _ = played(REAL, link)
    session.verdict(figures=False)
    assert session.calibrate() is session.calibrate()
    assert link.calibrations == 1


def test_a_session_that_has_not_run_claims_nothing() -> None:
    session = Session(NETWORK, IDEAL, ModeLink(IDEAL))
    assert session.verdict(figures=False).accepted is None
    session.calibrate()
    assert session.verdict(figures=False).accepted is None


@dataclass
class CountingLink:
    """An honest link that counts its calibrations."""

    link: Link
    calibrations: int = 0

    def calibrate(self) -> ReceiverCalibration:
        self.calibrations += 1
        return self.link.calibrate()

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        return self.link.exchange(light, coefficients)


# Clients and outsiders who do not keep to the protocol.


@dataclass(frozen=True)
class TamperedLink:
    """A link whose returned light passes through someone's hands."""

    link: Link
    tamper: Callable[[ReturnedLight, LayerLight], ReturnedLight]

    def calibrate(self) -> ReceiverCalibration:
        return self.link.calibrate()

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        honest = self.link.exchange(light, coefficients)
        return Exchange(honest.measured, self._returned(honest, light))

    def _returned(self, honest: Exchange, light: LayerLight) -> Iterator[ReturnedLight]:
        for returned in honest.returned:
            yield self.tamper(returned, light)


def nothing_returned(returned: ReturnedLight, light: LayerLight) -> ReturnedLight:
    vacuum = np.random.default_rng(1).standard_normal(returned.measured.shape, np.float32)
    return replace(returned, measured=vacuum)


def own_laser(returned: ReturnedLight, light: LayerLight) -> ReturnedLight:
    """Light of the right power that knows nothing of the weights."""
    return replace(returned, measured=returned.measured[:, ::-1].copy())


def tapped(returned: ReturnedLight, light: LayerLight) -> ReturnedLight:
    """A 5 % beam splitter in the returning leg."""
    vacuum = np.random.default_rng(2).standard_normal(returned.measured.shape, np.float32)
    kept = np.float32(math.sqrt(0.95)) * returned.measured
    return replace(returned, measured=kept + np.float32(math.sqrt(0.05)) * vacuum)


def heterodyned_and_resent(returned: ReturnedLight, light: LayerLight) -> ReturnedLight:
    """Every tenth row measured in both quadratures and prepared again: 2 SNU on it."""
    noise = np.random.default_rng(3).standard_normal(returned.measured.shape, np.float32)
    noise[np.arange(len(noise)) % 10 != 0] = 0.0
    return replace(returned, measured=returned.measured + np.float32(math.sqrt(2.0)) * noise)


def guessed_basis(returned: ReturnedLight, light: LayerLight) -> ReturnedLight:
    """Light turned by 90 degrees: what was on X comes back on P."""
    turned = returned.cosine * light.p - returned.sine * light.x
    straight = returned.cosine * light.x + returned.sine * light.p
    return replace(returned, measured=returned.measured - straight + turned)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (nothing_returned, "transmittance"),
        (own_laser, "transmittance"),
        (own_laser, "excess noise"),
        (tapped, "transmittance"),
        (heterodyned_and_resent, "excess noise"),
        (guessed_basis, "excess noise"),
    ],
)
def test_tampering_is_rejected_and_the_reason_told(
    tamper: Callable[[ReturnedLight, LayerLight], ReturnedLight], reason: str
) -> None:
    _, honest = played(IDEAL)
    _, report = played(IDEAL, TamperedLink(ModeLink(IDEAL), tamper))
    assert report.accepted is False
    assert reason in report.reason
    assert report.weights_bits_prior_free_upper is not None
    assert honest.weights_bits_prior_free_upper is not None
    assert report.weights_bits_prior_free_upper > honest.weights_bits_prior_free_upper
    assert report.weights_bits_honest_upper is not None
    assert honest.weights_bits_honest_upper is not None
    assert report.weights_bits_honest_upper > 1.1 * honest.weights_bits_honest_upper


def test_a_client_with_too_much_gain_is_rejected() -> None:
    greedy = replace(IDEAL, receiver=CloneReceiver(30.0, 1.0, IDEAL_HOMODYNE))
    _, honest = played(IDEAL)
    _, report = played(IDEAL, ModeLink(greedy))
    assert honest.accepted is True
    assert report.accepted is False
    assert "excess noise" in report.reason


def test_more_loss_than_agreed_is_rejected() -> None:
    _, report = played(REAL, ModeLink(replace(REAL, channel=replace(REAL.channel, loss_db=1.7))))
    assert report.accepted is False
    assert "transmittance" in report.reason


def test_an_expectation_can_be_given() -> None:
    lossy = ModeLink(replace(REAL, channel=replace(REAL.channel, loss_db=1.7)))
    told = Expectation(10.0**-0.17, 0.08, 0.001, 0.01)
    _, report = played(REAL, lossy, told)
    assert report.accepted is True
    assert report.excess_noise_expected == 0.08


def test_a_limit_on_bits_needs_samples() -> None:
    limited = replace(IDEAL, verification=VerificationSettings(weights_bits_limit=0.05))
    session, report = played(limited)
    assert report.accepted is False
    assert "above the limit of 0.05" in report.reason
    assert f"{MODES} samples pooled" in report.reason
    assert session.leakage().weights_bits_per_real > 0.0
