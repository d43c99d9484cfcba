"""What an instrument can do, as small protocols: callers ask for these, never for a model.

All quantities are SI floats with the unit in the name, except `_db`. Every method may raise a
`labctl.errors.InstrumentError`: `LimitError` before anything is sent, `InstrumentReportedError`
when the instrument refuses, `InstrumentTimeoutError` and `ReplyError` when the wire fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Identity:
    """Who answered at an address; what an instrument does not state is an empty string."""

    maker: str
    model: str
    serial: str
    firmware: str


@runtime_checkable
class Instrument(Protocol):
    """What every driver offers, for an instrument of any kind."""

    @property
    def name(self) -> str:
        """The role or name that error messages use."""
        ...

    def identify(self) -> Identity:
        """Ask who is there; raises ReplyError if it is another model."""
        ...

    def safe_state(self) -> None:
        """Put the instrument in a state where it can do no harm; may be called at any time."""
        ...

    def close(self) -> None:
        """End the session without changing the instrument; closing twice does nothing."""
        ...


@runtime_checkable
class Restartable(Protocol):
    """An instrument that knows whether its supply was lost meanwhile, and its settings with it."""

    def restarted(self) -> bool:
        """Return whether it has been switched on since it was opened, or since this was asked."""
        ...


class Driver(Instrument, Protocol):
    """An instrument that can be opened from a station file: what an entry point names."""

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect to the VISA `address` and identify the instrument.

        `library` selects the VISA library (`""` the default, `"@py"`, `"bench.toml@labctl"`).
        Raises SettingError on a wrong option, ConnectionFailedError if nothing answers.
        """
        ...


@runtime_checkable
class Laser(Protocol):
    """A light source whose power is set and whose emission is switched."""

    def set_power(self, power_w: float) -> None:
        """Set the power to emit, in W."""
        ...

    def power_w(self) -> float:
        """Return the power that the laser measures at its output now, in W."""
        ...

    def set_emission(self, on: bool) -> None:
        """Switch the light, return when it is stable; raises InstrumentTimeoutError."""
        ...

    def emission(self) -> bool:
        """Return whether the light is on."""
        ...


@runtime_checkable
class TunableLaser(Laser, Protocol):
    """A laser whose optical frequency is set."""

    def set_frequency(self, frequency_hz: float) -> None:
        """Tune to an optical frequency in Hz."""
        ...

    def frequency_hz(self) -> float:
        """Return the optical frequency in Hz."""
        ...

    def frequency_limits_hz(self) -> tuple[float, float]:
        """Return the lowest and the highest frequency in Hz."""
        ...


@runtime_checkable
class SweptLaser(Protocol):
    """A laser that sweeps its wavelength at a constant speed."""

    def configure_sweep(self, start_m: float, stop_m: float, speed_m_s: float) -> None:
        """Prepare one sweep from `start_m` up to `stop_m` (wavelengths in m), speed in m/s."""
        ...

    def start_sweep(self) -> None:
        """Start the sweep that was configured last; returns at once."""
        ...

    def sweeping(self) -> bool:
        """Return whether a sweep that was started has not ended yet."""
        ...

    def stop_sweep(self) -> None:
        """End the sweep where it is."""
        ...


@runtime_checkable
class Attenuator(Protocol):
    """A variable optical attenuator."""

    def set_attenuation(self, attenuation_db: float) -> None:
        """Set the attenuation in dB (positive is darker), return when it is reached."""
        ...

    def attenuation_db(self) -> float:
        """Return the attenuation that is set, in dB."""
        ...


class BiasPoint(Enum):
    """Where on its transfer curve a Mach-Zehnder modulator is held."""

    PEAK = "peak"
    NULL = "null"
    QUADRATURE_PLUS = "quadrature+"
    QUADRATURE_MINUS = "quadrature-"


@runtime_checkable
class ModulatorBias(Protocol):
    """The bias of a Mach-Zehnder modulator, locked to a point or held at a voltage."""

    def lock(self, point: BiasPoint) -> None:
        """Lock to a point, return when settled; raises InstrumentTimeoutError."""
        ...

    def hold_voltage(self, voltage_v: float) -> None:
        """Hold a fixed bias voltage in V, without a lock."""
        ...

    def bias_voltage_v(self) -> float:
        """Return the bias voltage in V that is applied now."""
        ...

    def release(self) -> None:
        """Switch the bias off."""
        ...


