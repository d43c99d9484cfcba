"""Gain and phase of single rows, fitted to the sums of their weights.

A row's gain repeats honestly, and so does its phase: the server learns the phase of a row from the
row's own light too, and takes the distortion of the row's own weights for a turn. That turn
is the same in every query. With the weights (x, p) of a mode, its sums have means W (x, p) for the
gain and W (p, -x) for the turn, W how often X, P and both were read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats

Doubles = npt.NDArray[np.float64]

# A turn that agrees with the gain but for this share is not separated from it: sums in single
# precision have some 1e-6.
_ALIKE = 1e-4


def turned(weights: Floats) -> Floats:
    """Return (p, -x) in the places of (x, p), (rows, columns) with X and P of a mode in turn."""
    both: Floats = np.empty_like(weights)
    both[:, 0::2] = weights[:, 1::2]
    np.negative(weights[:, 0::2], out=both[:, 1::2])
    return both


@dataclass(frozen=True, eq=False)
class RowFit:
    """Least squares of each row on its weights and on its turned weights.

    `coefficients` (2, rows): gain and turn. `inverse` (2, 2, rows) of their normal equations; 0 for
    what a row does not tell. `explained` (rows,): of the power. `fitted`: parameters in all.
    """

    coefficients: Doubles
    inverse: Doubles
    explained: Doubles
    fitted: int

    @classmethod
    def of(cls, along: Doubles, gain: Doubles, cross: Doubles, turn: Doubles) -> RowFit:
        """Return the fit of sums whose products with weights and turned weights are `along`.

        along (2, rows). `gain`, `turn` (rows,): squares of weights and turned weights, each counted
        as often as it was read; `cross`: their product.
        """
        lit = gain > 0.0
        shared = np.divide(cross, gain, out=np.zeros_like(cross), where=lit)
        apart = turn - shared * cross
        separate = apart > _ALIKE * turn
        first = np.divide(1.0, gain, out=np.zeros_like(gain), where=lit)
        second = np.divide(1.0, apart, out=np.zeros_like(apart), where=separate)
        # Inverse of [[gain, cross], [cross, turn]] by its Schur complement.
        inverse = np.empty((2, 2, len(gain)))
        inverse[0, 0] = first + shared**2 * second
        inverse[0, 1] = inverse[1, 0] = -shared * second
        inverse[1, 1] = second
        coefficients = np.einsum("klr,lr->kr", inverse, along)
        return cls(
            coefficients,
            inverse,
            np.einsum("kr,kr->r", coefficients, along),
            int(lit.sum()) + int(separate.sum()),
        )
