"""Rows sent in blocks: the same products and noise at the client, more noise per mode behind it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from block_rows import IDEAL, LOSSY, TAPPED, Floats, Values
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sessions import images_of, network

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.client import Client
from labctl.protocols.encoding import Blocks
from labctl.protocols.link import LayerLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import (
    CloneReceiver,
    Receiver,
)
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation, made
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings

Field = NDArray[np.complex128]

SAMPLES = 200_000

WRONG = replace(
    LOSSY,
    channel=replace(
        LOSSY.channel, rotation=Rotation(0.4, coupler_error_rad=0.2, phase_error_rad=0.15)
    ),
)

# Five modes: blocks of two leave one mode for the last.
UNIT_BLOCKS = np.array([0.5, -0.1, 0.7, 0.5, 0.1, 0.9, -0.3, 0.3, 0.6, -0.8], np.float32)
for _pair in (slice(0, 4), slice(4, 8), slice(8, 10)):
    UNIT_BLOCKS[_pair] /= np.sqrt(UNIT_BLOCKS[_pair] @ UNIT_BLOCKS[_pair])
MEAN = np.array([1.0, -2.0, 0.5, 3.0, -1.5, 0.7, 0.2, 1.1, -0.6, 2.0], np.float32)


def quiet(block_modes: int | None) -> SessionSettings:
    """Light so bright that noise does not show."""
    return replace(
        IDEAL,
        light=replace(IDEAL.light, mean_photons=1e9),
        sampling=Sampling.MEASURED,
        channel=replace(IDEAL.channel, block_modes=block_modes),
    )


@hypothesis_settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 400), st.integers(1, 3))
def test_every_mode_is_in_one_block_and_comes_back_from_it(
    modes: int, block_modes: int, per_mode: int
) -> None:
    blocks = Blocks.of(modes, block_modes)
    assert sum(blocks.sizes) == modes
    assert len(blocks.sizes) == blocks.count == len(blocks.slices())
    assert all(size == blocks.size for size in blocks.sizes[:-1])
    assert 1 <= blocks.sizes[-1] <= blocks.size <= max(block_modes, 1)
    values = np.arange(2 * per_mode * modes, dtype=np.float32).reshape(2, -1) + 1.0
    split = blocks.split(values)
    assert split.shape == (2, blocks.count, per_mode * blocks.size)
    assert np.array_equal(blocks.join(split), values)
    assert np.count_nonzero(split) == values.size
    parts = [values[:, columns] for columns in blocks.slices(per_mode)]
    assert np.array_equal(np.concatenate(parts, axis=1), values)
    assert [part.shape[1] for part in parts] == [per_mode * size for size in blocks.sizes]


@pytest.mark.parametrize("block_modes", [0, -3])
def test_blocks_hold_at_least_a_mode(block_modes: int) -> None:
    for call in (
        lambda: Blocks.of(5, block_modes),
        lambda: replace(IDEAL, channel=replace(IDEAL.channel, block_modes=block_modes)),
    ):
        with pytest.raises(SettingError) as caught:
            call()
        assert caught.value.name == "block_modes"


@hypothesis_settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_weighted_sums_of_blocks_are_the_products_of_whole_rows(
    inputs: int, block_modes: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(3, inputs)).astype(np.float32)
    images = random.normal(size=(2, inputs)).astype(np.float32)
    images[0, : inputs // 2] = 0.0
    images[0, -1] = 1.0
    client = Client((inputs, 3), images, block_modes)
    blocks = Blocks.of((inputs + 1) // 2, block_modes)
    row = np.pad(weights, [(0, 0), (0, inputs % 2)])
    partial = np.einsum(
        "ibk,rbk->irb", blocks.split(client.coefficients()), blocks.split(row)
    ).reshape(2, -1)
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    assert client.receive(partial.astype(np.float32)) == pytest.approx(unit @ weights.T, abs=1e-5)


def test_noise_of_a_sum_of_blocks_is_that_of_one_value() -> None:
    """The squared lengths of the blocks add up to one: 40,000 values, four standard errors."""
    random = np.random.default_rng(6)
    client = Client((11, 20_000, 3), images_of(2, 11), 2)
    noise = random.standard_normal((2, 20_000 * 3), np.float32)
    values = client.receive(noise)
    assert values.shape == (2, 20_000)
    assert float(values.var()) == pytest.approx(1.0, rel=4.0 * math.sqrt(2.0 / 40_000))


def test_each_block_is_set_to_unit_norm_and_dark_blocks_to_a_flat_one() -> None:
    images = images_of(3, 9)
    images[0, 4:8] = 0.0
    images[1, 8] = 0.0
    images[2] = 0.0
    split = Blocks.of(5, 2).split(Client((9, 4), images, 2).coefficients())
    assert np.linalg.norm(split, axis=2) == pytest.approx(np.ones((3, 3)), abs=1e-6)
    assert split[0, 1] == pytest.approx([math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0])
    assert split[1, 2] == pytest.approx([1.0, 0.0, 0.0, 0.0])
    assert split[2, 0] == pytest.approx([math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0])


def test_what_dark_blocks_measure_counts_for_nothing() -> None:
    images = images_of(1, 8)
    images[0, 2:6] = 0.0
    client = Client((8, 1), images, 1)
    lengths = np.array([0.0, 1e6, 1e6, 0.0], np.float32)
    assert client.receive(lengths[None]) == pytest.approx(np.zeros((1, 1)), abs=1e-12)


@pytest.mark.parametrize("block_modes", [None, 5, 6, 1000])
def test_a_block_that_holds_the_row_is_the_row(block_modes: int | None) -> None:
    net, images = network(9, 4, 3), images_of(6, 9)
    settings = replace(IDEAL, channel=replace(IDEAL.channel, block_modes=block_modes))
    whole = Session(
        net, replace(IDEAL, channel=replace(IDEAL.channel, block_modes=None)), ModeLink(IDEAL)
    )
    blocked = Session(net, settings, ModeLink(settings))
    for ours, theirs in zip(blocked.run(images), whole.run(images), strict=True):
        assert all(map(np.array_equal, ours.measured, theirs.measured))
    assert blocked.verdict() == whole.verdict()
    assert blocked.leakage() == whole.leakage()


@pytest.mark.parametrize("shape", [(2, 4), (2, 11), (1, 12), (12,)])
def test_values_of_another_shape_than_the_blocks_are_refused(shape: tuple[int, ...]) -> None:
    client = Client((9, 4), images_of(2, 9), 2)
    with pytest.raises(SettingError, match="blocks per row"):
        client.receive(np.zeros(shape, np.float32))


@pytest.mark.parametrize("block_modes", [1, 3, 7, 16])
def test_classes_do_not_depend_on_blocks_where_light_is_bright(block_modes: int) -> None:
    """Values agree to the noise, which is 1e-4 of them, and to float32."""
    net, images = network(31, 12, 5), images_of(60, 31)
    found = []
    for size in (None, block_modes):
        settings = quiet(size)
        batches = list(Session(net, settings, ModeLink(settings)).run(images))
        assert sum(len(batch.classes) for batch in batches) == 60
        found.append(np.concatenate([batch.measured[-1] for batch in batches]))
    assert found[1] == pytest.approx(found[0], rel=0.0, abs=2e-3 * float(np.abs(found[0]).max()))


def test_batches_shrink_as_blocks_multiply() -> None:
    settings = quiet(1)
    session = Session(network(20, 4, 3), settings, ModeLink(settings))
    batches = list(session.run(images_of(25, 20), batch_images=30))
    assert [(batch.first_image, len(batch.classes)) for batch in batches][:3] == [
        (0, 3),
        (3, 3),
        (6, 3),
    ]
    assert [values.shape for values in batches[0].measured] == [(3, 4), (3, 3)]


def optics_draws(
    settings: SessionSettings, coefficients: Floats
) -> tuple[NDArray[np.bool_], Values]:
    """Carry five modes through link, rotation, receiver and back, block by block.

    Each column is one reading: five of the server's, then the client's, one per block.
    """
    random = np.random.default_rng(123)
    kinds = Blocks.of(5, settings.channel.block_modes)

    def vacuum(*shape: int) -> Field:
        return random.standard_normal(shape) + 1j * random.standard_normal(shape)

    def lose(field: Field, transmittance: float) -> Field:
        kept = math.sqrt(transmittance) * field
        return np.asarray(kept + math.sqrt(1.0 - transmittance) * vacuum(*field.shape))

    leg = 10.0 ** (-settings.channel.loss_db / 20.0)
    elements = 10.0 ** (-kinds.size * settings.channel.rotation.loss_db_per_mode / 10.0)
    sent = lose(MEAN[0::2] + 1j * MEAN[1::2] + vacuum(SAMPLES, 5), leg)
    returned, values = [], []
    for columns, size in zip(kinds.slices(), kinds.sizes, strict=True):
        # A short block's empty slots hold vacuum; the line has as many elements as ever.
        empty = vacuum(SAMPLES, kinds.size - size)
        light = lose(np.concatenate([sent[:, columns], empty], axis=1), elements)
        wanted = np.zeros(kinds.size, np.complex128)
        wanted[:size] = coefficients[0::2][columns] + 1j * coefficients[1::2][columns]
        rotation = unitary(wanted)
        modes = light @ rotation.T
        value, modes[:, 0] = receive(settings.receiver, modes[:, 0], vacuum)
        back = lose(modes @ rotation.conj(), elements)
        returned.append(back[:, :size])
        values.append(value)
    back = lose(np.concatenate(returned, axis=1), leg)
    back += math.sqrt(settings.channel.technical_noise) * vacuum(SAMPLES, 5)
    verifier = settings.verifier
    seen = lose(back, verifier.efficiency)
    on_x = random.random(SAMPLES) < 0.5
    read = np.where(on_x[:, None], seen.real, seen.imag)
    read += math.sqrt(verifier.electronic_noise) * random.standard_normal(read.shape)
    read /= math.sqrt(1.0 + verifier.electronic_noise)
    return on_x, np.concatenate([read, np.stack(values, axis=1)], axis=1)


def receive(receiver: Receiver, light: Field, vacuum: object) -> tuple[Values, Field]:
    """Return the client's value and the returned mode, element by element."""
    assert callable(vacuum)
    homodyne = receiver.homodyne

    def detect(field: Field) -> Field:
        through = math.sqrt(homodyne.efficiency) * field
        through += math.sqrt(1.0 - homodyne.efficiency) * vacuum(len(field))
        return np.asarray(through + math.sqrt(homodyne.electronic_noise) * vacuum(len(field)))

    if isinstance(receiver, CloneReceiver):
        gain, dark = receiver.gain, vacuum(len(light))
        idler = math.sqrt(2.0 * receiver.emission_factor - 1.0) * vacuum(len(light))
        bright = math.sqrt(gain) * light + math.sqrt(gain - 1.0) * idler.conj()
        arm = math.sqrt(1.0 - 1.0 / gain) * bright - math.sqrt(1.0 / gain) * dark
        returned = math.sqrt(1.0 / gain) * bright + math.sqrt(1.0 - 1.0 / gain) * dark
        return detect(arm).real, returned
    tau, dark, other = receiver.tap_transmittance, vacuum(len(light)), vacuum(len(light))
    tapped = math.sqrt(1.0 - tau) * light - math.sqrt(tau) * dark
    to_x, to_p = (tapped + other) / math.sqrt(2.0), (tapped - other) / math.sqrt(2.0)
    record = detect(to_x).real + 1j * detect(to_p).imag
    passed = math.sqrt(tau) * light + math.sqrt(1.0 - tau) * dark
    # With any change that restores the mean.
    gain = (1.0 - math.sqrt(tau)) / math.sqrt(homodyne.efficiency * (1.0 - tau) / 2.0)
    return record.real, passed + gain * record