@runtime_checkable
class VoltageSource(Protocol):
    """One output that holds a constant voltage."""

    def set_voltage(self, voltage_v: float) -> None:
        """Apply a voltage in V; it is at the output when this returns."""
        ...

    def voltage_v(self) -> float:
        """Return the voltage that is set, in V."""
        ...


@runtime_checkable
class SourceMeter(VoltageSource, Protocol):
    """A voltage source that limits its current and measures what is at its output."""

    def set_current_limit(self, current_a: float) -> None:
        """Limit the current to a magnitude in A."""
        ...

    def measured_voltage_v(self) -> float:
        """Measure and return the voltage at the output, in V."""
        ...

    def measured_current_a(self) -> float:
        """Measure and return the current that the output delivers, in A."""
        ...


TriggerInput: TypeAlias = int | Literal["external"]
"""Where a digitizer's trigger enters: a channel number from 1, or the external input."""


class TriggerSource(Enum):
    """What starts a burst."""

    IMMEDIATE = "immediate"
    EXTERNAL = "external"
    SOFTWARE = "software"


@runtime_checkable
class WaveformGenerator(Protocol):
    """An arbitrary waveform generator; channels count from 1."""

    def upload(self, channel: int, name: str, samples: NDArray[np.floating]) -> None:
        """Store a waveform of samples in -1 to +1, shape (n,), at full converter resolution."""
        ...

    def stored(self, channel: int) -> tuple[str, ...]:
        """Return the names of the waveforms in the channel's volatile memory."""
        ...

    def forget(self, channel: int) -> None:
        """Clear the channel's volatile memory."""
        ...

    def play(
        self, channel: int, name: str, *, sample_rate_hz: float, amplitude_v: float, offset_v: float
    ) -> None:
        """Select a stored waveform and play it continuously; sample +1 is offset + amplitude.

        `amplitude_v` is the peak voltage in V of a sample of +1. Does not switch the output.
        """
        ...

    def burst(
        self, channel: int, *, cycles: int, trigger: TriggerSource, delay_s: float = 0.0
    ) -> None:
        """From now on play the selected waveform `cycles` times, `delay_s` after each trigger."""
        ...

    def set_output(self, channel: int, on: bool) -> None:
        """Connect or disconnect the output."""
        ...

    def trigger(self) -> None:
        """Start, on all channels at once, the bursts that wait for a software trigger."""
        ...

    def wait_for_bursts(self) -> None:
        """Return when the bursts that the last software trigger started have ended."""
        ...

    def memory_free(self, channel: int) -> int:
        """Return how many more samples the channel can store."""
        ...


@dataclass(frozen=True, eq=False)
class Trace:
    """A record of equally spaced voltages; time counts from the trigger.

    `voltage_v` is float32 of shape (n,), in V.
    """

    start_s: float
    interval_s: float
    voltage_v: NDArray[np.float32]

    @property
    def time_s(self) -> NDArray[np.float64]:
        """Return the time of each sample in s after the trigger, shape (n,)."""
        index = np.arange(len(self.voltage_v), dtype=np.float64)
        return np.asarray(self.start_s + self.interval_s * index)


@runtime_checkable
class Digitizer(Protocol):
    """Something that records voltages after a trigger; channels count from 1."""

    def configure_channel(self, channel: int, *, range_v: float, offset_v: float) -> None:
        """Set full scale (V, peak to peak) and the voltage in the middle of it (V)."""
        ...

    def configure_record(self, *, start_s: float, duration_s: float) -> None:
        """Set when the record starts, in s after the trigger, and how long it is, in s."""
        ...

    def configure_trigger(self, source: TriggerInput, *, level_v: float) -> None:
        """Trigger on the rising edge through `level_v` at a channel or the external input."""
        ...

    def arm(self, channels: Sequence[int]) -> None:
        """Wait for one trigger and record these channels; returns at once."""
        ...

    def complete(self) -> bool:
        """Return whether the armed record has been taken."""
        ...

    def read(self, channel: int) -> Trace:
        """Wait for the record and return one channel of it.

        Raises InstrumentTimeoutError, naming the likely cause, when no trigger came.
        """
        ...


@runtime_checkable
class PowerMeter(Protocol):
    """An optical power meter."""

    def set_wavelength(self, wavelength_m: float) -> None:
        """Set the wavelength in m for which the responsivity is corrected."""
        ...

    def power_w(self) -> float:
        """Measure and return the optical power in W; may be slightly negative in the dark."""
        ...

    def zero(self) -> None:
        """Take the present reading as darkness, return when done."""
        ...
