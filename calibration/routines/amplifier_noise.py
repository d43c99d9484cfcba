"""The amplifier's noise in the dark, at several control voltages, and the curve through it.

With x = G - 1 = k V the amplifier's own noise has the variance 2 n_sp tau x/(1 + x) at the server
and 2 n_sp eta_c x^2/(1 + x) at the client, in shot-noise units, above the dark (`amplifier`).

1. Both parties record at five control voltages, for shares of the time that make k most certain.
2. Each party's variances, over its own at G = 1, are fitted together with one k: where the curves
   bend gives k, how much they rise gives the two factors.
3. Both parties see the noise of one amplifier, so that their errors are correlated. The covariance
   depends on phases that nobody keeps; half of its largest value is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Fit, Reals, fit_curve
from labctl.calibration.names import Party
from labctl.calibration.routines.bright_frame import (
    HEADROOM,
    LEAST_SIGMA,
)
from labctl.calibration.routines.receiver_noise import darkest, load_frame
from labctl.calibration.routines.records import PARTIES, fit_ranges, record
from labctl.calibration.spectrum import NoiseVariance, check_noise, pooled_variance
from labctl.dsp.layout import Floats, FrameLayout
from labctl.dsp.matched_filter import read_slots, samples_per_symbol
from labctl.errors import CalibrationError, InstrumentReportedError, LimitError
from labctl.instruments.capabilities import Trace

# Share of the largest setting, and of all the time that is spent there.
_SETTINGS = ((0.0, 0.3), (0.2, 0.25), (0.4, 0.15), (0.64, 0.1), (1.0, 0.2))
# Largest nominal gains to try, the first that the station's limits and the instrument allow.
_MOST_GAINS = (2.25, 2.2, 2.0, 1.75, 1.5, 1.25)
# All settings together at effort 1: a million slots at 20 MBd, 0.14 % of a variance.
_NOISE_S = 50e-3
# One record: a million samples at 200 MSa/s.
_RECORD_S = 5e-3
# 8,000 slots at 20 MBd: a variance to 1.6 %.
_LEAST_RECORD_S = 0.4e-3
# Chance below which scatter is not taken for chance: one calibration in a thousand is refused.
UNLIKELY = 1e-3


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


@dataclass(frozen=True)
class Noise:
    """Variances in V^2 of all samples at each control voltage, and of slots at the last."""

    voltage_v: Reals
    samples: Mapping[Party, tuple[NoiseVariance, ...]]
    slots: Mapping[Party, tuple[NoiseVariance, ...]]


def record_noise(bench: CalibrationBench) -> Noise:
    """Record both parties' noise in the dark at several control voltages."""
    bench.on_step("noise against the amplifier's gain")
    gain = bench.equipment.client.gain
    darkest(bench.equipment.server.attenuator)
    layout = load_frame(bench, lit=False)
    most_v = _largest_voltage(bench)
    fit_ranges(bench, PARTIES, _LEAST_RECORD_S, rounds=2, headroom=HEADROOM)
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
    return Noise(
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


def fit_noise(noise: Noise) -> Fit:
    """Fit both parties' variances, each over its own in the dark at gain 1."""
    values, errors = [], []
    for party in ("server", "client"):
        each = noise.samples[party]
        values.append([one.variance / each[0].variance for one in each])
        errors.append([one.standard_uncertainty / each[0].variance for one in each])
        _require_growth(party, noise)
    y, most_v = np.concatenate(values), float(noise.voltage_v[-1])
    # Both see one amplifier's noise: covariance^2 = E_s E_c cos^2 of the sum of the phases, E being
    # what each sees above dark. Nobody knows the phases: half of it on average.
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
        widen_below=UNLIKELY,
    )
    gain_per_v, error = float(fit.values[0]), fit.standard_uncertainty(0)
    if not gain_per_v > 2.0 * error:
        raise CalibrationError(
            f"noise does not bend with the control voltage (gain per volt {gain_per_v:.2g} ± "
            f"{error:.1g}): is it this amplifier's control, does it reach far enough?"
        )
    return fit


def _require_growth(party: Party, noise: Noise) -> None:
    first, last = noise.samples[party][0], noise.samples[party][-1]
    grown = last.variance - first.variance
    error = math.hypot(first.standard_uncertainty, last.standard_uncertainty)
    if grown > LEAST_SIGMA * error:
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
