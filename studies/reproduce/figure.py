"""What a figure is made of: series in panels, the differences it shows, and what it assumes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Origin(StrEnum):
    """Whose values a series shows."""

    THEIRS = "theirs"
    CORRECTED = "theirs, corrected"
    OURS = "ours"


@dataclass(frozen=True)
class Series:
    """Values along one line, or points if `points`.

    `variant` distinguishes series of one origin by colour, line and marker. `tag` is written at the
    line's upper end, or its lower one if `tag_below`. A series without a label is of the family of
    the one before it in the legend.
    """

    label: str
    origin: Origin
    x: tuple[float, ...]
    y: tuple[float, ...]
    y_error: tuple[float, ...] = ()
    points: bool = False
    variant: int = 0
    tag: str = ""
    tag_below: bool = False


@dataclass(frozen=True)
class Mark:
    """A value on an axis that is worth a thin line, and what it is.

    The text begins at `height`, a share of the axis.
    """

    x: float
    text: str
    height: float = 0.01


@dataclass(frozen=True)
class Axis:
    """A label with its unit, whether it is logarithmic, and its limits (None: as the values)."""

    label: str
    logarithmic: bool = False
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class ColourMap:
    """Values over a grid: `values[i][j]` at `x[j]`, `y[i]`; lines of equal value at `levels`."""

    label: str
    origin: Origin
    x: tuple[float, ...]
    y: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes; `legend` is a corner of them, "above" them, or "none".

    `colours`: a map behind the series. `rows`: thin lines across, as `marks` are upwards.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    legend: str = "above"
    colours: ColourMap | None = None
    rows: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Difference:
    """One thing that differs: what and where, the value as published, and as found here."""

    what: str
    where: str
    published: float
    here: float
    unit: str


@dataclass(frozen=True)
class Reproduction:
    """One figure of the paper, ours beside theirs. `footnote` is printed below the panels."""

    name: str
    title: str
    caption: str
    footnote: str
    panels: tuple[Panel, ...]
    differences: tuple[Difference, ...]
    assumptions: tuple[str, ...]
