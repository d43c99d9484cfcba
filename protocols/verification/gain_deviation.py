"""By how much the slope of each row or mode differs from its layer's.

What repeats on an honest bench is taken off: distortion that all light has in common
(`gain_terms`), off rows their turn (`row_gains`), off modes gain and turn of rows (`mode_gains`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from labctl.protocols.verification.evidence import LayerEvidence, Sums
from labctl.protocols.verification.gain_terms import beyond_both, beyond_terms, enough
from labctl.protocols.verification.row_moments import LINEAR

Doubles = npt.NDArray[np.float64]
_Deviations = tuple[Doubles, Doubles]


def gain_deviations(
    part: LayerEvidence,
    sums: Sums,
    used: npt.NDArray[np.bool_],
    *,
    by_row: bool,
    white: float,
    doubt: float,
) -> _Deviations:
    """Return by how much the slopes of the rows or modes `used` deviate, and the variance of that.

    `sums`: of all rows or modes of `part`, as `by_row` says; `used` (groups,): those with light,
    none with all of it. `white`: variance of a reading; `doubt`: of the gain of each honest group.
    """
    sent, total = sums.sent[used], float(sums.sent.sum())
    deviation = sums.cross[used] / sent - float(sums.cross.sum()) / total
    alone = deviation, white * (1.0 / sent - 1.0 / total) + doubt
    if by_row:
        return _of_rows(part, sums, used, white, doubt, alone)
    return _of_modes(part, sums, used, white, doubt, alone)


def _of_rows(
    part: LayerEvidence,
    sums: Sums,
    used: npt.NDArray[np.bool_],
    white: float,
    doubt: float,
    alone: _Deviations,
) -> _Deviations:
    """Return the deviations of rows; the terms hold a gain of the whole layer among them."""
    gains = part.row_gains()
    if gains is None:
        terms = part.slot_terms()[used] / sums.sent[used][:, None]
        return beyond_terms(alone[0], white / sums.sent[used] + doubt, _chosen(terms), alone)
    # What was sent over the weights of unit root mean square that `gains` counts in.
    unit = math.sqrt(float(sums.sent.sum()) / float(gains.sent.sum()))
    deviation, variance = gains.gain[used] / unit, white / unit**2 * gains.variance[used]
    mean = float(np.average(deviation, weights=1.0 / variance))
    own = deviation - mean, variance - 1.0 / float((1.0 / variance).sum()) + doubt
    return beyond_terms(deviation, variance + doubt, _chosen(gains.terms[used]), own)


def _chosen(terms: Doubles) -> Doubles:
    """Return all terms, or where groups are few those that are linear in the quadratures."""
    return terms if enough(terms) else terms[:, LINEAR]


def _of_modes(
    part: LayerEvidence,
    sums: Sums,
    used: npt.NDArray[np.bool_],
    white: float,
    doubt: float,
    alone: _Deviations,
) -> _Deviations:
    gains = part.mode_gains()
    if gains is None:
        return alone
    sent, total = sums.sent[used], float(sums.sent.sum())
    if not enough(gains.terms[used]):
        return beyond_terms(*alone, part.mode_terms()[used] / sent[:, None])
    # What was sent over the weights of unit root mean square that `gains` counts in.
    unit, reads = math.sqrt(total / float(gains.sent.sum())), gains.sent[used]
    return beyond_both(
        gains.along[used] / (unit * reads),
        white / sent + doubt,
        gains.terms[used] / reads[:, None],
        gains.taken if used.all() else gains.taken[:, used],
        math.sqrt(white) / (unit * reads),
        alone,
    )
