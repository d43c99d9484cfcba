"""Electronic noise of both receivers: the variance of a slot's value with the laser off.

Detector, amplifier and digitizer together, quantisation included, through the same matched filter
and at the same range of the digitizer as with light: the range is fitted to the noise with light.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration import names
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import DAY_S, Outcome
from labctl.calibration.routines.receiver_noise import (
    ROLES,
    NoiseRecords,
    blocked,
    require_light,
    take_noise,
    timing,
)
from labctl.calibration.routines.records import PARTIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# At 20 MBd 500,000 slots: the variance to 0.2 %.
_DARK_S = 25e-3
# Only to compare with, and to fit the range.
_LIT_S = 5e-3
# Edges from -4 to 4 standard deviations: bins of a tenth of one.
_BINS = 81


class ElectronicNoise:
    """Measures `electronic_noise_v2` of both parties, and the ranges at which that holds.

    `server.electronic_noise_v2`, `client.electronic_noise_v2`: V^2 in matched-filter values;
    `server.noise_range_v`, `client.noise_range_v`: the digitizers' full scale.
    """

    name = "electronic_noise"
    title = "receivers: electronic noise"
    needs: tuple[str, ...] = ()
    roles = ROLES
    valid_for_s = DAY_S

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the frames' timing, which makes the matched filter."""
        return timing(bench)

    def run(self, bench: CalibrationBench) -> Outcome:
        """Record with light on the local oscillators, to see that there is, then without."""
        with blocked(bench):
            lit = take_noise(bench, _LIT_S)
            bench.equipment.server.laser.set_emission(False)
            dark = take_noise(bench, _DARK_S)
        quantities = {}
        raw: dict[str, np.ndarray] = {}
        for party in PARTIES:
            noise = dark[party].noise
            require_light(party, lit[party].noise, noise)
            quantities[names.ELECTRONIC_NOISE_V2.of(party)] = Quantity.of(
                noise.variance, "V^2", {"samples": noise.standard_uncertainty}
            )
            range_v = bench.recorders[party].range_v
            quantities[names.NOISE_RANGE_V.of(party)] = Quantity(range_v, 0.0, "V")
            raw |= dark[party].raw(f"{party}_dark")
            raw |= lit[party].raw(f"{party}_lit")
        return Outcome(quantities, raw, lambda figure: _draw(figure, dark, lit))


def _draw(
    figure: Figure, dark: Mapping[Party, NoiseRecords], lit: Mapping[Party, NoiseRecords]
) -> None:
    for axes, party in zip(figure.subplots(1, 2, sharey=True), PARTIES, strict=True):
        reach_mv = 4e3 * float(np.std(lit[party].slots[-1]))
        edges = np.linspace(-reach_mv, reach_mv, _BINS)
        for records, name, colour in ((dark, "laser off", "C0"), (lit, "laser on", "C1")):
            values_mv = 1e3 * (records[party].slots[-1] - np.mean(records[party].slots[-1]))
            axes.hist(
                values_mv, edges, density=True, histtype="stepfilled", alpha=0.4, color=colour
            )
            sigma_mv = 1e3 * records[party].noise.variance ** 0.5
            gauss = np.exp(-0.5 * (edges / sigma_mv) ** 2) / (sigma_mv * np.sqrt(2.0 * np.pi))
            axes.plot(edges, gauss, color=colour, label=f"{name}, σ = {sigma_mv:.3g} mV")
        axes.set_yscale("log")
        axes.set_ylim(1e-5, 3.0)
        axes.set_xlabel("matched-filter value / mV")
        axes.set_title(f"{party}: noise, signal blocked")
        axes.legend(loc="lower center", fontsize="small")
        axes.label_outer()
    figure.axes[0].set_ylabel("density / mV⁻¹")
