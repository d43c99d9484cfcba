"""What distortion that all light has in common does to the gain of single rows and modes.

A modulator off its null, or with gains that differ on X and P, sends a row's weights with powers up
to the third of each mode's own x and p mixed in. The slope that is found of one mode then differs
from its layer's: by the mean of x^4 over that of x^2, say, times the cubic term. That is the same
in every query, so that enough queries show it (`docs/cumulative-leakage.md`, On the bench). Its
form is known and only its few coefficients are not: they are fitted to all modes of a layer, or all
rows, and what a mode deviates by beyond them is judged.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats

Doubles = npt.NDArray[np.float64]

# A fit to fewer groups than that for each term would take much of what a group deviates by.
_LEAST_PER_TERM = 4
# A group that the fit follows by more than this is judged by itself.
_MOST_LEVERAGE = 0.5
_ROWS, _MODES = 1, 0


def gain_terms(pattern: Floats, *, by_row: bool) -> Doubles:
    """Return what each term adds to the slope of each row or mode, (groups, terms).

    `pattern`: weights (rows, 2n or one less), X and P of a mode side by side, on any scale. The
    terms are a constant, x^2, x p, x^3, x^2 p, x p^2, p^3, x^4 + p^4 and x^2 p^2, summed over the
    group, over its x^2 + p^2. Groups without light have zeros.
    """
    scale = np.float32(np.sqrt(np.mean(np.square(pattern), dtype=np.float64))) or np.float32(1.0)
    # Weights that fill no last mode leave its P without light.
    whole = np.pad(pattern, ((0, 0), (0, pattern.shape[1] % 2)))
    x, p = (np.ascontiguousarray(whole[:, part::2]) / scale for part in (0, 1))
    xx, xp, pp = x * x, x * p, p * p
    pairs = ((xx, None), (xp, None), (xx, x), (xx, p), (pp, x), (pp, p), (xx, xx), (xp, xp))
    axis = _ROWS if by_row else _MODES
    terms = [(one if other is None else one * other).sum(axis=axis) for one, other in pairs]
    terms[6] += (pp * pp).sum(axis=axis)
    power = (xx + pp).sum(axis=axis)
    summed = np.stack([power, *terms], axis=1).astype(np.float64)
    lit = power[:, None] > 0.0
    return np.divide(summed, summed[:, :1], out=np.zeros_like(summed), where=lit)


def beyond_terms(deviation: Doubles, variance: Doubles, terms: Doubles) -> tuple[Doubles, Doubles]:
    """Return what is left of deviations (groups) when terms (groups, terms) are fitted, and its
    variance.

    Weighted least squares: a group whose leverage is h keeps 1 - h of its variance. Few groups, and
    those with much leverage, are left as they are.
    """
    if len(deviation) < _LEAST_PER_TERM * terms.shape[1]:
        return deviation, variance
    weight = 1.0 / np.sqrt(variance)
    basis, strengths, _ = np.linalg.svd(terms * weight[:, None], full_matrices=False)
    basis = basis[:, strengths > 1e-9 * strengths[0]]
    leverage = np.einsum("ij,ij->i", basis, basis)
    fitted = basis @ (basis.T @ (deviation * weight)) / weight
    own = leverage > _MOST_LEVERAGE
    return (
        np.where(own, deviation, deviation - fitted),
        np.where(own, variance, variance * (1.0 - leverage)),
    )
