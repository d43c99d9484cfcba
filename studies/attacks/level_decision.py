"""A client that reads the modes of a network with few levels, decides, and resends what it decided.

Heterodyne reads each weight with noise of variance 1/(mu T); where the levels lie further apart the
client knows the weight, and sends on exactly the light that came. No noise is added but that of
wrong decisions, and no bound that takes the weights as Gaussian says anything about it.

The levels need not be public. A rotation holds a row until all of it has come, and so may the
client: it reads the first row, fits a grid to the readings, and decides that row by it; then the
next, with twice as many, and so on. From query to query readings of the same weight are averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.levels import MOST_LEVELS, Decision, Doubles, Levels
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Learned, Mark
from labctl.studies.attacks.level_fit import fitted_levels
from labctl.studies.attacks.marks import Change, LayerPath, pooled_mark
from labctl.studies.attacks.mounted import BesideHonestServer
from labctl.studies.attacks.own_laser import of_these_modes
from labctl.studies.attacks.share import OfAShare
from labctl.studies.attacks.stations import FixedModes
from labctl.studies.attacks.tampered_link import Beam, Path, TamperedLink
from labctl.studies.attacks.weights_estimate import Complex, Mask, network_size, pearson

# Readings from which on the step of the grid is only refined, no longer sought.
_SETTLED = 4000


_NO_LEVELS = (
    "this network's weights are no levels, so there is nothing to decide: the client read its "
    "modes, fitted a grid to the readings, and resent the nearest value of the grid"
)


@dataclass(frozen=True)
class LevelDecision(OfAShare):
    """Decides a share of the modes, drawn once for the session, and is honest behind that."""

    name: ClassVar[str] = "level-decision"

    def mount(self, network: Network, settings: SessionSettings) -> LevelClient:
        """Return the client with a heterodyne receiver and a laser before its rotation."""
        reader = LevelReader(settings, self.share, carried(network).network.sizes[:-1])
        path = replace(Path.honest(settings), entering=(reader,))
        return LevelClient(TamperedLink(settings, path), reader)

    def mark(self, network: Network, settings: SessionSettings) -> Mark | None:
        """Return the mark of one query; see `mark_after`."""
        return self.mark_after(1, network, settings)

    def mark_after(self, queries: int, network: Network, settings: SessionSettings) -> Mark | None:
        """Return what wrong decisions leave, the levels being known; None if there are no levels.

        In query q the decision rests on q readings: its regression on the weight is missing light,
        the rest noise.
        """
        try:
            levels = [Levels.of(weights) for weights in carried(network).network.layers]
        except SettingError:
            return None

        def change(path: LayerPath) -> Change:
            decisions = [
                Decision.at(
                    levels[path.index],
                    mean_photons=settings.light.mean_photons,
                    transmittance=path.leg,
                    readings=query,
                )
                for query in range(1, queries + 1)
            ]
            rest = math.fsum(decision.residual for decision in decisions) / queries
            slopes = [decision.slope for decision in decisions]
            noise = path.leg**2 * path.sent_variance * rest
            return of_these_modes(self.share, slopes, path, noise)

        return pooled_mark(network, settings, change)


class _Page:
    """Sums of all readings of a layer's weights (rows, 2n), and the grid they show."""

    def __init__(self, shape: tuple[int, int], chosen: Mask) -> None:
        self.total = np.zeros(shape, np.float32)
        self.chosen = np.repeat(chosen, 2, axis=1)
        self.readings = 0
        self.step: float | None = None
        self.spacing = math.inf
        self.signal = 0.0

    @property
    def mean(self) -> Floats:
        return self.total / np.float32(max(self.readings, 1))

    def decided(self, rows: slice) -> Floats:
        """Return the levels decided for these rows, by a grid fitted to them and all before."""
        noise = 1.0 / math.sqrt(self.signal * self.readings)
        known = self.mean[: rows.stop][self.chosen[: rows.stop]]
        if not known.size:
            return np.zeros_like(self.total[rows])
        levels, step = fitted_levels(known, noise, self.step)
        if known.size >= _SETTLED:
            self.step = step
        self.spacing = step
        decision = Decision.at(levels, mean_photons=self.signal, readings=self.readings)
        return decision.decide(self.mean[rows])


