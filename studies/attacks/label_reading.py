"""Label reading: a curious server names what the client looked at, from the returned noise alone.

The client's clone kicks every returned row of an input along the same direction c. The server
subtracts the light that it sent and is left with rows of noise whose covariance holds c c^dagger.
Public images t of known label are what c may be: with a kick of `spike` over white noise the
logarithm of a template's likelihood is spike/(1 + spike) t^dagger S t up to a constant, S being the
scatter matrix of all rows. The reader adds the likelihoods of each class and names the largest
sum, which is Bayes' rule for the empirical prior of the templates. Scatter and templates are taken
in the `dimensions` strongest principal components of the templates.

Three readings, from a kick of T n_sp g in both quadratures, T from the clone to the detector:
heterodyne sees both quadratures with one more vacuum, spike T n_sp g/(2 + technical noise);
homodyne, of any one quadrature per row, covariance 1 + spike Re(c c^dagger), spike
T n_sp g/(1 + technical noise): this is what a verifying server reads anyway. Photon counting first
displaces each returned mode to vacuum: what is left are T n_sp g/2 photons per row, spread over
modes as |c_k|^2 and hardly anything else, a signal of first order in g where the others have
second. It needs the server's own light nulled to `background_photons` per mode and row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import DatasetError, SettingError
from labctl.protocols.client import directions_of
from labctl.protocols.encoding import Blocks, Floats, modes_of
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.link import LayerLight, Link, ReturnedLight
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.server import Server
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker, Learned, Mark
from labctl.studies.attacks.demands import require_returned_light
from labctl.studies.attacks.label_joint import HomodyneJoint, joint_view
from labctl.studies.attacks.label_views import CountingView, HeterodyneView, HomodyneView, View
from labctl.studies.attacks.wishart import Complexes, Reals

__all__ = [
    "DIMENSIONS",
    "CuriousServer",
    "LabelReader",
    "LabelReading",
    "MountedLabelReading",
    "arriving",
    "chance_of",
    "label_success",
    "success_of",
]

Labels = npt.NDArray[Any]
_Seen = tuple[npt.NDArray[Any], ...]

DIMENSIONS = 48
# Images and templates that are worked on at once: memory does not grow with their numbers.
_IMAGES_AT_ONCE = 64
_TEMPLATES_AT_ONCE = 4096

_VIEWS: Mapping[Detection, Callable[[Complexes, Reading, int], View]] = {
    Detection.HETERODYNE: HeterodyneView.of,
    Detection.HOMODYNE: HomodyneView.of,
    Detection.COUNTING: CountingView.of,
}


class LabelReader:
    """Names labels from what one way of reading shows, given public images of known label.

    templates: (T, N) of any scale, at least two classes among `labels` (T,). light: X + iP
    (rows, n) in SNU that arrives at the clone, all of it before a mismatch; without a mismatch
    nothing of it is left to see. `dimensions`: principal components of templates and of rows that
    are looked at. Raises DatasetError, SettingError.
    """

    def __init__(
        self,
        templates: Floats,
        labels: Labels,
        reading: Reading,
        dimensions: int = DIMENSIONS,
        light: Complexes | None = None,
    ) -> None:
        if templates.ndim != 2 or labels.shape != (len(templates),):
            raise DatasetError(
                f"templates of shape {templates.shape}, labels {labels.shape}: must be (T, N), (T,)"
            )
        if not templates.any():
            raise DatasetError("templates are all dark: must show something")
        checks.at_least("dimensions", dimensions, 1)
        self._pixels = templates.shape[1]
        self._reading = reading
        self._blocks = Blocks.of(modes_of(templates.shape[1]), reading.block_modes)
        self._templates = directions_of(templates, reading.block_modes)
        self.classes, self._members = np.unique(labels, return_inverse=True)
        if len(self.classes) < 2:
            raise DatasetError(f"templates of {len(self.classes)} class: must be 2 or more")
        if not reading.mismatch.matched:
            shape = None if light is None else light.shape
            if shape != (reading.rows, self._blocks.modes):
                raise SettingError(
                    "light of a mismatched clone",
                    shape,
                    f"({reading.rows}, {self._blocks.modes}): rows and modes",
                )
        self.views: tuple[View, ...] = tuple(
            self._view(part, light, min(dimensions, part.stop - part.start))
            for part in self._blocks.slices()
        )

    def _view(self, part: slice, light: Complexes | None, dimensions: int) -> View:
        own, reading = self._templates[:, part], self._reading
        if light is None or reading.mismatch.matched:
            return _VIEWS[reading.receiver](own, reading, dimensions)
        return joint_view(own, reading, light[:, part], dimensions)

    def observe(self, images: Floats, generator: np.random.Generator) -> list[Reals]:
        """Draw what returns of images (B, N); one array of features (B, F) per block.

        Raises DatasetError for images of another size than the templates.
        """
        if images.ndim != 2 or images.shape[1] != self._pixels:
            raise DatasetError(f"images of shape {images.shape}: must be (B, {self._pixels})")
        directions = directions_of(images, self._reading.block_modes)
        drawn = []
        for view, part in zip(self.views, self._blocks.slices(), strict=True):
            own = directions[:, part]
            starts = range(0, len(own), _IMAGES_AT_ONCE)
            pieces = [view.observe(generator, own[i : i + _IMAGES_AT_ONCE]) for i in starts]
            drawn.append(np.concatenate(pieces))
        return drawn

    def posterior(self, observed: list[Reals]) -> npt.NDArray[np.float64]:
        """Return each class' probability (B, classes) given what was observed."""
        count = len(observed[0])
        best = np.full((count, 1), -np.inf, np.float32)
        sums = np.zeros((count, len(self.classes)))
        for scores, members in self._likelihoods(observed):
            top = np.maximum(best, scores.max(axis=1, keepdims=True))
            sums *= np.exp(best - top)
            one_hot = np.eye(len(self.classes), dtype=np.float32)[members]
            sums += np.exp(scores - top) @ one_hot
            best = top
        return np.asarray(sums / sums.sum(axis=1, keepdims=True), np.float64)

    def _likelihoods(self, observed: list[Reals]) -> Iterator[tuple[Reals, npt.NDArray[np.int64]]]:
        """Yield log likelihoods (B, some templates) and the classes' numbers of these."""
        slices = self._blocks.slices()
        for first in range(0, len(self._templates), _TEMPLATES_AT_ONCE):
            some = slice(first, first + _TEMPLATES_AT_ONCE)
            scores: Reals = np.zeros((len(observed[0]), 1), np.float32)
            for view, features, part in zip(self.views, observed, slices, strict=True):
                slopes, bias = view.weights(self._templates[some, part])
                scores = scores + features @ slopes.T + bias
            yield scores, self._members[some]

    def read(self, observed: list[Reals]) -> Labels:
        """Return the label (B,) that is named for each image observed."""
        named: Labels = self.classes[np.argmax(self.posterior(observed), axis=1)]
        return named


