"""What the returned light is checked for, each check with its own share of the false alarms.

An honest client puts its clone's noise on one mode of each block, or on as many as it is agreed to
collect, and which ones is its secret: no check may alarm for any choice. The noise checks therefore
count, for each block of each row, the agreed number of modes with the noise of a clone; the
checks of linear sums allow each sum that noise in full. Pooled noise, the noise of single rows and
the shot-noise monitor come close to their share with that; the others stay below theirs, so their
shares are small. That costs little: at 1e-6 a share of 1/500 moves a threshold from 4.8 to 5.9
standard deviations. The shares add up to the false-alarm probability of the session (Bonferroni's
inequality); what a session cannot check leaves its share to the others. All checks divide by the
same shot-noise calibration and count its own scatter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from labctl.calibration.distributions import fisher_above, fisher_below, fisher_quantile
from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.link import MonitorReading
from labctl.protocols.verification.channel import Estimate, Expectation, shot_noise_at_server
from labctl.protocols.verification.collective_noise import SumsSeen
from labctl.protocols.verification.collective_record import CollectiveSums
from labctl.protocols.verification.evidence import LayerEvidence, Sums
from labctl.protocols.verification.gain_deviation import gain_deviations
from labctl.protocols.verification.noise_ratio import NoiseRatio, normal_isf, normal_sf

# Nearly half for pooled noise: most attacks leave their mark there. A fifth each for row noise,
# which sees an attack of few rows, and for shot noise, which sees a dimmed oscillator. The rest as
# small as the first lines of this file say.
SHARES = {
    "pooled noise": 0.45,
    "collective noise": 0.1,
    "low gain": 0.021,
    "high gain": 0.021,
    "row noise": 0.2,
    "shot noise": 0.2,
    "row gain": 0.002,
    "mode noise": 0.002,
    "mode gain": 0.002,
    "offset": 0.002,
}
# Of the whole: less light, or less freedom, is what rounding leaves of a difference of equal sums.
_LEAST_WEIGHT = 1e-9
# One query's residual is the pooled noise already.
_LEAST_QUERIES = 2
_ABOVE = {True: "not above", False: "above"}


@dataclass(frozen=True)
class CheckResult:
    """One check: its statistic, the threshold that it must not cross, and its p-value.

    Excess noise in SNU, transmittance, shot noise over the calibrated, or standard deviations;
    the threshold is None where no value crosses it.
    `false_alarm_probability`: its share, the p-value below which it fails. `passed` is None, and
    the numbers are None, where the session has nothing to check it by.
    """

    name: str
    statistic: float | None
    threshold: float | None
    p_value: float | None
    false_alarm_probability: float
    passed: bool | None
    sentence: str


@dataclass(frozen=True)
class _Finding:
    """A statistic with its p-value, its threshold for a share, and what to say about them."""

    statistic: float
    p_value: float
    threshold: Callable[[float], float]
    sentence: Callable[[float, bool], str]


@dataclass(frozen=True)
class Honest:
    """Honest light in units of the blocked variance: what the checks compare with.

    `white`: variance of all noise but the clones'. `clone`: the maximum that one clone adds to one
    mode. `slope`: expected, in square roots of that unit; `slope_doubt` relative.
    """

    unit: float
    white: float
    clone: float
    slope: float
    slope_doubt: float
    noise_doubt: float
    gain_doubt: float
    degrees: float

    @classmethod
    def of(
        cls,
        evidence: Sequence[LayerEvidence],
        calibration: ReceiverCalibration,
        expectation: Expectation,
    ) -> Honest:
        """Return what is honest for this light."""
        unit = shot_noise_at_server(calibration)
        samples = sum(part.samples for part in evidence)
        clones = sum(part.images * part.row_count * part.loud_modes for part in evidence)
        rest = expectation.excess_noise - expectation.clone_noise * clones / samples
        return cls(
            unit=unit,
            white=1.0 + max(rest, 0.0) / unit,
            clone=expectation.clone_noise / unit,
            slope=math.sqrt(expectation.transmittance / unit),
            slope_doubt=0.5 * expectation.transmittance_uncertainty / expectation.transmittance,
            noise_doubt=expectation.excess_noise_uncertainty / unit,
            gain_doubt=expectation.gain_uncertainty,
            degrees=float(calibration.samples - 1),
        )

    def noise(self, samples: float, fitted: float, clones: float) -> NoiseRatio:
        """Return the distribution of the residual power of `samples` readings, `clones` loud."""
        loud = min(clones, max(samples - fitted, 1.0))
        return NoiseRatio(
            (max(samples - fitted - loud, 0.0), loud),
            (self.white, self.white + self.clone),
            self.degrees,
            self.noise_doubt * samples,
        )


def run_checks(
    evidence: Sequence[LayerEvidence],
    estimate: Estimate,
    calibration: ReceiverCalibration,
    expectation: Expectation,
    false_alarm_probability: float,
    monitor: MonitorReading | None,
    collective: CollectiveSums | None = None,
) -> tuple[CheckResult, ...]:
    """Return all checks in the order of `SHARES`.

    `collective`: the sums by weight, of this session and of those before it with the same client.

    An honest session fails any of them with at most `false_alarm_probability`, for any
    client's data and however many samples were pooled.
    """
    honest = Honest.of(evidence, calibration, expectation)
    scale = calibration.blocked_variance
    pooled = _Pooled(honest, evidence, estimate, scale)
    parts = [part for part in evidence if part.images]
    rows = [(part, part.row_sums()) for part in parts]
    modes = [(part, part.mode_sums()) for part in parts]
    nothing = "no sums by row and mode were kept"
    findings: dict[str, _Finding | str] = {
        "pooled noise": pooled.noise(),
        "collective noise": _collective_noise(honest, collective),
        "low gain": pooled.gain(high=False),
        "high gain": pooled.gain(high=True),
        "row noise": _row_noise(honest, rows, scale) or nothing,
        "shot noise": _shot_noise(calibration, monitor),
        "row gain": _gain(honest, rows, scale, "row") or "no rows to compare",
        "mode noise": _mode_noise(honest, modes, scale) or nothing,
        "mode gain": _gain(honest, modes, scale, "mode") or "no modes to compare",
        "offset": _offset(honest, parts, scale) or "a mean was taken off the readings",
    }
    available = sum(SHARES[name] for name, each in findings.items() if isinstance(each, _Finding))
    return tuple(
        _result(name, found, false_alarm_probability * SHARES[name] / available)
        for name, found in findings.items()
    )


def _result(name: str, found: _Finding | str, share: float) -> CheckResult:
    if isinstance(found, str):
        return CheckResult(name, None, None, None, 0.0, None, f"{name} not checked: {found}")
    passed = not found.p_value < share
    threshold = found.threshold(share)
    return CheckResult(
        name=name,
        statistic=found.statistic,
        threshold=threshold if math.isfinite(threshold) else None,
        p_value=found.p_value,
        false_alarm_probability=share,
        passed=passed,
        sentence=found.sentence(threshold, passed),
    )


class _Pooled:
    """The checks of the sums over all light."""

    def __init__(
        self,
        honest: Honest,
        evidence: Sequence[LayerEvidence],
        estimate: Estimate,
        scale: float,
    ) -> None:
        self._honest, self._evidence, self._estimate = honest, evidence, estimate
        self._fitted = 1.0 + sum(part.fitted for part in evidence)
        self._scale = scale

    def noise(self) -> _Finding:
        honest, samples = self._honest, float(self._estimate.samples)
        clones = sum(p.images * p.row_count * p.loud_modes for p in self._evidence)
        degrees = max(samples - self._fitted, 1.0)
        expected = honest.noise(samples, self._fitted, float(clones))

        def threshold(share: float) -> float:
            return (expected.quantile(share) / degrees - 1.0) * honest.unit

        noise = self._estimate.excess_noise
        return _Finding(
            noise,
            expected.tail(self._estimate.variance_ratio * degrees),
            threshold,
            lambda most, passed: (
                f"excess noise {noise:.5f} SNU is {_ABOVE[passed]} {most:.5f}, "
                "the maximum that honest use explains"
            ),
        )

    def gain(self, *, high: bool) -> _Finding:
        """Return the check of the pooled slope.

        Slope over its own error and the calibration's square root is noncentral t; its tail in
        the normal approximation of Johnson and Kotz (Continuous Univariate Distributions 2, 31.6).
        """
        honest, sign = self._honest, 1.0 if high else -1.0
        error = self._slope_error()
        shown = self._estimate.slope / math.sqrt(self._scale) / error
        expected = honest.slope / error
        doubt = (expected * honest.slope_doubt) ** 2
        # Mean of the calibration's square root over its expected value, chi over sqrt(degrees):
        # 1 - 1/(4 degrees). Its variance is 1/(2 degrees).
        bias = 1.0 - 0.25 / honest.degrees
        spread = math.sqrt(1.0 + doubt + 0.5 * shown**2 / honest.degrees)
        p_value = normal_sf(sign * (shown * bias - expected) / spread)

        def threshold(share: float) -> float:
            """Return the transmittance whose slope has this p-value."""
            reach = normal_isf(share) ** 2
            a = bias**2 - 0.5 * reach / honest.degrees
            b, c = bias * expected, expected**2 - reach * (1.0 + doubt)
            root = math.sqrt(max(b * b - a * c, 0.0))
            slope = (b + sign * root) / a if a > 0.0 else sign * math.inf
            return max(slope * error, 0.0) ** 2 * honest.unit

        light = self._estimate.transmittance
        words = ("above", "maximum") if high else ("below", "minimum")
        return _Finding(
            light,
            p_value,
            threshold,
            lambda limit, passed: (
                f"transmittance {light:.5f} is {'not ' if passed else ''}{words[0]} {limit:.5f}, "
                f"the {words[1]} that honest use explains"
            ),
        )

    def _slope_error(self) -> float:
        """Return the honest slope's standard deviation, clones along the worst direction."""
        honest = self._honest
        sent = sum(part.sent_power for part in self._evidence)
        most = sent
        if honest.clone > 0.0:
            most = sum(part.images * part.strongest_direction for part in self._evidence)
        return math.sqrt(honest.white * sent + honest.clone * min(most, sent)) / sent


