"""The attenuator's curve: what light does in the fibre when its setting changes.

Power in the fibre over power on the monitor is r(A) = r_0 10^(-s A / 10); both meters are read with
the drive on and at rest, so that their offsets and the modulator's leakage cancel in the
differences. The slope s needs no calibrated meter, only linear ones; r_0 rests on the launch
meter's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Fit, Reals, fit_curve
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.errors import CalibrationError, LimitError
from labctl.instruments.capabilities import Attenuator
from labctl.station.equipment import FibreMeter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Settings to try, the first that the attenuator takes: parts differ in where their scale begins
# and ends.
_LEAST_DB = (0.0, 0.5, 1.0, 2.0, 3.0)
_MOST_DB = (30.0, 25.0, 20.0, 15.0, 10.0)
# A straight line in dB has two parameters; eleven points more show whether it is one.
_POINTS = 13
# The error of a mean is known from their scatter, to 1/sqrt(2 x 23) = 15 %.
_READINGS = 24
# A power that is known worse than to 5 % says little of a slope.
_LEAST_SIGNAL_SIGMA = 20.0
# Chance below which scatter about the line is not taken for chance.
_LEAST_PROBABILITY = 1e-3


def power_ratio(attenuation_db: Reals, ratio: float, slope: float) -> Reals:
    """Return fibre over monitor power at settings in dB; `ratio` is that at 0 dB."""
    return np.asarray(ratio * 10.0 ** (-slope * attenuation_db / 10.0))


@dataclass(frozen=True)
class MeterRatio:
    """Power in the fibre over power on the monitor.

    `fibre_error`: its error by the launch meter's noise; `monitor_error`: relative, what the
    monitor's does.
    """

    ratio: float
    fibre_error: float
    monitor_error: float

    @property
    def error(self) -> float:
        """Standard error of the readings."""
        return math.hypot(self.fibre_error, self.ratio * self.monitor_error)


def demanded_launch_meter(bench: CalibrationBench) -> FibreMeter:
    """Return the launch meter; raises CalibrationError saying how to add one."""
    meter = bench.equipment.server.launch_meter
    if meter is None:
        raise CalibrationError(
            "no meter in the fibre: add launch_meter = { instrument, channel, ratio, "
            "ratio_uncertainty } under [server] of the station file"
        )
    return meter


def meter_ratio(bench: CalibrationBench, meter: FibreMeter, readings: int) -> MeterRatio:
    """Read both meters with steady light and at rest; raises CalibrationError without light.

    The drive must be prepared by `CalibrationBench.steady_light`; it is left on.
    """
    channels = bench.equipment.server.drive
    half = max(readings // 2, 2)
    values: dict[tuple[str, bool], tuple[float, float]] = {}
    for lit in (True, False):
        for channel in channels.channels:
            channels.generator.set_output(channel, lit)
        for name, head in (("monitor", bench.equipment.server.monitor), ("launch", meter.input)):
            mean = bench.mean_power(head, readings if lit else half)
            values[name, lit] = mean.power_w, mean.standard_error_w
    for channel in channels.channels:
        channels.generator.set_output(channel, True)
    signals = {}
    for name in ("monitor", "launch"):
        (bright_w, bright_error_w), (rest_w, rest_error_w) = values[name, True], values[name, False]
        signals[name] = bright_w - rest_w, math.hypot(bright_error_w, rest_error_w)
    _check_light(*signals["monitor"])
    (fibre_w, fibre_error_w), (monitor_w, monitor_error_w) = signals["launch"], signals["monitor"]
    ratio = meter.ratio / monitor_w
    return MeterRatio(ratio * fibre_w, ratio * fibre_error_w, monitor_error_w / monitor_w)


def shared_errors(found: Sequence[MeterRatio]) -> Reals:
    """Return each ratio's standard error from the typical noise of both meters.

    A scatter of few readings is itself uncertain, so points share it.
    """
    fibre = math.sqrt(sum(each.fibre_error**2 for each in found) / len(found))
    monitor = math.sqrt(sum(each.monitor_error**2 for each in found) / len(found))
    ratios = np.array([each.ratio for each in found])
    # Above 0, for meters without noise: the fit divides by it.
    return np.maximum(np.hypot(fibre, ratios * monitor), 1e-30)


def _check_light(monitor_w: float, error_w: float) -> None:
    if not monitor_w > _LEAST_SIGNAL_SIGMA * max(error_w, 1e-18):
        raise CalibrationError(
            f"monitor reads {monitor_w:.2g} W more with the drive on, noise is {error_w:.2g} W: "
            "is the laser on, the drive connected, light on the monitor?"
        )


class AttenuatorCurve:
    """Measures `server.attenuator_slope` and `server.launch_over_monitor` at 0 dB."""

    name = "attenuator"
    title = "attenuator: attenuation against its setting"
    needs: tuple[str, ...] = ("half_wave_voltage",)
    roles = (
        "server.laser",
        "server.drive",
        "server.attenuator",
        "server.monitor",
        "server.launch_meter",
    )
    valid_for_s = 30.0 * DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the light's frequency and what the launch meter is said to see."""
        meter = bench.equipment.server.launch_meter
        return {
            "server.laser_frequency_hz": bench.equipment.server.laser_frequency_hz,
            "server.launch_meter.ratio": 0.0 if meter is None else meter.ratio,
        }

    def run(self, bench: CalibrationBench) -> Outcome:
        """Step through the attenuator's range, up and down; leaves it where it was."""
        meter = demanded_launch_meter(bench)
        bench.light_on()
        attenuator = bench.equipment.server.attenuator
        before_db = attenuator.attenuation_db()
        settings_db = _settings_db(attenuator)
        bench.steady_light()
        try:
            found = []
            for attenuation_db in settings_db:
                attenuator.set_attenuation(float(attenuation_db))
                found.append(meter_ratio(bench, meter, bench.count(_READINGS)))
        finally:
            bench.sender.forget()
            attenuator.set_attenuation(max(before_db, float(settings_db.min())))
        ratios = np.array([each.ratio for each in found])
        errors = shared_errors(found)
        fit = _fitted(settings_db, ratios, errors)
        return Outcome(
            _quantities(fit, meter),
            {"attenuation_db": settings_db, "ratio": ratios, "ratio_error": errors},
            lambda figure: _draw(figure, settings_db, ratios, errors, fit),
            remarks=_remarks(fit, settings_db, ratios),
        )


