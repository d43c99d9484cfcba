"""Noise against local-oscillator power, a + bP + cP^2: shot noise is linear, and what is not.

a is electronic noise, b the shot noise per watt, c the laser's intensity noise that finite
common-mode rejection leaves: c P/b = I R 10^(-CMRR/10) / (2e) shot-noise units, with I the local
oscillator's photocurrent and R the laser's relative intensity noise per Hz (Pereira et al., EPJ
Quantum Technol. 8 (2021)). A c below 0 is a detector that saturates. P is the power of the laser,
of which the local oscillators are fixed shares. The records give I R 10^(-CMRR/10) alone: the
rejection itself needs I and R from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Fit, Reals, runs_probability
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
from labctl.calibration.spectrum import NoiseVariance
from labctl.errors import CalibrationError, LimitError
from labctl.units import ELEMENTARY_CHARGE_C, PER_DB, photon_energy_j

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Shares of the station's power and seconds of record at each: the ends give c, the others show that
# the curve is one.
_POINTS = ((1.0, 40e-3), (0.8, 6e-3), (0.65, 6e-3), (0.5, 6e-3), (0.35, 6e-3), (0.2, 30e-3))
# At 20 MBd 200,000 slots: the variance in the dark to 0.32 %.
_DARK_S = 10e-3
# Three parameters, a, b and c, and one to show that they are enough.
_LEAST_POINTS = 4
# A laser states its power in steps of 0.01 dB.
_POWER_STEP = 0.01 * PER_DB
# Of shot noise at full power: beyond it the second power of P no longer describes saturation.
_MOST_SATURATION = 0.03
# Chance 3e-5, one-sided: certain enough to refuse the bench.
_SURE_SIGMA = 4.0
# A value that is stated only where it is large is biased towards large: far out, by little.
_RESOLVED_SIGMA = 5.0
# Chance of so bad a fit by scatter alone: below, the curve is not a + bP + cP^2.
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class IntensityNoise:
    """What must be known for a common-mode rejection: the laser's noise and the shares of light.

    `rin_db_hz` with its standard uncertainty in dB; `lo_share`: part of the laser's light in each
    local oscillator, by party, with the relative standard uncertainty of both.
    """

    rin_db_hz: float
    rin_uncertainty_db: float
    lo_share: Mapping[Party, float]
    lo_share_uncertainty: float


@dataclass(frozen=True)
class LinearityFit:
    """Fit of noise against power in units of the highest, with what it says at that power."""

    power_w: Reals
    variance_v2: Reals
    error_v2: Reals
    fit: Fit

    @property
    def top_w(self) -> float:
        """Highest power in W, at which the fit's coefficients are in V^2."""
        return float(self.power_w[0])

    @property
    def excess(self) -> tuple[float, float]:
        """Noise beyond shot noise at the highest power, in SNU, and its standard uncertainty."""
        _, b, c = self.fit.values
        covariance = self.fit.covariance
        gradient = np.array([0.0, -c / b**2, 1.0 / b])
        return float(c / b), math.sqrt(float(gradient @ covariance @ gradient))


def noise_curve(power: Reals, dark: float, linear: float, quadratic: float) -> Reals:
    """Return dark + linear P + quadratic P^2."""
    return np.asarray(dark + linear * power + quadratic * power**2)


def fit_linearity(
    power_w: Reals, noises: list[NoiseVariance], power_steps: float, what: str
) -> LinearityFit:
    """Fit noise at 4 or more powers, the highest first; `power_steps`: their relative resolution.

    Raises CalibrationError when no such curve fits, or for saturation beyond 3 % of the noise.
    """
    variance = np.array([noise.variance for noise in noises])
    share, scale = power_w / power_w[0], float(variance[0])
    error = np.array([noise.standard_uncertainty for noise in noises])
    # A step of the power is a rectangular error: its standard deviation is the step/sqrt(12).
    error = np.hypot(error, variance * share * power_steps / math.sqrt(12.0))
    fit = _fit_parabola(share, variance / scale, error / scale)
    fit = replace(fit, values=fit.values * scale, covariance=fit.covariance * scale**2)
    found = LinearityFit(power_w, variance, error, fit)
    _refuse_saturation(found, what)
    return found


def _fit_parabola(share: Reals, noise: Reals, error: Reals) -> Fit:
    """Return the linear least-squares fit, its covariance widened as that of `fit_curve`."""
    design = np.stack([np.ones_like(share), share, share**2], axis=1) / error[:, None]
    values, *_ = np.linalg.lstsq(design, noise / error, rcond=None)
    residuals = noise / error - design @ values
    chi_square, freedom = float(residuals @ residuals), len(share) - 3
    covariance = np.linalg.inv(design.T @ design) * max(chi_square / freedom, 1.0)
    return Fit(
        np.asarray(values, np.float64),
        np.asarray(covariance, np.float64),
        chi_square,
        freedom,
        runs_probability(residuals),
    )


