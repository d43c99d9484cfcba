"""What a session on instruments does not know exactly, as sources of error for its bounds.

mu rests on the monitor, on the loss from there to the fibre and on the attenuator's slope; the
shot-noise unit in front of the receiver on the efficiency, on the electronic noise and on what the
local oscillator's intensity adds. The link's transmittance was calibrated with the same efficiency
and the same loss: where those records are still the ones in use, their errors cancel in the
transmittance found over that calibrated, and only what either reading itself adds is left.

Of what light adds to the receiver's noise, B - E, shot noise is S = (B - E)/(1 + x), x the local
oscillator's intensity noise by the record `balance`. Photons in front of the receiver are counted
in units of eta S. The efficiency was found as eta = K/S with the S of its own day, K in V^2 per
photon at the meter: eta S is K times the session's B - E over that day's, and x is in neither.
So an error of x is in the unit only where efficiency and session took x from different records.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from labctl.calibration import names
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.quantity import Quantity
from labctl.calibration.shot_noise import ReceiverCalibration, counted_excess
from labctl.protocols.verification.doubts import Doubts, Source, sources_of
from labctl.station.file import ServerConstants
from labctl.units import PER_DB

if TYPE_CHECKING:
    from labctl.protocols.server.transmitter import Level
    from labctl.protocols.verification.verdict import Expectation

_EFFICIENCY, _PHOTONS, _UNIT = "efficiency", "photon number", "shot-noise unit"
_EXCESS, _RECORDS = "excess noise", "records"
# Routines whose results are part of the calibrated transmittance and of a session's alike.
_IN_COMMON = ("efficiency", "photon_number", "attenuator")


def lo_excess_noise(knowledge: Knowledge) -> float:
    """Return the intensity noise of the server's local oscillator in SNU; 0 if not measured."""
    found = knowledge.quantities.get(names.LO_EXCESS_NOISE.of("server"))
    return 0.0 if found is None else counted_excess(found)


def bench_doubts(
    level: Level,
    calibration: ReceiverCalibration,
    knowledge: Knowledge,
    constants: ServerConstants,
) -> Doubts:
    """Return the doubts of a session whose light was set like this.

    A value without a record has the uncertainty of the station file's `constants`.
    """
    readings, slope, loss = _readings(level), _slope(level, knowledge), _loss(knowledge, constants)
    electronic = _electronic(calibration)
    efficiency = _of(
        knowledge,
        names.EFFICIENCY.of("server"),
        "efficiency",
        Quantity(constants.efficiency, constants.efficiency_uncertainty, "1"),
    )
    light = (readings, *slope, *loss)
    unit = (*efficiency, *electronic, *_excess(knowledge, "efficiency"))
    if not _shared(knowledge):
        expected = _of(
            knowledge,
            names.TRANSMITTANCE,
            "transmittance",
            Quantity(constants.transmittance, constants.transmittance_uncertainty, "1"),
        )
        both = (*unit, *light, *expected)
        return Doubts(light=light, unit=unit, share=both, client_noise=(*unit, *expected))
    own = _own(knowledge)
    apart = (readings, *slope, *electronic, *_excess(knowledge, "channel"), *own)
    # Noise over transmittance: the efficiency cancels, the photons that the link was lit with stay.
    return Doubts(light=light, unit=unit, share=apart, client_noise=(*apart, *loss))


def bench_expectation(
    honest: Expectation, doubts: Doubts, knowledge: Knowledge, constants: ServerConstants
) -> Expectation:
    """Return what honest use shows, with the uncertainty of the bench's constants and its doubts.

    honest: as the session's settings say it.
    """
    link = knowledge.known(
        names.TRANSMITTANCE,
        Quantity(constants.transmittance, constants.transmittance_uncertainty, "1"),
    )
    noise = knowledge.known(
        names.EXCESS_NOISE,
        Quantity(honest.excess_noise, constants.excess_noise_uncertainty, "SNU"),
    )
    return replace(
        honest,
        doubts=doubts,
        transmittance_uncertainty=link.standard_uncertainty,
        excess_noise_uncertainty=noise.standard_uncertainty,
    )


