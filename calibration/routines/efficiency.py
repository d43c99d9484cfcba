"""Quantum efficiency of the receivers, mode matching included: photons seen over photons there.

A frame lit in every slot has N = P / (h nu f) photons per slot of rate f, P being its mean power
by a reference meter beside the receiver. The receiver sees n = A^2 / (4 S) of them, A being the
matched filter's amplitude and S the shot-noise unit: efficiency is n/N.

At the client light passes the amplifier, whose measured arm has G - 1 times the photons:
n/N = eta (G - 1), with G - 1 = k V from the amplifier's own calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench, MeanPower
from labctl.calibration.fits import Reals
from labctl.calibration.names import Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.calibration.routines.receiver_noise import brightest, light_settings, timing
from labctl.calibration.routines.records import fit_ranges, record, sync_of
from labctl.dsp.layout import PEAK, Complexes, FrameLayout
from labctl.dsp.matched_filter import read_slots
from labctl.errors import CalibrationError
from labctl.station.equipment import FibreMeter
from labctl.units import frequency_to_wavelength_m, photon_energy_j

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAME = "LIT"
# Lit slots of a record; the meter sees the mean over a frame, however long it is.
_MODES = 1000
# Their scatter is the receiver's part of the error, to 1/sqrt(2 x 23) = 15 %.
_RECORDS = 24
# A seventeenth of a reading's noise.
_READINGS = 300
# Light that does not stand out of the meter's noise by this is no light.
_LEAST_SIGMA = 5.0
# An efficiency above 1 by more than 4 standard errors is refused; by less it counts as 1.
_LIMIT_SIGMA = 4.0
_UNIT = "shot-noise unit"
# Of the amplifier's control: the measured arm then has about as much light as comes in.
_CONTROL_V = 4.0


@dataclass(frozen=True)
class LightSeen:
    """Photons per slot that a receiver sees in each record, and that arrive by its meter."""

    photons: Reals
    arriving: Quantity


def photons_seen(amplitude_v: Reals, shot_noise_v2: float) -> Reals:
    """Return photons of a unit symbol from its matched-filter amplitudes in V, A^2 / (4 S)."""
    return np.asarray(amplitude_v**2 / (4.0 * shot_noise_v2))


def ratio_of_photons(seen: Quantity, arriving: Quantity) -> Quantity:
    """Return seen over arriving photons, both above 0."""
    ratio = seen.value / arriving.value
    budget = {source: part / arriving.value for source, part in seen.budget.items()}
    budget |= {source: part * ratio / arriving.value for source, part in arriving.budget.items()}
    return Quantity.of(ratio, "1", budget)


def behind_amplifier(ratio: Quantity, gain_per_v: Quantity, control_v: float) -> Quantity:
    """Return the efficiency eta of n/N = eta k V, the control voltage in V being above 0."""
    more = gain_per_v.value * control_v
    value = ratio.value / more
    budget = {source: part / more for source, part in ratio.budget.items()}
    relative = gain_per_v.standard_uncertainty / gain_per_v.value
    return Quantity.of(value, "1", {**budget, "amplifier gain": value * relative})


class Efficiency:
    """Measures `server.efficiency` beside `server.return_meter`."""

    name = "efficiency"
    title = "server's receiver: quantum efficiency with mode matching"
    needs: tuple[str, ...] = ("electronic_noise", "balance", "shot_noise")
    roles = ("server.digitizer", "server.return_meter")
    valid_for_s = 30.0 * DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return timing, laser power and frequency."""
        return {**timing(bench), **light_settings(bench)}

    def run(self, bench: CalibrationBench) -> Outcome:
        """Send lit frames and read the meter; raises CalibrationError where none is fitted."""
        meter = _fitted(bench.equipment.server.return_meter, "server.return_meter")
        found = _measure(bench, "server", meter, 0.0)
        ratio = ratio_of_photons(_mean_seen(bench, "server", found.photons), found.arriving)
        return _outcome("server", found, ratio)


