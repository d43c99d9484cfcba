"""What calibration should find on a simulated bench, in closed form from its hidden components.

Each truth is a function of what is `Seen` when a routine has just ended. Nothing here comes from a
routine: an error that both made alike would hide. A quantity without a truth has a reason in
`UNJUDGED`.
"""

from __future__ import annotations

import cmath
import math
from fnmatch import fnmatchcase

import numpy as np
from scipy import optimize

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

_OVERLAPS = 400
_FRAME = "COVERAGE"


def _left(truth: Truth, over: bool = False) -> Truth:
    """Return the truth of what a correction by the value found leaves: difference, or ratio."""

    def left(seen: Seen, name: str) -> float:
        corrected = seen.found(name.replace("_left", ""))
        true = truth(seen, name)
        return true / corrected if over else true - corrected

    return left


def attenuator_slope(seen: Seen, name: str) -> float:
    """Return dB of attenuation per dB that is set."""
    return seen.truth.attenuator_scale


def _fibre_over_modulator(seen: Seen) -> float:
    """Return power in the fibre over power after the modulator, with the attenuator at 0 dB."""
    truth = seen.truth
    loss_db = truth.transmitter_loss_db - truth.insertion_loss_db
    passed = (1.0 - truth.tap_fraction) * db_to_ratio(-loss_db)
    return passed * seen.world.optics.past_tap("launch")


def launch_over_monitor(seen: Seen, name: str) -> float:
    """Return power in the fibre over what the monitor reads with its rated responsivity."""
    rated_a_w = seen.table.monitor.responsivity_a_w
    read = seen.truth.tap_fraction * seen.truth.responsivity_a_w / rated_a_w
    return _fibre_over_modulator(seen) / read


def fixed_attenuation_db(seen: Seen, name: str) -> float:
    """Return what, with the station's monitor ratio, makes the fibre's power of the reading."""
    nominal = seen.bench.equipment.server.constants.monitor_ratio
    return ratio_to_db(nominal / launch_over_monitor(seen, name))


def mean_photons(seen: Seen, name: str) -> float:
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


def phase_shifter_v_pi_v(seen: Seen, name: str) -> float:
    """Return the shifter's V_pi in the volts of the generator that drives it."""
    truth = seen.truth.server if party_of(name) == "server" else seen.truth.client
    return truth.phase_shifter_v_pi_v / seen.truth.generator_gain[f"{party_of(name)}_lo_phase"]


def forward_transmittance(seen: Seen, name: str) -> float:
    """Return what reaches the client of what enters the fibre: the leg, past the arrival tap."""
    return seen.truth.forward_transmittance * seen.world.optics.past_tap("arrival")


def back_transmittance(seen: Seen, name: str) -> float:
    """Return what reaches the server of what an idle client returns: the leg, past the return tap.

    An idle rotation passes all light by the clone, whose net gain counts.
    """
    net = abs(seen.world.optics.rotation.net_amplitude()) ** 2
    return net * seen.truth.back_transmittance * seen.world.optics.past_tap("return")


def round_trip_transmittance(seen: Seen, name: str) -> float:
    """Return both legs' product."""
    return forward_transmittance(seen, name) * back_transmittance(seen, name)


def excess_noise(seen: Seen, name: str) -> float:
    """Return 0: with the amplifier at rest vacuum comes back as vacuum."""
    return 0.0


def gain_per_v(seen: Seen, name: str) -> float:
    """Return the amplifier's gain per volt that its control's generator is set to."""
    return seen.truth.gain_per_v * seen.truth.generator_gain["client_gain"]


def emission_factor(seen: Seen, name: str) -> float:
    """Return the amplifier's spontaneous-emission factor."""
    return seen.truth.emission_factor


def clone_gain_error(seen: Seen, name: str) -> float:
    """Return the net gain of the clone over 1, less 1, drift till now counted."""
    return abs(seen.world.optics.rotation.net_amplitude()) - 1.0


