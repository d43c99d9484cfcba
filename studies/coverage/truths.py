"""What calibration should find on a simulated bench, in closed form from its hidden components.

Each truth is a function of what is `Seen` when a routine has just ended. Nothing here comes from a
routine: an error that both made alike would hide. A quantity without a truth has a reason in
`UNJUDGED`.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from scipy import optimize, signal

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.record import SettingValue
from labctl.calibration.routine import Outcome
from labctl.dsp.layout import FrameLayout
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_light import Receiver
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.bench_truth import BenchTruth
from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.grid import Seeds, Window
from labctl.instruments.simulated.physics.modulator import BiasElectrode
from labctl.instruments.simulated.ports import Drive
from labctl.protocols.rotation import Rotation
from labctl.units import ELEMENTARY_CHARGE_C, db_to_ratio, photon_energy_j, ratio_to_db

Reals = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_PARTS = ("i", "q", "parent")
_PULSE_SAMPLES, _PULSE_START = 256, 100
_OVERLAPS = 400
_FRAME = "COVERAGE"


@dataclass(frozen=True)
class Seen:
    """A bench as a routine has left it, the file that it was drawn from, and what was found."""

    world: LinkBench
    table: BenchFile
    bench: CalibrationBench
    outcome: Outcome
    settings: Mapping[str, SettingValue]

    @property
    def truth(self) -> BenchTruth:
        """The drawn parameters."""
        return self.world.truth()

    def found(self, name: str) -> float:
        """Return a value of this routine, or of one that it rests on."""
        quantities = self.outcome.quantities
        known = quantities if name in quantities else self.bench.knowledge.quantities
        return known[name].value

    def receiver(self, name: str) -> Receiver:
        """Return the receiver of the party that a quantity is of."""
        return self.world.optics.receivers[party_of(name)]

    def layout(self, rows: int = 1, modes: int = 1) -> FrameLayout:
        """Return a frame of the station's."""
        return self.bench.sender.layout(rows=rows, modes=modes)


Truth = Callable[[Seen, str], float]


def party_of(name: str) -> str:
    """Return the party that a quantity is of."""
    return name.partition(".")[0]


def _part_of(name: str) -> int:
    """Return the place of the electrode that a quantity's name tells."""
    words = name.replace(".", "_").split("_")
    return next(place for place, part in enumerate(_PARTS) if part in words)


def scope_offset_v(seen: Seen, name: str) -> float:
    """Return the offset of the digitizer's channel, the same in all ranges."""
    truth = seen.truth.server if party_of(name) == "server" else seen.truth.client
    return truth.digitizer_offset_v[0]


def scope_gain(seen: Seen, name: str) -> float:
    """Return 1: a channel has one gain in all ranges."""
    return 1.0


def generator_offset_v(seen: Seen, name: str) -> float:
    """Return the offset in the generator's own volts, of which its gain makes volts."""
    drive = ("modulator_i", "modulator_q")[_part_of(name)]
    return seen.truth.generator_offset_v[drive] / seen.truth.generator_gain[drive]


def half_wave_voltage_v(seen: Seen, name: str) -> float:
    """Return V_pi at the laser's wavelength, in the generator's own volts."""
    place = _part_of(name)
    gain = seen.truth.generator_gain[("modulator_i", "modulator_q")[place]]
    return bias_half_wave_voltage_v(seen, name) / gain


def bias_half_wave_voltage_v(seen: Seen, name: str) -> float:
    """Return V_pi at the laser's wavelength, in volts on the electrode."""
    scale = seen.world.optics.modulator.wavelength_scale()
    return seen.truth.v_pi_v[_part_of(name)] * scale


