"""`labctl infer` says what decoys protect and cost, and takes three where asked to hide."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Result = subprocess.CompletedProcess[str]
QUICK = ("infer", "--images", "4", "--sample", "measured", "--mu", "8.91", "--gain", "1.0128")


def found_by(run_here: Callable[..., Result], *options: str) -> dict[str, Any]:
    result = run_here(*QUICK, *options, "--json")
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def words_of(result: Result) -> str:
    """Return what was printed without the table's lines."""
    return " ".join(result.stdout.split())


def test_a_plain_run_says_what_three_decoys_would_bring_and_cost(
    run_here: Callable[..., Result],
) -> None:
    plain = found_by(run_here)
    hidden = found_by(run_here, "--decoys", "3")
    assert (plain["decoys"], plain["label_cap"]) == (0, None)
    offer, price = plain["decoys_price"], hidden["decoys_price"]
    for figures in (offer, price):
        assert figures["weights_bits_per_real"] < figures["weights_bits_network"]
        assert figures["weights_bits_network"] <= figures["weights_bits_prior_free"]
    assert offer["decoys"] == price["decoys"] == 3
    # What is offered is what a run with them has; 4 g/n in place of g/n.
    for name in ("weights_bits_per_real", "weights_bits_prior_free"):
        assert offer[name] == price[name] == hidden["leakage"][name]
        assert offer[name] > plain["leakage"][name]
    assert offer["weights_bits_per_real"] == pytest.approx(0.0126, abs=5e-5)
    # The cap that is offered is no better than the one in force.
    assert hidden["label_cap"] == price["label_cap"]
    assert 0.25 < price["label_cap"] <= offer["label_cap"] < 0.28


def _idx(path: Path, values: NDArray[np.uint8]) -> None:
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(head + values.tobytes())


def _pictures(folder: Path, labels: Sequence[int], side: int = 28, light: int = 200) -> None:
    folder.mkdir()
    _idx(folder / "t10k-labels.idx1-ubyte", np.array(labels, np.uint8))
    images = np.full((len(labels), side, side), light, np.uint8)
    _idx(folder / "t10k-images.idx3-ubyte", images)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "no such folder, nor a task"),
        ("empty", "no images file; must hold one of"),
        ("small", "must be pictures of 784 values, as the network has inputs; these have 64"),
        ("dark", "must be pictures that all show something; 80 of 80 are dark"),
        ("alike", "must be pictures of 4 classes or more, 8 or more of each; there are 1 classes"),
        ("few", "must be pictures of 4 classes or more, 8 or more of each; there are 10 classes"),
    ],
)
def test_pictures_that_cannot_be_decoys_are_refused_by_the_options_name(
    name: str, said: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    tens = [*range(10)]
    _pictures(tmp_path / "small", 8 * tens, side=8)
    _pictures(tmp_path / "dark", 8 * tens, light=0)
    _pictures(tmp_path / "alike", [3] * 80)
    _pictures(tmp_path / "few", [label for label in tens for _ in range(4)])
    line = refused(*QUICK, "--decoys", "3", "--decoy-images", str(tmp_path / name))
    assert f"--decoy-images = '{tmp_path / name}': " in line
    assert said in line


def test_decoy_images_alone_mean_three_decoys(run_here: Callable[..., Result]) -> None:
    assert found_by(run_here, "--decoy-images", "mnist")["decoys"] == 3
    public = found_by(run_here, "--decoy-images", "mnist", "--return-modes", "20")
    assert (public["decoys"], public["decoys_price"]) == (0, None)
    refused = run_here(*QUICK, "--decoys", "0", "--decoy-images", "mnist")
    assert refused.returncode == 2
    assert "--decoy-images" in refused.stderr


def test_people_see_both_figures_side_by_side(run_here: Callable[..., Result]) -> None:
    plain = words_of(run_here(*QUICK))
    assert "label, with decoys" in plain
    assert "--decoys 3 keeps any reader to 27.4% of labels" in plain
    hidden = words_of(run_here(*QUICK, "--decoys", "3"))
    assert "any reader names at most" in hidden
    assert re.search(r"weights then 0\.37\d* bit .* 0\.012\d* honest", hidden)