def _collective_noise(honest: Honest, sums: CollectiveSums | None) -> _Finding | str:
    """Check the power of the residuals of single weights, summed over queries.

    A clone whose noise lies on one mode in every query is fresh in each of them, and so as loud in
    the sum as in one reading: one mode per block of a row is counted as that loud.
    """
    if sums is None or sums.queries < _LEAST_QUERIES:
        return "the residual of a weight adds up over two queries or more"
    seen = SumsSeen.of(sums)
    expected = seen.honest(honest.noise_doubt / seen.unit * honest.unit)
    noise = (seen.ratio - 1.0) * seen.unit

    def threshold(share: float) -> float:
        return (expected.quantile(share) / seen.degrees - 1.0) * seen.unit

    return _Finding(
        noise,
        expected.tail(seen.ratio * seen.degrees),
        threshold,
        lambda most, passed: (
            f"excess noise {noise:.5f} SNU in the sums of each weight over {sums.queries} queries "
            f"is {_ABOVE[passed]} {most:.5f}, the maximum that honest use explains"
        ),
    )


def _row_noise(
    honest: Honest, rows: Sequence[tuple[LayerEvidence, Sums]], scale: float
) -> _Finding | None:
    """Check the loudest row: few rows that were read and sent again."""
    groups = []
    for part, sums in rows:
        fitted = 1.0 + part.fitted / part.row_count
        expected = honest.noise(sums.samples, fitted, part.images * part.loud_modes)
        worst = int(np.argmax(sums.residual))
        groups.append(
            _Group(
                f"row {worst + 1} of layer {part.layer + 1}",
                float(sums.residual[worst]) / scale,
                expected,
                len(sums.residual),
                max(sums.samples - fitted, 1.0),
            )
        )
    return _loudest(honest, groups)