class LevelReader:
    """Reads, decides and resends at the client's input. `inputs`: real weights per row by layer."""

    def __init__(self, settings: SessionSettings, share: float, inputs: tuple[int, ...]) -> None:
        self._settings = settings
        self._share = share
        self._inputs = inputs
        self._choice = FixedModes(share, settings.seed)
        self._pages: dict[int, _Page] = {}

    def meet(self, beam: Beam) -> None:
        """Read all chosen modes and put what was decided in their place."""
        if self._share == 0.0:
            return
        light, scale = beam.light, self._scale(beam)
        shape = (light.rows, light.modes)
        if light.layer not in self._pages:
            chosen = self._choice.of(light)
            self._pages[light.layer] = _Page((light.rows, 2 * light.modes), chosen)
        page = self._pages[light.layer]
        outcomes = beam.field + beam.vacuum(*shape)
        first = not page.readings
        page.total += outcomes.view(np.float32) / scale
        page.readings += 1
        page.signal = self._settings.light.mean_photons * beam.transmittance
        decided = np.concatenate(
            [page.decided(part) for part in _parts(light.rows, all_at_once=not first)]
        )
        decided[:, self._inputs[light.layer] :] = 0.0
        sent: Complex = np.ascontiguousarray(decided * scale).view(np.complex64)
        chosen_modes = page.chosen[:, ::2]
        np.copyto(beam.field, sent + beam.vacuum(*shape), where=chosen_modes)

    def _scale(self, beam: Beam) -> np.float32:
        """Return the amplitude of a weight of 1: public, as the brightness is."""
        return np.float32(math.sqrt(2.0 * self._settings.light.mean_photons * beam.transmittance))

    def estimates(self, network: Network) -> tuple[tuple[Floats, float], ...]:
        """Return each layer's weights as decided, 0 where not read, and the step of its grid."""
        found = []
        for index, weights in enumerate(carried(network).network.layers):
            page = self._pages.get(index)
            if page is None:
                found.append((np.zeros(weights.shape, np.float32), math.inf))
                continue
            decided = page.decided(slice(0, len(weights))) * page.chosen
            step = page.spacing
            found.append((decided[:, : weights.shape[1]], step))
        return tuple(found)


def _parts(rows: int, *, all_at_once: bool) -> list[slice]:
    """Return the rows decided together: 1, 1, 2, 4, ... of them, or all."""
    if all_at_once:
        return [slice(0, rows)]
    edges = [0, 1]
    while edges[-1] < rows:
        edges.append(min(2 * edges[-1], rows))
    return [slice(*pair) for pair in pairwise(edges)]


@dataclass(frozen=True, eq=False)
class LevelClient(BesideHonestServer):
    """The mounted attack."""

    link: TamperedLink
    reader: LevelReader

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score the decisions: how many weights are wrong, and what they tell in bits."""
        truth, decided, steps = [], [], []
        for weights, (estimate, step) in zip(
            carried(network).network.layers, self.reader.estimates(network), strict=True
        ):
            truth.append(unit_rms(weights).astype(np.float64).ravel())
            decided.append(estimate.astype(np.float64).ravel())
            steps.append(np.full(weights.size, step))
        true, said = np.concatenate(truth), np.concatenate(decided)
        told = _told(truth, decided)
        return Learned(
            network_size(network),
            pearson(true, [said]),
            weights_wrong=float(np.mean(np.abs(said - true) > 0.5 * np.concatenate(steps))),
            weights_bits_discrete=told,
            remark=_NO_LEVELS if told is None else None,
        )

    def stolen(self, network: Network) -> tuple[Floats, ...]:
        """Return the weights as decided."""
        return tuple(estimate for estimate, _ in self.reader.estimates(network))


def _told(truth: list[Doubles], decided: list[Doubles]) -> float | None:
    """Return the information between true and decided levels, counted, in bits per weight.

    None where the true weights are no levels.
    """
    bits, size = 0.0, sum(map(len, truth))
    for true, said in zip(truth, decided, strict=True):
        levels = Levels.of(true.astype(np.float32)) if len(np.unique(true)) <= MOST_LEVELS else None
        if levels is None:
            return None
        rows = np.searchsorted(levels.values, true - 1e-4)
        columns = np.unique(np.round(said, 6), return_inverse=True)[1]
        joint = np.zeros((len(levels.values) + 1, int(columns.max()) + 1))
        np.add.at(joint, (rows, columns), 1.0)
        bits += len(true) * (
            _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1)) - _entropy(joint.ravel())
        )
    return max(bits / size, 0.0)


def _entropy(counts: Doubles) -> float:
    shares = counts[counts > 0.0] / counts.sum()
    return float(-np.sum(shares * np.log2(shares)))
