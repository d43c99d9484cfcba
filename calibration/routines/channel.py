"""The link: delays to both records, transmittance of the round trip, excess noise.

A payload of known symbols leaves n_1 photons per unit symbol and slot in the fibre (the monitor's
reading times the photon_number routine's ratio). What returns has the squared amplitude
A^2 = 4 S n_1 eta T in V^2 per unit symbol, S being the shot-noise unit and eta the receiver's
efficiency: T = A^2 / (4 S n_1 eta). Two settings of the local oscillator's phase, a quarter turn
apart, see the payload's X and P in turn, so that unequal children of the modulator average out.

At a session's brightness the residual's variance s^2, over that of the same frames with the shutter
closed, B, gives the excess noise (s^2 - B)/(S eta), of which the calibration's own samples are a
part: sigma = s^2 sqrt(2/m + 2/m_cal) / (S eta).

Where meters are fitted, forward is arrival over launch power and back return over arrival power.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Reals
from labctl.calibration.names import Name, Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.calibration.routines.frame_arrival import arrivals_of, delay_quantities
from labctl.calibration.routines.known_symbols import (
    check_linear,
    fit_amplitude,
    frame_of,
    normal_symbols,
    random_symbols,
    read_rows,
)
from labctl.calibration.routines.link_meters import (
    Meters,
    at_most_one,
    meter_quantities,
    read_meters,
)
from labctl.calibration.routines.receiver_noise import brightest
from labctl.calibration.routines.records import fit_ranges, record, sync_of
from labctl.calibration.spectrum import effective_samples
from labctl.dsp.dsp import synchronise
from labctl.dsp.layout import FrameLayout
from labctl.errors import CalibrationError, SynchronisationError
from labctl.instruments.capabilities import Trace
from labctl.units import PER_DB, photon_energy_j

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAME = "CHANNEL"
# 2,048 symbols at a field where the arcsine drive and the detector are linear; in windows of 32 the
# phase keeps still.
_ROWS, _MODES = 8, 256
_BRIGHT_FIELD = 0.3
# Their scatter is Student's t, which at 2e-12 reaches 13 standard errors with 23 degrees of
# freedom, 31 with the 11 of the least pairs and 8,200 with 3: verdicts go that far out.
_BRIGHT_PAIRS, _LEAST_PAIRS = 24, 12
_WINDOW = 32
# An eighth of a reading's noise.
_MONITOR_READINGS = 64
# A session's payload: RMS field, photons per mode, modes per row.
_QUIET_FIELD, _QUIET_PHOTONS, _QUIET_MODES, _QUIET_ROWS = 0.1, 5.0, 392, 64
# 300,000 slots in all: a variance to 0.26 %.
_QUIET_RECORDS = 12
# Dimmer light needs longer windows: a window's amplitude is known to one over its signal-to-noise.
_QUIET_WINDOW = 256
# The scatter between fewer records does not give an uncertainty.
_LEAST_RECORDS = 4
# Of the payload's own variance: a receiver that follows its light leaves less.
_LARGEST_RESIDUAL = 0.02
# Times the blocked noise: what a bright frame's residual may have besides.
_NOISY = 5.0
# A power that is known worse than to 5 % is refused.
_LEAST_SIGNAL_SIGMA = 20.0
# In standard deviations of the difference of two ways to the same quantity.
_DISAGREEMENT = 3.0


@dataclass(frozen=True)
class _Sent:
    """The bright payload: photons per slot in the fibre for a unit symbol, errors by source.

    At `attenuation_db`, the least setting.
    """

    layout: FrameLayout
    symbols: npt.NDArray[np.complex64]
    attenuation_db: float
    photons: float
    relative: Mapping[str, float]


@dataclass(frozen=True)
class Residual:
    """Residual and blocked variances in V^2 with their effective samples."""

    residual_v2: float
    samples: float
    blocked_v2: float
    blocked_samples: float


def transmittance_of(
    power_v2: float, shot_noise_v2: float, photons: float, efficiency: float
) -> float:
    """Return T = A^2 / (4 S n_1 eta) of a squared amplitude A^2 in V^2 per unit symbol."""
    return power_v2 / (4.0 * shot_noise_v2 * photons * efficiency)


def excess_noise_of(
    found: Residual, shot_noise_v2: float, efficiency: float
) -> tuple[float, float]:
    """Return excess noise in SNU before the receiver and its standard error, calibration's own in.

    (s^2 - B)/(S eta), and s^2 sqrt(2/m + 2/m_cal)/(S eta).
    """
    unit = shot_noise_v2 * efficiency
    spread = math.sqrt(2.0 / found.samples + 2.0 / found.blocked_samples)
    return (found.residual_v2 - found.blocked_v2) / unit, found.residual_v2 * spread / unit


class ChannelRoutine:
    """Measures the link between launch and the server's receiver.

    `client.arrival_s`, `server.arrival_s`: from the trigger to the frame's beginning in each
    party's record, detector and digitizer included. `server.transmittance`: of the round trip with
    the client's amplifier at gain 1. `server.excess_noise`: in SNU at the receiver's input, of a
    payload of 5 photons per mode. With meters: `server.forward_transmittance`,
    `server.back_transmittance` and `server.meter_transmittance`, their product.
    """

    name = "channel"
    title = "link: delays, transmittance and excess noise"
    needs: tuple[str, ...] = ("photon_number", "shot_noise", "efficiency")
    roles = (
        "server.laser",
        "server.drive",
        "server.attenuator",
        "server.monitor",
        "server.shutter",
        "server.digitizer",
        "server.launch_meter",
        "server.return_meter",
        "client.gain",
        "client.digitizer",
        "client.arrival_meter",
    )
    valid_for_s = DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the frames' timing and the light's frequency."""
        frame = bench.equipment.frame
        return {
            "server.laser_frequency_hz": bench.equipment.server.laser_frequency_hz,
            "frame.symbol_rate_hz": frame.symbol_rate_hz,
            "frame.sample_rate_hz": frame.sample_rate_hz,
        }

    def run(self, bench: CalibrationBench) -> Outcome:
        """Time a preamble, weigh a bright payload, compare a dim one with darkness, read meters."""
        _constants(bench)
        bench.light_on()
        try:
            arrivals = arrivals_of(bench)
            sent = _sent(bench)
            powers_v2 = _powers(bench, sent)
            excess = _excess(bench, sent)
            meters = read_meters(bench)
        finally:
            server = bench.equipment.server
            bench.equipment.client.gain.set(0.0)
            brightest(server.attenuator)
            bench.light_on()
            bench.sender.forget()
        quantities = delay_quantities(arrivals, bench.equipment.frame.symbol_rate_hz)
        quantities[names.TRANSMITTANCE] = _transmittance(bench, powers_v2, sent)
        quantities[names.EXCESS_NOISE] = _excess_noise(bench, excess)
        quantities |= meter_quantities(meters)
        return Outcome(
            quantities,
            _raw(arrivals, powers_v2, sent, excess, meters),
            lambda figure: _draw(figure, arrivals, powers_v2, quantities),
            remarks=_remarks(quantities),
        )


