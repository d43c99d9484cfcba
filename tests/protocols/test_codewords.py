"""Weights that are words of a codebook are found, in any of the orders looked at, and no others."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from labctl.data.models import Network
from labctl.protocols.codewords import codebook_of
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.weight_distribution import WeightsKind
from labctl.protocols.weight_search import look_at


def e8_shell() -> Floats:
    """Return the 2,160 vectors of norm 4 of the lattice E8, turned at random (seed 0)."""
    axes = [sign * 2.0 * row for row in np.eye(8) for sign in (1, -1)]
    fours = [
        np.bincount(places, signs, 8)
        for places in combinations(range(8), 4)
        for signs in product((1.0, -1.0), repeat=4)
    ]
    halves = [
        0.5 * np.array(signs) * np.where(np.arange(8) == place, 3.0, 1.0)
        for place in range(8)
        for signs in product((1.0, -1.0), repeat=8)
    ]
    words = np.stack([*axes, *fours, *(each for each in halves if each.sum() % 2 == 0)])
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    return np.asarray(words @ turn, np.float32)


def worded(words: Floats, rows: int, columns: int) -> Floats:
    chosen = np.random.default_rng(1).integers(0, len(words), (rows, columns // words.shape[1]))
    return words[chosen].reshape(rows, columns)


def few_words() -> Floats:
    return np.random.default_rng(2).standard_normal((193, 4), dtype=np.float32)


def test_a_shell_of_e8_is_read_in_bright_light_and_refused() -> None:
    words = e8_shell()
    assert words.shape == (2160, 8)
    (layer,) = look_at(Network((worded(words, 392, 784),), "E8", {}), 21.0).layers
    assert (layer.kind, layer.levels, layer.length) == (WeightsKind.CODEBOOK, 2160, 8)
    assert layer.exact
    assert layer.entropy_bits == pytest.approx(np.log2(2160) / 8, abs=0.01)
    assert layer.error_rate < 0.005
    assert layer.told_apart


def test_the_error_rate_is_that_of_the_likeliest_word() -> None:
    """Independent decision, of 1,000 words here: 0.06 is four standard errors."""
    weights, mean_photons = unit_rms(worded(few_words(), 400, 196)), 8.0
    found = codebook_of(weights)
    assert found is not None
    assert (len(found.words), found.length) == (193, 4)
    noise = np.random.default_rng(3).standard_normal(weights.shape) / np.sqrt(mean_photons)
    blocks, read = weights.reshape(-1, 4), (weights + noise).reshape(-1, 4)
    words, true = np.unique(blocks, axis=0, return_inverse=True)
    nearest = np.argmin(np.square(read[:, None] - words).sum(axis=2), axis=1)
    wrong = float(np.mean(nearest != true.ravel()))
    assert found.decided(mean_photons)[0] == pytest.approx(wrong, abs=0.06)


@pytest.mark.parametrize("hidden", ["columns", "scaled rows", "patches"])
def test_words_are_found_in_other_orders_and_behind_scales(hidden: str) -> None:
    weights = worded(few_words(), 300, 784)
    if hidden == "columns":
        weights = np.ascontiguousarray(weights.T)
    if hidden == "scaled rows":
        scales = np.random.default_rng(4).uniform(0.5, 2.0, (300, 1))
        weights = (weights * scales).astype(np.float32)
    if hidden == "patches":
        image = weights.reshape(300, 14, 14, 2, 2)
        weights = image.transpose(0, 1, 3, 2, 4).reshape(300, 784)
    found = codebook_of(unit_rms(weights))
    assert found is not None
    assert (found.length, found.repeated > 0.99) == (4, True)
    # Where rounding is near the edge of a direction's cell, a word counts twice.
    assert len(found.words) == pytest.approx(193, abs=25)


@pytest.mark.parametrize("drawn", ["normal", "laplace", "half precision"])
def test_continuous_weights_have_no_words(drawn: str) -> None:
    random = np.random.default_rng(5)
    weights = (
        random.laplace(size=(784, 784)) if drawn == "laplace" else random.normal(size=(784,) * 2)
    )
    stored = weights.astype(np.float16 if drawn == "half precision" else np.float32)
    assert codebook_of(unit_rms(stored.astype(np.float32))) is None


@pytest.mark.parametrize("rank", [1, 9])
def test_few_rows_combined_are_called_so(rank: int) -> None:
    random = np.random.default_rng(6)
    weights = random.normal(size=(100, rank)) @ random.normal(size=(rank, 300))
    found = look_at(Network((weights.astype(np.float32),), "low rank", {}), 21.0)
    assert (found.layers[0].kind, found.layers[0].levels) == (WeightsKind.LOW_RANK, rank)
    assert found.told_apart
    assert f"rank {rank}" in found.statement()
    assert "levels" not in found.statement()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_rank_of_a_quarter_of_the_rows_is_seen(dtype: type) -> None:
    random = np.random.default_rng(8)
    exact = random.normal(size=(300, 75)) @ random.normal(size=(75, 400)) / 9.0
    weights = exact.astype(dtype).astype(np.float32)
    (layer,) = look_at(Network((weights,), "low rank", {}), 21.0).layers
    assert (layer.kind, layer.levels) == (WeightsKind.LOW_RANK, 75)
    assert layer.resend_noise == pytest.approx(2.0 * 75 * (700 - 75) / 120_000)
    assert layer.told_apart


def test_the_noise_of_rows_that_combine_few_is_what_projection_leaves() -> None:
    """A client projects one reading of all weights on the best rank; 120,000 of them, 2 %."""
    random, mean_photons = np.random.default_rng(9), 21.0
    weights = (random.normal(size=(300, 40)) @ random.normal(size=(40, 400))).astype(np.float32)
    unit = unit_rms(weights)
    read = unit + random.standard_normal(unit.shape) / np.sqrt(mean_photons)
    left, sizes, right = np.linalg.svd(read, full_matrices=False)
    projected = (left[:, :40] * sizes[:40]) @ right[:40]
    noise = 2.0 * mean_photons * float(np.mean(np.square(projected - unit)))
    (layer,) = look_at(Network((weights,), "low rank", {}), mean_photons).layers
    assert layer.resend_noise == pytest.approx(noise, rel=0.05)


def test_a_spectrum_that_falls_smoothly_is_no_rank() -> None:
    """As of trained layers: below a millionth of the power from the 150th of 400 on."""
    random = np.random.default_rng(10)
    left, right = (np.linalg.qr(random.normal(size=(400, 400)))[0] for _ in range(2))
    weights = (left * np.exp(-np.arange(400) / 22.0)) @ right
    found = look_at(Network((weights.astype(np.float32),), "smooth", {}), 21.0)
    assert not found.discrete


def test_rows_that_repeat_are_called_so() -> None:
    weights = np.tile(np.random.default_rng(7).standard_normal((1, 300), np.float32), (100, 1))
    (layer,) = look_at(Network((weights,), "repeated", {}), 21.0).layers
    assert layer.kind is WeightsKind.LOW_RANK
