"""Stretches that come again show words of any length and beginning, and more words than blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from labctl.data.models import Network
from labctl.protocols.codewords import chain_of, codebook_of
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.repeated_blocks import repeats_of
from labctl.protocols.weight_distribution import WeightsKind
from labctl.protocols.weight_search import look_at

ROWS, COLUMNS, MU = 200, 640, 21.0


def normal(*shape: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def worded(count: int, length: int, offset: int = 0) -> Floats:
    """Return words drawn at random, of unit RMS; normal weights before the offset and behind."""
    words = normal(count, length, seed=1)
    blocks = (COLUMNS - offset) // length
    chosen = np.random.default_rng(2).integers(0, count, (ROWS, blocks))
    weights = normal(ROWS, COLUMNS, seed=3)
    weights[:, offset : offset + blocks * length] = words[chosen].reshape(ROWS, -1)
    return weights


def trellis(bits: int) -> Floats:
    """Return weights named by the last 12 of a row's bits, `bits` new ones for each."""
    random = np.random.default_rng(4)
    table, state = normal(1 << 12, seed=5), random.integers(0, 1 << 12, ROWS)
    weights = np.empty((ROWS, COLUMNS), np.float32)
    for column in range(COLUMNS):
        state = (state << bits | random.integers(0, 1 << bits, ROWS)) & 0xFFF
        weights[:, column] = table[state]
    return weights


def scales(*shape: int, seed: int) -> Floats:
    drawn: Floats = np.exp(0.4 * normal(*shape, seed=seed))
    return drawn


@pytest.mark.parametrize(("length", "offset"), [(12, 5), (16, 0), (40, 0), (3, 1)])
def test_length_and_beginning_are_found(length: int, offset: int) -> None:
    found = repeats_of(worded(2000, length, offset))
    assert found is not None
    assert (found.length, set(found.starts), found.in_place) == (length, {offset}, False)


def test_each_row_may_begin_elsewhere() -> None:
    begins = np.random.default_rng(6).integers(0, 16, ROWS)
    rolled = np.stack([np.roll(row, by) for row, by in zip(worded(2000, 16), begins, strict=True)])
    found = repeats_of(rolled)
    assert found is not None
    assert (found.length, list(found.starts)) == (16, list(begins))
    book = codebook_of(rolled)
    assert book is not None
    assert "beginning differently" in book.order
    assert book.count == pytest.approx(2000, rel=0.02)


def test_more_words_than_blocks_are_counted() -> None:
    """8,000 blocks of 10^6 words make 32 pairs: known to 18 %, one standard deviation; seed 2."""
    book = codebook_of(unit_rms(worded(10**6, 16)))
    assert book is not None
    assert (book.length, book.order) == (16, "along rows")
    assert book.count == pytest.approx(10**6, rel=0.5)
    assert book.entropy_bits == pytest.approx(20 / 16, abs=0.06)


HIDDEN = {
    "by row": scales(ROWS, 1, seed=7),
    "by column": scales(1, COLUMNS, seed=8),
    "by both": scales(ROWS, 1, seed=7) * scales(1, COLUMNS, seed=8),
}


@pytest.mark.parametrize("hidden", HIDDEN)
def test_large_codebooks_behind_scales_are_found_and_refused(hidden: str) -> None:
    """Twice as many words as there are at one place of the rows."""
    weights = worded(500, 16) * HIDDEN[hidden]
    (layer,) = look_at(Network((weights,), hidden, {}), MU).layers
    assert (layer.kind, layer.length) == (WeightsKind.CODEBOOK, 16)
    # Words that come at several places of a row are one; 200 rows make 40 pairs at each place.
    assert layer.levels == pytest.approx(500, rel=0.1)
    assert layer.told_apart


def test_words_of_twelve_that_begin_anywhere_are_refused() -> None:
    (layer,) = look_at(Network((worded(4096, 12, 5),), "offset", {}), MU).layers
    assert (layer.kind, layer.length) == (WeightsKind.CODEBOOK, 12)
    assert layer.order == "along rows, beginning at weight 6"
    assert layer.levels == pytest.approx(4096, rel=0.05)
    assert layer.error_rate < 0.01
    assert layer.told_apart


@pytest.mark.parametrize(("bits", "told"), [(1, True), (2, True), (4, False)])
def test_weights_that_follow_from_those_before_are_named(bits: int, told: bool) -> None:
    """Light of mu = 21 names 2.23 bit of a weight: 4 are too many."""
    weights = trellis(bits)
    chain = chain_of(unit_rms(weights), MU)
    assert chain is not None
    assert chain.bits == pytest.approx(bits + 12 / COLUMNS, abs=0.15)
    (layer,) = look_at(Network((weights,), "trellis", {}), MU).layers
    assert layer.told_apart is told
    assert not told or layer.kind is WeightsKind.CHAIN


def cells(seed: int) -> Floats:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (ROWS, COLUMNS)).astype(np.float32)


def dim(weights: Floats) -> Floats:
    """Return weights in steps of 1/2000, every third column so dim that it takes few of them."""
    scale = np.where(np.arange(COLUMNS) % 3 == 0, 0.01, 1.0).astype(np.float32)
    return np.round(weights * scale * 2000.0).astype(np.float32) / np.float32(2000.0)


ORDINARY: dict[str, Callable[[Floats], Floats]] = {
    "normal": lambda weights: weights,
    "half precision": lambda weights: weights.astype(np.float16).astype(np.float32),
    "16 bits of single precision": lambda weights: (
        weights.view(np.uint32) & np.uint32(0xFFFF0000)
    ).view(np.float32),
    "near a limit": lambda weights: 2.0 * np.tanh(4.0 * weights),
    "pruned": lambda weights: weights * (np.abs(weights) > 1.0),
    "dithered over the cell": lambda weights: np.round(weights) + cells(20),
    "dim columns of few values": dim,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ORDINARY)
def test_continuous_weights_do_not_come_again(name: str, seed: int) -> None:
    unit = unit_rms(ORDINARY[name](normal(ROWS, COLUMNS, seed=10 + seed)))
    for lines in (unit, np.ascontiguousarray(unit.T)):
        assert repeats_of(lines) is None
        assert repeats_of(lines, scaled=True) is None


def test_two_neurons_that_are_alike_are_no_codebook() -> None:
    weights = normal(ROWS, COLUMNS, seed=9)
    weights[17] = weights[101]
    assert codebook_of(unit_rms(weights)) is None
