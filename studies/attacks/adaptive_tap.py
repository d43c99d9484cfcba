"""A client without a quantum memory that remembers what it read: it taps, and refills from memory.

In query q it taps a share t of the power, heterodynes it and adds (1 - s) w to what goes on, s^2 =
1 - t, with w the unbiased estimate of the mean light from all its readings, this one included. A
reading of a tap t has precision t/2 per quadrature, K = sum t/2 that of w. Of all displacements by
past and present readings that leave the mean as it came, this one adds the least noise,

    (1 - s)^2/K        (in the first query 2 (1 - s)/(1 + s), that of a tap receiver on all modes),

quadratic in a small tap, where what is learned grows linearly. With d = K_q - K_(q-1) = t/2 the
noise is d^2/K_q for small taps, and of all schedules of the same final K the sum of these is least
for d/K = x with x_1 = 1, x_(q+1) = x_q - x_q^2/2 (the derivatives with respect to each K_q vanish;
y^2/K is convex). Then R queries of noise eps each reach about K = eps R (R + 3)/4, a quarter of
what a quantum memory holds, with T = 1 exactly and nearly the same noise in every query.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.encoding import Floats
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Learned, Mark
from labctl.studies.attacks.budget import NoiseSpender, noise_per_mode, path_with
from labctl.studies.attacks.marks import Change, LayerPath, pooled_mark
from labctl.studies.attacks.mounted import BesideHonestServer
from labctl.studies.attacks.stations import HETERODYNE_NOISE
from labctl.studies.attacks.tampered_link import Beam, TamperedLink
from labctl.studies.attacks.weights_estimate import Complex, Notebook

Doubles = npt.NDArray[np.float64]

# Lower end of a bracket, far below any root.
_SMALLEST = 1e-30


@dataclass(frozen=True)
class AdaptiveTap(NoiseSpender):
    """Spends `budget` times an honest clone's noise on the refill, 0 to 100; 1 leaves no clone.

    Below 1 it clones with what is left, and so serves its own queries, with more noise.
    """

    name: ClassVar[str] = "adaptive-tap"

    def mount(self, network: Network, settings: SessionSettings) -> TappingClient:
        """Return the client with its tap; how long the session is it says itself."""
        notebook = Notebook(settings.light.mean_photons)
        tap = RefilledTap(settings, self.budget, notebook)
        link = TamperedLink(settings, path_with(settings, tap, self.budget))
        return TappingClient(link, tap, notebook)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return the mark of one query; see `mark_after`."""
        return self.mark_after(1, network, settings)

    def mark_after(self, queries: int, network: Network, settings: SessionSettings) -> Mark:
        """Return what is more than honest: nothing up to a budget of 1.

        Less than honest, where all light of all queries is taken and the budget is not used up.
        """

        def change(path: LayerPath) -> Change:
            noise = queries * self.budget * path.clone_noise
            refill = spent_noise(tap_schedule(queries, noise)) / queries
            clone = max(1.0 - self.budget, 0.0) * path.clone_noise
            return Change(noise=path.leg * (refill + clone - path.clone_noise))

        return pooled_mark(network, settings, change)


def tap_schedule(queries: int, noise: float) -> Doubles:
    """Return the share of the power to tap in each of `queries` queries, 0 to 1.

    `noise`: that of the refill, added over all queries, in SNU; for more than taking all light in
    every query makes, all of it is taken.
    """
    checks.at_least("queries", queries, 1)
    checks.not_negative("refill noise", noise, ", finite, in SNU")
    if noise == 0.0:
        return np.zeros(queries)
    fresh = [1.0]
    while len(fresh) < queries:
        fresh.append(fresh[-1] - 0.5 * fresh[-1] ** 2)
    # K_q over K_1, then d_q = x_q K_q.
    known = np.cumprod([1.0, *(1.0 / (1.0 - x) for x in fresh[1:])])
    steps = 2.0 * np.array(fresh) * known
    from scipy.optimize import brentq

    def over(log_scale: float) -> float:
        return spent_noise(np.minimum(math.exp(log_scale) * steps, 1.0)) - noise

    low, high = math.log(_SMALLEST), -math.log(float(steps.min()))
    scale = math.exp(brentq(over, low, high, xtol=1e-13)) if over(high) > 0.0 else math.exp(high)
    return np.minimum(scale * steps, 1.0)


def spent_noise(taps: Doubles) -> float:
    """Return the noise of the refill, added over all queries, for these taps (shares of power)."""
    known = np.cumsum(0.5 * taps)
    missing = (1.0 - np.sqrt(1.0 - taps)) ** 2
    return float(np.divide(missing, known, out=np.zeros_like(known), where=known > 0.0).sum())


class RefilledTap:
    """The tap at the client's input, and what it has read of each layer so far."""

    def __init__(self, settings: SessionSettings, budget: float, notebook: Notebook) -> None:
        self._settings = settings
        self._budget = budget
        self._notebook = notebook
        self._queries = 1
        self._taps: dict[int, list[float]] = {}
        self._sums: dict[int, Complex] = {}
        self._known: dict[int, float] = {}

    def plan(self, queries: int) -> None:
        """Plan for a session of this number of queries."""
        self._queries = max(queries, 1)

    def meet(self, beam: Beam) -> None:
        """Tap, read, note, and add what is missing."""
        light, before = beam.light, beam.transmittance
        if light.layer not in self._taps:
            noise = self._queries * self._budget * noise_per_mode(self._settings, light)
            self._taps[light.layer] = tap_schedule(self._queries, noise).tolist()[::-1]
            self._sums[light.layer] = np.zeros_like(beam.field)
            self._known[light.layer] = 0.0
        # Beyond the session that was planned nothing is tapped.
        tap = self._taps[light.layer].pop() if self._taps[light.layer] else 0.0
        if tap == 0.0:
            return
        arm = beam.split(1.0 - tap)
        arm += beam.vacuum(*arm.shape)
        page = self._notebook.layer(light)
        page.look_at_modes(arm, None, math.sqrt(before * tap), HETERODYNE_NOISE)
        self._sums[light.layer] += np.float32(math.sqrt(tap) / HETERODYNE_NOISE) * arm
        self._known[light.layer] += tap / HETERODYNE_NOISE
        missing = (1.0 - math.sqrt(1.0 - tap)) / self._known[light.layer]
        beam.field += np.float32(missing) * self._sums[light.layer]
        beam.transmittance = before


@dataclass(frozen=True, eq=False)
class TappingClient(BesideHonestServer):
    """The mounted attack."""

    link: TamperedLink
    tap: RefilledTap
    notebook: Notebook

    def inputs(self, images: Floats) -> Floats:
        """Return the images as they are, and plan the taps for their number."""
        self.tap.plan(len(images))
        return images

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score what the taps say of all weights; a weaker clone's readings are left out."""
        return self.notebook.learned(network)

    def stolen(self, network: Network) -> tuple[Floats, ...]:
        """Return the notebook's best estimate of each layer's weights."""
        return self.notebook.estimates(network)
