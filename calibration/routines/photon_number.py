"""Mean photon number per mode in the fibre, from the monitor's reading and the attenuation.

At the least attenuation A_0 the launch meter gives fibre over monitor power; the attenuator's slope
s takes it to 0 dB: r_0 = r 10^(s A_0 / 10). Of monitor_ratio and fixed_attenuation_db only the
product r_0 = monitor_ratio 10^(-fixed_attenuation_db / 10) can be measured: the station file's
monitor_ratio stays, fixed_attenuation_db is what is left. A payload that adds P to the monitor then
holds mu(A) = P r_0 10^(-s A / 10) T / (N h nu) photons per mode, T being the frame's length and N
its modes. The homodyne receiver's amplitude, of which the square falls likewise, checks the slope.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Reals
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.calibration.routines.attenuator import (
    MeterRatio,
    demanded_launch_meter,
    meter_ratio,
    shared_errors,
)
from labctl.dsp.dsp import synchronise
from labctl.dsp.layout import Complexes, FrameLayout
from labctl.errors import CalibrationError, LimitError, SynchronisationError
from labctl.station.equipment import FibreMeter
from labctl.units import PER_DB, photon_energy_j

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Settings to try, the first that the attenuator takes.
_LEAST_DB = (0.0, 0.5, 1.0, 2.0, 3.0)
# Their scatter is the error, to 1/sqrt(2 x 5) = 32 %: drifts between them are in it.
_REPEATS = 6
# A seventh of a reading's noise.
_READINGS = 48
# A payload like a session's: normal fields of this RMS, peaks well below the modulator's largest.
_ROWS, _MODES = 8, 256
_RMS_FIELD = 0.1
_PAYLOAD, _PREAMBLE = "PAYLOAD", "PREAMBLE"
# A factor of 8 in power for the homodyne check, by which the preamble still stands out of noise.
_STEPS_DB = (0.0, 3.0, 6.0, 9.0)
# The error of a mean amplitude is known from their scatter, to 1/sqrt(2 x 15) = 18 %.
_RECORDS = 16
# Chance 6e-5: two slopes that differ by more are two slopes.
_DISAGREEMENT_SIGMA = 4.0
# A power that is known worse than to 10 % is refused.
_LEAST_SIGNAL_SIGMA = 10.0


def photons_per_mode(
    monitor_w: float, ratio: float, layout: FrameLayout, frequency_hz: float
) -> float:
    """Return the mean photon number per mode in the fibre of a frame without pilots.

    `monitor_w`: what the frame, played over and over, adds to the monitor's reading in W. `ratio`:
    fibre over monitor power.
    """
    energy_j = monitor_w * ratio * layout.duration_s
    return energy_j / photon_energy_j(frequency_hz) / (layout.rows * layout.modes)


@dataclass(frozen=True)
class _Payload:
    """What a reference payload of random modes adds to the monitor's reading."""

    layout: FrameLayout
    symbols: Complexes
    monitor_w: float
    error_w: float


@dataclass(frozen=True)
class _Check:
    """The homodyne amplitude in V over the attenuation in dB, in `records` at each."""

    attenuation_db: Reals
    amplitude_v: Reals
    error_v: Reals
    records: int

    @property
    def degrees_of_freedom(self) -> int:
        """Of the error, which is from the scatter at all settings."""
        return len(self.attenuation_db) * (self.records - 1)

    def slope(self) -> tuple[float, float]:
        """Return dB per dB and its standard error, by a weighted line through the logarithms."""
        level_db = 20.0 * np.log10(self.amplitude_v)
        error_db = 2.0 * self.error_v / self.amplitude_v / PER_DB
        weights = error_db**-2.0
        middle = float(np.average(self.attenuation_db, weights=weights))
        centred = self.attenuation_db - middle
        information = float(np.sum(weights * centred**2))
        return -float(np.sum(weights * centred * level_db)) / information, information**-0.5


