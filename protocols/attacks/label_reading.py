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
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import DatasetError, SettingError
from labctl.protocols.attacks.attack import Learned, Mark, Party
from labctl.protocols.attacks.wishart import (
    Complexes,
    Reals,
    complex_scatter,
    photon_counts,
    real_scatter,
)
from labctl.protocols.client import Client
from labctl.protocols.encoding import Blocks, Floats, modes_of
from labctl.protocols.link import Link, ReturnedLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import GAIN_RANGE, MOST_GAIN, added_noise
from labctl.protocols.server import Server
from labctl.protocols.settings import Sampling, SessionSettings

Labels = npt.NDArray[Any]

DIMENSIONS = 48
_MOST_ROWS = 1_000_000_000
_MOST_NOISE = 1e6
_IMAGES_AT_ONCE = 64
_TEMPLATES_AT_ONCE = 4096
# Share of the templates' mean in the rates of each: a pixel dark in one template is not dark for
# sure in an image like it.
_MEAN_SHARE = 0.1
_DARK_SHARE = 0.01


class Detection(StrEnum):
    """How the server reads what returns."""

    HETERODYNE = "heterodyne"
    HOMODYNE = "homodyne"
    COUNTING = "photon-counting"


@dataclass(frozen=True)
class Reading:
    """What returns and how it is read.

    gain: the client's G. rows: M that carry the same input, `repeats` times. transmittance: from
    the clone to the detector, its efficiency included. technical_noise: in SNU as detected.
    emission_factor: n_sp, or what a tap's detectors make of it. background_photons: per mode and
    row, dark counts and light not nulled, for photon counting alone. vacuum_variance: what is left
    of a homodyne reading's vacuum noise, below 1 where the server sent squeezed light. Raises
    SettingError.
    """

    gain: float
    rows: int
    repeats: int = 1
    transmittance: float = 1.0
    technical_noise: float = 0.0
    block_modes: int | None = None
    emission_factor: float = 1.0
    receiver: Detection = Detection.HOMODYNE
    background_photons: float = 0.0
    vacuum_variance: float = 1.0

    def __post_init__(self) -> None:
        Blocks.of(1, self.block_modes)
        few = f"0 to {_MOST_NOISE:g}"
        checks = (
            ("gain", 1.0 < self.gain <= MOST_GAIN, GAIN_RANGE),
            ("rows", self.rows >= 1, "1 or more"),
            ("repeats", self.repeats >= 1 and self.samples <= _MOST_ROWS,
             f"1 or more, {_MOST_ROWS} rows in all at most"),
            ("transmittance", 0.0 < self.transmittance <= 1.0, "above 0, at most 1"),
            ("technical_noise", 0.0 <= self.technical_noise <= _MOST_NOISE, few),
            ("emission_factor", 1.0 <= self.emission_factor <= _MOST_NOISE, "1 or more, to 1e6"),
            ("vacuum_variance", 0.0 < self.vacuum_variance <= 1.0, "above 0, at most 1"),
            ("background_photons", 0.0 <= self.background_photons <= _MOST_NOISE, few),
        )  # fmt: skip
        for name, holds, valid in checks:
            if not holds:
                raise SettingError(name, getattr(self, name), valid)
        if self.vacuum_variance != 1.0 and self.receiver is not Detection.HOMODYNE:
            raise SettingError("vacuum_variance", self.vacuum_variance, "1 unless homodyne reads")

    @property
    def samples(self) -> int:
        """Rows in all, M R."""
        return self.rows * self.repeats

    @property
    def spike(self) -> float:
        """Variance of the kick over that of the white noise; for counting, its photons per row."""
        kick = self.transmittance * self.emission_factor * added_noise(self.gain)
        if self.receiver is Detection.COUNTING:
            return kick / 2.0
        vacuum = 2.0 if self.receiver is Detection.HETERODYNE else self.vacuum_variance
        return kick / (vacuum + self.technical_noise)

    @property
    def background(self) -> float:
        """White thermal photons per mode and row that a counter sees besides."""
        return self.background_photons + self.technical_noise / 2.0

    @property
    def evidence(self) -> float:
        """What success depends on: M R spike^2/(1 + spike), for counting the photons M R spike."""
        if self.receiver is Detection.COUNTING:
            return self.samples * self.spike
        return self.samples * self.spike**2 / (1.0 + self.spike)


class _View(Protocol):
    """One block of modes as a receiver sees it."""

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        """Return what is read of inputs of these directions (B, b), as features (B, F)."""
        ...

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        """Return (T, F) and (T,): log likelihoods are features times the first plus the second."""
        ...


