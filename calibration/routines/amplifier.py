"""The client's amplifier: gain per volt of its control, and its spontaneous-emission factor.

In the dark the amplifier's own noise is measured on both sides. With x = G - 1 = k V it adds
2 n_sp eta_c x^2/(1 + x) to the client's measured arm and 2 n_sp tau x/(1 + x) to what the server
sees, in shot-noise units, tau being transmittance and efficiency on the way back. Both curves bend
where x is of order 1, at any scale: the bend gives k. Noise is white before the detector,
so that all samples of a record count, not only one per slot; the scale k tau n_sp is that of the
matched filter's values.

A bright frame gives tau: A^2 = 4 S N tau in V^2, N being its photons at the client by the arrival
meter; without one, from the channel's transmittance, half of whose loss is on either leg give or
take the other half. The matched filter misses 1 - m of a pulse's energy but none of the noise's:
with the pulse p(t) per unit value, m = 1/sum p^2, and noise sees tau/m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import Fit
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.calibration.routines.amplifier_noise import (
    UNLIKELY,
    Noise,
    fit_noise,
    record_noise,
    relative_noise,
)
from labctl.calibration.routines.bright_frame import (
    Bright,
    weigh_bright_frame,
)
from labctl.calibration.routines.receiver_noise import brightest
from labctl.calibration.routines.records import PARTIES
from labctl.calibration.spectrum import NoiseVariance
from labctl.errors import CalibrationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# n_sp below 1 by more than 4 standard errors (probability 3e-5) is refused; by less it counts as 1.
_LIMIT_SIGMA = 4.0
# Of the gain per volt: its interval stays above 0, where the amplifier would have no gain.
_LARGEST_REACH = 0.9


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
        """Measure a bright frame at the server, then the noise in the dark at several gains."""
        bench.light_on()
        server, gain = bench.equipment.server, bench.equipment.client.gain
        try:
            gain.set(0.0)
            bright = weigh_bright_frame(bench)
            noise = record_noise(bench)
        finally:
            gain.set(0.0)
            brightest(server.attenuator)
            bench.light_on()
            bench.sender.forget()
        fit = fit_noise(noise)
        quantities = _quantities(fit, noise, bright)
        raw = _raw(noise, bright)
        remarks = []
        if fit.chi_square_probability < UNLIKELY:
            remarks.append(
                f"noise against control voltage does not bend like a gain that is linear in it "
                f"(chance {fit.chi_square_probability:.1g}); the uncertainties are widened"
            )
        if quantities[names.EMISSION_FACTOR].value == 1.0:
            remarks.append("emission factor measured below 1, the quantum limit: 1 is kept")
        return Outcome(
            quantities, raw, lambda figure: _draw(figure, noise, fit), remarks=tuple(remarks)
        )


def _quantities(fit: Fit, noise: Noise, bright: Bright) -> dict[Name, Quantity]:
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
        names.GAIN_PER_V: gain,
        names.EMISSION_FACTOR: _physical(Quantity.of(factor, "1", budget)),
    }


def _gain(gain_per_v: float, error: float, freedom: float) -> Quantity:
    """Return k; 1/k errs alike to both sides, and gives the interval."""
    found = Quantity.of(gain_per_v, "1/V", {"noise records": error}, degrees_of_freedom=freedom)
    reach = min(found.coverage_factor() * error / gain_per_v, _LARGEST_REACH)
    return replace(found, span=(gain_per_v / (1.0 + reach), gain_per_v / (1.0 - reach)))


def _freedom(fit: Fit) -> float:
    """Return the degrees of freedom of the errors: known well, unless the fit widened them."""
    return fit.degrees_of_freedom if _widened(fit) else math.inf


def _widened(fit: Fit) -> bool:
    return fit.chi_square_probability < UNLIKELY


def _slots_scale(noise: Noise) -> tuple[float, float]:
    """Return V^2 of the server's slots per unit of its relative sample variance, and its error.

    The error is relative. It is from the noise that the amplifier adds at the largest gain.
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


def _raw(noise: Noise, bright: Bright) -> dict[str, np.ndarray]:
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


def _draw(figure: Figure, noise: Noise, fit: Fit) -> None:
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
