"""What a Red Pitaya puts out: two fast generator outputs, and slow analogue and digital pins.

Commands: the maker's examples, docs/wire/red_pitaya.md, sections Generator and Pins [V]. What
voltages the outputs reach is [M]: options of the driver. So is their highest frequency, half of the
converters' rate.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labctl.errors import LimitError
from labctl.instruments.driver_rules import (
    require_channel,
    require_positive,
    require_range,
    try_all,
)
from labctl.instruments.transports.scpi_session import ScpiSession

Shape: TypeAlias = Literal["SINE", "SQUARE", "TRIANGLE"]
"""A shape that the board makes itself."""

# Points of the generator's table, and analog pins each way (docs/wire/red_pitaya.md).
_MOST_SAMPLES = 16384
_ANALOG_PINS = 4
# Half the rate of the converter, 125 MS/s: beyond it the board would make another frequency.
_MOST_FREQUENCY_HZ = 125e6 / 2
_DIGITAL_PIN = re.compile(r"LED[0-7]|DIO[0-7]_[NP]")


class RedPitayaGenerator:
    """The fast outputs; `outputs` is how many, `max_output_v` their largest peak in V."""

    def __init__(self, scpi: ScpiSession, outputs: int, max_output_v: float) -> None:
        self._scpi = scpi
        self._channels = range(1, outputs + 1)
        self._max_output_v = max_output_v

    def play_shape(
        self,
        channel: int,
        shape: Shape,
        *,
        frequency_hz: float,
        amplitude_v: float,
        offset_v: float = 0.0,
    ) -> None:
        """Play a shape: `frequency_hz` in Hz, `amplitude_v` (peak) and `offset_v` in V.

        Does not switch the output. Raises LimitError.
        """
        self._check(channel, frequency_hz, amplitude_v, offset_v)
        self._scpi.set(f"SOUR{channel}:FUNC {shape}")
        self._play(channel, frequency_hz, amplitude_v, offset_v)

    def play_samples(
        self,
        channel: int,
        samples: NDArray[np.floating],
        *,
        frequency_hz: float,
        amplitude_v: float,
        offset_v: float = 0.0,
    ) -> None:
        """Play samples in -1 to +1, shape (n,), n up to 16384, `frequency_hz` (Hz) times a second.

        `amplitude_v` (of a sample of 1) and `offset_v` in V. Raises LimitError.
        """
        self._check(channel, frequency_hz, amplitude_v, offset_v)
        values = np.asarray(samples, dtype=np.float64)
        if values.ndim != 1 or not 1 <= len(values) <= _MOST_SAMPLES:
            valid = f"one-dimensional, at most {_MOST_SAMPLES} samples"
            raise LimitError(self._scpi.name, "samples.shape", values.shape, valid)
        require_range(self._scpi.name, "largest sample", float(np.max(np.abs(values))), 0, 1)
        written = ",".join(f"{value:.5f}" for value in values)
        self._scpi.set(f"SOUR{channel}:FUNC ARBITRARY")
        self._scpi.set(f"SOUR{channel}:TRAC:DATA:DATA {written}")
        self._play(channel, frequency_hz, amplitude_v, offset_v)

    def set_output(self, channel: int, on: bool) -> None:
        """Connect or disconnect an output; raises LimitError."""
        require_channel(self._scpi.name, channel, self._channels)
        self._scpi.set(f"OUTPUT{channel}:STATE {'ON' if on else 'OFF'}")

    def trigger(self, channel: int) -> None:
        """Start the output's signal again; raises LimitError."""
        require_channel(self._scpi.name, channel, self._channels)
        self._scpi.set(f"SOUR{channel}:TRIG:INT")

    def switch_off(self) -> None:
        """Disconnect all outputs; each also when another fails."""
        try_all(*(partial(self.set_output, channel, False) for channel in self._channels))

    def _check(
        self, channel: int, frequency_hz: float, amplitude_v: float, offset_v: float
    ) -> None:
        require_channel(self._scpi.name, channel, self._channels)
        require_positive(self._scpi.name, "frequency_hz", frequency_hz, _MOST_FREQUENCY_HZ, "Hz")
        require_positive(self._scpi.name, "amplitude_v", amplitude_v, unit="V")
        peak_v = amplitude_v + abs(offset_v)
        require_range(
            self._scpi.name, "amplitude_v + |offset_v|", peak_v, 0, self._max_output_v, "V"
        )

    def _play(self, channel: int, frequency_hz: float, amplitude_v: float, offset_v: float) -> None:
        # The offset goes to 0 first: old offset and new amplitude need not fit together.
        self._scpi.set_all(
            f"SOUR{channel}:FREQ:FIX {frequency_hz:.12g}",
            f"SOUR{channel}:VOLT:OFFS 0",
            f"SOUR{channel}:VOLT {amplitude_v:.9g}",
            f"SOUR{channel}:VOLT:OFFS {offset_v:.9g}",
        )


class RedPitayaPins:
    """The slow pins; `max_voltage_v` is what the analogue outputs reach, in V."""

    def __init__(self, scpi: ScpiSession, max_voltage_v: float) -> None:
        self._scpi = scpi
        self._max_voltage_v = max_voltage_v

    def input_v(self, number: int) -> float:
        """Return the voltage in V at analogue input 0 to 3; raises LimitError."""
        require_channel(self._scpi.name, number, range(_ANALOG_PINS))
        return self._scpi.number(f"ANALOG:PIN? AIN{number}")

    def set_output_v(self, number: int, voltage_v: float) -> None:
        """Put a voltage in V, 0 or more, on analogue output 0 to 3; raises LimitError."""
        require_channel(self._scpi.name, number, range(_ANALOG_PINS))
        require_range(self._scpi.name, "voltage_v", voltage_v, 0, self._max_voltage_v, "V")
        self._scpi.set(f"ANALOG:PIN AOUT{number},{abs(voltage_v):.6g}")

    def switch(self, pin: str, on: bool) -> None:
        """Switch a light or digital pin, `LED0` to `LED7` or `DIO0_N` to `DIO7_P`.

        Raises LimitError.
        """
        self._check_pin(pin)
        self._scpi.set(f"DIG:PIN {pin},{on:d}")

    def state(self, pin: str) -> bool:
        """Return whether a light or digital pin is on; raises LimitError."""
        self._check_pin(pin)
        return self._scpi.flag(f"DIG:PIN? {pin}")

    def _check_pin(self, pin: str) -> None:
        if _DIGITAL_PIN.fullmatch(pin) is None:
            raise LimitError(self._scpi.name, "pin", pin, "LED0 to LED7, or DIO0_N to DIO7_P")
