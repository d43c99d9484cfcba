"""What the pooled light proves: bounds that hold together, calibration's doubt included.

Half of the failure probability goes to the samples; where the constants are doubtful they get the
other half, else the samples take it all. Each half is shared again, by the union bound.

Trusted loss is that of the link as calibrated, and no more: what is lost beyond it, a client may
hold. Taken off the round trip, the channel in the client's hands is left: its transmittance is
T over the expected one of the link, its noise that at the server over the same. The same efficiency
and the same meters enter T as found and as expected, so their errors cancel in the ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.encoding import MOST_PHOTONS
from labctl.protocols.leakage import Assumptions, Figure, Trust, weights_bits_shown
from labctl.protocols.verification.channel import (
    Estimate,
    Expectation,
    excess_noise_upper,
    shot_noise_at_server,
    transmittance_lower,
)
from labctl.protocols.verification.doubts import Doubts
from labctl.protocols.verification.evidence import LayerEvidence

_UNTRUSTED = Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED)


@dataclass(frozen=True)
class BoundedChannel:
    """A channel from server to server: transmittance and excess noise at its end, in SNU."""

    transmittance: float
    excess_noise: float


@dataclass(frozen=True)
class Bounds:
    """Bounds that hold together: on the round trip, on what is left without the trusted loss, on
    mu. `link_transmittance`: the loss that is trusted if any is."""

    round_trip: BoundedChannel
    in_client: BoundedChannel
    mean_photons: float
    link_transmittance: float

    def bits(self, assumptions: Assumptions, technical_noise: float, figure: Figure) -> float:
        """Return this figure in bits per real weight at the bounds; infinite for no bound.

        Who trusts the loss may give the client all that was lost as well: where the link's own
        constants are too doubtful, the bound of the round trip is the smaller one.
        """
        cases = {assumptions, replace(assumptions, loss=Trust.UNTRUSTED)}
        return min(
            channel_bits(
                self.round_trip,
                self.in_client,
                mean_photons=self.mean_photons,
                technical_noise=technical_noise,
                link_transmittance=self.link_transmittance,
                assumptions=case,
                figure=figure,
            )
            for case in cases
        )


@dataclass(frozen=True)
class Clones:
    """How many clones the light read held, and the share of a clone's noise that may get into the
    slope: the largest power of the light in one direction of a block over all its power."""

    count: float = 0.0
    along: float = 1.0

    @classmethod
    def of(cls, evidence: Sequence[LayerEvidence]) -> Clones:
        """Return those of the light read."""
        read = [part for part in evidence if part.images]
        count = float(sum(part.images * part.row_count * part.loud_modes for part in read))
        sent = sum(part.sent_power for part in read)
        if not sent > 0.0:
            return cls(count)
        along = sum(part.images * part.strongest_direction for part in read) / sent
        return cls(count, min(along, 1.0))

    def slope_noise(
        self, excess_noise: float, estimate: Estimate, calibration: ReceiverCalibration
    ) -> float:
        """Return the variance that clones of this excess noise, in SNU, add to the slope.

        Over that of white noise at the blocked receiver's level: all of the noise is the clones'.
        """
        if not self.count > 0.0 or excess_noise <= 0.0:
            return 0.0
        each = excess_noise * estimate.degrees / min(self.count, estimate.degrees)
        return each * self.along / shot_noise_at_server(calibration)


def bounds_of(
    estimate: Estimate,
    calibration: ReceiverCalibration,
    expectation: Expectation,
    failure_probability: float,
    *,
    mean_photons: float,
    clones: Clones,
) -> Bounds:
    """Return what holds together except with `failure_probability`."""
    doubts = expectation.doubts
    exact = doubts.none
    # Two bounds rest on the samples, noise from above and T from below: a half each of all, or of
    # half where the constants are doubtful.
    sampled = 0.5 * failure_probability if exact else 0.25 * failure_probability
    # Round trip and channel in the client are bounded apart: five factors in all, a tenth each.
    doubted = 0.1 * failure_probability
    upper = excess_noise_upper(estimate, calibration, sampled, clones=clones.count)
    slope_noise = clones.slope_noise(upper, estimate, calibration)
    lower = 0.0
    if math.isfinite(slope_noise):
        lower = transmittance_lower(estimate, calibration, sampled, slope_noise=slope_noise)
    return with_doubts(
        BoundedChannel(lower, upper),
        doubts,
        doubted,
        mean_photons=mean_photons,
        link_transmittance=expectation.link_transmittance,
    )


def with_doubts(
    found: BoundedChannel,
    doubts: Doubts,
    probability: float,
    *,
    mean_photons: float,
    link_transmittance: float,
) -> Bounds:
    """Return what samples bound, once what the constants may be off by is counted as well.

    `found`: the round trip's, from samples alone. Each factor of the doubts holds except with
    `probability`.
    """
    lower, upper, link = found.transmittance, found.excess_noise, link_transmittance
    return Bounds(
        BoundedChannel(
            lower * doubts.transmittance_factor(probability),
            _scaled(upper, doubts.noise_factor(probability)),
        ),
        BoundedChannel(
            lower / link * doubts.share_factor(probability),
            _scaled(upper, doubts.client_noise_factor(probability)) / link,
        ),
        _scaled(mean_photons, doubts.light_factor(probability)),
        link,
    )


def _scaled(value: float, factor: float) -> float:
    """Return an upper bound times a factor of at least 1; a negative one is as good as it was."""
    return value * factor if value > 0.0 else value


def left_to_client(
    round_trip: BoundedChannel,
    in_client: BoundedChannel,
    *,
    technical_noise: float,
    link_transmittance: float,
    assumptions: Assumptions,
) -> BoundedChannel:
    """Return the channel that counts as the client's: what is trusted is taken out.

    Noise may come out below 0, where all that was found is trusted.
    """
    trusted_noise = technical_noise
    channel = round_trip
    if assumptions.loss is Trust.TRUSTED:
        channel, trusted_noise = in_client, technical_noise / link_transmittance
    if assumptions.technical_noise is not Trust.TRUSTED:
        return channel
    return replace(channel, excess_noise=channel.excess_noise - trusted_noise)


def channel_bits(
    round_trip: BoundedChannel,
    in_client: BoundedChannel,
    *,
    mean_photons: float,
    technical_noise: float,
    link_transmittance: float,
    assumptions: Assumptions,
    figure: Figure,
) -> float:
    """Return, by this figure, the bits per real weight of what is left to the client.

    Technical noise that is trusted is taken off the noise, loss that is trusted off the round trip;
    the rest is the client's. Infinite where the light bounds nothing.
    """
    channel = left_to_client(
        round_trip,
        in_client,
        technical_noise=technical_noise,
        link_transmittance=link_transmittance,
        assumptions=assumptions,
    )
    if not mean_photons <= MOST_PHOTONS:
        return math.inf
    return weights_bits_shown(
        channel.transmittance,
        channel.excess_noise,
        mean_photons=mean_photons,
        technical_noise=0.0,
        assumptions=_UNTRUSTED,
        client_transmittance=1.0,
        figure=figure,
    )