def _constants(bench: CalibrationBench) -> None:
    """Raise CalibrationError before anything is sent where a needed quantity is missing."""
    for name in (
        names.ATTENUATOR_SLOPE,
        names.FIXED_ATTENUATION_DB,
        names.SHOT_NOISE_V2.of("server"),
        names.EFFICIENCY.of("server"),
    ):
        bench.knowledge.quantity(name)


def _sent(bench: CalibrationBench) -> _Sent:
    """Read the bright payload on the monitor, at the least attenuation."""
    server = bench.equipment.server
    bench.on_step("bright payload on the monitor")
    least_db = brightest(server.attenuator)
    layout = bench.sender.layout(rows=_ROWS, modes=_MODES)
    symbols = random_symbols(bench.draw, _ROWS, _MODES, _BRIGHT_FIELD)
    bench.load(_FRAME, layout, frame_of(layout, symbols, pilots=False))
    readings = bench.count(_MONITOR_READINGS, 8)
    bench.sender.rest()
    rest = bench.mean_power(server.monitor, readings)
    bench.sender.play(_FRAME)
    lit = bench.mean_power(server.monitor, readings)
    bench.sender.forget()
    more_w = lit.power_w - rest.power_w
    error_w = math.hypot(lit.standard_error_w, rest.standard_error_w)
    if not more_w > _LEAST_SIGNAL_SIGMA * max(error_w, 1e-18):
        raise CalibrationError(
            f"payload adds {more_w:.2g} W to the monitor's reading, noise is {error_w:.2g} W: is "
            "the laser on, the modulator driven and biased at its null?"
        )
    loss_db, loss_error_db = _loss_db(bench, least_db)
    energy_j = more_w * server.constants.monitor_ratio * layout.duration_s
    energy_j *= 10.0 ** (-loss_db / 10.0)
    weight = float(np.sum(np.abs(symbols.astype(np.complex128)) ** 2))
    return _Sent(
        layout=layout,
        symbols=symbols,
        attenuation_db=least_db,
        photons=energy_j / photon_energy_j(server.laser_frequency_hz) / weight,
        relative={
            "monitor": error_w / more_w,
            "photon number": PER_DB * loss_error_db,
        },
    )