def _settings_db(attenuator: Attenuator) -> Reals:
    """Return settings over the attenuator's range, first up, then down between them."""
    least_db = _first_accepted(attenuator, _LEAST_DB)
    most_db = _first_accepted(attenuator, _MOST_DB)
    grid = np.linspace(least_db, most_db, 2 * _POINTS - 1)
    return np.concatenate([grid[::2], grid[1::2][::-1]])


def _first_accepted(attenuator: Attenuator, candidates_db: tuple[float, ...]) -> float:
    for attenuation_db in candidates_db:
        try:
            attenuator.set_attenuation(attenuation_db)
        except LimitError:
            continue
        return attenuation_db
    tried = ", ".join(f"{each:g}" for each in candidates_db)
    raise CalibrationError(f"attenuator takes none of {tried} dB: what are its limits?")


def _fitted(attenuation_db: Reals, ratios: Reals, errors: Reals) -> Fit:
    brightest = int(np.argmax(ratios))
    if not float(ratios[brightest]) > _LEAST_SIGNAL_SIGMA * float(errors[brightest]):
        raise CalibrationError(
            f"launch meter sees {ratios[brightest]:.2g} of the monitor's power, noise is "
            f"{errors[brightest]:.2g}: is light blocked behind the modulator, the head on its "
            "fibre?"
        )
    start = (float(ratios[brightest]), 1.0)
    fit = fit_curve(power_ratio, attenuation_db, ratios, errors, start, what="attenuator curve")
    if not 0.5 < float(fit.values[1]) < 2.0:
        raise CalibrationError(
            f"attenuation changes by {fit.values[1]:.3g} dB per dB that is set: is the attenuator "
            "in this fibre, does it move?"
        )
    return fit


def _quantities(fit: Fit, meter: FibreMeter) -> dict[Name, Quantity]:
    ratio, slope = (float(value) for value in fit.values)
    freedom = fit.degrees_of_freedom
    budget = {
        "readings": fit.standard_uncertainty(0),
        "launch meter": ratio * meter.ratio_uncertainty,
    }
    return {
        names.ATTENUATOR_SLOPE: Quantity.of(
            slope, "1", {"readings": fit.standard_uncertainty(1)}, degrees_of_freedom=freedom
        ),
        names.LAUNCH_OVER_MONITOR: Quantity.of(
            ratio, "1", budget, degrees_of_freedom={"readings": freedom}
        ),
    }


def _remarks(fit: Fit, attenuation_db: Reals, ratios: Reals) -> tuple[str, ...]:
    if min(fit.chi_square_probability, fit.runs_probability) > _LEAST_PROBABILITY:
        return ()
    worst = np.max(np.abs(ratios / power_ratio(attenuation_db, *fit.values) - 1.0))
    # 10/ln(10) = 4.34 dB for a relative error of 1.
    return (f"not a straight line in dB: off by up to {4.34 * worst:.2g} dB",)


def _draw(figure: Figure, attenuation_db: Reals, ratios: Reals, errors: Reals, fit: Fit) -> None:
    curve, residual = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    fine = np.linspace(attenuation_db.min(), attenuation_db.max(), 200)
    curve.semilogy(fine, power_ratio(fine, *fit.values))
    curve.semilogy(attenuation_db, np.where(ratios > 0.0, ratios, np.nan), "o", ms=4)
    curve.set_ylabel("fibre power / monitor power")
    curve.set_title(f"Attenuator: {fit.values[1]:.4f} dB per dB")
    expected = power_ratio(attenuation_db, *fit.values)
    off = (ratios - expected) / expected
    residual.errorbar(attenuation_db, 100.0 * off, 100.0 * errors / expected, fmt="o", ms=4)
    residual.axhline(0.0, lw=0.8)
    residual.set_xlabel("attenuation set / dB")
    residual.set_ylabel("residual / %")
