"""What all light of one account tells of each weight, of which some was verified and some not.

The light that was looked at came back with a transmittance and a noise of the mode that carries a
weight in all queries; light that nobody looked at, or that is only reserved, may have been kept.
Both together are one mode (`labctl.protocols.leakage.cumulative`).

Light of several terms (`LightTerms`) is several such modes b_g with shares s_g of the light, and
the mode of all light is sum sqrt(s_g) b_g. Its amplitude is sum s_g sqrt(T_g). Noise of the modes
may be correlated, for the client may keep its ancillas: the noise of the sum is
(sum sqrt(s_g C_g))^2 at most, by Cauchy's inequality. Light of any terms may also be left out, as
if nobody had looked at it: what is lowest holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from labctl.protocols.leakage.assumptions import Assumptions, Trust
from labctl.protocols.leakage.cumulative import AssumedChannel, everything_bits
from labctl.protocols.ledger.accounts import Balance
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.collective_store import KeptSums
from labctl.protocols.verification.bounds import left_to_client
from labctl.protocols.verification.collective_bounds import collective_evidence

_UNTRUSTED = Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED)

# With no more than this share of all light looked at, the bound is the entropy of all light anyway
# (its test: 0.01 to 5e4 photons, noise from 1e-6 SNU on), and to search for it would take long.
_LITTLE = 0.1


@dataclass(frozen=True)
class _Seen:
    """Light of one kind of terms: photons per mode, transmittance and noise that no one trusts."""

    light: float
    transmittance: float
    noise: float


@dataclass(frozen=True)
class CumulativeAccount:
    """The bound of an account, each run's light under what that run may trust.

    `kept`: what the light that was looked at shows, none if none was. `failure_probability` of the
    bound, shared among the terms.
    """

    kept: tuple[KeptSums, ...]
    failure_probability: float

    @property
    def looked(self) -> float:
        """Photons per mode, summed over queries, that were looked at."""
        return math.fsum(each.sums.light for each in self.kept)

    def bits(self, sent: float) -> float:
        """Return bits per real weight that `sent` photons per mode tell, the unseen ones kept.

        Light that was looked at is in `sent` as stated, the rest as it was at most.
        """
        unseen = max(sent - self.looked, 0.0)
        total = math.fsum(seen.light for seen in self._seen) + unseen
        if not total > 0.0:
            return 0.0
        lowest = everything_bits(total)
        for light, transmittance, noise in self._together:
            if light <= _LITTLE * total:
                continue
            channel = AssumedChannel(transmittance, 0.0, _UNTRUSTED)
            rest = max(total - light, 0.0)
            lowest = min(lowest, channel.bits(light, noise, unseen=rest))
        return lowest

    @cached_property
    def _together(self) -> tuple[tuple[float, float, float], ...]:
        """Light, transmittance from below and noise from above of the quietest modes together."""
        return tuple(self._sums_of_modes())

    def _sums_of_modes(self) -> Iterator[tuple[float, float, float]]:
        light = amplitude = noise = 0.0
        for each in sorted(self._seen, key=lambda seen: seen.noise):
            light += each.light
            amplitude += each.light * math.sqrt(each.transmittance)
            noise += math.sqrt(each.light * each.noise)
            yield light, (amplitude / light) ** 2, noise**2 / light

    @cached_property
    def _seen(self) -> tuple[_Seen, ...]:
        """What each kind of terms shows, in the order of `kept`."""
        return tuple(map(self._bound, self.kept))

    def _bound(self, kept: KeptSums) -> _Seen:
        """Return light, transmittance and noise of one kind of terms, each at its bound.

        As in a verdict (`collective_bounds`): trusted loss is the link's as calibrated, the rest
        of it the client's.
        """
        terms, sums = kept.terms, kept.sums
        bounds = collective_evidence(
            sums,
            terms.doubts,
            self.failure_probability / len(self.kept),
            mean_photons=sums.light,
            link_transmittance=terms.link_transmittance,
        ).bounds
        channel = left_to_client(
            bounds.round_trip,
            bounds.in_client,
            technical_noise=terms.technical_noise,
            link_transmittance=terms.link_transmittance,
            assumptions=terms.assumptions,
        )
        if not (channel.transmittance > 0.0 and math.isfinite(bounds.mean_photons)):
            return _Seen(sums.light, 0.0, math.inf)
        noise = max(channel.excess_noise, 0.0)
        return _Seen(bounds.mean_photons, min(channel.transmittance, 1.0), noise)

    @cached_property
    def light_factor(self) -> float:
        """True over stated light of all queries, at most, as far as one knows."""
        factors = (
            seen.light / kept.sums.light for seen, kept in zip(self._seen, self.kept, strict=True)
        )
        return max(factors, default=1.0)

    def reservation(self, balance: Balance, light: float) -> float:
        """Return what must be put aside for `light` more photons per mode, all of it kept.

        On top of what is settled, as if nothing else were open, because open queries may turn out
        to have leaked little; and at least what lifts all that is taken to the bound of all light.
        """
        settled, taken = (
            (part.value(Meter.PHOTONS), part.value(Meter.CUMULATIVE_BITS))
            for part in (balance.spent, balance.taken)
        )
        alone = self.bits(settled[0] + light) - (self.bits(settled[0]) if settled[0] else 0.0)
        together = self.bits(taken[0] + light) - taken[1]
        return max(alone, together, 0.0)

    def owed(self, balance: Balance) -> float:
        """Return what all that is taken lacks to the bound of its light, open queries as kept."""
        taken = balance.taken
        photons = taken.value(Meter.PHOTONS)
        if not photons > 0.0:
            return 0.0
        return max(self.bits(photons) - taken.value(Meter.CUMULATIVE_BITS), 0.0)

    def charge(self, balance: Balance, reserved: float, released: float = 0.0) -> float:
        """Return what to book of a query, `reserved` bits of it standing in `balance`.

        The sum of the account is then no less than the bound of all its light, open queries
        counted as kept. released: photons per mode that stand in `balance` and are not booked.
        """
        taken = balance.taken
        others = taken.value(Meter.CUMULATIVE_BITS) - reserved
        return max(self.bits(taken.value(Meter.PHOTONS) - released) - others, 0.0)