def unitary(coefficients: Field) -> Field:
    """Return a unitary whose first output is sum c_k* a_k."""
    size = len(coefficients)
    columns = np.eye(size, dtype=np.complex128)
    columns[:, 0] = coefficients
    columns[:, 1:] = np.random.default_rng(5).normal(size=(size, size - 1))
    rows: Field = np.linalg.qr(columns)[0].conj().T
    rows[0] = coefficients.conj()
    assert np.allclose(rows @ rows.conj().T, np.eye(size), atol=1e-6)
    return rows


def link_draws(settings: SessionSettings, coefficients: Floats) -> tuple[NDArray[np.bool_], Values]:
    light = LayerLight(0, np.tile(MEAN, (SAMPLES, 1)), settings.channel.block_modes)
    exchange = ModeLink(settings).exchange(light, coefficients[None])
    ((read, cosine),) = [(item.measured.copy(), item.cosine[:, 0]) for item in exchange.returned]
    values = exchange.measured[0].reshape(SAMPLES, -1)
    return cosine == 1.0, np.concatenate([read, values], axis=1).astype(np.float64)


def assert_same_statistics(found: Values, truth: Values) -> None:
    """Compare means and all covariances within five standard errors of their difference."""
    rate = 1.0 / len(found) + 1.0 / len(truth)
    covariance = np.cov(truth.T)
    variance = np.diag(covariance)
    assert np.all(np.abs(found.mean(axis=0) - truth.mean(axis=0)) < 5.0 * np.sqrt(variance * rate))
    error = np.sqrt((np.outer(variance, variance) + covariance**2) * rate)
    assert np.all(np.abs(np.cov(found.T) - covariance) < 5.0 * error)


