"""A server that reads all labels of input and decoys: its likelihoods, its draws, and the cap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import load_network
from labctl.errors import DatasetError, SettingError
from labctl.protocols.disguise import PLAIN
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.link import LayerLight
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.server import Server
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.studies.attacks.label_reading import arriving
from labctl.studies.attacks.label_set import Search, SetReader, set_success
from labctl.studies.attacks.label_span import (
    PhotonSeen,
    PhotonView,
    QuadratureView,
    span_view,
)
from labctl.studies.attacks.label_views import MEAN_SHARE

Complexes = NDArray[np.complex64]
Reals = NDArray[np.float64]
MODES, ROWS, PICTURES = 5, 40, 12
MISMATCH = CloneMismatch(0.2, 0.3)


def circular(seed: int, *shape: int) -> Complexes:
    halves = np.random.default_rng(seed).standard_normal((*shape, 2))
    return np.ascontiguousarray(halves, np.float32).view(np.complex64)[..., 0]


def gallery_of(seed: int) -> Complexes:
    drawn = circular(seed, PICTURES, MODES)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.complex64)


def orthonormal(vectors: Complexes) -> NDArray[np.complex128]:
    return np.ascontiguousarray(np.linalg.qr(vectors.T.astype(np.complex128))[0].T)


def exact(read: Reals, phases: Complexes, modes: NDArray[np.complex128], view: QuadratureView,
          spike: float) -> float:  # fmt: skip
    """Return the log likelihood of rows, worked out row by row from the optics."""
    total = 0.0
    for row, phase, light in zip(read, phases, np.tile(view.light, (2, 1)), strict=True):
        mean = sum(np.vdot(u, light) * u for u in modes) * phase
        kick = (modes.T @ modes.conj()) * spike
        if view.reading.receiver is Detection.HOMODYNE:
            basis = view.basis.real
            mean_seen, noise = mean.real @ basis, basis.T @ kick.real @ basis
        else:
            axes = view.basis[:, :MODES]
            inside = np.asarray(mean @ axes)
            mean_seen = np.concatenate([inside.real, inside.imag])
            turned = axes.T @ kick @ axes.conj()
            noise = np.block([[turned.real, -turned.imag], [turned.imag, turned.real]])
        total += multivariate_normal(mean_seen, np.eye(len(noise)) + noise).logpdf(row)
    return total


@pytest.mark.parametrize("receiver", [Detection.HOMODYNE, Detection.HETERODYNE])
@pytest.mark.parametrize("matched", [True, False])
def test_likelihoods_are_those_of_the_gaussian_rows(receiver: Detection, matched: bool) -> None:
    gallery, light = gallery_of(1), 3.0 * circular(2, ROWS, MODES)
    mismatch = CloneMismatch() if matched else MISMATCH
    reading = Reading(
        gain=3.0, rows=ROWS, repeats=2, receiver=receiver, technical_noise=0.2, mismatch=mismatch
    )
    view = span_view(gallery, reading, None if matched else light, MODES, 3)
    assert isinstance(view, QuadratureView)
    modes = orthonormal(gallery[[3, 5, 8]]).astype(np.complex64)
    read, phases = view.rows(np.random.default_rng(0), modes)
    found = view.summed(read, phases).among(np.arange(PICTURES)).given(np.array([5, 8]))
    wanted = np.array([
        exact(read.astype(np.float64), phases, orthonormal(gallery[[5, 8, place]]), view,
              reading.spike)
        for place in (0, 3, 7)
    ])  # fmt: skip
    assert found[[0, 3, 7]] - found[3] == pytest.approx(wanted - wanted[1], abs=0.02)
    # Whose direction is one of the others' adds none.
    assert found[5] == found[8] == -np.inf
    alone = view.summed(read, phases).alone()
    single = [
        exact(read.astype(np.float64), phases, orthonormal(gallery[[place]]), view, reading.spike)
        for place in (0, 3)
    ]
    assert alone[0] - alone[3] == pytest.approx(single[0] - single[1], abs=0.02)


@pytest.mark.parametrize("matched", [False, True])
def test_photons_are_scored_by_the_rate_of_their_row_and_mode(matched: bool) -> None:
    """Of a matched clone photons of one mode count together, which changes no score."""
    gallery = gallery_of(1)
    light = None if matched else 3.0 * circular(2, ROWS, MODES)
    mismatch = CloneMismatch() if matched else MISMATCH
    reading = Reading(gain=1.5, rows=ROWS, receiver=Detection.COUNTING, mismatch=mismatch)
    view = span_view(gallery, reading, light, MODES, 3)
    assert isinstance(view, PhotonView)
    modes = orthonormal(gallery[[3, 5, 8]]).astype(np.complex64)
    seen = view.observe(np.random.default_rng(0), modes)
    assert isinstance(seen, PhotonSeen)
    scores = seen.among(np.arange(PICTURES)).given(np.array([5, 8]))

    def score(place: int) -> float:
        own = orthonormal(gallery[[5, 8, place]])
        fields = (view.light @ own.conj().T) @ own
        rates = np.abs(fields) ** 2 + reading.spike * np.sum(np.abs(own) ** 2, axis=0)
        rates = (1.0 - MEAN_SHARE) * rates + MEAN_SHARE * 3 * view.mean
        told = np.log(rates[seen.rows, seen.columns]).sum()
        return float(told - np.sum(np.abs(fields) ** 2))

    assert scores[0] - scores[3] == pytest.approx(score(0) - score(3), abs=1e-2)

    def alone(place: int) -> float:
        own = gallery[place]
        rates = np.abs(view.light @ own.conj())[:, None] ** 2 * np.abs(own) ** 2
        rates = (1.0 - MEAN_SHARE) * (rates + reading.spike * np.abs(own) ** 2)
        told = np.log(rates + (MEAN_SHARE + 2.0) * view.mean)[seen.rows, seen.columns].sum()
        return float(told - np.sum(np.abs(view.light @ own.conj()) ** 2))

    single = seen.alone()
    assert single[0] - single[3] == pytest.approx(alone(0) - alone(3), abs=1e-2)
    # As many photons as kicks and means give: 5 standard deviations of thermal light, seed 0.
    many = [len(view.observe(np.random.default_rng(seed), modes).columns) for seed in range(20)]
    expected = 3 * ROWS * reading.spike + np.sum(np.abs(view.light @ modes.conj().T) ** 2)
    assert np.mean(many) == pytest.approx(expected, rel=0.15)


def test_rows_have_the_law_of_what_the_mode_link_returns() -> None:
    rows, count = 40_000, 2
    gallery = gallery_of(1)
    settings = SessionSettings(
        light=Light(4.0, PLAIN),
        channel=Channel(technical_noise=0.1, mismatch=MISMATCH),
        receiver=CloneReceiver(3.0, 1.0, IDEAL_HOMODYNE),
        verifier=IDEAL_HOMODYNE,
        assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=3,
        hiding=Hiding(count - 1),
    )
    one = 3.0 * circular(2, 1, MODES)
    light = LayerLight(0, np.tile(one.view(np.float32), (rows, 1)), None, count)
    modes = orthonormal(gallery[:count]).astype(np.complex64)
    (returned,) = [
        each.measured - each.cosine * light.x - each.sine * light.p
        for each in ModeLink(settings).exchange(light, modes.view(np.float32)[None]).returned
    ]
    reading = Reading(gain=3.0, rows=rows, technical_noise=0.1, mismatch=MISMATCH)
    view = span_view(gallery, reading, arriving(light, 1.0), MODES, count)
    assert isinstance(view, QuadratureView)
    drawn, phases = view.rows(np.random.default_rng(0), modes)
    # The link's readings in units of the white noise, in the view's basis, for both quadratures.
    again = ModeLink(settings).exchange(light, modes.view(np.float32)[None])
    (cosine,) = [each.cosine[:, 0].copy() for each in again.returned]
    seen = returned / np.sqrt(1.1) @ view.basis.real
    for linked, own in ((cosine == 1.0, phases == 1.0), (cosine == 0.0, phases == -1j)):
        first, second = seen[linked], drawn[own]
        error = np.sqrt(first.var(axis=0) / len(first) + second.var(axis=0) / len(second))
        assert (np.abs(first.mean(axis=0) - second.mean(axis=0)) < 5.0 * error).all()
        wanted = np.cov(second.T)
        scatter = np.sqrt(4.0 * np.outer(np.diag(wanted), np.diag(wanted)) / len(second))
        assert (np.abs(np.cov(first.T) - wanted) < 5.0 * scatter).all()


@pytest.fixture(scope="module")
def pictures() -> LabelledImages:
    found = load_test_images()
    return LabelledImages(found.images[:5000], found.labels[:5000])


@pytest.mark.parametrize("receiver", list(Detection))
def test_a_reader_of_all_directions_comes_to_the_cap_and_not_above(
    pictures: LabelledImages, receiver: Detection
) -> None:
    # J = 1, a gain error of 1 %: without decoys homodyne names 72 %. 50 images, seed 0.
    images, labels = pictures.images[:50], pictures.labels[:50]
    decoys = Decoys(
        LabelledImages(pictures.images[50:], pictures.labels[50:]), 1, decoy_key_of_seed(0)
    )
    held = LabelledImages(
        np.concatenate([images, decoys.store.images[::8]]),
        np.concatenate([labels, decoys.store.labels[::8]]),
    )
    light = Server(load_network("noise-aware"), 8.91).light(0)
    reading = Reading(gain=1.0128, rows=light.rows, receiver=receiver, mismatch=CloneMismatch(0.01))
    reader = SetReader(held, decoys, reading, light=arriving(light, 1.0), dimensions=24)
    share = set_success(reader, images, labels, 0).label_success
    assert share is not None
    error = np.sqrt(decoys.cap * (1.0 - decoys.cap) / 50)
    assert decoys.cap - 4.0 * error < share < decoys.cap + 4.0 * error


def test_what_cannot_be_read_is_refused(pictures: LabelledImages) -> None:
    gallery = gallery_of(1)
    reading = Reading(gain=2.0, rows=ROWS)
    with pytest.raises(SettingError, match="block_modes"):
        span_view(gallery, replace(reading, block_modes=2), None, MODES, 2)
    counting = replace(reading, receiver=Detection.COUNTING, background_photons=0.1)
    with pytest.raises(SettingError, match="background"):
        span_view(gallery, counting, None, MODES, 2)
    for wrong in ({"per_class": 0}, {"chains": 0}, {"sweeps": 2, "unused": 2}):
        with pytest.raises(SettingError):
            Search(**wrong)
    decoys = Decoys(pictures, 3, decoy_key_of_seed(0))
    few = LabelledImages(pictures.images[:1], pictures.labels[:1])
    with pytest.raises(DatasetError, match="guessed classes"):
        SetReader(few, decoys, reading)
    with pytest.raises(DatasetError, match="pixels"):
        SetReader(LabelledImages(few.images[:, :10], few.labels), decoys, reading)
