"""Figure: what queries tell in disguise, and what hiding a label costs in weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labctl.drawing import new_figure, write_png
from labctl.studies.countermeasures.realignment import Repeats


def figure_of_effects(
    path: Path,
    repeats: Sequence[Repeats],
    hiding: Sequence[tuple[int, float, float]],
    note: str,
) -> None:
    """Write a PNG. `hiding`: decoys, honest bits per real weight, share of labels read."""
    figure = new_figure(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    queries = [one.queries for one in repeats]
    left.semilogx(queries, [one.plain for one in repeats], "o-", label="same order, averaged")
    left.semilogx(
        queries, [one.sorted for one in repeats], "s-", label="new order per query, sorted"
    )
    left.semilogx(
        queries, [one.magnitudes for one in repeats], "^-", label="new signs too: magnitudes"
    )
    left.set(
        xlabel="repeats of one input",
        ylabel="correlation with the neurons' values",
        ylim=(0.0, 1.02),
    )
    left.legend(loc="lower right")
    right.plot([bits for _, bits, _ in hiding], [share for *_, share in hiding], "o-", color="0.3")
    for decoys, bits, share in hiding:
        right.annotate(f"{decoys}", (bits, share), (5, 5), textcoords="offset points")
    right.set(
        xlabel="weights, honest closed form: bit per real weight and query",
        ylabel="labels read from one sending (heterodyne)",
        ylim=(0.0, 1.02),
        title="decoys cloned in addition to the input",
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(note, fontsize=9)
    write_png(path, figure, dpi=130)
