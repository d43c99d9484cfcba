"""A client with a quantum memory: one ancilla per quadrature meets the same weight in every query.

A mode (X, P) meets two ancillas A and B by H = kappa (X p_A + P p_B), a nondemolition coupling to
both quadratures at once ([x, p] = 2i, all in SNU). It commutes with p_A and p_B, so that

    X -> X + kappa p_B,   P -> P - kappa p_A,
    x_A -> x_A + kappa (X + kappa p_B/2),   x_B -> x_B + kappa (P - kappa p_A/2),

exactly. Each query's light carries kappa^2 more noise on either quadrature, all of it goes back,
and its mean is untouched. The kick is the same in every query, p_A and p_B being conserved: that is
what the sum of a weight's residuals over the queries shows, and no single query does. After R
queries x_A and x_B, which commute, hold R kappa times the mean, with noise 1 of the ancilla, R
kappa^2 of the light's vacuum and (R kappa^2/2)^2 of their own kicks. Squeezed ancillas would change
nothing: what they read better they kick harder. All states are Gaussian and the coupling linear:
numbers drawn for each ancilla give the exact joint statistics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.encoding import Floats
from labctl.protocols.link import LayerLight
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Learned, Mark
from labctl.studies.attacks.budget import NoiseSpender, noise_per_mode, overspent, path_with
from labctl.studies.attacks.marks import pooled_mark
from labctl.studies.attacks.mounted import BesideHonestServer
from labctl.studies.attacks.tampered_link import Beam, TamperedLink
from labctl.studies.attacks.weights_estimate import Complex, Notebook


@dataclass(frozen=True)
class QuantumMemory(NoiseSpender):
    """Spends `budget` times an honest clone's noise on the memory, 0 to 100; 1 leaves no clone.

    Below 1 it clones with what is left, and so serves its own queries, with more noise.
    """

    name: ClassVar[str] = "quantum-memory"

    def mount(self, network: Network, settings: SessionSettings) -> MemoryClient:
        """Return the client with its ancillas."""
        ancillas = Ancillas(settings, self.budget)
        link = TamperedLink(settings, path_with(settings, ancillas, self.budget))
        return MemoryClient(link, ancillas)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return nothing up to a budget of 1, then the noise that is more than honest."""
        return pooled_mark(network, settings, lambda path: overspent(self.budget, path))


class _Pair:
    """Both ancillas of each mode of a layer: what they kick and what they hold, (rows, n)."""

    def __init__(self, beam: Beam, coupling: float) -> None:
        shape = beam.field.shape
        self.coupling = coupling
        # kappa (p_B - i p_A), and x_A + i x_B.
        self.kick: Complex = beam.vacuum(*shape) * complex(coupling)
        self.held: Complex = beam.vacuum(*shape)
        self.queries = 0
        self.transmittance = beam.transmittance

    def meet(self, beam: Beam) -> None:
        self.held += self.coupling * (beam.field + 0.5 * self.kick)
        beam.field += self.kick
        self.queries += 1

    @property
    def noise(self) -> float:
        """Variance of x_A and of x_B beside what the mean light put there."""
        met = self.queries * self.coupling**2
        return 1.0 + met + 0.25 * met**2


class Ancillas:
    """The memory, standing at the client's input: it meets all light of all queries."""

    def __init__(self, settings: SessionSettings, budget: float) -> None:
        self._settings = settings
        self._budget = budget
        self._pairs: dict[int, tuple[LayerLight, _Pair]] = {}

    def meet(self, beam: Beam) -> None:
        """Couple the ancillas of this layer to its light."""
        if self._budget == 0.0:
            return
        light = beam.light
        if light.layer not in self._pairs:
            coupling = math.sqrt(self._budget * noise_per_mode(self._settings, light))
            self._pairs[light.layer] = light, _Pair(beam, coupling)
        self._pairs[light.layer][1].meet(beam)

    def read(self) -> Notebook:
        """Read x of all ancillas by homodyne; return what they tell."""
        notebook = Notebook(self._settings.light.mean_photons)
        for light, pair in self._pairs.values():
            amplitude = pair.queries * pair.coupling * math.sqrt(pair.transmittance)
            notebook.layer(light).look_at_modes(pair.held, None, amplitude, pair.noise)
        return notebook


@dataclass(frozen=True, eq=False)
class MemoryClient(BesideHonestServer):
    """The mounted attack: the ancillas are read when the session is over."""

    link: TamperedLink
    ancillas: Ancillas

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score what the ancillas say of all weights; a weaker clone's readings are left out."""
        return self.ancillas.read().learned(network)

    def stolen(self, network: Network) -> tuple[Floats, ...]:
        """Return the best estimate of each layer's weights."""
        return self.ancillas.read().estimates(network)
