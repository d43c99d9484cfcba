"""What a session on instruments does not know exactly, as sources of error for its bounds.

mu rests on the monitor, on the loss from there to the fibre and on the attenuator's slope; the
shot-noise unit in front of the receiver on the efficiency, on the electronic noise and on what the
local oscillator's intensity adds. The link's transmittance was calibrated with the same efficiency
and the same loss: where those records are still the ones in use, their errors cancel in the
transmittance found over that calibrated, and only what either reading itself adds is left.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from labctl.calibration import names
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.quantity import Quantity
from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.verification.doubts import Doubts, Source, sources_of
from labctl.station.file import ServerConstants

if TYPE_CHECKING:
    from labctl.protocols.server.transmitter import Level

_PER_DB = math.log(10.0) / 10.0
_EFFICIENCY, _PHOTONS = "efficiency", "photon number"
# Routines whose results are part of the calibrated transmittance and of a session's alike.
_IN_COMMON = ("efficiency", "photon_number", "attenuator")


def bench_doubts(
    level: Level,
    calibration: ReceiverCalibration,
    knowledge: Knowledge,
    constants: ServerConstants,
) -> Doubts:
    """Return the doubts of a session whose light was set like this.

    A value without a record has the uncertainty of the station file's `constants`.
    """
    readings = Source("monitor's readings", level.relative_error, max(level.readings - 1.0, 1.0))
    slope = _slope(level, knowledge)
    loss = _loss(knowledge, constants)
    electronic = _electronic(calibration, knowledge)
    efficiency = _of(
        knowledge,
        names.EFFICIENCY.of("server"),
        "efficiency",
        Quantity(constants.efficiency, constants.efficiency_uncertainty, "1"),
    )
    light = (readings, *slope, *loss)
    unit = (*efficiency, *electronic)
    if not _shared(knowledge):
        expected = _of(
            knowledge,
            names.TRANSMITTANCE,
            "transmittance",
            Quantity(constants.transmittance, constants.transmittance_uncertainty, "1"),
        )
        both = (*unit, *light, *expected)
        return Doubts(light=light, unit=unit, share=both, client_noise=(*unit, *expected))
    own = sources_of(
        knowledge.quantity(names.TRANSMITTANCE),
        "calibrated transmittance",
        without=(_EFFICIENCY, _PHOTONS),
    )
    apart = (readings, *slope, *electronic, *own)
    # Noise over transmittance: the efficiency cancels, the photons that the link was lit with stay.
    return Doubts(light=light, unit=unit, share=apart, client_noise=(*apart, *loss))


def _of(knowledge: Knowledge, name: names.Name, what: str, nominal: Quantity) -> tuple[Source, ...]:
    """Return the sources of a measured constant, or of the `nominal` one of the station file."""
    if name in knowledge.quantities:
        return sources_of(knowledge.quantities[name], what)
    return sources_of(nominal, f"{what} by the station file")


def _loss(knowledge: Knowledge, constants: ServerConstants) -> tuple[Source, ...]:
    name = "loss from monitor to fibre"
    found = knowledge.quantities.get(names.FIXED_ATTENUATION_DB)
    if found is None:
        return (Source(name, _PER_DB * constants.fixed_attenuation_uncertainty_db),)
    budget = found.budget or {name: found.standard_uncertainty}
    relative = {source: _PER_DB * part for source, part in budget.items()}
    as_share = Quantity.of(
        1.0,
        "1",
        relative,
        degrees_of_freedom=found.degrees_of_freedom,
        shapes={source: shape for source, shape in found.shapes.items() if source in relative},
    )
    return sources_of(as_share, name)


def _slope(level: Level, knowledge: Knowledge) -> tuple[Source, ...]:
    found = knowledge.quantities.get(names.ATTENUATOR_SLOPE)
    if found is None:
        return ()
    relative = _PER_DB * level.attenuation_db * found.standard_uncertainty
    return (Source("attenuator's slope", relative, found.degrees_of_freedom),)


def _electronic(calibration: ReceiverCalibration, knowledge: Knowledge) -> tuple[Source, ...]:
    """Return what is not known of B/S: B - E over S less the local oscillator's excess noise."""
    found = []
    if calibration.electronic_samples is not None:
        degrees = calibration.electronic_samples - 1.0
        relative = calibration.electronic_noise * math.sqrt(2.0 / degrees)
        found.append(Source("electronic noise", relative))
    excess = knowledge.quantities.get(names.LO_EXCESS_NOISE.of("server"))
    if excess is not None:
        # The unit of a session is stated without it: all that may be there counts as error.
        most = math.hypot(excess.value, excess.standard_uncertainty)
        found.append(Source("local oscillator's excess noise", most, excess.degrees_of_freedom))
    return tuple(found)


def _shared(knowledge: Knowledge) -> bool:
    """Tell whether the calibrated transmittance rests on the very records that a session uses."""
    if names.TRANSMITTANCE not in knowledge.quantities or "channel" in knowledge.doubts:
        return False
    channel = knowledge.foundations.get("channel", {})
    return all(
        name in channel and channel[name] == knowledge.records.get(name) for name in _IN_COMMON
    )
