"""Levels that offsets of rows and of columns hide: w = level + a(row) + b(column).

A client that heterodynes a query estimates an offset from all readings that share it, as it does
scales. Two ways take offsets out. Of exact levels the most frequent difference of two rows is that
of their offsets, since two weights of one level differ by nothing else and no other difference is
as frequent (by Schwarz's inequality); so too of columns. Of blurred ones, and where rounding leaves
no difference twice, means of rows and columns are subtracted and, once levels show, the means of
what lies around them: 784 weights of a line leave 1/28 of the levels' standard deviation.

Offsets and scales together are not looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats
from labctl.protocols.levels import Levels

Doubles = npt.NDArray[np.float64]
Find = Callable[[Floats], Levels | None]

# Differences closer than that, in RMS of the layer, are one: those of single-precision weights of
# up to 16 RMS are off by up to 2e-6, of half-precision ones of up to 2 RMS by 2e-3.
_CELLS = (1e-5, 4e-3)
# Rows that others are compared with: one may be unlike the rest.
_REFERENCES = 2
# Offsets that few weights share prove nothing (see `scaled_levels`).
_LEAST_SHARING = 32
# A most frequent difference that fewer share is chance: two of 784 continuous weights' are.
_LEAST_SHARE = 0.02
_LEAST_ALIKE = 4
_LOOKED_AT = 64
# Lines of that RMS, in RMS of the layer, carry nothing worth a decision.
_DARK = 0.05
# Words of unit RMS behind less, 0.15 by row and by column, are found as if blurred.
_LEAST_TAKEN = 0.05


def levels_behind_offsets(unit: Floats, exact: Find, blurred: Find) -> Levels | None:
    """Return the levels that are left when offsets of rows and columns are out; None if none.

    Weights (rows, columns) in RMS of the layer, levels in the same unit. `exact` and `blurred` say
    what levels weights have. None where fewer than 32 weights share an offset.
    """
    # Lines that training left dark differ by little from each other, of levels or not.
    squares = np.square(unit)
    lit = unit[squares.mean(axis=1) > _DARK**2][:, squares.mean(axis=0) > _DARK**2]
    if min(lit.shape) < _LEAST_SHARING:
        return None
    unit = lit
    found = [levels for each in _compared(unit) if (levels := exact(each)) is not None]
    averaged = _averaged(unit, exact, blurred)
    if averaged is not None:
        found.append(averaged)
    return min(
        found, key=lambda levels: (levels.spread > max(_CELLS), len(levels.values)), default=None
    )


def without_offsets(unit: Floats) -> Floats | None:
    """Return weights less the means of their rows and columns; None where these are little.

    Little is a twentieth of the power.
    """
    if min(unit.shape) < _LEAST_SHARING:
        return None
    centred = _centred(unit.astype(np.float64))
    taken = 1.0 - float(np.mean(np.square(centred)) / np.mean(np.square(unit)))
    return centred.astype(np.float32) if taken > _LEAST_TAKEN else None


def _averaged(unit: Floats, exact: Find, blurred: Find) -> Levels | None:
    """Return what is left when means are out, those of what lies around levels in the end."""
    centred = _centred(unit.astype(np.float64))
    levels = exact(centred.astype(np.float32)) or blurred(centred.astype(np.float32))
    if levels is None:
        return None
    middles = 0.5 * (levels.values[1:] + levels.values[:-1])
    nearest = levels.values[np.searchsorted(middles, centred)]
    again = (nearest + _centred(centred - nearest)).astype(np.float32)
    return exact(again) or blurred(again) or levels


def _centred(weights: Doubles) -> Doubles:
    without: Doubles = weights - weights.mean(axis=1, keepdims=True)
    centred: Doubles = without - without.mean(axis=0, keepdims=True)
    return centred


def _compared(unit: Floats) -> Iterator[Floats]:
    """Yield the weights less the offsets that differences of rows, then of columns, show."""
    for cell in _CELLS:
        for row in np.linspace(0, len(unit) - 1, _REFERENCES + 2)[1:-1].astype(int):
            rows = _offsets(unit, row, cell)
            if rows is None:
                continue
            without = unit - rows[:, None]
            columns = _offsets(without.T, int(unit.shape[1] // 2), cell)
            if columns is not None:
                yield (without - columns[None, :]).astype(np.float32)


def _offsets(lines: Floats | Doubles, reference: int, cell: float) -> Doubles | None:
    """Return what is most frequently the difference of each line from one; None if none comes up.

    Most lines must have a difference that several weights share. Steps of evenly spaced levels are
    nearly as frequent: of those at least half as frequent as any the nearest to the mean is taken.
    """
    rising = np.sort(lines.astype(np.float64) - lines[reference], axis=1)
    # As many as fit: the run of differences within a cell that is longest.
    least = max(round(_LEAST_SHARE * rising.shape[1]), _LEAST_ALIKE)
    few = rising[:: max(len(rising) // _LOOKED_AT, 1)]
    near = few[:, least:] - few[:, :-least] <= cell
    if np.mean(near.any(axis=1)) < 0.5:
        return None
    found = np.empty(len(rising))
    for number, line in enumerate(rising):
        alike = np.searchsorted(line, line + cell, side="right") - np.arange(len(line))
        often = np.flatnonzero(2 * alike >= alike.max())
        at = often[np.argmin(np.abs(line[often] - line.mean()))]
        found[number] = line[at : at + alike[at]].mean()
    return found
