"""Results of an attack over queries, and their figure: bits beside what is printed; accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.drawing import new_figure, write_png
from labctl.run.report import finite
from labctl.studies.attacks.printed import PrintedFigures
from labctl.studies.attacks.queries import QueryPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PRINTED = {
    "honest_additive": ("printed: honest closed form, adding up", ":", "tab:gray"),
    "additive": ("printed: any prior, no memory", "--", "tab:blue"),
    "memory_unchecked": ("printed: any prior, memory, unchecked", "-.", "tab:red"),
    "collective_upper": ("printed: any prior, memory, as summed by weight", "--", "tab:orange"),
}


@dataclass(frozen=True)
class QueriesRow:
    """One count of queries: the result of its session, and what is printed for that count."""

    point: QueryPoint
    printed: PrintedFigures

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        learned, verdict = self.point.outcome.learned, self.point.outcome.verification
        return finite(
            {
                "queries": self.point.queries,
                "accepted": verdict.accepted,
                "failed": [check.name for check in verdict.failed],
                "excess_noise": verdict.excess_noise,
                "excess_noise_expected": verdict.excess_noise_expected,
                "excess_noise_error": verdict.excess_noise_standard_error,
                "weights_correlation": learned.weights_correlation,
                "weights_bits_per_real": learned.weights_bits_per_real,
                "weights_bits_network": learned.weights_bits_network,
                "weights_bits_discrete": learned.weights_bits_discrete,
                "weights_bits_holevo": learned.weights_bits_holevo,
                "weights_wrong": learned.weights_wrong,
                "copy_accuracy": learned.copy_accuracy,
                "remark": learned.remark,
                "printed": asdict(self.printed),
            }
        )


def draw_queries(path: Path, title: str, rows: Sequence[QueriesRow]) -> None:
    """Write a PNG: bits per weight and the copy's accuracy against queries, logarithmic."""
    figure = new_figure(10.0, 4.6)
    bits, copies = figure.subplots(1, 2)
    counts = [row.point.queries for row in rows]
    for field in fields(PrintedFigures):
        label, line, colour = _PRINTED[field.name]
        drawn = [getattr(row.printed, field.name) for row in rows]
        if None in drawn:
            continue
        bits.plot(counts, drawn, line, color=colour, linewidth=1.2, label=label)
    _points(bits, rows, "learned, network's own prior", "tab:green", _network_bits)
    _points(bits, rows, "learned, as if independent", "tab:olive", _independent_bits)
    bits.set_yscale("log")
    bits.set_ylabel("bits per weight", fontsize=9)
    _points(copies, rows, "stolen copy", "tab:purple", _accuracy)
    copies.set_ylabel("test images classified correctly, without noise", fontsize=9)
    copies.set_ylim(0.0, 1.0)
    for axes in (bits, copies):
        axes.set_xscale("log")
        axes.set_xticks(counts, labels=[str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("queries (filled: accepted; cross: rejected)", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(visible=True, which="major", alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    figure.suptitle(title, fontsize=9)
    write_png(path, figure)


def _points(
    axes: Axes,
    rows: Sequence[QueriesRow],
    label: str,
    colour: str,
    value: Callable[[QueriesRow], float | None],
) -> None:
    """Draw a value against queries: dots where the session was accepted, crosses where not."""
    found = [(row, drawn) for row in rows if (drawn := value(row)) is not None]
    if not found:
        return
    counts, values = [row.point.queries for row, _ in found], [drawn for _, drawn in found]
    axes.plot(counts, values, "-", color=colour, linewidth=1.4, label=label)
    for caught, marker in ((False, "o"), (True, "x")):
        chosen = [i for i, (row, _) in enumerate(found) if row.point.outcome.caught is caught]
        axes.plot(
            [counts[i] for i in chosen],
            [values[i] for i in chosen],
            marker,
            color=colour,
            markersize=6 if marker == "o" else 9,
        )


def _network_bits(row: QueriesRow) -> float | None:
    return row.point.outcome.learned.weights_bits_network


def _independent_bits(row: QueriesRow) -> float | None:
    return row.point.outcome.learned.weights_bits_per_real


def _accuracy(row: QueriesRow) -> float | None:
    return row.point.outcome.learned.copy_accuracy
