"""Entropy of a thermal mode, and the Holevo bound of one mode with a Gaussian prior.

The server sends coherent states whose quadratures are normal with variance 2 mu each: on average a
thermal state of variance V = 2 mu + 1. An adversary that holds all lost light, and makes all excess
noise, holds the purification of what returns. What it learns is at most the entropy of its state
less that of its state given the weights. All of it together is pure, so these are the entropies of
the modes that are left: of the two-mode state (purification of the prior, returned light), and of
the returned light given the weights (Weedbrook et al., Rev. Mod. Phys. 84, 621 (2012), section IV).
"""

from __future__ import annotations

import math


def thermal_entropy_bits(symplectic_eigenvalue: float) -> float:
    """Return the von Neumann entropy h(nu) in bits of a thermal mode; 0 at nu = 1.

    Weedbrook et al., Rev. Mod. Phys. 84, 621 (2012), eq. 46. Values below 1 by rounding count
    as 1.

    >>> thermal_entropy_bits(1.0), thermal_entropy_bits(3.0)
    (0.0, 2.0)
    """
    photons = max(symplectic_eigenvalue - 1.0, 0.0) / 2.0
    if photons == 0.0:
        return 0.0
    # (n + 1) log(n + 1) - n log n, without the difference of two large numbers at large n.
    growth = math.log1p(photons)
    step = math.log1p(1.0 / photons) if photons > 1.0 else growth - math.log(photons)
    return (growth + photons * step) / math.log(2.0)


def holevo_bits_per_mode(mean_photons: float, transmittance: float, excess_noise: float) -> float:
    """Return what an adversary who holds the channel's purification learns of one mode, in bits.

    Direct reconciliation with modulation variance 2 mu per quadrature: entropy of the two-mode
    state (a = V, b = T(V - 1) + 1 + eps, c^2 = T(V^2 - 1)) less that of the mode conditioned on
    the weights. `transmittance` is 0 to 1, `excess_noise` is at the server's end, in SNU.

    >>> holevo_bits_per_mode(4.0, 1.0, 0.0)
    0.0
    >>> round(holevo_bits_per_mode(4.0, 0.8, 0.0), 3)
    1.784
    """
    variance = 2.0 * mean_photons + 1.0
    # b - a, a b - c^2 and b - c^2/(a + 1) with V's large powers cancelled by hand: rounding would
    # otherwise swallow the leakage of bright light, or of a channel known from few samples.
    difference = excess_noise - (1.0 - transmittance) * (variance - 1.0)
    product = variance * (1.0 - transmittance + excess_noise) + transmittance
    larger = 0.5 * (math.hypot(difference, 2.0 * math.sqrt(product)) + abs(difference))
    bits = thermal_entropy_bits(larger) + thermal_entropy_bits(product / larger)
    return bits - thermal_entropy_bits(1.0 + excess_noise)
