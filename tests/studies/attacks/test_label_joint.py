"""A reader of labels that knows the clone's mismatch: against rows drawn one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, poisson

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import Network, load_network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.client import directions_of
from labctl.protocols.disguise import PLAIN
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.server import Server
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.studies.attacks.attack import carry_out
from labctl.studies.attacks.label_joint import (
    CountingJoint,
    HeterodyneJoint,
    HomodyneJoint,
    joint_view,
)
from labctl.studies.attacks.label_reading import LabelReader, LabelReading, arriving, label_success
from labctl.studies.attacks.label_views import MEAN_SHARE

Complexes = NDArray[np.complex64]

ROWS, MODES = 30, 4
MISMATCH = CloneMismatch(-0.1, 0.15)
READING = Reading(gain=1.4, rows=ROWS, transmittance=0.8, technical_noise=0.1, mismatch=MISMATCH)


def light_of(seed: int) -> Complexes:
    drawn = np.random.default_rng(seed).normal(0.0, 3.0, (ROWS, 2 * MODES)).astype(np.float32)
    return drawn.view(np.complex64)


def templates_of(count: int) -> Complexes:
    images = np.random.default_rng(9).random((count, 2 * MODES)).astype(np.float32)
    return directions_of(images, None)


def rows_of(
    random: np.random.Generator, reading: Reading, light: Complexes, c: Complexes, count: int
) -> NDArray[np.complex128]:
    """Draw what returns (count, rows, modes) at the detector as X + iP: mean, kick and vacuum."""
    shape = (count, reading.samples)
    mean = reading.mismatch.kappa * np.tile(light @ c.conj(), reading.repeats)
    noise = reading.mismatch.returned_noise(reading.emission_factor * (2.0 - 2.0 / reading.gain))
    kick = np.sqrt(noise) * (random.normal(size=shape) + 1j * random.normal(size=shape))
    along = np.sqrt(reading.transmittance) * (mean + kick)[..., None] * c
    vacuum = random.normal(size=along.shape) + 1j * random.normal(size=along.shape)
    return np.asarray(along + vacuum)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("dimensions", [4, 2])
@pytest.mark.parametrize("receiver", [Detection.HETERODYNE, Detection.HOMODYNE])
def test_drawn_features_have_the_law_of_those_of_explicit_rows(
    receiver: Detection, dimensions: int, repeats: int
) -> None:
    """Means and covariances of 4,000 draws each, seeds 1 and 2; 5.5 standard errors."""
    reading = replace(READING, receiver=receiver, repeats=repeats)
    light, templates = light_of(5), templates_of(12)
    view = joint_view(templates, reading, light, dimensions)
    c, count = templates[0], 4000
    drawn = view.observe(np.random.default_rng(1), np.repeat(c[None], count, axis=0))
    rows = rows_of(np.random.default_rng(2), reading, light, c, count)
    random = np.random.default_rng(3)
    if isinstance(view, HeterodyneJoint):
        # Split for two quadratures, with a second vacuum: E|z|^2 = 1 of the noise.
        more = random.normal(size=rows.shape) + 1j * random.normal(size=rows.shape)
        z = (rows + np.sqrt(1.1) * more) / np.sqrt(2.0 * 2.1)
        inside = (z @ view.plain.basis.conj()).astype(np.complex64)
        scatter = inside.swapaxes(1, 2) @ inside.conj()
        right = np.tile(view.shown.right, (repeats, 1))
        weighted = right.T @ inside
        parts = [weighted.real.reshape(count, -1), weighted.imag.reshape(count, -1)]
        explicit = np.concatenate([view.plain.features(scatter), *parts], axis=1)
    else:
        assert isinstance(view, HomodyneJoint)
        assert view.phases is not None
        phases = np.tile(view.phases, repeats)
        read = (phases[:, None] * rows).real + np.sqrt(0.1) * random.normal(size=rows.shape)
        inside = (read / np.sqrt(1.1) @ view.plain.basis).astype(np.float32)
        scatter = inside.swapaxes(1, 2) @ inside
        turned = np.tile(view.shown.right.conj(), (repeats, 1)) * phases[:, None]
        explicit = view.features(scatter, (turned.T @ inside).astype(np.complex64))
    moments = [np.cov(each.T).astype(float) for each in (drawn, explicit)]
    spread = np.sqrt(moments[1].diagonal())
    difference = np.abs(drawn.mean(axis=0) - explicit.mean(axis=0))
    assert np.all(difference < 5.5 * spread * np.sqrt(2.0 / count))
    # Scatter has fourth moments above a Gaussian's: allowed for by the factor 2.
    error = np.outer(spread, spread) * np.sqrt(2.0 * 2.0 * 2.0 / count)
    assert np.all(np.abs(moments[0] - moments[1]) < 5.5 * error)


@pytest.mark.parametrize("background", [0.0, 0.05])
@pytest.mark.parametrize("repeats", [1, 3])
def test_drawn_counts_have_the_law_of_explicit_photons(repeats: int, background: float) -> None:
    """Means and variances of 5,000 draws each, seeds 1 and 2; 5.5 standard errors."""
    reading = replace(
        READING,
        receiver=Detection.COUNTING,
        repeats=repeats,
        technical_noise=0.0,
        background_photons=background,
    )
    light, templates = light_of(5), templates_of(12)
    view = joint_view(templates, reading, light, 4)
    c, count = templates[0], 5_000
    drawn = view.observe(np.random.default_rng(1), np.repeat(c[None], count, axis=0))
    random = np.random.default_rng(2)
    alpha = 0.5 * np.sqrt(0.8) * MISMATCH.kappa * np.tile(light @ c.conj(), repeats)
    shape = (count, ROWS * repeats)
    thermal = random.normal(size=shape) + 1j * random.normal(size=shape)
    field = (alpha + np.sqrt(reading.spike / 2.0) * thermal)[..., None] * c
    white = random.normal(size=(*field.shape, 2)) * np.sqrt(background / 2.0)
    photons = random.poisson(np.abs(field + white[..., 0] + 1j * white[..., 1]) ** 2)
    explicit = photons.sum(axis=1)
    if not background:
        by_row = photons.sum(axis=2).reshape(count, repeats, ROWS).sum(axis=1)
        explicit = np.concatenate([explicit, by_row], axis=1)
    assert isinstance(view, CountingJoint)
    moments = [np.cov(each.T).astype(float) for each in (drawn, explicit)]
    spread = np.sqrt(moments[1].diagonal())
    difference = np.abs(drawn.mean(axis=0) - explicit.mean(axis=0))
    assert np.all(difference < 5.5 * spread * np.sqrt(2.0 / count))
    error = np.outer(spread, spread) * np.sqrt(2.0 * 4.0 / count)
    assert np.all(np.abs(moments[0] - moments[1]) < 5.5 * error)


@pytest.mark.parametrize(
    ("receiver", "per_image"),
    [(Detection.HETERODYNE, False), (Detection.HOMODYNE, False), (Detection.HOMODYNE, True)],
)
def test_the_posterior_is_that_of_the_rows_one_by_one(receiver: Detection, per_image: bool) -> None:
    """Twelve templates of four modes, all dimensions kept: the full Gaussian law of every row."""
    reading = replace(READING, receiver=receiver)
    light, c = light_of(5), templates_of(12)
    view = joint_view(c, reading, light, MODES)
    random = np.random.default_rng(4)
    rows = rows_of(random, reading, light, c[0], 1)[0]
    means = np.sqrt(0.8) * MISMATCH.kappa * (c.conj() @ light.T)[:, :, None] * c[:, None, :]
    likely = []
    if isinstance(view, HeterodyneJoint):
        unit = np.sqrt(2.0 * 2.1)
        z = rows / unit
        inside = (z @ view.plain.basis.conj()).astype(np.complex64)
        scatter = inside.T @ inside.conj()
        weighted = view.shown.right.T @ inside
        parts = [view.plain.features(scatter[None])[0], weighted.real.ravel()]
        features = np.concatenate([*parts, weighted.imag.ravel()])[None]
        for own, mean in zip(c, means, strict=True):
            covariance = np.eye(MODES) + reading.spike * np.outer(own, own.conj())
            re, im = covariance.real / 2, covariance.imag / 2
            off = z - mean / unit
            both = np.concatenate([off.real, off.imag], axis=1)
            full = np.block([[re, -im], [im, re]])
            likely.append(multivariate_normal.logpdf(both, cov=full).sum())
    else:
        assert isinstance(view, HomodyneJoint)
        assert view.phases is not None
        phases = np.exp(1j * random.random(ROWS)) if per_image else view.phases
        read = (phases[:, None] * rows).real / np.sqrt(1.1)
        inside = (read @ view.plain.basis).astype(np.float32)
        weighted, squares = view.seen(inside, phases.astype(np.complex64))
        scatter = inside.T @ inside
        if per_image:
            view = HomodyneJoint(view.plain, view.shown, view.repeats)
        own_squares = squares[None] if per_image else None
        features = view.features(scatter[None], weighted[None], own_squares)
        for own, mean in zip(c, means, strict=True):
            covariance = np.eye(MODES) + reading.spike * np.outer(own, own.conj()).real
            off = read - (phases[:, None] * mean).real / np.sqrt(1.1)
            likely.append(multivariate_normal.logpdf(off, cov=covariance).sum())
    slopes, bias = view.weights(c)
    found = (features @ slopes.T + bias)[0]
    expected = np.array(likely)
    assert found - found[0] == pytest.approx(expected - expected[0], abs=5e-3, rel=1e-3)


def test_the_posterior_of_a_counter_is_that_of_its_counts() -> None:
    """Poisson laws of modes, and of rows given how many there are; shapes smoothed as stated."""
    reading = replace(READING, receiver=Detection.COUNTING, technical_noise=0.0)
    light, c = light_of(5), templates_of(12)
    view = joint_view(c, reading, light, MODES)
    assert isinstance(view, CountingJoint)
    counts = view.observe(np.random.default_rng(1), c[:1])
    power = np.abs(0.5 * np.sqrt(0.8) * MISMATCH.kappa * (c.conj() @ light.T)) ** 2
    shape = (1 - MEAN_SHARE) * np.abs(c) ** 2 + MEAN_SHARE * view.plain.mean
    photons = ROWS * reading.spike + power.sum(axis=1)
    likely = poisson.logpmf(counts[:, :MODES], photons[:, None] * shape).sum(axis=1)
    rows = reading.spike + (1 - MEAN_SHARE) * power + MEAN_SHARE * power.mean(axis=0)
    likely += (counts[:, MODES:] * np.log(rows / rows.sum(axis=1, keepdims=True))).sum(axis=1)
    slopes, bias = view.weights(c)
    found = (counts @ slopes.T + bias)[0]
    assert found - found[0] == pytest.approx(likely - likely[0], abs=1e-2, rel=1e-3)


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    return load_test_images()


def read_share(
    digits: LabelledImages, mismatch: CloneMismatch, mean_photons: float = 8.91
) -> float:
    """Return the share read of 300 images of the noise-aware network, 2,000 others being public."""
    light = Server(load_network("noise-aware"), mean_photons).light(0)
    found = label_success(
        digits.images[:300],
        digits.labels[:300],
        digits.images[1000:3000],
        digits.labels[1000:3000],
        gain=1.0128,
        rows=light.rows,
        mismatch=mismatch,
        light=arriving(light, 1.0),
        dimensions=16,
        seed=1,
    )
    assert found.label_success is not None
    return found.label_success


def test_a_mismatch_opens_the_label_and_a_phase_does_as_a_gain(digits: LabelledImages) -> None:
    """Binomial standard errors of 300 images are 2.9 points at most; three of each difference."""
    none = read_share(digits, CloneMismatch(1e-9))
    half, one = (read_share(digits, CloneMismatch(-share)) for share in (0.005, 0.01))
    assert none < 0.2
    assert half > none + 0.1
    assert one > half + 0.15
    turned = read_share(digits, CloneMismatch(0.0, 0.01))
    assert turned == pytest.approx(one, abs=3 * 0.029 * np.sqrt(2.0))


def test_in_a_session_it_reads_what_the_draws_predict(digits: LabelledImages) -> None:
    """60 rows, verifier with losses; 80 images against 400 drawn, four standard errors.

    A quarter of the pixels is dark in all images that the weights are made of, and gets no light.
    """
    weights = np.random.default_rng(1).normal(size=(60, 784)).astype(np.float32)
    smooth = weights @ (digits.images[5000:5784].T @ digits.images[5000:5784] / 30.0)
    network = Network((smooth, np.ones((10, 60), np.float32)), "smooth", {})
    settings = SessionSettings(
        light=Light(3.0, PLAIN),
        channel=Channel(loss_db=0.5, technical_noise=0.05, mismatch=CloneMismatch(-0.02, 0.02)),
        receiver=CloneReceiver(1.05, 1.0, Homodyne(1.0, 0.0)),
        verifier=Homodyne(0.9, 0.1),
        assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=1,
    )
    public = LabelledImages(digits.images[1000:2500], digits.labels[1000:2500])
    attack = LabelReading(public, repeats=2, dimensions=24)
    attacked = LabelledImages(digits.images[:80], digits.labels[:80])
    found = carry_out(attack, network, settings, attacked).learned
    leg = settings.leg_transmittance
    fed = carried(network).inputs
    assert fed.taken(digits.images).shape[1] == pytest.approx(0.75 * 784, rel=0.03)
    predicted, blind = (
        label_success(
            fed.taken(digits.images[:400]),
            digits.labels[:400],
            fed.taken(public.images),
            public.labels,
            gain=1.05,
            rows=60,
            repeats=2,
            transmittance=leg * 0.9,
            technical_noise=0.1 + 0.9 * 0.05,
            mismatch=mismatch,
            light=arriving(Server(network, 3.0).light(0), leg),
            dimensions=24,
        )
        for mismatch in (settings.channel.clone_mismatch, CloneMismatch())
    )
    assert found.label_success is not None
    assert predicted.label_success is not None
    error = np.hypot(found.label_success_error or 0.0, predicted.label_success_error or 0.0)
    assert abs(found.label_success - predicted.label_success) < 4.0 * error
    assert blind.label_success is not None
    assert predicted.label_success > blind.label_success + 0.2


def test_a_mismatch_without_light_is_refused(digits: LabelledImages) -> None:
    reading = Reading(gain=1.1, rows=60, mismatch=CloneMismatch(0.01))
    with pytest.raises(SettingError, match="light of a mismatched clone"):
        LabelReader(digits.images[:50], digits.labels[:50], reading)
