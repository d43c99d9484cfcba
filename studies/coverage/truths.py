"""What calibration should find on a simulated bench, in closed form from its hidden components.

Each truth is a function of what is `Seen` when a routine has just ended. Nothing here comes from a
routine: an error that both made alike would hide. A quantity without a truth has a reason in
`UNJUDGED`.
"""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
from scipy import optimize

from labctl.calibration import names
from labctl.calibration.names import Name
from labctl.instruments.simulated.physics.grid import Seeds
from labctl.protocols.rotation import Rotation
from labctl.studies.coverage.modulator_truths import (
    bias_drift_v_rth,
    bias_half_wave_voltage_v,
    bias_null_v,
    bias_quadrature_v,
    carrier,
    generator_offset_v,
    half_wave_voltage_v,
    iq_gain,
    iq_quadrature_rad,
    lock_offset_rad,
)
from labctl.studies.coverage.receiver_truths import (
    arrival_s,
    band_edge_clearance_db,
    blocked_variance_v2,
    clearance_db,
    common_mode_rejection_db,
    efficiency,
    electronic_noise,
    electronic_noise_v2,
    lo_excess_noise,
    lo_linear_v2_w,
    lo_quadratic_v2_w2,
    scope_gain,
    scope_offset_v,
    shot_noise_v2,
)
from labctl.studies.coverage.seen import Seen, Truth, party_of
from labctl.units import db_to_ratio, photon_energy_j, ratio_to_db

# Their mean scatters by 1/20 of what one mode's overlap does.
_OVERLAPS = 400
_FRAME = "COVERAGE"

Kind = Name | names.Family[Any]
# What is left with a correction, by what it was corrected by.
_CORRECTED_BY = {
    names.DRIVE_LEFT.gain: names.DRIVE.gain,
    names.DRIVE_LEFT.quadrature_rad: names.DRIVE.quadrature_rad,
    **dict(zip(names.DRIVE_LEFT.carrier, names.DRIVE.carrier, strict=True)),
}


def _left(truth: Truth, over: bool = False) -> Truth:
    """Return the truth of what a correction by the value found leaves: difference, or ratio."""

    def left(seen: Seen, name: Name) -> float:
        corrected = seen.found(_CORRECTED_BY[name])
        true = truth(seen, name)
        return true / corrected if over else true - corrected

    return left


def attenuator_slope(seen: Seen, name: Name) -> float:
    """Return dB of attenuation per dB that is set."""
    return seen.truth.attenuator_scale


def _fibre_over_modulator(seen: Seen) -> float:
    """Return power in the fibre over power after the modulator, with the attenuator at 0 dB."""
    truth = seen.truth
    loss_db = truth.transmitter_loss_db - truth.insertion_loss_db
    passed = (1.0 - truth.tap_fraction) * db_to_ratio(-loss_db)
    return passed * seen.world.optics.past_tap("launch")


def launch_over_monitor(seen: Seen, name: Name) -> float:
    """Return power in the fibre over what the monitor reads with its rated responsivity."""
    rated_a_w = seen.table.monitor.responsivity_a_w
    read = seen.truth.tap_fraction * seen.truth.responsivity_a_w / rated_a_w
    return _fibre_over_modulator(seen) / read


def fixed_attenuation_db(seen: Seen, name: Name) -> float:
    """Return what, with the station's monitor ratio, makes the fibre's power of the reading."""
    nominal = seen.bench.equipment.server.constants.monitor_ratio
    return ratio_to_db(nominal / launch_over_monitor(seen, name))


def mean_photons(seen: Seen, name: Name) -> float:
    """Return the payload's photons per mode: its power, played again, over that of a photon.

    What the modulator leaks at rest is not the payload's.
    """
    symbols = np.asarray(seen.outcome.raw["payload_symbols"], np.complex64)
    sender, layout = seen.bench.sender, seen.layout(rows=8, modes=256)
    sender.rest()
    rest_w = seen.world.modulated_power_w()
    sender.upload(_FRAME, layout, symbols)
    sender.play(_FRAME)
    power_w = seen.world.modulated_power_w() - rest_w
    sender.forget()
    energy_j = power_w * _fibre_over_modulator(seen) * layout.duration_s
    frequency_hz = seen.world.optics.laser.frequency_hz
    return energy_j / photon_energy_j(frequency_hz) / (layout.rows * layout.modes)