class ClientEfficiency:
    """Measures `client.efficiency` beside `client.arrival_meter`, behind the amplifier."""

    name = "client_efficiency"
    title = "client's receiver: quantum efficiency with mode matching"
    needs: tuple[str, ...] = ("electronic_noise", "balance", "shot_noise", "amplifier")
    roles = ("client.digitizer", "client.arrival_meter", "client.gain")
    valid_for_s = 30.0 * DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return timing, laser power and frequency."""
        return {**timing(bench), **light_settings(bench)}

    def run(self, bench: CalibrationBench) -> Outcome:
        """Send lit frames and read the meter; raises CalibrationError where none is fitted."""
        meter = _fitted(bench.equipment.client.arrival_meter, "client.arrival_meter")
        gain_per_v = bench.knowledge.quantity(names.GAIN_PER_V)
        found = _measure(bench, "client", meter, _CONTROL_V)
        ratio = ratio_of_photons(_mean_seen(bench, "client", found.photons), found.arriving)
        return _outcome("client", found, behind_amplifier(ratio, gain_per_v, _CONTROL_V))


def _fitted(meter: FibreMeter | None, role: str) -> FibreMeter:
    if meter is None:
        raise CalibrationError(
            f"no reference power meter is fitted: this efficiency needs {role} in the station "
            "file; until then its constant stands"
        )
    return meter


def _measure(
    bench: CalibrationBench, party: Party, meter: FibreMeter, control_v: float
) -> LightSeen:
    """Return photons seen and arriving, with the amplifier's control at a voltage in V."""
    bench.light_on()
    try:
        brightest(bench.equipment.server.attenuator)
        layout, symbols = _load(bench)
        bench.equipment.client.gain.set(control_v)
        arriving = _arriving(bench, party, meter)
        return LightSeen(_seen(bench, party, layout, symbols), arriving)
    finally:
        bench.equipment.client.gain.set(0.0)
        bench.light_on()
        bench.sender.forget()


def _outcome(party: Party, found: LightSeen, efficiency: Quantity) -> Outcome:
    _refuse_above_1(party, efficiency)
    remarks = []
    if efficiency.value > 1.0:
        remarks.append(f"measured as {efficiency}, above 1 by chance: 1 is kept")
    efficiency = efficiency.within(most=1.0)
    return Outcome(
        {names.EFFICIENCY.of(party): efficiency},
        {
            f"{party}_photons_seen": found.photons,
            f"{party}_photons_arriving": np.array([found.arriving.value]),
        },
        lambda figure: _draw(figure, party, found, efficiency),
        remarks=tuple(remarks),
    )


def _load(bench: CalibrationBench) -> tuple[FrameLayout, Complexes]:
    """Load a frame whose every slot is lit, behind the preamble by both children at their most."""
    layout = bench.sender.layout(rows=1, modes=_MODES)
    signs = bench.draw.choice(np.array([-PEAK, PEAK]), (2, layout.slots))
    symbols = (signs[0] + 1j * signs[1]).astype(np.complex64)
    symbols[: layout.preamble_symbols] = np.float32(PEAK) * layout.preamble
    bench.load(_FRAME, layout, symbols)
    return layout, symbols


def _arriving(bench: CalibrationBench, party: Party, meter: FibreMeter) -> Quantity:
    """Return photons per slot by the meter, what leaks through the modulator's null taken off."""
    readings = bench.count(_READINGS)
    frequency_hz = bench.equipment.server.laser_frequency_hz
    meter.input.set_wavelength(frequency_to_wavelength_m(frequency_hz))
    bench.sender.rest()
    rest = bench.mean_power(meter.input, readings)
    bench.sender.play(_FRAME)
    lit = bench.mean_power(meter.input, readings)
    bench.sender.select(_FRAME)
    more_w = lit.power_w - rest.power_w
    error_w = math.hypot(lit.standard_error_w, rest.standard_error_w)
    _require_power(party, more_w, error_w, lit)
    per_slot = photon_energy_j(frequency_hz) * bench.equipment.frame.symbol_rate_hz
    photons = more_w * meter.ratio / per_slot
    return Quantity.of(
        photons,
        "1",
        {
            "reference meter": photons * meter.ratio_uncertainty,
            "meter's readings": photons * error_w / more_w,
        },
    )