def _bias_point_v(seen: Seen, name: str, target_rad: float) -> float:
    """Return the voltage that brings an electrode to a phase, drift till now counted.

    u = offset + drift + pi V / (2 V_pi).
    """
    optics, place = seen.world.optics.modulator, _part_of(name)
    electrode: BiasElectrode = (optics.child_i, optics.child_q, optics.parent)[place]
    away_rad = target_rad - seen.truth.offset_rad[place] - electrode.drift_rad()
    return away_rad * 2.0 * bias_half_wave_voltage_v(seen, name) / math.pi


def bias_null_v(seen: Seen, name: str) -> float:
    """Return where u = pi/2, nearest to the one found.

    A child's recurs with 2 V_pi, the parent's extremum with V_pi: its fields add as exp(2iu).
    """
    period_v = bias_half_wave_voltage_v(seen, name) * (1.0 if _part_of(name) == 2 else 2.0)
    return _nearest(_bias_point_v(seen, name, math.pi / 2.0), period_v, seen.found(name))


def bias_quadrature_v(seen: Seen, name: str) -> float:
    """Return a quadrature, half of V_pi past a child's null, or the parent's at u = pi/4."""
    v_pi_v = bias_half_wave_voltage_v(seen, name)
    target_rad = math.pi / 4.0 if _part_of(name) == 2 else 3.0 * math.pi / 4.0
    return _nearest(_bias_point_v(seen, name, target_rad), v_pi_v, seen.found(name))


def _nearest(value: float, period: float, to: float) -> float:
    """Return what recurs with a period where it is nearest to something."""
    return to - math.remainder(to - value, period)


def lock_offset_rad(seen: Seen, name: str) -> float:
    """Return how far off its own null a child's lock settles: atan of the other's leaked field."""
    leak = 10.0 ** (-seen.truth.extinction_ratio_db / 20.0)
    return (-math.atan(leak), math.atan(leak), 0.0)[_part_of(name)]


def bias_drift_v_rth(seen: Seen, name: str) -> float:
    """Return the rate of the electrode's random walk, which the file gives in V_pi."""
    return seen.table.modulator.bias_drift_v_pi_rth * bias_half_wave_voltage_v(seen, name)


def iq_gain(seen: Seen, name: str) -> float:
    """Return Q's field per symbol over I's: what V_pi was taken for, over what it is."""
    constants = seen.bench.equipment.server.constants
    known = (constants.v_pi_i_v, constants.v_pi_q_v)
    true = [half_wave_voltage_v(seen, f"v_pi_{part}_v") for part in "iq"]
    return known[1] / true[1] / (known[0] / true[0])


def _axes(seen: Seen) -> tuple[complex, complex, complex]:
    """Return the modulator's field per volt of I and of Q, and with both outputs at 0 V.

    By small steps around the generator's own offsets.
    """
    modulator, offset_v = seen.world.optics.modulator, seen.truth.generator_offset_v
    at_i, at_q = offset_v["modulator_i"], offset_v["modulator_q"]
    step = np.array([-0.01, 0.01, 0.0, 0.0, 0.0], np.float32)
    field = modulator.transfer(step + np.float32(at_i), step[[2, 2, 0, 1, 2]] + np.float32(at_q))
    return complex(field[1] - field[0]), complex(field[3] - field[2]), complex(field[4])


def iq_quadrature_rad(seen: Seen, name: str) -> float:
    """Return by how much Q's axis is more than a quarter turn ahead of I's."""
    along_i, along_q, _ = _axes(seen)
    return cmath.phase(along_q / along_i) - math.pi / 2.0


def carrier(seen: Seen, name: str) -> float:
    """Return what is left without a symbol, along I or Q, over a child's largest field."""
    along_i, _, rest = _axes(seen)
    largest = 0.5 * 10.0 ** (-seen.truth.insertion_loss_db / 20.0)
    turned: complex = rest * along_i.conjugate() / abs(along_i) / largest
    return turned.real if _part_of(name) == 0 else turned.imag


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


@dataclass(frozen=True)
class _Noise:
    """A receiver's noise per sample of the grid in V^2: what passes its band, and what is white."""

    shot: float
    intensity: float
    electronic: float
    white: float


