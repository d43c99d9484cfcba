"""Figures of detection curves: counted sessions over the theoretical power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labctl.drawing import new_figure, write_png
from labctl.studies.attacks.detection import DetectionTheory
from labctl.studies.attacks.detection_curve import DetectionCurve, DetectionPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("tab:blue", "tab:red", "tab:green", "tab:purple")
_MARKERS = ("o", "s", "^", "D")
_LINES = ("-", "--", "-.", ":")
# Points of a curve.
_GRID = 90
# Choices of modes over which the theory's power is averaged, where it depends on them.
_SEEDS = 12
# Panels side by side.
_ACROSS = 3


@dataclass(frozen=True)
class PlotPanel:
    """One curve with the theory that it is compared with."""

    title: str
    curve: DetectionCurve
    theory: DetectionTheory


def draw_curves(path: Path, panels: Sequence[PlotPanel], note: str) -> None:
    """Write a PNG: probability of detection against pooled modes, a panel for each curve."""
    across = min(len(panels), _ACROSS)
    down = math.ceil(len(panels) / across)
    size = (8.0, 5.2) if len(panels) == 1 else (4.2 * across, 3.1 * down + 0.5)
    figure = new_figure(*size)
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, panel)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("sessions caught", fontsize=9)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8)
    figure.supxlabel(note, fontsize=7, color="dimgray")
    write_png(path, figure)


def _draw(axes: Axes, panel: PlotPanel) -> None:
    from matplotlib.ticker import PercentFormatter

    points = panel.curve.points
    alarms = list(dict.fromkeys(point.false_alarm_probability for point in points))
    modes = [point.modes for point in points]
    grid = _pools(panel.theory, min(modes) / 1.6, max(modes) * 1.6)
    seeds = range(panel.curve.settings.seed, panel.curve.settings.seed + _SEEDS)
    for number, alarm in enumerate(alarms):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        power = [panel.theory.mean_power(each, alarm, seeds) for each in grid]
        style = _LINES[number % len(_LINES)]
        axes.plot(grid, power, style, color=colour, linewidth=1.4, label=f"theory, {alarm:g}")
        _bars(axes, panel.curve.at(alarm), colour, marker, f"pooled checks, {alarm:g}")
        axes.plot(
            [point.modes for point in panel.curve.at(alarm)],
            [point.verdict.measured for point in panel.curve.at(alarm)],
            linestyle="none",
            marker="x",
            color=colour,
            markersize=8,
            alpha=0.75,
            label=f"all checks, {alarm:g}",
        )
    axes.set_xscale("log")
    axes.set_ylim(-0.04, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.tick_params(labelsize=8)
    axes.set_xlabel("pooled modes", fontsize=9)
    axes.set_title(panel.title, fontsize=9)
    axes.grid(visible=True, which="major", alpha=0.3)


def _pools(theory: DetectionTheory, least: float, most: float) -> list[int]:
    """Return numbers of modes for a smooth line: whole images, if each of them changes the mark."""
    pools = {max(int(each), 2) for each in np.geomspace(least, most, _GRID)}
    if not theory.mark_changes:
        return sorted(pools)
    per_image = theory.honesty.modes
    return sorted({p if p < per_image else round(p / per_image) * per_image for p in pools})


def _bars(
    axes: Axes, points: Sequence[DetectionPoint], colour: str, marker: str, label: str
) -> None:
    rates = [point.pooled for point in points]
    axes.errorbar(
        [point.modes for point in points],
        [rate.measured for rate in rates],
        yerr=[
            [rate.measured - rate.lower for rate in rates],
            [rate.upper - rate.measured for rate in rates],
        ],
        fmt=marker,
        color=colour,
        markerfacecolor="white",
        markersize=5,
        capsize=2.5,
        linewidth=1.0,
        label=label,
    )
