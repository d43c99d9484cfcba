"""Passive optics: attenuators, fibres, phase shifters, shutters, and the drift of path phases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labctl.instruments.simulated.physics.grid import Field, Noise, Real, Window


class VariableAttenuator:
    """An attenuator in a fibre; implements `AttenuatorPort`. Losses in dB."""

    def __init__(self, insertion_loss_db: float, input_power: Callable[[], float]) -> None:
        self._insertion_loss_db = insertion_loss_db
        self._attenuation_db = 0.0
        self._input_power = input_power

    def set_attenuation(self, attenuation_db: float) -> None:
        """Set the attenuation above the insertion loss."""
        self._attenuation_db = attenuation_db

    @property
    def transmittance(self) -> float:
        """Power transmittance, insertion loss included."""
        return float(10.0 ** (-(self._attenuation_db + self._insertion_loss_db) / 10.0))

    def input_power_w(self) -> float:
        """Return the mean power that enters now."""
        return self._input_power()

    def output_power_w(self) -> float:
        """Return the mean power that leaves now."""
        return self._input_power() * self.transmittance


@dataclass(frozen=True)
class Fibre:
    """A fibre: length in km, loss in dB/km and in connectors, group delay 4.9 us/km."""

    length_km: float
    loss_db_km: float
    connector_loss_db: float

    @property
    def transmittance(self) -> float:
        """Power transmittance."""
        return float(10.0 ** (-(self.length_km * self.loss_db_km + self.connector_loss_db) / 10.0))

    @property
    def delay_s(self) -> float:
        """Group delay in s."""
        return self.length_km * 4.9e-6


def lose(field: Field, transmittance: float, noise: Noise) -> None:
    """Pass a field through loss in place: vacuum fills what is lost."""
    field *= np.float32(math.sqrt(transmittance))
    if transmittance < 1.0:
        vacuum = noise.vacuum(len(field))
        vacuum *= np.float32(math.sqrt(1.0 - transmittance))
        field += vacuum


class PhaseDrift:
    """The slow random walk of an interferometer's phase, `rate_rad2_s` in variance per second."""

    _STRIDE = 4096

    def __init__(self, rate_rad2_s: float, grid_hz: float, noise: Noise) -> None:
        self._rate_rad2_s = rate_rad2_s
        self._grid_hz = grid_hz
        self._noise = noise
        self._phase = float(noise.generator.uniform(-math.pi, math.pi))
        self._sample = 0

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