def _noise(seen: Seen, name: str) -> _Noise:
    """Return a receiver's noise: shot 2eI, the laser's that is not rejected, and electronic.

    White is what the digitizer adds: its own, and a step's square over 12.
    """
    receiver, grid_hz = seen.receiver(name), seen.world.grid_hz
    p, digitizer = receiver.detector.parameters, receiver.digitizer
    laser_power_w = seen.bench.equipment.server.laser_power_w
    lo_w = laser_power_w * receiver.lo_fraction
    energy_j = photon_energy_j(seen.world.optics.laser.frequency_hz)
    current_a = ELEMENTARY_CHARGE_C * p.efficiency_at(lo_w) * lo_w / energy_j
    unbalanced_a = current_a * 10.0 ** (-p.common_mode_rejection_db / 20.0)
    band_hz = grid_hz / 2.0
    scale = (p.transimpedance_v_a * digitizer.error(1)[0]) ** 2 * band_hz
    step_v = seen.found(f"{party_of(name)}.noise_range_v") / 2**digitizer.bits
    return _Noise(
        shot=scale * 2.0 * ELEMENTARY_CHARGE_C * current_a,
        intensity=scale * unbalanced_a**2 * db_to_ratio(seen.world.optics.rin_db_hz),
        electronic=scale * p.electronic_noise_a_rthz**2,
        white=digitizer.noise_v**2 + step_v**2 / 12.0,
    )


def _sections(seen: Seen, name: str) -> Reals:
    """Return the detector's second-order Butterworth filter."""
    bandwidth_hz = seen.receiver(name).detector.parameters.bandwidth_hz
    return np.asarray(signal.butter(2, bandwidth_hz, fs=seen.world.grid_hz, output="sos"))


def _in_the_mode(seen: Seen, name: str) -> _Noise:
    """Return a receiver's noise in the matched filter: |sum of pulse times response|^2 of it."""
    layout = seen.layout()
    pulse = layout.pulses(np.ones(1, np.float32)).astype(np.float64)
    pulse /= math.sqrt(float(pulse @ pulse))
    response = signal.sosfilt(_sections(seen, name), np.eye(1, 4096)[0])
    through = float(np.sum(np.correlate(response, pulse, mode="full") ** 2))
    n = _noise(seen, name)
    return _Noise(n.shot * through, n.intensity * through, n.electronic * through, n.white)


def electronic_noise_v2(seen: Seen, name: str) -> float:
    """Return the variance without light in the matched filter."""
    noise = _in_the_mode(seen, name)
    return noise.electronic + noise.white


def shot_noise_v2(seen: Seen, name: str) -> float:
    """Return the shot noise's variance in the matched filter, at the station's laser power."""
    return _in_the_mode(seen, name).shot


def electronic_noise(seen: Seen, name: str) -> float:
    """Return electronic over shot noise."""
    return electronic_noise_v2(seen, name) / shot_noise_v2(seen, name)


def blocked_variance_v2(seen: Seen, name: str) -> float:
    """Return the variance with local oscillator and vacuum: all noise there is."""
    noise = _in_the_mode(seen, name)
    return noise.shot + noise.intensity + noise.electronic + noise.white


def lo_linear_v2_w(seen: Seen, name: str) -> float:
    """Return shot noise per watt of the laser."""
    return shot_noise_v2(seen, name) / seen.bench.equipment.server.laser_power_w


def lo_quadratic_v2_w2(seen: Seen, name: str) -> float:
    """Return intensity noise per square of the laser's power."""
    power_w = seen.bench.equipment.server.laser_power_w
    return _in_the_mode(seen, name).intensity / power_w**2


def lo_excess_noise(seen: Seen, name: str) -> float:
    """Return intensity over shot noise at the station's laser power."""
    noise = _noise(seen, name)
    return noise.intensity / noise.shot


