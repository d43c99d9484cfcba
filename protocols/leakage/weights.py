"""Bits of weights at a setting, or at what returned light shows, by any of the figures.

A figure takes mean photons per mode, transmittance and excess noise of the channel that counts as
the client's, and gives bits per mode: `holevo_bits_per_mode` is the honest one, every mode as
bright and as noisy as the mean; `prior_free_bits_per_mode` and `network_bits_per_mode` are bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from labctl import checks
from labctl.protocols.encoding import MOST_PHOTONS, PHOTON_RANGE
from labctl.protocols.leakage.assumptions import Assumptions, Trust
from labctl.protocols.leakage.holevo import holevo_bits_per_mode

# X and P of a mode carry a real weight each.
WEIGHTS_PER_MODE = 2

Figure = Callable[[float, float, float], float]


def weights_bits_per_mode(
    *,
    mean_photons: float,
    transmittance: float,
    excess_noise: float,
    technical_noise: float,
    assumptions: Assumptions,
    client_transmittance: float = 1.0,
    figure: Figure = holevo_bits_per_mode,
) -> float:
    """Return the bits of weight information per mode that reach the client, by this figure.

    `excess_noise` is all that the server sees above vacuum at its end of the link, in SNU;
    `technical_noise` is the part of it that the link makes by itself, taken off if it is trusted.
    `client_transmittance` is the share of `transmittance` that is the client's own rotation's, in
    and out: that loss is untrusted always.
    Trusted loss is taken wholly after the client, which is the worst place: the client then
    holds undimmed light and its noise reaches the server dimmed.
    """
    checks.require(0.0 < mean_photons <= MOST_PHOTONS, "mean_photons", mean_photons, PHOTON_RANGE)
    checks.above("transmittance", transmittance, 0.0, 1.0)
    checks.not_negative("technical_noise", technical_noise, ", in SNU")
    checks.require(math.isfinite(excess_noise), "excess_noise", excess_noise, "finite, in SNU")
    checks.above("client_transmittance", client_transmittance, 0.0, 1.0)
    adversarial = excess_noise
    if assumptions.technical_noise is Trust.TRUSTED:
        adversarial -= technical_noise
    adversarial = max(adversarial, 0.0)
    if assumptions.loss is Trust.TRUSTED:
        of_the_link = min(transmittance / client_transmittance, 1.0)
        return figure(mean_photons, client_transmittance, adversarial / of_the_link)
    return figure(mean_photons, transmittance, adversarial)


def weights_bits_shown(
    transmittance: float,
    excess_noise: float,
    *,
    mean_photons: float,
    technical_noise: float,
    assumptions: Assumptions,
    client_transmittance: float,
    figure: Figure,
) -> float:
    """Return the bits per real weight that returned light of this T and excess noise means.

    T and noise are estimates or bounds: a T above 1 counts as 1, and light that shows no T above 0,
    or no finite noise, bounds nothing (infinite). The rest is as in `weights_bits_per_mode`.
    """
    if transmittance <= 0.0 or not math.isfinite(excess_noise):
        return math.inf
    bits = weights_bits_per_mode(
        mean_photons=mean_photons,
        transmittance=min(transmittance, 1.0),
        excess_noise=excess_noise,
        technical_noise=technical_noise,
        assumptions=assumptions,
        client_transmittance=client_transmittance,
        figure=figure,
    )
    return bits / WEIGHTS_PER_MODE
