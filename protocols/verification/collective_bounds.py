"""What all queries together prove of the mode that carries a weight: verdict and ledger alike.

Of the failure probability p half goes to the collective noise, a tenth of it to the shot-noise unit
where that is doubtful. The other half goes to the transmittance and to the light: all of it to the
samples, or half of it with p/10 each for the constants of the transmittance and of the light. So
the bounds hold together except with p.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from labctl.protocols.verification.bounds import BoundedChannel, Bounds, with_doubts
from labctl.protocols.verification.collective_noise import CollectiveNoise, collective_noise
from labctl.protocols.verification.collective_record import CollectiveSums
from labctl.protocols.verification.doubts import Doubts

LIGHT_SHARE = 0.1
"""Of the failure probability, that of the light's own bound, and that of each other constant."""


@dataclass(frozen=True)
class CollectiveEvidence:
    """The collective noise, and the bounds that it, transmittance and light come to.

    Excess noise of both channels of `bounds` is the collective one.
    """

    noise: CollectiveNoise
    bounds: Bounds


def collective_evidence(
    sums: CollectiveSums,
    doubts: Doubts,
    failure_probability: float,
    *,
    mean_photons: float,
    link_transmittance: float,
) -> CollectiveEvidence:
    """Return what the sums of one query or more prove, except with this probability.

    mean_photons: of the mode or of one query, as stated; it comes out at its bound.
    """
    noise = collective_noise(sums, 0.5 * failure_probability, doubts)
    sampled = (0.5 if doubts.none else 0.25) * failure_probability
    found = with_doubts(
        BoundedChannel(sums.pooled.transmittance_lower(sampled), 0.0),
        doubts,
        LIGHT_SHARE * failure_probability,
        mean_photons=mean_photons,
        link_transmittance=link_transmittance,
    )
    return CollectiveEvidence(
        noise,
        replace(
            found,
            round_trip=replace(found.round_trip, excess_noise=noise.upper),
            in_client=replace(
                found.in_client, excess_noise=noise.client_upper / link_transmittance
            ),
        ),
    )
