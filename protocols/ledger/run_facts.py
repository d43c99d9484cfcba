"""What a run's entries in a ledger say of it, and what decides how much its queries reserve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.errors import SettingError
from labctl.protocols.copies.table import Order
from labctl.protocols.leakage import Assumptions, LayerShape, Leakage
from labctl.protocols.ledger.charges import (
    COMPOSITION_OF_WEIGHTS,
    Basis,
    WeightCharge,
    modes_of,
)
from labctl.protocols.ledger.collective_store import LightTerms
from labctl.protocols.ledger.copy_account import CopyMeans
from labctl.protocols.ledger.further import QueryTerms
from labctl.protocols.verification.doubts import EXACT, Doubts


@dataclass(frozen=True)
class RunFacts:
    """What a run's entries say of it.

    `worst_case`: what is reserved of the weights, everything or an honest client's share; the
    latter may turn out to be less than what is booked, which can overdraw an account by a batch.
    `carriers`: quadratures of a query that carry one weight, at most. `technical_noise` of the link
    in SNU, `link_transmittance` as calibrated: what the bounds may trust. Of a bench, all
    doubts are known when light was sent: `ServerBatch.book` takes them.
    `light_factor`: true over stated light, at most, of light that nobody looks at; that of light
    that is looked at follows from the doubts. `doubts`: as far as they are known before light is
    sent; what the account keeps of light of the same terms will be as doubtful once it joins.
    `copies`: what a query leaves to a thief of copies, None if nobody can say.
    """

    model_sha256: str
    shapes: tuple[LayerShape, ...]
    mean_photons: float
    leakage: Leakage
    settings: Mapping[str, Any]
    run_file: str
    worst_case: Basis = Basis.EVERYTHING
    carriers: int = 1
    technical_noise: float = 0.0
    link_transmittance: float = 1.0
    failure_probability: float = 1e-10
    copies: CopyMeans | None = None
    light_factor: float = 1.0
    doubts: Doubts = EXACT

    def __post_init__(self) -> None:
        if self.worst_case is Basis.COLLECTIVE:
            raise SettingError(
                "worst_case", str(self.worst_case), "everything or honest: bounds come after light"
            )

    @property
    def assumptions(self) -> Assumptions:
        """What the figures assume of loss and technical noise."""
        return self.leakage.assumptions

    @property
    def rows(self) -> int:
        """Rows M of the layer that carries the input itself."""
        return self.shapes[0].rows

    @property
    def light(self) -> float:
        """Photons per mode with which one query carries each weight, at most."""
        return self.carriers * self.mean_photons

    @property
    def light_at_most(self) -> float:
        """The same as far as one knows before anybody has looked at it."""
        return self.light * self.light_factor

    @property
    def terms(self) -> LightTerms:
        """How the run's light carries weights, and what it may trust."""
        return LightTerms(
            self.mean_photons,
            self.carriers,
            self.assumptions,
            technical_noise=self.technical_noise,
            link_transmittance=self.link_transmittance,
        )

    @property
    def query_terms(self) -> QueryTerms:
        """What decides how much each query of the run reserves."""
        return QueryTerms(
            light=self.light_at_most,
            modes=modes_of(self.shapes),
            worst_case=self.worst_case,
            honest_bits=self.leakage.weights_bits_per_real,
            failure_probability=self.failure_probability,
            copies=self.copies or CopyMeans(None, Order.FIXED),
        )

    def charge(
        self, queries: int, bits: float, failure_probability: float = 0.0, *, looked: bool = False
    ) -> WeightCharge:
        """Return the charge of `queries` queries that leak `bits` per weight together."""
        light = self.light if looked else self.light_at_most
        modes = modes_of(self.shapes)
        return WeightCharge(queries, queries * light, bits, modes, failure_probability)

    def about(self, basis: Basis) -> dict[str, Any]:
        """Return what a server's entry says beside its amounts."""
        assumed = self.assumptions
        return {
            "basis": str(basis),
            "settings": dict(self.settings),
            "assumptions": {
                "loss": str(assumed.loss),
                "technical_noise": str(assumed.technical_noise),
                "in_words": [*assumed.sentences(), basis.words, COMPOSITION_OF_WEIGHTS],
            },
            "run_file": self.run_file,
            "query_terms": self.query_terms.as_json(),
        }
