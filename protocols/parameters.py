"""What a session on instruments was really run at: mu, G, T and excess noise with uncertainty.

A setting is what was asked for; what it came to is known as well as the calibration behind it:

- mu: the attenuator was set by the monitor's reading, so that its relative uncertainty is that of
  the readings, of the loss between monitor and fibre, and of the attenuator's slope;
- G: 1 + k V for a control voltage V, so that G - 1 is known as well as the gain per volt k;
- T and excess noise: the server's own estimates. Both scale with the efficiency of its receiver; T
  moreover compares what returned with what was sent, and inherits the uncertainty of mu.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from labctl.calibration import names
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.protocols.receiver import CloneReceiver, Receiver
from labctl.protocols.verification.verdict import Estimate
from labctl.units import PER_DB

if TYPE_CHECKING:
    from labctl.protocols.server.transmitter import Level


@dataclass(frozen=True)
class SessionParameters:
    """mu, G, T of the round trip (rotation included) and excess noise in SNU at the server.

    None where the calibration does not tell it, or no returned light was read.
    """

    mean_photons: Quantity | None
    gain: Quantity | None
    transmittance: Quantity | None
    excess_noise: Quantity | None

    def known(self) -> dict[str, Quantity]:
        """Return by name what is known."""
        all_of_them = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: quantity for name, quantity in all_of_them if quantity is not None}


def session_parameters(
    level: Level,
    receiver: Receiver,
    estimate: Estimate | None,
    measured: Mapping[Name, Quantity],
) -> SessionParameters:
    """Return what a session was run at.

    `level`: how the light was set; `estimate`: the server's, of all light that returned;
    `measured`: the calibration's quantities by name.
    """
    mean_photons = _mean_photons(level, measured)
    efficiency = measured.get(names.EFFICIENCY.of("server"))
    return SessionParameters(
        mean_photons=mean_photons,
        gain=_gain(receiver, measured),
        transmittance=_transmittance(estimate, efficiency, mean_photons),
        excess_noise=_excess_noise(estimate, efficiency),
    )


def _relative(quantity: Quantity) -> float:
    return quantity.standard_uncertainty / abs(quantity.value)


def _mean_photons(level: Level, measured: Mapping[Name, Quantity]) -> Quantity | None:
    fixed = measured.get(names.FIXED_ATTENUATION_DB)
    slope = measured.get(names.ATTENUATOR_SLOPE)
    if fixed is None or slope is None:
        return None
    mu = level.mean_photons
    return Quantity.of(
        mu,
        "1",
        {
            "monitor's readings": mu * level.relative_error,
            "loss from monitor to fibre": mu * PER_DB * fixed.standard_uncertainty,
            "attenuator's slope": mu * PER_DB * level.attenuation_db * slope.standard_uncertainty,
        },
        degrees_of_freedom={
            "monitor's readings": level.readings - 1.0,
            "loss from monitor to fibre": fixed.degrees_of_freedom,
            "attenuator's slope": slope.degrees_of_freedom,
        },
    )


def _gain(receiver: Receiver, measured: Mapping[Name, Quantity]) -> Quantity | None:
    per_volt = measured.get(names.GAIN_PER_V)
    if per_volt is None or not isinstance(receiver, CloneReceiver):
        return None
    relative = per_volt.standard_uncertainty / per_volt.value
    return Quantity.of(
        receiver.gain,
        "1",
        {"gain per volt": (receiver.gain - 1.0) * relative},
        degrees_of_freedom=per_volt.degrees_of_freedom,
    )


def _transmittance(
    estimate: Estimate | None, efficiency: Quantity | None, mean_photons: Quantity | None
) -> Quantity | None:
    if estimate is None or efficiency is None or mean_photons is None:
        return None
    found = estimate.transmittance
    return Quantity.of(
        found,
        "1",
        {
            "returned light": estimate.transmittance_error,
            "efficiency": found * _relative(efficiency),
            "mean photon number": found * _relative(mean_photons),
        },
        degrees_of_freedom={
            "efficiency": efficiency.degrees_of_freedom,
            "mean photon number": mean_photons.degrees_of_freedom,
        },
    )


def _excess_noise(estimate: Estimate | None, efficiency: Quantity | None) -> Quantity | None:
    if estimate is None or efficiency is None:
        return None
    found = estimate.excess_noise
    return Quantity.of(
        found,
        "SNU",
        {
            "returned light": estimate.excess_noise_error,
            "efficiency": abs(found) * _relative(efficiency),
        },
        degrees_of_freedom={"efficiency": efficiency.degrees_of_freedom},
    )
