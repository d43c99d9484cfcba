"""Bias points of the modulator: half-wave voltages, nulls, quadratures, and how they drift.

A child's power over its bias V is P = a - b cos 2x + c sin x + d cos x, x = pi (V - V_null)/(2
V_pi): the first two terms are the child's own, the others its beat with what leaks through both.
The parent, between two bright children, has a and b alone. Fast sweeps give V_pi: the walk of the
bias differs from one to the next, so their scatter is the uncertainty. Then two points half a
period apart on opposite slopes find the null again and again; the mean square of its steps over
the elapsed time is the rate of a random walk, and a lock after each shows where the lock settles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.distributions import student_quantile
from labctl.calibration.fits import Reals, fit_curve
from labctl.calibration.names import Electrode, Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import HOUR_S, Outcome
from labctl.errors import CalibrationError, LimitError
from labctl.instruments.capabilities import BiasPoint, ModulatorBias

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Voltages up to which a sweep may go, the first that the controller takes.
_REACHES_V = (10.0, 7.5, 5.0, 2.5)
# A first look over the whole range, which may hold several periods: 8 points and more in each.
_COARSE_POINTS = 81
# A sweep over one period, for five parameters.
_POINTS = 33
# The fewest whose difference shows a reading's noise, which is pooled over all points.
_SWEEP_READINGS = 2
# The scatter between sweeps is the uncertainty: of 12 it is known to 21 %, of 8 to 27 %.
_SWEEPS = 12
_LEAST_SWEEPS = 8
# Half of a reading's noise.
_FIND_READINGS = 4
# Steps of the walk: their mean square is known to sqrt(2/31) = 25 %, of 24 to 29 %.
_ROUNDS = 32
_LEAST_ROUNDS = 24
# Between looks: long enough that the bias walks by more than a look is uncertain.
_PAUSE_S = 20.0
# A swing that is known worse than to 5 % leaves no null to find.
_LEAST_SWING_SIGMA = 20.0
# Residual over swing: more is not the curve of a Mach-Zehnder.
_LARGEST_MISFIT = 0.1
# Between a bias as set and as the controller reads it back.
_LARGEST_READ_BACK_V = 0.05
_BRIGHT, _DIM = BiasPoint.PEAK, BiasPoint.NULL


def child_power(
    bias_v: Reals, mean_w: float, swing_w: float, v_pi_v: float, null_v: float, *beat_w: float
) -> Reals:
    """Return the power in W over a bias in V; `beat_w`: amplitudes of sin x and cos x, or none."""
    x = np.pi * (bias_v - null_v) / (2.0 * v_pi_v)
    power = mean_w - swing_w * np.cos(2.0 * x)
    if beat_w:
        power = power + beat_w[0] * np.sin(x) + beat_w[1] * np.cos(x)
    return np.asarray(power)


def walk_rate(positions: Reals, times_s: Reals, noise: float) -> float:
    """Return the rate of a random walk, in units of `positions` per square root of a second.

    `noise`: standard deviation of each position about the walk. The maximum-likelihood rate of a
    Wiener process seen at `times_s`, less what noise adds to the mean square step.
    """
    total, added, duration_s = _walked(positions, times_s, noise)
    return math.sqrt(max(total - added, 0.0) / duration_s)


def _chi_square_quantile(share: float, freedom: int) -> float:
    return 2.0 * float(special.gammaincinv(freedom / 2.0, share))


def walk(positions: Reals, times_s: Reals, noise: float) -> Quantity:
    """Return `walk_rate` in V/h^0.5 for positions in V, with the interval of its square.

    The sum of squared steps is chi-square distributed, so that its interval is asymmetric.
    """
    total, added, duration_s = _walked(positions, times_s, noise)
    freedom, scale = len(positions) - 1, HOUR_S / duration_s
    low, high = (
        math.sqrt(max(total * freedom / _chi_square_quantile(tail, freedom) - added, 0.0) * scale)
        # Both ends of a 95 % interval.
        for tail in (0.975, 0.025)
    )
    rate = walk_rate(positions, times_s, noise) * math.sqrt(HOUR_S)
    found = Quantity.of(
        rate,
        "V/h^0.5",
        {"steps": (high - low) / 2.0 / student_quantile(0.975, freedom)},
        degrees_of_freedom=freedom,
    )
    return replace(found, span=(low, max(high, rate)))


def _walked(positions: Reals, times_s: Reals, noise: float) -> tuple[float, float, float]:
    """Return the sum of squared steps, what noise adds to it, and the whole time in s."""
    steps = np.diff(positions)
    return float(steps @ steps), 2.0 * noise**2 * len(steps), float(times_s[-1] - times_s[0])


@dataclass
class _Electrode:
    """One electrode: its controller, what its sweeps say, and where its point was found since.

    `point_v` is the null of a child, the quadrature of the parent.
    """

    part: Electrode
    bias: ModulatorBias
    beats: int
    locked_v: float = 0.0
    point_v: float = 0.0
    voltage_v: list[Reals] = field(default_factory=list)
    power_w: list[Reals] = field(default_factory=list)
    fits: list[Reals] = field(default_factory=list)
    found_v: list[float] = field(default_factory=list)
    found_s: list[float] = field(default_factory=list)
    lock_rad: list[float] = field(default_factory=list)
    noise_w: float = 0.0

    @property
    def is_parent(self) -> bool:
        """Whether its point is the quadrature."""
        return self.part == "parent"

    @property
    def curve(self) -> Reals:
        """Mean parameters of the sweeps."""
        return np.asarray(np.mean(self.fits, axis=0))

    @property
    def v_pi_v(self) -> float:
        """Half-wave voltage in V."""
        return float(self.curve[2])

    @property
    def peak_v(self) -> float:
        """The nearer to 0 V of the biases one half-wave voltage off the point."""
        return self.point_v - math.copysign(self.v_pi_v, self.point_v)

    @property
    def slopes_v(self) -> tuple[float, float]:
        """Two biases half a period apart, in the middle of opposite slopes."""
        if self.is_parent:
            return self.point_v, self.peak_v
        return self.point_v - self.v_pi_v / 2.0, self.point_v + self.v_pi_v / 2.0

    def hold(self, voltage_v: float) -> float:
        """Hold a voltage and return the one that the controller says it applies."""
        self.bias.hold_voltage(voltage_v)
        applied_v = self.bias.bias_voltage_v()
        if not abs(applied_v - voltage_v) <= _LARGEST_READ_BACK_V:
            raise CalibrationError(
                f"bias {self.part}: {applied_v:.3f} V applied where {voltage_v:.3f} V should be "
                "held: is the controller stuck, still locked, or at its limit?"
            )
        return applied_v


class BiasPoints:
    """Measures bias voltages `server.bias_*` and `server.lock_offset_*` on the monitor.

    Drift is measured by the instruments' clock: at full effort it is followed for ten minutes.
    """

    name = "bias_points"
    title = "modulator: bias points, errors of a lock, drift"
    needs: tuple[str, ...] = ()
    roles = ("server.laser", "server.bias_i", "server.bias_q", "server.bias_parent")
    valid_for_s = 12.0 * HOUR_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the light's frequency, with which a half-wave voltage scales."""
        return {"server.laser_frequency_hz": bench.equipment.server.laser_frequency_hz}

    def run(self, bench: CalibrationBench) -> Outcome:
        """Sweep each electrode, then follow all three points; leaves every bias locked."""
        bench.light_on()
        server = bench.equipment.server
        electrodes = (
            _Electrode("i", server.bias_i, 2),
            _Electrode("q", server.bias_q, 2),
            _Electrode("parent", server.bias_parent, 0),
        )
        try:
            ended_s = self._measure(bench, electrodes)
        finally:
            for each in electrodes:
                each.bias.lock(BiasPoint.QUADRATURE_PLUS if each.is_parent else BiasPoint.NULL)
        quantities: dict[Name, Quantity] = {}
        for each in electrodes:
            quantities |= _quantities(each, ended_s)
        raw = {name: values for each in electrodes for name, values in _raw(each).items()}
        return Outcome(quantities, raw, lambda figure: _draw(figure, electrodes))

    def _measure(self, bench: CalibrationBench, electrodes: tuple[_Electrode, ...]) -> float:
        """Sweep and follow; returns when the last point was found, in s."""
        child_i, child_q, parent = electrodes
        for each in electrodes:
            each.locked_v = each.point_v = each.bias.bias_voltage_v()
        for each in electrodes:
            each.hold(each.locked_v)
        for each in (child_i, child_q):
            bench.on_step(f"bias {each.part}: sweep")
            _sweep(bench, each)
        bench.on_step("bias parent: sweep between bright children")
        for each in (child_i, child_q):
            each.hold(each.peak_v)
        _sweep(bench, parent)
        bench.on_step("bias points: follow their drift")
        return self._follow(bench, electrodes)

    def _follow(self, bench: CalibrationBench, electrodes: tuple[_Electrode, ...]) -> float:
        rounds, clock = bench.count(_ROUNDS, _LEAST_ROUNDS), bench.equipment.clock
        for number in range(rounds):
            if number:
                clock.sleep(_PAUSE_S)
            for each in electrodes:
                for child in electrodes[:2]:
                    child.hold(child.peak_v if each.is_parent else child.point_v)
                began_s = clock.now_s()
                each.found_v.append(_find(bench, each))
                each.found_s.append((began_s + clock.now_s()) / 2.0)
                each.lock_rad.append(_lock_offset_rad(each))
        return clock.now_s()


