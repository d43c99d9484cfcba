"""Kick and mismatch in one number, which the shipped curve turns into a share of labels read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sessions import ideal_session

from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import load_network
from labctl.protocols.client import directions_of
from labctl.protocols.labels.curve import repeats_within
from labctl.protocols.labels.figures import (
    TYPICAL_MISMATCH,
    in_words,
    label_figures,
    mode_overlap,
    supported_mismatches,
)
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.server import Server
from labctl.studies.attacks.label_joint import unit_of
from labctl.studies.attacks.label_reading import arriving, label_success

NETWORK = load_network("noise-aware")
SETTINGS = ideal_session(8.91, 1.0128, seed=1)


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    return load_test_images()


@pytest.mark.parametrize("receiver", list(Detection))
def test_the_nats_of_a_mismatch_are_half_the_square_of_the_mean(
    receiver: Detection, digits: LabelledImages
) -> None:
    """Summed over rows, averaged over 200 images; delta^2 mu Q M/2 without loss and noise."""
    reading = Reading(
        gain=1.02,
        rows=784,
        repeats=3,
        transmittance=0.7,
        technical_noise=0.0 if receiver is Detection.COUNTING else 0.2,
        receiver=receiver,
        mismatch=CloneMismatch(-0.003, 0.002),
        mode_photons=0.5 * 5.0 * mode_overlap(NETWORK, digits.images[:200]),
    )
    rows = arriving(Server(NETWORK, 5.0).light(0), 1.0)
    along = np.abs(directions_of(digits.images[:200], None).conj() @ rows.T) ** 2
    shown = abs(reading.mismatch.kappa) ** 2 * unit_of(reading) ** 2 * 3 * along.sum(axis=1).mean()
    # Homodyne sees half of the mean's square, and half of that is nats; of |z - q|^2 all is nats.
    nats = shown * (0.25 if receiver is Detection.HOMODYNE else 1.0)
    assert reading.mismatch_nats == pytest.approx(nats, rel=1e-3)
    plain = replace(reading, transmittance=1.0, technical_noise=0.0, repeats=1)
    photons = abs(reading.mismatch.kappa) ** 2 * 784 * reading.mode_photons
    assert plain.mismatch_nats == pytest.approx(photons)


@pytest.mark.parametrize("receiver", [Detection.HOMODYNE, Detection.HETERODYNE])
def test_a_mismatch_reads_what_a_kick_of_the_same_evidence_reads(
    receiver: Detection, digits: LabelledImages
) -> None:
    """300 images, 2,000 public ones, seed 1: within three standard errors of the difference."""
    base = Reading(
        gain=1.0005,
        rows=784,
        receiver=receiver,
        mismatch=CloneMismatch(-0.009),
        mode_photons=0.5 * 8.91 * mode_overlap(NETWORK, digits.images[:300]),
    )
    kick = Reading(gain=1.02, rows=1, receiver=receiver)
    rows = round(base.evidence / kick.evidence)
    shares = []
    for mismatch, gain, count in ((base.mismatch, 1.0005, 784), (CloneMismatch(), 1.02, rows)):
        found = label_success(
            digits.images[:300],
            digits.labels[:300],
            digits.images[1000:3000],
            digits.labels[1000:3000],
            gain=gain,
            rows=count,
            receiver=receiver,
            mismatch=mismatch,
            light=arriving(Server(NETWORK, 8.91).light(0), 1.0),
            dimensions=24,
            seed=1,
        )
        assert found.label_success is not None
        shares.append(found.label_success)
    assert min(shares) > 0.4
    assert shares[0] == pytest.approx(shares[1], abs=3 * 0.029 * np.sqrt(2.0))


def test_what_a_mismatch_alone_shows_is_read_as_a_power_of_its_nats(digits: LabelledImages) -> None:
    """p = 0.10 + 0.13 E^0.56 within 2.5 points, and sampling: 4 times 400 images, seed 1.

    Hardly a kick. A point alone within three of its standard errors besides, 2.5 points at most,
    the mean of all four within three of its errors, 1 point.
    """
    overlap, rows, off = mode_overlap(NETWORK, digits.images), 784, []
    light = arriving(Server(NETWORK, 8.91).light(0), 1.0)
    for place, nats in enumerate((0.1, 1.0, 4.0, 12.0)):
        part = slice(400 * place, 400 * (place + 1))
        reading = Reading(
            gain=1.0002,
            rows=rows,
            mismatch=CloneMismatch(-np.sqrt(2.0 * nats / (8.91 * overlap * rows))),
            mode_photons=0.5 * 8.91 * overlap,
        )
        assert reading.mismatch_nats == pytest.approx(nats)
        assert reading.kick_evidence < 2e-3 * nats
        found = label_success(
            digits.images[part],
            digits.labels[part],
            digits.images[2000:5000],
            digits.labels[2000:5000],
            gain=reading.gain,
            rows=rows,
            mismatch=reading.mismatch,
            light=light,
            dimensions=24,
            seed=1,
        )
        assert found.label_success is not None
        expected = 0.10 + 0.13 * nats**0.56
        error = np.sqrt(expected * (1.0 - expected) / 400)
        off.append(found.label_success - expected)
        assert abs(off[-1]) < 0.025 + 3.0 * error, (nats, off)
    assert abs(np.mean(off)) < 0.025 + 3.0 * 0.01, off


def test_the_nats_of_a_kick_lie_between_those_of_a_circular_and_of_a_real_direction(
    digits: LabelledImages,
) -> None:
    """Relative entropy of a homodyned row to vacuum, from its whole covariance: g^2/8 to g^2/4.

    It is g^2 (1 + |c^T c|^2)/8 for weak kicks; images lie between, at 0.206 g^2 in the mean. What
    the curve counts, g^2/(1 + g), is four times that of a real direction.
    """
    gain, count = 1.005, 30
    reading = Reading(gain=gain, rows=784)
    g = reading.spike
    assert g == pytest.approx(2.0 - 2.0 / gain)
    images = directions_of(digits.images[:count], None)
    random = np.random.default_rng(1)
    phases = np.exp(2j * np.pi * random.random(images.shape))
    real, circular = np.abs(images[:1]), images[:1] * phases[:1]
    # Exactly circular: orthogonal real and imaginary parts of the same length.
    flat = np.zeros_like(images[:1])
    flat[0, :2] = np.array([1.0, 1j]) / np.sqrt(2.0)

    def nats(c: NDArray[np.complexfloating]) -> float:
        covariance = np.eye(len(c)) + g * np.outer(c, c.conj()).real
        return float(0.5 * (np.trace(covariance) - len(c) - np.linalg.slogdet(covariance)[1]))

    assert nats(real[0]) / g**2 == pytest.approx(1 / 4, rel=2.0 * g)
    assert nats(flat[0]) / g**2 == pytest.approx(1 / 8, rel=2.0 * g)
    assert nats(circular[0]) / g**2 == pytest.approx(1 / 8, rel=0.1)
    shares = np.array([nats(c) for c in images]) / g**2
    square = np.abs(np.sum(images**2, axis=1)) ** 2
    assert shares == pytest.approx((1.0 + square) / 8.0, rel=2.0 * g)
    assert shares.min() * (1 + 2 * g) > 1 / 8
    assert shares.max() < 1 / 4
    assert shares.mean() == pytest.approx(0.206, abs=0.006)
    assert reading.kick_evidence == pytest.approx(4.0 * 784 * nats(real[0]), rel=2.0 * g)


def test_figures_name_their_mismatch_and_stand_side_by_side(digits: LabelledImages) -> None:
    images = digits.images[:200]
    figures = {each.receiver: each for each in label_figures(NETWORK, images, SETTINGS)}
    assert set(figures) == set(Detection)
    assert all(each.mismatch == TYPICAL_MISMATCH for each in figures.values())
    homodyne, counting = figures[Detection.HOMODYNE], figures[Detection.COUNTING]
    assert 0.15 < homodyne.success < 0.25
    assert counting.success > 0.65
    matched = label_figures(NETWORK, images, SETTINGS, CloneMismatch())
    assert matched[1].receiver is Detection.HOMODYNE
    assert matched[1].success < homodyne.success - 0.02
    assert homodyne.as_json()["gain_error"] == 0.002
    assert "0.2 %" in in_words(TYPICAL_MISMATCH)
    assert "no real clone" in in_words(CloneMismatch())


def test_beyond_the_last_point_of_the_curve_a_figure_says_at_least(digits: LabelledImages) -> None:
    strong = replace(SETTINGS, receiver=CloneReceiver(4.0, 1.0, IDEAL_HOMODYNE))
    assert all(each.at_least for each in label_figures(NETWORK, digits.images[:50], strong))
    weak = label_figures(NETWORK, digits.images[:50], SETTINGS)
    assert not any(each.at_least for each in weak)


def test_no_figure_where_none_was_measured(digits: LabelledImages) -> None:
    blocks = replace(SETTINGS, channel=replace(SETTINGS.channel, block_modes=98))
    assert label_figures(NETWORK, digits.images[:10], blocks) == ()


def test_a_pruned_network_shows_its_own_rows_and_the_pixels_that_are_fed(
    digits: LabelledImages,
) -> None:
    """200 rows of 458 pixels. Measured at mu = 2.28, G = 1.3, delta = 0: 47.7 % by homodyne.

    `labctl label-attack --model pruned`, 2,000 images, 20,000 templates, 32 components.
    """
    network, images = load_network("pruned"), digits.images[:100]
    bright = replace(
        SETTINGS,
        light=replace(SETTINGS.light, mean_photons=2.28),
        receiver=CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE),
    )
    found = {one.receiver: one for one in label_figures(network, images, bright, CloneMismatch())}
    assert found[Detection.HOMODYNE].success == pytest.approx(0.477, abs=0.06)
    assert 5.0 < mode_overlap(network, images) < 100.0


def test_rows_of_a_trained_network_lie_along_images(digits: LabelledImages) -> None:
    assert mode_overlap(NETWORK, digits.images[:500]) == pytest.approx(42.0, abs=2.0)
    random = np.random.default_rng(1).normal(size=(784, 784)).astype(np.float32)
    blind = replace(NETWORK, layers=(random, *NETWORK.layers[1:]))
    assert mode_overlap(blind, digits.images[:100]) == pytest.approx(2.0, abs=0.2)


def test_a_calibration_supports_both_ends_of_its_interval() -> None:
    known = {
        Name("client.clone_gain_error"): Quantity(-0.001, 0.0005, "1"),
        Name("client.clone_phase_rad"): Quantity(0.002, 0.001, "rad"),
    }
    low, high = supported_mismatches(known)
    assert low.gain_error == pytest.approx(-0.001 - 1.96 * 0.0005, rel=1e-3)
    assert high.gain_error == pytest.approx(-0.001 + 1.96 * 0.0005, rel=1e-3)
    assert low.phase_rad == high.phase_rad == pytest.approx(0.002 + 1.96 * 0.001, rel=1e-3)
    assert supported_mismatches({}) == ()


def test_of_two_mismatches_each_receiver_gets_the_one_it_reads_more_by(
    digits: LabelledImages,
) -> None:
    """A net gain above 1 tells more than a loss of the same size."""
    images, below, above = digits.images[:20], CloneMismatch(-0.005), CloneMismatch(0.005)
    both = label_figures(NETWORK, images, SETTINGS, below, above)
    for one, low, high in zip(
        both,
        label_figures(NETWORK, images, SETTINGS, below),
        label_figures(NETWORK, images, SETTINGS, above),
        strict=True,
    ):
        assert one.success == high.success > low.success
        assert one.mismatch == above


@given(
    low=st.floats(-0.05, 0.05),
    high=st.floats(-0.05, 0.05),
    share=st.floats(0.0, 1.0),
    gain=st.floats(1.001, 3.0),
    kind=st.sampled_from(Detection),
)
def test_within_an_interval_no_mismatch_tells_more_than_both_ends(
    low: float, high: float, share: float, gain: float, kind: Detection
) -> None:
    def evidence(gain_error: float) -> float:
        mismatch = CloneMismatch(gain_error, 0.002)
        return Reading(gain, 784, receiver=kind, mismatch=mismatch, mode_photons=187.0).evidence

    within = evidence(low + share * (high - low))
    assert within <= max(evidence(low), evidence(high)) * (1.0 + 1e-9)


def test_a_mismatch_takes_repeats_away() -> None:
    once = repeats_within(0.15, 1.0048, 784)
    off = repeats_within(0.15, 1.0048, 784, mismatch=CloneMismatch(0.001), mode_photons=441.0)
    assert off < once