def clone_phase_rad(seen: Seen, name: str) -> float:
    """Return the phase of what the clone returns, drift till now counted."""
    return cmath.phase(seen.world.optics.rotation.net_amplitude())


def rotation_loss_db(seen: Seen, name: str) -> float:
    """Return the loss of each element."""
    return seen.truth.loss_db_per_mode


def rotation_fidelity(seen: Seen, name: str) -> float:
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


def rotation_error_rad(seen: Seen, name: str) -> float:
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


TRUTHS: dict[str, Truth] = {
    "*.scope_offset_*mv_v": scope_offset_v,
    "server.scope_gain_*mv": scope_gain,
    "server.generator_offset_?_v": generator_offset_v,
    "server.v_pi_?_v": half_wave_voltage_v,
    "server.bias_v_pi_*_v": bias_half_wave_voltage_v,
    "server.bias_null_*_v": bias_null_v,
    "server.bias_quadrature_*_v": bias_quadrature_v,
    "server.lock_offset_*_rad": lock_offset_rad,
    "server.bias_drift_*_v_rth": bias_drift_v_rth,
    "server.iq_gain": iq_gain,
    "server.iq_quadrature_rad": iq_quadrature_rad,
    "server.carrier_?": carrier,
    "server.iq_gain_left": _left(iq_gain, over=True),
    "server.iq_quadrature_left_rad": _left(iq_quadrature_rad),
    "server.carrier_?_left": _left(carrier),
    "server.attenuator_slope": attenuator_slope,
    "server.attenuator_slope_homodyne": attenuator_slope,
    "server.launch_over_monitor": launch_over_monitor,
    "server.fixed_attenuation_db": fixed_attenuation_db,
    "server.mean_photons_0_db": mean_photons,
    "*.phase_shifter_v_pi_v": phase_shifter_v_pi_v,
    "*.electronic_noise_v2": electronic_noise_v2,
    "*.electronic_noise": electronic_noise,
    "*.shot_noise_v2": shot_noise_v2,
    "*.blocked_variance_v2": blocked_variance_v2,
    "*.lo_linear_v2_w": lo_linear_v2_w,
    "*.lo_quadratic_v2_w2": lo_quadratic_v2_w2,
    "*.lo_excess_noise": lo_excess_noise,
    "*.common_mode_rejection_db": common_mode_rejection_db,
    "*.clearance_db": clearance_db,
    "*.band_edge_clearance_db": band_edge_clearance_db,
    "*.efficiency": efficiency,
    "server.forward_transmittance": forward_transmittance,
    "server.back_transmittance": back_transmittance,
    "server.transmittance": round_trip_transmittance,
    "server.meter_transmittance": round_trip_transmittance,
    "*.arrival_s": arrival_s,
    "server.excess_noise": excess_noise,
    "client.gain_per_v": gain_per_v,
    "client.emission_factor": emission_factor,
    "client.clone_gain_error": clone_gain_error,
    "client.clone_phase_rad": clone_phase_rad,
    "client.rotation_loss_db_per_mode": rotation_loss_db,
    "client.rotation_fidelity": rotation_fidelity,
    "client.rotation_error_rad": rotation_error_rad,
}

UNJUDGED: dict[str, str] = {
    "*.noise_range_v": "a setting, without uncertainty",
    "*.blocked_samples": "a count, without uncertainty",
    "server.drive_cubic_*": "what filters leave of the drive's bend has no closed form",
}


def truth_of(name: str, seen: Seen) -> float | None:
    """Return a quantity's truth on a bench, None where there is none."""
    truth = next((each for pattern, each in TRUTHS.items() if fnmatchcase(name, pattern)), None)
    return None if truth is None else truth(seen, name)


def why_unjudged(name: str) -> str:
    """Return why a quantity has no truth."""
    known = (why for pattern, why in UNJUDGED.items() if fnmatchcase(name, pattern))
    return next(known, "no truth is known")
