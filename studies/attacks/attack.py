"""What an attack is: somebody dishonest, as a party or on the line, and the outcome.

An attack is a value (frozen, seeded by the session's settings). Mounted for one session, it has
the link, and if it is the server's, the server, in place of the honest ones. It works
from what its party really has: a client knows its inputs and the light it kept, a server its
weights and the light that returned, an outsider the light it took. The truth is used to score it,
after the session, and for nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.encoding import Floats
from labctl.protocols.link import Link
from labctl.protocols.server import Server
from labctl.protocols.session import BATCH_IMAGES, Session
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.verdict import VerificationReport


class Attacker(StrEnum):
    """Who attacks."""

    CLIENT = "client"
    SERVER = "server"
    OUTSIDER = "outsider"


@dataclass(frozen=True)
class Mark:
    """What an attack leaves in the returned light on average, in closed form.

    `excess_noise`: in SNU at the server, on top of what honest use shows, averaged over all modes
    of the session. `transmittance_ratio`: mean returned amplitude squared over that of honest use.
    `scatter`: variance of a squared residual over that of white noise of the same variance, above
    1 where few modes carry the noise.
    """

    excess_noise: float = 0.0
    transmittance_ratio: float = 1.0
    scatter: float = 1.0


@dataclass(frozen=True)
class Learned:
    """What an attack got hold of, measured against the truth; None where it was not after it.

    Correlations (Pearson) are between estimates and truth over `samples` weights or data symbols.
    `label_success`: share of `samples` images whose label was named. `weights_bits_network`: bits
    per real weight that the looks tell under the Gaussian prior of this network's bound, each
    number counted once. `weights_wrong`: share of all weights taken for another level than theirs;
    `weights_bits_discrete`: information between true and decided levels, in bits per weight; of
    words at least, and `weights_wrong` are weights in words taken for others.
    `weights_bits_holevo`: most that any reading of the light taken from one query tells, in bits
    per real weight of the worst layer, rows being taken as equally bright, which is no less.
    `copy_accuracy`: share of test images that the stolen network classifies correctly, without
    noise. `remark`: what the attack lacked in this network, and what it did instead.
    """

    samples: int
    weights_correlation: float | None = None
    data_correlation: float | None = None
    label_success: float | None = None
    weights_bits_network: float | None = None
    copy_accuracy: float | None = None
    weights_wrong: float | None = None
    weights_bits_discrete: float | None = None
    weights_bits_holevo: float | None = None
    remark: str | None = None

    @property
    def weights_bits_per_real(self) -> float | None:
        """Bits per real weight that an estimate of this correlation tells of Gaussian weights.

        Of weights that are independent, as leakage bounds take them. Those of a trained network
        are correlated: one number determines many of them, and this figure counts it each time.
        """
        return _gaussian_bits(self.weights_correlation)

    @property
    def data_bits_per_symbol(self) -> float | None:
        """Bits per data symbol that an estimate of this correlation tells of Gaussian symbols."""
        return _gaussian_bits(self.data_correlation)

    @property
    def label_success_error(self) -> float | None:
        """Standard error of the label success (binomial)."""
        share = self.label_success
        return None if share is None else math.sqrt(share * (1.0 - share) / self.samples)


def _gaussian_bits(correlation: float | None) -> float | None:
    if correlation is None:
        return None
    rest = 1.0 - min(abs(correlation), 1.0) ** 2
    return -0.5 * math.log2(rest) if rest > 0.0 else math.inf


class Mounted(Protocol):
    """An attack in place for one session."""

    @property
    def link(self) -> Link:
        """The link of the session, with the attacker on it."""
        ...

    @property
    def server(self) -> Server | None:
        """The server of the session, or None for the honest one."""
        ...

    def inputs(self, images: Floats) -> Floats:
        """Return what the client feeds in; an honest client its images (B, N)."""
        ...

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score what the attacker holds after the session against the truth."""
        ...


@runtime_checkable
class StealsNetwork(Mounted, Protocol):
    """A mounted attack that ends with a copy of the network."""

    def stolen(self, network: Network) -> tuple[Floats, ...]:
        """Return its estimate of each layer's weights; the network gives their shapes alone."""
        ...


class Attack(Protocol):
    """A dishonest party, with how hard it tries."""

    @property
    def name(self) -> str:
        """Its name on the command line, as over-gain."""
        ...

    @property
    def party(self) -> Attacker:
        """Who attacks."""
        ...

    @property
    def strength(self) -> float:
        """How hard it tries, in the unit of its parameter; larger is harder."""
        ...

    def mount(self, network: Network, settings: SessionSettings) -> Mounted:
        """Return the attack in place for a session of these settings."""
        ...

    def mark(self, network: Network, settings: SessionSettings) -> Mark | None:
        """Return what it leaves in the returned light, or None where no closed form exists."""
        ...


@runtime_checkable
class ChangingAttack(Attack, Protocol):
    """An attack whose pooled mark depends on how many queries there were."""

    def mark_after(self, queries: int, network: Network, settings: SessionSettings) -> Mark | None:
        """Return the mark pooled over a session of this number of queries."""
        ...


@dataclass(frozen=True)
class AttackOutcome:
    """What came of an attacked session: what was learned, and whether the server caught it."""

    learned: Learned
    verification: VerificationReport

    @property
    def caught(self) -> bool:
        """Whether the verification rejected the session."""
        return self.verification.accepted is False


def carry_out(
    attack: Attack,
    network: Network,
    settings: SessionSettings,
    images: LabelledImages,
    *,
    batch_images: int = BATCH_IMAGES,
) -> AttackOutcome:
    """Run one session with the attack in place; the verdict expects what honest use shows.

    It is that of the checks alone, without figures in bits, which are most of the work.
    """
    mounted = attack.mount(network, settings)
    session = Session(network, settings, mounted.link, server=mounted.server)
    for _ in session.run(mounted.inputs(images.images), batch_images=batch_images):
        pass
    return AttackOutcome(mounted.learned(network, images), session.verdict(figures=False))
