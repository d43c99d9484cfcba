"""A client that taps the light and squeezes what is left, so that the tap does not show.

Light that is brighter on one quadrature than on the other can be tapped beyond what its noise
seems to allow. A tap of sin^2(theta) dims every mode by cos(theta); a squeezer behind it multiplies
the bright quadrature by e^r and the other by e^-r. With a share a of the power on the bright one
the pooled slope is one for

    cos(theta) (a e^r + (1 - a) e^-r) = 1,

and the pooled noise is cosh(2r) - 1, noise above vacuum on one quadrature being made up for by
noise below it on the other, and what single slopes miss: the mean of sent^2 (slope - 1)^2. Where
all light is on X, r ~ sqrt(noise/2) and the tap takes 2r of the light: at the noise of an honest
client 5 %, where light that is alike on both gives it noise/(2 + 2 mu), 0.04 %. Light on both
quadratures of a mode is what the encoding sends; the attack shows why the prior-free figure has to
lie so far above the honest one.

What it may know is the Holevo information of the tapped arm: coherent states dimmed by sin(theta),
of the Gaussian prior of the network's own second moments. A heterodyne reading tells less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import thermal_entropy_bits
from labctl.protocols.link import LayerLight
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Learned, Mark
from labctl.studies.attacks.budget import NoiseSpender, noise_per_mode, overspent, path_with
from labctl.studies.attacks.marks import pooled_mark
from labctl.studies.attacks.mounted import BesideHonestServer
from labctl.studies.attacks.stations import HETERODYNE_NOISE
from labctl.studies.attacks.tampered_link import Beam, TamperedLink
from labctl.studies.attacks.weights_estimate import Notebook

Doubles = npt.NDArray[np.float64]

# e^20 of squeezing is beyond any budget.
_MOST_SQUEEZING = 20.0


@dataclass(frozen=True)
class TapAndSqueeze(NoiseSpender):
    """Spends `budget` times an honest clone's noise on tap and squeezer, 0 to 100; 1: no clone.

    Below 1 it clones with what is left, and so serves its own queries, with more noise.
    """

    name: ClassVar[str] = "tap-and-squeeze"

    def mount(self, network: Network, settings: SessionSettings) -> SqueezingClient:
        """Return the client with its tap and squeezer."""
        notebook = Notebook(settings.light.mean_photons)
        tap = SqueezedTap(settings, self.budget, notebook)
        link = TamperedLink(settings, path_with(settings, tap, self.budget))
        return SqueezingClient(link, tap, notebook)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return nothing up to a budget of 1, then the noise that is more than honest."""
        return pooled_mark(network, settings, lambda path: overspent(self.budget, path))


@dataclass(frozen=True)
class Squeezing:
    """A tap of `share` of the power, then `log_gain` r: X times e^r, P times e^-r."""

    share: float
    log_gain: float

    @classmethod
    def spending(cls, noise: float, power_x: float, power_p: float) -> Squeezing:
        """Return what shows a pooled slope of 1 and this `noise`, in SNU.

        `power_x`, `power_p`: mean squares of what is sent on each, in SNU.
        """
        if noise <= 0.0 or not power_x + power_p > 0.0:
            return cls(0.0, 0.0)
        from scipy.optimize import brentq

        bright = max(power_x, power_p) / (power_x + power_p)

        def made(log_gain: float) -> float:
            kept = _kept(log_gain, bright)
            slopes = kept * math.exp(log_gain) - 1.0, kept * math.exp(-log_gain) - 1.0
            missed = bright * slopes[0] ** 2 + (1.0 - bright) * slopes[1] ** 2
            return 2.0 * math.sinh(log_gain) ** 2 + 0.5 * (power_x + power_p) * missed - noise

        log_gain = brentq(made, 0.0, _MOST_SQUEEZING, xtol=1e-15)
        share = 1.0 - _kept(log_gain, bright) ** 2
        return cls(share, log_gain if power_x >= power_p else -log_gain)


def _kept(log_gain: float, bright: float) -> float:
    """Return the amplitude that a tap leaves, so that the pooled slope is 1."""
    return 1.0 / (bright * math.exp(log_gain) + (1.0 - bright) * math.exp(-log_gain))


class SqueezedTap:
    """Tap and squeezer at the client's input."""

    def __init__(self, settings: SessionSettings, budget: float, notebook: Notebook) -> None:
        self._settings = settings
        self._budget = budget
        self._notebook = notebook
        self._layers: dict[int, tuple[LayerLight, Squeezing]] = {}

    def meet(self, beam: Beam) -> None:
        """Tap, read the tapped light by heterodyne, squeeze what goes on."""
        light, before = beam.light, beam.transmittance
        if light.layer not in self._layers:
            powers = (before * float(np.mean(np.square(part))) for part in (light.x, light.p))
            noise = self._budget * noise_per_mode(self._settings, light)
            self._layers[light.layer] = light, Squeezing.spending(noise, *powers)
        chosen = self._layers[light.layer][1]
        if chosen.share <= 0.0:
            return
        arm = beam.split(1.0 - chosen.share)
        arm += beam.vacuum(*arm.shape)
        amplitude = math.sqrt(before * chosen.share)
        self._notebook.layer(light).look_at_modes(arm, None, amplitude, HETERODYNE_NOISE)
        beam.field.real *= np.float32(math.exp(chosen.log_gain))
        beam.field.imag *= np.float32(math.exp(-chosen.log_gain))
        beam.transmittance = before

    def holevo_bits(self) -> float | None:
        """Return bits per real weight in the tapped light of one query, of the worst layer."""
        through = self._settings.leg_transmittance_of
        bits = [
            tapped_bits(light.quadratures, chosen.share * through(light.modes))
            for light, chosen in self._layers.values()
        ]
        return max(bits, default=None)


def tapped_bits(sent: Floats, share: float) -> float:
    """Return the Holevo information per quadrature of rows dimmed to `share` of their power.

    `sent` (rows, 2n): X and P of a mode next to each other, in SNU. Of the Gaussian prior of their
    second moments: entropies of the modes of 1 + share C (Williamson); given the row the light is
    coherent and has none.
    """
    rows = sent.astype(np.float64)
    covariance = np.eye(rows.shape[1]) + share * (rows.T @ rows) / len(rows)
    # i Omega V: each symplectic eigenvalue comes with both signs.
    turned = np.empty_like(covariance)
    turned[0::2], turned[1::2] = covariance[1::2], -covariance[0::2]
    values = np.abs(np.linalg.eigvals(turned).imag)
    bits: float = 0.5 * math.fsum(map(thermal_entropy_bits, values)) / rows.shape[1]
    return bits


@dataclass(frozen=True, eq=False)
class SqueezingClient(BesideHonestServer):
    """The mounted attack."""

    link: TamperedLink
    tap: SqueezedTap
    notebook: Notebook

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score what the taps say of all weights, and what they hold at most."""
        found = self.notebook.learned(network)
        return replace(found, weights_bits_holevo=self.tap.holevo_bits())

    def stolen(self, network: Network) -> tuple[Floats, ...]:
        """Return the notebook's best estimate of each layer's weights."""
        return self.notebook.estimates(network)
