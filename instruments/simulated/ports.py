"""Where front panels meet physics: settings go in, physical quantities come out.

A panel turns wire messages into calls on these ports; the physics behind them knows no message.
Times are bench-clock seconds, and every port acts at the clock's present time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

Volts = npt.NDArray[np.float32]


class LaserPort(Protocol):
    """The optical head of a continuous-wave laser."""

    def set_emission(self, on: bool, power_w: float, frequency_hz: float) -> None:
        """Set the head from now on; power in W at its fibre, optical frequency in Hz."""
        ...

    def emitted_power_w(self) -> float:
        """Return the power in W that leaves the head now; 0 when off."""
        ...


@dataclass(frozen=True, eq=False)
class Drive:
    """What one generator output plays: ideal volts into its load, before the analogue stage.

    `samples_v` repeats at `sample_rate_hz` from `start_s` on, `cycles` times (None: without
    end). Before and after, the output rests at `idle_v`. One sample with cycles None is DC.
    """

    samples_v: Volts
    sample_rate_hz: float
    start_s: float
    cycles: int | None
    idle_v: float


class DrivePort(Protocol):
    """One output connector of a generator."""

    def play(self, drive: Drive | None) -> None:
        """Put `drive` on the connector; None opens the output relay (0 V)."""
        ...


class BiasMode(Enum):
    """What a modulator-bias controller holds its modulator at."""

    OFF = "off"
    PEAK = "peak"
    NULL = "null"
    QUADRATURE_PLUS = "quadrature plus"
    QUADRATURE_MINUS = "quadrature minus"
    MANUAL = "manual"


class BiasPort(Protocol):
    """The bias electrode of a modulator, with the controller's optical tap."""

    def set_bias(self, mode: BiasMode, voltage_v: float = 0.0) -> None:
        """Lock to a point of the transfer curve, or hold `voltage_v` in MANUAL mode."""
        ...

    def voltage_v(self) -> float:
        """Return the voltage in V on the electrode now."""
        ...

    def settled(self) -> bool:
        """Return whether the lock has settled."""
        ...

    def tap_power_w(self) -> float:
        """Return the optical power in W on the controller's tap now."""
        ...


class AttenuatorPort(Protocol):
    """A variable optical attenuator in a fibre."""

    def set_attenuation(self, attenuation_db: float) -> None:
        """Set the attenuation in dB above the insertion loss, 0 or more."""
        ...

    def input_power_w(self) -> float:
        """Return the mean optical power in W that enters now."""
        ...

    def output_power_w(self) -> float:
        """Return the mean optical power in W that leaves now."""
        ...


class PowerSensorPort(Protocol):
    """A photodiode sensor head under light."""

    def photocurrent_a(self, averaging_s: float) -> float:
        """Return the photocurrent in A, dark current and noise included, over `averaging_s`."""
        ...

    def responsivity_a_w(self, wavelength_m: float) -> float:
        """Return the head's calibration curve in A/W at a vacuum wavelength in m."""
        ...


@dataclass(frozen=True)
class ChannelWindow:
    """Vertical setting of one digitizer channel: `range_v` full scale around `offset_v`."""

    range_v: float
    offset_v: float


@dataclass(frozen=True)
class CaptureWindow:
    """One acquisition: `samples` points from `start_s` after the trigger on (may be negative)."""

    start_s: float
    sample_rate_hz: float
    samples: int
    channels: Mapping[int, ChannelWindow]


Capture = Mapping[int, Volts]


class DigitizerPort(Protocol):
    """The analogue front end and converter of an oscilloscope; channels count from 1."""

    def arm(self, window: CaptureWindow, deliver: Callable[[Capture], None]) -> None:
        """Wait for the next trigger; `deliver` then gets the digitized volts of each channel."""
        ...

    def disarm(self) -> None:
        """Forget an armed acquisition."""
        ...

    def capture_now(self, window: CaptureWindow) -> Capture:
        """Acquire at once, as if triggered now; returns digitized volts of each channel."""
        ...


class TriggerPort(Protocol):
    """A trigger cable: one instrument fires, the others on it act at that time."""

    def fire(self) -> None:
        """Pulse the cable now: listeners run first, then armed digitizers acquire."""
        ...

    def listen(self, callback: Callable[[float], None]) -> None:
        """Call `callback(time_s)` at each pulse."""
        ...


class SourcePort(Protocol):
    """One output of a direct-current source, with its load."""

    def force_voltage(self, on: bool, voltage_v: float, current_limit_a: float) -> None:
        """Hold a voltage in V, or less where the load would draw more than the limit in A."""
        ...

    def force_current(self, on: bool, current_a: float, voltage_limit_v: float) -> None:
        """Hold a current in A, or less where the load would need more than the limit in V."""
        ...

    def voltage_v(self) -> float:
        """Return the voltage in V at the output now; 0 when off."""
        ...

    def current_a(self) -> float:
        """Return the current in A that the load draws now; 0 when off."""
        ...