def label_success(
    images: Floats,
    labels: Labels,
    templates: Floats,
    template_labels: Labels,
    *,
    gain: float,
    rows: int,
    repeats: int = 1,
    transmittance: float = 1.0,
    technical_noise: float = 0.0,
    block_modes: int | None = None,
    emission_factor: float = 1.0,
    receiver: Detection = Detection.HOMODYNE,
    background_photons: float = 0.0,
    vacuum_variance: float = 1.0,
    mismatch: CloneMismatch = MATCHED_CLONE,
    light: Complexes | None = None,
    dimensions: int = DIMENSIONS,
    seed: int = 0,
) -> Learned:
    """Return the share of images (B, N) whose label a server reads from the light of layer 1.

    Templates must not contain the images. The draws are exact (see `wishart`); for the other
    parameters see `Reading` and `LabelReader`. Raises SettingError, DatasetError.
    """
    reading = Reading(
        gain=gain,
        rows=rows,
        repeats=repeats,
        transmittance=transmittance,
        technical_noise=technical_noise,
        block_modes=block_modes,
        emission_factor=emission_factor,
        receiver=receiver,
        background_photons=background_photons,
        vacuum_variance=vacuum_variance,
        mismatch=mismatch,
    )
    reader = LabelReader(templates, template_labels, reading, dimensions, light)
    return success_of(reader, images, labels, seed)


def success_of(reader: LabelReader, images: Floats, labels: Labels, seed: int) -> Learned:
    """Return how often `reader` names the labels (B,) of images (B, N), B at least 1."""
    if labels.shape != (len(images),) or not len(images):
        raise DatasetError(f"{len(images)} images with labels {labels.shape}: must be as many")
    checks.at_least("seed", seed, 0)
    named = reader.read(reader.observe(images, np.random.default_rng(seed)))
    return Learned(samples=len(labels), label_success=float(np.mean(named == labels)))


def chance_of(labels: Labels) -> float:
    """Return how often somebody is right who always names the most frequent label."""
    counts = np.unique(labels, return_counts=True)[1]
    return float(np.max(counts) / len(labels))


@dataclass(frozen=True, eq=False)
class LabelReading:
    """The attack on a real session: the server's own homodyne readings, nothing else.

    The verifier reads one quadrature per row, drawn at random. X and P of a returned row have the
    same covariance, 1 + spike Re(c c^dagger), so rows of both are pooled. The client classifies
    each image `repeats` times. Nothing in the light is changed.
    """

    templates: LabelledImages
    repeats: int = 1
    dimensions: int = DIMENSIONS

    name = "label-reading"
    party = Attacker.SERVER

    def __post_init__(self) -> None:
        checks.at_least("repeats", self.repeats, 1)

    @property
    def strength(self) -> float:
        """Repeats of the same image."""
        return float(self.repeats)

    def mount(self, network: Network, settings: SessionSettings) -> MountedLabelReading:
        """Return the attack in place; raises SettingError unless returned light is read."""
        require_returned_light(settings)
        if self.templates.images.shape[1] != network.sizes[0]:
            raise SettingError(
                "pixels of the templates", self.templates.images.shape[1], f"{network.sizes[0]}"
            )
        server = CuriousServer(network, settings, self)
        return MountedLabelReading(self.repeats, ModeLink(settings), server)

    def mark(self, _network: Network, _settings: SessionSettings) -> Mark:
        """Return that nothing can be seen."""
        return Mark()