def light_doubts(level: Level, knowledge: Knowledge, constants: ServerConstants) -> Doubts:
    """Return the doubts of the light alone, where nobody looks at what returns."""
    slope, loss = _slope(level, knowledge), _loss(knowledge, constants)
    return Doubts(light=(_readings(level), *slope, *loss))


def _readings(level: Level) -> Source:
    return Source("monitor's readings", level.relative_error, max(level.readings - 1.0, 1.0))


def _of(knowledge: Knowledge, name: names.Name, what: str, nominal: Quantity) -> tuple[Source, ...]:
    """Return the sources of a measured constant, or of the `nominal` one of the station file."""
    if name in knowledge.quantities:
        return sources_of(knowledge.quantities[name], what)
    return sources_of(nominal, f"{what} by the station file")


def _loss(knowledge: Knowledge, constants: ServerConstants) -> tuple[Source, ...]:
    name = "loss from monitor to fibre"
    found = knowledge.quantities.get(names.FIXED_ATTENUATION_DB)
    if found is None:
        return (Source(name, PER_DB * constants.fixed_attenuation_uncertainty_db),)
    budget = found.budget or {name: found.standard_uncertainty}
    relative = {source: PER_DB * part for source, part in budget.items()}
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
    relative = PER_DB * level.attenuation_db * found.standard_uncertainty
    return (Source("attenuator's slope", relative, found.degrees_of_freedom),)


def _electronic(calibration: ReceiverCalibration) -> tuple[Source, ...]:
    """Return what is not known of B - E by the dark receiver's own readings."""
    if calibration.electronic_samples is None:
        return ()
    over_light = calibration.electronic_noise / (1.0 + calibration.lo_excess_noise)
    scatter = math.sqrt(2.0 / (calibration.electronic_samples - 1.0))
    return (Source("electronic noise", over_light * scatter),)


def _excess(knowledge: Knowledge, routine: str) -> tuple[Source, ...]:
    """Return the error of 1 + x; none where the routine's own unit rests on the same record."""
    excess = knowledge.quantities.get(names.LO_EXCESS_NOISE.of("server"))
    if excess is None or _rests_on(knowledge, routine, "balance"):
        return ()
    counted, error = counted_excess(excess), excess.standard_uncertainty
    # Of a detector that saturates nothing is taken off: all that may be there counts as error.
    most = math.hypot(excess.value - counted, error) / (1.0 + counted)
    return (Source("local oscillator's excess noise", most, excess.degrees_of_freedom),)


def _own(knowledge: Knowledge) -> tuple[Source, ...]:
    """Return what the calibrated transmittance has in it that a session's has not.

    With the same efficiency, light and x; of the unit that it was found in, the variances are left.
    Its few records stand apart: far out their Student's t is not hidden by what is known well.
    """
    found = knowledge.quantity(names.TRANSMITTANCE)
    name, shot = "calibrated transmittance", names.SHOT_NOISE_V2.of("server")
    left_out = [_EFFICIENCY, _PHOTONS]
    unit: tuple[Source, ...] = ()
    if (
        shot in knowledge.quantities
        and _rests_on(knowledge, "channel", "balance")
        and _rests_on(knowledge, "channel", "shot_noise")
    ):
        left_out.append(_UNIT)
        unit = sources_of(knowledge.quantities[shot], _UNIT, without=(_EXCESS,))
    if _RECORDS not in found.budget:
        return (*sources_of(found, name, without=left_out), *unit)
    others = [each for each in found.budget if each != _RECORDS]
    known = [each for each in others if each not in left_out]
    relative = math.hypot(*(found.budget[each] for each in known)) / abs(found.value)
    records = sources_of(found, name, without=others)
    return (*records, Source(f"{name}: {', '.join(known)}", relative), *unit)


def _rests_on(knowledge: Knowledge, routine: str, other: str) -> bool:
    """Tell whether a routine's record rests on the very record of another that is in use."""
    if routine in knowledge.doubts or other in knowledge.doubts:
        return False
    used = knowledge.foundations.get(routine, {})
    return other in used and used[other] == knowledge.records.get(other)


def _shared(knowledge: Knowledge) -> bool:
    """Tell whether the calibrated transmittance rests on the very records that a session uses."""
    if names.TRANSMITTANCE not in knowledge.quantities or "channel" in knowledge.doubts:
        return False
    return all(_rests_on(knowledge, "channel", name) for name in _IN_COMMON)
