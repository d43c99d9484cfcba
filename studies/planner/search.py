"""Which light, gain and block size leak least, within limits.

Accuracy needs F. For a given F, more gain needs less light, adds more noise to what returns, and
shows the data better: the leakage of the data rises with the gain, that of the weights has a
minimum over it. So limits on the data are limits on the gain, and the least leakage of the weights
is sought below it, for each block size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from labctl import checks
from labctl.errors import SettingError
from labctl.protocols.blocks import block_option, useful_sizes
from labctl.protocols.hiding.hiding import ASSUMED_GUESS_ERROR, reading_cap
from labctl.protocols.labels.curve import SIGMAS, LabelCurve
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.leakage import (
    data_bits_journal,
)
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.rotation import IDEAL_ROTATION
from labctl.protocols.verification.verdict import Expectation
from labctl.studies.planner.option import Conditions, Option, PlanLimits
from labctl.studies.planner.pareto import pareto_front
from labctl.studies.planner.pooling import Evidence
from labctl.units import db_to_ratio

# Clones that add g = 2 - 2/G from 0.002 to 1.55 of at most 2 SNU.
LEAST_GAIN, MOST_GAIN = 1.001, 4.4
_LOG_LEAST, _LOG_MOST = math.log(LEAST_GAIN - 1.0), math.log(MOST_GAIN - 1.0)
# Points of a logarithmic grid of gains; half as many where each is refined by bisection.
_GAINS, _FEWER_GAINS = 25, 13
_HALVINGS = 60
# A greatest F is found to this relative error, well below what accuracies are measured to.
_F_ERROR = 1e-5
# The first look over the grid of gains goes in steps of this many points.
_STRIDE = 3
# An evidence that was computed another way than a point's is that point.
_ROUNDING = 1e-9
# Labels are those of ten digits; a public guess learnt from 1,250 of them is wrong of 6.3 %.
_CLASSES = 10


@dataclass(frozen=True)
class Search:
    """Finds settings under conditions.

    `labels`: how well labels are read, for limits on it; known for whole rows alone, so that with
    it no others are looked at. `mismatch`: of the client's clone, which shows rows of `overlap`
    Q = mean |c^dagger w|^2 (weights of unit RMS) in proportion to their light: with it and `labels`
    no gain is taken below the one at which labels are read least. `spares_copies`: whether a
    setting keeps what a copy of the network may be worth; others are none.
    """

    conditions: Conditions
    labels: LabelCurve | None = None
    mismatch: CloneMismatch = MATCHED_CLONE
    overlap: float = 0.0
    spares_copies: Callable[[Option], bool] | None = None

    def __post_init__(self) -> None:
        checks.not_negative("overlap of rows and images", self.overlap)

    @cached_property
    def block_sizes(self) -> tuple[int, ...]:
        """Block sizes worth asking about, the largest first.

        Without loss or error in the rotation that is the whole row: smaller blocks add noise.
        """
        modes = max(layer.modes for layer in self.conditions.layers)
        if self.conditions.rotation == IDEAL_ROTATION or self.labels is not None:
            return (modes,)
        return tuple(reversed(useful_sizes(modes)))

    def option(self, signal_to_noise: float, gain: float, block_modes: int) -> Option | None:
        """Return what a gain and a block size give with the light for that F in every layer.

        None where no light reaches it.
        """
        conditions = self.conditions
        found = [
            block_option(conditions.question(layer, gain, signal_to_noise), block_modes)
            for layer in conditions.in_blocks(block_modes)
        ]
        photons = max(option.mean_photons for option in found)
        if not math.isfinite(photons):
            return None
        leakage = conditions.leakage(gain, block_modes, photons)
        evidence = self.label_evidence(gain, signal_to_noise)
        return Option(
            signal_to_noise,
            gain,
            block_modes,
            photons,
            leakage,
            evidence,
            conditions.weights_figure,
        )

    def label_evidence(self, gain: float, signal_to_noise: float) -> float:
        """Return the evidence of label reading from one query: M g^2/(1 + g) for homodyne, and
        what the mismatch shows of the light that F needs: mu = F D(G)/2 at the clone.

        Of the layer that sees the input, nothing lost and no noise added on the way to the server.
        """
        receiver = self.conditions.receiver(gain)
        photons = 0.5 * signal_to_noise * receiver.referred_noise
        return Reading(
            gain=receiver.gain,
            rows=self.conditions.layers[0].rows,
            emission_factor=receiver.emission_factor,
            receiver=Detection.HOMODYNE if self.labels is None else self.labels.receiver,
            mismatch=self.mismatch,
            mode_photons=0.5 * photons * self.overlap,
        ).evidence

    def least_gain(self, signal_to_noise: float) -> float:
        """Return the least gain that is looked at: that of the least evidence of a label.

        On a line of fixed F the kick's evidence is M g^2, and with D = 2/g for small g that of the
        mismatch 5 delta^2 F Q M/(2 g): the least is near g = (1.25 delta^2 F Q)^(1/3), for
        homodyne. Without mismatch or label curve, any gain.
        """
        if self.labels is None or self.mismatch.matched or self.overlap == 0.0:
            return LEAST_GAIN
        from scipy.optimize import minimize_scalar

        def evidence(log_gain: float) -> float:
            return self.label_evidence(_gain(log_gain), signal_to_noise)

        ends = (_LOG_LEAST, _LOG_MOST)
        return _gain(float(minimize_scalar(evidence, bounds=ends, method="bounded").x))

    def label_success(self, evidence: float) -> float:
        """Return the most success of label reading: two standard errors added, at most 1.

        1 beyond the curve's last point: how much more is read there was not measured. Raises
        SettingError when there is no label curve.
        """
        if self.labels is None:
            raise SettingError("label curve", None, "given, for a limit on label reading")
        found = self.labels.at_evidence(evidence)
        most = min(found.share + SIGMAS * found.standard_error, 1.0)
        if evidence > self.labels.evidence[-1] * (1.0 + _ROUNDING):
            most = 1.0
        decoys = max(layer.clones for layer in self.conditions.layers) - 1
        # No detector does better than the cap, however many repeats.
        return min(most, reading_cap(decoys, _CLASSES, ASSUMED_GUESS_ERROR)) if decoys else most

    def greatest_gain(
        self, block_modes: int, limits: PlanLimits, signal_to_noise: float
    ) -> float | None:
        """Return the greatest gain within the limits on the data; None if the least is too much."""
        least = _log(self.least_gain(signal_to_noise))

        def within(log_gain: float) -> bool:
            return self._spares_data(_gain(log_gain), block_modes, limits, signal_to_noise)

        if within(_LOG_MOST):
            return MOST_GAIN
        if not within(least):
            return None
        return _gain(_border(within, least, _LOG_MOST, _HALVINGS)[0])

    def least_weights(self, signal_to_noise: float, limits: PlanLimits) -> Option | None:
        """Return the setting that leaks least of the weights within the limits on the data.

        The limit on the weights is not looked at. None where there is no such setting.
        """
        found = [self._least_weights(signal_to_noise, size, limits) for size in self.block_sizes]
        return min((one for one in found if one is not None), key=_weights, default=None)

    def least_data(self, signal_to_noise: float, limits: PlanLimits) -> Option | None:
        """Return the setting that leaks least of the data within the limit on the weights.

        The limits on the data are not looked at. None where there is no such setting.
        """
        found = [
            self._least_data(signal_to_noise, size, limits.weights_bits)
            for size in self.block_sizes
        ]
        return min((one for one in found if one is not None), key=_data, default=None)

    def greatest_f(self, limits: PlanLimits, least: float, most: float) -> float | None:
        """Return the greatest F from `least` to `most` within all limits; None if not the least."""

        def within(log_f: float) -> bool:
            return self.within(self.least_weights(math.exp(log_f), limits), limits)

        low, high = math.log(least), math.log(most)
        if within(high):
            return most
        if not within(low):
            return None
        low, high = self._f_by_weights(limits, within, low, high)
        halvings = math.ceil(math.log2(max((high - low) / _F_ERROR, 1.0)))
        return math.exp(_border(within, low, high, halvings)[0])

    def _f_by_weights(
        self, limits: PlanLimits, within: Callable[[float], bool], low: float, high: float
    ) -> tuple[float, float]:
        """Narrow `low` (within) to `high` (not) of log F down by the bits of the weights.

        They are smooth in F, so that their root takes a third of a bisection's steps; other limits
        may be the first to fail, and then it does not help.
        """
        from scipy.optimize import brentq

        if limits.weights_bits is None:
            return low, high
        logs = math.log(limits.weights_bits)

        def over(log_f: float) -> float:
            option = self.least_weights(math.exp(log_f), limits)
            return 1.0 if option is None else math.log(option.weights_bits) - logs

        if over(low) >= 0.0 or over(high) <= 0.0:
            return low, high
        root = float(brentq(over, low, high, xtol=0.5 * _F_ERROR))
        for near in (root - _F_ERROR, root + _F_ERROR):
            if low < near < high:
                low, high = (near, high) if within(near) else (low, near)
        return low, high

    def within(self, option: Option | None, limits: PlanLimits) -> bool:
        """Return whether a setting keeps all limits."""
        if option is None:
            return False
        most = limits.weights_bits
        kept = most is None or option.weights_bits <= most
        kept = kept and (self.spares_copies is None or self.spares_copies(option))
        return kept and self._spares_data(
            option.gain, option.block_modes, limits, option.signal_to_noise
        )

    def options(self, signal_to_noise: float, limits: PlanLimits) -> Iterator[Option]:
        """Yield settings within all limits: those that leak least and, at gains up to the most
        there is, those block sizes that are not worse than another in both leakages."""
        least = (
            self.least_weights(signal_to_noise, limits),
            self.least_data(signal_to_noise, limits),
        )
        yield from (one for one in least if one is not None and self.within(one, limits))
        gains = [self.greatest_gain(size, limits, signal_to_noise) for size in self.block_sizes]
        most = max((gain for gain in gains if gain is not None), default=None)
        if most is None:
            return
        for log_gain in np.linspace(
            _log(self.least_gain(signal_to_noise)), _log(most), _FEWER_GAINS
        ):
            found = [
                self.option(signal_to_noise, _gain(float(log_gain)), size)
                for size in self.block_sizes
            ]
            allowed = [one for one in found if one is not None and self.within(one, limits)]
            yield from _thinned(
                pareto_front(allowed, lambda one: (one.weights_bits, one.data_bits))
            )

    def repeats(self, option: Option, limits: PlanLimits) -> int | None:
        """Return how often the same input may be sent within the limits on the data; None: any.

        What M rows tell adds up over repeats: R of them count as M R rows.
        """
        allowed = []
        if limits.data_bits is not None:
            once = math.expm1(2.0 * math.log(2.0) * option.data_bits)
            room = math.expm1(2.0 * math.log(2.0) * limits.data_bits)
            allowed.append(math.floor(room / once * (1.0 + 1e-9)) if once > 0.0 else None)
        if limits.label_success is not None:
            allowed.append(self._label_repeats(option.label_evidence, limits.label_success))
        return min((count for count in allowed if count is not None), default=None)

    def evidence(self, option: Option) -> Evidence:
        """Return what comes back from honest clients at a setting, all layers pooled.

        One slope is fitted to all layers; what it misses shows as noise, as in a session.
        """
        conditions = self.conditions
        layers = conditions.in_blocks(option.block_modes)
        samples = np.array([layer.rows * layer.modes for layer in layers], np.float64)
        share = samples / samples.sum()
        own = np.array([conditions.rotation.transmittance(one.blocks.size) for one in layers])
        slopes = np.sqrt(own * db_to_ratio(-conditions.loss_db))
        clones = np.array([layer.loud_modes / layer.modes for layer in layers])
        slope = float(share @ slopes)
        noise = conditions.receiver(option.gain).returned_noise * float(share @ (slopes * clones))
        missed = 2.0 * option.mean_photons * float(share @ (slopes - slope) ** 2)
        return Evidence(
            expectation=Expectation(
                transmittance=slope**2,
                excess_noise=noise + conditions.technical_noise + missed,
                client_transmittance=float(own.min()),
            ),
            mean_photons=option.mean_photons,
            technical_noise=conditions.technical_noise,
            samples_per_image=int(samples.sum()),
            clones_per_image=sum(layer.rows * layer.loud_modes for layer in layers),
            verifier=conditions.verifier,
            assumptions=conditions.assumptions,
            weights_figure=conditions.weights_figure,
        )

    def _spares_data(
        self, gain: float, block_modes: int, limits: PlanLimits, signal_to_noise: float
    ) -> bool:
        most = limits.data_bits
        if most is not None and self._data_bits(gain, block_modes) > most:
            return False
        if limits.label_success is None:
            return True
        found = self.label_success(self.label_evidence(gain, signal_to_noise))
        return found <= limits.label_success

    def _data_bits(self, gain: float, block_modes: int) -> float:
        receiver = self.conditions.receiver(gain)
        return max(
            data_bits_journal(
                receiver.gain,
                layer.modes,
                layer.rows,
                block_modes=size,
                emission_factor=receiver.emission_factor,
            )
            for layer in self.conditions.in_blocks(block_modes)
            for size in layer.inputs_by_block_size
        )

    def _least_weights(
        self, signal_to_noise: float, size: int, limits: PlanLimits
    ) -> Option | None:
        from scipy.optimize import minimize_scalar

        most = self.greatest_gain(size, limits, signal_to_noise)
        if most is None:
            return None
        end = _log(most)

        def bits(log_gain: float) -> float:
            option = self.option(signal_to_noise, _gain(log_gain), size)
            if option is None or (self.spares_copies and not self.spares_copies(option)):
                return math.inf
            return option.weights_bits

        grid = np.linspace(_log(self.least_gain(signal_to_noise)), end, _GAINS)
        values = _valley([float(log_gain) for log_gain in grid], bits)
        at = min(values, key=values.__getitem__)
        if not math.isfinite(values[at]):
            return None
        # Between gains that are allowed all are: what hides and what is spent are monotone in it.
        around = [index for index in (at - 1, at, at + 1) if index in values]
        allowed = [float(grid[index]) for index in around if math.isfinite(values[index])]
        low, high = min(allowed), max(allowed)
        fine = high
        if high > low:
            fine = float(minimize_scalar(bits, bounds=(low, high), method="bounded").x)
        best = min((fine, float(grid[at])), key=bits)
        return self.option(signal_to_noise, min(_gain(best), most), size)

    def _least_data(
        self, signal_to_noise: float, size: int, weights_bits: float | None
    ) -> Option | None:
        """Return the least gain within the limit: up to the best gain, the leakage falls."""
        least = self.least_gain(signal_to_noise)
        if weights_bits is None:
            return self.option(signal_to_noise, least, size)
        best = self._least_weights(signal_to_noise, size, PlanLimits())
        if best is None or best.weights_bits > weights_bits:
            return None

        def too_much(log_gain: float) -> bool:
            option = self.option(signal_to_noise, _gain(log_gain), size)
            return option is None or option.weights_bits > weights_bits

        if not too_much(_log(least)):
            return self.option(signal_to_noise, least, size)
        enough = _border(too_much, _log(least), _log(best.gain), _HALVINGS)[1]
        return self.option(signal_to_noise, _gain(enough), size)

    def _label_repeats(self, evidence: float, most: float) -> int | None:
        def within(repeats: int) -> bool:
            return self.label_success(evidence * repeats) <= most

        if not within(1):
            return 0
        few, many = 1, 2
        while within(many):
            few, many = many, 2 * many
            if many > 10**9:
                return None
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (middle, many) if within(middle) else (few, middle)
        return few


def _valley(grid: Sequence[float], height: Callable[[float], float]) -> dict[int, float]:
    """Return heights at indices of a grid: of the lowest, of its neighbours, of what led there.

    One valley: from the middle downhill, in wide steps and then in narrow ones. Where the middle is
    infinite all heights are looked at. The ends, where light is brightest, take longest to work out
    and are seldom reached.
    """
    found: dict[int, float] = {}

    def at(index: int) -> float:
        if index not in found:
            found[index] = height(grid[index])
        return found[index]

    lowest = len(grid) // 2
    if not math.isfinite(at(lowest)):
        return {index: at(index) for index in range(len(grid))}
    for step in (_STRIDE, 1):
        while True:
            beside = [i for i in (lowest - step, lowest + step) if 0 <= i < len(grid)]
            lower = min(beside, key=at)
            if at(lower) >= at(lowest):
                break
            lowest = lower
    return found


def _thinned(options: Sequence[Option]) -> list[Option]:
    """Return the first, the middle and the last of many."""
    return (
        [options[at] for at in sorted({0, len(options) // 2, len(options) - 1})] if options else []
    )


def _weights(option: Option) -> float:
    return option.weights_bits


def _data(option: Option) -> float:
    return option.data_bits


def _gain(log_gain: float) -> float:
    return 1.0 + math.exp(log_gain)


def _log(gain: float) -> float:
    return math.log(gain - 1.0)


def _border(
    holds: Callable[[float], bool], low: float, high: float, halvings: int
) -> tuple[float, float]:
    """Narrow down where it stops to hold: it does at `low`, not at `high`; neighbours at last."""
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high
