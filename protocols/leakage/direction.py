"""What an attack learns of one real direction of the light, and what it costs in returned noise.

Theory of operation. The server sends real vectors w of 2n quadratures on vacuum and pools two
numbers over all of them: the amplitude s = sqrt(T) of the returned light and the mean excess noise.
A Gaussian prior of covariance C has orthonormal principal directions u_j, w = sum_j a_j u_j with
independent a_j of variance lambda_j. By the chain rule what the client learns is at most
sum_j I(a_j; E | all other a). A passive change of modes turns u_j into the X of one mode; all
else that returns is given to the client, which leaves it a channel of one mode whose X alone is
modulated. For known second moments Gaussian attacks are the best (Garcia-Patron and Cerf, PRL 97,
190503 (2006)), so that the channel has four numbers: amplitude t along u_j, returned variance A
along u_j and B across it (given a_j), and the amplitude of P, which nobody checks. Taken is the
choice of the last that is best where the back action is small, as at the noise of one query. Where
it is large another learns more: 0.15 % at A = B = 1.25 and lambda = 30, a few per cent of dim
directions at noise of 0.05 to 0.25. It makes the attack a tap into one mode of the client's, in
vacuum, that divides X by an angle theta and P by theta + phi, and a squeezer behind it, which
changes what returns and not what is learned. phi = 0 is a beam splitter, theta = 0 a measurement of
X that leaves X alone. With it

    t^2 = A cos^2(theta),   A B cos^2(phi) = 1,
    information H((1 + lambda sin^2(theta + phi))/cos^2(phi)) - H(1/cos^2(phi)),

H(y) = h(sqrt(y)) being the entropy of a mode whose covariance has determinant y. At theta + phi =
pi/2 the client holds all that X tells; more noise is then of no use, and H(1 + lambda), the entropy
of what was sent, is the most.

Both {u_j} and their conjugates are orthonormal, so that sum_j (A_j - 1), as well as
sum_j (B_j - 1), is the trace of the noise: each stays within the pooled excess noise less the
misfit sum_j lambda_j (t_j - s)^2, and the pooled amplitude fixes sum_j lambda_j (t_j - s) = 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def entropy_bits(determinant: Doubles) -> Doubles:
    """Return the entropy H in bits of modes whose covariance has this determinant, 1 or more.

    >>> entropy_bits(np.array([1.0, 9.0]))
    array([0., 2.])
    """
    photons = np.maximum(np.sqrt(determinant) - 1.0, 0.0) / 2.0
    safe = np.where(photons > 0.0, photons, 1.0)
    bits = (np.log1p(photons) + photons * np.log1p(1.0 / safe)) / np.log(2.0)
    return np.asarray(np.where(photons > 0.0, bits, 0.0), np.float64)


def learned_bits(variance: Doubles, tap: Doubles, back_action: Doubles) -> Doubles:
    """Return the bits learned of directions of this prior `variance` (lambda, SNU).

    `tap` is theta and `back_action` phi of this file's first lines, in radians: 0 to pi/2, their
    sum in the same way.
    """
    noise = 1.0 / np.cos(back_action) ** 2
    seen = noise * (1.0 + variance * np.sin(tap + back_action) ** 2)
    return entropy_bits(seen) - entropy_bits(noise)
