"""Figures that are drawn to files, under any backend that the environment names."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import UsageError
from labctl.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BACKEND = "MPLBACKEND"


def load_matplotlib() -> None:
    """Import matplotlib, also where MPLBACKEND names a backend that is not installed here.

    Notebooks set the variable for all their children, and matplotlib cannot be imported then. A
    backend that it knows stays chosen, for code that shows figures in this process.
    """
    if "matplotlib" in sys.modules:
        return
    named = os.environ.pop(_BACKEND, None)
    try:
        import matplotlib as mpl
    finally:
        if named is not None:
            os.environ[_BACKEND] = named
    if named:
        # What the import itself would have done; unknown names are of no use to files.
        with suppress(ValueError):
            mpl.rcParams["backend"] = named


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure of this size in inches, drawn without a window (Agg).

    It belongs to its caller alone, so that it need not be closed.
    """
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_png(path: Path, figure: Figure, *, dpi: int = 150) -> None:
    """Write a figure to a PNG file; raises UsageError where it cannot be written."""
    try:
        with whole_file(path) as part:
            figure.savefig(part, dpi=dpi, format="png")
    except OSError as problem:
        raise UsageError(f"{path}: cannot be written ({problem.strerror})") from problem
