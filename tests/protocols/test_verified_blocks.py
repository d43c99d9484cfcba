"""What returns of rows sent in blocks: what the server verifies, what it learns, and what leaks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from block_rows import IDEAL, LOSSY, TAPPED, Floats, Values
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sessions import images_of, network

from labctl.protocols.client import Client
from labctl.protocols.encoding import Blocks
from labctl.protocols.leakage import Assumptions, LayerShape, Trust, data_bits_journal, leakage_of
from labctl.protocols.link import LayerLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import (
    IDEAL_HOMODYNE,
    CloneReceiver,
)
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings

NETWORK = network(41, 30, 10)
IMAGES = images_of(100, 41)
SAMPLES_READ = 100 * (30 * 21 + 10 * 15)


def played(agreed: SessionSettings, done: SessionSettings | None = None) -> Session:
    session = Session(NETWORK, agreed, ModeLink(done or agreed))
    for _ in session.run(IMAGES):
        pass
    return session


@pytest.mark.parametrize("block_modes", [1, 4, 7, 21])
@pytest.mark.parametrize("settings", [IDEAL, LOSSY, TAPPED], ids=["ideal", "lossy", "tapped"])
def test_honest_blocks_show_what_they_should(settings: SessionSettings, block_modes: int) -> None:
    """78,000 modes; T and noise within four standard errors, the noise re-derived per block."""
    settings = replace(
        settings,
        channel=replace(
            settings.channel,
            block_modes=block_modes,
            rotation=Rotation(settings.channel.rotation.loss_db_per_mode / 8),
        ),
    )
    session = played(settings)
    report = session.verdict(figures=False)
    assert report.accepted is True, report.reason
    assert report.samples == SAMPLES_READ
    noisy, shares, legs = 0.0, [], []
    for rows, modes in ((30, 21), (10, 15)):
        size = min(block_modes, modes)
        elements_db = size * settings.channel.rotation.loss_db_per_mode
        leg = 10.0 ** (-(settings.channel.loss_db / 2.0 + elements_db) / 10.0)
        noisy += rows * math.ceil(modes / size) * leg * settings.receiver.returned_noise
        shares.append(rows * modes / 780)
        legs.append(leg)
    slope = float(np.average(legs, weights=shares))
    # Layers that are lost differently miss the one slope that is fitted: 2 mu of power per reading.
    missed = 8.0 * float(np.average((np.array(legs) - slope) ** 2, weights=shares))
    expected = noisy / 780 + settings.channel.technical_noise + missed
    assert report.excess_noise_expected == pytest.approx(expected, rel=1e-3)
    assert report.excess_noise_standard_error is not None
    assert report.excess_noise == pytest.approx(
        expected, abs=4 * report.excess_noise_standard_error
    )
    assert report.transmittance == pytest.approx(slope**2, rel=0.02)


@pytest.mark.parametrize("block_modes", [1, 4, 7, 21])
def test_over_gain_is_caught_at_every_block_size(block_modes: int) -> None:
    agreed = replace(
        IDEAL,
        channel=replace(IDEAL.channel, block_modes=block_modes),
        receiver=CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE),
    )
    greedy = replace(agreed, receiver=CloneReceiver(8.0, 1.0, IDEAL_HOMODYNE))
    assert played(agreed).verdict(figures=False).accepted is True
    report = played(agreed, greedy).verdict(figures=False)
    assert report.accepted is False
    assert "excess noise" in report.reason


def test_smaller_blocks_than_agreed_are_caught() -> None:
    """Cloning every mode of what was to be a whole row: g per mode instead of g/n."""
    agreed = replace(IDEAL, channel=replace(IDEAL.channel, block_modes=None))
    session = Session(network(40, 30), agreed, ModeLink(agreed))
    light = session.server.light(0)
    session.calibrate()
    cheat = ModeLink(replace(agreed, channel=replace(agreed.channel, block_modes=2)))
    coefficients = Client((40, 30), images_of(50, 40), 2).coefficients()
    for returned in cheat.exchange(replace(light, block_modes=2), coefficients).returned:
        session.server.check(0, returned)
    report = session.verdict(figures=False)
    assert report.accepted is False
    assert "excess noise" in report.reason


def test_a_rotation_that_loses_more_than_agreed_is_caught() -> None:
    agreed = replace(
        LOSSY, channel=replace(LOSSY.channel, rotation=Rotation(0.02), technical_noise=0.0)
    )
    report = played(
        agreed, replace(agreed, channel=replace(agreed.channel, rotation=Rotation(0.15)))
    ).verdict(figures=False)
    assert report.accepted is False
    assert "transmittance" in report.reason


def test_a_verdict_s_bound_counts_the_rotation_s_loss_as_the_client_s() -> None:
    trusted = Assumptions(Trust.TRUSTED, Trust.TRUSTED)
    inside = replace(
        IDEAL,
        assumptions=trusted,
        channel=replace(IDEAL.channel, rotation=Rotation(0.05), block_modes=4),
    )
    outside = replace(
        IDEAL, assumptions=trusted, channel=replace(IDEAL.channel, loss_db=0.4, block_modes=4)
    )
    ours, theirs = played(inside).verdict(), played(outside).verdict()
    assert ours.transmittance == pytest.approx(theirs.transmittance, rel=0.02)
    assert ours.weights_bits_prior_free_upper is not None
    assert theirs.weights_bits_prior_free_upper is not None
    assert ours.weights_bits_prior_free_upper > theirs.weights_bits_prior_free_upper
    assert ours.weights_bits_honest_upper is not None
    assert theirs.weights_bits_honest_upper is not None
    assert ours.weights_bits_honest_upper > 1.05 * theirs.weights_bits_honest_upper


def leaked(
    shape: LayerShape,
    assumptions: Assumptions = IDEAL.assumptions,
    rotation: Rotation = IDEAL_ROTATION,
    loss_db: float = 0.0,
) -> tuple[float, float, float]:
    """Bits per real weight, per data symbol (journal), and the same per input."""
    found = leakage_of(
        (shape,),
        mean_photons=4.0,
        gain=2.0,
        transmittance=10.0 ** (-loss_db / 10.0),
        technical_noise=0.0,
        assumptions=assumptions,
        emission_factor=1.0,
        rotation=rotation,
    )
    return found.weights_bits_per_real, found.data_bits_journal, found.data_bits_journal_per_input


def test_blocks_leak_like_rows_of_their_size() -> None:
    """Even blocks of 56: the weights of rows of 56 modes, and their data per symbol."""
    blocks = leaked(LayerShape(784, 392, 784, 56))
    rows = leaked(LayerShape(784, 56, 112))
    assert blocks[:2] == rows[:2]
    assert blocks[2] == pytest.approx(7 * rows[2], rel=1e-12)


def test_a_short_last_block_counts_as_what_it_is() -> None:
    shape = LayerShape(784, 392, 783, 100)
    assert shape.inputs_by_block_size == {100: 600, 92: 183}
    weights, symbol, total = leaked(shape)
    assert symbol == data_bits_journal(2.0, 392, 784, block_modes=92)
    full = data_bits_journal(2.0, 392, 784, block_modes=100)
    assert total == pytest.approx(600 * full + 183 * symbol, rel=1e-12)
    assert weights == pytest.approx(leaked(LayerShape(784, 98, 196))[0], rel=1e-9)


@hypothesis_settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400))
def test_mean_noise_over_the_blocks_leaks_no_less_than_they_do(
    modes: int, block_modes: int
) -> None:
    blocks = Blocks.of(modes, block_modes)
    each = [size * leaked(LayerShape(10, size, 2 * size))[0] for size in set(blocks.sizes)]
    counts = [blocks.sizes.count(size) for size in set(blocks.sizes)]
    mean = sum(bits * count for bits, count in zip(each, counts, strict=True)) / modes
    assert leaked(LayerShape(10, modes, 2 * modes, block_modes))[0] >= mean * (1.0 - 1e-9)


def test_loss_in_the_rotation_is_the_client_s_however_much_is_trusted() -> None:
    """1 dB each way inside the client's receiver, against 2 dB on the link."""
    shape, trusted = LayerShape(784, 392, 784, 10), Assumptions(Trust.TRUSTED, Trust.TRUSTED)
    inside = leaked(shape, trusted, Rotation(0.1))[0]
    assert inside == pytest.approx(leaked(shape, IDEAL.assumptions, Rotation(0.1))[0], rel=1e-9)
    assert inside == pytest.approx(leaked(shape, IDEAL.assumptions, loss_db=2.0)[0], rel=1e-9)
    assert inside > 1.5 * leaked(shape, trusted, loss_db=2.0)[0]


