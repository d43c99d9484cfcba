"""How routines see a receiver's own noise: nothing but vacuum at both signal ports, and that shown.

At the server the shutter is closed, at the client the amplifier's gain is 1; on top of that the
modulator rests at its null behind the largest attenuation. A bright frame must vanish from both
records when so blocked, and be there at the client when not. Noise goes through the matched filter
of the frames, one value per slot, at one range of the digitizer for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Party
from labctl.calibration.record import SettingValue
from labctl.calibration.routines.records import PARTIES, fit_ranges, record, reset_ranges, sync_of
from labctl.calibration.spectrum import (
    NoiseVariance,
    check_noise,
    effective_samples,
    pooled_variance,
)
from labctl.dsp.dsp import synchronise
from labctl.dsp.layout import Floats, FrameLayout
from labctl.dsp.matched_filter import read_slots, samples_per_symbol
from labctl.errors import CalibrationError, LimitError, SynchronisationError
from labctl.instruments.capabilities import Attenuator, Trace

ROLES = (
    "server.laser",
    "server.drive",
    "server.attenuator",
    "server.shutter",
    "server.digitizer",
    "client.gain",
    "client.digitizer",
)

# One record: a million samples at 200 MSa/s. Two show whether noise drifts.
_RECORD_S = 5e-3
_LEAST_RECORDS = 2
# 5,000 slots at 20 MBd: a variance to 2 %.
_LEAST_RECORD_S = 0.25e-3
# Settings to try, the first that the attenuator takes.
_DARKEST_DB = (60.0, 50.0, 40.0, 30.0, 20.0, 10.0)
_BRIGHTEST_DB = (0.0, 0.5, 1.0, 2.0, 3.0)
# At G = 2 the client's measured arm has as much light as comes in.
_CHECK_GAIN = 2.0
# A frame of data reaches further than noise, and its record's range is the wider for it.
_HEADROOM = 2.0
# Of the difference between light and dark: a normal error exceeds it with probability 3e-7.
_LEAST_SIGMA = 5.0
_FRAME = "CHECK"


@dataclass(frozen=True)
class NoiseRecords:
    """One party's records of noise: slot values in V, voltages if kept, and what they come to."""

    slots: tuple[Floats, ...]
    traces: tuple[Trace, ...]
    noise: NoiseVariance

    def raw(self, name: str) -> dict[str, npt.NDArray[np.generic]]:
        """Return variance and effective samples of each record, and the last record's slots."""
        return {
            f"{name}_variances_v2": np.array([np.var(each, ddof=1) for each in self.slots]),
            f"{name}_samples": np.array([effective_samples(each) for each in self.slots]),
            f"{name}_slots_v": self.slots[-1],
        }


def check_layout(bench: CalibrationBench) -> FrameLayout:
    """Return the layout of the shortest frame that has a preamble."""
    return bench.sender.layout(rows=1, modes=1)


def load_frame(bench: CalibrationBench, *, lit: bool) -> FrameLayout:
    """Load a frame that is a preamble, or darkness as long."""
    layout = check_layout(bench)
    symbols = layout.server_symbols(np.zeros((1, 2), np.float32), 1.0)
    bench.load(_FRAME, layout, symbols if lit else np.zeros_like(symbols))
    return layout


def brightest(attenuator: Attenuator) -> float:
    """Set the least attenuation that the attenuator takes and return it in dB."""
    return _first_taken(attenuator, _BRIGHTEST_DB)


def darkest(attenuator: Attenuator) -> float:
    """Set the largest attenuation (of 60, 50 ... 10 dB) that the attenuator takes; returns dB."""
    return _first_taken(attenuator, _DARKEST_DB)


def _first_taken(attenuator: Attenuator, choices: tuple[float, ...]) -> float:
    for attenuation_db in choices:
        try:
            attenuator.set_attenuation(attenuation_db)
        except LimitError:
            continue
        return attenuation_db
    raise CalibrationError(f"the attenuator takes none of {choices} dB: is it the right one?")


def set_client_gain(bench: CalibrationBench, gain: float) -> None:
    """Set the client's amplifier by what is known of it."""
    client = bench.equipment.client
    client.gain.set((gain - 1.0) / client.constants.gain_per_v)


@contextmanager
def blocked(bench: CalibrationBench) -> Iterator[None]:
    """Have both signal ports dark, shown by a bright frame; put everything back on the way out.

    Raises CalibrationError when light gets through, or when there is none to block.
    """
    bench.light_on()
    server = bench.equipment.server
    try:
        _show_that_blocks(bench)
        darkest(server.attenuator)
        load_frame(bench, lit=False)
        fit_ranges(bench, PARTIES, _LEAST_RECORD_S, rounds=2, headroom=_HEADROOM)
        yield
    finally:
        server.laser.set_power(server.laser_power_w)
        if not server.laser.emission():
            bench.light_changed()
        bench.equipment.client.gain.set(0.0)
        brightest(server.attenuator)
        bench.light_on()
        bench.sender.forget()


