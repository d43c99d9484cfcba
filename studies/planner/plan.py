"""From what is wanted to a plan: settings, what proves them, what they cost; or why there are none.

An accuracy becomes the F that the network needs, with the measured curve's uncertainty; the search
below it finds gain, light and block size; verification says how much light must be pooled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from labctl import checks
from labctl.protocols.leakage import Assumptions, Spectrum, Trust
from labctl.protocols.rotation import IDEAL_ROTATION
from labctl.protocols.settings import MOST_SAMPLES, VerificationSettings
from labctl.studies.planner.accuracy_curve import AccuracyCurve, NeededF
from labctl.studies.planner.option import Conditions, Option, PlanLimits
from labctl.studies.planner.pareto import pareto_front
from labctl.studies.planner.pooling import Pool, SentBefore, pool_for, sent_before
from labctl.studies.planner.search import Search
from labctl.studies.planner.throughput import Throughput, Transmission, throughput_of
from labctl.units import db_to_ratio

# Errors of the front, as multiples of the tolerated share of errors.
_ERROR_LEVELS = (2.0, 1.4, 1.0, 0.8, 0.6)


class Preference(StrEnum):
    """What the recommended setting has least of, within the limits."""

    WEIGHTS = "weights"
    DATA = "data"
    SPEED = "speed"


@dataclass(frozen=True)
class Wish:
    """What is wanted. `confidence`: that images like those measured get the accuracy; 0.5 takes
    the curve's best value."""

    accuracy: float
    limits: PlanLimits
    confidence: float = 0.95
    prefer: Preference = Preference.WEIGHTS

    def __post_init__(self) -> None:
        checks.inside("accuracy", self.accuracy, 0.0, 1.0)
        checks.require(
            0.5 <= self.confidence < 1.0,
            "confidence",
            self.confidence,
            "0.5 (best value) to below 1",
        )


@dataclass(frozen=True)
class Proof:
    """What the pooled light is to prove: a bound of `factor` times the leakage of honest use, or
    `weights_bits` if given. `calibration_samples`: None for as many as samples are pooled."""

    verification: VerificationSettings = field(default_factory=VerificationSettings)
    calibration_samples: int | None = None
    factor: float = 2.0
    weights_bits: float | None = None

    def __post_init__(self) -> None:
        checks.above("factor of the bound", self.factor, 1.0)
        if self.calibration_samples is not None:
            checks.within("calibration_samples", self.calibration_samples, 2, MOST_SAMPLES)
        if self.weights_bits is not None:
            checks.positive("bound on weights_bits", self.weights_bits, " bit, or none")

    def bits(self, option: Option) -> float:
        """Return the bound that a setting must prove."""
        return self.weights_bits or self.factor * option.weights_bits


@dataclass(frozen=True)
class Setting:
    """A setting with all its figures.

    `accuracy`: best value; `accuracy_lower` holds with the wish's confidence. `pool` proves the
    bound asked for, None if no pool does; `sent_before`: what had been sent by then; `proof_s`:
    time for it, the shot-noise unit's samples included, infinite for none. `label_success`: of one
    query, upper end, None without a curve. `repeats`: of one input within the limits, None for any
    number.
    """

    option: Option
    accuracy: float
    accuracy_lower: float
    bound_bits: float
    pool: Pool | None
    sent_before: SentBefore | None
    proof_s: float
    throughput: Throughput
    label_success: float | None
    repeats: int | None

    @property
    def costs(self) -> tuple[float, float, float, float]:
        """What the front weighs: error, bits per weight, bits per data symbol, time to prove."""
        return (
            1.0 - self.accuracy_lower,
            self.option.weights_bits,
            self.option.data_bits,
            self.proof_s,
        )


@dataclass(frozen=True)
class Reach:
    """What can be reached at best; None where nothing can, or there is no such limit.

    `accuracy_at_best`: the network's own. The options are at the F needed: with the least bits per
    weight without regard to the data; the same within the limits on the data; with the least bits
    per data symbol within the limit on the weights. `f_...`: greatest F within the limit on the
    weights, within all limits.
    """

    needed: NeededF
    accuracy_at_best: float
    weights: Option | None = None
    weights_within_data: Option | None = None
    data_within_weights: Option | None = None
    f_within_weights: float | None = None
    f_within_data: float | None = None
    f_within_all: float | None = None
    compromise: Option | None = None


