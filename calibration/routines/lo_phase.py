"""Half-wave voltages of both local oscillators' phase shifters, from the phase of a frame.

The preamble gives the phase between local oscillator and light; a voltage V on the local
oscillator's shifter turns it by pi V / V_pi. Phases wander between records, so each voltage comes
with its opposite right after it: the difference of both is free of what came before, and the
scatter of the differences is what wandering and noise together are worth.
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
from labctl.calibration.names import Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.calibration.routines.receiver_noise import brightest, load_frame, set_client_gain
from labctl.calibration.routines.records import PARTIES, fit_ranges, record, sync_of
from labctl.dsp.layout import FrameLayout
from labctl.errors import CalibrationError
from labctl.station.equipment import LimitedVoltage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pairs of opposite voltages; two parameters are fitted to their differences.
_PAIRS = 48
# Eight degrees of freedom: the scatter about the slope is known to 25 %.
_LEAST_PAIRS = 10
# Of the half-wave voltage to either side: more than a turn in all.
_REACH_V_PI = 1.15
_TRIAL_SLOPES = np.linspace(-2.5, 2.5, 2001)
# Half-wave voltage over its nominal value: beyond, it is another output, or the file is wrong.
_LEAST_RATIO, _MOST_RATIO = 0.5, 2.0
# Length of the mean of unit vectors at the fitted slope: 1 without scatter, sqrt(1/48) = 0.14 for
# phases at random; 0.6 is a scatter of 1 rad.
_LEAST_COHERENCE = 0.6
# The client's measured arm, G (1 - 1/G), then has as much light as comes in.
_GAIN = 2.0


@dataclass(frozen=True)
class PhaseSlope:
    """rad per V with its standard uncertainty, an offset in rad, and the unwrapped differences."""

    slope_rad_v: float
    uncertainty_rad_v: float
    offset_rad: float
    difference_rad: Reals
    coherence: float

    @property
    def degrees_of_freedom(self) -> int:
        """Pairs less the two parameters."""
        return len(self.difference_rad) - 2


def fit_phase_slope(step_v: Reals, difference_rad: Reals, nominal_v: float) -> PhaseSlope:
    """Fit a straight line to phase differences that are known except for whole turns.

    `step_v` (pairs,): by how much the voltage changed, 3 or more of different size. The slope is
    sought within 2.5 times pi / `nominal_v` to either side, where the differences agree best, and
    then fitted to them.
    """
    trials = _TRIAL_SLOPES * math.pi / nominal_v
    agreement = np.exp(1j * (difference_rad[:, None] - step_v[:, None] * trials)).mean(axis=0)
    best = int(np.argmax(np.abs(agreement)))
    expected = step_v * trials[best] + float(np.angle(agreement[best]))
    turns = np.round((expected - difference_rad) / (2.0 * math.pi))
    unwrapped = difference_rad + 2.0 * math.pi * turns
    design = np.stack([step_v, np.ones_like(step_v)], axis=1)
    (slope, offset), *_ = np.linalg.lstsq(design, unwrapped, rcond=None)
    residual = unwrapped - design @ np.array([slope, offset])
    variance = float(residual @ residual) / (len(step_v) - 2)
    covariance = variance * np.linalg.inv(design.T @ design)
    return PhaseSlope(
        float(slope),
        math.sqrt(float(covariance[0, 0])),
        float(offset),
        unwrapped,
        float(np.abs(agreement[best])),
    )


class LoPhase:
    """Measures `server.phase_shifter_v_pi_v` and `client.phase_shifter_v_pi_v`."""

    name = "lo_phase"
    title = "receivers: half-wave voltage of the local oscillators' phase shifters"
    needs: tuple[str, ...] = ()
    roles = (
        "server.lo_phase",
        "client.lo_phase",
        "server.laser",
        "server.digitizer",
        "client.digitizer",
    )
    valid_for_s = 7.0 * DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the light's frequency, with which a half-wave voltage scales."""
        return {"server.laser_frequency_hz": bench.equipment.server.laser_frequency_hz}

    def run(self, bench: CalibrationBench) -> Outcome:
        """Send preambles at pairs of opposite voltages, both parties at once."""
        bench.light_on()
        try:
            brightest(bench.equipment.server.attenuator)
            set_client_gain(bench, _GAIN)
            layout = load_frame(bench, lit=True)
            fit_ranges(bench, PARTIES, bench.duration_s(layout), rounds=3, kept=3)
            step_v, difference = _sweep(bench, layout)
        finally:
            bench.equipment.client.gain.set(0.0)
            bench.light_on()
            bench.sender.forget()
        fits = {
            party: _checked(party, step_v[party], difference[party], nominal_v)
            for party, nominal_v in _nominal(bench).items()
        }
        quantities = {
            names.PHASE_SHIFTER_V_PI_V.of(party): _v_pi(fit) for party, fit in fits.items()
        }
        raw = {f"{party}_step_v": step_v[party] for party in PARTIES}
        raw |= {f"{party}_difference_rad": difference[party] for party in PARTIES}
        return Outcome(quantities, raw, lambda figure: _draw(figure, step_v, fits))