def _refuse_saturation(found: LinearityFit, what: str) -> None:
    excess, uncertainty = found.excess
    if excess < -_MOST_SATURATION and excess < -_SURE_SIGMA * uncertainty:
        raise CalibrationError(
            f"{what}: noise falls {-100.0 * excess:.1f} % behind the local oscillator's power at "
            f"{1e3 * found.top_w:.3g} mW: the detector saturates; choose less laser power"
        )
    if found.fit.chi_square_probability < _LEAST_PROBABILITY:
        raise CalibrationError(
            f"{what}: no parabola describes the noise (chi-square {found.fit.chi_square:.0f} for "
            f"{found.fit.degrees_of_freedom} degrees of freedom): does the laser's power settle, "
            "does the detector saturate, does something else put noise on it?"
        )


def common_mode_rejection_db(excess_snu: float, photocurrent_a: float, rin_db_hz: float) -> float:
    """Return the rejection in dB that leaves this much intensity noise, all above 0."""
    unbalanced = photocurrent_a * 10.0 ** (rin_db_hz / 10.0) / (2.0 * ELEMENTARY_CHARGE_C)
    return 10.0 * math.log10(unbalanced / excess_snu)


class BalanceRoutine:
    """Measures the linearity of noise in local-oscillator power at both parties.

    `server.lo_linear_v2_w`, `server.lo_quadratic_v2_w2`, `server.lo_excess_noise` (SNU at the
    station's power), and the client's; where `laser`, or the station file by `rin_db_hz` and
    `lo_share`, states the laser's noise also `server.common_mode_rejection_db` if the excess is
    resolved, a lower bound as a remark if it is not.
    """

    name = "balance"
    title = "receivers: linearity in local-oscillator power, balance"
    needs: tuple[str, ...] = ("electronic_noise",)
    roles = ROLES
    valid_for_s = 7.0 * DAY_S

    def __init__(self, laser: IntensityNoise | None = None) -> None:
        self._laser = laser

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return timing, laser power and frequency."""
        laser = self._laser_of(bench)
        told = {} if laser is None else {"server.rin_db_hz": laser.rin_db_hz}
        return {**timing(bench), **light_settings(bench), **told}

    def _laser_of(self, bench: CalibrationBench) -> IntensityNoise | None:
        if self._laser is not None:
            return self._laser
        server = bench.equipment.server.constants
        shares = server.lo_share, bench.equipment.client.constants.lo_share
        if server.rin_db_hz is None or shares[0] is None or shares[1] is None:
            return None
        return IntensityNoise(
            server.rin_db_hz,
            server.rin_uncertainty_db,
            {"server": shares[0], "client": shares[1]},
            server.lo_share_uncertainty,
        )

    def run(self, bench: CalibrationBench) -> Outcome:
        """Record at powers from the station's down, and in the dark; fit both parties."""
        laser = self._laser_of(bench)
        with blocked(bench):
            use_ranges(bench)
            power_w, records = _sweep(bench)
        quantities: dict[Name, Quantity] = {}
        raw: dict[str, np.ndarray] = {"power_w": power_w}
        remarks: list[str] = []
        fits: dict[Party, LinearityFit] = {}
        for party in PARTIES:
            noises = [each[party].noise for each in records]
            require_light(party, noises[0], noises[-1])
            found = fit_linearity(power_w, noises, _POWER_STEP, f"{party}: noise against power")
            fits[party] = found
            quantities |= _quantities(party, found)
            remarks.append(_test(party, found))
            if laser is not None:
                _reject(bench, laser, party, found, quantities, remarks)
            raw[f"{party}_variance_v2"] = found.variance_v2
            raw[f"{party}_error_v2"] = found.error_v2
        return Outcome(quantities, raw, lambda figure: _draw(figure, fits), remarks=tuple(remarks))


