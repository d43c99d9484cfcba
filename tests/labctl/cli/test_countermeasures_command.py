"""`labctl countermeasures`: every countermeasure's effect at a setting, a quota, a figure."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]


def test_effects_as_json_and_a_figure(run_here: Callable[..., Result], tmp_path: Path) -> None:
    result = run_here(
        "countermeasures", "--images", "20", "--json", "--figure", str(tmp_path / "seen.png")
    )
    assert result.returncode == 0
    found = json.loads(result.stdout)
    effects = {(one["countermeasure"], one["figure"]): one for one in found["effects"]}
    repeats = effects["permutation", "correlation with one input's values, 1000 repeats"]
    assert repeats["without"] > 0.99
    assert repeats["with_it"] < 0.6
    # Splitting, blocks and decoys: each figure of weights in bits says which of the three it is.
    of_weights = [figure for _, figure in effects if "bit per weight" in figure]
    assert of_weights == ["bit per weight (honest)"] * 3
    bits = effects["1 decoy", "bit per weight (honest)"]
    assert bits["without"] == pytest.approx(0.0039, abs=5e-5)
    assert bits["without"] < bits["with_it"] < 2 * bits["without"]
    ratio = effects["10 sends of mu/10", "F"]
    assert ratio["without"] == pytest.approx(ratio["with_it"])
    phases = effects["phase per row", "labels read at delta -0.5% (homodyne)"]
    # 20 images: standard errors of 0.11 at most, three of the difference.
    assert phases["with_it"] == pytest.approx(phases["without"], abs=0.48)
    assert ("dither of the gain", "labels read at delta -0.5% (homodyne)") in effects
    assert found["quota"]["queries"] == found["quota"]["by_bits"] == 255
    assert any("loss untrusted" in sentence for sentence in found["assumptions"])
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--images", "0"], "images"),
        (["--images", "9999"], "images"),
        (["--gain", "1"], "gain"),
        (["--mu", "0"], "--mu = "),
        (["--images", "1", "--correlation-limit", "1"], "correlation"),
        (["--images", "1", "--bits-limit", "0"], "--bits-limit = "),
        (["--seed", "-1"], "seed"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], complaint: str, refused: Callable[..., str]
) -> None:
    assert complaint in refused("countermeasures", *arguments)