@pytest.mark.parametrize("block_modes", [2, 5, None])
@pytest.mark.parametrize("settings", [IDEAL, LOSSY, TAPPED], ids=["ideal", "lossy", "tapped"])
def test_joint_statistics_are_those_of_the_optics(
    settings: SessionSettings, block_modes: int | None
) -> None:
    """2e5 rows, half of them read on X, half on P; seeds 11 and 123; five standard errors."""
    settings = replace(settings, channel=replace(settings.channel, block_modes=block_modes))
    coefficients = UNIT_BLOCKS if block_modes == 2 else UNIT_BLOCKS / np.float32(math.sqrt(3.0))
    found, truth = link_draws(settings, coefficients), optics_draws(settings, coefficients)
    for chosen in (True, False):
        ours, theirs = found[1][found[0] == chosen], truth[1][truth[0] == chosen]
        assert_same_statistics(ours, theirs)


def test_both_samplings_measure_the_same_blocks() -> None:
    """Means and covariances of the three values of a row, five standard errors of 2e5 rows."""
    measured = replace(LOSSY, sampling=Sampling.MEASURED)
    light = LayerLight(0, np.tile(MEAN, (SAMPLES, 1)), 2)
    alone = ModeLink(measured).exchange(light, UNIT_BLOCKS[None]).measured.reshape(SAMPLES, 3)
    assert_same_statistics(link_draws(LOSSY, UNIT_BLOCKS)[1][:, 5:], alone.astype(np.float64))