def phase_shifter_v_pi_v(seen: Seen, name: Name) -> float:
    """Return the shifter's V_pi in the volts of the generator that drives it."""
    truth = seen.truth.server if party_of(name) == "server" else seen.truth.client
    return truth.phase_shifter_v_pi_v / seen.truth.generator_gain[f"{party_of(name)}_lo_phase"]


def forward_transmittance(seen: Seen, name: Name) -> float:
    """Return what reaches the client of what enters the fibre: the leg, past the arrival tap."""
    return seen.truth.forward_transmittance * seen.world.optics.past_tap("arrival")


def back_transmittance(seen: Seen, name: Name) -> float:
    """Return what reaches the server of what an idle client returns: the leg, past the return tap.

    An idle rotation passes all light by the clone, whose net gain counts.
    """
    net = abs(seen.world.optics.rotation.net_amplitude()) ** 2
    return net * seen.truth.back_transmittance * seen.world.optics.past_tap("return")


def leg_transmittance(seen: Seen, name: Name) -> float:
    """Return what the meters should find of each way."""
    of_leg = {
        "forward": forward_transmittance,
        "back": back_transmittance,
        "meter": round_trip_transmittance,
    }
    return of_leg[names.LEG_TRANSMITTANCE.member(name)](seen, name)


def round_trip_transmittance(seen: Seen, name: Name) -> float:
    """Return both legs' product."""
    return forward_transmittance(seen, name) * back_transmittance(seen, name)


def excess_noise(seen: Seen, name: Name) -> float:
    """Return 0: with the amplifier at rest vacuum comes back as vacuum."""
    return 0.0


def gain_per_v(seen: Seen, name: Name) -> float:
    """Return the amplifier's gain per volt that its control's generator is set to."""
    return seen.truth.gain_per_v * seen.truth.generator_gain["client_gain"]


def emission_factor(seen: Seen, name: Name) -> float:
    """Return the amplifier's spontaneous-emission factor."""
    return seen.truth.emission_factor


def clone_gain_error(seen: Seen, name: Name) -> float:
    """Return the net gain of the clone over 1, less 1, drift until now counted."""
    return abs(seen.world.optics.rotation.net_amplitude()) - 1.0


def clone_phase_rad(seen: Seen, name: Name) -> float:
    """Return the phase of what the clone returns, drift until now counted."""
    return cmath.phase(seen.world.optics.rotation.net_amplitude())


def rotation_loss_db(seen: Seen, name: Name) -> float:
    """Return the loss of each element."""
    return seen.truth.loss_db_per_mode


def rotation_fidelity(seen: Seen, name: Name) -> float:
    """Return the mean overlap of wanted and collected mode, over random modes.

    By the line of elements: number k adds mode k by the sine of its angle, and those after it
    pass it on by their cosines; phases add up. Angles and phases are off by what the bench's seed
    makes of the deviations.
    """
    modes = int(seen.settings["client.block_modes"])
    truth = seen.truth
    sequence = Seeds(seen.table.seed).sequence("rotation elements")
    errors = np.random.Generator(np.random.SFC64(sequence)).standard_normal((modes, 2))
    errors[0, 0] = 0.0
    draw = np.random.default_rng(0)
    power = np.sum(draw.standard_normal((_OVERLAPS, modes, 2)) ** 2, axis=2)
    power /= power.sum(axis=1, keepdims=True)
    before = np.cumsum(power, axis=1) - power
    angle = np.arctan2(np.sqrt(power), np.sqrt(np.maximum(before, 0.0)))
    angle[:, 0] = math.pi / 2.0
    angle += truth.coupler_error_rad * errors[:, 0]
    later = np.cumprod(np.cos(angle[:, :0:-1]), axis=1)[:, ::-1]
    passed_on = np.append(later, np.ones((_OVERLAPS, 1)), axis=1)
    turned = np.cos(truth.phase_error_rad * np.cumsum(errors[:, 1]))
    return float(np.mean(np.sum(np.sqrt(power) * np.sin(angle) * passed_on * turned, axis=1)))


