"""What a training run depends on besides the images, and the recipes of the shipped networks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

from labctl import checks
from labctl.errors import SettingError
from labctl.studies.training.channel import IDEAL_CHANNEL, TrainingChannel
from labctl.studies.training.pruning import Pruning


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run depends on besides the images; the same settings give the same network.

    sizes: inputs, hidden widths, classes. signal_to_noise: F > 0, a range (lowest, highest) of
    which each image draws its own F evenly in decibels, or None to train without noise.
    learning_rate: Adam's, decayed to zero along a cosine. initial_rms: of the weights at the
    start; small values make the first steps large, because only the direction of a layer counts.
    max_shift_px: each image is moved at random by up to that many pixels (square images only).
    peak_limit: after each step weights are cut to this multiple of their layer's RMS, or None; a
    modulator sends the largest weight at full drive, so outliers cost the others their light.
    averaging: the network is the running mean of the weights with this memory per step (0: the
    last weights, 0.999: a mean over about 1,000 steps). held_out: share of the images that is not
    learned from; patience: end after a number of epochs in which the loss on them did not fall, and
    keep the network of the lowest one. channel: technical noise and quantisation. pruning: start
    from a trained network cut down to these sizes and to fewer inputs, None: from random weights.
    Raises SettingError.
    """

    signal_to_noise: float | tuple[float, float] | None = None
    sizes: tuple[int, ...] = (784, 784, 10)
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    initial_rms: float = 0.01
    max_shift_px: float = 0.0
    peak_limit: float | None = None
    seed: int = 0
    averaging: float = 0.0
    held_out: float = 0.0
    patience: int | None = None
    channel: TrainingChannel = IDEAL_CHANNEL
    pruning: Pruning | None = None

    def __post_init__(self) -> None:
        self._check_architecture()
        self._check_signal_to_noise()
        checks.positive("learning_rate", self.learning_rate)
        checks.positive("initial_rms", self.initial_rms)
        for name, low in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            _require_whole(name, getattr(self, name), low)
        if self.peak_limit is not None:
            checks.at_least("peak_limit", self.peak_limit, 2, note=" times the RMS, or None")
        checks.below("averaging", self.averaging, 0, 1)
        self._check_shift()
        self._check_stopping()

    @property
    def signal_to_noise_range(self) -> tuple[float, float]:
        """Lowest and highest F trained at; infinite without noise."""
        ratio = self.signal_to_noise
        if isinstance(ratio, tuple):
            return ratio
        return (math.inf, math.inf) if ratio is None else (ratio, ratio)

    @property
    def working_point(self) -> float:
        """The F at which held-out images are measured: the middle in decibels of the range."""
        low, high = self.signal_to_noise_range
        return low if low == high else math.sqrt(low * high)

    def as_json(self) -> str:
        """Return all settings as one JSON object; what was added later only where it is used."""
        content = asdict(self)
        if self.pruning is None:
            del content["pruning"]
        if self.channel.weight_dither == 0:
            del content["channel"]["weight_dither"]
        return json.dumps(content)

    def with_short_average(self, images: int) -> TrainingSettings:
        """Return the settings with a running mean over at most a fortieth of all steps.

        images: how many there are. Few images make few steps; a mean over most of them would be of
        weights that have hardly learned anything.
        """
        batches = (images - round(self.held_out * images)) // self.batch_size
        most = 1 - 1 / max(1.0, self.epochs * batches / 40)
        return replace(self, averaging=min(self.averaging, most))

    def _check_architecture(self) -> None:
        if len(self.sizes) < 2 or not all(_is_whole(size) and size > 0 for size in self.sizes):
            raise SettingError("sizes", self.sizes, "two or more whole numbers above 0")
        if self.sizes[-1] < 2:
            raise SettingError("sizes", self.sizes, "sizes that end with at least 2 classes")

    def _check_signal_to_noise(self) -> None:
        ratio = self.signal_to_noise
        if not isinstance(ratio, tuple):
            if ratio is not None:
                checks.positive("signal_to_noise", ratio)
            return
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1] < math.inf:
            raise SettingError("signal_to_noise", ratio, "F, or lowest and highest F above 0")

    def _check_shift(self) -> None:
        side = math.isqrt(self.sizes[0])
        limit = side if side**2 == self.sizes[0] else 0
        if not (self.max_shift_px == 0 or 0 < self.max_shift_px < limit):
            valid = f"0, or below the side of square pictures (inputs: {self.sizes[0]})"
            raise SettingError("max_shift_px", self.max_shift_px, valid)

    def _check_stopping(self) -> None:
        checks.within("held_out", self.held_out, 0, 0.5, note=" of the images")
        if self.patience is None:
            return
        _require_whole("patience", self.patience, 1)
        if self.held_out == 0:
            raise SettingError("patience", self.patience, "None where no images are held out")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_whole(name: str, value: object, low: int) -> None:
    if not (isinstance(value, int) and _is_whole(value) and low <= value < 2**31):
        raise SettingError(name, value, f"a whole number from {low} to 2^31 - 1")


# Accuracy depends on rows times F, the light of the whole layer, nearly alone. So fewer rows need
# a higher F, which is faster on a bench, and more rows a lower one, which leaks less per weight.
# Two hidden layers need less light than one: the second averages the noise of the first.
_NOISE_AWARE = TrainingSettings(
    signal_to_noise=0.2,
    epochs=100,
    learning_rate=2e-3,
    max_shift_px=0.7,
    peak_limit=8.0,
    averaging=0.999,
)
_MANY_ROWS = replace(
    _NOISE_AWARE,
    signal_to_noise=0.1,
    sizes=(784, 1568, 10),
    epochs=50,
    batch_size=512,
    learning_rate=4e-3,
    averaging=0.99,
)
RECIPES: Mapping[str, TrainingSettings] = MappingProxyType(
    {
        "reference": TrainingSettings(epochs=20, initial_rms=0.05),
        "noise-aware": _NOISE_AWARE,
        "few-rows": replace(_NOISE_AWARE, signal_to_noise=0.6, sizes=(784, 256, 10)),
        "many-rows": _MANY_ROWS,
        # Public, worthless, and as like `noise-aware` as a network can be that learned by itself.
        # Its mean is over a fortieth of the steps, see `with_short_average`.
        "stand-in": replace(_NOISE_AWARE, seed=1, epochs=40, averaging=1 - 1 / 468),
        # What is left of `noise-aware` gets the light that all of it had, which is more per weight.
        "pruned": replace(
            _NOISE_AWARE,
            signal_to_noise=1.2,
            sizes=(784, 200, 10),
            epochs=80,
            initial_rms=0.1,
            averaging=1 - 1 / 936,  # a fortieth of its 37,440 steps
            pruning=Pruning("noise-aware", inputs=458),
        ),
        "deep": replace(_MANY_ROWS, signal_to_noise=0.15, sizes=(784, 784, 784, 10)),
    }
)
