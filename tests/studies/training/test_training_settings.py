"""Settings say what they are and refuse what cannot be; recipes are those of shipped networks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from labctl.data.models import SHIPPED_NETWORKS
from labctl.errors import SettingError
from labctl.studies.training.channel import TrainingChannel
from labctl.studies.training.pruning import Pruning
from labctl.studies.training.settings import RECIPES, TrainingSettings

SMALL = TrainingSettings(sizes=(784, 32, 10), epochs=3, batch_size=50, signal_to_noise=1.0)

WRONG: list[tuple[str, Any]] = [
    ("sizes", (784,)),
    ("sizes", (784, 0, 10)),
    ("sizes", (784, 1)),
    ("sizes", (784, 2.5, 10)),
    ("signal_to_noise", 0.0),
    ("signal_to_noise", math.nan),
    ("signal_to_noise", math.inf),
    ("signal_to_noise", (0.0, 1.0)),
    ("signal_to_noise", (1.0, 0.5)),
    ("signal_to_noise", (0.5, math.inf)),
    ("signal_to_noise", (0.5, math.nan)),
    ("signal_to_noise", (0.5,)),
    ("epochs", 0),
    ("epochs", 1.5),
    ("epochs", True),
    ("batch_size", 0),
    ("learning_rate", -1e-3),
    ("learning_rate", math.nan),
    ("initial_rms", 0.0),
    ("max_shift_px", -1.0),
    ("max_shift_px", 28.0),
    ("max_shift_px", math.nan),
    ("peak_limit", 1.0),
    ("peak_limit", math.inf),
    ("averaging", 1.0),
    ("averaging", -0.1),
    ("averaging", math.nan),
    ("held_out", 0.6),
    ("held_out", -0.1),
    ("held_out", math.nan),
    ("patience", 3),
    ("seed", -1),
    ("seed", 2**31),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_settings_out_of_range_are_refused(name: str, value: Any) -> None:
    change: dict[str, Any] = {name: value}
    with pytest.raises(SettingError, match=f"{name} = "):
        replace(SMALL, **change)


@pytest.mark.parametrize("patience", [0, 1.5, True])
def test_patience_is_a_number_of_epochs(patience: Any) -> None:
    with pytest.raises(SettingError, match="patience = "):
        replace(SMALL, held_out=0.1, patience=patience)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("technical_noise", -0.1),
        ("technical_noise", math.nan),
        ("technical_noise", math.inf),
        ("weight_bits", 1),
        ("weight_bits", 2.5),
        ("weight_bits", 33),
        ("value_bits", True),
        ("value_bits", 0),
        ("value_range", 0.0),
        ("value_range", math.nan),
    ],
)
def test_a_channel_out_of_range_is_refused(name: str, value: Any) -> None:
    change: dict[str, Any] = {name: value}
    with pytest.raises(SettingError, match=f"{name} = "):
        TrainingChannel(**change)


def test_pictures_that_are_not_square_cannot_be_moved() -> None:
    with pytest.raises(SettingError, match="max_shift_px"):
        TrainingSettings(sizes=(783, 10), max_shift_px=1.0)


def test_the_working_point_is_the_middle_in_decibels() -> None:
    assert replace(SMALL, signal_to_noise=0.3).working_point == 0.3
    assert replace(SMALL, signal_to_noise=(0.1, 0.4)).working_point == pytest.approx(0.2)
    assert replace(SMALL, signal_to_noise=None).working_point == math.inf


def test_few_steps_shorten_the_running_mean() -> None:
    recipe = replace(SMALL, epochs=20, batch_size=50, averaging=0.999)
    # 20 passes of 100 batches: a fortieth of 2,000 steps is 50.
    assert recipe.with_short_average(5_000).averaging == pytest.approx(1 - 1 / 50)
    assert recipe.with_short_average(500_000).averaging == 0.999
    assert recipe.with_short_average(50).averaging == 0.0


def test_settings_are_told_as_json() -> None:
    told = json.loads(replace(SMALL, channel=TrainingChannel(weight_bits=6)).as_json())
    assert told["sizes"] == [784, 32, 10]
    assert told["channel"]["weight_bits"] == 6


def test_settings_added_later_are_told_only_where_they_are_used() -> None:
    assert "pruning" not in json.loads(SMALL.as_json())
    cut = replace(SMALL, pruning=Pruning("noise-aware", inputs=458))
    assert json.loads(cut.as_json())["pruning"] == {"network": "noise-aware", "inputs": 458}


def test_every_recipe_makes_a_shipped_network() -> None:
    assert set(RECIPES) == set(SHIPPED_NETWORKS)
    assert {(recipe.sizes[0], recipe.sizes[-1]) for recipe in RECIPES.values()} == {(784, 10)}
    assert RECIPES["reference"].signal_to_noise is None
    assert RECIPES["reference"].sizes == RECIPES["noise-aware"].sizes == (784, 784, 10)


def test_recipes_are_not_changed_by_the_number_of_training_images() -> None:
    assert all(recipe.with_short_average(60_000) == recipe for recipe in RECIPES.values())
