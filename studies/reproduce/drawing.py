"""Figures for print: two panels over a page's width, readable without colour as with it."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labctl.drawing import load_matplotlib, new_figure
from labctl.studies.reproduce.figure import Axis, ColourMap, Origin, Panel, Reproduction, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "pdf", "svg")
# A figure as wide as a page's text.
_WIDTH_IN, _HEIGHT_IN, _DPI = 7.0, 4.1, 200
_LEGEND_LINE_IN = 0.16
# One network has its tags above its lines, one below; a third would have them in between.
_TAGGED_NETWORKS = 2
_FOOT_COLUMNS = 118
# Okabe and Ito's colours, which the common colour blindnesses keep apart.
_COLOURS = {
    Origin.THEIRS: ("#D55E00", "#B8860B", "#D55E00"),
    Origin.CORRECTED: ("#B8619A", "#8A2C6B"),
    Origin.OURS: ("#0072B2", "#009E73", "#000000", "#56B4E9"),
}
_LINES: dict[Origin, Sequence[Any]] = {
    Origin.THEIRS: ((0, (5, 2)), (0, (1, 1.5)), (0, (7, 1.5, 1, 1.5))),
    Origin.CORRECTED: ((0, (3, 1, 1, 1, 1, 1)), (0, (10, 3))),
    Origin.OURS: ("-", (0, (8, 1.5)), (0, (2, 1)), (0, (6, 1, 1, 1))),
}
_MARKERS = {
    Origin.THEIRS: ("s", "D", "*"),
    Origin.CORRECTED: ("P", "X"),
    Origin.OURS: ("o", "^", "v", "<"),
}
# What keys and places there are is typed differently from release to release of matplotlib.
_STYLE: Any = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.hashsalt": "labctl",
    "pdf.fonttype": 42,
}


def draw(reproduction: Reproduction, kind: str) -> bytes:
    """Return a figure as a file of that format (png, pdf or svg), its caption in its metadata."""
    load_matplotlib()
    from matplotlib import rc_context

    with rc_context(_STYLE):
        size = (_WIDTH_IN, _HEIGHT_IN + _LEGEND_LINE_IN * _lines_above(reproduction))
        panels = len(reproduction.panels)
        figure = new_figure(*size)
        grid = figure.subplots(1, panels)
        for letter, axes, panel in zip("ab", grid, reproduction.panels, strict=True):
            _draw_panel(axes, panel, letter)
        foot = "\n".join(textwrap.wrap(reproduction.footnote, _FOOT_COLUMNS))
        figure.supxlabel(foot, fontsize=8, x=0.02, ha="left")
        written = io.BytesIO()
        figure.savefig(written, format=kind, dpi=_DPI, metadata=_metadata(reproduction, kind))
    return written.getvalue()


def _lines_above(reproduction: Reproduction) -> int:
    """Return the lines of the longest legend above a panel."""
    return max(
        sum(bool(series.label) for series in panel.series) if panel.legend == "above" else 0
        for panel in reproduction.panels
    )


def _metadata(reproduction: Reproduction, kind: str) -> dict[str, Any]:
    """Return title and caption under the names of the format, without the time of writing."""
    if kind == "pdf":
        return {
            "Title": reproduction.title,
            "Subject": reproduction.caption,
            "CreationDate": None,
        }
    dates = {"Date": None} if kind == "svg" else {}
    return {"Title": reproduction.title, "Description": reproduction.caption, **dates}


def _draw_panel(axes: Axes, panel: Panel, letter: str) -> None:
    axes.set_title(f"({letter}) {panel.title}", loc="left")
    if panel.colours is not None:
        _draw_colours(axes, panel.colours)
    for series in panel.series:
        _draw_series(axes, series)
    _set_axis(axes, panel.x, "x")
    _set_axis(axes, panel.y, "y")
    for mark in panel.marks:
        axes.axvline(mark.x, color="0.45", linewidth=0.7, linestyle=(0, (2, 2)), zorder=0)
        axes.annotate(
            mark.text,
            (mark.x, mark.height),
            xycoords=("data", "axes fraction"),
            xytext=(-2, 2),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=8,
            color="0.3",
        )
    for row in panel.rows:
        axes.axhline(row.x, color="black", linewidth=0.9, linestyle=(0, (5, 2)))
        axes.annotate(
            row.text,
            (row.height, row.x),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=8,
        )
    axes.grid(visible=True, which="major", alpha=0.3, linewidth=0.5)
    _draw_legend(axes, panel.legend)


def _draw_colours(axes: Axes, colours: ColourMap) -> None:
    # Cividis keeps its order of brightness without colour, and for the colour-blind.
    shown = axes.pcolormesh(
        colours.x, colours.y, colours.values, cmap="cividis", shading="gouraud", rasterized=True
    )
    lines = axes.contour(
        colours.x, colours.y, colours.values, levels=colours.levels, colors="white", linewidths=0.8
    )
    axes.clabel(lines, fmt="%g", fontsize=8)
    bar = axes.figure.colorbar(shown, ax=axes, pad=0.02)
    bar.set_label(colours.label)


def _draw_legend(axes: Axes, where: str) -> None:
    if where == "none" or not axes.get_legend_handles_labels()[0]:
        return
    above = where == "above"
    corner: Any = "lower left" if above else where
    axes.legend(
        loc=corner,
        bbox_to_anchor=(0.0, 1.08) if above else None,
        borderaxespad=0.0 if above else 0.5,
        handlelength=3.2,
        framealpha=0.9,
        borderpad=0.3,
        labelspacing=0.25,
    )


def _draw_series(axes: Axes, series: Series) -> None:
    colour = _COLOURS[series.origin][series.variant]
    label = series.label or "_family"
    if series.points:
        filled = series.origin is Origin.OURS
        axes.errorbar(
            series.x,
            series.y,
            yerr=series.y_error or None,
            linestyle="none",
            marker=_MARKERS[series.origin][series.variant],
            markersize=4.5 if filled or series.variant < 2 else 8,
            markerfacecolor=colour if filled else "white",
            color=colour,
            elinewidth=0.8,
            zorder=4,
            label=label,
        )
        return
    line = _LINES[series.origin][series.variant]
    axes.plot(series.x, series.y, linestyle=line, color=colour, linewidth=1.4, label=label)
    crowded = series.origin is Origin.OURS and series.variant >= _TAGGED_NETWORKS
    if series.tag and not crowded:
        _draw_tag(axes, series, colour)


def _draw_tag(axes: Axes, series: Series, colour: str) -> None:
    """Write the tag at the line's upper or lower end."""
    choose = min if series.tag_below else max
    end = choose(range(len(series.y)), key=lambda index: series.y[index])
    axes.annotate(
        series.tag,
        (series.x[end], series.y[end]),
        xytext=(0, -2 if series.tag_below else 2),
        textcoords="offset points",
        fontsize=8,
        color=colour,
        ha="center",
        va="top" if series.tag_below else "bottom",
        rotation=90,
    )


def _set_axis(axes: Axes, axis: Axis, which: str) -> None:
    getattr(axes, f"set_{which}label")(axis.label)
    if axis.logarithmic:
        getattr(axes, f"set_{which}scale")("log")
    if axis.limits is not None and all(map(math.isfinite, axis.limits)):
        getattr(axes, f"set_{which}lim")(*axis.limits)