@dataclass(frozen=True, eq=False)
class _Heterodyne:
    basis: Complexes
    spike: float
    samples: int

    @classmethod
    def of(cls, templates: Complexes, reading: Reading, dimensions: int) -> _Heterodyne:
        moments = templates.T @ templates.conj()
        return cls(_strongest(moments, dimensions), reading.spike, reading.samples)

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        inside = directions @ self.basis.conj()
        return self.features(complex_scatter(generator, inside, self.spike, self.samples))

    def features(self, scatter: Complexes) -> Reals:
        """Return Re + Im: of two Hermitian matrices, one's Re and the other's Im are orthogonal."""
        centred = scatter - self.samples * np.eye(scatter.shape[-1], dtype=np.float32)
        return _flat(centred.real + centred.imag)

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        inside = templates @ self.basis.conj()
        power = np.sum(np.abs(inside) ** 2, axis=1)
        slope = self.spike / (1.0 + self.spike * power)
        bias = self.samples * (slope * power - np.log1p(self.spike * power))
        real, imaginary = inside.real, inside.imag
        left = np.stack([real, imaginary], axis=2) * slope[:, None, None]
        right = np.stack([real - imaginary, real + imaginary], axis=1)
        return _flat(left.astype(np.float32) @ right), bias.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Homodyne:
    basis: Reals
    spike: float
    samples: int

    @classmethod
    def of(cls, templates: Complexes, reading: Reading, dimensions: int) -> _Homodyne:
        moments = (templates.T @ templates.conj()).real
        return cls(_strongest(moments, dimensions), reading.spike, reading.samples)

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        inside = directions @ self.basis
        return self.features(real_scatter(generator, inside, self.spike, self.samples))

    def features(self, scatter: Reals) -> Reals:
        return _upper(scatter - self.samples * np.eye(scatter.shape[-1], dtype=np.float32))

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        inside = templates @ self.basis
        # The phase that makes Re c and Im c orthogonal: then they are the covariance's axes.
        turned = np.exp(-0.5j * np.angle(np.sum(inside**2, axis=1)))[:, None] * inside
        axes = np.stack([turned.real, turned.imag], axis=1).astype(np.float32)
        power = np.sum(axes**2, axis=2)
        slope = 0.5 * self.spike / (1.0 + self.spike * power)
        bias = self.samples * (slope * power - 0.5 * np.log1p(self.spike * power))
        matrices = (axes * slope[:, :, None]).swapaxes(1, 2) @ axes
        return _upper(matrices), np.sum(bias, axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Counting:
    mean: Reals
    photons: float
    background: float
    samples: int

    @classmethod
    def of(cls, templates: Complexes, reading: Reading, _dimensions: int) -> _Counting:
        mean = np.mean(np.abs(templates) ** 2, axis=0)
        flat = np.mean(mean) + np.zeros_like(mean)
        likely = (1.0 - _DARK_SHARE) * mean + _DARK_SHARE * flat
        return cls(likely, reading.spike, reading.background, reading.samples)

    def observe(self, generator: np.random.Generator, directions: Complexes) -> Reals:
        return photon_counts(generator, directions, self.photons, self.background, self.samples)

    def weights(self, templates: Complexes) -> tuple[Reals, Reals]:
        shape = (1.0 - _MEAN_SHARE) * np.abs(templates) ** 2 + _MEAN_SHARE * self.mean
        rates = self.samples * (self.photons * shape + self.background)
        return np.log(rates).astype(np.float32), -np.sum(rates, axis=1).astype(np.float32)


_VIEWS: Mapping[Detection, Callable[[Complexes, Reading, int], _View]] = {
    Detection.HETERODYNE: _Heterodyne.of,
    Detection.HOMODYNE: _Homodyne.of,
    Detection.COUNTING: _Counting.of,
}


class LabelReader:
    """Names labels from what one way of reading shows, given public images of known label.

    templates: (T, N) of any scale, at least two classes among `labels` (T,). Raises DatasetError.
    """

    def __init__(
        self, templates: Floats, labels: Labels, reading: Reading, dimensions: int = DIMENSIONS
    ) -> None:
        if templates.ndim != 2 or labels.shape != (len(templates),):
            raise DatasetError(
                f"templates of shape {templates.shape}, labels {labels.shape}: must be (T, N), (T,)"
            )
        if not templates.any():
            raise DatasetError("templates are all dark: must show something")
        if dimensions < 1:
            raise SettingError("dimensions", dimensions, "1 or more")
        self._pixels = templates.shape[1]
        self._reading = reading
        self._blocks = Blocks.of(modes_of(templates.shape[1]), reading.block_modes)
        self._templates = directions_of(templates, reading.block_modes)
        self.classes, self._members = np.unique(labels, return_inverse=True)
        if len(self.classes) < 2:
            raise DatasetError(f"templates of {len(self.classes)} class: must be 2 or more")
        view = _VIEWS[reading.receiver]
        self.views: tuple[_View, ...] = tuple(
            view(self._templates[:, part], reading, min(dimensions, part.stop - part.start))
            for part in self._blocks.slices()
        )

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
    dimensions: int = DIMENSIONS,
    seed: int = 0,
) -> Learned:
    """Return the share of images (B, N) whose label a server reads from the light of layer 1.

    Templates must not contain the images. The draws are exact (see `wishart`); for the other
    parameters see `Reading`. Raises SettingError, DatasetError.
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
    )
    return success_of(
        LabelReader(templates, template_labels, reading, dimensions), images, labels, seed
    )


def success_of(reader: LabelReader, images: Floats, labels: Labels, seed: int) -> Learned:
    """Return how often `reader` names the labels (B,) of images (B, N), B at least 1."""
    if labels.shape != (len(images),) or not len(images):
        raise DatasetError(f"{len(images)} images with labels {labels.shape}: must be as many")
    if seed < 0:
        raise SettingError("seed", seed, "0 or more")
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
    party = Party.SERVER

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise SettingError("repeats", self.repeats, "1 or more")

    @property
    def strength(self) -> float:
        """Repeats of the same image."""
        return float(self.repeats)

    def mount(self, network: Network, settings: SessionSettings) -> MountedLabelReading:
        """Return the attack in place; raises SettingError unless returned light is read."""
        if settings.sampling is not Sampling.ALL:
            raise SettingError("sampling", str(settings.sampling), "all: light must return")
        if self.templates.images.shape[1] != network.sizes[0]:
            raise SettingError(
                "pixels of the templates", self.templates.images.shape[1], f"{network.sizes[0]}"
            )
        server = CuriousServer(network, settings, self)
        return MountedLabelReading(self.repeats, ModeLink(settings), server)

    def mark(self, _network: Network, _settings: SessionSettings) -> Mark:
        """Return that nothing is to be seen."""
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
        super().__init__(network, settings.mean_photons, settings.block_modes)
        self._repeats = attack.repeats
        modes, verifier = self.light(0).modes, settings.verifier
        blocked = 1.0 + verifier.electronic_noise
        technical = verifier.electronic_noise + verifier.efficiency * settings.technical_noise
        white = vacuum_variance + technical
        seen = settings.leg_transmittance_of(modes) * verifier.efficiency
        self._slope = math.sqrt(settings.transmittance_of(modes) * verifier.efficiency / blocked)
        self._unit = math.sqrt(white / blocked)
        receiver = settings.receiver
        self._reader = LabelReader(
            attack.templates.images,
            attack.templates.labels,
            Reading(
                gain=receiver.gain,
                rows=self.light(0).rows,
                repeats=attack.repeats,
                transmittance=seen,
                technical_noise=technical,
                vacuum_variance=vacuum_variance,
                block_modes=settings.block_modes,
                emission_factor=receiver.emission_factor,
            ),
            attack.dimensions,
        )
        self._kept: list[list[Reals]] = []

    def check(self, layer: int, returned: ReturnedLight) -> None:
        """Verify as an honest server does; keep the first layer's scatter."""
        super().check(layer, returned)
        if layer != 0:
            return
        light = self.light(0)
        expected = returned.cosine * light.x + returned.sine * light.p
        residual = (returned.measured - np.float32(self._slope) * expected) / self._unit
        scatters = []
        for view, part in zip(self._reader.views, light.blocks.slices(), strict=True):
            assert isinstance(view, _Homodyne)
            inside = residual[:, part] @ view.basis
            scatters.append(np.asarray(inside.T @ inside, np.float32))
        self._kept.append(scatters)

    def named(self) -> Labels:
        """Return the label that is named for each image, its repeats pooled."""
        images = len(self._kept) // self._repeats
        observed = []
        for block, view in enumerate(self._reader.views):
            assert isinstance(view, _Homodyne)
            each = np.stack([scatters[block] for scatters in self._kept])
            pooled = each.reshape(images, self._repeats, *each.shape[1:]).sum(axis=1)
            observed.append(view.features(pooled))
        return self._reader.read(observed)


def directions_of(images: Floats, block_modes: int | None) -> Complexes:
    """Return what an honest client's receiver is set to, c (B, n), for images (B, N)."""
    client = Client((images.shape[1], 1), images, block_modes)
    halves = np.ascontiguousarray(client.coefficients(), np.float32)
    return halves.view(np.complex64)


def _strongest(moments: npt.NDArray[Any], dimensions: int) -> Any:
    """Return the eigenvectors (b, dimensions) of the largest second moments."""
    _, vectors = np.linalg.eigh(moments)
    return np.ascontiguousarray(vectors[:, ::-1][:, :dimensions])


def _flat(matrices: npt.NDArray[Any]) -> Reals:
    return np.asarray(matrices.reshape(len(matrices), -1), np.float32)


def _upper(matrices: Reals) -> Reals:
    """Return symmetric matrices (B, k, k) as vectors with the same inner products."""
    size = matrices.shape[-1]
    rows, columns = np.triu_indices(size)
    weight = np.where(rows == columns, 1.0, math.sqrt(2.0)).astype(np.float32)
    kept: Reals = np.take(_flat(matrices), rows * size + columns, axis=1) * weight
    return kept
