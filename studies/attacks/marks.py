"""What the server's pooled fit shows of changes to slope and noise that differ between modes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import Blocks, Floats, modes_of, pad_to_modes
from labctl.protocols.link import LayerLight
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Mark
from labctl.studies.attacks.weights_estimate import Mask


@dataclass(frozen=True)
class LayerPath:
    """What the marks of an attack need to know of a layer, the `index`-th, and its way.

    `leg`: transmittance of one leg, rotation included. `clone_noise`: what an honest clone adds
    to a mode on average, in SNU at the client.
    """

    index: int
    weights: Floats
    modes: int
    blocks: Blocks
    leg: float
    clone_noise: float
    settings: SessionSettings

    @property
    def rows(self) -> int:
        """Rows of the layer."""
        return int(self.weights.shape[0])

    @property
    def loud_modes(self) -> int:
        """Modes of each row that return with an honest clone's noise."""
        return self.blocks.collected(self.settings.clones_of(self.index))

    @property
    def sent_variance(self) -> float:
        """Variance of a mean quadrature, 2 mu, less where an odd weight rides alone."""
        return self.settings.light.mean_photons * int(self.weights.shape[1]) / self.modes

    def light(self) -> LayerLight:
        """Return the layer's weights as light, in its own units."""
        return LayerLight(self.index, pad_to_modes(self.weights))

    def power_share(self, chosen: Mask) -> float:
        """Return the share of the layer's light that rides on these modes (rows, n)."""
        square = np.square(pad_to_modes(self.weights), dtype=np.float64)
        power = square[:, 0::2] + square[:, 1::2]
        return float(power[chosen].sum() / power.sum())


@dataclass(frozen=True)
class Change:
    """How an attack changes one layer's returned light.

    `slope`: mean amplitude over that of honest use. `slope_variance`: of that ratio between modes
    and queries. `noise`: in SNU at the server, on top of honest use. `share`: of the modes that
    carry all of it, each drawn by itself.
    """

    slope: float = 1.0
    slope_variance: float = 0.0
    noise: float = 0.0
    share: float = 1.0


def layer_paths(network: Network, settings: SessionSettings) -> tuple[LayerPath, ...]:
    """Return the way of each layer in an honest session."""
    paths = []
    for index, weights in enumerate(carried(network).network.layers):
        modes = modes_of(weights.shape[1])
        blocks = Blocks.of(modes, settings.channel.block_modes)
        loud = blocks.collected(settings.clones_of(index))
        clone = settings.receiver.returned_noise * loud / modes
        leg = settings.leg_transmittance_of(modes)
        paths.append(LayerPath(index, weights, modes, blocks, leg, clone, settings))
    return tuple(paths)


def pooled_mark(
    network: Network, settings: SessionSettings, change: Callable[[LayerPath], Change]
) -> Mark:
    """Return the mark of an attack from its change to each layer.

    The server fits one slope to all it reads: what single modes deviate from it shows as noise.
    In honest sessions layers of different loss deviate as well, which it expects.
    """
    paths = layer_paths(network, settings)
    changes = [change(path) for path in paths]
    modes = [path.rows * path.modes for path in paths]
    sent = [count * path.sent_variance for count, path in zip(modes, paths, strict=True)]
    honest = [path.leg for path in paths]
    now = [path.leg * one.slope for path, one in zip(paths, changes, strict=True)]
    honest_slope, slope = _mean(honest, sent), _mean(now, sent)
    added, squares = 0.0, 0.0
    for count, power, before, after, one in zip(modes, sent, honest, now, changes, strict=True):
        spread = (after - slope) ** 2 + before**2 * one.slope_variance
        missed = power / count * (spread - (before - honest_slope) ** 2)
        added += count * (one.noise + missed)
        squares += count * (one.noise + missed) ** 2 / one.share if one.share else 0.0
    added, squares = added / sum(modes), squares / sum(modes)
    white = _honest_variance(paths, modes)
    return Mark(added, (slope / honest_slope) ** 2, _scatter(white, added, squares))


def _honest_variance(paths: Sequence[LayerPath], modes: Sequence[int]) -> float:
    """Return the variance of honest residuals in SNU at the server, pooled over all modes."""
    settings = paths[0].settings
    shot = (1.0 + settings.verifier.electronic_noise) / settings.verifier.efficiency
    clones = [path.leg * path.clone_noise for path in paths]
    return (
        shot + settings.channel.technical_noise + _mean(clones, [float(count) for count in modes])
    )


def _scatter(white: float, added: float, squares: float) -> float:
    """Return the variance of a squared residual over that of white noise of the same variance.

    Of a Gaussian whose own variance v is random: (3 E v^2 - (E v)^2)/(2 (E v)^2). `added` and
    `squares`: mean and mean square of what v has on top of `white`.
    """
    mean = white + added
    if not mean > 0.0:
        return 1.0
    return max(1.0 + 1.5 * (squares - added**2) / mean**2, 1.0)


def of_some_modes(share: float, slope: float, noise: float) -> Change:
    """Return the change if a share of the modes has its amplitude times `slope`, and `noise`."""
    return Change(
        1.0 - share * (1.0 - slope),
        share * (1.0 - share) * (1.0 - slope) ** 2,
        share * noise,
        share,
    )


def _mean(values: list[float], weights: list[float]) -> float:
    return math.fsum(map(float.__mul__, values, weights)) / math.fsum(weights)
