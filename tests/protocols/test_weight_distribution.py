"""Networks of few levels are found after any rounding, and refused where light tells levels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.data.models import SHIPPED_NETWORKS, Network, load_network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.scaled_levels import repeats
from labctl.protocols.session import Session
from labctl.protocols.weight_distribution import WeightsKind
from labctl.protocols.weight_search import look_at, require_not_told_apart, resend_noise
from labctl.studies.attacks.false_alarms import HONEST
from labctl.studies.training.channel import TrainingChannel, levels


def normal(rows: int = 60, columns: int = 120, seed: int = 3) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)


def rounded(weights: Floats, bits: int) -> Floats:
    return np.asarray(levels(np, TrainingChannel(weight_bits=bits), weights), np.float32)


def of(*layers: Floats) -> Network:
    return Network(layers, "drawn", {})


def heterodyne(network: Network, mean_photons: float, seed: int) -> tuple[Floats, Floats]:
    """Return unit-RMS weights of the first layer, and one heterodyne reading of each."""
    unit = unit_rms(network.layers[0])
    noise = np.random.default_rng(seed).standard_normal(unit.shape, dtype=np.float32)
    return unit, unit + noise / np.float32(math.sqrt(mean_photons))


@pytest.mark.parametrize("name", SHIPPED_NETWORKS)
def test_shipped_networks_are_continuous(name: str) -> None:
    found = look_at(load_network(name), 8.91)
    assert not found.discrete
    assert not found.told_apart
    assert found.as_json()["level_error_rate"] is None


def test_the_largest_weights_of_a_row_are_no_level_of_their_own() -> None:
    """A few weights per row far from the rest: rows have gaps by chance, here or there; seed 6."""
    random = np.random.default_rng(6)
    far = random.random((20, 300)) < 0.04
    weights = random.normal(np.where(far, 4.0, 0.0), np.where(far, 1.2, 0.4))
    assert not look_at(of(weights.astype(np.float32)), 21.0).discrete


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_levels_of_rows_are_found_under_dither_that_leaves_gaps(share: float) -> None:
    random = np.random.default_rng(8)
    exact = rounded(normal(20, 2000), 2)
    step = float(np.diff(np.unique(exact)).min())
    blurred = exact + step * share * random.uniform(-0.5, 0.5, exact.shape)
    scaled = blurred * random.uniform(0.3, 3.0, (20, 1))
    (layer,) = look_at(of(scaled.astype(np.float32)), 21.0).layers
    assert (layer.kind, layer.levels, layer.exact) == (WeightsKind.LEVELS_PER_ROW, 3, False)


@pytest.mark.parametrize("mean_photons", [0.57, 21.0])
def test_normal_weights_are_continuous(mean_photons: float) -> None:
    assert not look_at(of(normal()), mean_photons).discrete


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_levels_are_found_after_any_rounding(dtype: type) -> None:
    """Scaled by a number that no format holds, and kept in half or single precision."""
    weights = (rounded(normal(), 3) * np.float32(0.0371)).astype(dtype).astype(np.float32)
    (layer,) = look_at(of(weights), 21.0).layers
    assert (layer.kind, layer.levels, layer.exact) == (WeightsKind.LEVELS, 7, True)


def test_signs_are_two_levels_of_one_bit() -> None:
    (layer,) = look_at(of(np.sign(normal())), 4.0).layers
    assert layer.levels == 2
    assert layer.entropy_bits == pytest.approx(1.0, abs=0.01)
    # Two levels at +-1 read with variance 1/mu: Q(sqrt(mu)).
    assert layer.error_rate == pytest.approx(0.5 * math.erfc(2.0 / math.sqrt(2.0)), rel=0.01)


def test_levels_with_a_scale_of_their_own_in_each_row_are_found() -> None:
    scales = np.random.default_rng(5).uniform(0.3, 3.0, (60, 1)).astype(np.float32)
    weights = np.stack([rounded(row, 3) for row in normal()]) * scales
    (layer,) = look_at(of(weights), 100.0).layers
    assert layer.kind is WeightsKind.LEVELS_PER_ROW
    assert layer.levels == 7
    assert layer.exact


def test_the_error_rate_is_what_a_heterodyning_client_makes() -> None:
    """Nearest level by posterior, 300,000 weights: standard error of 0.05 is 0.0004."""
    network = of(rounded(normal(500, 600), 3))
    mean_photons = 8.0
    found = look_at(network, mean_photons)
    unit, read = heterodyne(network, mean_photons, seed=11)
    values, counts = np.unique(unit, return_counts=True)
    scores = np.stack(
        [
            np.log(count) - 0.5 * mean_photons * (read - value) ** 2
            for value, count in zip(values, counts, strict=True)
        ]
    )
    wrong = float(np.mean(values[np.argmax(scores, axis=0)] != unit))
    assert wrong == pytest.approx(found.error_rate, abs=0.0015)


def test_a_spike_at_zero_among_continuous_weights_is_found() -> None:
    """60 % exact zeros; 300,000 readings, decided by densities of a fresh drawing."""
    random = np.random.default_rng(2)
    weights = normal(500, 600) * (random.random((500, 600)) < 0.4)
    weights[0, 0] = 1.0
    network, mean_photons = of(weights.astype(np.float32)), 20.0
    (layer,) = look_at(network, mean_photons).layers
    assert layer.kind is WeightsKind.SPIKE
    assert layer.guess_error_rate == pytest.approx(0.4, abs=0.005)
    unit, read = heterodyne(network, mean_photons, seed=12)
    rest_variance = float(np.mean(unit[unit != 0.0] ** 2)) + 1 / mean_photons
    share = float(np.mean(unit == 0.0))
    spike = share * np.exp(-0.5 * read**2 * mean_photons) * math.sqrt(mean_photons)
    rest = (1 - share) * np.exp(-0.5 * read**2 / rest_variance) / math.sqrt(rest_variance)
    wrong = float(np.mean((spike > rest) != (unit == 0.0)))
    assert wrong == pytest.approx(layer.error_rate, abs=0.003)


def test_zero_rows_and_columns_that_are_not_sent_are_no_spike() -> None:
    first, second = normal(40, 90), normal(10, 40, seed=4)
    first[:, :30], second[:, 5:20] = 0.0, 0.0
    assert not look_at(of(first, second), 21.0).discrete


def test_weights_that_are_all_alike_are_one_level_that_tells_nothing() -> None:
    found = look_at(of(np.ones((10, 16), np.float32)), 20.0)
    assert (found.layers[0].levels, found.most_bits_per_real) == (1, 0.0)
    assert not found.told_apart


@pytest.mark.parametrize("mean_photons", [0.0, -1.0, math.nan, math.inf])
def test_light_that_cannot_be_is_refused(mean_photons: float) -> None:
    with pytest.raises(SettingError, match="mean_photons"):
        look_at(of(normal()), mean_photons)


def test_levels_told_apart_are_refused_unless_accepted() -> None:
    network = of(rounded(normal(), 3))
    bright = look_at(network, 30.0)
    with pytest.raises(SettingError, match="DO NOT HOLD") as refusal:
        require_not_told_apart(bright, accepted=False)
    assert "--accept-discrete-weights" in str(refusal.value)
    require_not_told_apart(bright, accepted=True)
    # At little light the levels run into each other; the figures fail to hold all the same.
    dim = look_at(network, 0.3)
    require_not_told_apart(dim, accepted=False)
    assert dim.discrete
    assert dim.error_rate > 0.5 * dim.guess_error_rate


def test_bounded_is_the_entropy_or_what_the_light_carries() -> None:
    network = of(np.sign(normal()))
    assert look_at(network, 50.0).most_bits_per_real == pytest.approx(1.0, abs=0.01)
    # h(2 mu + 1) = (mu + 1) log2(mu + 1) - mu log2 mu, half of it per quadrature.
    light = 0.5 * (1.1 * math.log2(1.1) - 0.1 * math.log2(0.1))
    assert look_at(network, 0.1).most_bits_per_real == pytest.approx(light, rel=1e-6)


@pytest.mark.parametrize("mean_photons", [0.5, 20.0])
def test_resent_guesses_of_gaussian_weights_leave_their_least_noise(mean_photons: float) -> None:
    """Variance 1 read with 1/mu leaves 1/(1 + mu); 300,000 weights know it to 0.3 %."""
    unit = unit_rms(normal(500, 600))
    expected = 2.0 * mean_photons / (1.0 + mean_photons)
    assert resend_noise(unit, mean_photons) == pytest.approx(expected, rel=0.01)


def test_resent_guesses_of_signs_leave_what_tanh_leaves() -> None:
    """E(w | x) = tanh(mu x) for signs; by plain drawing, 400,000 readings."""
    mean_photons = 3.0
    random = np.random.default_rng(4)
    signs = np.sign(random.standard_normal(400_000)).astype(np.float32)
    read = signs + random.standard_normal(400_000) / math.sqrt(mean_photons)
    drawn = 2.0 * mean_photons * float(np.mean((signs - np.tanh(mean_photons * read)) ** 2))
    assert resend_noise(signs, mean_photons) == pytest.approx(drawn, rel=0.02)
    assert resend_noise(signs, 60.0) < 1e-9


def test_dither_over_the_whole_cell_leaves_no_levels() -> None:
    random = np.random.default_rng(7)
    exact = rounded(normal(200, 300), 3)
    step = float(np.diff(np.unique(exact)).min())
    blurred = exact + np.float32(step) * random.uniform(-0.5, 0.5, exact.shape).astype(np.float32)
    assert not look_at(of(blurred), 21.0).discrete
    narrow = exact + np.float32(0.02 * step) * random.standard_normal(exact.shape, np.float32)
    (layer,) = look_at(of(narrow), 21.0).layers
    assert layer.kind is WeightsKind.LEVELS
    assert not layer.exact


def scales(shape: tuple[int, int], seed: int) -> Floats:
    return np.exp(0.5 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


SIGNS = np.sign(normal())
HIDDEN = {
    "columns have scales": (SIGNS * scales((1, 120), 1), WeightsKind.LEVELS_PER_COLUMN, 2),
    "rows and columns have scales": (
        SIGNS * scales((60, 1), 1) * scales((1, 120), 2), WeightsKind.LEVELS_SCALED, 2,
    ),
    "blocks of 32 have scales": (
        np.sign(normal(60, 1024)) * np.repeat(scales((60, 32), 1), 32, axis=1),
        WeightsKind.LEVELS_PER_BLOCK, 2,
    ),
    "blur fills the gap": (SIGNS + 0.3 * normal(seed=4), None, 2),
    "every tenth row has signs": (
        np.where(np.arange(60)[:, None] % 10 == 0, SIGNS, normal(seed=4)),
        WeightsKind.LEVELS_PER_ROW, 2,
    ),
    "half the columns have signs": (
        np.where(np.arange(120) % 2 == 0, SIGNS, normal(seed=4)), None, 2,
    ),
    "blocks of zeros and signs": (
        np.sign(np.trunc(normal(60, 1024))) * np.repeat(scales((60, 32), 1), 32, axis=1),
        WeightsKind.LEVELS_PER_BLOCK, 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("hidden", HIDDEN)
def test_levels_behind_scales_or_blur_are_found_and_refused(hidden: str) -> None:
    weights, kind, count = HIDDEN[hidden]
    found = look_at(of(normal(weights.shape[1], 60), weights.astype(np.float32)), 20.0)
    first, second = found.layers
    assert first.kind is WeightsKind.CONTINUOUS
    assert (kind is None or second.kind is kind, second.levels) == (True, count)
    with pytest.raises(SettingError, match="layer 2: "):
        require_not_told_apart(found, accepted=False)


def test_rows_of_two_classes_that_are_opposite_are_not_levels_behind_scales() -> None:
    random = np.random.default_rng(5)
    hidden, row = random.normal(size=(32, 30)), random.normal(size=(1, 32))
    layers = (hidden.astype(np.float32), np.concatenate([row, -row]).astype(np.float32))
    assert not look_at(Network(layers, "two classes", {}), 21.0).discrete


def test_many_levels_in_rows_with_scales_are_stated_though_no_light_tells_them() -> None:
    """Eight bits, as networks are stored: 255 levels of a row, which one query does not tell."""
    weights = np.round(32.0 * normal(20, 1000)) / 32.0 * scales((20, 1), 3)
    found = look_at(of(weights.astype(np.float32)), 20.0)
    assert (found.discrete, found.told_apart) == (True, False)


def test_a_decision_behind_scales_of_columns_errs_as_a_client_does() -> None:
    """It takes each column's scale from its own readings: 600 of them, 300,000 decisions."""
    mean_photons = 4.0
    weights = np.sign(normal(600, 500)) * scales((1, 500), 6)
    network = of(weights)
    (layer,) = look_at(network, mean_photons).layers
    unit, read = heterodyne(network, mean_photons, seed=12)
    scale = np.sqrt(np.maximum(np.mean(read**2, axis=0) - 1.0 / mean_photons, 1e-9))
    wrong = float(np.mean(scale * np.sign(read) * unit < 0.0))
    assert wrong == pytest.approx(layer.error_rate, abs=0.002)


@pytest.mark.parametrize("name", SHIPPED_NETWORKS)
def test_a_quick_look_finds_nothing_in_shipped_networks(name: str) -> None:
    assert not any(repeats(weights) for weights in carried(load_network(name)).network.layers)


@pytest.mark.parametrize("hidden", sorted(set(HIDDEN) - {"blur fills the gap"}))
def test_a_quick_look_finds_exact_levels(hidden: str) -> None:
    weights, kind, _ = HIDDEN[hidden]
    hard = kind is WeightsKind.LEVELS_SCALED or "every tenth" in hidden or "half" in hidden
    assert hard or repeats(weights.astype(np.float32))


def test_a_verdict_says_that_its_figures_do_not_hold_for_few_levels() -> None:
    images = np.ones((2, 60), np.float32)
    for weights, said in ((SIGNS[:, :60], "layer 1"), (normal(60, 60), None)):
        session = Session(of(weights, normal(10, 60)), HONEST, ModeLink(HONEST))
        list(session.run(images))
        told = session.verdict(figures=False).discrete_weights
        assert (said in (told or "")) if said else told is None
