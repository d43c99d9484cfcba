"""An I/Q modulator: two null-biased Mach-Zehnder children in a parent interferometer.

Each child passes cos(u) + i rho sin(u) with u = pi (v + bias)/(2 V_pi), rho set by its extinction
ratio (arm imbalance); the parent adds the second child with its own phase.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from labctl.instruments.simulated.physics.grid import Field, Noise, Real
from labctl.instruments.simulated.ports import BiasMode


@dataclass(frozen=True)
class ModulatorParameters:
    """Half-wave voltages in V of both children and the parent, extinction ratio and loss in dB.

    `lock_error_rad`: standard deviation of the phase at which a bias lock settles. `offset_rad`:
    phases of child I, child Q and parent at 0 V. `bias_drift_v_pi_rth`: standard deviation by which
    each electrode's offset walks in an hour, in half-wave voltages (per square root of an hour).
    """

    v_pi_i_v: float
    v_pi_q_v: float
    v_pi_parent_v: float
    extinction_ratio_db: float
    insertion_loss_db: float
    lock_error_rad: float
    offset_rad: tuple[float, float, float]
    bias_drift_v_pi_rth: float = 0.0


# Where data sheets of telecom modulators state half-wave voltages.
_RATED_WAVELENGTH_M = 1550e-9


class IQModulator:
    """The modulator with its three bias electrodes.

    Half-wave voltages are rated at 1550 nm and grow with the wavelength of the light: the same
    index change is less of a wave (Yariv and Yeh, Photonics, 2007, section 9.3).
    """

    def __init__(
        self,
        parameters: ModulatorParameters,
        noise: Noise,
        now_s: Callable[[], float] = lambda: 0.0,
        drift_noise: Sequence[Noise] = (),
    ) -> None:
        """`drift_noise`: one source for each electrode in order, if there is a drift."""
        self.parameters = parameters
        # Of fields: 20 dB per factor of ten.
        self._leak = 10.0 ** (-parameters.extinction_ratio_db / 20.0)
        self._through = 10.0 ** (-parameters.insertion_loss_db / 20.0)
        self.wavelength_m: Callable[[], float] = lambda: _RATED_WAVELENGTH_M
        shift = math.atan(self._leak)
        v_pi_v = (parameters.v_pi_i_v, parameters.v_pi_q_v, parameters.v_pi_parent_v)
        electrodes = [
            BiasElectrode(
                v_pi_v[place], offset_rad, compensation_rad, parameters.lock_error_rad, noise
            )
            for place, (offset_rad, compensation_rad) in enumerate(
                zip(parameters.offset_rad, (-shift, shift, 0.0), strict=True)
            )
        ]
        for electrode in electrodes:
            electrode.wavelength_scale = self.wavelength_scale
        if parameters.bias_drift_v_pi_rth > 0.0:
            # One half-wave voltage is pi/2 of a child's u; 3600 s are an hour.
            rad_rts = parameters.bias_drift_v_pi_rth * math.pi / 2.0 / math.sqrt(3600.0)
            for electrode, source in zip(electrodes, drift_noise, strict=True):
                electrode.drift_rad = BiasDrift(rad_rts, now_s, source).phase_rad
        self.child_i, self.child_q, self.parent = electrodes

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


class BiasDrift:
    """A Wiener process on the bench clock: `rate_rad_rts` per square root of a second."""

    def __init__(self, rate_rad_rts: float, now_s: Callable[[], float], noise: Noise) -> None:
        self._rate_rad_rts = rate_rad_rts
        self._now_s = now_s
        self._noise = noise
        self._phase_rad, self._seen_s = 0.0, now_s()

    def phase_rad(self) -> float:
        """Return by how much the phase has walked since the beginning."""
        now_s = self._now_s()
        if now_s > self._seen_s:
            spread_rad = self._rate_rad_rts * math.sqrt(now_s - self._seen_s)
            self._phase_rad += spread_rad * float(self._noise.normals(1)[0])
            self._seen_s = now_s
        return self._phase_rad


class BiasElectrode:
    """One electrode; implements `BiasPort`.

    A lock settles where the modulator's output shows it the point it seeks: a null lock finds
    the least carrier of the whole modulator, which lies off the child's own null by
    `compensation_rad` because each child's leakage falls on the other's axis. It follows the
    electrode's drift until it is set to hold a voltage.
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
        self._followed_rad: float | None = None
        self.drift_rad: Callable[[], float] = lambda: 0.0
        self.wavelength_scale: Callable[[], float] = lambda: 1.0
        self.external: Callable[[], float] = lambda: 0.0
        self.tap: Callable[[], float] = lambda: 0.0

    def set_bias(self, mode: BiasMode, voltage_v: float = 0.0) -> None:
        """Lock or hold; see `BiasPort`."""
        if mode in (BiasMode.MANUAL, BiasMode.OFF):
            self._voltage_v = voltage_v if mode is BiasMode.MANUAL else 0.0
            self._followed_rad = None
            return
        target = _LOCK_PHASE[mode] + self._lock_error_rad * float(self._noise.normals(1)[0])
        if mode is BiasMode.NULL:
            target += self._compensation_rad
        self._followed_rad = self.drift_rad()
        away = math.remainder(target - self._offset_rad - self._followed_rad, 2.0 * math.pi)
        self._voltage_v = away * self._v_rad() - self.external()

    def jump(self, angle_rad: float) -> Callable[[], None]:
        """Move the electrode's own phase, which no lock follows; returns what moves it back."""
        self._offset_rad += angle_rad

        def back() -> None:
            self._offset_rad -= angle_rad

        return back

    def voltage_v(self) -> float:
        """Return the controller's voltage on the electrode."""
        if self._followed_rad is None:
            return self._voltage_v
        return self._voltage_v - (self.drift_rad() - self._followed_rad) * self._v_rad()

    def phase_rad(self) -> float:
        """Return the phase u that offset, drift, controller and `external` (V, a source) make."""
        drift_rad = self.drift_rad() if self._followed_rad is None else self._followed_rad
        return self._offset_rad + drift_rad + (self._voltage_v + self.external()) / self._v_rad()

    def _v_rad(self) -> float:
        """Return the volts per radian of phase, for the light of now."""
        return 2.0 * self._v_pi_v * self.wavelength_scale() / math.pi

    def settled(self) -> bool:
        """Return True: the lock is taken as settled once set; the panel adds its time."""
        return True

    def tap_power_w(self) -> float:
        """Return the power on the controller's tap."""
        return self.tap()
