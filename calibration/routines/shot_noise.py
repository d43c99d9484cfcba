"""The shot-noise unit of both receivers at the station's local-oscillator power.

The noise with the signal blocked, less the electronic noise, is shot noise and what intensity
noise finite balance leaves: S = (B - E) / (1 + x), with x from the linearity in power. A record
gives S no better than B, E and x are known, and later intervals have to count that: protocol,
"finite size and calibration".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Name, Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import HOUR_S, Outcome
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
from labctl.calibration.shot_noise import shot_noise_unit
from labctl.calibration.spectrum import NoiseVariance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# At 20 MBd 1.6 million slots: the variance to 0.11 %, an error of 0.001 SNU of every later session.
_BLOCKED_S = 80e-3


class ShotNoise:
    """Measures the shot-noise unit and the electronic noise in it.

    For both parties `shot_noise_v2` and `blocked_variance_v2` in V^2 of matched-filter values,
    `blocked_samples` that the latter is worth, and `electronic_noise` in SNU.
    """

    name = "shot_noise"
    title = "receivers: shot-noise unit"
    needs: tuple[str, ...] = ("electronic_noise", "balance")
    roles = ROLES
    valid_for_s = HOUR_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return timing, laser power and frequency."""
        return {**timing(bench), **light_settings(bench)}

    def run(self, bench: CalibrationBench) -> Outcome:
        """Record both parties' noise with the signal blocked."""
        with blocked(bench):
            use_ranges(bench)
            records = take_noise(bench, _BLOCKED_S)
        quantities: dict[Name, Quantity] = {}
        raw: dict[str, np.ndarray] = {}
        remarks: list[str] = []
        for party in PARTIES:
            noise = records[party].noise
            electronic = bench.knowledge.quantity(names.ELECTRONIC_NOISE_V2.of(party))
            excess = bench.knowledge.quantity(names.LO_EXCESS_NOISE.of(party))
            require_light(party, noise, _as_noise(electronic))
            shot, electronic_snu = shot_noise_unit(_as_quantity(noise), electronic, excess)
            quantities[names.SHOT_NOISE_V2.of(party)] = shot
            quantities[names.ELECTRONIC_NOISE.of(party)] = electronic_snu
            quantities[names.BLOCKED_VARIANCE_V2.of(party)] = _as_quantity(noise)
            quantities[names.BLOCKED_SAMPLES.of(party)] = Quantity(noise.samples, 0.0, "1")
            raw |= records[party].raw(f"{party}_blocked")
            if noise.steady_probability < 1e-3:
                remarks.append(
                    f"{party}: noise is not steady from record to record (chance "
                    f"{noise.steady_probability:.1g}); its uncertainty counts the scatter"
                )
        return Outcome(
            quantities, raw, lambda figure: _draw(figure, records), remarks=tuple(remarks)
        )


def _as_quantity(noise: NoiseVariance) -> Quantity:
    return Quantity.of(noise.variance, "V^2", {"samples": noise.standard_uncertainty})


def _as_noise(quantity: Quantity) -> NoiseVariance:
    relative = quantity.standard_uncertainty / quantity.value
    return NoiseVariance(quantity.value, 2.0 / relative**2 if relative > 0.0 else math.inf)


def _draw(figure: Figure, records: Mapping[Party, NoiseRecords]) -> None:
    for axes, party in zip(figure.subplots(2, 1, sharex=True), PARTIES, strict=True):
        noise = records[party].noise
        raw = records[party].raw("each")
        variances = 1e6 * raw["each_variances_v2"].astype(np.float64)
        errors = variances * np.sqrt(2.0 / raw["each_samples"].astype(np.float64))
        number = np.arange(1, len(variances) + 1)
        axes.errorbar(number, variances, errors, fmt="o", ms=4, label="records")
        # The shaded band is the 95 % interval, 1.96 standard uncertainties.
        mean, width = 1e6 * noise.variance, 1.96e6 * noise.standard_uncertainty
        axes.axhline(mean, color="C1", label="all, with 95 % interval")
        axes.axhspan(mean - width, mean + width, color="C1", alpha=0.2)
        axes.set_ylabel("variance / (mV)²")
        axes.set_title(f"{party}: signal blocked")
        axes.legend(fontsize="small")
    figure.axes[-1].set_xlabel("record")
    figure.axes[-1].locator_params(axis="x", integer=True)