@dataclass(frozen=True)
class Shares:
    """Bits per real weight of a setting, and what is left of them without one of their causes.

    `trusting_loss`, `trusting_noise`: with the link's loss, its technical noise, trusted instead;
    `ideal_rotation`: with no loss in the rotation; `clone_alone`: none of the three.
    """

    weights_bits: float
    trusting_loss: float
    trusting_noise: float
    ideal_rotation: float
    clone_alone: float

    @property
    def main(self) -> str:
        """Return the main cause in words: that without which least is left."""
        causes = {
            "untrusted loss of the link": self.trusting_loss,
            "untrusted technical noise": self.trusting_noise,
            "loss in the client's rotation, untrusted always": self.ideal_rotation,
        }
        cause, left = min(causes.items(), key=lambda item: item[1])
        if self.clone_alone > 0.5 * self.weights_bits or left >= self.weights_bits:
            return "noise of the client's own clone"
        return cause


@dataclass(frozen=True)
class Plan:
    """The answer. `recommended` is None when the wish cannot be met; `front` ignores the limits."""

    wish: Wish
    reach: Reach
    recommended: Setting | None
    pool_to_limit: Pool | None
    front: tuple[Setting, ...]
    shares: Shares | None


def with_network_bound(plan: Plan, conditions: Conditions, spectrum: Spectrum) -> Plan:
    """Return a plan with the bound of the network sent beside the other two, but for its front.

    It needs the network's own spectrum, and the search does without it: wishes are in figures that
    hold for any network.
    """

    def bounded(option: Option) -> Option:
        found = conditions.leakage(
            option.gain, option.block_modes, option.mean_photons, spectrum=spectrum
        )
        return replace(option, leakage=found)

    def if_any(option: Option | None) -> Option | None:
        return None if option is None else bounded(option)

    best, reach = plan.recommended, plan.reach
    return replace(
        plan,
        recommended=None if best is None else replace(best, option=bounded(best.option)),
        reach=replace(
            reach,
            weights=if_any(reach.weights),
            weights_within_data=if_any(reach.weights_within_data),
            data_within_weights=if_any(reach.data_within_weights),
            compromise=if_any(reach.compromise),
        ),
    )


