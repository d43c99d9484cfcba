"""The client's amplifier: gain per volt of its control, and its spontaneous-emission factor.

In the dark the amplifier's own noise is heard on both sides. With x = G - 1 = k V it adds
2 n_sp eta_c x^2/(1 + x) to the client's measured arm and 2 n_sp tau x/(1 + x) to what the server
sees, in shot-noise units, tau being transmittance and efficiency on the way back. Both curves bend
where x is of order 1, whatever their scale: the bend tells k. Noise is white before the detector,
so that all samples of a record count, not only one per slot; the scale k tau n_sp is that of the
matched filter's values.

A bright frame tells tau: A^2 = 4 S N tau in V^2, N being its photons at the client by the arrival
meter; without one, from the channel's transmittance, half of whose loss is on either leg give or
take the other half. The matched filter misses 1 - m of a pulse's energy but none of the noise's:
with the pulse p(t) per unit value, m = 1/sum p^2, and noise sees tau/m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labctl.calibration.bench import CalibrationBench, Party
from labctl.calibration.fits import Fit, Reals, fit_curve
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.calibration.routines.known_symbols import (
    check_linear,
    fit_amplitude,
    frame_of,
    random_symbols,
    read_rows,
)
from labctl.calibration.routines.receiver_noise import (
    PARTIES,
    brightest,
    darkest,
    load_frame,
    record,
    sync_of,
)
from labctl.calibration.spectrum import NoiseVariance, check_noise, pooled_variance
from labctl.dsp.layout import Floats, FrameLayout
from labctl.dsp.matched_filter import read_slots, samples_per_symbol
from labctl.dsp.recorder import FIRST_RANGE_V
from labctl.errors import CalibrationError, InstrumentReportedError, LimitError
from labctl.instruments.capabilities import Trace
from labctl.station.equipment import FibreMeter
from labctl.units import photon_energy_j

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAME = "AMPLIFIER"
_ROWS, _MODES, _FIELD, _WINDOW = 8, 256, 0.9, 32
_BRIGHT_RECORDS = 16
_METER_READINGS = 100
# Share of the largest setting, and of all the time that is spent there.
_SETTINGS = ((0.0, 0.3), (0.2, 0.25), (0.4, 0.15), (0.64, 0.1), (1.0, 0.2))
_MOST_GAINS = (2.25, 2.2, 2.0, 1.75, 1.5, 1.25)
_NOISE_S = 50e-3
_RECORD_S = 5e-3
_LEAST_RECORD_S = 0.4e-3
_HEADROOM = 1.6
_LEAST_SIGMA = 10.0
_LIMIT_SIGMA = 4.0
_UNLIKELY = 1e-3
_LARGEST_REACH = 0.9
# What a receiver's noise, not quite white, makes of the pulse's overlap.
_MATCHING_UNCERTAINTY = 0.003


def relative_noise(
    voltage_v: Reals,
    gain_per_v: float,
    server: float,
    client: float,
    server_dark: float,
    client_dark: float,
) -> Reals:
    """Return variances at the server, then at the client, for the same control voltages in V.

    `server` is 2 n_sp tau k and `client` 2 n_sp eta_c k^2, per volt and per volt squared.
    """
    saturation = 1.0 + gain_per_v * voltage_v
    return np.concatenate(
        [
            server_dark + server * voltage_v / saturation,
            client_dark + client * voltage_v**2 / saturation,
        ]
    )


def pulse_energy(
    voltage_v: npt.NDArray[np.floating], position: float, step: float, values: Reals
) -> float:
    """Return the sum of p^2, p being the samples of a pulse per unit of its matched-filter value.

    `values` (n,): expected matched-filter values in V of adjacent slots, the first of which begins
    at sample `position`, each `step` samples (a whole number but for rounding) after the last. A
    pulse may reach into both neighbours' slots.
    """
    taps = round(step)
    starts = np.round(position + step * np.arange(1, len(values) - 1)).astype(np.int64)
    samples = voltage_v[starts[:, None] + np.arange(taps)].astype(np.float64)
    design = np.stack([values[:-2], values[1:-1], values[2:], np.ones(len(starts))], axis=1)
    solution, *_ = np.linalg.lstsq(design, samples, rcond=None)
    return float(np.sum(solution[:3] ** 2))


@dataclass(frozen=True)
class _Noise:
    """Variances in V^2 of all samples at each control voltage, and of slots at the last."""

    voltage_v: Reals
    samples: Mapping[Party, tuple[NoiseVariance, ...]]
    slots: Mapping[Party, tuple[NoiseVariance, ...]]


@dataclass(frozen=True)
class _Bright:
    """S tau in V^2 as the noise sees it, with its uncertainties by source; match of the pulse."""

    unit_v2: Quantity
    match: float
    powers_v2: Reals


class Amplifier:
    """Measures `client.gain_per_v` and `client.emission_factor`.

    An emission factor below 1, the quantum limit, by chance is 1.
    """

    name = "amplifier"
    title = "client's amplifier: gain and excess noise"
    needs: tuple[str, ...] = ("channel",)
    roles = (
        "server.laser",
        "server.drive",
        "server.attenuator",
        "server.shutter",
        "server.digitizer",
        "client.gain",
        "client.digitizer",
        "client.arrival_meter",
    )
    valid_for_s = DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the light's frequency and what the arrival meter is said to see."""
        meter = bench.equipment.client.arrival_meter
        return {
            "server.laser_frequency_hz": bench.equipment.server.laser_frequency_hz,
            "client.arrival_meter.ratio": 0.0 if meter is None else meter.ratio,
        }

    def run(self, bench: CalibrationBench) -> Outcome:
        """Weigh a bright frame at the server, then listen in the dark at several gains."""
        bench.light_on()
        server, gain = bench.equipment.server, bench.equipment.client.gain
        try:
            gain.set(0.0)
            bright = _bright(bench)
            noise = _noise(bench)
        finally:
            gain.set(0.0)
            brightest(server.attenuator)
            bench.light_on()
            bench.sender.forget()
        fit = _fitted(noise)
        quantities = _quantities(fit, noise, bright)
        raw = _raw(noise, bright)
        remarks = []
        if fit.chi_square_probability < _UNLIKELY:
            remarks.append(
                f"noise against control voltage does not bend like a gain that is linear in it "
                f"(chance {fit.chi_square_probability:.1g}); the uncertainties are widened"
            )
        if quantities["client.emission_factor"].value == 1.0:
            remarks.append("emission factor measured below 1, the quantum limit: 1 is kept")
        return Outcome(
            quantities, raw, lambda figure: _draw(figure, noise, fit), remarks=tuple(remarks)
        )


