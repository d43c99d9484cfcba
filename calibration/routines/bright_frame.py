"""A bright frame at the server: shot-noise unit times transmittance of the way back, S tau.

1. A frame of known symbols near the modulator's largest field is sent and read at the server, in
   turn at two phases of the local oscillator a quarter turn apart, so that unequal children of the
   modulator average out.
2. The fitted squared amplitude is A^2 = 4 S N tau, N being the photons of a symbol at the client by
   the arrival meter. Without one, S tau is S eta sqrt(T): half of the round trip's loss.
3. The matched filter takes a share m of a pulse's energy and all of the noise's: with p the samples
   of a pulse per unit value, m = 1/sum p^2. Noise sees S tau/m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Reals
from labctl.calibration.quantity import Quantity
from labctl.calibration.routines.known_symbols import (
    check_linear,
    fit_amplitude,
    frame_of,
    random_symbols,
    read_rows,
)
from labctl.calibration.routines.receiver_noise import brightest
from labctl.calibration.routines.records import fit_ranges, record, sync_of
from labctl.dsp.layout import Floats, FrameLayout
from labctl.dsp.matched_filter import samples_per_symbol
from labctl.errors import CalibrationError
from labctl.instruments.capabilities import Trace
from labctl.station.equipment import FibreMeter
from labctl.units import photon_energy_j

_FRAME = "AMPLIFIER"
# 2,048 symbols near the modulator's largest field; in windows of 32 the phase keeps still.
_ROWS, _MODES, _FIELD, _WINDOW = 8, 256, 0.9, 32
# Their scatter is the error, to 1/sqrt(2 x 15) = 18 %.
_BRIGHT_RECORDS = 16
# A tenth of a reading's noise.
_METER_READINGS = 100
# Range over largest voltage seen: noise of the next record may be larger.
HEADROOM = 1.6
# A quantity that is known worse than to 10 % is not used.
LEAST_SIGMA = 10.0
# Error of the pulse's overlap by a receiver's noise that is not quite white.
_MATCHING_UNCERTAINTY = 0.003


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
class Bright:
    """S tau in V^2 as the noise sees it, with its uncertainties by source; match of the pulse."""

    unit_v2: Quantity
    match: float
    powers_v2: Reals


def weigh_bright_frame(bench: CalibrationBench) -> Bright:
    """Return S tau by a bright frame at the server, and how well the filter matches its pulses."""
    bench.on_step("bright frame at the server")
    brightest(bench.equipment.server.attenuator)
    layout = bench.sender.layout(rows=_ROWS, modes=_MODES)
    symbols = random_symbols(bench.draw, _ROWS, _MODES, _FIELD)
    bench.load(_FRAME, layout, frame_of(layout, symbols))
    duration_s = bench.duration_s(layout)
    fit_ranges(bench, ("server",), duration_s, rounds=2, headroom=HEADROOM)
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
    # A filter that takes less than half of the energy is not the pulse's; one that takes more than
    # all of it, by five standard uncertainties, does not exist.
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
    return Bright(Quantity.of(unit.value / match, "V^2", by_match), match, powers_v2)


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
    """Return the power in W of the frame's modes at the client's fibre.

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
        if not more_w > LEAST_SIGMA * error_w:
            raise CalibrationError(
                f"{what} reads {more_w:.2g} W more with light, noise is {error_w:.2g} W: is the "
                "laser on, light blocked before it, the head on its fibre?"
            )
        value *= more_w**sign
        relative = math.hypot(relative, error_w / more_w)
    return Quantity(value, value * relative, "W")


def _unit_by_channel(bench: CalibrationBench) -> Quantity:
    shot, efficiency, round_trip = (
        bench.knowledge.quantity(name)
        for name in (
            names.SHOT_NOISE_V2.of("server"),
            names.EFFICIENCY.of("server"),
            names.TRANSMITTANCE,
        )
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
            # Anywhere from all of it on one leg to all on the other: rectangular.
            "where the loss is": value * (1.0 - round_trip.value) / math.sqrt(12.0) / back,
        },
    )