def _mode_noise(
    honest: Honest, modes: Sequence[tuple[LayerEvidence, Sums]], scale: float
) -> _Finding | None:
    """Check the loudest run of 1, 2, 4, ... neighbouring modes over all rows.

    Each block of a row may hold its clones, and a run may begin and end within blocks.
    """
    groups = []
    for part, sums in modes:
        size = 1
        while size == 1 or size < len(sums.residual):
            residual, count = sums.merged(size)
            blocks = min(part.blocks.count, 1 if size == 1 else (size - 2) // part.blocks.size + 2)
            loud = min(size, blocks * part.clones)
            fitted = size * (1.0 + part.fitted / len(sums.residual))
            expected = honest.noise(
                sums.samples * size, fitted, part.images * part.row_count * loud
            )
            worst = int(np.argmax(residual))
            first, last = worst * size + 1, min((worst + 1) * size, len(sums.residual))
            name = f"mode {first}" if size == 1 else f"modes {first} to {last}"
            groups.append(
                _Group(
                    f"{name} of layer {part.layer + 1}",
                    float(residual[worst]) / scale,
                    expected,
                    count,
                    max(sums.samples * size - fitted, 1.0),
                )
            )
            size *= 2
    return _loudest(honest, groups)


@dataclass(frozen=True)
class _Group:
    """The loudest of `count` groups of light: its residual power and what is honest for each."""

    name: str
    power: float
    expected: NoiseRatio
    count: int
    degrees: float


def _loudest(honest: Honest, groups: Sequence[_Group]) -> _Finding | None:
    if not groups:
        return None
    total = sum(group.count for group in groups)
    tails = [group.expected.tail(group.power) for group in groups]
    p_value, group = min(zip(tails, groups, strict=True), key=lambda pair: pair[0])
    noise = (group.power / group.degrees - 1.0) * honest.unit

    def threshold(share: float) -> float:
        return (group.expected.quantile(share / total) / group.degrees - 1.0) * honest.unit

    return _Finding(
        noise,
        min(total * p_value, 1.0),
        threshold,
        lambda most, passed: (
            f"excess noise {noise:.4f} SNU in {group.name} is {_ABOVE[passed]} {most:.4f}, "
            "the maximum that honest use explains"
        ),
    )


def _gain(
    honest: Honest, parts: Sequence[tuple[LayerEvidence, Sums]], scale: float, name: str
) -> _Finding | None:
    """Check the row or mode whose slope deviates most from that of its layer.

    What the layer's distortion explains is taken off, off rows also their turn (`row_gains`), off
    modes gain and turn of rows (`mode_gains`). The deviation is a linear sum of Gaussian noise,
    over the calibration: at most Student's t.
    """
    worst = (0.0, 0.0, "")
    count = 0
    for part, sums in parts:
        sent = sums.sent
        total = float(sent.sum())
        used = (sent > 0.0) & (total - sent > _LEAST_WEIGHT * total)
        if not used.any():
            continue
        white = scale * (honest.white + honest.clone)
        doubt = scale * (honest.gain_doubt * honest.slope) ** 2
        deviation, variance = gain_deviations(
            part, sums, used, by_row=name == "row", white=white, doubt=doubt
        )
        sigmas = deviation / np.sqrt(variance)
        each = int(np.argmax(np.abs(sigmas)))
        count += len(sigmas)
        if abs(sigmas[each]) >= abs(worst[0]):
            place = int(np.flatnonzero(used)[each]) + 1
            share = deviation[each] / math.sqrt(scale) / honest.slope
            worst = (float(sigmas[each]), float(share), f"{name} {place} of layer {part.layer + 1}")
    if not count:
        return None
    sigmas_off, share_off, where = worst
    return _student(
        honest,
        sigmas_off,
        2 * count,
        f"amplitude of {where} differs from its layer's by {share_off:+.2%} of the expected, ",
    )


def _offset(honest: Honest, parts: Sequence[LayerEvidence], scale: float) -> _Finding | None:
    """Check the mean of what is left on X and on P of each layer: light injected on the way."""
    worst = (0.0, 0.0, "")
    count = 0
    for part in parts:
        offsets = part.offsets()
        if offsets.removed or not part.sent_power > 0.0:
            continue
        slope = part.cross_power / part.sent_power
        for quadrature, weight, sent, read in zip(
            "XP", offsets.weight, offsets.sent, offsets.read, strict=True
        ):
            free = weight - sent**2 / part.sent_power
            if not free > _LEAST_WEIGHT * part.samples:
                continue
            count += 1
            left = read - slope * sent
            sigmas = left / math.sqrt(scale * (honest.white + honest.clone) * free)
            if abs(sigmas) >= abs(worst[0]):
                mean = left / free / math.sqrt(scale)
                worst = (sigmas, mean, f"{quadrature} of layer {part.layer + 1}")
    if not count:
        return None
    sigmas_off, mean_off, where = worst
    return _student(
        honest,
        sigmas_off,
        2 * count,
        f"{where} has a mean of {mean_off:+.2g} shot-noise amplitudes that nobody sent, ",
    )


def _student(honest: Honest, sigmas: float, count: int, said: str) -> _Finding:
    """Return the finding of the largest of `count` one-sided deviations in standard deviations."""
    from scipy.special import stdtr, stdtrit

    size = abs(sigmas)
    return _Finding(
        size,
        min(count * float(stdtr(honest.degrees, -size)), 1.0),
        lambda share: -float(stdtrit(honest.degrees, share / count)),
        lambda most, passed: (
            f"{said}{size:.1f} standard deviations, {_ABOVE[passed]} {most:.1f}, "
            "the maximum that honest use explains"
        ),
    )


def _shot_noise(calibration: ReceiverCalibration, monitor: MonitorReading | None) -> _Finding | str:
    """Compare the blocked receiver during the session with its calibration: Fisher's F, exactly."""
    if monitor is None:
        return "the receiver was not blocked during the session"
    degrees = (monitor.samples - 1, calibration.samples - 1)
    ratio = monitor.blocked_variance / calibration.blocked_variance
    low, high = fisher_below(ratio, degrees), fisher_above(ratio, degrees)

    def threshold(share: float) -> float:
        below = 1.0 - share / 2.0 if high < low else share / 2.0
        return fisher_quantile(below, degrees)

    def sentence(limit: float, passed: bool) -> str:
        side, most = ("above", "maximum") if high < low else ("below", "minimum")
        return (
            f"shot noise during the session is {ratio:.5f} of the calibrated, "
            f"{'not ' if passed else ''}{side} {limit:.5f}, the {most} that honest use explains"
        )

    return _Finding(ratio, min(2.0 * min(low, high), 1.0), threshold, sentence)
