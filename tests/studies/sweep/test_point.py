"""A point's key and seed depend on what it is, not on where it stands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.data.models import Network, save_network
from labctl.studies.sweep.code_version import code_version
from labctl.studies.sweep.point import Point, evaluate
from labctl.studies.sweep.sweep_file import Sweep

Read = Callable[[str], Sweep]
COINS = 'name = "coins"\ntask = "coin"\nseed = 1\nrepeats = {repeats}\n[axes]\nweight = {weights}\n'


def keys(sweep: Sweep) -> dict[object, str]:
    return {(point.settings["weight"], point.repeat): point.key for point in sweep.points}


def test_neither_order_nor_other_points_nor_repeats_change_a_point(swept: Read, coin: Any) -> None:
    few = keys(swept(COINS.format(repeats=1, weights=[1.0, 2.0])))
    many = keys(swept(COINS.format(repeats=3, weights=[3.0, 2.0, 0.5, 1.0])))
    assert len(set(many.values())) == 12
    assert {place: many[place] for place in few} == few


def test_an_axis_of_one_value_is_a_fixed_setting(swept: Read, coin: Any) -> None:
    text = 'name = "coins"\ntask = "coin"\nseed = 1\n[settings]\nweight = 2\n'
    assert swept(text).points[0].key == keys(swept(COINS.format(repeats=1, weights=[2.0])))[2.0, 0]


def test_the_sweeps_seed_and_every_setting_change_a_point(swept: Read, coin: Any) -> None:
    text = COINS.format(repeats=1, weights=[1.0])
    others = [
        text,
        text.replace("seed = 1", "seed = 2"),
        text.replace("[1.0]", "[1.5]"),
        text.replace("[axes]", '[settings]\nside = "tail"\n[axes]'),
    ]
    points = [swept(other).points[0] for other in others]
    assert len({point.key for point in points}) == len({point.seed for point in points}) == 4


def test_seeds_are_spread_over_53_bits() -> None:
    seeds = [Point("coin", {}, 0, 0, f"{index:032x}").seed for index in range(2000)]
    assert len(set(seeds)) == 2000
    assert max(seeds) < 2**53
    # 2000 uniform draws: the mean is within 5 standard errors of a half.
    assert abs(np.mean(seeds) / 2**53 - 0.5) < 5.0 / math.sqrt(12.0 * 2000)


def test_a_network_is_known_by_its_content(swept: Read, tmp_path: Path) -> None:
    def key_of(file: str, seed: int) -> str:
        layer = np.random.default_rng(seed).standard_normal((10, 784)).astype(np.float32)
        save_network(Network((layer,), "one", {}), tmp_path / file)
        text = f'name = "x"\ntask = "infer"\n[settings]\nimages = 2\nmodel = "{file}"\n'
        return swept(text).points[0].key

    first = key_of("a.safetensors", 1)
    assert key_of("b.safetensors", 1) == first
    assert key_of("c.safetensors", 2) != first


def test_a_point_gives_its_values_or_what_went_wrong(swept: Read, coin: Any) -> None:
    coin.broken.add(2.0)
    good, bad = swept(COINS.format(repeats=1, weights=[1.0, 2.0])).points
    outcome = evaluate(good, code_version())
    assert (outcome.key, outcome.error) == (good.key, None)
    assert outcome.values == {
        "toss": 1.0 + good.seed / 2**53,
        "toss_standard_error": 0.25,
        "fell": True,
    }
    assert evaluate(bad, code_version()).error == "unexpected ZeroDivisionError: on its edge"


def test_values_that_no_file_can_hold_are_a_failure(
    swept: Read, coin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = swept(COINS.format(repeats=1, weights=[1.0])).points[0]
    monkeypatch.setattr(coin, "run", lambda settings, seed: {"toss": math.nan})
    outcome = evaluate(point, code_version())
    assert outcome.values is None
    assert "not JSON compliant" in str(outcome.error)


def test_a_worker_with_other_code_or_other_files_says_so(swept: Read, coin: Any) -> None:
    point = swept(COINS.format(repeats=1, weights=[1.0])).points[0]
    other = evaluate(point, "labctl 9")
    assert other.values is None
    assert str(other.error).endswith(", the sweep labctl 9")
    moved = evaluate(replace(point, key="0" * 32), code_version())
    assert moved.error == "the worker reads other files than the sweep under the same names"
    assert coin.ran == []
