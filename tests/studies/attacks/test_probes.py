"""Probes against a mismatched clone show the image; a matched clone or dim light does not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sessions import ideal_session

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.client import directions_of
from labctl.protocols.disguise import PLAIN
from labctl.protocols.encoding import modes_of, unit_norm
from labctl.protocols.link import LayerLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne, TapReceiver
from labctl.protocols.rotation import Rotation
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.studies.attacks.attack import Attacker, carry_out
from labctl.studies.attacks.probes import (
    BrightProbes,
    ProbedLink,
    ProbeShape,
)

Floats = NDArray[np.float32]

SETTINGS = ideal_session(7.5, 1.3, seed=1)
LOSSY = replace(
    SETTINGS,
    receiver=CloneReceiver(1.8, 1.3, Homodyne(0.8, 0.1)),
    verifier=Homodyne(0.9, 0.2),
    channel=replace(SETTINGS.channel, loss_db=1.0, technical_noise=0.2),
)


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    images = load_test_images()
    return LabelledImages(images.images[:12], images.labels[:12])


def network(rows: int = 784) -> Network:
    weights = np.random.default_rng(1).normal(size=(rows, 784)).astype(np.float32)
    return Network((weights, np.ones((10, rows), np.float32)), "random", {})


def seen(
    link: ModeLink | ProbedLink, modes: int, block_modes: int | None, photons: float = 0.0
) -> tuple[Floats, Floats, NDArray[np.complex64]]:
    """Return joint samples (rows, blocks + modes) of many rows, the share on X, and c."""
    rows, images = 500, 160
    image = np.random.default_rng(2).random((1, 2 * modes)).astype(np.float32)
    c = directions_of(image, block_modes)
    light = LayerLight(0, np.full((rows, 2 * modes), np.sqrt(2 * photons), np.float32), block_modes)
    coefficients = np.ascontiguousarray(np.repeat(c, images, axis=0)).view(np.float32)
    exchange = link.exchange(light, coefficients)
    read, on_x = [], []
    for one in exchange.returned:
        read.append(one.measured.copy())
        on_x.append(one.cosine.ravel().copy())
    own = exchange.measured.reshape(images * rows, -1)
    return np.concatenate([own, np.concatenate(read)], axis=1), np.concatenate(on_x), c[0]


@pytest.mark.parametrize("block_modes", [None, 2])
@pytest.mark.parametrize("settings", [SETTINGS, LOSSY])
def test_without_mismatch_and_squeezing_it_is_the_honest_link(
    settings: SessionSettings, block_modes: int | None
) -> None:
    """Joint covariance of values and returned light, 80,000 rows each, six standard errors."""
    settings = replace(settings, channel=replace(settings.channel, block_modes=block_modes))
    found = []
    for link in (ModeLink(settings), ProbedLink(settings)):
        samples, on_x, _ = seen(link, 4, block_modes, 3.0)
        parts = [samples[on_x == side] for side in (0.0, 1.0)]
        found.append([(one.mean(axis=0), np.cov(one.T), len(one)) for one in parts])
    for one, other in zip(*found, strict=True):
        power = np.sqrt(np.outer(one[1].diagonal(), one[1].diagonal()))
        assert np.all(np.abs(one[0] - other[0]) < 6 * np.sqrt(2 * one[1].diagonal() / one[2]))
        assert np.all(np.abs(one[1] - other[1]) < 6 * np.sqrt(2.0) * power * np.sqrt(2 / one[2]))


@pytest.mark.parametrize("gain_error", [-0.2, 0.05])
def test_a_mismatch_shows_as_a_mean_along_c_and_as_noise_in_closed_form(gain_error: float) -> None:
    """Flat light of 3 photons per mode, 80,000 rows, five standard errors."""
    samples, on_x, c = seen(ProbedLink(SETTINGS, gain_error=gain_error), 4, None, 3.0)
    probe = np.sqrt(6.0) * np.full(4, 1 + 1j)
    mean = probe + gain_error * np.vdot(c, probe) * c
    gain, back = 1.3, (1 + gain_error) ** 2 / 1.3
    # Mode b returns with the amplifier's noise and the splitter's vacuum, the others as they came.
    noise = back * (2 * gain - 1) + 1 - back
    covariance = np.eye(4) + (noise - 1) * np.outer(c, c.conj()).real
    for side, expected in ((1.0, mean.real), (0.0, mean.imag)):
        read = samples[on_x == side, 1:]
        error = np.sqrt(covariance.diagonal() / len(read))
        assert np.all(np.abs(read.mean(axis=0) - expected) < 5 * error)
        power = np.sqrt(np.outer(covariance.diagonal(), covariance.diagonal()) * 2 / len(read))
        assert np.all(np.abs(np.cov(read.T) - covariance) < 5 * power)


def flat_probe_correlation(
    images: Floats, *, photons: float, gain_error: float, rows: int, kept: float, white: float
) -> Floats:
    """Return the expected Pearson correlation (B,) of a flat probe's estimates with images (B, N).

    kept: transmittance of the round trip and the detector. white: variance of a reading over that
    of vacuum. Signal over noise of one coefficient is delta^2 mu M T/v; deviations from the image's
    mean have the share 1 - (sum of x)^2/N of it. The noise of the clone itself is left out.
    """
    power = gain_error**2 * photons * rows * kept / white
    unit = unit_norm(images).astype(np.float64)
    along = np.abs(directions_of(images, None).sum(axis=1)) ** 2 / modes_of(images.shape[1])
    rest = np.maximum(1.0 - unit.sum(axis=1) ** 2 / unit.shape[1], 0.0)
    ratio = power * along * rest
    return np.asarray(np.sqrt(ratio / (1.0 + ratio)), np.float32)


@pytest.mark.parametrize("settings", [SETTINGS, LOSSY])
def test_a_flat_probe_learns_what_the_closed_form_says(
    settings: SessionSettings, digits: LabelledImages
) -> None:
    """Twelve images, 784 rows: the correlation to 0.03."""
    attack = BrightProbes(brightness=4.0, gain_error=0.02)
    learned = carry_out(attack, network(), settings, digits).learned
    verifier = settings.verifier
    expected = flat_probe_correlation(
        digits.images,
        photons=4.0 * settings.light.mean_photons,
        gain_error=0.02,
        rows=784,
        kept=settings.transmittance * verifier.efficiency,
        white=1.0
        + verifier.electronic_noise
        + verifier.efficiency * settings.channel.technical_noise,
    )
    assert learned.data_correlation == pytest.approx(float(expected.mean()), abs=0.03)
    assert learned.samples == 12 * 784
    assert learned.data_bits_per_symbol is not None


def test_brighter_light_and_larger_mismatch_learn_more_a_matched_clone_shows_nothing(
    digits: LabelledImages,
) -> None:
    few = LabelledImages(digits.images[:6], digits.labels[:6])

    def learned(brightness: float, gain_error: float) -> float:
        attack = BrightProbes(brightness, gain_error)
        found = carry_out(attack, network(), SETTINGS, few).learned.data_correlation
        assert found is not None
        return found

    matched, dim, bright, mismatched = (
        learned(*of) for of in ((100.0, 0.0), (1.0, 0.01), (30.0, 0.01), (1.0, -0.05))
    )
    # Noise alone correlates by 1/sqrt(784) per image.
    assert abs(matched) < 5 / math.sqrt(6 * 784)
    assert matched < dim < bright
    assert mismatched > dim + 0.1
    assert bright > 0.7


def test_other_shapes_need_more_light(digits: LabelledImages) -> None:
    few = LabelledImages(digits.images[:1], digits.labels[:1])
    learned = {}
    for shape in ProbeShape:
        for brightness in (1.0, 1000.0):
            attack = BrightProbes(brightness, 0.05, shape)
            outcome = carry_out(attack, network(), SETTINGS, few)
            learned[shape, brightness] = outcome.learned.data_correlation or 0.0
    for shape in (ProbeShape.ONE_HOT, ProbeShape.WEIGHTS):
        assert learned[shape, 1.0] < learned[ProbeShape.FLAT, 1.0] - 0.2
        assert learned[shape, 1000.0] > 0.8


def test_the_attack_says_who_it_is() -> None:
    attack = BrightProbes(3.0, 0.01)
    assert (attack.name, attack.party, attack.strength) == ("bright-probes", Attacker.SERVER, 3.0)
    assert attack.mark(network(10), SETTINGS) is None


@pytest.mark.parametrize("brightness", [0.0, -1.0, math.nan, 1e10])
def test_brightness_is_a_number_of_photons(brightness: float) -> None:
    with pytest.raises(SettingError, match="brightness"):
        BrightProbes(brightness, 0.0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sampling": Sampling.MEASURED}, "sampling"),
        ({"channel": Channel(block_modes=10)}, "block_modes"),
        ({"light": Light(1e9, PLAIN)}, "photons per mode"),
        ({"receiver": TapReceiver.of_gain(2.0, IDEAL_HOMODYNE)}, "receiver"),
        ({"channel": Channel(rotation=Rotation(0.0, 0.1))}, "rotation"),
    ],
)
def test_settings_that_it_cannot_stand_in_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        BrightProbes(10.0, 0.01).mount(network(10), replace(SETTINGS, **change))


@pytest.mark.parametrize("gain_error", [-1.1, 0.2, math.nan])
def test_a_clone_cannot_return_more_than_it_amplifies(gain_error: float) -> None:
    with pytest.raises(SettingError, match="gain_error"):
        ProbedLink(SETTINGS, gain_error=gain_error)


def test_impossible_figures_are_refused() -> None:
    with pytest.raises(SettingError, match="variance of squeezed light"):
        ProbedLink(SETTINGS, sent_variance=0.0)