class PhotonNumber:
    """Measures `server.fixed_attenuation_db`, and `server.mean_photons_0_db` of a payload.

    The payload has RMS field 0.1 of the modulator's largest, as a session's has.
    """

    name = "photon_number"
    title = "mean photon number per mode against attenuation"
    needs: tuple[str, ...] = ("attenuator",)
    roles = (
        "server.laser",
        "server.drive",
        "server.attenuator",
        "server.monitor",
        "server.launch_meter",
    )
    valid_for_s = 7.0 * DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return what the result counts from: the station file's ratios, and the laser's power."""
        server = bench.equipment.server
        return {
            "server.laser_frequency_hz": server.laser_frequency_hz,
            "server.laser_power_w": server.laser_power_w,
            "server.monitor_ratio": server.constants.monitor_ratio,
            "server.launch_meter.ratio": 0.0
            if server.launch_meter is None
            else server.launch_meter.ratio,
        }

    def run(self, bench: CalibrationBench) -> Outcome:
        """Compare the meters, level a payload, check by homodyne; leaves the least attenuation."""
        meter = demanded_launch_meter(bench)
        slope = bench.knowledge.quantity(names.ATTENUATOR_SLOPE)
        bench.light_on()
        least_db = _least_db(bench)
        bench.on_step("launch meter against monitor")
        bench.steady_light()
        found = [
            meter_ratio(bench, meter, bench.count(_READINGS))
            for _ in range(bench.count(_REPEATS, 3))
        ]
        bench.on_step("payload on the monitor")
        payload = _payload(bench)
        bench.on_step("homodyne amplitude against attenuation")
        check = _homodyne(bench, least_db)
        bench.sender.forget()
        ratio = _at_zero_db(found, least_db, slope, meter)
        quantities = _quantities(bench, ratio, payload, check)
        mean_photons = quantities[names.MEAN_PHOTONS_0_DB]
        return Outcome(
            quantities,
            _raw(found, payload, check),
            lambda figure: _draw(figure, mean_photons, slope, check),
            remarks=_remarks(check, slope),
        )


def _least_db(bench: CalibrationBench) -> float:
    """Set the least attenuation that the attenuator takes, and return it."""
    for attenuation_db in _LEAST_DB:
        try:
            bench.equipment.server.attenuator.set_attenuation(attenuation_db)
        except LimitError:
            continue
        return attenuation_db
    raise CalibrationError(f"attenuator takes none of {_LEAST_DB} dB: what are its limits?")


def _at_zero_db(
    found: list[MeterRatio], least_db: float, slope: Quantity, meter: FibreMeter
) -> Quantity:
    """Return fibre over monitor power with the attenuator at 0 dB."""
    weights = shared_errors(found) ** -2.0
    measured = float(np.average([each.ratio for each in found], weights=weights))
    if not measured > _LEAST_SIGNAL_SIGMA * float(weights.sum()) ** -0.5:
        raise CalibrationError(
            f"launch meter sees {measured:.2g} of the monitor's power, which is within its noise: "
            "is light blocked behind the modulator, the head on its fibre?"
        )
    ratio = measured * 10.0 ** (slope.value * least_db / 10.0)
    return Quantity.of(
        ratio,
        "1",
        {
            "readings": ratio / measured * float(weights.sum()) ** -0.5,
            "launch meter": ratio * meter.ratio_uncertainty,
            "attenuator": ratio * PER_DB * least_db * slope.standard_uncertainty,
        },
    )


def _payload(bench: CalibrationBench) -> _Payload:
    layout = bench.sender.layout(rows=_ROWS, modes=_MODES)
    quadratures = bench.draw.standard_normal((_ROWS, 2 * _MODES)).astype(np.float32)
    quadratures *= np.float32(_RMS_FIELD / math.sqrt(2.0))
    symbols = layout.server_symbols(quadratures, 1.0, pilots=False)
    bench.sender.forget()
    bench.sender.upload(_PAYLOAD, layout, symbols)
    monitor, readings = bench.equipment.server.monitor, bench.count(_READINGS)
    differences_w = []
    # In turns: the light that leaks through the modulator drifts with its biases.
    for _ in range(bench.count(_REPEATS, 3)):
        bench.sender.rest()
        rest = bench.mean_power(monitor, readings)
        bench.sender.play(_PAYLOAD)
        differences_w.append(bench.mean_power(monitor, readings).power_w - rest.power_w)
    monitor_w = float(np.mean(differences_w))
    error_w = float(np.std(differences_w, ddof=1)) / math.sqrt(len(differences_w))
    error_w = max(error_w, rest.standard_error_w / math.sqrt(len(differences_w) / 2.0))
    if not monitor_w > _LEAST_SIGNAL_SIGMA * error_w:
        raise CalibrationError(
            f"a payload adds {monitor_w:.2g} W to the monitor's reading, noise is {error_w:.2g} W: "
            "is the modulator driven and biased at its null?"
        )
    return _Payload(layout, symbols, monitor_w, error_w)


def _homodyne(bench: CalibrationBench, least_db: float) -> _Check | None:
    """Return the preamble's amplitude at the server's receiver, None where none comes back."""
    layout = bench.sender.layout(rows=1, modes=1)
    symbols = layout.server_symbols(np.zeros((1, 2), np.float32), 1.0)
    bench.load(_PREAMBLE, layout, symbols)
    duration_s = bench.duration_s(layout)
    bench.fit_ranges(["server"], duration_s)
    amplitudes, errors, settings = [], [], []
    for step_db in _STEPS_DB:
        bench.equipment.server.attenuator.set_attenuation(least_db + step_db)
        try:
            values = [_amplitude_v(bench, layout) for _ in range(bench.count(_RECORDS))]
        except SynchronisationError:
            break
        settings.append(least_db + step_db)
        amplitudes.append(float(np.mean(values)))
        errors.append(float(np.std(values, ddof=1)) / math.sqrt(len(values)))
    bench.equipment.server.attenuator.set_attenuation(least_db)
    if len(settings) < 3:
        return None
    typical_v = math.sqrt(float(np.mean(np.square(errors))))
    return _Check(
        np.array(settings),
        np.array(amplitudes),
        np.full(len(errors), typical_v),
        bench.count(_RECORDS),
    )


def _amplitude_v(bench: CalibrationBench, layout: FrameLayout) -> float:
    trace = bench.record(["server"], bench.duration_s(layout))["server"]
    return synchronise(trace, layout, bench.equipment.frame.longest_delay_s).amplitude


def _quantities(
    bench: CalibrationBench, ratio: Quantity, payload: _Payload, check: _Check | None
) -> dict[Name, Quantity]:
    server = bench.equipment.server
    fixed_db = 10.0 * math.log10(server.constants.monitor_ratio / ratio.value)
    in_db = 1.0 / PER_DB / ratio.value
    mean_photons = photons_per_mode(
        payload.monitor_w, ratio.value, payload.layout, server.laser_frequency_hz
    )
    relative = {source: part / ratio.value for source, part in ratio.budget.items()}
    relative["monitor"] = payload.error_w / payload.monitor_w
    found = {
        names.FIXED_ATTENUATION_DB: Quantity.of(
            fixed_db, "dB", {source: in_db * part for source, part in ratio.budget.items()}
        ),
        names.MEAN_PHOTONS_0_DB: Quantity.of(
            mean_photons, "1", {source: mean_photons * part for source, part in relative.items()}
        ),
    }
    if check is not None:
        slope, error = check.slope()
        found[names.ATTENUATOR_SLOPE_HOMODYNE] = Quantity.of(
            slope, "1", {"records": error}, degrees_of_freedom=check.degrees_of_freedom
        )
    return found


def _raw(found: list[MeterRatio], payload: _Payload, check: _Check | None) -> dict[str, np.ndarray]:
    raw: dict[str, np.ndarray] = {
        "ratio": np.array([each.ratio for each in found]),
        "ratio_error": np.array([each.error for each in found]),
        "payload_symbols": payload.symbols,
        "payload_monitor_w": np.array([payload.monitor_w, payload.error_w]),
    }
    if check is not None:
        raw["homodyne_attenuation_db"] = check.attenuation_db
        raw["homodyne_amplitude_v"] = check.amplitude_v
        raw["homodyne_error_v"] = check.error_v
    return raw


def _remarks(check: _Check | None, slope: Quantity) -> tuple[str, ...]:
    remarks = ("monitor_ratio is the station file's; fixed_attenuation_db goes with it",)
    if check is None:
        return (*remarks, "no homodyne check: no light came back to the server's receiver")
    seen, error = check.slope()
    joint = math.hypot(error, slope.standard_uncertainty)
    if abs(seen - slope.value) > _DISAGREEMENT_SIGMA * joint:
        return (
            *remarks,
            f"homodyne amplitude falls by {seen:.4f} dB per dB, power by {slope.value:.4f}: does "
            "the receiver saturate, is a meter not linear?",
        )
    return remarks


def _draw(figure: Figure, mean_photons: Quantity, slope: Quantity, check: _Check | None) -> None:
    axes = figure.subplots()
    fine = np.linspace(0.0, 30.0, 200)
    curve = mean_photons.value * 10.0 ** (-slope.value * fine / 10.0)
    relative = np.hypot(
        mean_photons.standard_uncertainty / mean_photons.value,
        PER_DB * fine * slope.standard_uncertainty,
    )
    axes.semilogy(fine, curve, label="payload of RMS field 0.1")
    axes.fill_between(fine, curve * (1 - 2 * relative), curve * (1 + 2 * relative), alpha=0.3)
    if check is not None:
        level = (check.amplitude_v / check.amplitude_v[0]) ** 2
        first = mean_photons.value * 10.0 ** (-slope.value * check.attenuation_db[0] / 10.0)
        axes.semilogy(
            check.attenuation_db, first * level, "o", ms=5, label="homodyne, scaled to the first"
        )
    axes.set_xlabel("attenuation set / dB")
    axes.set_ylabel("mean photons per mode")
    axes.set_title(f"Mean photon number: {mean_photons} at 0 dB")
    axes.legend()
