"""The weights' leakage for the worst Gaussian prior of a given mean power."""

from __future__ import annotations

import math

from labctl.protocols.leakage.holevo import holevo_bits_per_mode

# Grid and refinement of the fraction of bright modes; the figure is smooth in its logarithm.
_DECADES = 8.0
_POINTS = 321


def prior_free_bits_per_mode(
    mean_photons: float, transmittance: float, excess_noise: float
) -> float:
    """Return the most that a client learns per mode whatever Gaussian prior the weights have.

    The largest, over the fraction k of modes that carry all the light, of k chi(mu/k, T, eps/k).
    `mean_photons` and `excess_noise` (SNU, at the server) are means over all modes.
    """
    best = 0.0
    for step in range(_POINTS):
        fraction = 10.0 ** (-_DECADES * step / (_POINTS - 1))
        bits = fraction * holevo_bits_per_mode(
            mean_photons / fraction, transmittance, excess_noise / fraction
        )
        best = max(best, bits)
    return best if math.isfinite(best) else math.inf
