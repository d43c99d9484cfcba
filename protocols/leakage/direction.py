"""What an attack learns of one real direction of the light, and what it costs in returned noise.

Theory of operation. The server sends real vectors w of 2n quadratures on vacuum and pools two
numbers over all of them: the amplitude s = sqrt(T) of the returned light and the mean excess noise.
A Gaussian prior of covariance C has orthonormal principal directions u_j, w = sum_j a_j u_j with
independent a_j of variance lambda_j. By the chain rule what the client learns is at most
sum_j I(a_j; E | all other a). A passive change of modes turns u_j into the X of one mode; all
else that returns is given to the client, which leaves it a channel of one mode whose X alone is
modulated. For known second moments Gaussian attacks are the best (Garcia-Patron and Cerf, PRL 97,
190503 (2006)), and what X and P have in common is of no use: the mirrored attack (P to -P) learns
as much, and a client that tosses a coin between the two learns no more than by the Gaussian attack
of the mean moments. So the channel has four numbers: amplitude t along u_j, returned variance A
along u_j and B across it (given a_j), and the amplitude tau of P, which nobody checks. It exists
where (A - t^2)(B - tau^2) >= (1 - t tau)^2. With angles theta, phi and v of 0 or more

    t^2 = A cos^2(theta + v),   tau^2 = B cos^2(theta + phi),   A B cos^2(phi + v) = 1

describe all of them. At v = 0 the client holds one mode, in vacuum before: a tap that divides X by
theta and P by theta + phi, and a squeezer behind it, which changes what returns and not what is
learned. phi = 0 is a beam splitter, theta = 0 a measurement of X that leaves X alone. v > 0 mixes
another mode of the client's in.

Client, returned mode and what the prior was drawn from are pure together. The client's entropy is
that of the other two; their covariance has symplectic eigenvalues of squares 1 + a and 1 + b with

    (1 + a)(1 + b) = (1 + lambda sin^2(theta + phi)) / cos^2(phi + v),
    a b = 4 lambda sin(theta) sin(phi) sin(v) sin(theta + phi + v) / cos^2(phi + v),

and given a_j it is that of the returned mode. With H(y) the entropy of a mode whose covariance has
determinant y, the client learns H(1 + a) + H(1 + b) - H(1/cos^2(phi + v)).

Both {u_j} and their conjugates are orthonormal, so that sum_j (A_j - 1), as well as
sum_j (B_j - 1), is the trace of the noise: each stays within the pooled excess noise less the
misfit sum_j lambda_j (t_j - s)^2, and the pooled amplitude fixes sum_j lambda_j (t_j - s) = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_LN2 = np.log(2.0)


def entropy_bits(excess: Doubles) -> Doubles:
    """Return the entropy H in bits of modes whose covariance has the determinant 1 + `excess`.

    Of the excess, 0 or more, so that little of it is not lost beside 1.

    >>> entropy_bits(np.array([0.0, 8.0]))
    array([0., 2.])
    """
    # (sqrt(1 + x) - 1)/2 without its difference.
    photons = excess / (2.0 * (np.sqrt(1.0 + excess) + 1.0))
    lit = photons > 0.0
    safe = np.where(lit, photons, 1.0)
    bits = (np.log1p(photons) + photons * np.log1p(1.0 / safe)) / _LN2
    return np.asarray(np.where(lit, bits, 0.0), np.float64)


def entropy_slope(excess: Doubles) -> Doubles:
    """Return dH by the `excess`; kept finite at 0, where factors of 0 meet it."""
    root = np.sqrt(1.0 + excess)
    photons = np.maximum(excess, 1e-300) / (2.0 * (root + 1.0))
    return np.asarray(np.log1p(1.0 / photons) / (_LN2 * 4.0 * root), np.float64)


@dataclass(frozen=True)
class Held:
    """Symplectic spectrum of what the client holds: squared eigenvalues less 1, and their sums.

    `modes` (3, directions): a, b and that of the returned mode given the weights, tan^2(phi + v).
    `total` is a + b, `product` a b and `apart` a - b, of this file's first lines; `tangent` is
    tan(phi + v).
    """

    modes: Doubles
    total: Doubles
    product: Doubles
    apart: Doubles
    tangent: Doubles

    def bits(self, directions: int | None = None) -> Doubles:
        """Return the bits that the client learns, of the first `directions` or of all."""
        larger, smaller, alone = entropy_bits(self.modes[:, :directions])
        return np.asarray(larger + smaller - alone, np.float64)


def held(variance: Doubles, tap: Doubles, back_action: Doubles, mixing: Doubles) -> Held:
    """Return what the client holds of directions of this prior `variance` (lambda, SNU).

    `tap`, `back_action` and `mixing` are theta, phi and v, in radians, theta + v and phi + v below
    pi/2.
    """
    turned = back_action + mixing
    square, tangent = np.cos(turned) ** 2, np.tan(turned)
    alone = tangent**2
    product = np.sin(tap) * np.sin(back_action) * np.sin(mixing)
    product *= 4.0 * variance * np.sin(tap + back_action + mixing) / square
    total = variance * np.sin(tap + back_action) ** 2 / square + alone - product
    apart = np.sqrt(np.maximum(total * total - 4.0 * product, 0.0))
    larger = 0.5 * (total + apart)
    # The quotient, not (total - apart)/2: no difference of two large numbers.
    smaller = product / np.where(larger > 0.0, larger, 1.0)
    return Held(np.array([larger, smaller, alone]), total, product, apart, tangent)


def learned_bits(
    variance: Doubles, tap: Doubles, back_action: Doubles, mixing: Doubles | float = 0.0
) -> Doubles:
    """Return the bits learned of directions of this prior `variance`; angles as in `held`."""
    return held(variance, tap, back_action, np.asarray(mixing, np.float64)).bits()