def _sweep(bench: CalibrationBench, electrode: _Electrode) -> None:
    """Find the period over the whole range, then sweep two of them, or what there is, to and fro.

    Leaves the electrode at its point.
    """
    reach_v = _reach_v(electrode)
    bias_v, power_w = _read(bench, electrode, np.linspace(-reach_v, reach_v, _COARSE_POINTS))
    _check_swing(power_w, electrode)
    start = _start(bias_v, power_w, reach_v, electrode)
    span_v = min(2.0 * start[2], reach_v)
    errors = np.full(_POINTS, max(electrode.noise_w, 1e-18))
    for number in range(bench.count(_SWEEPS, _LEAST_SWEEPS)):
        grid = np.linspace(-span_v, span_v, _POINTS)[:: -1 if number % 2 else 1]
        bias_v, power_w = _read(bench, electrode, grid)
        what = f"bias {electrode.part}"
        fit = fit_curve(child_power, bias_v, power_w, errors, start, what=what)
        _check_fit(bias_v, power_w, fit.values, electrode)
        electrode.voltage_v.append(bias_v)
        electrode.power_w.append(power_w)
        electrode.fits.append(fit.values)
    electrode.point_v = _nearest_point_v(electrode)
    electrode.hold(electrode.point_v)


def _reach_v(electrode: _Electrode) -> float:
    for reach_v in _REACHES_V:
        try:
            electrode.bias.hold_voltage(-reach_v)
        except LimitError:
            continue
        return reach_v
    raise CalibrationError(
        f"bias {electrode.part}: the controller takes not even {_REACHES_V[-1]} V: its limits?"
    )


