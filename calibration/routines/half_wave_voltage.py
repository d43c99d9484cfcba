"""Half-wave voltages of the modulator's two children at their drive inputs, and their extinction.

A slow square wave of amplitude A around the null makes the mean power
P(A) = floor + swing sin^2(u) + leak (1 - cos(u)), u = pi A / (2 V_pi): what is odd in the drive
averages out, and the child's field beats with the leakage of both children, which a lock at the
least carrier leaves there, as cos(u). V_pi counts in volts of the generator that drives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Fit, Reals, fit_curve
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.errors import CalibrationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WAVE_NAME = "SQUARE"
# Long against the edges that a 40 MHz output stage makes: they cost 5e-5 of the power.
_HALF_PERIOD_SAMPLES = 2**15
# Four parameters; the points beyond the maximum at V_pi determine V_pi best.
_POINTS = 25
# The error of a mean is known from their scatter, to 1/sqrt(2 x 11) = 21 %.
_READINGS = 12
# Past the maximum at V_pi, to where power has fallen to sin^2(0.7 pi) = 65 % of it.
_REACH_V_PI = 1.4
# Of the spacing: points at random places, so that steps of the converter do not line up with them.
_DITHER = 0.2
# A swing that is known worse than to 5 % is refused.
_LEAST_SWING_SIGMA = 20.0
# Chance that residuals of one sign come in so long runs: below, the curve is not the model's.
_LEAST_RUNS_PROBABILITY = 1e-3


def mean_power(
    amplitude_v: Reals, floor_w: float, swing_w: float, v_pi_v: float, leak_w: float
) -> Reals:
    """Return the mean power in W under a square wave of the amplitude in V around the null."""
    angle = np.pi * amplitude_v / (2.0 * v_pi_v)
    return np.asarray(floor_w + swing_w * np.sin(angle) ** 2 + leak_w * (1.0 - np.cos(angle)))


@dataclass(frozen=True)
class _Sweep:
    """One child's readings and what fits them."""

    amplitude_v: Reals
    power_w: Reals
    error_w: Reals
    fit: Fit


class HalfWaveVoltage:
    """Measures `server.v_pi_i_v` and `server.v_pi_q_v` on the monitor power meter."""

    name = "half_wave_voltage"
    title = "modulator: half-wave voltage of both children"
    needs: tuple[str, ...] = ()
    roles = ("server.laser", "server.drive", "server.bias_i", "server.bias_q", "server.monitor")
    valid_for_s = 7.0 * DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the light's frequency, with which a half-wave voltage scales."""
        return {"server.laser_frequency_hz": bench.equipment.server.laser_frequency_hz}

    def run(self, bench: CalibrationBench) -> Outcome:
        """Sweep each child's square wave; the other child rests at its null."""
        bench.light_on()
        sweeps = {part: self._sweep(bench, index) for index, part in enumerate(names.CHILDREN)}
        bench.sender.forget()
        quantities = {}
        raw = {}
        for part, sweep in sweeps.items():
            quantities[names.V_PI_V.of(part)] = Quantity.of(
                abs(float(sweep.fit.values[2])),
                "V",
                {"readings": sweep.fit.standard_uncertainty(2)},
                degrees_of_freedom=sweep.fit.degrees_of_freedom,
            )
            raw[f"amplitude_{part}_v"] = sweep.amplitude_v
            raw[f"power_{part}_w"] = sweep.power_w
            raw[f"error_{part}_w"] = sweep.error_w
        return Outcome(
            quantities, raw, lambda figure: _draw(figure, sweeps), remarks=_remarks(sweeps)
        )

    def _sweep(self, bench: CalibrationBench, index: int) -> _Sweep:
        drive = bench.equipment.server.drive
        constants = bench.equipment.server.constants
        channel = drive.channels[index]
        nominal_v = (constants.v_pi_i_v, constants.v_pi_q_v)[index]
        bench.sender.forget()
        wave = np.repeat(np.array([1.0, -1.0], np.float32), _HALF_PERIOD_SAMPLES)
        drive.generator.upload(channel, _WAVE_NAME, wave)
        spread = (_REACH_V_PI - 0.05) / (_POINTS - 1)
        amplitudes = np.linspace(0.05, _REACH_V_PI, _POINTS)
        # The generator's own steps then err independently, in this point and from day to day.
        amplitudes += _DITHER * spread * bench.draw.uniform(-0.5, 0.5, _POINTS)
        amplitudes *= nominal_v
        readings = bench.count(_READINGS)
        powers, errors = np.empty(_POINTS), np.empty(_POINTS)
        for point, amplitude_v in enumerate(amplitudes):
            drive.generator.play(
                channel,
                _WAVE_NAME,
                sample_rate_hz=bench.equipment.frame.sample_rate_hz,
                amplitude_v=drive.amplitude_v(float(amplitude_v)),
                offset_v=0.0,
            )
            drive.generator.set_output(channel, True)
            mean = bench.mean_power(bench.equipment.server.monitor, readings)
            powers[point], errors[point] = mean.power_w, mean.standard_error_w
        return _fitted(amplitudes, powers, errors, nominal_v, "IQ"[index])


