"""When a frame arrives: delay of the preamble at both parties, finer than a sample.

1. The client's amplifier is set to a gain at which its receiver sees the light.
2. Records come in pairs, a quarter turn of the local oscillator apart: what unequal children of
   the modulator do to a pulse's place has opposite signs in the two. Each pair is one reading, its
   starts weighted by the pulses' energies.
3. A start is that of the clock (dsp/timing.py), moved from the matched filter's place on its grid
   of 1/64 sample to where the derivative over the value of the known pulses puts them.
4. The mean of all pairs is the arrival; their scatter is its uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Reals
from labctl.calibration.names import Name, Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.routines.receiver_noise import brightest, load_frame, set_client_gain
from labctl.calibration.routines.records import PARTIES, fit_ranges, record, sync_of
from labctl.dsp.layout import FrameLayout
from labctl.dsp.matched_filter import PHASES, FilterBank, samples_per_symbol
from labctl.dsp.timing import SampleClock, recover_clock
from labctl.errors import CalibrationError, SynchronisationError
from labctl.instruments.capabilities import Trace

# Eight pairs, at two phases of the local oscillator in turn.
_DELAY_RECORDS = 16
# The effect of unequal children does not wholly cancel over the phases: this share of a
# symbol is the scatter, between simulated benches, of arrivals whose records agree.
_DISTORTION_SYMBOLS = 4e-4
# The client's measured arm, G (1 - 1/G), then has as much light as comes in.
_DELAY_GAIN = 2.0


def arrivals_of(bench: CalibrationBench) -> dict[Party, Reals]:
    """Return when the frame begins in each record, in s; the client's amplifier shows it."""
    brightest(bench.equipment.server.attenuator)
    set_client_gain(bench, _DELAY_GAIN)
    layout = load_frame(bench, lit=True)
    duration_s = bench.duration_s(layout)
    bench.on_step("delays of a preamble")
    fit_ranges(bench, PARTIES, duration_s, rounds=4, kept=3)
    found: dict[Party, list[tuple[float, float]]] = {party: [] for party in PARTIES}
    for number in range(2 * bench.count(_DELAY_RECORDS // 2)):
        # What neighbouring pulses do to a pulse's place turns its sign with a quarter turn.
        _turn(bench, 0.5 * (number % 2) + 0.25 * (number // 2 % 2))
        for party, trace in record(bench, PARTIES, duration_s).items():
            found[party].append(_start_s(bench, party, trace, layout))
    _turn(bench, 0.0)
    bench.equipment.client.gain.set(0.0)
    arrivals = {party: _by_pairs(starts) for party, starts in found.items()}
    if not arrivals["server"].mean() > arrivals["client"].mean():
        raise CalibrationError(
            f"light is at the server's receiver {arrivals['server'].mean():.3g} s after the "
            f"trigger, before the client's ({arrivals['client'].mean():.3g} s): are the fibres or "
            "digitizers of server and client swapped?"
        )
    return arrivals


def _by_pairs(found: list[tuple[float, float]]) -> Reals:
    """Return the starts in s of neighbouring records together, of starts and pulses' energies.

    By their energies: a pulse's place is a slope over an energy, and it is the slopes that cancel.
    """
    starts, energies = np.array(found).reshape(-1, 2, 2).transpose(2, 0, 1)
    return np.asarray(np.average(starts, axis=1, weights=energies))


def _turn(bench: CalibrationBench, half_turns: float) -> None:
    """Turn both local oscillators by that many times pi."""
    server, client = bench.equipment.server, bench.equipment.client
    server.lo_phase.set(half_turns * server.constants.phase_shifter_v_pi_v)
    client.lo_phase.set(half_turns * client.constants.phase_shifter_v_pi_v)


def _start_s(
    bench: CalibrationBench, party: Party, trace: Trace, layout: FrameLayout
) -> tuple[float, float]:
    sync = sync_of(bench, party, trace, layout)
    try:
        return between_steps_s(trace, layout, recover_clock(trace, layout, sync))
    except SynchronisationError as error:
        raise CalibrationError(f"{party}: {error}") from error


def between_steps_s(trace: Trace, layout: FrameLayout, clock: SampleClock) -> tuple[float, float]:
    """Return a frame's start in s, free of the steps in which the matched filter is placed.

    With it comes the energy of the known pulses in V^2, which is its weight.

    The filter is within half of a step of 1/64 sample of where the clock puts it. From where it
    is, derivative over value of the known pulses leads to where they are.
    """
    ratio = samples_per_symbol(trace, layout)
    bank, slots = FilterBank.of(layout.pulse_shape, ratio), layout.reference[0]
    positions = (clock.start_s - trace.start_s) / trace.interval_s + slots * ratio * clock.stretch
    stands = (np.floor(positions * PHASES) + 0.5) / PHASES
    read, slope = (each.astype(np.float64) for each in bank.with_slopes(trace.voltage_v, positions))
    read -= read.mean()
    sharpness = float(np.mean(np.sum(bank.slopes.astype(np.float64) ** 2, axis=1)))
    energy = float(np.sum(read**2))
    ahead = float(np.sum(read * slope)) / sharpness / energy
    ahead -= float(np.sum(read**2 * (positions - stands))) / energy
    return clock.start_s + ahead * trace.interval_s, energy


def delay_quantities(
    arrivals: Mapping[Party, Reals], symbol_rate_hz: float
) -> dict[Name, Quantity]:
    """Return the mean arrival at each party, with what pulses' distortion adds to its error."""
    return {
        names.ARRIVAL_S.of(party): Quantity.of(
            float(starts.mean()),
            "s",
            {
                "records": float(starts.std(ddof=1)) / math.sqrt(len(starts)),
                "distortion of pulses": _DISTORTION_SYMBOLS / symbol_rate_hz,
            },
            degrees_of_freedom={"records": len(starts) - 1},
        )
        for party, starts in arrivals.items()
    }