def _nominal(bench: CalibrationBench) -> dict[Party, float]:
    equipment = bench.equipment
    return {
        "server": equipment.server.constants.phase_shifter_v_pi_v,
        "client": equipment.client.constants.phase_shifter_v_pi_v,
    }


def _outputs(bench: CalibrationBench) -> dict[Party, LimitedVoltage]:
    equipment = bench.equipment
    return {"server": equipment.server.lo_phase, "client": equipment.client.lo_phase}


def _sweep(
    bench: CalibrationBench, layout: FrameLayout
) -> tuple[dict[Party, Reals], dict[Party, Reals]]:
    """Return voltage steps and phase differences of pairs, in an order that is drawn."""
    pairs = bench.count(_PAIRS, _LEAST_PAIRS)
    shares = bench.draw.permutation(np.linspace(-_REACH_V_PI, _REACH_V_PI, pairs))
    step_v: dict[Party, Reals] = {}
    difference = {party: np.empty(pairs) for party in PARTIES}
    for party, nominal_v in _nominal(bench).items():
        step_v[party] = 2.0 * nominal_v * shares
    for pair, share in enumerate(shares):
        first = _phases(bench, layout, -float(share))
        second = _phases(bench, layout, float(share))
        for party in PARTIES:
            change = second[party] - first[party]
            difference[party][pair] = math.remainder(change, 2.0 * math.pi)
    return step_v, difference


def _phases(bench: CalibrationBench, layout: FrameLayout, share: float) -> dict[Party, float]:
    outputs = _outputs(bench)
    for party, nominal_v in _nominal(bench).items():
        outputs[party].set(share * nominal_v)
    traces = record(bench, PARTIES, bench.duration_s(layout))
    return {party: sync_of(bench, party, traces[party], layout).phase_rad for party in PARTIES}


def _checked(party: Party, step_v: Reals, difference_rad: Reals, nominal_v: float) -> PhaseSlope:
    """Return the fit; raises CalibrationError where it is no phase shifter's."""
    fit = fit_phase_slope(step_v, difference_rad, nominal_v)
    ratio = fit.slope_rad_v * nominal_v / math.pi
    # Less than a tenth of the nominal turn per volt is a shifter that is not connected.
    if abs(ratio) < 0.1 or fit.coherence < _LEAST_COHERENCE:
        raise CalibrationError(
            f"{party}: the phase does not follow its shifter's voltage ({fit.slope_rad_v:.2g} "
            f"rad/V, coherence {fit.coherence:.2f}): is the shifter connected, the "
            "local-oscillator path as long as the light's, the laser's linewidth small?"
        )
    if ratio < 0.0:
        raise CalibrationError(
            f"{party}: the phase turns the wrong way, by {fit.slope_rad_v:.3g} rad/V: is the "
            "shifter in the signal's path instead of the local oscillator's, its polarity swapped?"
        )
    if not _LEAST_RATIO < 1.0 / ratio < _MOST_RATIO:
        raise CalibrationError(
            f"{party}: half-wave voltage {math.pi / fit.slope_rad_v:.3g} V is far from the "
            f"nominal {nominal_v:.3g} V: is the right output connected, the station file right?"
        )
    return fit


def _v_pi(fit: PhaseSlope) -> Quantity:
    v_pi_v = math.pi / fit.slope_rad_v
    part = v_pi_v * fit.uncertainty_rad_v / abs(fit.slope_rad_v)
    return Quantity.of(
        v_pi_v, "V", {"phase scatter": part}, degrees_of_freedom=fit.degrees_of_freedom
    )


def _draw(figure: Figure, step_v: Mapping[Party, Reals], fits: Mapping[Party, PhaseSlope]) -> None:
    lines, residuals = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for place, (party, fit) in enumerate(fits.items()):
        colour = f"C{place}"
        model = fit.slope_rad_v * step_v[party] + fit.offset_rad
        order = np.argsort(step_v[party])
        label = f"{party}: half-wave voltage {math.pi / fit.slope_rad_v:.4g} V"
        lines.plot(step_v[party][order], model[order], color=colour, label=label)
        lines.plot(step_v[party], fit.difference_rad, "o", ms=4, color=colour)
        residuals.plot(step_v[party], 1e3 * (fit.difference_rad - model), "o", ms=4, color=colour)
    residuals.axhline(0.0, color="grey", lw=0.8)
    lines.set_ylabel("change of phase / rad")
    lines.set_title("Phase of the preamble against local-oscillator phase voltage")
    lines.legend(fontsize="small")
    residuals.set_ylabel("residual / mrad")
    residuals.set_xlabel("change of voltage / V")
