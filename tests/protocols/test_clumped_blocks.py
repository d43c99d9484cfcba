"""Words behind scales, blur or an offset are found if light tells them; ordinary weights pass."""

from __future__ import annotations

import time

import numpy as np
import pytest

from labctl.data.models import SHIPPED_NETWORKS, Network, load_network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.clumped_blocks import clumps_of
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.weight_distribution import WeightsKind
from labctl.protocols.weight_search import look_at, require_not_told_apart

ROWS, COLUMNS, MU = 250, 784, 21.0
# By their length: 1.3 and 0.96 bit per weight.
WORDS = {4: 40, 8: 200}


def normal(*shape: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def worded(offset: int = 0, length: int = 4) -> Floats:
    """Return weights of words drawn at random; before the offset and behind words, normal."""
    words = normal(WORDS[length], length, seed=2)
    count = (COLUMNS - offset) // length
    weights = normal(ROWS, COLUMNS, seed=4)
    chosen = np.random.default_rng(3).integers(0, len(words), (ROWS, count))
    weights[:, offset : offset + count * length] = words[chosen].reshape(ROWS, -1)
    return weights


def scales(shape: tuple[int, int], seed: int) -> Floats:
    drawn: Floats = np.exp(0.4 * normal(*shape, seed=seed))
    return drawn


BLUR = 0.04 * normal(ROWS, COLUMNS, seed=5)
BY_ROW, BY_COLUMN = scales((ROWS, 1), 6), scales((1, COLUMNS), 7)
HIDDEN = {
    "by column": worded() * BY_COLUMN,
    "by row and column": worded() * BY_ROW * BY_COLUMN,
    "blurred": worded() + BLUR,
    "blurred, by row": (worded() + BLUR) * BY_ROW,
    "blurred, by column": (worded() + BLUR) * BY_COLUMN,
    "blurred, by both": (worded() + BLUR) * BY_ROW * BY_COLUMN,
    "blurred, words of 8": worded(length=8) + BLUR,
    "offset 3, blurred": worded(3) + BLUR,
    "offset 5, words of 8, by column": worded(5, 8) * BY_COLUMN,
    "offsets of rows and columns": worded(length=8)
    + 0.3 * normal(ROWS, 1, seed=11)
    + 0.5 * normal(1, COLUMNS, seed=12),
    "blurred, along columns": np.ascontiguousarray((worded() + BLUR).T),
}


@pytest.mark.parametrize("hidden", HIDDEN)
def test_hidden_words_are_found_and_refused(hidden: str) -> None:
    found = look_at(Network((HIDDEN[hidden],), hidden, {}), MU)
    assert found.layers[0].kind in {WeightsKind.CLUMPS, WeightsKind.CODEBOOK}
    with pytest.raises(SettingError, match="DO NOT HOLD"):
        require_not_told_apart(found, accepted=False)


def test_words_that_begin_anywhere_are_found_as_they_are() -> None:
    found = clumps_of(unit_rms(worded(3)), MU, 0.5)
    assert found is not None
    assert (found.length, found.order) == (4, "along rows behind scales")


def test_light_near_nothing_distinguishes_nothing() -> None:
    """Also where its precision is below what single precision holds."""
    for mean_photons in (1e-300, 1e-9):
        assert clumps_of(unit_rms(worded()), mean_photons, 0.5) is None


def test_blur_that_light_resolves_hides_words() -> None:
    """Blur of 0.3 RMS, 0.22 of it is the noise of a reading: resent words would leave 3.8 SNU."""
    blurred = worded() + 7.5 * BLUR
    assert clumps_of(unit_rms(blurred), MU, 0.5) is None
    assert clumps_of(unit_rms(worded() + BLUR), 2000.0, 0.5) is None


def test_what_is_left_is_what_a_client_that_knows_the_words_leaves() -> None:
    """Nearest of the true words; the look takes scales from few rows, and knows fewer blocks."""
    weights = worded(length=8) + BLUR
    rms = float(np.sqrt(np.mean(weights**2)))
    noise = normal(ROWS, COLUMNS, seed=8) / np.float32(np.sqrt(MU))
    read = (weights / rms + noise).reshape(-1, 8)
    words = normal(WORDS[8], 8, seed=2) / rms
    nearest = np.argmax(read @ words.T - 0.5 * np.square(words).sum(axis=1), axis=1)
    left = 2.0 * MU * float(np.mean((words[nearest] - weights.reshape(-1, 8) / rms) ** 2))
    found = clumps_of(unit_rms(weights), MU, 0.5)
    assert found is not None
    assert found.length == 8
    # Scales from 250 weights are off by 1/500 of a power, 0.08 SNU; few blocks miss their word.
    assert 0.9 * left < found.noise < left + 0.2
    assert found.otherwise > 1.2


def ordinary(name: str, seed: int) -> Floats:
    """Return continuous weights as trained layers may be."""
    random = np.random.default_rng(seed)
    weights = random.standard_normal((ROWS, COLUMNS))
    if name == "laplace":
        weights = random.laplace(size=weights.shape)
    if name == "student":
        weights = random.standard_t(3, size=weights.shape)
    if name == "smooth along rows":
        for _ in range(3):
            weights = weights + np.roll(weights, 1, axis=1) + np.roll(weights, -1, axis=1)
    if name == "dark pixels":
        weights *= np.where(random.random(COLUMNS) < 0.4, 1e-5, 1.0)
    if name == "few bright neurons":
        weights *= np.exp(1.5 * random.standard_normal((ROWS, 1)))
    if name == "mostly near zero":
        weights *= np.where(random.random(weights.shape) < 0.8, 0.05, 1.0)
    if name == "bright patches":
        bright = np.repeat(random.random((ROWS, COLUMNS // 8)) < 0.2, 8, axis=1)
        weights *= np.where(bright, 1.0, 0.05)
    if name == "low rank and noise":
        weights += random.normal(size=(ROWS, 12)) @ random.normal(size=(12, COLUMNS))
    return weights.astype(np.float32)


ORDINARY = (
    "normal", "laplace", "student", "smooth along rows", "dark pixels", "few bright neurons",
    "mostly near zero", "bright patches", "low rank and noise",
)  # fmt: skip


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_weights_do_not_lie_in_clumps(name: str) -> None:
    for seed, mean_photons in ((1, 21.0), (2, 200.0)):
        assert clumps_of(unit_rms(ordinary(name, seed)), mean_photons, 0.5) is None


@pytest.mark.parametrize("name", SHIPPED_NETWORKS)
def test_shipped_networks_do_not_lie_in_clumps(name: str) -> None:
    for weights in carried(load_network(name)).network.layers:
        for mean_photons in (21.0, 200.0):
            assert clumps_of(unit_rms(weights), mean_photons, 0.5) is None


def test_a_layer_is_looked_at_in_a_tenth_of_a_second_of_quiet_time() -> None:
    """The machine may be busy: processor time, and three times what a quiet one takes."""
    weights = unit_rms(normal(784, 784, seed=1))
    before = time.process_time()
    assert clumps_of(weights, MU, 0.5) is None
    assert time.process_time() - before < 0.3