def _fit_range(bench: CalibrationBench, parties: tuple[Party, ...], duration_s: float) -> None:
    for party in parties:
        bench.recorders[party].range_v = FIRST_RANGE_V
    for _ in range(2):
        for party, trace in record(bench, parties, duration_s).items():
            bench.recorders[party].fit_range(trace)
    for party in parties:
        bench.recorders[party].range_v *= _HEADROOM


def _bright(bench: CalibrationBench) -> _Bright:
    """Return S tau by a bright frame at the server, and how well the filter matches its pulses."""
    bench.on_step("bright frame at the server")
    brightest(bench.equipment.server.attenuator)
    layout = bench.sender.layout(rows=_ROWS, modes=_MODES)
    symbols = random_symbols(bench.draw, _ROWS, _MODES, _FIELD)
    bench.load(_FRAME, layout, frame_of(layout, symbols))
    duration_s = bench.duration_s(layout)
    _fit_range(bench, ("server",), duration_s)
    records = bench.count(_BRIGHT_RECORDS)
    powers_v2, energies = np.empty(records), np.empty(records)
    for number in range(records):
        # Unequal children average out over both quadratures.
        turn_v = 0.5 * (number % 2) * bench.equipment.server.constants.phase_shifter_v_pi_v
        bench.equipment.server.lo_phase.set(turn_v)
        trace = record(bench, ("server",), duration_s)["server"]
        start_s = sync_of(bench, "server", trace, layout).start_s
        read = read_rows(trace, layout, start_s)[:, layout.mode_offsets]
        found = fit_amplitude(read.ravel(), symbols.ravel(), _WINDOW)
        check_linear(found, "server")
        powers_v2[number] = found.power * (1.0 + found.walk_rad2)
        energies[number] = np.mean(
            [_row_energy(trace, layout, start_s, row, read, symbols) for row in range(_ROWS)]
        )
    bench.equipment.server.lo_phase.set(0.0)
    match = 1.0 / float(energies.mean())
    if not 0.5 < match < 1.0 + 5.0 * _MATCHING_UNCERTAINTY:
        raise CalibrationError(
            f"matched filter takes {match:.3g} of the pulses' energy: is the receiver's bandwidth "
            "that of the frames, the detector not saturated?"
        )
    unit = _unit(bench, layout, symbols, powers_v2)
    by_match = {
        **{source: part / match for source, part in unit.budget.items()},
        "mode matching": unit.value / match * _MATCHING_UNCERTAINTY,
    }
    return _Bright(Quantity.of(unit.value / match, "V^2", by_match), match, powers_v2)


