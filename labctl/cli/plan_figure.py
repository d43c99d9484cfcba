"""The figure of a plan: leakage of the weights against leakage of the data, by accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labctl.cli.plan_report import setting_words
from labctl.drawing import new_figure, write_png
from labctl.protocols.leakage import Assumptions, WeightsFigure
from labctl.studies.planner.plan import Plan


def draw(path: Path, plan: Plan, assumptions: Assumptions, weights_figure: WeightsFigure) -> None:
    """Write a PNG: bits per weight against bits per datum, colour the accuracy.

    `weights_figure`: which figure of the weights the plan uses.
    """
    figure = new_figure(8.0, 5.8)
    from matplotlib import colormaps
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    axes = figure.subplots()
    levels = sorted({round(one.accuracy_lower, 6) for one in plan.front})
    # Dark to bright without the brightest, which paper swallows.
    colours = colormaps["viridis"]
    sizes = {one.option.block_modes for one in plan.front}
    for index, level in enumerate(levels):
        some = [one for one in plan.front if round(one.accuracy_lower, 6) == level]
        some.sort(key=lambda one: one.option.data_bits)
        axes.plot(
            [one.option.data_bits for one in some],
            [one.option.weights_bits for one in some],
            "osD^v"[index % 5] + ("-" if len(sizes) == 1 else ""),
            color=colours(0.85 * index / max(len(levels) - 1, 1)),
            markersize=4.0,
            linewidth=1.2,
            label=f"accuracy {level:.2%}",
        )
    _draw_limits(axes, plan)
    if plan.recommended is not None:
        option = plan.recommended.option
        axes.plot(
            option.data_bits,
            option.weights_bits,
            "*",
            markersize=17,
            color="gold",
            markeredgecolor="black",
            zorder=5,
            linestyle="none",
            label=f"recommended: {setting_words(option)}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 3.0, 5.0, 7.0)))
    axes.yaxis.set_minor_formatter(FormatStrFormatter("%g"))
    axes.set_xlabel("leakage to the server, bit per data symbol and input (journal)")
    axes.set_ylabel(f"leakage to the client, {weights_figure}: bit per real weight and query")
    axes.grid(visible=True, which="both", alpha=0.25)
    _label_axis(axes, plan)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    figure.supxlabel("\n".join(assumptions.sentences()[:3]), fontsize=7, color="dimgray")
    write_png(path, figure)


def _draw_limits(axes: Any, plan: Plan) -> None:
    limits = plan.wish.limits
    if limits.data_bits is not None:
        axes.axvline(limits.data_bits, color="firebrick", linestyle="--", linewidth=1.2)
    if limits.weights_bits is not None:
        axes.axhline(limits.weights_bits, color="firebrick", linestyle="--", linewidth=1.2)
    if limits.data_bits is not None or limits.weights_bits is not None:
        axes.plot([], [], color="firebrick", linestyle="--", label="limits")


def _label_axis(axes: Any, plan: Plan) -> None:
    """Write the success of label reading along the top: like the data bits, it goes with G."""
    import numpy as np

    pairs = sorted(
        (one.option.data_bits, one.label_success)
        for one in plan.front
        if one.label_success is not None
    )
    if len(pairs) < 2:
        return
    bits, success = zip(*pairs, strict=True)
    low, high = axes.get_xlim()
    ticks = np.geomspace(max(low, bits[0]), min(high, bits[-1]), 7)
    top = axes.secondary_xaxis("top")
    top.set_xticks(ticks, [f"{x:.0%}" for x in np.interp(ticks, bits, success)])
    top.tick_params(axis="x", which="minor", top=False)
    top.set_xlabel("success of label reading from one query (two standard errors added)")
