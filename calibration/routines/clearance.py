"""Clearance of both receivers, shot plus electronic over electronic noise: by frequency, in a mode.

Spectral densities with light and without, and the same for the values of the matched filter. The
intensity noise that finite balance leaves is taken off, as if it were white. 10 dB is usual, 15 dB
good.
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
from labctl.calibration.names import Name, Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.calibration.routines.receiver_noise import (
    ROLES,
    NoiseRecords,
    blocked,
    light_settings,
    require_light,
    take_noise,
    timing,
    use_ranges,
)
from labctl.calibration.routines.records import PARTIES
from labctl.calibration.spectrum import spectral_density
from labctl.units import PER_DB, db_to_ratio

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# At 20 MBd 400,000 slots each: the variance to 0.22 %, 0.01 dB.
_LIT_S = 20e-3
_DARK_S = 20e-3
# Wide enough that a band is known to 0.02 dB, narrow enough to show where the receiver rolls off.
_BANDS = 8
# The first zero of a Hann pulse's spectrum, in symbol rates.
_BAND_EDGE = 2.0
# Overlapping Hann windows use most of a record: relative variance of a band's mean density over
# 1 / (bandwidth x duration).
_WINDOW_LOSS = 1.06


@dataclass(frozen=True)
class _Spectra:
    """Densities in V^2/Hz, and clearances of bands with their uncertainty in dB."""

    frequency_hz: Reals
    lit: Reals
    dark: Reals
    centre_hz: Reals
    clearance_db: Reals
    error_db: Reals


class Clearance:
    """Measures `clearance_db` in the matched filter and `band_edge_clearance_db`, for both parties.

    Of eight bands up to twice the symbol rate, where a pulse's spectrum ends, the latter is the
    highest one's: the noise of an amplifier grows with frequency.
    """

    name = "clearance"
    title = "receivers: shot-noise clearance by frequency"
    needs: tuple[str, ...] = ("electronic_noise", "balance")
    roles = ROLES
    valid_for_s = DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return timing, laser power and frequency."""
        return {**timing(bench), **light_settings(bench)}

    def run(self, bench: CalibrationBench) -> Outcome:
        """Record with light on the local oscillators and without, signal blocked."""
        with blocked(bench):
            use_ranges(bench)
            lit = take_noise(bench, _LIT_S, keep_traces=True)
            bench.equipment.server.laser.set_emission(False)
            dark = take_noise(bench, _DARK_S, keep_traces=True)
        quantities: dict[Name, Quantity] = {}
        raw: dict[str, np.ndarray] = {}
        spectra: dict[Party, _Spectra] = {}
        for party in PARTIES:
            require_light(party, lit[party].noise, dark[party].noise)
            excess = bench.knowledge.quantity(names.LO_EXCESS_NOISE.of(party))
            quantities[names.CLEARANCE_DB.of(party)] = _in_the_mode(lit[party], dark[party], excess)
            found = _by_frequency(bench, lit[party], dark[party], excess.value)
            edge_db = float(found.clearance_db[-1])
            quantities[names.BAND_EDGE_CLEARANCE_DB.of(party)] = Quantity.of(
                edge_db,
                "dB",
                {
                    "samples": float(found.error_db[-1]),
                    "excess noise": _excess_db(edge_db, excess),
                },
            )
            spectra[party] = found
            raw[f"{party}_frequency_hz"] = found.frequency_hz
            raw[f"{party}_lit_v2_hz"] = found.lit
            raw[f"{party}_dark_v2_hz"] = found.dark
        return Outcome(quantities, raw, lambda figure: _draw(figure, spectra))


def clearance_db(lit: Reals, dark: Reals, excess: float) -> Reals:
    """Return shot plus electronic over electronic noise in dB, from noise with light and without.

    `excess`: intensity noise in SNU that `lit` contains, above -1.
    """
    return np.asarray(10.0 * np.log10((lit - dark) / (1.0 + excess) / dark + 1.0))


def _excess_db(found_db: float, excess: Quantity) -> float:
    shot_share = 1.0 - 1.0 / db_to_ratio(found_db)
    return shot_share * excess.standard_uncertainty / (1.0 + excess.value) / PER_DB


def _in_the_mode(lit: NoiseRecords, dark: NoiseRecords, excess: Quantity) -> Quantity:
    with_light, without = lit.noise, dark.noise
    found = clearance_db(np.array(with_light.variance), np.array(without.variance), excess.value)
    ratio = math.hypot(
        with_light.standard_uncertainty / with_light.variance,
        without.standard_uncertainty / without.variance,
    )
    budget = {"samples": ratio / PER_DB, "excess noise": _excess_db(float(found), excess)}
    return Quantity.of(float(found), "dB", budget)


def _by_frequency(
    bench: CalibrationBench, lit: NoiseRecords, dark: NoiseRecords, excess: float
) -> _Spectra:
    interval_s = lit.traces[0].interval_s
    frequency_hz, with_light = spectral_density([t.voltage_v for t in lit.traces], interval_s)
    _, without = spectral_density([t.voltage_v for t in dark.traces], interval_s)
    width_hz = _BAND_EDGE * bench.equipment.frame.symbol_rate_hz / _BANDS
    band = np.floor(frequency_hz / width_hz).astype(np.int64)
    inside = [band == number for number in range(_BANDS)]
    levels = np.array([[np.mean(each[part]) for part in inside] for each in (with_light, without)])
    durations_s = [
        sum(len(t.voltage_v) for t in records.traces) * interval_s for records in (lit, dark)
    ]
    variance = sum(_WINDOW_LOSS / (width_hz * duration_s) for duration_s in durations_s)
    clearances = clearance_db(levels[0], levels[1], excess)
    errors = np.full(_BANDS, math.sqrt(variance) / PER_DB)
    centres: Reals = (np.arange(_BANDS, dtype=np.float64) + 0.5) * width_hz
    return _Spectra(frequency_hz, with_light, without, centres, clearances, errors)


def _draw(figure: Figure, spectra: Mapping[Party, _Spectra]) -> None:
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(2, 1))
    for column, party in enumerate(PARTIES):
        found = spectra[party]
        frequency_mhz = 1e-6 * found.frequency_hz
        densities, clearances = grid[0][column], grid[1][column]
        densities.semilogy(frequency_mhz, found.lit, color="C1", label="laser on")
        densities.semilogy(frequency_mhz, found.dark, color="C0", label="laser off")
        densities.set_title(f"{party}: signal blocked")
        densities.legend(fontsize="small")
        clearances.errorbar(
            1e-6 * found.centre_hz, found.clearance_db, found.error_db, fmt="o", ms=4
        )
        clearances.set_xlabel("frequency / MHz")
    grid[0][0].set_ylabel("density / V² Hz⁻¹")
    grid[1][0].set_ylabel("clearance / dB")
