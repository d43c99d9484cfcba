"""Weights on light: two per mode, unit RMS per layer, inputs of unit norm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.errors import ModelError, SettingError
from labctl.protocols.encoding import (
    MOST_PHOTONS,
    Blocks,
    modes_of,
    pad_to_modes,
    quadratures,
    unit_norm,
    unit_rms,
)

Floats = NDArray[np.float32]

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**32 - 1)
scales = st.floats(-30.0, 30.0).map(lambda exponent: 10.0**exponent)


def normal(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Floats:
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize(("inputs", "modes"), [(1, 1), (2, 1), (3, 2), (784, 392), (785, 393)])
def test_two_real_weights_ride_on_one_mode(inputs: int, modes: int) -> None:
    assert modes_of(inputs) == modes
    assert pad_to_modes(np.ones((3, inputs), np.float32)).shape == (3, 2 * modes)


@settings(deadline=None)
@given(shapes, seeds, scales)
def test_a_layer_is_sent_with_unit_rms_whatever_its_scale(
    shape: tuple[int, int], seed: int, scale: float
) -> None:
    weights = normal(shape, seed, scale)
    scaled = unit_rms(weights)
    assert scaled.dtype == np.float32
    assert math.sqrt(float(np.mean(scaled.astype(float) ** 2))) == pytest.approx(1.0, rel=1e-6)
    factor = float(np.sqrt(np.mean(weights.astype(float) ** 2)))
    assert np.allclose(scaled * factor, weights, rtol=1e-5, atol=0.0)


@settings(deadline=None)
@given(shapes, seeds, st.floats(1e-3, 1e6))
def test_mean_photon_number_per_mode_is_mu(
    shape: tuple[int, int], seed: int, mean_photons: float
) -> None:
    """a = (X + iP)/2: a mode holds (X^2 + P^2)/4 photons; odd N fills half a mode less."""
    sent = quadratures(normal(shape, seed), mean_photons)
    rows, inputs = shape
    assert sent.shape == (rows, inputs + inputs % 2)
    total = float(np.sum(sent.astype(float) ** 2)) / 4.0
    assert total == pytest.approx(mean_photons * rows * inputs / 2.0, rel=1e-5)


def test_weight_2k_is_on_x_and_2k_plus_1_on_p_of_mode_k() -> None:
    weights = np.array([[3.0, -1.0, 2.0], [0.5, 4.0, -2.0]], np.float32)
    sent = quadratures(weights, 2.0)
    factor = 2.0 / math.sqrt((9.0 + 1.0 + 4.0 + 0.25 + 16.0 + 4.0) / 6.0)
    assert np.allclose(sent[:, 0::2], factor * np.array([[3.0, 2.0], [0.5, -2.0]]), rtol=1e-6)
    assert np.allclose(sent[:, 1::2], factor * np.array([[-1.0, 0.0], [4.0, 0.0]]), rtol=1e-6)


def test_the_whole_layer_shares_one_scale() -> None:
    sent = quadratures(np.array([[1.0, 1.0], [2.0, 2.0]], np.float32), 1.0)
    assert np.allclose(sent[1], 2.0 * sent[0], rtol=1e-6)


@settings(deadline=None)
@given(st.tuples(st.integers(1, 5), st.integers(1, 99)), seeds, scales)
def test_inputs_have_unit_norm_whatever_their_scale(
    shape: tuple[int, int], seed: int, scale: float
) -> None:
    """Squares of 1e-30 and 1e30 fit no float32: the norm must not lose them."""
    inputs = normal(shape, seed, scale)
    unit = unit_norm(inputs)
    assert unit.dtype == np.float32
    assert np.allclose(np.sum(unit.astype(float) ** 2, axis=1), 1.0, rtol=1e-5)
    cosine = np.sum(unit.astype(float) * inputs, axis=1)
    assert np.allclose(cosine, np.linalg.norm(inputs.astype(float), axis=1), rtol=1e-5)


def test_a_row_of_zeros_stays_zero_and_spoils_no_other() -> None:
    inputs = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    assert np.allclose(unit_norm(inputs), [[0.0, 0.0], [0.6, 0.8]], rtol=1e-6)


def test_inputs_are_left_alone() -> None:
    inputs = normal((3, 5), 1)
    before = inputs.copy()
    unit_norm(inputs)
    pad_to_modes(inputs)[:, 0] = 7.0
    quadratures(inputs, 1.0)
    assert np.array_equal(inputs, before)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_weights_without_a_scale_are_refused(value: float) -> None:
    with pytest.raises(ModelError, match="root mean square"):
        unit_rms(np.full((2, 3), value, np.float32))


@pytest.mark.parametrize("mean_photons", [0.0, -1.0, 1.000001e9, math.nan, math.inf])
def test_light_needs_photons(mean_photons: float) -> None:
    with pytest.raises(SettingError, match="mean_photons"):
        quadratures(np.ones((2, 2), np.float32), mean_photons)


def test_a_thousand_million_photons_are_the_most() -> None:
    assert MOST_PHOTONS == 1e9
    sent = quadratures(np.ones((1, 2), np.float32), 1e9)
    assert np.allclose(sent, math.sqrt(2e9), rtol=1e-6)


@pytest.mark.parametrize(
    ("block_modes", "sizes"),
    [
        (None, (7,)),
        (1, (1, 1, 1, 1, 1, 1, 1)),
        (3, (3, 3, 1)),
        (4, (4, 3)),
        (7, (7,)),
        (8, (7,)),
    ],
)
def test_a_row_is_cut_into_blocks_and_what_is_left(
    block_modes: int | None, sizes: tuple[int, ...]
) -> None:
    blocks = Blocks.of(7, block_modes)
    assert blocks.sizes == sizes
    assert blocks.count == len(sizes)
    assert blocks.size == sizes[0]


@pytest.mark.parametrize("block_modes", [0, -1])
def test_a_block_has_a_mode_at_least(block_modes: int) -> None:
    with pytest.raises(SettingError, match="block_modes"):
        Blocks.of(7, block_modes)


def test_a_row_of_whole_blocks_has_no_short_one() -> None:
    assert Blocks.of(6, 3).sizes == (3, 3)


def test_a_block_gives_no_more_modes_than_it_has() -> None:
    """Blocks of 3, 3 and 1: two of each but one of the last."""
    blocks = Blocks.of(7, 3)
    assert [blocks.collected(clones) for clones in range(5)] == [0, 3, 5, 7, 7]


def test_slices_are_each_blocks_columns() -> None:
    blocks = Blocks.of(7, 3)
    assert blocks.slices() == (slice(0, 3), slice(3, 6), slice(6, 7))
    assert blocks.slices(2) == (slice(0, 6), slice(6, 12), slice(12, 14))


@pytest.mark.parametrize("per_mode", [1, 2])
def test_splitting_fills_the_last_block_with_zeros_behind_its_modes(per_mode: int) -> None:
    blocks = Blocks.of(5, 2)
    row = np.arange(1, 5 * per_mode + 1, dtype=np.float32)
    values = np.stack((row, -row))
    split = blocks.split(values)
    padded = np.concatenate((values, np.zeros((2, per_mode), np.float32)), axis=1)
    assert np.array_equal(split, padded.reshape(2, 3, 2 * per_mode))
    assert np.array_equal(blocks.join(split), values)


def test_whole_blocks_need_no_filling() -> None:
    blocks = Blocks.of(6, 3)
    values = np.arange(6, dtype=np.float32)[None]
    assert np.array_equal(blocks.split(values), values.reshape(1, 2, 3))
    assert np.array_equal(blocks.join(blocks.split(values)), values)
