"""What cannot be is refused at the start, alike by all commands, with what would be valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import labctl
from labctl.errors import SettingError


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["plan", "--accuracy", "0.96", "--decoys", "10"], "decoys = 10: must be 0 to 9, one per"),
        (["copies", "show", "--decoys", "255"], "decoys = 255: must be 0 to 9, one per class"),
        (
            ["leakage", "--mu", "1", "--gain", "2", "--model", "reference", "--rows", "3"],
            "rows = 3: must be left out with a model",
        ),
        (
            ["leakage", "--mu", "1", "--gain", "2", "--model", "reference", "--modes", "10"],
            "modes = 10: must be left out with a model",
        ),
        (["infer", "--mu", "1e-300", "--images", "1"], "--mu = 1e-300: must be 1e-12 to"),
        (["infer", "--station", "x.toml"], "--station = 'x.toml'"),
        (["ledger", "client-key", "nosuch/dir/a.pem"], "client key = 'nosuch/dir/a.pem': must be"),
        (
            ["ledger", "set-budget", "--client", "alice", "--model", "few-rows",
             "--copy-accuracy", "0.9"],
            "no copy of 'few-rows' was measured",
        ),
    ],
)  # fmt: skip
def test_it_is_one_line_and_nothing_is_left(
    arguments: list[str], complaint: str, refused: Callable[..., str]
) -> None:
    assert complaint in refused(*arguments)
    assert not any(Path().rglob("*.h5"))


@pytest.mark.parametrize("name", ["queries", "rows", "modes"])
def test_counts_are_whole_numbers(name: str) -> None:
    half: dict[str, Any] = {name: 1.5}
    with pytest.raises(SettingError, match=rf"{name} = 1\.5: must be a whole number"):
        labctl.leakage(model=None, **half)


def test_images_are_counted_in_whole_numbers() -> None:
    half: Any = 1.5
    with pytest.raises(SettingError, match=r"images = 1\.5: must be a whole number"):
        labctl.infer(half)


def test_a_shape_is_left_out_where_a_network_has_its_own() -> None:
    with pytest.raises(SettingError, match="rows = 3: must be left out with a model"):
        labctl.leakage(rows=3)
    assert labctl.leakage(model=None, modes=10, rows=3).first.modes == 10
