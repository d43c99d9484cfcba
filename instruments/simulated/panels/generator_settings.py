"""Settings of one output of a function generator, and how levels and units are related."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Form, Number, Parameter
from labctl.units import dbm_to_w, w_to_dbm

# 50 ohm: docs/wire/keysight_33512b.md, section Output. The largest open-circuit peak is assumed
# there ([M]), and so are here the smallest amplitude and the narrowest pulse.
SOURCE_OHM = 50.0
LARGEST_OPEN_V = 10.0
SMALLEST_OPEN_VPP = 2e-3
NARROWEST_PULSE_S = 16e-9
# V and Vpp: values that a client rounded to a decimal are still in range.
_ROUNDING = 1e-9


def divider(load_ohm: float) -> float:
    """Return which part of its open-circuit voltage a 50 ohm source puts across a load."""
    return 1.0 if load_ohm == math.inf else load_ohm / (load_ohm + SOURCE_OHM)


@dataclass(frozen=True)
class Settings:
    """Settings of one output; voltages are those into `load_ohm`, as its display shows them."""

    function: str = "SIN"
    frequency_hz: float = 1e3
    amplitude_vpp: float = 0.1
    offset_v: float = 0.0
    unit: str = "VPP"
    phase_deg: float = 0.0
    square_duty_pct: float = 50.0
    symmetry_pct: float = 100.0
    pulse_width_s: float = 100e-6
    pulse_hold: str = "WIDT"
    leading_s: float = 10e-9
    trailing_s: float = 10e-9
    load_ohm: float = 50.0
    polarity: str = "NORM"
    on: bool = False
    waveform: str = ""
    sample_rate_hz: float = 40e3
    filter: str = "NORM"
    burst: bool = False
    cycles: float = 1.0
    burst_period_s: float = 10e-3
    burst_phase_deg: float = 0.0
    gate_polarity: str = "NORM"
    trigger_source: str = "IMM"
    trigger_slope: str = "POS"
    trigger_delay_s: float = 0.0
    trigger_timer_s: float = 1.0
    trigger_count: float = 1.0

    @property
    def high_v(self) -> float:
        """Upper level in V."""
        return self.offset_v + self.amplitude_vpp / 2.0

    @property
    def low_v(self) -> float:
        """Lower level in V."""
        return self.offset_v - self.amplitude_vpp / 2.0

    def with_frequency(self, frequency_hz: float) -> Settings:
        """Return the settings at another frequency; pulses keep width or duty cycle if they fit."""
        ratio = self.frequency_hz / frequency_hz if self.pulse_hold == "DCYC" else 1.0
        widest_s = 1.0 / frequency_hz - NARROWEST_PULSE_S
        width_s = min(self.pulse_width_s * ratio, widest_s)
        return replace(self, frequency_hz=frequency_hz, pulse_width_s=width_s)

    def with_pulse_width(self, width_s: float) -> Settings:
        """Return the settings for another width of pulses; raises ScpiError -221."""
        if width_s > 1.0 / self.frequency_hz - NARROWEST_PULSE_S * 0.999:
            raise ScpiError(-221, "the pulse is too wide for its period")
        if width_s < NARROWEST_PULSE_S * 0.999:
            raise ScpiError(-221, f"a pulse is at least {NARROWEST_PULSE_S:g} s wide")
        return replace(self, pulse_width_s=width_s)

    def high_part(self) -> float:
        """Return the part of a period for which a square wave or a pulse is high."""
        if self.function == "SQU":
            return self.square_duty_pct / 100.0
        return self.pulse_width_s * self.frequency_hz

    def start_phase_deg(self) -> float:
        """Return the phase a waveform starts with."""
        return self.phase_deg + (self.burst_phase_deg if self.burst else 0.0)

    def repetition_s(self) -> float:
        """Return the time from burst to burst without outer trigger."""
        return self.trigger_timer_s if self.trigger_source == "TIM" else self.burst_period_s

    def timing(self) -> tuple[object, ...]:
        """Return what restarts the waveform when it changes."""
        shape = (self.on, self.function, self.waveform, self.frequency_hz, self.sample_rate_hz)
        return (*shape, self.burst, self.trigger_source)

    def with_load(self, load_ohm: float) -> Settings:
        """Return the settings for another load: the source stays, the display follows."""
        ratio = divider(load_ohm) / divider(self.load_ohm)
        return replace(
            self,
            load_ohm=load_ohm,
            amplitude_vpp=self.amplitude_vpp * ratio,
            offset_v=self.offset_v * ratio,
        )

    def between(self, low_v: float, high_v: float) -> Settings:
        """Return the settings for two levels; raises ScpiError -221 unless high is above low."""
        if high_v <= low_v:
            raise ScpiError(-221, "high level is not above low level")
        return replace(self, amplitude_vpp=high_v - low_v, offset_v=(high_v + low_v) / 2.0)

    def with_unit(self, unit: str) -> Settings:
        """Return the settings in another unit; raises ScpiError -221 for dBm into no load."""
        if unit == "DBM" and self.load_ohm == math.inf:
            raise ScpiError(-221, "dBm needs a finite load")
        return replace(self, unit=unit)

    def check_levels(self) -> None:
        """Raise ScpiError -222 or -221 if the output cannot give these levels."""
        scale = divider(self.load_ohm)
        smallest, largest = SMALLEST_OPEN_VPP * scale, 2.0 * LARGEST_OPEN_V * scale
        if not smallest - _ROUNDING <= self.amplitude_vpp <= largest + _ROUNDING:
            raise ScpiError(-222, f"amplitude must be {smallest:g} to {largest:g} Vpp")
        peak_v = max(abs(self.high_v), abs(self.low_v))
        if peak_v > LARGEST_OPEN_V * scale + _ROUNDING:
            raise ScpiError(-221, f"peak exceeds {LARGEST_OPEN_V * scale:g} V")

    def amplitude_limits(self) -> Number:
        """Return what VOLT accepts as MIN, MAX and DEF, in Vpp."""
        scale = divider(self.load_ohm)
        return Number("V", SMALLEST_OPEN_VPP * scale, 2.0 * LARGEST_OPEN_V * scale, 0.2 * scale)

    def parse_amplitude(self, parameter: Parameter, rms: float) -> float:
        """Read an amplitude with or without unit, return Vpp; `rms` is that of a unit wave."""
        text = parameter.text().upper()
        if parameter.form is Form.PLAIN and text[:3] in ("MIN", "MAX", "DEF"):
            return self.amplitude_limits().limit(parameter)
        for unit, suffix in (("VPP", "PP"), ("VRMS", "RMS"), ("DBM", "")):
            if text.endswith(unit):
                shorter = text.removesuffix(suffix).encode("latin-1")
                kind = Number("V" if suffix else "DBM")
                return self._to_vpp(kind.parse(Parameter(parameter.form, shorter)), unit, rms)
        return self._to_vpp(Number("V").parse(parameter), self.unit, rms)

    def in_unit(self, vpp: float, rms: float) -> float:
        """Return an amplitude in the unit of the display."""
        vrms = vpp / 2.0 * rms
        if self.unit == "DBM":
            return w_to_dbm(vrms**2 / self.load_ohm)
        return vrms if self.unit == "VRMS" else vpp

    def _to_vpp(self, value: float, unit: str, rms: float) -> float:
        if unit == "VPP":
            return value
        if unit == "VRMS":
            return 2.0 * value / rms
        if self.load_ohm == math.inf:
            raise ScpiError(-221, "dBm needs a finite load")
        if value > 100.0:
            raise ScpiError(-222)
        return 2.0 * math.sqrt(dbm_to_w(value) * self.load_ohm) / rms
