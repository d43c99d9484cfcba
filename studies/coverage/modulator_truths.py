"""What calibration should find of the modulator and what drives it."""

from __future__ import annotations

import cmath
import math

import numpy as np

from labctl.calibration.names import CHILDREN, V_PI_V, Name
from labctl.instruments.simulated.physics.modulator import BiasElectrode
from labctl.studies.coverage.seen import Seen

_PARTS = ("i", "q", "parent")


def _part_of(name: Name) -> int:
    """Return the place of the electrode that a quantity's name names."""
    words = name.replace(".", "_").split("_")
    return next(place for place, part in enumerate(_PARTS) if part in words)


def generator_offset_v(seen: Seen, name: Name) -> float:
    """Return the offset in the generator's own volts, of which its gain makes volts."""
    drive = ("modulator_i", "modulator_q")[_part_of(name)]
    return seen.truth.generator_offset_v[drive] / seen.truth.generator_gain[drive]


def half_wave_voltage_v(seen: Seen, name: Name) -> float:
    """Return V_pi at the laser's wavelength, in the generator's own volts."""
    place = _part_of(name)
    gain = seen.truth.generator_gain[("modulator_i", "modulator_q")[place]]
    return bias_half_wave_voltage_v(seen, name) / gain


def bias_half_wave_voltage_v(seen: Seen, name: Name) -> float:
    """Return V_pi at the laser's wavelength, in volts on the electrode."""
    scale = seen.world.optics.modulator.wavelength_scale()
    return seen.truth.v_pi_v[_part_of(name)] * scale


def _bias_point_v(seen: Seen, name: Name, target_rad: float) -> float:
    """Return the voltage that sets an electrode to a phase, drift until now counted.

    u = offset + drift + pi V / (2 V_pi).
    """
    optics, place = seen.world.optics.modulator, _part_of(name)
    electrode: BiasElectrode = (optics.child_i, optics.child_q, optics.parent)[place]
    away_rad = target_rad - seen.truth.offset_rad[place] - electrode.drift_rad()
    return away_rad * 2.0 * bias_half_wave_voltage_v(seen, name) / math.pi


def bias_null_v(seen: Seen, name: Name) -> float:
    """Return where u = pi/2, nearest to the one found.

    A child's recurs with 2 V_pi, the parent's extremum with V_pi: its fields add as exp(2iu).
    """
    period_v = bias_half_wave_voltage_v(seen, name) * (1.0 if _part_of(name) == 2 else 2.0)
    return _nearest(_bias_point_v(seen, name, math.pi / 2.0), period_v, seen.found(name))


def bias_quadrature_v(seen: Seen, name: Name) -> float:
    """Return a quadrature, half of V_pi past a child's null, or the parent's at u = pi/4."""
    v_pi_v = bias_half_wave_voltage_v(seen, name)
    target_rad = math.pi / 4.0 if _part_of(name) == 2 else 3.0 * math.pi / 4.0
    return _nearest(_bias_point_v(seen, name, target_rad), v_pi_v, seen.found(name))


def _nearest(value: float, period: float, to: float) -> float:
    """Return what recurs with a period where it is nearest to something."""
    return to - math.remainder(to - value, period)


def lock_offset_rad(seen: Seen, name: Name) -> float:
    """Return how far off its own null a child's lock settles: atan of the other's leaked field."""
    leak = 10.0 ** (-seen.truth.extinction_ratio_db / 20.0)
    return (-math.atan(leak), math.atan(leak), 0.0)[_part_of(name)]


def bias_drift_v_rth(seen: Seen, name: Name) -> float:
    """Return the rate of the electrode's random walk, which the file gives in V_pi."""
    return seen.table.modulator.bias_drift_v_pi_rth * bias_half_wave_voltage_v(seen, name)


def iq_gain(seen: Seen, name: Name) -> float:
    """Return Q's field per symbol over I's: what V_pi was taken for, over what it is."""
    constants = seen.bench.equipment.server.constants
    known = (constants.v_pi_i_v, constants.v_pi_q_v)
    true = [half_wave_voltage_v(seen, V_PI_V.of(part)) for part in CHILDREN]
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


def iq_quadrature_rad(seen: Seen, name: Name) -> float:
    """Return by how much Q's axis is more than a quarter turn ahead of I's."""
    along_i, along_q, _ = _axes(seen)
    return cmath.phase(along_q / along_i) - math.pi / 2.0


def carrier(seen: Seen, name: Name) -> float:
    """Return what is left without a symbol, along I or Q, over a child's largest field."""
    along_i, _, rest = _axes(seen)
    largest = 0.5 * 10.0 ** (-seen.truth.insertion_loss_db / 20.0)
    turned: complex = rest * along_i.conjugate() / abs(along_i) / largest
    return turned.real if _part_of(name) == 0 else turned.imag