def _read(bench: CalibrationBench, electrode: _Electrode, grid: Reals) -> tuple[Reals, Reals]:
    """Return voltages held and powers read there."""
    bias_v, power_w, errors_w = (np.empty(len(grid)) for _ in range(3))
    for point, wanted_v in enumerate(grid):
        bias_v[point] = electrode.hold(float(wanted_v))
        mean = bench.mean_power(bench.equipment.server.monitor, _SWEEP_READINGS)
        power_w[point], errors_w[point] = mean.power_w, mean.standard_error_w
    electrode.noise_w = float(np.sqrt(np.mean(errors_w**2) * _SWEEP_READINGS))
    return bias_v, power_w


def _check_swing(power_w: Reals, electrode: _Electrode) -> None:
    swing_w = float(np.ptp(power_w))
    if not swing_w > _LEAST_SWING_SIGMA * max(electrode.noise_w, 1e-18):
        raise CalibrationError(
            f"bias {electrode.part}: power on the monitor moves by {swing_w:.2g} W over the whole "
            f"range, noise is {electrode.noise_w:.2g} W: is the laser on, light on the monitor, "
            "the bias not stuck?"
        )


def _start(bias_v: Reals, power_w: Reals, reach_v: float, electrode: _Electrode) -> list[float]:
    """Return first parameters: the period whose sinusoid leaves the least residual."""
    best: tuple[float, Reals, float] | None = None
    # From eight half-wave voltages within the reach to less than one, in steps of 1.1 %.
    for v_pi_v in np.geomspace(reach_v / 8.0, 1.2 * reach_v, 200):
        phase = np.pi * bias_v / v_pi_v
        design = np.stack([np.ones_like(phase), np.cos(phase), np.sin(phase)], axis=1)
        solution, *_ = np.linalg.lstsq(design, power_w, rcond=None)
        residual = float(np.sum((power_w - design @ solution) ** 2))
        if best is None or residual < best[0]:
            best = residual, solution, float(v_pi_v)
    assert best is not None
    _, (mean_w, cosine_w, sine_w), v_pi_v = best
    if v_pi_v > reach_v:
        raise CalibrationError(
            f"bias {electrode.part}: no whole period within {reach_v:g} V either way: is it the "
            "right electrode, does the controller reach it?"
        )
    turns = math.atan2(-sine_w, -cosine_w) / math.pi
    null_v = turns * v_pi_v
    null_v += 2.0 * v_pi_v * round((electrode.locked_v - null_v) / (2.0 * v_pi_v))
    return [mean_w, math.hypot(cosine_w, sine_w), v_pi_v, null_v, *([0.0] * electrode.beats)]


