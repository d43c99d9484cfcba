"""`labctl infer` says what decoys protect and cost, and takes three where asked to hide."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

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
    assert "--decoys 3 keeps any reader to 27% of labels" in plain
    hidden = words_of(run_here(*QUICK, "--decoys", "3"))
    assert "any reader names at most" in hidden
    assert re.search(r"weights then 0\.37\d* bit .* 0\.012\d* honest", hidden)