@dataclass(frozen=True)
class Planner:
    """Plans for one network under given conditions."""

    search: Search
    curve: AccuracyCurve
    transmission: Transmission
    proof: Proof

    def plan(
        self,
        wish: Wish,
        *,
        front: bool = True,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> Plan:
        """Return the best setting for a wish, the front around it, and what can be reached at all.

        Without `front`, which takes longest, that is left empty.
        """
        on_step("what can be reached")
        reach = self.reach(wish)
        best = self._best(wish, reach)
        recommended = None if best is None else self.setting(best, wish)
        if front:
            on_step("front")
        closest = best or reach.compromise or reach.weights
        return Plan(
            wish=wish,
            reach=reach,
            recommended=recommended,
            pool_to_limit=self._pool_to_limit(best, wish.limits),
            front=self.front(wish, recommended) if front else (),
            shares=None if closest is None else self.shares(closest),
        )

    def reach(self, wish: Wish) -> Reach:
        """Return what each limit and each pair of wishes leaves of the rest."""
        search, limits = self.search, wish.limits
        alone = replace(search, spares_copies=None)
        least_f, most_f = self.curve.least_f, self.curve.most_f
        needed = self.curve.needed(wish.accuracy, wish.confidence)
        within_all = self._greatest_f(limits)
        reach = Reach(
            needed=needed,
            accuracy_at_best=self.curve.accuracy_lower(self.curve.most_f, wish.confidence),
            f_within_weights=alone.greatest_f(limits.on_weights, least_f, most_f),
            f_within_data=alone.greatest_f(limits.on_data, least_f, most_f),
            f_within_all=within_all,
            compromise=None if within_all is None else search.least_weights(within_all, limits),
        )
        if not math.isfinite(needed.upper):
            return reach
        return replace(
            reach,
            weights=alone.least_weights(needed.upper, PlanLimits()),
            weights_within_data=search.least_weights(needed.upper, limits),
            data_within_weights=search.least_data(needed.upper, limits),
        )

    def setting(self, option: Option, wish: Wish) -> Setting:
        """Return a setting with its proof, rate and light."""
        search, rate = self.search, self.transmission.symbol_rate_hz
        bound = self.proof.bits(option)
        pool = self._pool(option, bound)
        sent = None
        if pool is not None:
            sent = sent_before(search.evidence(option), pool, option.weights_bits)
        throughput = throughput_of(
            search.conditions.in_blocks(option.block_modes),
            self.transmission,
            mean_photons=option.mean_photons,
            leg_transmittance=db_to_ratio(-search.conditions.loss_db / 2.0),
        )
        seconds = math.inf
        if pool is not None:
            light_s = pool.images * throughput.seconds_per_inference
            seconds = light_s + pool.calibration_samples / rate
        labels = search.labels
        return Setting(
            option=option,
            accuracy=self.curve.accuracy(option.signal_to_noise),
            accuracy_lower=self.curve.accuracy_lower(option.signal_to_noise, wish.confidence),
            bound_bits=bound,
            pool=pool,
            sent_before=sent,
            proof_s=seconds,
            throughput=throughput,
            label_success=None if labels is None else search.label_success(option.label_evidence),
            repeats=search.repeats(option, wish.limits),
        )

    def front(self, wish: Wish, further: Setting | None = None) -> tuple[Setting, ...]:
        """Return what is not worse than another in accuracy, both leakages and time to prove.

        Accuracies around that wanted; the limits are not looked at. By rising leakage of weights.
        """
        errors = [level * (1.0 - wish.accuracy) for level in _ERROR_LEVELS]
        needed = [
            self.curve.needed(1.0 - error, wish.confidence) for error in errors if error < 1.0
        ]
        levels = sorted({one.upper for one in needed if math.isfinite(one.upper)})
        anything = replace(self.search, spares_copies=None)
        found = [
            self.setting(option, wish)
            for level in levels
            for option in anything.options(level, PlanLimits())
        ]
        known = () if further is None else (further,)
        front = pareto_front([*known, *found], lambda one: one.costs)
        return tuple(sorted(front, key=lambda one: one.costs[1]))

    def shares(self, option: Option) -> Shares:
        """Return what causes the leakage of the weights at a setting."""
        asked = self.search.conditions
        noise_trusted = Assumptions(asked.assumptions.loss, Trust.TRUSTED)
        loss_trusted = Assumptions(Trust.TRUSTED, asked.assumptions.technical_noise)
        ideal = replace(asked, rotation=IDEAL_ROTATION)
        both = Assumptions(Trust.TRUSTED, Trust.TRUSTED)
        return Shares(
            weights_bits=_weights_bits(asked, option),
            trusting_loss=_weights_bits(replace(asked, assumptions=loss_trusted), option),
            trusting_noise=_weights_bits(replace(asked, assumptions=noise_trusted), option),
            ideal_rotation=_weights_bits(ideal, option),
            clone_alone=_weights_bits(replace(ideal, assumptions=both), option),
        )

    def _best(self, wish: Wish, reach: Reach) -> Option | None:
        """Return the preferred setting at the F needed, None if the limits leave none."""
        search, limits = self.search, wish.limits
        least = reach.weights_within_data
        if least is None or not search.within(least, limits):
            return None
        if wish.prefer is Preference.WEIGHTS:
            return least
        allowed = list(search.options(reach.needed.upper, limits))
        if wish.prefer is Preference.DATA:
            return min(allowed, key=lambda one: (one.data_bits, one.weights_bits))
        return min(allowed, key=lambda one: (self.setting(one, wish).proof_s, one.weights_bits))

    def _greatest_f(self, limits: PlanLimits) -> float | None:
        return self.search.greatest_f(limits, self.curve.least_f, self.curve.most_f)

    def _pool(self, option: Option, bound: float) -> Pool | None:
        proof = self.proof
        return pool_for(
            self.search.evidence(option),
            bound,
            proof.verification,
            calibration_samples=proof.calibration_samples,
        )

    def _pool_to_limit(self, option: Option | None, limits: PlanLimits) -> Pool | None:
        if option is None or limits.weights_bits is None:
            return None
        return self._pool(option, limits.weights_bits)


def _weights_bits(conditions: Conditions, option: Option) -> float:
    found = conditions.leakage(option.gain, option.block_modes, option.mean_photons)
    return found.weights_bits(conditions.weights_figure)
