"""Sweep files (TOML): what to run, fixed settings, axes, repeats; expanded to checked points."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from labctl.errors import LabctlError, SettingError, StationFileError
from labctl.studies.sweep.point import Point, point_of
from labctl.studies.sweep.task import Scalar, SweepTask
from labctl.studies.sweep.tasks import TASKS
from labctl.toml_file import place, read_toml, toml_text
from labctl.wording import plain_fault

# Three weeks at two seconds each; a slip beyond.
MOST_POINTS = 1_000_000
# Steps in decimals: 0.1 + 0.2 is written 0.3.
_DIGITS = 12
_SPOKEN = {"spoken": "with first, last and points"}
_Value = bool | int | float | str


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Range(_Table):
    """`points` values from `first` to `last`, both included, to 12 significant digits."""

    first: float
    last: float
    points: Annotated[int, Field(ge=2, le=MOST_POINTS)]
    spacing: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _has_logarithms(self) -> Range:
        if self.spacing == "log" and not (self.first > 0.0 and self.last > 0.0):
            raise PydanticCustomError("log", "log spacing needs first and last above 0")
        return self

    def values(self) -> list[_Value]:
        """Return the values; whole numbers as such."""
        return [_rounded(self._at(step / (self.points - 1))) for step in range(self.points)]

    def _at(self, share: float) -> float:
        if share == 1.0:
            return self.last
        if self.spacing == "log":
            ratio = math.log(self.last) - math.log(self.first)
            return self.first * math.exp(share * ratio)
        return self.first + share * (self.last - self.first)


def _setting(value: Any) -> _Value:
    """Return a setting's value; raises where TOML knows more than a setting may be."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("setting", "must be finite")
    if not isinstance(value, bool | int | float | str):
        raise PydanticCustomError("setting", "must be a number, a text, true or false")
    return value


def _axis(given: Any) -> list[_Value]:
    """Return the values of an axis, which are a list or a range."""
    if isinstance(given, list) and given:
        return [_setting(value) for value in given]
    if not isinstance(given, dict):
        raise PydanticCustomError("axis", "must be a list of values, or a range {spoken}", _SPOKEN)
    for key in given:
        if key not in Range.model_fields:
            wrong = {"key": repr(key), "hint": _hint(key, Range.model_fields)}
            raise PydanticCustomError("axis", "unknown key {key}; {hint}", wrong)
    try:
        return Range.model_validate(given).values()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(map(str, fault["loc"])) or "range"
        wrong = {"name": name, "problem": plain_fault(fault["msg"])}
        raise PydanticCustomError("axis", "{name}: {problem}", wrong) from error


class SweepFile(_Table):
    """A whole sweep file; `zip` names axes that advance together, all others multiply."""

    name: Annotated[str, Field(min_length=1)]
    task: str
    seed: Annotated[int, Field(ge=0)] = 0
    repeats: Annotated[int, Field(ge=1, le=MOST_POINTS)] = 1
    settings: dict[str, Annotated[Any, AfterValidator(_setting)]] = {}
    axes: dict[str, Annotated[Any, AfterValidator(_axis)]] = {}
    zip: list[str] = []