def _row_energy(
    trace: Trace,
    layout: FrameLayout,
    start_s: float,
    row: int,
    read: Floats,
    symbols: npt.NDArray[np.complex64],
) -> float:
    """Return the pulses' energy of one row's modes."""
    field = fit_amplitude(read[row], symbols[row], _MODES).field
    expected = symbols[row].real * field.real + symbols[row].imag * field.imag
    step = samples_per_symbol(trace, layout)
    first = int(layout.row_starts[row] + layout.mode_offsets[0])
    position = (start_s - trace.start_s) / trace.interval_s + first * step
    return pulse_energy(trace.voltage_v, position, step, expected.astype(np.float64))


def _unit(
    bench: CalibrationBench,
    layout: FrameLayout,
    symbols: npt.NDArray[np.complex64],
    powers_v2: Reals,
) -> Quantity:
    """Return S tau in V^2, by the arrival meter where there is one."""
    meter = bench.equipment.client.arrival_meter
    if meter is None:
        return _unit_by_channel(bench)
    power_w = _payload_power(bench, layout, symbols, meter)
    weight = float(np.sum(np.abs(symbols.astype(np.complex128)) ** 2))
    energy_j = power_w.value * layout.duration_s
    photons = energy_j / photon_energy_j(bench.equipment.server.laser_frequency_hz) / weight
    value = float(powers_v2.mean()) / (4.0 * photons)
    scatter = float(powers_v2.std(ddof=1)) / math.sqrt(len(powers_v2)) / float(powers_v2.mean())
    return Quantity.of(
        value,
        "V^2",
        {
            "bright records": value * scatter,
            "meters' readings": value * power_w.standard_uncertainty / power_w.value,
            "arrival meter's ratio": value * meter.ratio_uncertainty,
        },
    )


def _payload_power(
    bench: CalibrationBench,
    layout: FrameLayout,
    symbols: npt.NDArray[np.complex64],
    meter: FibreMeter,
) -> Quantity:
    """Return the power in W that the frame's modes bring to the client's fibre.

    Steady light, which the arrival meter sees best, takes it there from the monitor.
    """
    monitor, readings = bench.equipment.server.monitor, bench.count(_METER_READINGS, 20)
    bench.load(_FRAME, layout, frame_of(layout, symbols, pilots=False))
    bench.sender.rest()
    rest, arrival_rest = (bench.mean_power(each, readings) for each in (monitor, meter.input))
    bench.sender.play(_FRAME)
    payload = bench.mean_power(monitor, readings)
    bench.steady_light()
    steady, arrival = (bench.mean_power(each, readings) for each in (monitor, meter.input))
    bench.sender.forget()
    value, relative = meter.ratio, 0.0
    for power, dark, sign, what in (
        (payload, rest, 1.0, "monitor"),
        (steady, rest, -1.0, "monitor"),
        (arrival, arrival_rest, 1.0, "arrival meter"),
    ):
        more_w = power.power_w - dark.power_w
        error_w = math.hypot(power.standard_error_w, dark.standard_error_w)
        if not more_w > _LEAST_SIGMA * error_w:
            raise CalibrationError(
                f"{what} reads {more_w:.2g} W more with light, noise is {error_w:.2g} W: is the "
                "laser on, light blocked before it, the head on its fibre?"
            )
        value *= more_w**sign
        relative = math.hypot(relative, error_w / more_w)
    return Quantity(value, value * relative, "W")


