"""Accuracy against F: measured at mode level, interpolated with its uncertainty, and inverted.

At mode level a network's accuracy depends on the settings through F alone: light, gain, loss,
efficiency and electronic noise scale the measured values, which the client renormalises, and set
the ratio F of signal to noise. One curve therefore serves every setting. Errors of the rotation
enter through the F that they leave, which is an approximation.

Two things make a measured accuracy uncertain: other images, and other noise. Every image is
classified several times with fresh noise. With p the share that is right, W the mean over images
of p_i (1 - p_i), N images and S runs, the variance of p is (p (1 - p) - W)/N + W/(N S).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings

Reals = npt.NDArray[np.float64]

# Five times below and above the F at which training is judged (`training.evaluation`).
LEAST_F, MOST_F = 0.02, 20.0
DEFAULT_GRID = tuple(float(f"{f:.5g}") for f in np.geomspace(LEAST_F, MOST_F, 25))
# Passes of noise over each image; --runs takes more.
DEFAULT_RUNS = 3
_LEAST_POINTS = 4
# Dense enough that a straight line between two of them is exact to 1e-6.
_FINE = 4001
MOST_RUNS = 1000
_GAIN = 1.3


@dataclass(frozen=True)
class AccuracyPoint:
    """What was found at one F: how many images were right in 0, 1, ... all of the runs."""

    signal_to_noise: float
    times_correct: tuple[int, ...]

    def __post_init__(self) -> None:
        checks.positive("F of an accuracy point", self.signal_to_noise)
        if len(self.times_correct) < 2 or min(self.times_correct) < 0 or self.images < 1:
            raise SettingError(
                "times correct", self.times_correct, "a count of images for 0, 1, ... right runs"
            )

    @property
    def runs(self) -> int:
        """How often each image was classified."""
        return len(self.times_correct) - 1

    @property
    def images(self) -> int:
        """Images that were classified."""
        return sum(self.times_correct)

    @property
    def accuracy(self) -> float:
        """Share of all classifications that were right."""
        right = sum(times * count for times, count in enumerate(self.times_correct))
        return right / (self.runs * self.images)

    @property
    def image_uncertainty(self) -> float:
        """Standard uncertainty of the accuracy that the choice of images makes."""
        share = self._inner_accuracy
        return math.sqrt(max(share * (1.0 - share) - self._within, 0.0) / self.images)

    @property
    def noise_uncertainty(self) -> float:
        """Standard uncertainty of the accuracy that the noise of the runs makes."""
        return math.sqrt(self._within / (self.images * self.runs))

    @property
    def standard_uncertainty(self) -> float:
        """Standard uncertainty of the accuracy for images like these."""
        return math.hypot(self.image_uncertainty, self.noise_uncertainty)

    @property
    def _inner_accuracy(self) -> float:
        """The accuracy, kept off 0 and 1 by half an image (Jeffreys' prior)."""
        return (self.accuracy * self.images + 0.5) / (self.images + 1.0)

    @property
    def probit(self) -> float:
        """The accuracy as a normal quantile."""
        from scipy.special import ndtri

        return float(ndtri(self._inner_accuracy))

    @property
    def _within(self) -> float:
        """Mean of p_i (1 - p_i) over images, without bias; one run cannot tell: 0."""
        runs = self.runs
        if runs == 1:
            return 0.0
        pairs = sum(
            count * times * (runs - times) for times, count in enumerate(self.times_correct)
        )
        return pairs / (runs * (runs - 1) * self.images)


class NeededF(NamedTuple):
    """The least F for an accuracy: best value, standard uncertainty, and an interval.

    The truth lies below `lower`, and above `upper`, with the probability 1 - confidence each.
    Infinite where the measured curve does not get there.
    """

    value: float
    standard_uncertainty: float
    lower: float
    upper: float
    confidence: float


@dataclass(frozen=True)
class AccuracyCurve:
    """Measured accuracies of one network on some images, rising in F, and what lies between them.

    Between points: a monotone cubic (PCHIP) of the accuracy's normal quantile over log F, through
    the points made monotone (pooled where more F seems to harm, which is noise).
    """

    network_sha256: str
    images_sha256: str
    points: tuple[AccuracyPoint, ...]

    def __post_init__(self) -> None:
        values = [point.signal_to_noise for point in self.points]
        if len(values) < _LEAST_POINTS or any(np.diff(values) <= 0.0):
            raise SettingError(
                "points of an accuracy curve", values, f"{_LEAST_POINTS} or more, F rising"
            )
        if len({(point.images, point.runs) for point in self.points}) > 1:
            raise SettingError(
                "points of an accuracy curve",
                sorted({(point.images, point.runs) for point in self.points}),
                "of as many images and runs each",
            )

    @property
    def least_f(self) -> float:
        """Least F that was measured."""
        return self.points[0].signal_to_noise

    @property
    def most_f(self) -> float:
        """Greatest F that was measured."""
        return self.points[-1].signal_to_noise

    @property
    def images(self) -> int:
        """Images that were classified at each F."""
        return self.points[0].images

    def accuracy(self, signal_to_noise: float) -> float:
        """Return the accuracy at F; beyond the greatest F measured, that at it.

        Raises SettingError below the least F measured.
        """
        return float(_normal(self._probit_at(signal_to_noise)))

    def uncertainty(self, signal_to_noise: float) -> float:
        """Return the standard uncertainty of `accuracy`, for images like those measured."""
        probit = self._probit_at(signal_to_noise)
        spread = self._interpolated(self._spreads, signal_to_noise)
        return spread * math.exp(-0.5 * probit**2) / math.sqrt(2.0 * math.pi)

    def accuracy_lower(self, signal_to_noise: float, confidence: float) -> float:
        """Return what the accuracy for images like these exceeds with that confidence."""
        reach = _reach(confidence) * self._interpolated(self._spreads, signal_to_noise)
        return float(_normal(self._probit_at(signal_to_noise) - reach))

    def needed(self, accuracy: float, confidence: float = 0.95) -> NeededF:
        """Return the least F that gives the accuracy; use `upper` to have it with confidence.

        Raises SettingError for an accuracy or confidence outside 0 to 1, confidence 0.5 at least.
        """
        from scipy.special import ndtri

        checks.inside("accuracy", accuracy, 0.0, 1.0)
        reach, wanted = _reach(confidence), float(ndtri(accuracy))
        value, upper = self._first(wanted, 0.0), self._first(wanted, -reach)
        wide = (self._first(wanted, -1.0), self._first(wanted, 1.0))
        spread = (wide[0] - wide[1]) / 2.0 if math.isfinite(wide[0]) else math.inf
        return NeededF(value, spread, self._first(wanted, reach), upper, confidence)

    def _first(self, wanted: float, reach: float) -> float:
        """Return the least F at which the quantile, moved by `reach` spreads, is `wanted`."""
        log_f, probits, spreads = self._fine
        curve = np.maximum.accumulate(probits + reach * spreads)
        at = int(np.searchsorted(curve, wanted))
        if at == len(curve):
            return math.inf
        if at == 0:
            return self.least_f
        share = (wanted - curve[at - 1]) / (curve[at] - curve[at - 1])
        return math.exp(float(log_f[at - 1] + share * (log_f[at] - log_f[at - 1])))

    @cached_property
    def _fine(self) -> tuple[Reals, Reals, Reals]:
        from scipy.interpolate import PchipInterpolator

        nodes = np.log([point.signal_to_noise for point in self.points])
        fine = np.linspace(nodes[0], nodes[-1], _FINE)
        probits = PchipInterpolator(nodes, self._probits)(fine)
        return fine, np.asarray(probits), np.interp(fine, nodes, self._spreads)

    @cached_property
    def _probits(self) -> Reals:
        return _rising([point.probit for point in self.points])

    @cached_property
    def _spreads(self) -> Reals:
        """Standard uncertainty of each point's normal quantile."""
        slopes = np.exp(-0.5 * self._probits**2) / math.sqrt(2.0 * math.pi)
        return np.array([point.standard_uncertainty for point in self.points]) / slopes

    def _probit_at(self, signal_to_noise: float) -> float:
        if not self.least_f * (1.0 - 1e-9) <= signal_to_noise < math.inf:
            raise SettingError("F", signal_to_noise, f"{self.least_f:g} or more, where measured")
        log_f, probits, _ = self._fine
        return float(np.interp(math.log(signal_to_noise), log_f, probits))

    def _interpolated(self, values: Reals, signal_to_noise: float) -> float:
        nodes = np.log([point.signal_to_noise for point in self.points])
        return float(np.interp(math.log(signal_to_noise), nodes, values))


def measure_curve(
    network: Network,
    images: LabelledImages,
    *,
    grid: Sequence[float] = DEFAULT_GRID,
    runs: int = DEFAULT_RUNS,
    seed: int = 0,
    on_run: Callable[[int], None] = lambda count: None,
) -> AccuracyCurve:
    """Classify the images at every F of the grid, `runs` times with different noise each.

    Seeds are `seed`, `seed` + 1 and so on. `on_run` gets 1 for every pass over the images. Raises
    SettingError for other numbers of runs than 1 to 1000, and what `AccuracyCurve` raises.
    """
    checks.within("runs", runs, 1, MOST_RUNS)
    checks.at_least("images", len(images.labels), 1)
    points = []
    for index, signal_to_noise in enumerate(grid):
        right = np.zeros(len(images.labels), np.int64)
        for run in range(runs):
            right += _right(network, images, signal_to_noise, seed + index * runs + run)
            on_run(1)
        counts = np.bincount(right, minlength=runs + 1)
        points.append(AccuracyPoint(float(signal_to_noise), tuple(int(count) for count in counts)))
    return AccuracyCurve(network.sha256, digest_of(images), tuple(points))


def digest_of(images: LabelledImages) -> str:
    """Return the hex digest (sha256) of images and labels."""
    digest = hashlib.sha256(repr(images.images.shape).encode())
    digest.update(images.images.astype("<f4").tobytes())
    digest.update(images.labels.tobytes())
    return digest.hexdigest()


def _right(
    network: Network, images: LabelledImages, signal_to_noise: float, seed: int
) -> npt.NDArray[np.bool_]:
    receiver = CloneReceiver(_GAIN, 1.0, IDEAL_HOMODYNE)
    settings = SessionSettings(
        light=Light(0.5 * signal_to_noise * receiver.referred_noise, PLAIN),
        channel=Channel(),
        receiver=receiver,
        verifier=IDEAL_HOMODYNE,
        assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
        sampling=Sampling.MEASURED,
        seed=seed,
    )
    batches = Session(network, settings, ModeLink(settings)).run(images.images)
    classes = np.concatenate([batch.classes for batch in batches])
    return np.asarray(classes == images.labels)


def _rising(values: Sequence[float]) -> Reals:
    """Return the nearest rising sequence (least squares, pooling adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (low, few), (high, many) = pools.pop(), pools.pop()
            pools.append(((low * few + high * many) / (few + many), few + many))
    return np.concatenate([np.full(count, mean) for mean, count in pools])


def _reach(confidence: float) -> float:
    from scipy.special import ndtri

    checks.require(0.5 <= confidence < 1.0, "confidence", confidence, "0.5 (best value) to below 1")
    return float(ndtri(confidence))


def _normal(quantile: float) -> float:
    return 0.5 * math.erfc(-quantile / math.sqrt(2.0))
