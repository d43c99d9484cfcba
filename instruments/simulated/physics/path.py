"""Passive optics: attenuators, fibres, shutters, phase shifters, and slow drifts on the way.

A component of power transmittance T multiplies the field by sqrt(T) and adds vacuum times
sqrt(1 - T), so that vacuum stays vacuum (`lose`). Drifts walk at random on the bench clock: phases
on a line, polarisation on the Poincare sphere, each with a variance that grows by its rate times
the time. They are drawn at a few places of a window and taken as straight lines between, since they
move little in a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.instruments.simulated.physics.grid import Field, Instants, Noise, Real, Window
from labctl.units import SPEED_OF_LIGHT_M_S

# Below it a fibre changes a field by less than 1e-4 of itself anywhere in the grid's band.
_LEAST_DISPERSION_RAD = 1e-4
# Steps on the sphere of this variance follow its diffusion to 0.2 %; beyond 10 rad^2 less than
# 1e-4 of its beginning is left.
_LARGEST_TURN_RAD2 = 0.01
_FORGOTTEN_RAD2 = 10.0


class VariableAttenuator:
    """An attenuator in a fibre; implements `AttenuatorPort`. Losses in dB."""

    def __init__(
        self, insertion_loss_db: float, input_power: Callable[[], float], scale: float = 1.0
    ) -> None:
        """`scale`: decibels that it attenuates per decibel that it is set to."""
        self._insertion_loss_db, self._scale = insertion_loss_db, scale
        self._attenuation_db = 0.0
        self._input_power = input_power

    def set_attenuation(self, attenuation_db: float) -> None:
        """Set the attenuation above the insertion loss."""
        self._attenuation_db = attenuation_db

    @property
    def transmittance(self) -> float:
        """Power transmittance, insertion loss included."""
        loss_db = self._scale * self._attenuation_db + self._insertion_loss_db
        return float(10.0 ** (-loss_db / 10.0))

    def stuck_at(self, attenuation_db: float) -> VariableAttenuator:
        """Return one in its place that stays at an attenuation in dB, which no setting changes."""
        stuck = VariableAttenuator(self._insertion_loss_db, self._input_power)
        stuck.set_attenuation(attenuation_db)
        return stuck

    def input_power_w(self) -> float:
        """Return the mean power that enters now."""
        return self._input_power()

    def output_power_w(self) -> float:
        """Return the mean power that leaves now."""
        return self._input_power() * self.transmittance


@dataclass(frozen=True)
class Fibre:
    """A fibre: length in km, loss in dB/km and in connectors, group delay 4.9 us/km.

    Dispersion in ps/(nm km), the usual D: +17 for standard fibre at 1550 nm, 0 for none.
    """

    length_km: float
    loss_db_km: float
    connector_loss_db: float
    dispersion_ps_nm_km: float = 0.0

    @property
    def transmittance(self) -> float:
        """Power transmittance."""
        return float(10.0 ** (-(self.length_km * self.loss_db_km + self.connector_loss_db) / 10.0))

    @property
    def delay_s(self) -> float:
        """Group delay in s."""
        # Group index 1.468 of standard fibre at 1550 nm over the speed of light (Corning SMF-28).
        return self.length_km * 4.9e-6

    def disperse(self, field: Field, grid_hz: float, frequency_hz: float) -> Field:
        """Return the field after the fibre's quadratic spectral phase beta_2 L omega^2 / 2.

        beta_2 = -D lambda^2 / (2 pi c) (Agrawal, Nonlinear Fiber Optics, 2013, eq. 1.2.11 and
        3.2.5). The field comes back as it is where that is below 1e-4 rad at the grid's band edge.
        Its ends wrap around over the delay that the phase makes, which is below a sample for any
        fibre of a link and a grid of 160 MHz.
        """
        dispersion_s_m = 1e-6 * self.dispersion_ps_nm_km * self.length_km * 1e3
        wavelength_m = SPEED_OF_LIGHT_M_S / frequency_hz
        chirp_s2 = -dispersion_s_m * wavelength_m**2 / (2.0 * math.pi * SPEED_OF_LIGHT_M_S)
        if abs(chirp_s2) / 2.0 * (math.pi * grid_hz) ** 2 < _LEAST_DISPERSION_RAD:
            return field
        from scipy import fft

        padded = fft.next_fast_len(len(field))
        omega = 2.0 * math.pi * fft.fftfreq(padded, 1.0 / grid_hz)
        spectrum = fft.fft(field, padded)
        spectrum *= np.exp(0.5j * chirp_s2 * omega**2).astype(np.complex64)
        spread: Field = fft.ifft(spectrum)[: len(field)]
        return spread


def lose(field: Field, transmittance: float, noise: Noise) -> None:
    """Pass a field through loss in place: vacuum fills what is lost."""
    field *= np.float32(math.sqrt(transmittance))
    if transmittance < 1.0:
        vacuum = noise.vacuum(len(field))
        vacuum *= np.float32(math.sqrt(1.0 - transmittance))
        field += vacuum


class PhaseDrift:
    """The slow random walk of an interferometer's phase, `rate_rad2_s` in variance per second."""

    # Grid samples between drawn phases, straight lines between: paths drift by far less than a
    # radian in the tens of microseconds that these take.
    _STRIDE = 4096

    def __init__(self, rate_rad2_s: float, grid_hz: float, noise: Noise) -> None:
        self._rate_rad2_s = rate_rad2_s
        self._grid_hz = grid_hz
        self._noise = noise
        self._phase = float(noise.generator.uniform(-math.pi, math.pi))
        self._sample = 0

    def hop(self) -> None:
        """Jump to any phase, as when the laser hops and both paths differ in length."""
        self._phase = float(self._noise.generator.uniform(-math.pi, math.pi))

    def hurry(self, rate_rad2_s: float) -> Callable[[], None]:
        """Walk at another rate; returns what ends it."""
        before, self._rate_rad2_s = self._rate_rad2_s, rate_rad2_s

        def end() -> None:
            self._rate_rad2_s = before

        return end

    def phase(self, window: Window) -> Real:
        """Return the phase in rad over a window that begins after earlier ones ended."""
        per_sample = self._rate_rad2_s / self._grid_hz
        gap = max(window.start - self._sample, 0)
        knots = np.append(np.arange(0, window.samples, self._STRIDE), window.samples)
        steps = self._noise.generator.standard_normal(len(knots))
        steps *= np.sqrt(per_sample * np.diff(knots, prepend=-gap))
        walk = self._phase + np.cumsum(steps)
        self._phase, self._sample = float(walk[-1]), window.stop
        phase: Real = np.interp(np.arange(window.samples), knots, walk).astype(np.float32)
        return phase

    def phase_at(self, instants: Instants) -> Real:
        """Return the phase in rad at instants that begin after earlier windows ended."""
        gaps = np.diff(instants, prepend=min(self._sample, int(instants[0])))
        steps = self._noise.generator.standard_normal(len(instants))
        steps *= np.sqrt(self._rate_rad2_s / self._grid_hz * gaps)
        walk = self._phase + np.cumsum(steps)
        self._phase, self._sample = float(walk[-1]), int(instants[-1]) + 1
        phase: Real = walk.astype(np.float32)
        return phase