def _unit_by_channel(bench: CalibrationBench) -> Quantity:
    shot, efficiency, round_trip = (
        bench.knowledge.quantity(f"server.{name}")
        for name in ("shot_noise_v2", "efficiency", "transmittance")
    )
    # The way back is anything from all of the loss to none of it.
    back = 0.5 * (1.0 + round_trip.value)
    value = shot.value * back * efficiency.value
    return Quantity.of(
        value,
        "V^2",
        {
            "shot-noise unit": value * shot.standard_uncertainty / shot.value,
            "efficiency": value * efficiency.standard_uncertainty / efficiency.value,
            "transmittance": value * 0.5 * round_trip.standard_uncertainty / back,
            "where the loss is": value * (1.0 - round_trip.value) / math.sqrt(12.0) / back,
        },
    )


def _noise(bench: CalibrationBench) -> _Noise:
    """Record both parties' noise in the dark at several control voltages."""
    bench.on_step("noise against the amplifier's gain")
    gain = bench.equipment.client.gain
    darkest(bench.equipment.server.attenuator)
    layout = load_frame(bench, lit=False)
    most_v = _largest_voltage(bench)
    _fit_range(bench, PARTIES, _LEAST_RECORD_S)
    voltage_v = np.array([share * most_v for share, _ in _SETTINGS])
    samples: dict[Party, list[NoiseVariance]] = {party: [] for party in PARTIES}
    slots: dict[Party, list[NoiseVariance]] = {party: [] for party in PARTIES}
    for control_v, (_, share) in zip(voltage_v, _SETTINGS, strict=True):
        gain.set(float(control_v))
        total_s = max(_NOISE_S * bench.effort * share, 2.0 * _LEAST_RECORD_S)
        records = max(math.ceil(total_s / _RECORD_S - 1e-9), 2)
        traces = [record(bench, PARTIES, total_s / records) for _ in range(records)]
        for party in PARTIES:
            for each in traces:
                check_noise(each[party].voltage_v, bench.recorders[party].range_v, party)
            samples[party].append(pooled_variance([each[party].voltage_v for each in traces]))
            slots[party].append(pooled_variance([_slots(each[party], layout) for each in traces]))
    return _Noise(
        voltage_v,
        {party: tuple(each) for party, each in samples.items()},
        {party: tuple(each) for party, each in slots.items()},
    )


def _slots(trace: Trace, layout: FrameLayout) -> Floats:
    whole = int(len(trace.voltage_v) / samples_per_symbol(trace, layout))
    return read_slots(trace, layout, trace.start_s, 0, whole)


def _largest_voltage(bench: CalibrationBench) -> float:
    """Set the largest control voltage of the routine's that limits and instrument allow."""
    client = bench.equipment.client
    for gain in _MOST_GAINS:
        voltage_v = (gain - 1.0) / client.constants.gain_per_v
        try:
            client.gain.set(voltage_v)
        except (LimitError, InstrumentReportedError):
            continue
        return voltage_v
    raise CalibrationError(
        f"gain control takes not even the voltage of G = {_MOST_GAINS[-1]:g}: its limits, "
        "gain_per_v?"
    )