def _loss_db(bench: CalibrationBench, setting_db: float) -> tuple[float, float]:
    """Return the loss in dB from monitor to fibre at a setting, and its standard uncertainty."""
    fixed = bench.knowledge.quantity(names.FIXED_ATTENUATION_DB)
    slope = bench.knowledge.quantity(names.ATTENUATOR_SLOPE)
    error_db = math.hypot(fixed.standard_uncertainty, setting_db * slope.standard_uncertainty)
    return fixed.value + slope.value * setting_db, error_db


def _powers(bench: CalibrationBench, sent: _Sent) -> Reals:
    """Return squared amplitudes in V^2 per unit symbol, (pairs, 2): both phases of each pair."""
    bench.on_step("bright payload at the server")
    server, layout = bench.equipment.server, sent.layout
    bench.load(_FRAME, layout, frame_of(layout, sent.symbols))
    duration_s = bench.duration_s(layout)
    fit_ranges(bench, ("server",), duration_s, rounds=4, kept=3)
    pairs = bench.count(_BRIGHT_PAIRS, _LEAST_PAIRS)
    powers_v2 = np.empty((pairs, 2))
    for pair in range(pairs):
        for place, turn in enumerate((0.0, 0.5)):
            server.lo_phase.set(turn * server.constants.phase_shifter_v_pi_v)
            powers_v2[pair, place] = _power(bench, sent, duration_s)
    server.lo_phase.set(0.0)
    return powers_v2


def _power(bench: CalibrationBench, sent: _Sent, duration_s: float) -> float:
    """Return one record's squared amplitude, what the phase's walk takes from it put back."""
    trace = record(bench, ("server",), duration_s)["server"]
    sync = sync_of(bench, "server", trace, sent.layout)
    read = read_rows(trace, sent.layout, sync.start_s)[:, sent.layout.mode_offsets].ravel()
    found = fit_amplitude(read, sent.symbols.ravel(), _WINDOW)
    check_linear(found, "server")
    explained = found.power * _BRIGHT_FIELD**2 / 2.0
    blocked_v2 = bench.knowledge.quantity(names.SHOT_NOISE_V2.of("server")).value
    if found.residual_v2 > _LARGEST_RESIDUAL * explained + _NOISY * blocked_v2:
        raise CalibrationError(
            f"server: record does not follow the known symbols (residual {found.residual_v2:.2g} "
            f"V^2, light {explained:.2g} V^2): is the detector saturated, the laser wide, the "
            "modulator's bias off?"
        )
    return found.power * (1.0 + found.walk_rad2)


def _excess(bench: CalibrationBench, sent: _Sent) -> Residual:
    """Compare a session's payload with the same frames behind a closed shutter."""
    bench.on_step("dim payload, then shutter closed")
    server = bench.equipment.server
    mean = sent.photons * _QUIET_FIELD**2
    server.attenuator.set_attenuation(
        sent.attenuation_db + max(10.0 * math.log10(mean / _QUIET_PHOTONS), 0.0)
    )
    rows = max(round(_QUIET_ROWS * min(bench.effort * _QUIET_RECORDS / _LEAST_RECORDS, 1.0)), 4)
    layout = bench.sender.layout(rows=rows, modes=_QUIET_MODES)
    symbols = normal_symbols(bench.draw, rows, _QUIET_MODES, _QUIET_FIELD)
    bench.load(_FRAME, layout, frame_of(layout, symbols))
    duration_s = bench.duration_s(layout)
    fit_ranges(bench, ("server",), duration_s, rounds=4, kept=3)
    records = bench.count(_QUIET_RECORDS, _LEAST_RECORDS)
    residual, samples, starts = 0.0, 0.0, []
    for _ in range(records):
        trace = record(bench, ("server",), duration_s)["server"]
        starts.append(sync_of(bench, "server", trace, layout).start_s)
        read = read_rows(trace, layout, starts[-1])[:, layout.mode_offsets].ravel()
        found = fit_amplitude(read, symbols.ravel(), _QUIET_WINDOW)
        residual += found.residual_v2 * found.freedom
        samples += found.freedom
    start_s = float(np.median(starts))
    server.shutter.set(server.constants.shutter_closed_v)
    blocked, blocked_samples = _blocked(bench, layout, start_s, records)
    server.shutter.set(0.0)
    return Residual(residual / samples, samples, blocked, blocked_samples)


def _blocked(
    bench: CalibrationBench, layout: FrameLayout, start_s: float, records: int
) -> tuple[float, float]:
    """Return variance in V^2 and effective samples of the modes' slots with the shutter closed."""
    duration_s, total, samples, effective = bench.duration_s(layout), 0.0, 0.0, 0.0
    for number in range(records):
        trace = record(bench, ("server",), duration_s)["server"]
        if number == 0:
            _refuse_light(bench, trace, layout)
        read = read_rows(trace, layout, start_s)[:, layout.mode_offsets].ravel()
        total += float(np.var(read, dtype=np.float64)) * len(read)
        samples += len(read) - 1
        effective += effective_samples(read)
    return total / samples, effective


