"""What a sweep found: averages over repeats, a CSV table, a figure."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from labctl.drawing import new_figure, write_png
from labctl.errors import RunFileError, SettingError
from labctl.studies.sweep.results_file import ResultRecord
from labctl.studies.sweep.sweep_file import Sweep
from labctl.studies.sweep.task import Scalar
from labctl.whole_file import whole_file

# More cannot be distinguished in one figure.
MOST_CURVES = 12
# Axes over more than a decade and a half are read better on a logarithmic scale.
_LOG_FROM = 30.0


@dataclass(frozen=True)
class Average:
    """One setting's mean of a value over its repeats.

    `standard_error`: of the mean over two or more repeats by their scatter, of a single one as the
    task states it; None if it states none.
    """

    axes: Mapping[str, Scalar]
    repeats: int
    mean: float
    standard_error: float | None


def averages(sweep: Sweep, records: Mapping[str, ResultRecord], value: str) -> list[Average]:
    """Return a value's average at each setting that has numbers, in the sweep's order."""
    _require("value", value, sweep.task.values)
    groups: dict[tuple[Scalar, ...], list[Mapping[str, Scalar]]] = {}
    for point in sweep.points:
        record = records.get(point.key)
        if record is None or record.values is None:
            continue
        if isinstance(record.values.get(value), int | float):
            varied = tuple(point.settings[name] for name in sweep.axes)
            groups.setdefault(varied, []).append(record.values)
    return [
        _average(dict(zip(sweep.axes, varied, strict=True)), value, found)
        for varied, found in groups.items()
    ]


def _average(axes: Mapping[str, Scalar], value: str, found: list[Mapping[str, Scalar]]) -> Average:
    numbers = [float(one[value] or 0.0) for one in found]
    if len(numbers) > 1:
        return Average(axes, len(numbers), fmean(numbers), stdev(numbers) / math.sqrt(len(numbers)))
    stated = found[0].get(f"{value}_standard_error")
    known = float(stated) if isinstance(stated, int | float) else None
    return Average(axes, 1, numbers[0], known)


def write_csv(path: Path, sweep: Sweep, records: Mapping[str, ResultRecord]) -> None:
    """Write a row for each point that was run: axes, repeat, seed, values, error, fixed settings.

    Raises RunFileError.
    """
    fixed = [name for name in sweep.task.settings.model_fields if name not in sweep.axes]
    columns = [*sweep.axes, "repeat", "seed", *sweep.task.values, "error", "duration_s", *fixed]
    try:
        with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            for point in sweep.points:
                record = records.get(point.key)
                if record is not None:
                    own: dict[str, Scalar] = {
                        "repeat": point.repeat,
                        "seed": record.seed,
                        "error": record.error,
                        "duration_s": record.duration_s,
                    }
                    writer.writerow({**point.settings, **(record.values or {}), **own})
    except OSError as error:
        raise RunFileError(f"{path}: cannot be written ({error.strerror})") from error


@dataclass(frozen=True)
class SummaryFigure:
    """A figure to draw: PNG file, the axis along it, the value that it shows."""

    path: Path
    x: str
    y: str

    def check(self, sweep: Sweep) -> None:
        """Raise SettingError if the sweep has no such axis or value, or too many curves."""
        _require("--x", self.x, sweep.axes)
        _require("--y", self.y, sweep.task.values)
        curves = {self._curve(sweep, point.settings) for point in sweep.points}
        if len(curves) > MOST_CURVES:
            raise SettingError("--x", self.x, f"an axis that leaves at most {MOST_CURVES} curves")

    def _curve(self, sweep: Sweep, settings: Mapping[str, Scalar]) -> str:
        others = (name for name in sweep.axes if name != self.x)
        return ", ".join(f"{name} = {spoken(settings[name])}" for name in others)

    def _along(self, average: Average) -> float:
        """Return a point's place; names stay in the sweep's order."""
        value = average.axes[self.x]
        return float(value) if isinstance(value, int | float) else 0.0

    def draw(self, sweep: Sweep, records: Mapping[str, ResultRecord]) -> None:
        """Write the figure: a curve for each setting of the other axes. Raises RunFileError."""
        curves: dict[str, list[Average]] = {}
        for average in averages(sweep, records, self.y):
            curves.setdefault(self._curve(sweep, average.axes), []).append(average)
        for points in curves.values():
            points.sort(key=self._along)
        figure = new_figure(8.0, 5.2)
        axes = figure.subplots()
        for label, points in curves.items():
            axes.errorbar(
                [_drawn(point.axes[self.x]) for point in points],
                [point.mean for point in points],
                yerr=[point.standard_error or 0.0 for point in points],
                marker="o",
                markersize=4,
                linewidth=1.3,
                capsize=3,
                label=label or None,
            )
        axes.set_xscale(_scale(point.axes[self.x] for found in curves.values() for point in found))
        axes.set_yscale(_scale(point.mean for found in curves.values() for point in found))
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)
        axes.set_title(sweep.name)
        axes.grid(visible=True, which="both", alpha=0.25)
        if any(curves):
            axes.legend(fontsize=8)
        figure.supxlabel(_note(sweep), fontsize=7, color="dimgray")
        write_png(self.path, figure)


def spoken(value: Scalar) -> str:
    """Return a setting for people, numbers to six digits."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _drawn(value: Scalar) -> float | str:
    """Return a value as matplotlib places it: numbers on a scale, all else by name."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and value is not None else str(value)


def _note(sweep: Sweep) -> str:
    bars = (
        f"bars: standard error over {sweep.repeats} repeats"
        if sweep.repeats > 1
        else "bars: standard error as each point states it"
    )
    return "\n".join((bars if sweep.task.seeded else "closed form", *sweep.assumptions))


def _scale(values: Iterable[Scalar]) -> str:
    """Return log for positive numbers that span much, as a power or a leakage does."""
    found = list(values)
    numbers = [value for value in found if isinstance(value, int | float) and value > 0]
    wide = bool(numbers) and len(numbers) == len(found)
    return "log" if wide and max(numbers) > _LOG_FROM * min(numbers) else "linear"


def _require(name: str, given: str, valid: Iterable[str]) -> None:
    known = list(valid)
    if given in known:
        return
    near = difflib.get_close_matches(given, known, n=1)
    hint = f"one of {', '.join(known)}" if known else "left out: the sweep has no axes"
    raise SettingError(name, given, f"{near[0]!r}, or {hint}" if near else hint)
