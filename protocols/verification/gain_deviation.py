"""By how much the slope of each row or mode differs from its layer's.

What repeats on an honest bench is taken off: distortion that all light has in common
(`gain_terms`), and off modes also gain and turn of single rows (`mode_gains`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from labctl.protocols.verification.evidence import LayerEvidence, Sums
from labctl.protocols.verification.gain_terms import beyond_both, beyond_terms, enough

Doubles = npt.NDArray[np.float64]


def gain_deviations(
    part: LayerEvidence,
    sums: Sums,
    used: npt.NDArray[np.bool_],
    *,
    by_row: bool,
    white: float,
    doubt: float,
) -> tuple[Doubles, Doubles]:
    """Return by how much the slopes of the rows or modes `used` deviate, and the variance of that.

    `sums`: of all rows or modes of `part`, as `by_row` says; `used` (groups,): those with light,
    none with all of it. `white`: variance of a reading; `doubt`: of the gain of each honest group.
    """
    sent, total = sums.sent[used], float(sums.sent.sum())
    deviation = sums.cross[used] / sent - float(sums.cross.sum()) / total
    variance = white * (1.0 / sent - 1.0 / total) + doubt
    terms = part.gain_terms(by_row=by_row)
    if terms is None:
        return deviation, variance
    gains = None if by_row else part.mode_gains()
    if gains is None or not enough(gains.terms[used]):
        return beyond_terms(deviation, variance, terms[used] / sent[:, None])
    # What was sent over the weights of unit root mean square that `gains` counts in.
    unit, reads = math.sqrt(total / float(gains.sent.sum())), gains.sent[used]
    return beyond_both(
        gains.along[used] / (unit * reads),
        white / sent + doubt,
        gains.terms[used] / reads[:, None],
        gains.taken[used] * (math.sqrt(white) / (unit * reads))[:, None],
        (deviation, variance),
    )
