"""The same returned light under every assumption."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from labctl.data.models import Network
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust, prior_free_bits_per_mode
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.rotation import Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.protocols.verification.trust import UnderTrust, under_every_trust
from labctl.protocols.verification.verdict import VerificationReport, no_verification

UNTRUSTED = Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED)
SETTINGS = SessionSettings(
    light=Light(1.0, PLAIN),
    channel=Channel(loss_db=1.0, technical_noise=0.02),
    receiver=CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE),
    verifier=IDEAL_HOMODYNE,
    assumptions=UNTRUSTED,
    sampling=Sampling.ALL,
    seed=5,
)
WEIGHTS = np.random.default_rng(1).standard_normal((40, 60)).astype(np.float32)
NETWORK = Network((WEIGHTS,), "small", {})


def judged(settings: SessionSettings) -> VerificationReport:
    session = Session(NETWORK, settings, ModeLink(settings))
    images = np.random.default_rng(2).random((200, 60), np.float32)
    assert len(list(session.run(images))) > 0
    return session.verdict()


def by_trust(found: tuple[UnderTrust, ...]) -> dict[tuple[Trust, Trust], UnderTrust]:
    return {(each.assumptions.loss, each.assumptions.technical_noise): each for each in found}


def test_trust_never_raises_the_leakage_and_bounds_lie_above_estimates() -> None:
    found = by_trust(under_every_trust(SETTINGS, judged(SETTINGS)))
    assert len(found) == 4
    for each in found.values():
        assert each.bits_at_estimate is not None
        assert each.bits_upper is not None
        assert 0.0 <= each.bits_at_estimate < each.bits_upper
    worst = found[Trust.UNTRUSTED, Trust.UNTRUSTED].bits_upper
    best = found[Trust.TRUSTED, Trust.TRUSTED].bits_upper
    assert worst is not None
    assert best is not None
    assert best < worst


def test_under_the_sessions_own_assumptions_the_bound_is_the_verdicts() -> None:
    report = judged(SETTINGS)
    own = by_trust(under_every_trust(SETTINGS, report))[Trust.UNTRUSTED, Trust.UNTRUSTED]
    assert own.bits_upper == pytest.approx(report.weights_bits_prior_free_upper, rel=1e-12)
    assert report.transmittance is not None
    assert report.excess_noise is not None
    mode = prior_free_bits_per_mode(1.0, report.transmittance, report.excess_noise)
    assert own.bits_at_estimate == pytest.approx(mode / 2.0, rel=1e-12)


def test_loss_in_the_rotation_is_never_trusted() -> None:
    lossy = replace(
        SETTINGS,
        channel=replace(SETTINGS.channel, rotation=Rotation(loss_db_per_mode=0.01), loss_db=0.0),
    )
    trusted = by_trust(under_every_trust(lossy, judged(lossy)))[Trust.TRUSTED, Trust.TRUSTED]
    without = by_trust(under_every_trust(SETTINGS, judged(SETTINGS)))[Trust.TRUSTED, Trust.TRUSTED]
    assert trusted.bits_at_estimate is not None
    assert without.bits_at_estimate is not None
    # 0.6 dB in the client's hands leak more than 1 dB that is out of them.
    assert trusted.bits_at_estimate > 1.3 * without.bits_at_estimate


def test_light_that_was_not_read_or_did_not_return_says_nothing() -> None:
    report = judged(SETTINGS)
    unread = under_every_trust(SETTINGS, no_verification(SETTINGS.verification))
    assert all(each.bits_upper is None and each.bits_at_estimate is None for each in unread)
    lost = replace(
        report, transmittance=0.0, transmittance_lower=0.0, client_transmittance_lower=0.0
    )
    assert all(each.bits_upper == math.inf for each in under_every_trust(SETTINGS, lost))
