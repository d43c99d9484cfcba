"""Squeezed light shows the clone's noise sooner, as far as loss lets it, and adds photons."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.client import directions_of
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust, data_bits_journal
from labctl.protocols.link import LayerLight
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne, added_noise
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.studies.attacks.attack import Attacker, carry_out
from labctl.studies.attacks.label_reading import LabelReading, label_success
from labctl.studies.attacks.probes import ProbedLink
from labctl.studies.attacks.squeezed_probes import (
    SqueezedProbes,
    direction_information,
    returned_variance,
    squeezed_variance,
)

SETTINGS = SessionSettings(
    light=Light(7.5, PLAIN),
    channel=Channel(loss_db=0.5, technical_noise=0.02),
    receiver=CloneReceiver(1.15, 1.0, IDEAL_HOMODYNE),
    verifier=Homodyne(0.9, 0.05),
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.ALL,
    seed=1,
)


def test_the_fisher_information_is_that_of_the_strongest_direction_found() -> None:
    """Top eigenvector of scatter, 400 draws of 4000 rows, 5 modes, seed 2: variance to 12 %."""
    random, rows, draws, kick, variance = np.random.default_rng(2), 4000, 400, 0.3, 0.4
    c = np.array([0.6, 0.0, 0.0, 0.8, 0.0])
    missed = []
    for _ in range(draws):
        read = math.sqrt(variance) * random.standard_normal((rows, 5))
        read += math.sqrt(kick) * random.standard_normal((rows, 1)) * c
        _, vectors = np.linalg.eigh(read.T @ read)
        found = vectors[:, -1]
        missed.append(1.0 - (found @ c) ** 2)
    # Four tangential coefficients, each with the inverse of the information as its variance.
    bound = 4.0 / direction_information(rows, kick, variance)
    assert np.mean(missed) == pytest.approx(bound, rel=0.12)


def test_without_squeezing_it_is_the_journals_information() -> None:
    kick = added_noise(1.3)
    information = direction_information(784, kick, 1.0)
    bits = 0.5 * math.log2(1.0 + information / 392)
    assert bits == pytest.approx(data_bits_journal(1.3, 392, 784))


@pytest.mark.parametrize("squeezing_db", [0.0, 3.0, 10.0])
def test_the_gain_in_information_is_bounded_by_the_quieter_noise_squared(
    squeezing_db: float,
) -> None:
    variance = returned_variance(squeezing_db, 0.9)
    assert variance == pytest.approx(1 - 0.9 * (1 - 10 ** (-squeezing_db / 10)))

    def gained(kick: float) -> float:
        return direction_information(1, kick, variance) / direction_information(1, kick, 1.0)

    assert gained(1e-6) == pytest.approx(variance**-2, rel=1e-4)
    assert 1.0 <= gained(0.5) <= gained(1e-6) * (1 + 1e-12)


def test_loss_limits_squeezing() -> None:
    assert returned_variance(60.0, 0.5) == pytest.approx(0.5, abs=1e-5)
    assert returned_variance(60.0, 1.0) == pytest.approx(1e-6)


def test_returned_and_arrived_noise_are_those_of_the_link() -> None:
    """Rows of zero light, 80,000 rows, 10 dB; five standard errors."""
    rows, images, leg = 500, 160, SETTINGS.leg_transmittance
    image = np.random.default_rng(2).random((1, 8)).astype(np.float32)
    c = directions_of(image, None)
    link = ProbedLink(SETTINGS, sent_variance=squeezed_variance(10.0), only_x=True)
    light = LayerLight(0, np.zeros((rows, 8), np.float32))
    coefficients = np.ascontiguousarray(np.repeat(c, images, axis=0)).view(np.float32)
    exchange = link.exchange(light, coefficients)
    items = [(one.measured.copy(), one.cosine.copy()) for one in exchange.returned]
    assert all(np.all(cosine == 1.0) for _, cosine in items)
    read = np.concatenate([measured for measured, _ in items]) * math.sqrt(1.05)
    white = returned_variance(10.0, leg**2 * 0.9) + 0.05 + 0.9 * 0.02
    kick = added_noise(1.15) * leg * 0.9
    expected = white * np.eye(4) + kick * np.outer(c[0], c[0].conj()).real
    power = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()) * 2 / len(read))
    assert np.all(np.abs(np.cov(read.T) - expected) < 5 * power)
    on_p = float(np.sum(c[0].imag ** 2))
    # Of mode b at the client: the share on P of the image's direction sees the loud quadrature.
    quiet = squeezed_variance(10.0)
    gain, own = 1.15, 1.0 + leg * ((1.0 - on_p) * quiet + on_p / quiet - 1.0)
    arm = (gain - 1) * own + (gain - 1) ** 2 / gain + 1 / gain
    values = exchange.measured.ravel()
    assert np.var(values) == pytest.approx(arm, rel=5 * math.sqrt(2 / values.size))


def test_squeezed_sessions_read_more_labels_as_predicted() -> None:
    """60 rows, 60 images, twice each; four standard errors of the drawn prediction."""
    digits = load_test_images()
    weights = np.random.default_rng(1).normal(size=(60, 784)).astype(np.float32)
    network = Network((weights, np.ones((10, 60), np.float32)), "random", {})
    public = LabelledImages(digits.images[1000:2500], digits.labels[1000:2500])
    attacked = LabelledImages(digits.images[:60], digits.labels[:60])
    settings = replace(SETTINGS, receiver=CloneReceiver(1.35, 1.0, IDEAL_HOMODYNE))
    squeezed = SqueezedProbes(12.0, public, repeats=2, dimensions=24)
    found = carry_out(squeezed, network, settings, attacked).learned
    plain = carry_out(
        LabelReading(public, repeats=2, dimensions=24), network, settings, attacked
    ).learned
    through = settings.transmittance * 0.9
    predicted = label_success(
        digits.images[:400],
        digits.labels[:400],
        public.images,
        public.labels,
        gain=1.35,
        rows=60,
        repeats=2,
        transmittance=(settings.leg_transmittance * 0.9),
        technical_noise=0.05 + 0.9 * 0.02,
        vacuum_variance=returned_variance(12.0, through),
        dimensions=24,
    )
    assert found.label_success is not None
    assert plain.label_success is not None
    assert found.label_success == pytest.approx(predicted.label_success, abs=4 * 0.066)
    assert found.label_success > plain.label_success + 0.1


def test_the_attack_says_who_it_is_and_refuses_what_cannot_be() -> None:
    digits = load_test_images()
    public = LabelledImages(digits.images[:50], digits.labels[:50])
    attack = SqueezedProbes(6.0, public)
    network = Network((np.ones((10, 784), np.float32),), "flat", {})
    assert (attack.name, attack.party, attack.strength) == ("squeezed-probes", Attacker.SERVER, 6.0)
    assert attack.mark(network, SETTINGS) is None
    with pytest.raises(SettingError, match="sampling"):
        attack.mount(network, replace(SETTINGS, sampling=Sampling.MEASURED))
    for wrong in (-1.0, 61.0, math.nan):
        with pytest.raises(SettingError, match="squeezing_db"):
            SqueezedProbes(wrong, public)
    with pytest.raises(SettingError, match="repeats"):
        SqueezedProbes(3.0, public, repeats=0)
    with pytest.raises(SettingError, match="transmittance"):
        returned_variance(3.0, 0.0)
    for rows, kick, variance in ((0, 1.0, 1.0), (1, -1.0, 1.0), (1, 1.0, 0.0)):
        with pytest.raises(SettingError):
            direction_information(rows, kick, variance)