def _check_fit(bias_v: Reals, power_w: Reals, values: Reals, electrode: _Electrode) -> None:
    misfit = float(np.std(power_w - child_power(bias_v, *values)) / np.ptp(power_w))
    if not misfit < _LARGEST_MISFIT or not values[1] > 0.0:
        raise CalibrationError(
            f"bias {electrode.part}: power does not follow an interferometer's curve (residual "
            f"{misfit:.0%} of its swing): is the laser's power stable, is the bias that of this "
            "modulator, does nothing else move it?"
        )


def _nearest_point_v(electrode: _Electrode) -> float:
    """Return the point that is nearest to where the lock was."""
    v_pi_v, null_v = electrode.v_pi_v, float(electrode.curve[3])
    if electrode.is_parent:
        # Of both quadratures, the lock chose its own.
        first_v = null_v + v_pi_v / 2.0
        return first_v + v_pi_v * round((electrode.locked_v - first_v) / v_pi_v)
    return null_v + 2.0 * v_pi_v * round((electrode.locked_v - null_v) / (2.0 * v_pi_v))


def _find(bench: CalibrationBench, electrode: _Electrode) -> float:
    """Return where the point is now, and hold it there."""
    powers, expected, slopes = [], [], []
    for wanted_v in electrode.slopes_v:
        applied_v = electrode.hold(wanted_v)
        mean = bench.mean_power(bench.equipment.server.monitor, _FIND_READINGS)
        powers.append(mean.power_w)
        expected.append(_expected_w(electrode, applied_v))
        slopes.append(_slope_w_v(electrode, applied_v))
    difference_w = (powers[1] - powers[0]) - (expected[1] - expected[0])
    # The curve moves towards larger voltages: power falls by slope times shift.
    shift_v = -difference_w / (slopes[1] - slopes[0])
    if not abs(shift_v) < electrode.v_pi_v / 4.0:
        raise CalibrationError(
            f"bias {electrode.part}: point moved by {shift_v:.2g} V, half-wave voltage "
            f"{electrode.v_pi_v:.3g} V: does the light last, is the bias held?"
        )
    electrode.point_v += shift_v
    electrode.hold(electrode.point_v)
    return electrode.point_v


def _fixed_curve(electrode: _Electrode) -> Reals:
    """Return the mean curve, moved to where the point is taken to be."""
    values = electrode.curve.copy()
    away_v = electrode.v_pi_v / 2.0 if electrode.is_parent else 0.0
    nearest = values[3] + away_v
    step_v = electrode.v_pi_v * (1.0 if electrode.is_parent else 2.0)
    values[3] += (
        electrode.point_v - nearest - step_v * round((electrode.point_v - nearest) / step_v)
    )
    return values


def _expected_w(electrode: _Electrode, bias_v: float) -> float:
    return float(child_power(np.array([bias_v]), *_fixed_curve(electrode))[0])


def _slope_w_v(electrode: _Electrode, bias_v: float) -> float:
    step_v = 1e-3 * electrode.v_pi_v
    ahead, behind = (_expected_w(electrode, bias_v + side * step_v) for side in (1.0, -1.0))
    return (ahead - behind) / (2.0 * step_v)


def _lock_offset_rad(electrode: _Electrode) -> float:
    """Return how far from the point a lock settles, in rad of the electrode's phase."""
    electrode.bias.lock(BiasPoint.QUADRATURE_PLUS if electrode.is_parent else BiasPoint.NULL)
    locked_v = electrode.bias.bias_voltage_v()
    electrode.hold(electrode.point_v)
    period_v = 2.0 * electrode.v_pi_v
    return math.pi / period_v * math.remainder(locked_v - electrode.point_v, period_v)


