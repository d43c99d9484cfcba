"""What all light of one account tells of each weight, whoever looked at how much of it.

The light that was looked at came back with a transmittance and a noise of the mode that carries a
weight in all queries; light that nobody looked at, or that is only reserved, may have been kept.
Both together are one mode (`labctl.protocols.leakage.cumulative`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from labctl.protocols.leakage.assumptions import Assumptions
from labctl.protocols.leakage.cumulative import Channel, everything_bits
from labctl.protocols.ledger.accounts import Balance
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.verification.collective_noise import collective_noise
from labctl.protocols.verification.collective_record import CollectiveSums


@dataclass(frozen=True)
class CumulativeAccount:
    """The bound of an account under given assumptions.

    `sums`: what the light that was looked at shows, None if none was. `failure_probability` of the
    bound, which rests on the collective noise (half) and on the transmittance (half).
    """

    sums: CollectiveSums | None
    technical_noise: float
    assumptions: Assumptions
    client_transmittance: float
    failure_probability: float

    @property
    def looked(self) -> float:
        """Photons per mode, summed over queries, that were looked at."""
        return 0.0 if self.sums is None else self.sums.light

    def bits(self, sent: float) -> float:
        """Return bits per real weight that `sent` photons per mode tell, the unseen ones kept."""
        unseen = max(sent - self.looked, 0.0)
        if self.sums is None:
            return everything_bits(unseen) if unseen > 0.0 else 0.0
        transmittance, noise = self._bounds
        channel = Channel(
            transmittance=transmittance,
            technical_noise=self.technical_noise,
            assumptions=self.assumptions,
            client_transmittance=self.client_transmittance,
        )
        return channel.bits(self.looked, noise, unseen=unseen)

    @cached_property
    def _bounds(self) -> tuple[float, float]:
        """Transmittance from below and collective noise from above."""
        assert self.sums is not None
        half = self.failure_probability / 2.0
        noise = collective_noise(self.sums, half).upper
        return self.sums.pooled.transmittance_lower(half), noise

    def reservation(self, balance: Balance, light: float) -> float:
        """Return what must be put aside for `light` more photons per mode, all of it kept.

        On top of what is settled, as if nothing else were open, because open queries may turn out
        to have told little; and at least what lifts all that is taken to the bound of all light.
        """
        settled, taken = (
            (part.value(Meter.PHOTONS), part.value(Meter.CUMULATIVE_BITS))
            for part in (balance.spent, balance.taken)
        )
        alone = self.bits(settled[0] + light) - (self.bits(settled[0]) if settled[0] else 0.0)
        together = self.bits(taken[0] + light) - taken[1]
        return max(alone, together, 0.0)

    def charge(self, balance: Balance, reserved: float) -> float:
        """Return what to book of a query, `reserved` of it standing in `balance`.

        What then stands on the account is no less than the bound of all its light, open queries
        counted as kept.
        """
        others = balance.taken.value(Meter.CUMULATIVE_BITS) - reserved
        return max(self.bits(balance.taken.value(Meter.PHOTONS)) - others, 0.0)