@dataclass(frozen=True)
class Sweep:
    """A sweep with all its points, repeats of one setting side by side.

    `axes`: names of the settings that vary. `text`: the file as it was read.
    """

    name: str
    task: SweepTask
    axes: tuple[str, ...]
    repeats: int
    points: tuple[Point, ...]
    assumptions: tuple[str, ...]
    text: str


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep file and every point of it.

    Raises StationFileError naming file, line and what is valid: also where a point's settings
    could not be run, two points are the same, or there are more than a million.
    """
    table = read_toml(path, SweepFile)
    if table.task not in TASKS:
        raise StationFileError(
            f"{place(path, 'task')}: task {table.task!r}; {_hint(table.task, TASKS)}"
        )
    task = TASKS[table.task]
    if table.repeats > 1 and not task.seeded:
        raise StationFileError(
            f"{place(path, 'repeats')}: repeats = {table.repeats}: must be 1, "
            f"{table.task} draws nothing"
        )
    axes = _axes(path, table, task)
    points: dict[str, Point] = {}
    assumptions: dict[str, None] = {}
    for settings in _combinations(path, table, axes):
        checked = _checked(path, table, task, settings)
        assumptions.update(dict.fromkeys(task.assumptions(checked)))
        for repeat in range(table.repeats):
            point = point_of(task, checked, repeat, table.seed)
            if point.key in points:
                varied = ", ".join(f"{name} = {settings[name]!r}" for name in axes)
                where = place(path, "axes", next(iter(axes)))
                raise StationFileError(f"{where}: the point {varied} is there twice")
            points[point.key] = point
    return Sweep(
        name=table.name,
        task=task,
        axes=tuple(axes),
        repeats=table.repeats,
        points=tuple(points.values()),
        assumptions=tuple(assumptions),
        text=toml_text(path),
    )


def _axes(path: Path, table: SweepFile, task: SweepTask) -> dict[str, list[_Value]]:
    """Return each axis' values, its name checked against the task's settings."""
    for part in ("settings", "axes"):
        for name in getattr(table, part):
            if name not in task.settings.model_fields:
                raise StationFileError(
                    f"{place(path, part, name)}: unknown setting {name!r} of {task.name}; "
                    f"{_hint(name, task.settings.model_fields)}"
                )
    for name in table.axes:
        if name in table.settings:
            raise StationFileError(
                f"{place(path, 'axes', name)}: {name} is an axis and a fixed setting; must be one"
            )
    return table.axes


def _combinations(
    path: Path, table: SweepFile, axes: Mapping[str, list[_Value]]
) -> Iterator[dict[str, _Value]]:
    """Yield the settings of every point, the last axis running fastest."""
    together = _zipped(path, table, axes)
    free = [[{name: value} for value in axes[name]] for name in axes if name not in table.zip]
    # The zipped axes have the place of the first of them.
    place_of_zip = next((k for k, name in enumerate(axes) if name in table.zip), None)
    if place_of_zip is not None:
        free.insert(place_of_zip, together)
    count = math.prod(len(choices) for choices in free) * table.repeats
    if count > MOST_POINTS:
        raise StationFileError(f"{path}: {count} points; must be at most {MOST_POINTS}")
    for choice in product(*free):
        varied = {name: value for part in choice for name, value in part.items()}
        yield {**table.settings, **{name: varied[name] for name in axes}}


def _zipped(
    path: Path, table: SweepFile, axes: Mapping[str, list[_Value]]
) -> list[dict[str, _Value]]:
    for name in table.zip:
        if name not in axes:
            raise StationFileError(
                f"{place(path, 'zip')}: {name!r} is no axis; {_hint(name, axes)}"
            )
    lengths = {name: len(axes[name]) for name in table.zip}
    if len(set(lengths.values())) > 1:
        spoken = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise StationFileError(f"{place(path, 'zip')}: axes must be equally long: {spoken}")
    rows = zip(*(axes[name] for name in table.zip), strict=True)
    return [dict(zip(table.zip, row, strict=True)) for row in rows]


def _checked(path: Path, table: SweepFile, task: SweepTask, settings: Mapping[str, Scalar]) -> Any:
    """Return one point's settings as the task's own, or say which line they fail at."""
    try:
        checked = task.resolved(task.settings.model_validate(dict(settings)), path.parent)
        task.check(checked)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = str(fault["loc"][0])
        if fault["type"] == "missing":
            where = place(path, "settings")
            raise StationFileError(
                f"{where}: setting {name!r} of {task.name} is missing"
            ) from error
        raise StationFileError(
            f"{_place_of(path, table, name)}: {name} = {fault['input']!r}: "
            f"{plain_fault(fault['msg'])}"
        ) from error
    except LabctlError as error:
        name = error.name if isinstance(error, SettingError) else ""
        raise StationFileError(f"{_place_of(path, table, name)}: {error}") from error
    return checked


def _place_of(path: Path, table: SweepFile, name: str) -> str:
    part = next((part for part in ("axes", "settings") if name in getattr(table, part)), None)
    return str(path) if part is None else place(path, part, name)


def _hint(name: str, valid: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(valid), n=1)
    return f"did you mean {near[0]!r}?" if near else "valid: " + ", ".join(valid)


def _rounded(value: float) -> _Value:
    shorter = float(f"{value:.{_DIGITS}g}")
    return int(shorter) if shorter.is_integer() else shorter
