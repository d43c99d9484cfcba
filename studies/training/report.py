"""A training run for people: curves, accuracy against F and confusions, as HTML, PNG or JSON."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.data.models import Network
from labctl.drawing import new_figure
from labctl.errors import SettingError, UsageError
from labctl.shares import share_in_words
from labctl.studies.training.evaluation import MeasuredAccuracy
from labctl.studies.training.loop import EpochReport
from labctl.studies.training.settings import TrainingSettings
from labctl.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPORT_SUFFIXES = (".html", ".png", ".json")
# Numbers of more classes do not fit into the figure's cells.
_MOST_NUMBERED_CLASSES = 20


@dataclass(frozen=True, eq=False)
class TrainingReport:
    """What a run did and what its network reaches.

    measured_on: which images the accuracies are of, in words. confusion: (classes, classes) counts
    by true class (row) and class read (column), at confusion_signal_to_noise.
    """

    network: Network
    settings: TrainingSettings
    epochs: Sequence[EpochReport]
    measured_on: str
    accuracies: Sequence[MeasuredAccuracy]
    confusion: NDArray[np.int64]
    confusion_signal_to_noise: float
    class_names: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values; F without noise is null."""
        return {
            "network": self.network.name,
            "sha256": self.network.sha256,
            "sizes": list(self.network.sizes),
            "provenance": dict(self.network.provenance),
            "settings": asdict(self.settings),
            "epochs": [asdict(report) for report in self.epochs],
            "measured_on": self.measured_on,
            "accuracies": [
                {**asdict(point), "signal_to_noise": _finite(point.signal_to_noise)}
                for point in self.accuracies
            ],
            "confusion": self.confusion.tolist(),
            "confusion_signal_to_noise": _finite(self.confusion_signal_to_noise),
            "class_names": list(self.names),
            "seconds": self.seconds,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, by default their numbers."""
        given = self.class_names
        return tuple(
            given[index] if index < len(given) else str(index)
            for index in range(len(self.confusion))
        )


def check_report_path(path: Path) -> None:
    """Raise SettingError or UsageError where a report could not be written to `path`."""
    if path.suffix not in REPORT_SUFFIXES:
        raise SettingError("report", str(path), f"a path that ends with {_listed()}")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder; must be there to write into")


def write_report(path: Path, report: TrainingReport) -> None:
    """Write the report in the format that the path's ending names; replaces an earlier one.

    Raises SettingError for another ending, UsageError where it cannot be written.
    """
    check_report_path(path)
    if path.suffix == ".png":
        content = _figure_png(report)
    elif path.suffix == ".json":
        content = (json.dumps(report.as_json(), allow_nan=False, indent=1) + "\n").encode()
    else:
        content = _page(report).encode()
    try:
        with whole_file(path) as part:
            part.write_bytes(content)
    except OSError as problem:
        raise UsageError(f"{path}: cannot be written ({problem.strerror})") from problem


def _listed() -> str:
    return ", ".join(REPORT_SUFFIXES[:-1]) + f" or {REPORT_SUFFIXES[-1]}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _figure_png(report: TrainingReport) -> bytes:
    figure = new_figure(11.0, 8.6)
    axes = figure.subplots(2, 2)
    figure.suptitle(
        f"{report.network.name}: {' - '.join(map(str, report.network.sizes))}, "
        f"{_trained_at(report.settings)}"
    )
    _draw_loss(axes[0, 0], report)
    _draw_accuracy(axes[0, 1], report)
    _draw_against_noise(axes[1, 0], report)
    _draw_confusion(figure, axes[1, 1], report)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, format="png")
    return buffer.getvalue()


def _trained_at(settings: TrainingSettings) -> str:
    low, high = settings.signal_to_noise_range
    if low == math.inf:
        return "trained without noise"
    return f"trained at F = {low:g}" if low == high else f"trained at F = {low:g} to {high:g}"


def _draw_loss(axes: Axes, report: TrainingReport) -> None:
    at = [epoch.epoch for epoch in report.epochs]
    axes.plot(at, [epoch.loss for epoch in report.epochs], color="tab:blue", label="learned from")
    held_out = [epoch.held_out_loss for epoch in report.epochs]
    if None not in held_out:
        axes.plot(at, np.array(held_out, float), color="tab:red", label="held out")
    axes.set_yscale("log")
    axes.set_ylabel("cross-entropy / nats")
    _finish_curves(axes, report)


def _draw_accuracy(axes: Axes, report: TrainingReport) -> None:
    at = [epoch.epoch for epoch in report.epochs]
    axes.plot(
        at,
        [100 * epoch.accuracy for epoch in report.epochs],
        color="tab:blue",
        label="learned from",
    )
    held_out = [epoch.held_out_accuracy for epoch in report.epochs]
    if None not in held_out:
        axes.plot(at, 100 * np.array(held_out, float), color="tab:red", label="held out")
    axes.set_ylabel("accuracy / %")
    _finish_curves(axes, report)


def _finish_curves(axes: Axes, report: TrainingReport) -> None:
    kept = max((epoch.epoch for epoch in report.epochs if epoch.best), default=0)
    if kept != len(report.epochs):
        axes.axvline(kept, color="black", linestyle=":", label=f"kept: epoch {kept}")
    axes.set_xlabel("epoch")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=9)


def _draw_against_noise(axes: Axes, report: TrainingReport) -> None:
    noisy = [point for point in report.accuracies if point.signal_to_noise < math.inf]
    axes.errorbar(
        [point.signal_to_noise for point in noisy],
        [100 * point.accuracy for point in noisy],
        yerr=[100 * point.standard_error for point in noisy],
        marker="o",
        capsize=3,
        color="tab:blue",
        label="measured, ± 1 standard error",
    )
    for point in report.accuracies:
        if point.signal_to_noise == math.inf:
            axes.axhline(100 * point.accuracy, color="black", linestyle="--", label="without noise")
    low, high = report.settings.signal_to_noise_range
    if high < math.inf:
        axes.axvspan(low / 1.03, high * 1.03, color="gold", alpha=0.3, label="trained at")
    axes.set_xscale("log")
    axes.set_xticks([point.signal_to_noise for point in noisy], minor=False)
    axes.set_xticklabels([f"{point.signal_to_noise:g}" for point in noisy])
    axes.minorticks_off()
    axes.set_xlabel("signal-to-noise F of one inner product")
    axes.set_ylabel("accuracy / %")
    axes.set_title(report.measured_on, fontsize=9)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=9, loc="lower right")


def _draw_confusion(figure: Figure, axes: Axes, report: TrainingReport) -> None:
    counts = report.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0.0, vmax=1.0)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, label="share of the true class")
    ticks = [0.0, 0.01, 0.1, 0.5, 1.0]
    bar.set_ticks([math.sqrt(tick) for tick in ticks], labels=[f"{tick:g}" for tick in ticks])
    if len(counts) <= _MOST_NUMBERED_CLASSES:
        axes.set_xticks(range(len(counts)), labels=report.names, rotation=45, fontsize=8)
        axes.set_yticks(range(len(counts)), labels=report.names, fontsize=8)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.3 else "black"
                axes.text(
                    column, row, str(count), ha="center", va="center", fontsize=7, color=colour
                )
    axes.set_xlabel("class read by the client")
    axes.set_ylabel("true class")
    axes.set_title(f"counts of images at {_spoken(report.confusion_signal_to_noise)}", fontsize=9)


def _spoken(signal_to_noise: float) -> str:
    return "no noise" if signal_to_noise == math.inf else f"F = {signal_to_noise:g}"


def _page(report: TrainingReport) -> str:
    """Return one HTML page that needs no other file."""
    picture = base64.b64encode(_figure_png(report)).decode()
    title = html.escape(f"Training of {report.network.name}")
    facts = {
        "layer sizes": " - ".join(map(str, report.network.sizes)),
        "sha256 of the weights": report.network.sha256,
        "epochs done": report.network.provenance.get("epochs done", str(len(report.epochs))),
        "time": f"{report.seconds:.0f} s",
    }
    accuracies = [
        [
            _spoken(point.signal_to_noise),
            share_in_words(point.accuracy, point.images, 2),
            f"{point.lowest:.2%} to {point.highest:.2%}",
            f"{point.images} images, {point.seeds} noise seed{'s' if point.seeds > 1 else ''}",
        ]
        for point in report.accuracies
    ]
    head = ["signal-to-noise", "accuracy (interval of 95 %)", "over noise seeds", "measured on"]
    return "\n".join(
        (
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            _rows(facts),
            f'<p><img alt="curves and confusion matrix" src="data:image/png;base64,{picture}"></p>',
            f"<h2>Accuracy on {html.escape(report.measured_on)}</h2>",
            _table(head, accuracies),
            "<p>The standard error is that of one run on as many images drawn again.</p>",
            "<h2>Settings</h2>",
            _rows({name: str(value) for name, value in asdict(report.settings).items()}),
            "</body></html>\n",
        )
    )


_STYLE = (
    "body{font-family:sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.25em .6em;"
    "text-align:left;overflow-wrap:anywhere}img{max-width:100%}"
)


def _rows(values: Mapping[str, str]) -> str:
    return _table([], [[name, value] for name, value in values.items()])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table>{f'<tr>{top}</tr>' if head else ''}{body}</table>"
