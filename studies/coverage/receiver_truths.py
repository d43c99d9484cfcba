"""What calibration should find of the receivers: noise, clearance, efficiency, delay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import signal

from labctl.calibration.names import NOISE_RANGE_V, Name
from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.grid import Seeds, Window
from labctl.instruments.simulated.ports import Drive
from labctl.studies.coverage.seen import Seen, party_of
from labctl.units import ELEMENTARY_CHARGE_C, db_to_ratio, photon_energy_j, ratio_to_db

Reals = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
# A pulse with room on both sides of its centre.
_PULSE_SAMPLES, _PULSE_START = 256, 100


def scope_offset_v(seen: Seen, name: Name) -> float:
    """Return the offset of the digitizer's channel, the same in all ranges."""
    truth = seen.truth.server if party_of(name) == "server" else seen.truth.client
    return truth.digitizer_offset_v[0]


def scope_gain(seen: Seen, name: Name) -> float:
    """Return 1: a channel has one gain in all ranges."""
    return 1.0


@dataclass(frozen=True)
class _Noise:
    """A receiver's noise per sample of the grid in V^2: what passes its band, and what is white."""

    shot: float
    intensity: float
    electronic: float
    white: float


def _noise(seen: Seen, name: Name) -> _Noise:
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
    step_v = seen.found(NOISE_RANGE_V.of(party_of(name))) / 2**digitizer.bits
    return _Noise(
        shot=scale * 2.0 * ELEMENTARY_CHARGE_C * current_a,
        intensity=scale * unbalanced_a**2 * db_to_ratio(seen.world.optics.rin_db_hz),
        electronic=scale * p.electronic_noise_a_rthz**2,
        white=digitizer.noise_v**2 + step_v**2 / 12.0,
    )


def _sections(seen: Seen, name: Name) -> Reals:
    """Return the detector's second-order Butterworth filter."""
    bandwidth_hz = seen.receiver(name).detector.parameters.bandwidth_hz
    return np.asarray(signal.butter(2, bandwidth_hz, fs=seen.world.grid_hz, output="sos"))


def _in_the_mode(seen: Seen, name: Name) -> _Noise:
    """Return a receiver's noise in the matched filter: |sum of pulse times response|^2 of it."""
    layout = seen.layout()
    pulse = layout.pulses(np.ones(1, np.float32)).astype(np.float64)
    pulse /= math.sqrt(float(pulse @ pulse))
    response = signal.sosfilt(_sections(seen, name), np.eye(1, 4096)[0])
    through = float(np.sum(np.correlate(response, pulse, mode="full") ** 2))
    n = _noise(seen, name)
    return _Noise(n.shot * through, n.intensity * through, n.electronic * through, n.white)


def electronic_noise_v2(seen: Seen, name: Name) -> float:
    """Return the variance without light in the matched filter."""
    noise = _in_the_mode(seen, name)
    return noise.electronic + noise.white


def shot_noise_v2(seen: Seen, name: Name) -> float:
    """Return the shot noise's variance in the matched filter, at the station's laser power."""
    return _in_the_mode(seen, name).shot


def electronic_noise(seen: Seen, name: Name) -> float:
    """Return electronic over shot noise."""
    return electronic_noise_v2(seen, name) / shot_noise_v2(seen, name)


def blocked_variance_v2(seen: Seen, name: Name) -> float:
    """Return the variance with local oscillator and vacuum: all noise there is."""
    noise = _in_the_mode(seen, name)
    return noise.shot + noise.intensity + noise.electronic + noise.white


def lo_linear_v2_w(seen: Seen, name: Name) -> float:
    """Return shot noise per watt of the laser."""
    return shot_noise_v2(seen, name) / seen.bench.equipment.server.laser_power_w


def lo_quadratic_v2_w2(seen: Seen, name: Name) -> float:
    """Return intensity noise per square of the laser's power."""
    power_w = seen.bench.equipment.server.laser_power_w
    return _in_the_mode(seen, name).intensity / power_w**2


def lo_excess_noise(seen: Seen, name: Name) -> float:
    """Return intensity over shot noise at the station's laser power."""
    noise = _noise(seen, name)
    return noise.intensity / noise.shot


def clearance_db(seen: Seen, name: Name) -> float:
    """Return shot plus electronic over electronic noise in the matched filter."""
    return ratio_to_db(1.0 + shot_noise_v2(seen, name) / electronic_noise_v2(seen, name))


def band_edge_clearance_db(seen: Seen, name: Name) -> float:
    """Return the same between 7/4 and twice the symbol rate, by what the filter leaves there."""
    edge_hz = 2.0 * seen.bench.equipment.frame.symbol_rate_hz
    band_hz = np.linspace(0.875 * edge_hz, edge_hz, 65)
    _, response = signal.sosfreqz(_sections(seen, name), worN=band_hz, fs=seen.world.grid_hz)
    passed, noise = float(np.mean(np.abs(response) ** 2)), _noise(seen, name)
    return ratio_to_db(1.0 + noise.shot * passed / (noise.electronic * passed + noise.white))


def _pulse(seen: Seen, name: Name) -> tuple[float, float]:
    """Return the share of a pulse's energy that the matched filter takes, and its delay in s.

    The generator's stage and the detector smear the pulse that the filter expects; the filter
    is where it takes most. Its share counts what it lets through of the noise.
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
    """Return samples after a generator's stage of the bench's bandwidth, perfect otherwise."""
    grid_hz = seen.world.grid_hz
    ideal = DriveParameters(24, 4.0, seen.truth.generator_bandwidth_hz, 0.0)
    stage = DriveOutput(ideal, grid_hz, Seeds(0).noise("none"))
    stage.play(Drive(samples_v, grid_hz, 0.0, 1, 0.0))
    return stage.voltage(Window(0, len(samples_v))).astype(np.float64)


def efficiency(seen: Seen, name: Name) -> float:
    """Return the detector's efficiency times the share of a pulse in the matched filter's mode."""
    receiver = seen.receiver(name)
    lo_w = seen.bench.equipment.server.laser_power_w * receiver.lo_fraction
    return receiver.detector.parameters.efficiency_at(lo_w) * _pulse(seen, name)[0]


def arrival_s(seen: Seen, name: Name) -> float:
    """Return delays of fibres and storage on the bench's time grid, and of pulse and detector."""
    truth, storage = seen.truth, seen.world.optics.rotation.parameters.storage_samples
    way_s = truth.forward_delay_s
    if party_of(name) == "server":
        way_s += storage / seen.world.grid_hz + truth.back_delay_s
    return way_s + _pulse(seen, name)[1]


def common_mode_rejection_db(seen: Seen, name: Name) -> float:
    """Return the detector's own rejection."""
    truth = seen.truth.server if party_of(name) == "server" else seen.truth.client
    return truth.common_mode_rejection_db
