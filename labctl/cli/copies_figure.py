"""Figure of copies: accuracy against queries, one line per thief, classes alone as the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labctl.drawing import new_figure, write_png
from labctl.studies.attacks.copies.classes_alone import ClassesAlone
from labctl.studies.attacks.copies.copy_curve import CopyCurvePoint

_MARKERS = "osD^vPX"


def draw_copies(path: Path, found: Mapping[str, tuple[CopyCurvePoint, ...]], title: str) -> None:
    """Write a PNG; open symbols are points at which the server rejected every session."""
    figure = new_figure(7.5, 5.0)
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    axes = figure.subplots()
    for place, (name, points) in enumerate(found.items()):
        baseline = name == ClassesAlone.name
        queries = [point.queries for point in points]
        drawn = axes.errorbar(
            queries,
            [point.best for point in points],
            yerr=[point.standard_error for point in points],
            color="black" if baseline else f"C{place}",
            linestyle="--" if baseline else "-",
            linewidth=2.2 if baseline else 1.3,
            marker=_MARKERS[place % len(_MARKERS)],
            markersize=5,
            capsize=2.5,
            label=f"{name} (any service)" if baseline else name,
        )
        rejected = [point for point in points if not point.accepted]
        axes.plot(
            [point.queries for point in rejected],
            [point.best for point in rejected],
            linestyle="none",
            marker=_MARKERS[place % len(_MARKERS)],
            markersize=9,
            markerfacecolor="white",
            markeredgecolor=drawn[0].get_color(),
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("queries")
    axes.set_ylabel("images that the copy classifies correctly")
    axes.set_title(title, fontsize=9)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    write_png(path, figure)