@dataclass(frozen=True, eq=False)
class MountedLabelReading:
    """A curious server in a session with an honest client."""

    repeats: int
    link: Link
    server: CuriousServer

    def inputs(self, images: Floats) -> Floats:
        """Return the images, each repeated."""
        return np.repeat(images, self.repeats, axis=0)

    def learned(self, _network: Network, images: LabelledImages) -> Learned:
        """Return how many labels the server names."""
        named = self.server.named()
        return Learned(len(named), label_success=float(np.mean(named == images.labels)))


class CuriousServer(Server):
    """Verifies as an honest server does, and keeps the scatter of what it read besides."""

    def __init__(
        self,
        network: Network,
        settings: SessionSettings,
        attack: LabelReading,
        vacuum_variance: float = 1.0,
    ) -> None:
        super().__init__(
            network, settings.light.mean_photons, settings.channel.block_modes, settings.clones_of
        )
        self._repeats = attack.repeats
        modes, verifier = self.light(0).modes, settings.verifier
        blocked = 1.0 + verifier.electronic_noise
        technical = (
            verifier.electronic_noise + verifier.efficiency * settings.channel.technical_noise
        )
        white = vacuum_variance + technical
        seen = settings.leg_transmittance_of(modes) * verifier.efficiency
        self._slope = math.sqrt(settings.transmittance_of(modes) * verifier.efficiency / blocked)
        self._unit = math.sqrt(white / blocked)
        receiver = settings.receiver
        reading = Reading(
            gain=receiver.gain,
            rows=self.light(0).rows,
            repeats=attack.repeats,
            transmittance=seen,
            technical_noise=technical,
            vacuum_variance=vacuum_variance,
            block_modes=settings.channel.block_modes,
            emission_factor=receiver.emission_factor,
            mismatch=settings.channel.clone_mismatch,
        )
        self._reader = LabelReader(
            self.carried.inputs.taken(attack.templates.images),
            attack.templates.labels,
            reading,
            attack.dimensions,
            arriving(self.light(0), settings.leg_transmittance_of(modes)),
        )
        self._views = tuple(_in_session(view) for view in self._reader.views)
        self._reader.views = self._views
        self._kept: list[list[_Seen]] = []

    def check(self, layer: int, returned: ReturnedLight) -> None:
        """Verify as an honest server does; keep what the first layer's rows add up to."""
        super().check(layer, returned)
        if layer != 0:
            return
        light = self.light(0)
        expected = returned.cosine * light.x + returned.sine * light.p
        residual = np.asarray(
            (returned.measured - np.float32(self._slope) * expected) / self._unit, np.float32
        )
        phases = np.asarray((returned.cosine - 1j * returned.sine)[:, 0], np.complex64)
        self._kept.append(
            [
                _look(view, residual[:, part], phases)
                for view, part in zip(self._views, light.blocks.slices(), strict=True)
            ]
        )

    def named(self) -> Labels:
        """Return the label that is named for each image, its repeats pooled."""
        images = len(self._kept) // self._repeats
        observed = []
        for block, view in enumerate(self._views):
            pooled = []
            for arrays in zip(*(seen[block] for seen in self._kept), strict=True):
                each = np.stack(arrays)
                pooled.append(each.reshape(images, self._repeats, *each.shape[1:]).sum(axis=1))
            observed.append(view.features(*pooled))
        return self._reader.read(observed)


def arriving(light: LayerLight, transmittance: float) -> Complexes:
    """Return the rows (rows, n) of a layer as X + iP at the clone, behind a loss."""
    field = light.quadratures.astype(np.float32).view(np.complex64)
    return np.asarray(math.sqrt(transmittance) * field, np.complex64)


def _in_session(view: View) -> HomodyneView | HomodyneJoint:
    """Return the view of a session, where each image comes with its own quadratures."""
    if isinstance(view, HomodyneJoint):
        return HomodyneJoint(view.plain, view.shown, view.repeats)
    assert isinstance(view, HomodyneView)
    return view


def _look(view: HomodyneView | HomodyneJoint, rows: Reals, phases: Complexes) -> _Seen:
    """Return the scatter of one block's rows and, of a mismatched clone, what they show."""
    basis = view.basis if isinstance(view, HomodyneView) else view.plain.basis
    inside = rows @ basis
    scatter = np.asarray(inside.T @ inside, np.float32)
    if isinstance(view, HomodyneView):
        return (scatter,)
    return (scatter, *view.seen(inside, phases))