def noise_of_returned_rows(directions: Floats, rows: int, gain: float) -> Values:
    """What the server reads of dark rows, in any quadrature."""
    settings = replace(
        IDEAL,
        receiver=CloneReceiver(gain, 1.0, IDEAL_HOMODYNE),
        channel=replace(IDEAL.channel, block_modes=8),
    )
    light = LayerLight(0, np.zeros((rows, directions.shape[1]), np.float32), 8)
    exchange = ModeLink(settings).exchange(light, directions)
    return np.stack([item.measured.copy() for item in exchange.returned]).astype(np.float64)


def test_the_server_learns_a_block_s_direction_as_well_as_the_journal_formula_says() -> None:
    """Principal component of each block over M = 2000 rows, 100 images of 2 blocks of 8 modes.

    Real directions; error per coefficient across the direction (1 + g)/(M g^2): 1400 components
    leave 4 % of it, the large-M formula another 4 %.
    """
    random, rows, added = np.random.default_rng(2), 2000, 1.0
    blocks = random.normal(size=(100, 2, 8))
    blocks /= np.linalg.norm(blocks, axis=2, keepdims=True)
    directions = np.zeros((100, 32), np.float32)
    directions[:, 0::2] = blocks.reshape(100, 16)
    read = noise_of_returned_rows(directions, rows, 2.0).reshape(100, rows, 2, 8)
    covariance = np.einsum("irbj,irbk->ibjk", read, read) / rows
    found = np.linalg.eigh(covariance)[1][..., -1]
    found *= np.sign(np.einsum("ibk,ibk->ib", found, blocks))[..., None]
    across = found - np.einsum("ibk,ibk->ib", found, blocks)[..., None] * blocks
    error = float(np.sum(across**2)) / (100 * 2 * 7)
    assert error == pytest.approx((1.0 + added) / (rows * added**2), rel=0.12)
    signal = 1.0 / 8.0 / ((1.0 + added) / (rows * added**2))
    assert data_bits_journal(2.0, 16, rows, block_modes=8) == pytest.approx(
        0.5 * math.log2(1.0 + signal), rel=1e-12
    )


