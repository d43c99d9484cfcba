"""Figures: accuracy against leakage, ours beside the published points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.drawing import new_figure, write_png


@dataclass(frozen=True)
class Point:
    """One setting's outcome: accuracy (0 to 1) with its standard error, bits per real weight."""

    label: str
    accuracy: float
    accuracy_error: float
    weights_bits: float


# Sulimany et al., PRX 15, 041056 (2025): the abstract's claim, the journal version's setting, and
# two settings of the authors' analysis, their accuracy read off their measured points.
PUBLISHED = (
    Point("paper, abstract: 96 %, < 0.1 bit", 0.96, 0.0, 0.1),
    Point("paper, journal: 95 %, 0.1 bit", 0.95, 0.0, 0.1),
    Point("paper, μ = 4, G = 2", 0.97, 0.0, 0.0437),
    Point("paper, μ = 6, G = 1.3", 0.966, 0.0, 0.0325),
)
_LOWEST_ACCURACY = 0.86


@dataclass(frozen=True)
class Series:
    """Outcomes of one network over settings that differ in their leakage."""

    label: str
    points: Sequence[Point]


def accuracy_against_leakage(
    path: Path, curves: Sequence[Series], marked: Sequence[Point], note: str
) -> None:
    """Write a PNG of accuracy against bits per real weight (logarithmic), with published points.

    `curves` are drawn as lines, `marked` as labelled points, `note` says what the figures assume.
    """
    figure = new_figure(8.0, 5.2)
    from matplotlib.ticker import PercentFormatter

    axes = figure.subplots()
    for curve, colour in zip(curves, ("tab:blue", "tab:red", "tab:green"), strict=False):
        axes.plot(
            [point.weights_bits for point in curve.points],
            [point.accuracy for point in curve.points],
            "-",
            color=colour,
            linewidth=1.6,
            label=curve.label,
        )
    for point, marker in zip(marked, "osD^v", strict=False):
        axes.errorbar(
            point.weights_bits,
            point.accuracy,
            yerr=point.accuracy_error,
            marker=marker,
            markersize=8,
            color="black",
            markerfacecolor="gold",
            linestyle="none",
            capsize=3,
            label=point.label,
        )
    for point, marker in zip(PUBLISHED, "*PXp", strict=True):
        axes.plot(
            point.weights_bits,
            point.accuracy,
            marker=marker,
            markersize=10,
            color="dimgray",
            linestyle="none",
            label=point.label,
        )
    axes.set_xscale("log")
    axes.set_ylim(_LOWEST_ACCURACY, 1.0)
    axes.set_xlabel("leakage to the client at most (prior-free), bit per real weight and query")
    axes.set_ylabel("accuracy on MNIST")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(loc="lower right", fontsize=8)
    figure.supxlabel(note, fontsize=7, color="dimgray")
    write_png(path, figure)
