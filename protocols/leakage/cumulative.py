"""What many queries of the same weights leak together.

Given the weights, R queries with mu photons per mode are R modes in equal coherent states: up to a
passive transformation one mode with R mu, which carries all that the queries say of a weight, and
R - 1 modes without light. Hand these to the adversary as well, and what is left is the figure of
one mode with R times the light, at the transmittance and the excess noise eps_c of that collective
mode. A client that keeps nothing between queries can be held to the sum over queries; a client with
a memory can not: it may put the noise of all queries, R eps, into the one mode that matters.

Light that nobody looked at is light that did not come back: to the collective mode it is loss, and
untrusted. Where nobody looked at any, the client holds at most the entropy of the one mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.errors import SettingError
from labctl.protocols.leakage.assumptions import Assumptions, Trust
from labctl.protocols.leakage.holevo import holevo_bits_per_mode, thermal_entropy_bits
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.protocols.leakage.weights import WEIGHTS_PER_MODE

IN_WORDS = {
    "additive": "each query attacked by itself: the client keeps nothing, neither states nor "
    "measured values, from one query to the next",
    "memory_unchecked": "the client may keep states from query to query, and nobody looked for "
    "what repeats: all noise of all queries may be its doing in the one mode that carries a weight",
    "collective": "the client may keep states from query to query; noise of the mode that carries "
    "a weight in all queries as expected or estimated, without its uncertainty",
    "collective_upper": "the client may keep states from query to query; noise of the mode that "
    "carries a weight in all queries at its confidence bound, from residuals summed by weight",
    "everything": "the client may keep all light that nobody looked at: entropy of what was sent",
}
_SLACK_WORDS = {
    "transmittance": "the transmittance",
    "mean_photons": "the light sent",
    "collective_noise": "the collective noise",
}
# Closer to the entropy of all light than this share, a bound says no more than that.
_SATURATED = 1e-3
# Eigenvalues below this share of the largest are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class AssumedChannel:
    """What came back of the light, pooled: transmittance and excess noise in SNU at the server.

    `client_transmittance`: the client's own rotation's share of the transmittance, never trusted.
    `prior_free`: for any Gaussian prior of the weights; otherwise as of independent weights of
    one variance.
    """

    transmittance: float
    technical_noise: float
    assumptions: Assumptions
    client_transmittance: float = 1.0
    prior_free: bool = True

    def bits(self, photons: float, excess_noise: float, *, unseen: float = 0.0) -> float:
        """Return the bits per real weight in a mode of `photons` that were looked at, at most.

        `unseen`: photons of the same mode that nobody looked at. `excess_noise` of what was looked
        at. Never more than the entropy of all that was sent; infinite where nothing bounds that.
        """
        if not (photons >= 0.0 and unseen >= 0.0 and photons + unseen > 0.0):
            raise SettingError("photons", (photons, unseen), "0 or more, one of them above 0")
        total = photons + unseen
        if not math.isfinite(total):
            return math.inf
        most = everything_bits(total)
        if photons == 0.0 or not self.transmittance > 0.0 or not math.isfinite(excess_noise):
            return most
        through, noise = self.untrusted(excess_noise)
        bound = prior_free_bits_per_mode if self.prior_free else holevo_bits_per_mode
        return min(bound(total, through * photons / total, noise) / WEIGHTS_PER_MODE, most)

    def untrusted(self, excess_noise: float) -> tuple[float, float]:
        """Return transmittance and noise with what is trusted taken out; see `assumptions`."""
        noise, through = excess_noise, min(self.transmittance, 1.0)
        if self.assumptions.technical_noise is Trust.TRUSTED:
            noise -= self.technical_noise
        noise = max(noise, 0.0)
        if self.assumptions.loss is Trust.TRUSTED:
            own = self.client_transmittance
            return own, noise / min(through / own, 1.0)
        return through, noise


@dataclass(frozen=True)
class Likely:
    """The channel at its estimate, as its bound has it: without the loss that is trusted.

    `noise_factor`: what noise at the server is multiplied by to be noise of that channel.
    """

    channel: AssumedChannel
    noise_factor: float = 1.0


@dataclass(frozen=True)
class Slack:
    """What the confidence of `collective_upper` costs, in bits per real weight.

    `estimate`: the same figure with nothing at its bound, under the same trust; then with
    `transmittance`, `mean_photons` or `collective_noise` alone at its bound. `everything`: the
    entropy of all that was sent, which no figure exceeds.
    """

    estimate: float
    transmittance: float
    mean_photons: float
    collective_noise: float
    everything: float

    @property
    def ruled_by(self) -> str:
        """The bound that costs most by itself."""
        names = ("transmittance", "mean_photons", "collective_noise")
        return max(names, key=lambda name: float(getattr(self, name)))

    def as_json(self) -> dict[str, float | str]:
        """Return the figures as plain values."""
        return {**asdict(self), "ruled_by": self.ruled_by}

    def in_words(self, upper: float) -> str:
        """Say what `upper`, the figure with all three at their bounds, rests on."""
        alone = ", ".join(
            f"{getattr(self, name):.4g} with {words} at its bound"
            for name, words in _SLACK_WORDS.items()
        )
        said = (
            f"{self.estimate:.4g} at the estimates, {alone}, {self.everything:.4g} for all light "
            f"kept: {_SLACK_WORDS[self.ruled_by]} costs most"
        )
        if upper < (1.0 - _SATURATED) * self.everything:
            return said
        return f"{said}. The evidence does not lower this bound"


@dataclass(frozen=True)
class Cumulative:
    """Bits per real weight of all queries together; see `IN_WORDS` for what each figure assumes.

    None: a figure that there is no evidence for. `headline`: the name of the one that holds under
    the evidence that there is, against a client with a memory. `slack`: what the confidence of
    `collective_upper` costs, None where it was not worked out.
    """

    queries: int
    headline: str
    additive: float
    memory_unchecked: float
    collective: float | None
    collective_upper: float | None
    slack: Slack | None = None

    @property
    def bits(self) -> float:
        """The headline's figure."""
        value: float = (
            self.memory_unchecked if self.headline == "everything" else getattr(self, self.headline)
        )
        return value

    def as_json(self) -> dict[str, object]:
        """Return the figures, and what each assumes in words, as plain values."""
        names = ("additive", "memory_unchecked", "collective", "collective_upper")
        return {
            "queries": self.queries,
            **{name: getattr(self, name) for name in names},
            "headline": self.headline,
            "bits_per_real_weight": self.bits,
            "assumptions": {name: IN_WORDS[name] for name in {*names, self.headline}},
            "slack": None if self.slack is None else self.slack.as_json(),
        }


