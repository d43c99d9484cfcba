"""Power meters along the link: transmittance of each leg, from steady light.

Meters may be fitted at launch, arrival and return. Each is read with steady light and at rest; the
difference, times the meter's ratio to the power in the fibre, is free of offsets and of light that
leaks. The transmittance of a leg is the power at its end over that at its beginning. Its
uncertainty has four sources: the readings of both meters, and the ratios of both. A share above 1
by chance counts as 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from labctl.calibration.bench import CalibrationBench, MeanPower
from labctl.calibration.names import LEG_TRANSMITTANCE, Leg, Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.routines.receiver_noise import (
    brightest,
)
from labctl.errors import CalibrationError
from labctl.station.equipment import FibreMeter

# A twentieth of a reading's noise.
_METER_READINGS = 400
# A power that is known worse than to 10 % is not used.
_LEAST_METER_SIGMA = 10.0
# A transmittance above 1 by more than 4 standard errors is refused; by less it counts as 1.
_LIMIT_SIGMA = 4.0


@dataclass(frozen=True)
class Meters:
    """Mean powers in W in the fibre by meter, with standard errors of the readings."""

    power_w: Mapping[str, float]
    error_w: Mapping[str, float]
    ratio_uncertainty: Mapping[str, float]


def read_meters(bench: CalibrationBench) -> Meters:
    """Read the meters that are fitted, with steady light and at rest."""
    server, client = bench.equipment.server, bench.equipment.client
    fitted: dict[str, FibreMeter | None] = {
        "launch": server.launch_meter,
        "arrival": client.arrival_meter,
        "return": server.return_meter,
    }
    there = {name: meter for name, meter in fitted.items() if meter is not None}
    power_w, error_w = {}, {}
    if there:
        bench.on_step("power meters along the link")
        brightest(server.attenuator)
        bench.steady_light()
        lit = {name: _mean(bench, meter) for name, meter in there.items()}
        bench.sender.forget()
        rest = {name: _mean(bench, meter) for name, meter in there.items()}
        for name, meter in there.items():
            power_w[name] = meter.ratio * (lit[name].power_w - rest[name].power_w)
            error_w[name] = meter.ratio * math.hypot(
                lit[name].standard_error_w, rest[name].standard_error_w
            )
            if not power_w[name] > _LEAST_METER_SIGMA * error_w[name]:
                raise CalibrationError(
                    f"{name} meter sees {power_w[name]:.2g} W more with light, noise is "
                    f"{error_w[name]:.2g} W: is light blocked before it, the head on its fibre?"
                )
    return Meters(
        power_w, error_w, {name: meter.ratio_uncertainty for name, meter in there.items()}
    )


def _mean(bench: CalibrationBench, meter: FibreMeter) -> MeanPower:
    return bench.mean_power(meter.input, bench.count(_METER_READINGS, 20))


def at_most_one(found: Quantity, what: str) -> Quantity:
    """Return a share as one of at most 1, which it is where chance puts it beyond.

    Raises CalibrationError for what is above 1 by more than 4 standard uncertainties, or not
    above 0.
    """
    excess = found.value - 1.0
    if excess > _LIMIT_SIGMA * found.standard_uncertainty or not found.value > 0.0:
        raise CalibrationError(
            f"{what}: {found}, must be above 0 and at most 1: are photon number, shot-noise unit "
            "and efficiency those of this laser power and these receivers?"
        )
    return found.within(most=1.0)


def meter_quantities(meters: Meters) -> dict[Name, Quantity]:
    """Return transmittances between each two meters that are fitted; raises CalibrationError."""
    quantities = {}
    ways: tuple[tuple[Leg, str, str], ...] = (
        ("forward", "launch", "arrival"),
        ("back", "arrival", "return"),
        ("meter", "launch", "return"),
    )
    for leg, first, last in ways:
        if first in meters.power_w and last in meters.power_w:
            share = meters.power_w[last] / meters.power_w[first]
            budget = {}
            for meter in (first, last):
                reading = meters.error_w[meter] / meters.power_w[meter]
                budget[f"{meter} meter's readings"] = share * reading
                budget[f"{meter} meter's ratio"] = share * meters.ratio_uncertainty[meter]
            found = Quantity.of(share, "1", budget)
            what = "round trip" if leg == "meter" else f"{leg} leg"
            quantities[LEG_TRANSMITTANCE.of(leg)] = at_most_one(found, f"{what} by its meters")
    return quantities
