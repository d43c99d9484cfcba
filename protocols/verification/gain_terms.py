"""What distortion that all light has in common does to the gain of single modes.

Driven to u, a modulator's child passes sin((1 + e) u + b) + i r cos((1 + e) u + b): e the error of
its half-wave voltage, b how far it is off its null, r its leakage. Drives are arcsines of what is
wanted. With both children, the parent's error and the receiver's gains, X and P of a mode each
return as x and p with all powers of both mixed in. Those to the third are `collective`'s; what is
of higher order is a hundredth of them (0.0002 SNU in the sums of 100 queries at 8.91 photons).

The slope that is found of one mode then differs from its layer's: by sums over the mode's rows of
x and p times these powers, over what was sent. That is the same in every query, so that enough
queries show it (`docs/cumulative-leakage.md`, On the bench). Its form is known and only its few
coefficients are not: they are fitted to all modes of a layer, and what a mode deviates by beyond
them is judged. Rows are treated alike, with terms of their own (`row_gains`).
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
# A slope is a product of what was sent with third powers of it, at most.
_HIGHEST = 4


def gain_terms(pattern: Floats) -> Doubles:
    """Return what each term adds to the products of sent and read of each mode.

    `pattern`: weights (rows, 2n or one less), X and P of a mode side by side, on any scale. Returns
    (modes, 14): sums over the mode's rows of every x^a p^b of degree 1 to 4, which are x and p
    times the powers to the third order. Over what was sent they are what its slope differs by.
    """
    scale = np.float32(np.sqrt(np.mean(np.square(pattern), dtype=np.float64))) or np.float32(1.0)
    # Weights that fill no last mode leave its P without light.
    whole = np.pad(pattern, ((0, 0), (0, pattern.shape[1] % 2)))
    x, p = (np.ascontiguousarray(whole[:, part::2]) / scale for part in (0, 1))
    terms, order = [], [np.ones_like(x)]
    for _ in range(_HIGHEST):
        order = [x * order[0], *(p * one for one in order)]
        terms += [one.sum(axis=0, dtype=np.float64) for one in order]
    return np.stack(terms, axis=1)


def beyond_terms(
    deviation: Doubles,
    variance: Doubles,
    terms: Doubles,
    alone: tuple[Doubles, Doubles] | None = None,
) -> tuple[Doubles, Doubles]:
    """Return what is left of deviations (groups) when terms (groups, terms) are fitted, and its
    variance.

    Weighted least squares: a group whose leverage is h keeps 1 - h of its variance. Few groups, and
    those with much leverage, are left as they are `alone`: deviations and variances without a fit,
    the same ones by default.
    """
    own_deviation, own_variance = alone or (deviation, variance)
    if not enough(terms):
        return own_deviation, own_variance
    basis, left = _fitted(terms, deviation, variance)
    leverage = np.einsum("ij,ij->i", basis, basis)
    own = leverage > _MOST_LEVERAGE
    return (
        np.where(own, own_deviation, left),
        np.where(own, own_variance, variance * (1.0 - leverage)),
    )


def beyond_both(
    deviation: Doubles,
    variance: Doubles,
    terms: Doubles,
    taken: Doubles,
    scale: Doubles,
    alone: tuple[Doubles, Doubles],
) -> tuple[Doubles, Doubles]:
    """Return what `beyond_terms` does of deviations of which an earlier fit took its part.

    They have the covariance diag(`variance`) - K, K = T^T T with `taken` (any, groups) times
    `scale` (groups,) as T. With the terms fitted, h is the leverage and what is left of K in the
    group's place. Groups of which both fits take much are left with the earlier fit; those of which
    it takes much itself as they are `alone`: deviations and variances without either.
    """
    weight = scale / np.sqrt(variance)
    basis, left = _fitted(terms, deviation, variance)
    leverage = np.einsum("ij,ij->i", basis, basis)
    held = np.einsum("ij,ij->j", taken, taken) * weight**2
    # Of (1 - P) K (1 - P), P = B B^T, the diagonal alone: K has as many columns as groups.
    of_terms = taken @ (weight[:, None] * basis)
    across = weight[:, None] * (taken.T @ of_terms)
    kept = held - 2.0 * np.einsum("ij,ij->i", basis, across)
    kept += np.einsum("ij,jk,ik->i", basis, of_terms.T @ of_terms, basis, optimize=True)
    both = leverage + np.maximum(kept, 0.0)
    cases = [both <= _MOST_LEVERAGE, held <= _MOST_LEVERAGE]
    return (
        np.select(cases, [left, deviation], alone[0]),
        np.select(cases, [variance * (1.0 - both), variance * (1.0 - held)], alone[1]),
    )


def enough(terms: Doubles) -> bool:
    """Return whether there are enough groups for a fit of the terms."""
    groups, number = terms.shape
    return bool(groups >= _LEAST_PER_TERM * number)


def _fitted(terms: Doubles, deviation: Doubles, variance: Doubles) -> tuple[Doubles, Doubles]:
    """Return an orthonormal basis (groups, any) of weighted terms, and deviations without them."""
    weight = 1.0 / np.sqrt(variance)
    basis, strengths, _ = np.linalg.svd(terms * weight[:, None], full_matrices=False)
    basis = basis[:, strengths > 1e-9 * strengths[0]]
    weighted = deviation * weight
    return basis, (weighted - basis @ (basis.T @ weighted)) / weight