def _quantities(electrode: _Electrode, ended_s: float) -> dict[Name, Quantity]:
    part, fits = electrode.part, np.array(electrode.fits)
    sweeps, rounds = len(fits), len(electrode.found_v)
    v_pi = Quantity.of(
        electrode.v_pi_v,
        "V",
        {"sweeps": float(np.std(fits[:, 2], ddof=1)) / math.sqrt(sweeps)},
        degrees_of_freedom=sweeps - 1,
    )
    found = np.array(electrode.found_v), np.array(electrode.found_s), _find_error_v(electrode)
    rate = walk_rate(*found)
    budget = {
        "readings": _find_error_v(electrode),
        "curve": _curve_error_v(electrode),
        "drift since": rate * math.sqrt(ended_s - electrode.found_s[-1]),
    }
    point = Quantity.of(electrode.found_v[-1], "V", budget, degrees_of_freedom=rounds - 1)
    half = {**budget, "half-wave voltage": v_pi.standard_uncertainty / 2.0}
    other_v = point.value + (-1.0 if electrode.is_parent else 1.0) * v_pi.value / 2.0
    other = Quantity.of(other_v, "V", half, degrees_of_freedom=min(rounds, sweeps) - 1)
    null, quadrature = (other, point) if electrode.is_parent else (point, other)
    offsets = np.array(electrode.lock_rad)
    scatter = {
        "locks": float(np.std(offsets, ddof=1)) / math.sqrt(rounds),
        "curve": math.pi / (2.0 * v_pi.value) * _curve_error_v(electrode),
    }
    return {
        names.BIAS_V_PI_V.of(part): v_pi,
        names.BIAS_NULL_V.of(part): null,
        names.BIAS_QUADRATURE_V.of(part): quadrature,
        names.LOCK_OFFSET_RAD.of(part): Quantity.of(
            float(offsets.mean()), "rad", scatter, degrees_of_freedom=rounds - 1
        ),
        names.BIAS_DRIFT_V_RTH.of(part): walk(*found),
    }


def _find_error_v(electrode: _Electrode) -> float:
    """Return the error of one find by the meter's noise, in V."""
    slopes = [_slope_w_v(electrode, bias_v) for bias_v in electrode.slopes_v]
    noise_w = electrode.noise_w * math.sqrt(2.0 / _FIND_READINGS)
    return noise_w / abs(slopes[1] - slopes[0])


def _curve_error_v(electrode: _Electrode) -> float:
    """Return the error of a find by the scatter of the sweeps' curves, in V."""
    quarter = np.pi / 4.0
    fits = np.array(electrode.fits)
    if not electrode.beats:
        return 0.0
    # The difference of both points beyond the sinusoid's: 2 c sin(pi/4), over its slope 4 b x.
    shifts_rad = 2.0 * fits[:, 4] * math.sin(quarter) / (4.0 * fits[:, 1])
    error_rad = float(np.std(shifts_rad, ddof=1)) / math.sqrt(len(fits))
    return error_rad * 2.0 * electrode.v_pi_v / math.pi


def _raw(electrode: _Electrode) -> dict[str, Reals]:
    part = electrode.part
    return {
        f"bias_{part}_v": np.array(electrode.voltage_v),
        f"power_{part}_w": np.array(electrode.power_w),
        f"found_{part}_v": np.array(electrode.found_v),
        f"found_{part}_s": np.array(electrode.found_s),
        f"lock_offset_{part}_rad": np.array(electrode.lock_rad),
    }


def _draw(figure: Figure, electrodes: tuple[_Electrode, ...]) -> None:
    curves, drift = figure.subplots(1, 2)
    for each in electrodes:
        fine = np.linspace(each.voltage_v[0].min(), each.voltage_v[0].max(), 400)
        label = "parent" if each.is_parent else f"child {each.part}"
        (line,) = curves.plot(fine, 1e6 * child_power(fine, *each.fits[0]), label=label)
        color = line.get_color()
        curves.plot(each.voltage_v[0], 1e6 * each.power_w[0], "o", ms=3, color=color)
        times = np.array(each.found_s) - each.found_s[0]
        drift.plot(times, 1e3 * (np.array(each.found_v) - each.found_v[0]), "o-", ms=3, color=color)
    curves.set_xlabel("bias / V")
    curves.set_ylabel("mean power on the monitor / µW")
    curves.set_title("Bias sweeps")
    curves.legend()
    drift.set_xlabel("time / s, or number of the round")
    drift.set_ylabel("shift of the bias point / mV")
    drift.set_title("Drift")
