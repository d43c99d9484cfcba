"""The script on the API page is Python that makes both kinds of run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from labctl.run.request import BenchRun, ModeRun

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_runs_of_the_page_can_be_made() -> None:
    """All but the last line, which runs one."""
    text = PAGE.read_text(encoding="utf-8").split("## Runs with every option")[1]
    script = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert script is not None
    lines, last = script[1].rstrip().rsplit("\n", 1)
    assert last == "report = run_inference(at_mode_level)"
    made: dict[str, Any] = {}
    exec(lines, made)
    mode, bench = made["at_mode_level"], made["on_instruments"]
    assert isinstance(mode, ModeRun)
    assert isinstance(bench, BenchRun)
    assert (mode.settings.light.mean_photons, mode.settings.channel.loss_db) == (4.0, 0.5)
    assert bench.gain == 1.5
