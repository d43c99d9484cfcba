"""Figures are drawn to files under any MPLBACKEND, and the variable is left as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.drawing import new_figure, write_png
from labctl.errors import UsageError

SCRIPT = """
import os, sys
from labctl.drawing import new_figure
figure = new_figure(2.0, 1.0)
figure.subplots().plot([0, 1], [1, 0])
figure.savefig(sys.argv[1])
print(os.environ.get("MPLBACKEND"))
"""


@pytest.mark.parametrize(
    "backend", [None, "agg", "Qt4Agg", "module://matplotlib_inline.backend_inline"]
)
def test_a_figure_is_drawn_whatever_the_backend(backend: str | None, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    if backend is not None:
        environment["MPLBACKEND"] = backend
    path = tmp_path / "figure.png"
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert path.read_bytes().startswith(b"\x89PNG")
    assert result.stdout.strip() == str(backend)


def test_a_figure_that_cannot_be_written_is_an_error_in_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be written \(Is a directory\)"):
        write_png(tmp_path, new_figure(1.0, 1.0))