def _fitted(
    amplitude_v: Reals, power_w: Reals, error_w: Reals, nominal_v: float, child: str
) -> _Sweep:
    # A scatter of a dozen readings is itself uncertain: all points share the typical one.
    error_w = np.full_like(error_w, max(float(np.sqrt(np.mean(error_w**2))), 1e-18))
    swing_w = float(np.ptp(power_w))
    if not swing_w > _LEAST_SWING_SIGMA * float(error_w[0]):
        raise CalibrationError(
            f"child {child}: power moves by {swing_w:.2g} W over the sweep, its noise: "
            "is the laser on, the drive connected, the bias not stuck at a peak?"
        )
    at_nominal = int(np.argmin(np.abs(amplitude_v - nominal_v)))
    if not power_w[at_nominal] > power_w[0]:
        raise CalibrationError(
            f"child {child}: power falls where the drive grows: is the bias stuck at a peak, not "
            "locked to the null?"
        )
    start = (float(power_w.min()), swing_w, nominal_v, 0.0)
    what = f"half-wave voltage of child {child}"
    fit = fit_curve(mean_power, amplitude_v, power_w, error_w, start, what=what)
    error_w = _with_amplitude_errors(amplitude_v, power_w, error_w, fit)
    fit = fit_curve(mean_power, amplitude_v, power_w, error_w, list(fit.values), what=what)
    v_pi_v = abs(float(fit.values[2]))
    if not 0.5 < v_pi_v / nominal_v < 2.0 or not float(fit.values[1]) > 0.0:
        raise CalibrationError(
            f"child {child}: half-wave voltage {v_pi_v:.3g} V is far from the nominal "
            f"{nominal_v:.3g} V: is the drive connected to this child, the station file right?"
        )
    return _Sweep(amplitude_v, power_w, error_w, fit)


def _with_amplitude_errors(amplitude_v: Reals, power_w: Reals, error_w: Reals, fit: Fit) -> Reals:
    """Return the readings' errors with those of the amplitudes, which a generator sets in steps.

    An amplitude that is off by u moves a point by its slope times u; u is what makes chi-square the
    degrees of freedom (Mandel and Paule, Anal. Chem. 42, 1194 (1970)).
    """
    step_v = 1e-3 * float(amplitude_v[-1])
    above, below = (mean_power(amplitude_v + side, *fit.values) for side in (step_v, -step_v))
    slope = (above - below) / (2.0 * step_v)
    square = (power_w - mean_power(amplitude_v, *fit.values)) ** 2

    def too_large(off_v: float) -> float:
        return float(np.sum(square / (error_w**2 + (off_v * slope) ** 2))) - fit.degrees_of_freedom

    most_v = float(amplitude_v[-1])
    if too_large(0.0) <= 0.0 or too_large(most_v) >= 0.0:
        return error_w
    from scipy import optimize

    off_v = float(optimize.brentq(too_large, 0.0, most_v))
    return np.hypot(error_w, off_v * slope)


def _remarks(sweeps: Mapping[names.Child, _Sweep]) -> tuple[str, ...]:
    return tuple(
        f"child {part}: readings are not scattered about the curve as noise would be: did light or "
        "bias drift?"
        for part, sweep in sweeps.items()
        if sweep.fit.runs_probability < _LEAST_RUNS_PROBABILITY
    )


def _draw(figure: Figure, sweeps: Mapping[names.Child, _Sweep]) -> None:
    axes = figure.subplots()
    for part, sweep in sweeps.items():
        fine = np.linspace(0.0, sweep.amplitude_v[-1], 300)
        (line,) = axes.plot(fine, 1e6 * mean_power(fine, *sweep.fit.values), label=f"child {part}")
        axes.errorbar(
            sweep.amplitude_v,
            1e6 * sweep.power_w,
            1e6 * sweep.error_w,
            fmt="o",
            ms=4,
            color=line.get_color(),
        )
    axes.set_xlabel("square-wave amplitude / V")
    axes.set_ylabel("mean power on the monitor / µW")
    axes.set_title("Half-wave voltage")
    axes.legend()