def clearance_db(seen: Seen, name: str) -> float:
    """Return shot plus electronic over electronic noise in the matched filter."""
    return ratio_to_db(1.0 + shot_noise_v2(seen, name) / electronic_noise_v2(seen, name))


def band_edge_clearance_db(seen: Seen, name: str) -> float:
    """Return the same between 7/4 and twice the symbol rate, by what the filter leaves there."""
    edge_hz = 2.0 * seen.bench.equipment.frame.symbol_rate_hz
    band_hz = np.linspace(0.875 * edge_hz, edge_hz, 65)
    _, response = signal.sosfreqz(_sections(seen, name), worN=band_hz, fs=seen.world.grid_hz)
    passed, noise = float(np.mean(np.abs(response) ** 2)), _noise(seen, name)
    return ratio_to_db(1.0 + noise.shot * passed / (noise.electronic * passed + noise.white))


def _pulse(seen: Seen, name: str) -> tuple[float, float]:
    """Return the share of a pulse's energy that the matched filter takes, and its delay in s.

    The generator's stage and the detector smear the pulse that the filter expects; the filter
    stands where it takes most. Its share counts what it lets through of the noise.
    """
    layout, grid_hz = seen.layout(), seen.world.grid_hz
    step, place = layout.samples_per_symbol, np.arange(_PULSE_SAMPLES, dtype=np.float64)
    pulse = layout.pulse_shape.field((place - _PULSE_START) / step)
    smooth = _smeared(seen, pulse.astype(np.float32))
    sections = _sections(seen, name)
    record = signal.sosfilt(sections, smooth)
    starts = np.arange(_PULSE_START - 1.0, _PULSE_START + 2.5, 0.002)
    weights = np.asarray(layout.pulse_shape.field((place[None, :] - starts[:, None]) / step))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    read = weights @ record
    best = min(max(int(np.argmax(read)), 1), len(read) - 2)
    before, top, after = (float(each) for each in read[best - 1 : best + 2])
    beside = 0.5 * (before - after) / (before - 2.0 * top + after)
    delay = float(starts[best] - _PULSE_START) + beside * float(starts[1] - starts[0])
    response = signal.sosfilt(sections, np.eye(1, 1024)[0])
    noise = float(np.sum(np.correlate(response, weights[best], mode="full") ** 2))
    share = float(read[best]) ** 2 / float(smooth @ smooth) / noise
    return share, delay / grid_hz


def _smeared(seen: Seen, samples_v: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Reals:
    """Return what a generator's stage of the bench's bandwidth, else perfect, makes of samples."""
    grid_hz = seen.world.grid_hz
    ideal = DriveParameters(24, 4.0, seen.truth.generator_bandwidth_hz, 0.0)
    stage = DriveOutput(ideal, grid_hz, Seeds(0).noise("none"))
    stage.play(Drive(samples_v, grid_hz, 0.0, 1, 0.0))
    return stage.voltage(Window(0, len(samples_v))).astype(np.float64)


def efficiency(seen: Seen, name: str) -> float:
    """Return the detector's efficiency times the share of a pulse in the matched filter's mode."""
    receiver = seen.receiver(name)
    lo_w = seen.bench.equipment.server.laser_power_w * receiver.lo_fraction
    return receiver.detector.parameters.efficiency_at(lo_w) * _pulse(seen, name)[0]


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


def arrival_s(seen: Seen, name: str) -> float:
    """Return delays of fibres and storage on the bench's time grid, and of pulse and detector."""
    truth, storage = seen.truth, seen.world.optics.rotation.parameters.storage_samples
    way_s = truth.forward_delay_s
    if party_of(name) == "server":
        way_s += storage / seen.world.grid_hz + truth.back_delay_s
    return way_s + _pulse(seen, name)[1]


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


def common_mode_rejection_db(seen: Seen, name: str) -> float:
    """Return the detector's own rejection."""
    truth = seen.truth.server if party_of(name) == "server" else seen.truth.client
    return truth.common_mode_rejection_db


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