def _fitted(noise: _Noise) -> Fit:
    """Fit both parties' variances, each over its own in the dark at gain 1."""
    values, errors = [], []
    for party in ("server", "client"):
        each = noise.samples[party]
        values.append([one.variance / each[0].variance for one in each])
        errors.append([one.standard_uncertainty / each[0].variance for one in each])
        _require_growth(party, noise)
    y, most_v = np.concatenate(values), float(noise.voltage_v[-1])
    # Both hear one amplifier: covariance^2 = E_s E_c cos^2 of the sum of both phases, E being what
    # each hears above dark. Nobody holds the phases: half of it on average.
    shares = [np.maximum(1.0 - 1.0 / np.array(part), 0.0) for part in values]
    widening = np.tile(np.sqrt(1.0 + 0.5 * shares[0] * shares[1]), 2)
    start_k = (_MOST_GAINS[0] - 1.0) / most_v
    grown = [float(part[-1] - part[0]) * (1.0 + start_k * most_v) for part in map(np.array, values)]
    start = (start_k, grown[0] / most_v, grown[1] / most_v**2, 1.0, 1.0)
    count = len(noise.voltage_v)
    # Two curves over the same voltages: the fit counts 2 n readings.
    doubled = np.tile(noise.voltage_v, 2)
    fit = fit_curve(
        lambda x, *parameters: relative_noise(x[:count], *parameters),
        doubled,
        y,
        np.concatenate(errors) * widening,
        start,
        what="noise against gain",
        widen_below=_UNLIKELY,
    )
    gain_per_v, error = float(fit.values[0]), fit.standard_uncertainty(0)
    if not gain_per_v > 2.0 * error:
        raise CalibrationError(
            f"noise does not bend with the control voltage (gain per volt {gain_per_v:.2g} ± "
            f"{error:.1g}): is it this amplifier's control, does it reach far enough?"
        )
    return fit


def _require_growth(party: Party, noise: _Noise) -> None:
    first, last = noise.samples[party][0], noise.samples[party][-1]
    grown = last.variance - first.variance
    error = math.hypot(first.standard_uncertainty, last.standard_uncertainty)
    if grown > _LEAST_SIGMA * error:
        return
    cause = (
        "is the gain control connected, the amplifier on?"
        if party == "client"
        else "is the way back blocked, the shutter closed, the gain control connected, the "
        "amplifier on?"
    )
    raise CalibrationError(
        f"{party}: noise grows by {grown:.2g} ± {error:.1g} V^2 up to {noise.voltage_v[-1]:.3g} V "
        f"on the gain control: {cause}"
    )


def _quantities(fit: Fit, noise: _Noise, bright: _Bright) -> dict[str, Quantity]:
    gain_per_v = float(fit.values[0])
    gain = _gain(gain_per_v, fit.standard_uncertainty(0), _freedom(fit))
    scale_v2, scale_error = _slots_scale(noise)
    # B/k in V^2 of slots is 2 n_sp S tau.
    shape = float(fit.values[1]) / gain_per_v
    gradient = np.zeros(len(fit.values))
    gradient[0], gradient[1] = -1.0 / gain_per_v, 1.0 / float(fit.values[1])
    relative = math.sqrt(float(gradient @ fit.covariance @ gradient))
    factor = shape * scale_v2 / (2.0 * bright.unit_v2.value)
    budget = {
        "noise records": factor * relative,
        "filter's share": factor * scale_error,
        **{
            source: factor * part / bright.unit_v2.value
            for source, part in bright.unit_v2.budget.items()
        },
    }
    return {
        "client.gain_per_v": gain,
        "client.emission_factor": _physical(Quantity.of(factor, "1", budget)),
    }


def _gain(gain_per_v: float, error: float, freedom: float) -> Quantity:
    """Return k; 1/k is what errs alike to both sides, and tells the interval."""
    found = Quantity.of(gain_per_v, "1/V", {"noise records": error}, degrees_of_freedom=freedom)
    reach = min(found.coverage_factor() * error / gain_per_v, _LARGEST_REACH)
    return replace(found, span=(gain_per_v / (1.0 + reach), gain_per_v / (1.0 - reach)))