def _require_power(party: Party, more_w: float, error_w: float, lit: MeanPower) -> None:
    if more_w > max(_LEAST_SIGMA * error_w, 0.0):
        return
    raise CalibrationError(
        f"{party}: the reference meter reads {lit.power_w:.3g} W, no more than without the frame "
        f"(by {more_w:.2g} ± {error_w:.1g} W): is the laser on, the light not blocked, the meter "
        "sensitive enough?"
    )


def _seen(bench: CalibrationBench, party: Party, layout: FrameLayout, symbols: Complexes) -> Reals:
    """Return photons per slot that the receiver sees in each of several records."""
    duration_s = bench.duration_s(layout)
    fit_ranges(bench, (party,), duration_s, rounds=3, kept=3)
    shot_v2 = bench.knowledge.quantity(names.SHOT_NOISE_V2.of(party)).value
    records = bench.count(_RECORDS, 6)
    amplitude_v = np.empty(records)
    for number in range(records):
        trace = record(bench, (party,), duration_s)[party]
        sync = sync_of(bench, party, trace, layout)
        slots = layout.slots - layout.guard_symbols
        read = read_slots(trace, layout, sync.start_s, 0, slots).astype(np.float64)
        amplitude_v[number] = _amplitude(read, symbols[:slots])
    mean_square = float(np.mean(np.abs(symbols) ** 2))
    return photons_seen(amplitude_v, shot_v2) * mean_square


def _amplitude(read: Reals, symbols: Complexes) -> float:
    """Return the amplitude in V per unit symbol; what noise adds to its square is taken off."""
    design = np.stack([symbols.real, symbols.imag, np.ones(len(read))], axis=1).astype(np.float64)
    solution, *_ = np.linalg.lstsq(design, read, rcond=None)
    residual = read - design @ solution
    variance = float(residual @ residual) / (len(read) - 3)
    added = variance * float(np.trace(np.linalg.inv(design.T @ design)[:2, :2]))
    return math.sqrt(max(float(solution[0] ** 2 + solution[1] ** 2) - added, 0.0))


def _mean_seen(bench: CalibrationBench, party: Party, photons: Reals) -> Quantity:
    shot = bench.knowledge.quantity(names.SHOT_NOISE_V2.of(party))
    mean = float(photons.mean())
    return Quantity.of(
        mean,
        "1",
        {
            "records": float(photons.std(ddof=1)) / math.sqrt(len(photons)),
            _UNIT: mean * shot.standard_uncertainty / shot.value,
        },
    )


def _refuse_above_1(party: Party, efficiency: Quantity) -> None:
    # To refuse what is above 1 by chance would leave the others too low.
    if efficiency.value - 1.0 <= _LIMIT_SIGMA * efficiency.standard_uncertainty:
        return
    raise CalibrationError(
        f"{party}: efficiency {efficiency}, more than all light: is the reference meter's ratio "
        "right, the meter on this fibre, the shot-noise unit of this laser power?"
    )


def _draw(figure: Figure, party: Party, found: LightSeen, efficiency: Quantity) -> None:
    axes = figure.subplots()
    each = found.photons / found.photons.mean() * efficiency.value
    number = np.arange(1, len(each) + 1)
    axes.plot(number, each, "o", ms=4, label="records, over the mean power")
    low, high = efficiency.interval()
    axes.axhline(efficiency.value, color="C1", label="all, with 95 % interval")
    axes.axhspan(low, high, color="C1", alpha=0.2)
    axes.set_xlabel("record")
    axes.set_ylabel("efficiency")
    axes.set_title(f"{party}: photons seen over photons there")
    axes.locator_params(axis="x", integer=True)
    axes.legend(fontsize="small")
