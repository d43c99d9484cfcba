"""The same returned light under every assumption: what it proves, and what it most likely means.

Loss and technical noise may each be trusted (not in the client's hands) or untrusted (its own):
four cases. The light that returned is the same in all of them, and so are estimates and bounds of T
and excess noise. What differs is the channel that counts as the client's (`bounds.channel_bits`):
trusted loss is the link's as calibrated, taken off T; trusted noise is the technical noise that was
stated, taken off the excess noise. Each case has a figure at the estimates, which is likely, and
one at the bounds, which holds except with the failure probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from labctl.protocols.leakage import Assumptions, Trust, prior_free_bits_per_mode
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.bounds import BoundedChannel, channel_bits
from labctl.protocols.verification.verdict import VerificationReport


@dataclass(frozen=True)
class UnderTrust:
    """Bits per real weight under assumptions: at the estimates of T and excess noise, and at most.

    `bits_upper` holds except with the report's failure probability; infinite where the light says
    nothing. Both are the prior-free figure, and None where no returned light was read.
    """

    assumptions: Assumptions
    bits_at_estimate: float | None
    bits_upper: float | None


def under_every_trust(
    settings: SessionSettings, report: VerificationReport
) -> tuple[UnderTrust, ...]:
    """Return what the light says with loss and technical noise trusted or not, all four ways."""
    return tuple(
        UnderTrust(
            assumptions,
            _at_estimate(settings, assumptions, report),
            None
            if report.bounds is None
            else report.bounds.bits(
                assumptions, settings.channel.technical_noise, prior_free_bits_per_mode
            ),
        )
        for assumptions in (Assumptions(*pair) for pair in product(Trust, Trust))
    )


def _at_estimate(
    settings: SessionSettings, assumptions: Assumptions, report: VerificationReport
) -> float | None:
    light, noise, link = report.transmittance, report.excess_noise, report.link_transmittance
    if light is None or noise is None or link is None:
        return None
    return channel_bits(
        BoundedChannel(light, noise),
        BoundedChannel(light / link, noise / link),
        mean_photons=settings.light.mean_photons,
        technical_noise=settings.channel.technical_noise,
        link_transmittance=link,
        assumptions=assumptions,
        figure=prior_free_bits_per_mode,
    )