def _freedom(fit: Fit) -> float:
    """Return the degrees of freedom of the errors: known well, unless the fit widened them."""
    return fit.degrees_of_freedom if _widened(fit) else math.inf


def _widened(fit: Fit) -> bool:
    return fit.chi_square_probability < _UNLIKELY


def _slots_scale(noise: _Noise) -> tuple[float, float]:
    """Return V^2 of the server's slots per unit of its relative sample variance, and its error.

    The error is relative. The noise that the amplifier adds tells, at the largest gain.
    """
    samples, slots = noise.samples["server"], noise.slots["server"]
    more, by_slots = _growth(slots)
    grown, by_samples = _growth(samples)
    # Slots are sums of the samples: what these err by is the fit's already, and in both alike.
    return more / grown * samples[0].variance, math.sqrt(max(by_slots**2 - by_samples**2, 0.0))


def _growth(noise: Sequence[NoiseVariance]) -> tuple[float, float]:
    """Return how much variance grows from first to last in V^2, and its relative error."""
    more = noise[-1].variance - noise[0].variance
    return more, math.hypot(noise[-1].standard_uncertainty, noise[0].standard_uncertainty) / more


def _physical(factor: Quantity) -> Quantity:
    """Return an emission factor as one of at least 1; CalibrationError if it is far below."""
    short = 1.0 - factor.value
    if short > _LIMIT_SIGMA * factor.standard_uncertainty:
        raise CalibrationError(
            f"client: emission factor {factor} is below 1, what quantum mechanics allows: is the "
            "arrival meter's ratio right, does light leak in while a receiver is calibrated?"
        )
    return factor.within(least=1.0)


def _raw(noise: _Noise, bright: _Bright) -> dict[str, np.ndarray]:
    raw: dict[str, np.ndarray] = {
        "control_v": noise.voltage_v,
        "bright_power_v2": bright.powers_v2,
        "pulse_match": np.array([bright.match]),
    }
    for party in PARTIES:
        for name, each in (("samples", noise.samples), ("slots", noise.slots)):
            raw[f"{party}_{name}_variance_v2"] = np.array([one.variance for one in each[party]])
            raw[f"{party}_{name}_count"] = np.array([one.samples for one in each[party]])
    return raw


def _draw(figure: Figure, noise: _Noise, fit: Fit) -> None:
    panels = figure.subplots(2, 2, sharex=True, height_ratios=(2, 1))
    fine_v = np.linspace(0.0, noise.voltage_v[-1], 200)
    curves = np.split(relative_noise(fine_v, *fit.values), 2)
    expected = np.split(relative_noise(noise.voltage_v, *fit.values), 2)
    for column, party in enumerate(("server", "client")):
        each = noise.samples["server" if column == 0 else "client"]
        dark_v2 = each[0].variance
        values = np.array([one.variance / dark_v2 for one in each])
        errors = np.array([one.standard_uncertainty / dark_v2 for one in each])
        upper, lower = panels[0][column], panels[1][column]
        upper.plot(fine_v, curves[column], color=f"C{column}")
        upper.errorbar(noise.voltage_v, values, errors, fmt="o", ms=4, color=f"C{column}")
        upper.set_title(f"{party}")
        lower.errorbar(
            noise.voltage_v,
            1e3 * (values - expected[column]),
            1e3 * errors,
            fmt="o",
            ms=4,
            color=f"C{column}",
        )
        lower.axhline(0.0, lw=0.8, color="k")
        lower.set_xlabel("gain control / V")
    panels[0][0].set_ylabel("variance over that at gain 1")
    panels[1][0].set_ylabel("residual / 10⁻³")
    gain, error = float(fit.values[0]), fit.standard_uncertainty(0)
    figure.suptitle(f"Amplifier noise: gain per volt {gain:.4f} ± {error:.4f}")
