"""Levels behind offsets of rows and columns are found, by their number; continuous weights pass."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.levels import Levels
from labctl.protocols.offset_levels import levels_behind_offsets
from labctl.protocols.scaled_levels import blurred_levels
from labctl.protocols.weight_distribution import WeightsKind
from labctl.protocols.weight_search import levels_of, look_at, require_not_told_apart

ROWS, COLUMNS, MU = 240, 400, 21.0


def normal(*shape: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def found_in(weights: Floats) -> Levels | None:
    return levels_behind_offsets(unit_rms(weights), levels_of, blurred_levels)


OFFSETS = 0.7 * normal(ROWS, 1, seed=1) + normal(1, COLUMNS, seed=2)
SIGNS = np.sign(normal(ROWS, COLUMNS, seed=3))
SEVEN = np.clip(np.round(2.0 * normal(ROWS, COLUMNS, seed=4)), -3.0, 3.0)
UNEVEN = normal(9, seed=5)[np.random.default_rng(6).integers(0, 9, (ROWS, COLUMNS))]


@pytest.mark.parametrize(("levels", "count"), [(SIGNS, 2), (SEVEN, 7), (UNEVEN, 9)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_exact_levels_are_counted(levels: Floats, count: int, dtype: type) -> None:
    found = found_in((levels + OFFSETS).astype(dtype).astype(np.float32))
    assert found is not None
    # A row whose offset is off by a step adds levels that are seldom.
    assert np.sort(found.shares)[-count:].sum() > 0.9
    assert len(found.values) >= count
    assert found.spread < 1e-2


def test_blurred_signs_are_found() -> None:
    found = found_in(SIGNS + OFFSETS + 0.2 * normal(ROWS, COLUMNS, seed=7))
    assert found is not None
    rms = float(np.sqrt(np.mean(np.square(SIGNS + OFFSETS))))
    assert np.diff(found.values) * rms == pytest.approx([2.0], rel=0.02)
    assert found.spread * rms == pytest.approx(0.2, rel=0.1)


def test_signs_behind_offsets_are_refused() -> None:
    found = look_at(Network((SIGNS + OFFSETS,), "signs", {}), MU)
    assert found.layers[0].kind is WeightsKind.LEVELS_OFFSET
    with pytest.raises(SettingError, match="2 levels behind offsets of rows and columns"):
        require_not_told_apart(found, accepted=False)


def test_the_error_rate_is_what_a_client_that_estimates_offsets_makes() -> None:
    """It takes offsets from means of its own readings; 96,000 decisions know 4 % to 0.07 %."""
    mean_photons = 8.0
    (layer,) = look_at(Network((SIGNS + OFFSETS,), "signs", {}), mean_photons).layers
    unit = unit_rms(SIGNS + OFFSETS)
    read = unit + normal(ROWS, COLUMNS, seed=8) / np.float32(np.sqrt(mean_photons))
    decided = np.zeros_like(read)
    for _ in range(4):
        # Means of rows and columns, then of what is left around the signs decided on.
        rest = read - decided
        means = rest.mean(axis=1, keepdims=True) + rest.mean(axis=0, keepdims=True) - rest.mean()
        size = float(np.std(unit - unit.mean(axis=1, keepdims=True) - unit.mean(axis=0)))
        decided = size * np.sign(read - means)
    wrong = float(np.mean(np.sign(decided) != SIGNS))
    assert wrong == pytest.approx(layer.error_rate, rel=0.1)


def ordinary(name: str) -> Floats:
    weights = normal(ROWS, COLUMNS, seed=9)
    if name == "half precision":
        return (weights + OFFSETS).astype(np.float16).astype(np.float32)
    if name == "dithered over the cell":
        cells = np.random.default_rng(10).uniform(-0.5, 0.5, weights.shape)
        return (np.round(weights) + cells + OFFSETS).astype(np.float32)
    if name == "few rows":
        return np.concatenate([weights[:9], -weights[:1]])
    return weights + OFFSETS


@pytest.mark.parametrize("name", ["normal", "half precision", "dithered over the cell", "few rows"])
def test_continuous_weights_have_no_levels_behind_offsets(name: str) -> None:
    assert found_in(ordinary(name)) is None
