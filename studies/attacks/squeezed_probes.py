"""Squeezed probes: a server whose light is quieter than vacuum sees the clone's noise sooner.

Honest returned light is vacuum noise plus the clone's kick g along c. A server that squeezes X of
every mode it sends, means as agreed, and reads X of what returns, has

    V = 1 - T (1 - 10^(-s/10)),  s the squeezing in dB, T the round trip with the detector,

in place of vacuum: the kick's spike over the noise grows by 1/V, and the Fisher information on each
coefficient of c, M (g/V)^2/(1 + g/V), by up to 1/V^2 for weak kicks. Loss limits it: V is never
below 1 - T. P of the light is anti-squeezed, 10^(s/10): the client finds
(10^(s/10) + 10^(-s/10) - 2)/4 photons more per mode, unless the server saves them on the means
and the client's F with them. Its own measured values betray squeezing only where mode b takes
part in P: a server that turns each mode's squeezing by the phase that c_k likely has (45 degrees
for pixels that are alike) hides it from X of b, so that the client should look at P as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import modes_of
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker, Mark
from labctl.studies.attacks.demands import require_returned_light
from labctl.studies.attacks.label_reading import (
    DIMENSIONS,
    CuriousServer,
    LabelReading,
    MountedLabelReading,
)
from labctl.studies.attacks.probes import ProbedLink
from labctl.units import db_to_ratio

# Four times the decibels of the best squeezed light (15 dB: Vahlbruch et al., Phys. Rev. Lett. 117,
# 110801 (2016)), so that limits are seen.
MOST_SQUEEZING_DB = 60.0
# As of `labels.reading`.
_MOST_ROWS = 1_000_000_000


def squeezed_variance(squeezing_db: float) -> float:
    """Return the variance of the quiet quadrature in SNU; 15 dB is the best of any laboratory.

    Vahlbruch et al., Phys. Rev. Lett. 117, 110801 (2016). Raises SettingError outside 0 to 60 dB.
    """
    checks.within("squeezing_db", squeezing_db, 0.0, MOST_SQUEEZING_DB, note=" dB")
    return db_to_ratio(-squeezing_db)


def returned_variance(squeezing_db: float, transmittance: float) -> float:
    """Return V, what is left of vacuum noise after a round trip of `transmittance` (0 to 1]."""
    checks.above("transmittance", transmittance, 0.0, 1.0)
    return 1.0 - transmittance * (1.0 - squeezed_variance(squeezing_db))


def direction_information(rows: int, kick: float, variance: float) -> float:
    """Return the Fisher information M s^2/(1 + s), s = kick/variance, on a coefficient of c.

    Real rows of covariance variance (1 + s c c^T), c of unit length; `variance` 1 gives that of
    the journal version's bound.
    """
    checks.within("rows", rows, 1, _MOST_ROWS)
    checks.not_negative("kick", kick)
    checks.positive("variance", variance)
    spike = kick / variance
    return rows * spike**2 / (1.0 + spike)


@dataclass(frozen=True, eq=False)
class SqueezedProbes:
    """The attack: weights sent on squeezed light, labels read from X of what returns.

    squeezing_db: of the light sent, 0 to 60. templates: public images of known label.
    """

    squeezing_db: float
    templates: LabelledImages
    repeats: int = 1
    dimensions: int = DIMENSIONS

    name = "squeezed-probes"
    party = Attacker.SERVER

    def __post_init__(self) -> None:
        squeezed_variance(self.squeezing_db)
        checks.at_least("repeats", self.repeats, 1)

    @property
    def strength(self) -> float:
        """Squeezing in dB."""
        return self.squeezing_db

    def mount(self, network: Network, settings: SessionSettings) -> MountedLabelReading:
        """Return the attack in place; raises SettingError unless returned light is read."""
        require_returned_light(settings)
        modes = modes_of(carried(network).network.sizes[0])
        through = settings.transmittance_of(modes) * settings.verifier.efficiency
        link = ProbedLink(settings, sent_variance=squeezed_variance(self.squeezing_db), only_x=True)
        reading = LabelReading(self.templates, self.repeats, self.dimensions)
        variance = returned_variance(self.squeezing_db, through)
        server = CuriousServer(network, settings, reading, variance)
        return MountedLabelReading(self.repeats, link, server)

    def mark(self, _network: Network, _settings: SessionSettings) -> Mark | None:
        """Return None: the server's own verdict is not what detects a dishonest server."""
        return None