def everything_bits(photons: float) -> float:
    """Return bits per real weight of a client that keeps a mode of `photons` photons: its entropy.

    >>> everything_bits(1.0)
    1.0
    """
    if math.isinf(photons):
        return math.inf
    return thermal_entropy_bits(2.0 * photons + 1.0) / WEIGHTS_PER_MODE


def cumulative(
    channel: AssumedChannel,
    *,
    queries: int,
    mean_photons: float,
    excess_noise: float,
    collective_noise: float | None,
    collective_noise_upper: float | None,
    confident: AssumedChannel | None = None,
    mean_photons_upper: float | None = None,
    likely: Likely | None = None,
) -> Cumulative:
    """Return what `queries` queries of `mean_photons` per mode leak together.

    `excess_noise` of the single queries, at its bound if there is one; `collective_noise` of the
    mode that carries a weight in all of them, and its upper bound, None where nobody looked.
    `confident`: the channel at its confidence bound, where that is another; `mean_photons_upper`:
    those that were sent at most, where the light is not known exactly. `likely`: what `confident`
    is the bound of, for the figure's slack.
    """
    checks.at_least("queries", queries, 1)
    most = mean_photons if mean_photons_upper is None else mean_photons_upper
    worst = confident or channel
    single = worst.bits(most, excess_noise)
    unchecked = worst.bits(queries * most, queries * excess_noise)
    upper = slack = None
    if collective_noise_upper is not None:
        upper = worst.bits(queries * most, collective_noise_upper)
    if collective_noise_upper is not None and collective_noise is not None and likely is not None:
        light, noise = queries * mean_photons, collective_noise * likely.noise_factor
        slack = Slack(
            estimate=likely.channel.bits(light, noise),
            transmittance=worst.bits(light, noise),
            mean_photons=likely.channel.bits(queries * most, noise),
            collective_noise=likely.channel.bits(light, collective_noise_upper),
            everything=everything_bits(queries * most),
        )
    return Cumulative(
        queries=queries,
        headline="memory_unchecked" if upper is None else "collective_upper",
        additive=queries * single,
        memory_unchecked=unchecked,
        collective=None
        if collective_noise is None
        else channel.bits(queries * mean_photons, collective_noise),
        collective_upper=upper,
        slack=slack,
    )


def unseen(queries: int, mean_photons: float) -> Cumulative:
    """Return what queries leak whose light nobody looked at: the client may have kept all of it."""
    most = everything_bits(queries * mean_photons)
    each = everything_bits(mean_photons)
    return Cumulative(queries, "everything", queries * each, most, None, None)


def queries_for(bits: float, leaked: Sequence[float]) -> int | None:
    """Return after how many queries `leaked` (of 1, 2, ... queries) reaches `bits`, or None.

    >>> queries_for(0.25, [0.1, 0.2, 0.3])
    3
    """
    return next((index + 1 for index, value in enumerate(leaked) if value >= bits), None)


def history_eigenvalues(history: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the eigenvalues of weights' own history, largest first; their sum is the steps.

    `history` (steps, weights): the weights as they were sent at each step of a training. Each step
    counts as of unit root mean square, as it is sent: K_tt' = mean of u_t u_t'. Raises SettingError
    for steps that are not finite, or all zero.
    """
    scale = np.sqrt(np.mean(np.square(history, dtype=np.float64), axis=1, keepdims=True))
    if history.ndim != 2 or not np.isfinite(scale).all() or not (scale > 0.0).all():
        raise SettingError("history", history.shape, "(steps, weights), finite, no step all zero")
    unit = history / scale
    values = np.linalg.eigvalsh(unit @ unit.T / history.shape[1])[::-1]
    return np.asarray(np.maximum(values, 0.0), np.float64)


def changing_weights_bits(
    channel: AssumedChannel,
    eigenvalues: npt.NDArray[np.float64],
    *,
    queries_per_step: int,
    mean_photons: float,
    collective_noise: float,
) -> float:
    """Return bits per weight, of its whole history, that queries of changing weights leak.

    Steps of a history span orthogonal modes: mode j carries `queries_per_step` lambda_j mu, and
    a history's Gaussian prior has independent components in them. `collective_noise` in SNU: the
    most that any of these modes shows.
    """
    light = queries_per_step * mean_photons
    least = _ROUNDING * float(eigenvalues.max())
    return math.fsum(
        channel.bits(light * float(value), collective_noise)
        for value in eigenvalues
        if value > least
    )
