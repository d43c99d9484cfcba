"""An I/Q modulator: two null-biased Mach-Zehnder children in a parent interferometer.

Each child passes cos(u) + i rho sin(u) with u = pi (v + bias)/(2 V_pi), rho set by its extinction
ratio (arm imbalance); the parent adds the second child with its own phase.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labctl.instruments.simulated.physics.grid import Field, Noise, Real
from labctl.instruments.simulated.ports import BiasMode


@dataclass(frozen=True)
class ModulatorParameters:
    """Half-wave voltages in V of both children and the parent, extinction ratio and loss in dB.

    `lock_error_rad`: standard deviation of the phase at which a bias lock settles. `offset_rad`:
    phases of child I, child Q and parent at 0 V.
    """

    v_pi_i_v: float
    v_pi_q_v: float
    v_pi_parent_v: float
    extinction_ratio_db: float
    insertion_loss_db: float
    lock_error_rad: float
    offset_rad: tuple[float, float, float]


_RATED_WAVELENGTH_M = 1550e-9


class IQModulator:
    """The modulator with its three bias electrodes.

    Half-wave voltages are rated at 1550 nm and grow with the wavelength of the light: the same
    index change is less of a wave (Yariv and Yeh, Photonics, 2007, section 9.3).
    """

    def __init__(self, parameters: ModulatorParameters, noise: Noise) -> None:
        self.parameters = parameters
        self._leak = 10.0 ** (-parameters.extinction_ratio_db / 20.0)
        self._through = 10.0 ** (-parameters.insertion_loss_db / 20.0)
        self.wavelength_m: Callable[[], float] = lambda: _RATED_WAVELENGTH_M
        shift = math.atan(self._leak)
        self.child_i = BiasElectrode(
            parameters.v_pi_i_v, parameters.offset_rad[0], -shift, parameters.lock_error_rad, noise
        )
        self.child_q = BiasElectrode(
            parameters.v_pi_q_v, parameters.offset_rad[1], shift, parameters.lock_error_rad, noise
        )
        self.parent = BiasElectrode(
            parameters.v_pi_parent_v,
            parameters.offset_rad[2],
            0.0,
            parameters.lock_error_rad,
            noise,
        )
        for electrode in (self.child_i, self.child_q, self.parent):
            electrode.wavelength_scale = self.wavelength_scale

    def wavelength_scale(self) -> float:
        """Return by what half-wave voltages differ from their rating, for the light of now."""
        return self.wavelength_m() / _RATED_WAVELENGTH_M

    def transfer(self, drive_i_v: Real, drive_q_v: Real) -> Field:
        """Return the field transmission for drive voltages in V; |t|^2 is the power's."""
        child_i = self._child(drive_i_v, self.parameters.v_pi_i_v, self.child_i)
        child_q = self._child(drive_q_v, self.parameters.v_pi_q_v, self.child_q)
        child_q *= np.complex64(np.exp(2j * self.parent.phase_rad()))
        child_i += child_q
        child_i *= np.complex64(0.5 * self._through)
        return child_i

    def _child(self, drive_v: Real, v_pi_v: float, electrode: BiasElectrode) -> Field:
        v_pi_v *= self.wavelength_scale()
        angle = drive_v * np.float32(math.pi / (2.0 * v_pi_v))
        angle += np.float32(electrode.phase_rad())
        field = np.empty(len(angle), np.complex64)
        np.cos(angle, out=field.real)
        np.sin(angle, out=field.imag)
        field.imag *= np.float32(self._leak)
        return field


_LOCK_PHASE = {
    BiasMode.PEAK: 0.0,
    BiasMode.NULL: math.pi / 2.0,
    BiasMode.QUADRATURE_PLUS: math.pi / 4.0,
    BiasMode.QUADRATURE_MINUS: -math.pi / 4.0,
}


class BiasElectrode:
    """One electrode; implements `BiasPort`.

    A lock settles where the modulator's output shows it the point it seeks: a null lock finds
    the least carrier of the whole modulator, which lies off the child's own null by
    `compensation_rad` because each child's leakage falls on the other's axis.
    """

    def __init__(
        self,
        v_pi_v: float,
        offset_rad: float,
        compensation_rad: float,
        lock_error_rad: float,
        noise: Noise,
    ) -> None:
        self._v_pi_v = v_pi_v
        self._offset_rad = offset_rad
        self._compensation_rad = compensation_rad
        self._lock_error_rad = lock_error_rad
        self._noise = noise
        self._voltage_v = 0.0
        self.wavelength_scale: Callable[[], float] = lambda: 1.0
        self.external: Callable[[], float] = lambda: 0.0
        self.tap: Callable[[], float] = lambda: 0.0

    def set_bias(self, mode: BiasMode, voltage_v: float = 0.0) -> None:
        """Lock or hold; see `BiasPort`."""
        if mode is BiasMode.MANUAL:
            self._voltage_v = voltage_v
        elif mode is BiasMode.OFF:
            self._voltage_v = 0.0
        else:
            target = _LOCK_PHASE[mode] + self._lock_error_rad * float(self._noise.normals(1)[0])
            if mode is BiasMode.NULL:
                target += self._compensation_rad
            away = math.remainder(target - self._offset_rad, 2.0 * math.pi)
            v_pi_v = self._v_pi_v * self.wavelength_scale()
            self._voltage_v = away * 2.0 * v_pi_v / math.pi - self.external()

    def voltage_v(self) -> float:
        """Return the controller's voltage on the electrode."""
        return self._voltage_v

    def phase_rad(self) -> float:
        """Return the phase u that offset, controller and `external` (V, a source) make."""
        voltage_v = self._voltage_v + self.external()
        return self._offset_rad + math.pi * voltage_v / (
            2.0 * self._v_pi_v * self.wavelength_scale()
        )

    def settled(self) -> bool:
        """Return True: the lock is taken as settled once set; the panel adds its time."""
        return True

    def tap_power_w(self) -> float:
        """Return the power on the controller's tap."""
        return self.tap()