class PolarisationDrift:
    """The slow walk of light's polarisation away from its local oscillator's.

    Its Stokes vector, aligned at bench time zero, diffuses on the Poincare sphere by
    `rate_rad2_s` of variance per second in each of two directions; at angle A the fields overlap
    by cos(A/2), so the mean efficiency falls as (1 + exp(-rate t))/2.
    """

    # Grid samples between drawn Stokes vectors, and how many are drawn for light at instants.
    _STRIDE = 4096
    _KNOTS = 17

    def __init__(self, rate_rad2_s: float, grid_hz: float, noise: Noise) -> None:
        self._rate_rad2_s = rate_rad2_s
        self._grid_hz = grid_hz
        self._noise = noise
        self._stokes = np.array([1.0, 0.0, 0.0])
        self._sample = 0

    @property
    def _aligned(self) -> bool:
        return self._rate_rad2_s == 0.0 and bool(self._stokes[0] == 1.0)

    def turn(self, angle_rad: float) -> Callable[[], None]:
        """Jump by an angle on the Poincare sphere, away from the local oscillator; returns what
        turns it back to where it was.
        """
        before = self._stokes
        cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
        self._stokes = np.array(
            [
                cosine * before[0] - sine * before[1],
                sine * before[0] + cosine * before[1],
                before[2],
            ]
        )

        def back() -> None:
            self._stokes = before

        return back

    def mix(self, field: Field, window: Window) -> None:
        """Keep, in place, what overlaps over a window that begins after earlier ones ended."""
        if self._aligned:
            return
        knots = np.append(np.arange(0, window.samples, self._STRIDE), window.samples)
        knots += window.start
        self._keep(field, knots, np.arange(window.start, window.stop))

    def mix_at(self, field: Field, instants: Instants) -> None:
        """Keep what overlaps at instants that begin after earlier windows ended; walks linearly
        between a few knots.
        """
        if self._aligned:
            return
        knots = np.linspace(instants[0], instants[-1], self._KNOTS).astype(np.int64)
        self._keep(field, knots, instants)

    def _keep(self, field: Field, knots: Instants, instants: Instants) -> None:
        overlap = self._overlap(knots, instants)
        field *= overlap
        vacuum = self._noise.vacuum(len(field))
        vacuum *= np.sqrt(1.0 - overlap**2)
        field += vacuum

    def _overlap(self, knots: Instants, instants: Instants) -> Real:
        spans = np.diff(knots, prepend=min(self._sample, int(knots[0])))
        at_knots = [self._step(span * self._rate_rad2_s / self._grid_hz) for span in spans]
        self._sample = int(knots[-1])
        cosines = np.interp(instants, knots, at_knots)
        return np.sqrt(0.5 * (1.0 + cosines)).astype(np.float32)

    def _step(self, variance: float) -> float:
        """Let the Stokes vector diffuse by a variance in rad^2; returns its first component."""
        if variance >= _FORGOTTEN_RAD2:
            anywhere = self._noise.generator.standard_normal(3)
            self._stokes = anywhere / np.linalg.norm(anywhere)
            return float(self._stokes[0])
        turns = math.ceil(variance / _LARGEST_TURN_RAD2)
        for _ in range(turns):
            self._turn(variance / turns)
        return float(self._stokes[0])

    def _turn(self, variance: float) -> None:
        step: npt.NDArray[np.float64] = self._noise.generator.standard_normal(3)
        step -= (step @ self._stokes) * self._stokes
        angle = math.sqrt(variance) * float(np.linalg.norm(step))
        direction = step / np.linalg.norm(step)
        self._stokes = math.cos(angle) * self._stokes + math.sin(angle) * direction
        self._stokes /= np.linalg.norm(self._stokes)


@dataclass(frozen=True)
class PhaseShifter:
    """A phase shifter: pi per `v_pi_v` volts from `voltage`."""

    v_pi_v: float
    voltage: Callable[[], float]

    def phase_rad(self) -> float:
        """Return its phase now."""
        return math.pi * self.voltage() / self.v_pi_v


@dataclass(frozen=True)
class Shutter:
    """A switch in a fibre, closed above `threshold_v`; passes 10^(-isolation/10) when closed."""

    threshold_v: float
    isolation_db: float
    voltage: Callable[[], float]

    def transmittance(self) -> float:
        """Return its power transmittance now."""
        closed = self.voltage() > self.threshold_v
        return float(10.0 ** (-self.isolation_db / 10.0)) if closed else 1.0