def test_the_server_sees_directions_of_blocks_and_nothing_of_their_lengths() -> None:
    """Two inputs that differ in the lengths of their blocks alone return the same light."""
    one = images_of(1, 32)
    other = one.copy()
    other[:, :16] *= np.float32(0.25)
    seen = [
        noise_of_returned_rows(Client((32, 3), images, 8).coefficients(), 40, 2.0)
        for images in (one, other)
    ]
    assert np.allclose(seen[0], seen[1], atol=1e-5)
    whole = [Client((32, 3), images).coefficients() for images in (one, other)]
    assert not np.allclose(whole[0], whole[1], atol=0.01)


def test_blocks_of_one_mode_return_the_same_noise_whatever_the_data() -> None:
    """g on each mode, the same on X and P: four standard errors of 4e5 readings, dark or not."""
    images = images_of(1, 20)
    images[0, 10:] = 0.0
    coefficients = Client((20, 3), images, 1).coefficients()
    light = LayerLight(0, np.zeros((40_000, 20), np.float32), 1)
    exchange = ModeLink(replace(IDEAL, channel=replace(IDEAL.channel, block_modes=1))).exchange(
        light, coefficients
    )
    (read,) = [item.measured.copy() for item in exchange.returned]
    tolerance = 4.0 * math.sqrt(2.0 / 40_000)
    assert read.var(axis=0) == pytest.approx(np.full(10, 2.0), rel=tolerance)
    assert np.abs(np.corrcoef(read.T) - np.eye(10)).max() < 5.0 / math.sqrt(40_000)