def _show_that_blocks(bench: CalibrationBench) -> None:
    server = bench.equipment.server
    layout = load_frame(bench, lit=True)
    duration_s = bench.duration_s(layout)
    brightest(server.attenuator)
    server.shutter.set(server.constants.shutter_closed_v)
    set_client_gain(bench, _CHECK_GAIN)
    reset_ranges(bench)
    for _ in range(2):
        trace = record(bench, ("client",), duration_s)["client"]
        bench.recorders["client"].fit_range(trace)
    try:
        sync_of(bench, "client", record(bench, ("client",), duration_s)["client"], layout)
    except CalibrationError as error:
        raise CalibrationError(
            f"{error} Or are the fibres of server and client swapped?"
        ) from error
    bench.equipment.client.gain.set(bench.equipment.client.constants.gain_off_v)
    for _ in range(2):
        for party, trace in record(bench, PARTIES, duration_s).items():
            bench.recorders[party].fit_range(trace)
    for party, trace in record(bench, PARTIES, duration_s).items():
        _refuse_light(bench, party, trace, layout)


def _refuse_light(bench: CalibrationBench, party: Party, trace: Trace, layout: FrameLayout) -> None:
    try:
        sync = synchronise(trace, layout, bench.equipment.frame.longest_delay_s)
    except SynchronisationError:
        return
    cause = (
        "is the shutter stuck or not connected, shutter_closed_v right, are the fibres or "
        "digitizers of server and client swapped?"
        if party == "server"
        else "does the amplifier's gain go down to 1, is its control connected?"
    )
    raise CalibrationError(
        f"{party}: a frame comes through though the signal is blocked (correlation "
        f"{sync.peak:.0f} sigma): {cause}"
    )


def take_noise(
    bench: CalibrationBench, full_s: float, *, keep_traces: bool = False
) -> dict[Party, NoiseRecords]:
    """Record both parties' noise for `full_s` times `effort`.

    Raises CalibrationError for records that are cut off, constant or too coarse.
    """
    layout = check_layout(bench)
    total_s = max(full_s * bench.effort, _LEAST_RECORDS * _LEAST_RECORD_S)
    count = max(math.ceil(total_s / _RECORD_S - 1e-9), _LEAST_RECORDS)
    slots: dict[Party, list[Floats]] = {party: [] for party in PARTIES}
    kept: dict[Party, list[Trace]] = {party: [] for party in PARTIES}
    for _ in range(count):
        for party, trace in record(bench, PARTIES, total_s / count).items():
            check_noise(trace.voltage_v, bench.recorders[party].range_v, party)
            whole = int(len(trace.voltage_v) / samples_per_symbol(trace, layout))
            slots[party].append(read_slots(trace, layout, trace.start_s, 0, whole))
            if keep_traces:
                kept[party].append(trace)
    return {
        party: NoiseRecords(tuple(slots[party]), tuple(kept[party]), pooled_variance(slots[party]))
        for party in PARTIES
    }


def timing(bench: CalibrationBench) -> dict[str, SettingValue]:
    """Return the settings on which a slot's noise depends under any light."""
    frame = bench.equipment.frame
    return {
        "frame.symbol_rate_hz": frame.symbol_rate_hz,
        "frame.sample_rate_hz": frame.sample_rate_hz,
    }


def light_settings(bench: CalibrationBench) -> dict[str, SettingValue]:
    """Return the settings on which the local oscillators depend."""
    server = bench.equipment.server
    return {
        "server.laser_power_w": server.laser_power_w,
        "server.laser_frequency_hz": server.laser_frequency_hz,
    }


def use_ranges(bench: CalibrationBench) -> None:
    """Set the digitizers to the ranges at which electronic noise was measured."""
    for party in PARTIES:
        range_v = bench.knowledge.quantity(names.NOISE_RANGE_V.of(party)).value
        bench.recorders[party].range_v = range_v


def require_light(party: Party, lit: NoiseVariance, dark: NoiseVariance) -> None:
    """Raise CalibrationError unless the local oscillator adds to the noise, 5 sigma or more."""
    more = lit.variance - dark.variance
    if more > _LEAST_SIGMA * math.hypot(lit.standard_uncertainty, dark.standard_uncertainty):
        return
    raise CalibrationError(
        f"{party}: noise with light on the local oscillator ({lit.variance:.3g} V^2) is not above "
        f"that without ({dark.variance:.3g} V^2): is the laser off, the local oscillator's fibre "
        "not connected, the detector switched off?"
    )