def rotation_error_rad(seen: Seen, name: Name) -> float:
    """Return the phase error of each element that alone would make the fidelity."""
    modes = int(seen.settings["client.block_modes"])
    fidelity = rotation_fidelity(seen, name)
    if fidelity >= 1.0:
        return 0.0
    return float(
        optimize.brentq(
            lambda error_rad: Rotation(phase_error_rad=error_rad).overlap(modes) - fidelity,
            0.0,
            0.5,
        )
    )


TRUTHS: dict[Kind, Truth] = {
    names.SCOPE_OFFSET_V["server"]: scope_offset_v,
    names.SCOPE_OFFSET_V["client"]: scope_offset_v,
    names.SCOPE_GAIN: scope_gain,
    names.GENERATOR_OFFSET_V: generator_offset_v,
    names.V_PI_V: half_wave_voltage_v,
    names.BIAS_V_PI_V: bias_half_wave_voltage_v,
    names.BIAS_NULL_V: bias_null_v,
    names.BIAS_QUADRATURE_V: bias_quadrature_v,
    names.LOCK_OFFSET_RAD: lock_offset_rad,
    names.BIAS_DRIFT_V_RTH: bias_drift_v_rth,
    names.DRIVE.gain: iq_gain,
    names.DRIVE.quadrature_rad: iq_quadrature_rad,
    names.DRIVE.carrier: carrier,
    names.DRIVE_LEFT.gain: _left(iq_gain, over=True),
    names.DRIVE_LEFT.quadrature_rad: _left(iq_quadrature_rad),
    names.DRIVE_LEFT.carrier: _left(carrier),
    names.ATTENUATOR_SLOPE: attenuator_slope,
    names.ATTENUATOR_SLOPE_HOMODYNE: attenuator_slope,
    names.LAUNCH_OVER_MONITOR: launch_over_monitor,
    names.FIXED_ATTENUATION_DB: fixed_attenuation_db,
    names.MEAN_PHOTONS_0_DB: mean_photons,
    names.PHASE_SHIFTER_V_PI_V: phase_shifter_v_pi_v,
    names.ELECTRONIC_NOISE_V2: electronic_noise_v2,
    names.ELECTRONIC_NOISE: electronic_noise,
    names.SHOT_NOISE_V2: shot_noise_v2,
    names.BLOCKED_VARIANCE_V2: blocked_variance_v2,
    names.LO_LINEAR_V2_W: lo_linear_v2_w,
    names.LO_QUADRATIC_V2_W2: lo_quadratic_v2_w2,
    names.LO_EXCESS_NOISE: lo_excess_noise,
    names.COMMON_MODE_REJECTION_DB: common_mode_rejection_db,
    names.CLEARANCE_DB: clearance_db,
    names.BAND_EDGE_CLEARANCE_DB: band_edge_clearance_db,
    names.EFFICIENCY: efficiency,
    names.LEG_TRANSMITTANCE: leg_transmittance,
    names.TRANSMITTANCE: round_trip_transmittance,
    names.ARRIVAL_S: arrival_s,
    names.EXCESS_NOISE: excess_noise,
    names.GAIN_PER_V: gain_per_v,
    names.EMISSION_FACTOR: emission_factor,
    names.CLONE_GAIN_ERROR: clone_gain_error,
    names.CLONE_PHASE_RAD: clone_phase_rad,
    names.ROTATION_LOSS_DB_PER_MODE: rotation_loss_db,
    names.ROTATION_FIDELITY: rotation_fidelity,
    names.ROTATION_ERROR_RAD: rotation_error_rad,
}

UNJUDGED: dict[Kind, str] = {
    names.NOISE_RANGE_V: "a setting, without uncertainty",
    names.BLOCKED_SAMPLES: "a count, without uncertainty",
    **dict.fromkeys(
        (names.DRIVE.cubic, names.DRIVE_LEFT.cubic),
        "what filters leave of the drive's bend has no closed form",
    ),
}


def _is_of(name: str, kind: Kind) -> bool:
    return name in kind if isinstance(kind, names.Family) else name == kind


def truth_of(name: Name, seen: Seen) -> float | None:
    """Return a quantity's truth on a bench, None where there is none."""
    truth = next((each for kind, each in TRUTHS.items() if _is_of(name, kind)), None)
    return None if truth is None else truth(seen, name)


def why_unjudged(name: str) -> str:
    """Return why a quantity has no truth."""
    known = (why for kind, why in UNJUDGED.items() if _is_of(name, kind))
    return next(known, "no truth is known")
