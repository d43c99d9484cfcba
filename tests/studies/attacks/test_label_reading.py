"""A curious server reads labels as well as physics and Bayes' rule allow, and no better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, poisson
from sessions import ideal_session

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import Network
from labctl.errors import DatasetError, SettingError
from labctl.protocols.client import directions_of
from labctl.protocols.encoding import unit_norm
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.link import LayerLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import (
    IDEAL_HOMODYNE,
    CloneReceiver,
    Homodyne,
    Receiver,
    TapReceiver,
    added_noise,
)
from labctl.protocols.settings import Channel, Sampling
from labctl.studies.attacks.attack import Attacker, Mark, carry_out
from labctl.studies.attacks.label_reading import LabelReader, LabelReading, chance_of, label_success

Floats = NDArray[np.float32]

SETTINGS = ideal_session(3.0, 2.0, seed=1)


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    return load_test_images()


def part(images: LabelledImages, first: int, last: int) -> LabelledImages:
    return LabelledImages(images.images[first:last], images.labels[first:last])


def success(digits: LabelledImages, *, images: int = 300, seed: int = 1, **of: Any) -> float:
    """Return the share read of the first test images, the next 2000 being public."""
    attacked, public = part(digits, 0, images), part(digits, 1000, 3000)
    reading = replace(Reading(gain=1.3, rows=784), **of)
    reader = LabelReader(public.images, public.labels, reading, 32)
    named = reader.read(reader.observe(attacked.images, np.random.default_rng(seed)))
    return float(np.mean(named == attacked.labels))


# The physics: what the session's link returns is what the reader takes it for.


@pytest.mark.parametrize(
    ("receiver", "block_modes"),
    [
        (CloneReceiver(3.0, 1.4, Homodyne(0.8, 0.1)), None),
        (CloneReceiver(3.0, 1.0, IDEAL_HOMODYNE), 2),
        (TapReceiver.of_gain(3.0, Homodyne(0.7, 0.05)), None),
    ],
)
def test_returned_rows_have_the_covariance_that_the_reader_assumes(
    receiver: Receiver, block_modes: int | None
) -> None:
    """ModeLink, rows of zero light: 60,000 rows, seed 1; five standard errors."""
    settings = replace(
        SETTINGS,
        receiver=receiver,
        verifier=Homodyne(0.9, 0.2),
        channel=replace(
            SETTINGS.channel, loss_db=1.0, technical_noise=0.3, block_modes=block_modes
        ),
    )
    rows, images = 600, 100
    image = np.random.default_rng(2).random((1, 10)).astype(np.float32)
    c = directions_of(image, block_modes)
    light = LayerLight(0, np.zeros((rows, 10), np.float32), block_modes)
    coefficients = np.ascontiguousarray(np.repeat(c, images, axis=0)).view(np.float32)
    link = ModeLink(settings)
    read = np.concatenate(
        [one.measured.copy() for one in link.exchange(light, coefficients).returned]
    )
    blocked, leg = 1.2, settings.leg_transmittance
    reading = Reading(
        gain=receiver.gain,
        rows=rows,
        transmittance=leg * 0.9,
        technical_noise=0.2 + 0.9 * 0.3,
        emission_factor=receiver.emission_factor,
        block_modes=block_modes,
    )
    white = (1.0 + reading.technical_noise) / blocked
    expected = np.eye(5)
    for columns in light.blocks.slices():
        own = c[0, columns]
        expected[columns, columns] += reading.spike * np.outer(own, own.conj()).real
    error = np.sqrt((np.outer(expected.diagonal(), expected.diagonal()) + expected**2) / len(read))
    assert np.all(np.abs(np.cov(read.T) / white - expected) < 5.0 * error)


def test_heterodyne_sees_half_the_spike_and_a_counter_half_the_kick_as_photons() -> None:
    """Explicit light, 200,000 rows, seed 4: X and P of one mode, split for heterodyne."""
    draw, rows = np.random.default_rng(4).standard_normal, 200_000
    kick, technical = added_noise(1.5) * 0.8, 0.1
    x, p = (draw(rows) + np.sqrt(kick) * draw(rows) for _ in range(2))
    het = [np.sqrt(0.5) * (one + draw(rows)) for one in (x, p)]
    noise = [np.sqrt(0.5 * technical) * draw(rows) for _ in range(2)]
    power = np.mean([(one + add) ** 2 for one, add in zip(het, noise, strict=True)])
    reading = Reading(gain=1.5, rows=1, transmittance=0.8, technical_noise=technical)
    spike = replace(reading, receiver=Detection.HETERODYNE).spike
    assert power / (1.0 + technical / 2.0) == pytest.approx(1.0 + spike, rel=5 * np.sqrt(1 / rows))
    # Photons of X and P: (X^2 + P^2 - 2)/4.
    photons = np.mean((x**2 + p**2 - 2.0) / 4.0)
    counted = replace(reading, receiver=Detection.COUNTING).spike
    assert photons == pytest.approx(counted, abs=5 * np.std((x**2 + p**2) / 4) / np.sqrt(rows))


# The decision is Bayes' rule.


@pytest.mark.parametrize("receiver", list(Detection))
@pytest.mark.parametrize("block_modes", [None, 2])
def test_the_posterior_is_that_of_the_rows_one_by_one(
    receiver: Detection, block_modes: int | None
) -> None:
    """Twelve templates of four modes: probabilities from full Gaussian and Poisson laws."""
    random = np.random.default_rng(9)
    templates = random.random((12, 8)).astype(np.float32)
    labels = np.arange(12) % 3
    reading = Reading(gain=4.0, rows=30, receiver=receiver, block_modes=block_modes)
    if receiver is Detection.COUNTING:
        reading = replace(reading, background_photons=0.1)
    reader = LabelReader(templates, labels, reading)
    c = directions_of(templates, block_modes)
    slices = [slice(0, 4)] if block_modes is None else [slice(0, 2), slice(2, 4)]
    likely, observed = np.zeros(12), []
    for view, columns in zip(reader.views, slices, strict=True):
        own = c[:, columns]
        if receiver is Detection.COUNTING:
            counts = view.observe(random, own[:1])
            observed.append(counts)
            mean = np.mean(np.abs(own) ** 2, axis=0)
            shape = 0.9 * np.abs(own) ** 2 + 0.1 * (0.99 * mean + 0.01 * mean.mean())
            likely += poisson.logpmf(counts, 30 * (reading.spike * shape + 0.1)).sum(axis=1)
            continue
        size = own.shape[1]
        if receiver is Detection.HETERODYNE:
            rows = np.sqrt(0.5) * (random.normal(size=(30, 2 * size)))
            z = rows[:, :size] + 1j * rows[:, size:]
            real = np.concatenate([z.real, z.imag], axis=1)
            inside = z @ np.conj(view.basis)  # type: ignore[attr-defined]
        else:
            real = random.normal(size=(30, size))
            inside = real @ view.basis  # type: ignore[attr-defined]
        observed.append(view.features((inside.T @ inside.conj())[None]))  # type: ignore[attr-defined]
        for template in range(12):
            outer = reading.spike * np.outer(own[template], own[template].conj())
            covariance = np.eye(size) + outer
            if receiver is Detection.HETERODYNE:
                re, im = covariance.real / 2, covariance.imag / 2
                covariance = np.block([[re, -im], [im, re]])
            likely[template] += multivariate_normal.logpdf(real, cov=covariance.real).sum()
    weight = np.exp(likely - likely.max())
    expected = [weight[labels == label].sum() / weight.sum() for label in range(3)]
    assert reader.posterior(observed)[0] == pytest.approx(expected, rel=2e-3, abs=1e-6)


# What it achieves.


def test_it_reads_no_worse_than_what_is_known_of_this_attack(digits: LabelledImages) -> None:
    """84 % at G = 2, 56 % at 1.3, heterodyne, 784 rows; 300 images, three standard errors."""
    heterodyne: dict[str, Any] = {"receiver": Detection.HETERODYNE}
    assert success(digits, gain=2.0, **heterodyne) > 0.84 - 3 * 0.021
    assert success(digits, gain=1.3, **heterodyne) > 0.56 - 3 * 0.029


def test_homodyne_reads_more_than_heterodyne_and_counting_more_than_both(
    digits: LabelledImages,
) -> None:
    shares = [success(digits, gain=1.1, receiver=kind, images=600) for kind in Detection]
    heterodyne, homodyne, counting = shares
    assert counting > homodyne + 0.2 > heterodyne + 0.2
    assert success(digits, gain=1.02, receiver=Detection.COUNTING) > 0.6


@pytest.mark.parametrize("receiver", list(Detection))
def test_a_weak_enough_kick_leaves_only_the_most_frequent_label(
    receiver: Detection, digits: LabelledImages
) -> None:
    """600 images, seed 1, three standard errors above chance."""
    share = success(digits, gain=1.00001, receiver=receiver, images=600)
    assert share < chance_of(digits.labels[:600]) + 3 * 0.0135


def test_rows_repeats_and_gain_help_loss_and_noise_hinder(digits: LabelledImages) -> None:
    base = success(digits, gain=1.15, images=200)
    assert success(digits, gain=1.15, images=200, repeats=10) > base + 0.1
    assert success(digits, gain=1.15, images=200, rows=7840) > base + 0.1
    assert success(digits, gain=1.15, images=200, emission_factor=2.0) > base + 0.05
    assert success(digits, gain=1.15, images=200, rows=100) < base - 0.1
    assert success(digits, gain=1.15, images=200, transmittance=0.3) < base - 0.1
    assert success(digits, gain=1.15, images=200, technical_noise=2.0) < base - 0.1
    assert success(digits, gain=1.15, images=200, vacuum_variance=0.2) > base + 0.1


def test_small_blocks_tell_more(digits: LabelledImages) -> None:
    whole = success(digits, gain=1.1, images=150)
    assert success(digits, gain=1.1, images=150, block_modes=49) > whole + 0.1


def test_light_that_is_not_nulled_blinds_a_counter(digits: LabelledImages) -> None:
    counting: dict[str, Any] = {"gain": 1.02, "receiver": Detection.COUNTING}
    dark = success(digits, **counting)
    assert success(digits, **counting, background_photons=0.01) < dark - 0.3


def test_success_comes_with_its_error_and_depends_on_the_seed_alone(
    digits: LabelledImages,
) -> None:
    attacked, public = part(digits, 0, 100), part(digits, 1000, 1500)
    arguments = (attacked.images, attacked.labels, public.images, public.labels)
    one, same, other = (
        label_success(*arguments, gain=1.2, rows=784, dimensions=16, seed=seed)
        for seed in (3, 3, 4)
    )
    assert one == same
    assert one != other
    share = one.label_success
    assert share is not None
    assert one.samples == 100
    assert one.label_success_error == pytest.approx(np.sqrt(share * (1 - share) / 100))


def test_any_scale_of_images_and_templates_is_the_same(digits: LabelledImages) -> None:
    attacked, public = part(digits, 0, 40), part(digits, 1000, 1300)
    shares = [
        label_success(
            scale * attacked.images, attacked.labels, unit_norm(public.images) * scale,
            public.labels, gain=1.5, rows=784, dimensions=16, seed=1,
        ).label_success
        for scale in (np.float32(1.0), np.float32(64.0))
    ]  # fmt: skip
    assert shares[0] == shares[1]


# In a real session.


@pytest.mark.parametrize("block_modes", [None, 98])
def test_in_a_session_it_reads_what_the_drawn_scatter_predicts(
    block_modes: int | None, digits: LabelledImages
) -> None:
    """60 rows, verifier with losses; 80 images against 400 drawn, four standard errors."""
    weights = np.random.default_rng(1).normal(size=(60, 784)).astype(np.float32)
    network = Network((weights, np.ones((10, 60), np.float32)), "random", {})
    settings = replace(
        SETTINGS,
        channel=Channel(loss_db=0.5, technical_noise=0.05, block_modes=block_modes),
        verifier=Homodyne(0.9, 0.1),
    )
    attack = LabelReading(part(digits, 1000, 2500), repeats=2, dimensions=24)
    outcome = carry_out(attack, network, settings, part(digits, 0, 80))
    assert outcome.verification.accepted is True
    found = outcome.learned
    predicted = label_success(
        digits.images[:400],
        digits.labels[:400],
        attack.templates.images,
        attack.templates.labels,
        gain=2.0,
        rows=60,
        repeats=2,
        transmittance=settings.leg_transmittance * 0.9,
        technical_noise=0.1 + 0.9 * 0.05,
        block_modes=block_modes,
        dimensions=24,
    )
    assert found.samples == 80
    assert found.label_success is not None
    assert predicted.label_success is not None
    error = np.hypot(found.label_success_error or 0.0, predicted.label_success_error or 0.0)
    assert abs(found.label_success - predicted.label_success) < 4.0 * error
    assert found.label_success > 0.25


def test_the_attack_says_who_it_is_and_shows_nothing(digits: LabelledImages) -> None:
    attack = LabelReading(part(digits, 0, 50), repeats=3)
    network = Network((np.ones((10, 784), np.float32),), "flat", {})
    assert (attack.name, attack.party, attack.strength) == ("label-reading", Attacker.SERVER, 3.0)
    assert attack.mark(network, SETTINGS) == Mark()


# What is refused.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gain", 1.0),
        ("gain", np.nan),
        ("rows", 0),
        ("repeats", 0),
        ("repeats", 10**9),
        ("transmittance", 0.0),
        ("transmittance", 1.1),
        ("technical_noise", -0.1),
        ("technical_noise", np.inf),
        ("emission_factor", 0.9),
        ("background_photons", -1.0),
        ("background_photons", 1e7),
        ("vacuum_variance", 0.0),
        ("vacuum_variance", 1.5),
        ("block_modes", 0),
    ],
)
def test_a_reading_that_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=name):
        replace(Reading(gain=2.0, rows=784), **{name: value})


def test_squeezed_light_is_for_homodyne_alone() -> None:
    with pytest.raises(SettingError, match="vacuum_variance"):
        Reading(gain=2.0, rows=784, receiver=Detection.COUNTING, vacuum_variance=0.5)


def test_templates_and_images_must_make_sense(digits: LabelledImages) -> None:
    few = part(digits, 0, 20)
    reading = Reading(gain=2.0, rows=784)
    with pytest.raises(DatasetError, match="must be"):
        LabelReader(few.images, few.labels[:10], reading)
    with pytest.raises(DatasetError, match="2 or more"):
        LabelReader(few.images, np.zeros(20, np.uint8), reading)
    with pytest.raises(SettingError, match="dimensions"):
        LabelReader(few.images, few.labels, reading, 0)
    arguments = (few.images, few.labels)
    with pytest.raises(DatasetError, match="all dark"):
        LabelReader(np.zeros_like(few.images), few.labels, reading)
    with pytest.raises(DatasetError, match="of shape"):
        label_success(few.images[:, :9], few.labels, *arguments, gain=2.0, rows=784)
    with pytest.raises(DatasetError, match="of shape"):
        label_success(few.images[:, 0], few.labels, *arguments, gain=2.0, rows=784)
    with pytest.raises(DatasetError, match="0 images"):
        label_success(few.images[:0], few.labels[:0], *arguments, gain=2.0, rows=784)
    with pytest.raises(SettingError, match="seed"):
        label_success(*arguments, *arguments, gain=2.0, rows=784, seed=-1)


def test_a_session_must_read_what_returns_and_take_such_images(digits: LabelledImages) -> None:
    network = Network((np.ones((10, 784), np.float32),), "flat", {})
    attack = LabelReading(part(digits, 0, 50))
    with pytest.raises(SettingError, match="sampling"):
        attack.mount(network, replace(SETTINGS, sampling=Sampling.MEASURED))
    with pytest.raises(SettingError, match="pixels"):
        attack.mount(Network((np.ones((10, 6), np.float32),), "flat", {}), SETTINGS)
    with pytest.raises(SettingError, match="repeats"):
        LabelReading(part(digits, 0, 50), repeats=0)