def _refuse_light(bench: CalibrationBench, trace: Trace, layout: FrameLayout) -> None:
    try:
        sync = synchronise(trace, layout, bench.equipment.frame.longest_delay_s)
    except SynchronisationError:
        return
    raise CalibrationError(
        f"server: the frame comes through a closed shutter (correlation {sync.peak:.0f} sigma): is "
        "the shutter connected, shutter_closed_v right, are the fibres of server and client "
        "swapped?"
    )


def _transmittance(bench: CalibrationBench, powers_v2: Reals, sent: _Sent) -> Quantity:
    shot = bench.knowledge.quantity(names.SHOT_NOISE_V2.of("server"))
    efficiency = bench.knowledge.quantity(names.EFFICIENCY.of("server"))
    pairs = powers_v2.mean(axis=1)
    mean = float(pairs.mean())
    value = transmittance_of(mean, shot.value, sent.photons, efficiency.value)
    relative = {
        "records": float(pairs.std(ddof=1)) / math.sqrt(len(pairs)) / mean,
        **sent.relative,
        "shot-noise unit": shot.standard_uncertainty / shot.value,
        "efficiency": efficiency.standard_uncertainty / efficiency.value,
    }
    found = Quantity.of(
        value,
        "1",
        {source: value * part for source, part in relative.items()},
        degrees_of_freedom={"records": len(pairs) - 1},
    )
    return at_most_one(found, "transmittance of the round trip")


def _excess_noise(bench: CalibrationBench, excess: Residual) -> Quantity:
    shot = bench.knowledge.quantity(names.SHOT_NOISE_V2.of("server"))
    efficiency = bench.knowledge.quantity(names.EFFICIENCY.of("server"))
    value, error = excess_noise_of(excess, shot.value, efficiency.value)
    unit = math.hypot(
        shot.standard_uncertainty / shot.value, efficiency.standard_uncertainty / efficiency.value
    )
    return Quantity.of(value, "SNU", {"samples": error, "unit and efficiency": abs(value) * unit})


def _remarks(quantities: Mapping[Name, Quantity]) -> tuple[str, ...]:
    homodyne = quantities[names.TRANSMITTANCE]
    meter = quantities.get(names.LEG_TRANSMITTANCE.of("meter"))
    if meter is None or homodyne.agrees_with(meter, _DISAGREEMENT):
        return ()
    return (
        f"homodyne gives a transmittance of {homodyne}, the power meters {meter}: is a meter's "
        "ratio, the efficiency or the photon number off?",
    )


def _raw(
    arrivals: Mapping[Party, Reals],
    powers_v2: Reals,
    sent: _Sent,
    excess: Residual,
    meters: Meters,
) -> dict[str, np.ndarray]:
    raw: dict[str, np.ndarray] = {f"{party}_start_s": each for party, each in arrivals.items()}
    raw["power_v2"] = powers_v2
    raw["photons_per_unit_symbol"] = np.array([sent.photons])
    raw["residual_v2"] = np.array([excess.residual_v2, excess.samples])
    raw["blocked_v2"] = np.array([excess.blocked_v2, excess.blocked_samples])
    for name, power_w in meters.power_w.items():
        raw[f"{name}_power_w"] = np.array([power_w, meters.error_w[name]])
    return raw


def _draw(
    figure: Figure,
    arrivals: Mapping[Party, Reals],
    powers_v2: Reals,
    found: Mapping[Name, Quantity],
) -> None:
    delays, light = figure.subplots(2, 1)
    for party, starts in arrivals.items():
        mean_s = float(starts.mean())
        number = np.arange(1, len(starts) + 1)
        label = f"{party}: {1e6 * mean_s:.4f} µs"
        delays.plot(number, 1e12 * (starts - mean_s), "o-", ms=3, label=label)
    delays.set_xlabel("pair of records")
    delays.set_ylabel("arrival less mean / ps")
    delays.set_title("Delay of the preamble")
    delays.legend(fontsize="small")
    transmittance = found[names.TRANSMITTANCE]
    scale = transmittance.value / float(powers_v2.mean())
    number = np.arange(1, len(powers_v2) + 1)
    for place, label in enumerate(("local oscillator at 0", "turned by a quarter")):
        light.plot(number, scale * powers_v2[:, place], "o", ms=3, label=label)
    light.plot(number, scale * powers_v2.mean(axis=1), "k_", ms=10, label="mean of both")
    low, high = transmittance.interval()
    light.axhspan(low, high, alpha=0.2, label="95 % interval")
    light.set_xlabel("pair of records")
    light.set_ylabel("transmittance")
    light.set_title(f"Round trip {transmittance}; excess noise {found[names.EXCESS_NOISE]}")
    light.legend(fontsize="small")
