"""How surely the pooled checks catch an attack on a given network, in closed form.

The power of `protocols.power` at the mark that the attack leaves on this network, with what the
checks themselves allow: the check of the gain grants each clone's noise the worst direction, as
only the client knows which mode it cloned. On networks of few modes that moves its threshold; the
true spread of the slope stays what it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from labctl import checks
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.encoding import quadratures
from labctl.protocols.link import LayerLight
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.checks import SHARES
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.studies.attacks.attack import Attack, Attacker, ChangingAttack, Mark
from labctl.studies.attacks.marks import LayerPath, layer_paths
from labctl.studies.attacks.power import (
    MOST_MODES,
    Detectability,
    HonestLight,
    gain_detection,
    noise_detection,
    shares_in_use,
)


@dataclass(frozen=True)
class Honesty:
    """What honest light of a session shows the server, pooled over all layers.

    `light`: as it is. `gain_variance`: variance per reading, in SNU, that the check of the gain
    allows, clones along the worst direction. `modes`: read per image.
    """

    light: HonestLight
    gain_variance: float
    modes: int


def honesty_of(network: Network, settings: SessionSettings) -> Honesty:
    """Return what an honest session of this network and these settings shows."""
    paths = layer_paths(network, settings)
    counts = [path.rows * path.modes for path in paths]
    modes = sum(counts)
    sent = [count * path.sent_variance for count, path in zip(counts, paths, strict=True)]
    slope = math.fsum(p.leg * each for p, each in zip(paths, sent, strict=True)) / math.fsum(sent)
    missed = math.fsum(each * (p.leg - slope) ** 2 for p, each in zip(paths, sent, strict=True))
    clones = math.fsum(c * p.leg * p.clone_noise for c, p in zip(counts, paths, strict=True))
    verifier = settings.verifier
    light = HonestLight(
        mean_photons=0.5 * math.fsum(sent) / modes,
        transmittance=slope**2,
        excess_noise=(clones + missed) / modes + settings.channel.technical_noise,
        shot_noise=(1.0 + verifier.electronic_noise) / verifier.efficiency,
    )
    allowed = _gain_variance(network, settings, paths, light, math.fsum(sent))
    return Honesty(light, allowed, modes)


def _gain_variance(
    network: Network,
    settings: SessionSettings,
    paths: tuple[LayerPath, ...],
    light: HonestLight,
    sent: float,
) -> float:
    """Return the variance that the check of the gain reckons with (`checks.Honest`)."""
    clone = settings.receiver.returned_noise * max(path.leg for path in paths)
    share = math.fsum(path.rows * path.loud_modes for path in paths)
    share /= math.fsum(path.rows * path.modes for path in paths)
    white = light.shot_noise + max(light.excess_noise - clone * share, 0.0)
    most = math.fsum(
        LayerEvidence(
            LayerLight(
                path.index,
                quadratures(weights, settings.light.mean_photons),
                path.blocks.size,
                settings.clones_of(path.index),
            )
        ).strongest_direction
        for path, weights in zip(paths, carried(network).network.layers, strict=True)
    )
    return white + clone * min(most / sent, 1.0)


@dataclass(frozen=True)
class DetectionTheory:
    """Power of the pooled checks against one attack.

    Raises SettingError for attacks of the server, which judges itself as it likes.
    """

    attack: Attack
    network: Network
    settings: SessionSettings

    def __post_init__(self) -> None:
        if self.attack.party is Attacker.SERVER:
            valid = "one of a client or an outsider: the verdict is the server's own"
            raise SettingError("attack", self.attack.name, valid)

    @cached_property
    def honesty(self) -> Honesty:
        """What honest light shows."""
        return honesty_of(self.network, self.settings)

    @property
    def mark_changes(self) -> bool:
        """Whether the pooled mark depends on how many images there were."""
        return isinstance(self.attack, ChangingAttack)

    def mark(self, images: int = 1, seed: int | None = None) -> Mark:
        """Return the mark pooled over this number of images, of a session of that seed."""
        own = self.settings if seed is None else replace(self.settings, seed=seed)
        if isinstance(self.attack, ChangingAttack):
            mark = self.attack.mark_after(images, self.network, own)
        else:
            mark = self.attack.mark(self.network, own)
        if mark is None:
            raise SettingError("attack", self.attack.name, "one that leaves a known mark")
        return mark

    def power(self, mark: Mark, modes: int, false_alarm_probability: float) -> Detectability:
        """Return how surely `modes` pooled modes with this mark are caught."""
        honest = self.honesty
        verification = self.settings.verification
        return _power(
            mark,
            honest.light,
            honest.gain_variance,
            modes,
            verification.calibration_samples,
            false_alarm_probability,
            verification.monitor_samples > 0,
            modes >= 2 * honest.modes,
        )

    def after(self, images: int, false_alarm_probability: float) -> Detectability:
        """Return how surely a session of this number of images is caught, at the settings' seed."""
        modes = images * self.honesty.modes
        return self.power(self.mark(images), modes, false_alarm_probability)

    def mean_power(self, modes: int, false_alarm_probability: float, seeds: Sequence[int]) -> float:
        """Return the probability that either check catches `modes` modes, averaged over seeds.

        The seed matters to marks of modes that are chosen once for a session.
        """
        images = -(-modes // self.honesty.modes)
        powers = [
            self.power(self.mark(images, seed), modes, false_alarm_probability).either
            for seed in seeds
        ]
        return math.fsum(powers) / len(powers)

    def modes_to_catch(self, false_alarm_probability: float, power: float) -> int | None:
        """Return the fewest pooled modes that are caught with probability `power`, None if none.

        An image need not end there. Where a guess of the client's gets better from query to query,
        what counts is the first image of the first 1024 in which the power is reached: each of the
        first 64 is looked at, of later ones about each eighth.
        """
        checks.inside("power", power, 0.0, 1.0)
        least, most = 2, MOST_MODES
        mark = self.mark()
        if self.mark_changes:
            image = self._first_image(false_alarm_probability, power)
            if image is None:
                return None
            least = max((image - 1) * self.honesty.modes + 1, 2)
            most, mark = image * self.honesty.modes, self.mark(image)

        def caught(modes: int) -> bool:
            return self.power(mark, modes, false_alarm_probability).either >= power

        return _least(caught, least, most)

    def _first_image(self, probability: float, power: float) -> int | None:
        """Return the first image at the end of which the power is reached."""
        image = 1
        while image <= _MOST_GUESSES:
            if self.after(image, probability).either >= power:
                return image
            image += max(image // 8 - 7, 1)
        return None


# Images after which an attack that changes is no longer followed; it has settled long before.
_MOST_GUESSES = 1024


def _least(caught: Callable[[int], bool], least: int, most: int) -> int | None:
    """Return the first number from `least` on that is caught, as all beyond it are; None if none.

    Numbers up to `most` are tried, or the first that doubling reaches beyond it.
    """
    if caught(least):
        return least
    low, high = least, 2 * least
    while not caught(high):
        if high > most:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if caught(middle) else (middle, high)
    return high


@lru_cache(maxsize=4096)
def _power(
    mark: Mark,
    light: HonestLight,
    gain_variance: float,
    modes: int,
    calibration_samples: int,
    probability: float,
    monitored: bool,
    repeated: bool,
) -> Detectability:
    checks.at_least("modes", modes, 2)
    checks.probability("false_alarm_probability", probability)
    of_all = shares_in_use(monitored=monitored, repeated=repeated)
    of_noise, low, high = (
        probability * SHARES[name] / of_all for name in ("pooled noise", "low gain", "high gain")
    )
    noise = noise_detection(mark, light, modes, calibration_samples, of_noise)
    # Same true variance, seen from the one that the check of the gain reckons with.
    wider = replace(light, excess_noise=gain_variance - light.shot_noise)
    moved = Mark(mark.excess_noise + light.variance - wider.variance, mark.transmittance_ratio)
    gain = gain_detection(moved, wider, modes, calibration_samples, low, high)
    return Detectability(noise, gain, 1.0 - (1.0 - noise) * (1.0 - gain))