def _reject(
    bench: CalibrationBench,
    laser: IntensityNoise,
    party: Party,
    found: LinearityFit,
    quantities: dict[Name, Quantity],
    remarks: list[str],
) -> None:
    """Add the common-mode rejection, or a remark with its lower bound."""
    equipment = bench.equipment
    side = equipment.server if party == "server" else equipment.client
    photons = found.top_w / photon_energy_j(equipment.server.laser_frequency_hz)
    current_a = photons * laser.lo_share[party] * ELEMENTARY_CHARGE_C
    current_a *= side.constants.efficiency
    excess, uncertainty = found.excess
    if excess > _RESOLVED_SIGMA * uncertainty:
        quantities[names.COMMON_MODE_REJECTION_DB.of(party)] = Quantity.of(
            common_mode_rejection_db(excess, current_a, laser.rin_db_hz),
            "dB",
            {
                "excess noise": uncertainty / excess / PER_DB,
                "laser's intensity noise": laser.rin_uncertainty_db,
                "local oscillator's power": laser.lo_share_uncertainty / PER_DB,
            },
        )
        return
    # 1.645 standard deviations: the upper end of a one-sided 95 % interval.
    highest = max(excess, 0.0) + 1.645 * uncertainty
    lowest_db = common_mode_rejection_db(highest, current_a, laser.rin_db_hz)
    remarks.append(
        f"{party}: common-mode rejection not resolved; {lowest_db:.1f} dB or more (95 %) if "
        f"the laser's intensity noise is {laser.rin_db_hz:.0f} dB/Hz"
    )


def _sweep(bench: CalibrationBench) -> tuple[Reals, list[dict[Party, NoiseRecords]]]:
    laser, station_w = bench.equipment.server.laser, bench.equipment.server.laser_power_w
    power_w: list[float] = []
    records = []
    for share, duration_s in _POINTS:
        try:
            laser.set_power(share * station_w)
        except LimitError:
            continue
        bench.on_step(f"local oscillators at {1e3 * share * station_w:.3g} mW of laser power")
        power_w.append(laser.power_w())
        records.append(take_noise(bench, duration_s))
    if len(power_w) < _LEAST_POINTS:
        raise CalibrationError(
            f"the laser takes only {len(power_w)} of {len(_POINTS)} powers between "
            f"{200 * station_w:.3g} and {1e3 * station_w:.3g} mW: too few for a curve; is the "
            "station's power at the laser's lower end?"
        )
    laser.set_emission(False)
    records.append(take_noise(bench, _DARK_S))
    return np.array([*power_w, 0.0]), records


def _quantities(party: Party, found: LinearityFit) -> dict[Name, Quantity]:
    excess, uncertainty = found.excess
    fit, top_w = found.fit, found.top_w
    return {
        names.LO_LINEAR_V2_W.of(party): Quantity.of(
            float(fit.values[1]) / top_w, "V^2/W", {"fit": fit.standard_uncertainty(1) / top_w}
        ),
        names.LO_QUADRATIC_V2_W2.of(party): Quantity.of(
            float(fit.values[2]) / top_w**2,
            "V^2/W^2",
            {"fit": fit.standard_uncertainty(2) / top_w**2},
        ),
        names.LO_EXCESS_NOISE.of(party): Quantity.of(excess, "SNU", {"fit": uncertainty}),
    }


def _test(party: Party, found: LinearityFit) -> str:
    score = float(found.fit.values[2]) / found.fit.standard_uncertainty(2)
    chance = 2.0 * float(special.ndtr(-abs(score)))
    verdict = "rejected" if chance < 0.05 else "not rejected"
    excess, uncertainty = found.excess
    return (
        f"{party}: c = 0 is {verdict} (c over its uncertainty {score:.1f}, p = {chance:.2g}); "
        f"noise beyond shot noise {excess:.4f} ± {uncertainty:.4f} SNU at {1e3 * found.top_w:.3g} "
        f"mW; chi-square {found.fit.chi_square:.1f} for {found.fit.degrees_of_freedom}"
    )


def _draw(figure: Figure, fits: Mapping[Party, LinearityFit]) -> None:
    curves, residuals = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for place, (party, found) in enumerate(fits.items()):
        colour = f"C{place}"
        fine = np.linspace(0.0, 1.0, 200)
        a, b, _ = found.fit.values
        power_mw = 1e3 * found.power_w
        curves.plot(
            1e3 * fine * found.top_w,
            1e6 * noise_curve(fine, *found.fit.values),
            color=colour,
            label=f"{party}: a + bP + cP²",
        )
        curves.plot(
            1e3 * fine * found.top_w, 1e6 * (a + b * fine), ":", color=colour, label="a + bP"
        )
        curves.errorbar(
            power_mw, 1e6 * found.variance_v2, 1e6 * found.error_v2, fmt="o", ms=4, color=colour
        )
        model = noise_curve(found.power_w / found.top_w, *found.fit.values)
        residuals.errorbar(
            power_mw,
            (found.variance_v2 - model) / found.error_v2,
            1.0,
            fmt="o",
            ms=4,
            color=colour,
        )
    residuals.axhline(0.0, color="grey", lw=0.8)
    curves.set_ylabel("variance / (mV)²")
    curves.set_title("Noise against local-oscillator power")
    curves.legend(fontsize="small")
    residuals.set_ylabel("residual / σ")
    residuals.set_xlabel("laser power / mW")