def test_wrong_elements_collect_another_mode_and_return_it_undone() -> None:
    """The link with errors is the exact link set to what its own elements make of the setting."""
    exact = replace(WRONG, channel=replace(WRONG.channel, rotation=Rotation(0.4)))
    light = LayerLight(0, np.tile(MEAN, (50, 1)), 5)
    wanted = UNIT_BLOCKS / np.float32(math.sqrt(3.0))
    seed = np.random.SeedSequence(WRONG.seed, spawn_key=(0, 1))
    errors = WRONG.channel.rotation.draw_errors(5, np.random.Generator(np.random.SFC64(seed)))
    collected = made(wanted[None], Blocks.of(5, 5), errors)
    assert not np.allclose(collected, wanted, atol=0.05)
    ours = ModeLink(WRONG).exchange(light, wanted[None])
    theirs = ModeLink(exact).exchange(light, collected)
    for mine, other in zip(ours.returned, theirs.returned, strict=True):
        assert np.array_equal(mine.measured, other.measured)
    assert np.array_equal(ours.measured, theirs.measured)


@pytest.mark.parametrize("groups", [(1, 1, 1, 1), (3, 1)])
@pytest.mark.parametrize("sampling", Sampling)
def test_grouping_of_images_changes_nothing(sampling: Sampling, groups: tuple[int, ...]) -> None:
    settings = replace(WRONG, sampling=sampling)
    light = LayerLight(0, np.tile(MEAN, (30, 1)), 2)
    images = np.stack([UNIT_BLOCKS, -UNIT_BLOCKS, UNIT_BLOCKS, -UNIT_BLOCKS])
    outcomes = []
    for sizes in (groups, (4,)):
        link, first, parts = ModeLink(settings), 0, []
        for size in sizes:
            exchange = link.exchange(light, images[first : first + size])
            first += size
            seen = [item.measured.ravel().copy() for item in exchange.returned]
            parts.append(np.concatenate([*seen, exchange.measured.ravel()]))
        outcomes.append(np.sort(np.concatenate(parts)))
    assert outcomes[0] == pytest.approx(outcomes[1], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("block_modes", [None, 8, 3])
@pytest.mark.parametrize(
    "rotation",
    [IDEAL_ROTATION, Rotation(0.1), Rotation(0.05, 0.05, 0.05)],
    ids=["ideal", "lossy", "wrong"],
)
def test_signal_to_noise_is_that_of_the_closed_form(
    block_modes: int | None, rotation: Rotation
) -> None:
    """16 units (seeds), 200 images of 200 random rows each: a regression of 40,000 values.

    Sampling leaves 1 % of F per unit; units differ in their errors: 4 % allowed for the mean.
    """
    random = np.random.default_rng(8)
    layer = random.normal(size=(200, 31)).astype(np.float32)
    images = random.normal(size=(200, 31)).astype(np.float32)
    exact = images / np.linalg.norm(images, axis=1, keepdims=True) @ layer.T
    found = []
    for seed in range(16):
        settings = replace(
            IDEAL,
            seed=seed,
            channel=replace(IDEAL.channel, block_modes=block_modes, rotation=rotation),
            sampling=Sampling.MEASURED,
        )
        session = Session(Network((layer,), "one", {}), settings, ModeLink(settings))
        values = np.concatenate([batch.measured[0] for batch in session.run(images)])
        slope, offset = np.polyfit(exact.ravel(), values.ravel().astype(np.float64), 1)
        noise = np.var(values - slope * exact - offset)
        found.append(float(slope**2 * np.mean(layer**2) / noise))
    expected = settings.signal_to_noise_of(16)
    assert np.mean(found) == pytest.approx(expected, rel=0.04)
    assert settings.signal_to_noise == pytest.approx(4.0)
    if rotation is IDEAL_ROTATION:
        assert expected == settings.signal_to_noise
    else:
        assert expected < 0.99 * settings.signal_to_noise
