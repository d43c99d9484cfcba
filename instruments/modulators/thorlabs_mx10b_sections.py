"""The parts of a Thorlabs MX10B beyond its capabilities: laser, bias, amplifier, VOA and system.

Commands with their ranges: docs/wire/thorlabs_mx10b.md, sections System, Laser, Bias, Amplifier and
Attenuator [2+]. A box that lacks a part answers "Feature not present".
"""

from __future__ import annotations

from typing import Literal

from labctl.errors import LimitError
from labctl.instruments.driver_rules import require_range
from labctl.instruments.modulators.thorlabs_mx10b_line import MX10BLine
from labctl.units import dbm_to_w, w_to_dbm


class MX10BLaser:
    """`LAS`: channels of a grid, fine tuning, dither and the tap behind the laser."""

    def __init__(self, line: MX10BLine) -> None:
        self._line = line

    def set_channel(self, channel: int) -> None:
        """Tune to a channel, from 1, and wait until the laser is locked again if it is on."""
        require_range(self._line.name, "channel", channel, 1, 0xFFFF)
        self._tune(f"LAS:CHAN: {channel}")

    def channel(self) -> int:
        """Return the channel that is set."""
        return round(self._line.number("LAS:CHAN?"))

    def set_fine_tuning(self, offset_hz: float) -> None:
        """Shift the channel by -30 to 30 GHz, in Hz (1 MHz steps); raises LimitError."""
        require_range(self._line.name, "offset_hz", offset_hz, -30e9, 30e9, "Hz")
        self._tune(f"LAS:FINE: {round(offset_hz * 1e-6)}")

    def fine_tuning_hz(self) -> float:
        """Return by how much the channel is shifted, in Hz."""
        return self._line.number("LAS:FINE?") * 1e6

    def laser_frequency_hz(self) -> float:
        """Return the frequency in Hz, fine tuning included."""
        return self._line.number("LAS:FREQ?") * 1e9

    def nominal_frequency_hz(self) -> float:
        """Return the channel's frequency in Hz."""
        return self._line.number("LAS:FREQ_NOM?") * 1e9

    def set_dither(self, on: bool) -> None:
        """Modulate the laser's frequency to keep it locked, or not."""
        self._line.set(f"LAS:D: {on:d}")

    def dither(self) -> bool:
        """Return whether the laser's frequency is modulated."""
        return self._line.flag("LAS:D?")

    def select(self, band: Literal["CBAND", "LBAND", "1310"]) -> None:
        """Choose among the lasers of the box."""
        self._line.set(f"LAS:SEL:{band}")

    def selected(self) -> str:
        """Return which laser is chosen, as the box spells it."""
        return self._line.query("LAS:SEL?")

    def tap_power_w(self) -> float:
        """Return the power in W at the tap behind the laser."""
        return dbm_to_w(self._line.number("LAS:TAP:DBM?"))

    def _tune(self, command: str) -> None:
        self._line.set(command)
        if self._line.flag("LAS:POW?"):
            self._line.settle(lambda: self._line.flag("LAS:SET?"), "laser did not lock", "LAS:SET?")


class MX10BBias:
    """`MZM`: the dither that finds the bias point, and the tap behind the modulator."""

    def __init__(self, line: MX10BLine) -> None:
        self._line = line

    def set_dither(self, amplitude_v: float, dither_hz: float) -> None:
        """Set the dither: 0.02 to 2 V peak to peak, 1000 to 10000 Hz; raises LimitError."""
        require_range(self._line.name, "amplitude_v", amplitude_v, 0.02, 2.0, "V")
        require_range(self._line.name, "dither_hz", dither_hz, 1000, 10_000, "Hz")
        self._line.set(f"MZM:D:AMPL: {round(amplitude_v * 1e3)}", f"MZM:D:FREQ: {round(dither_hz)}")

    def dither(self) -> tuple[float, float]:
        """Return the dither's peak-to-peak voltage in V and its frequency in Hz."""
        return self._line.number("MZM:D:AMPL?") * 1e-3, self._line.number("MZM:D:FREQ?")

    def hold_ratio(self, ratio: float, *, positive: bool) -> None:
        """Hold a ratio of 2.5 to 100 on the slope that is `positive` or not; raises LimitError."""
        require_range(self._line.name, "ratio", ratio, 2.5, 100.0)
        self._line.set(f"MZM:HOLD:R: {round(ratio * 100)}", f"MZM:MODE: {5 if positive else 6}")

    def hold_power(self, *, positive: bool) -> None:
        """Hold the present power, on the slope that is `positive` or not."""
        self._line.set(f"MZM:MODE: {8 if positive else 9}")

    def mode(self) -> int:
        """Return the mode, 0 to 9."""
        return round(self._line.number("MZM:MODE?"))

    def recalibrate(self) -> None:
        """Search the transfer curve again, return when done; raises InstrumentTimeoutError."""
        self._line.set("MZM:RESET")
        problem = "bias is still calibrating"
        self._line.settle(lambda: not self._line.flag("MZM:CAL?"), problem, "MZM:CAL?")

    def tap_power_w(self) -> float:
        """Return the power in W at the tap behind the modulator."""
        return dbm_to_w(self._line.number("MZM:TAP:DBM?"))


class MX10BAmplifier:
    """`AMP`: the driver amplifier, which MX boxes alone have."""

    def __init__(self, line: MX10BLine) -> None:
        self._line = line

    def set_power(self, on: bool) -> None:
        """Switch the amplifier."""
        self._line.set(f"AMP:POW: {on:d}")

    def set_mode(self, mode: Literal["digital", "analog"]) -> None:
        """Choose between limiting (digital) and linear (analog) amplification."""
        self._line.set(f"AMP:MODE: {int(mode == 'analog')}")

    def set_gain(self, gain_db: float) -> None:
        """Set the gain of linear amplification, 10 to 23 dB; raises LimitError."""
        require_range(self._line.name, "gain_db", gain_db, 10, 23, "dB")
        self._line.set(f"AMP:GAIN: {gain_db:g}")

    def set_crossing(self, mode: Literal["digital", "analog"], crossing: float) -> None:
        """Set the crossing point of a mode, -1 to 1; raises LimitError."""
        require_range(self._line.name, "crossing", crossing, -1, 1)
        self._line.set(f"AMP:CROSS:{'ANA' if mode == 'analog' else 'DIG'}: {crossing:g}")

    def swing_half_wave(self) -> None:
        """Set the swing of limiting amplification to the modulator's half-wave voltage."""
        self._line.set("AMP:SWING:VPI")

    def settled(self) -> bool:
        """Return whether the amplifier is stable."""
        return self._line.flag("AMP:SET?")


class MX10BOutput:
    """`VOA` and `SYS`: constant output power, the last tap, and the box as a whole."""

    def __init__(self, line: MX10BLine) -> None:
        self._line = line

    def hold_power(self, power_w: float) -> None:
        """Hold a power behind the attenuator, in W, -20 to 20 dBm; raises LimitError."""
        require_range(self._line.name, "power_w", power_w, 1e-5, 0.1, "W")
        self._line.set(f"VOA:OUT:DBM: {w_to_dbm(power_w):.2f}", "VOA:MODE: 1", "VOA:POW: 1")

    def measured_attenuation_db(self) -> float:
        """Return the attenuation in dB that is measured."""
        return self._line.number("VOA:MEAS?")

    def error_db(self) -> float:
        """Return how far the attenuator is from what was asked for, in dB."""
        return self._line.number("VOA:ERR?")

    def tap_power_w(self) -> float:
        """Return the power in W at the tap behind the attenuator."""
        return dbm_to_w(self._line.number("VOA:TAP:DBM?"))

    def set_wavelength(self, wavelength_m: float) -> None:
        """Choose the wavelength that taps are calibrated for: 1310, 1550 or 1590 nm, in m."""
        wavelength_nm = round(wavelength_m * 1e9) if 0 < wavelength_m < 1 else 0
        if wavelength_nm not in (1310, 1550, 1590):
            valid = "1.31e-06, 1.55e-06 or 1.59e-06 m"
            raise LimitError(self._line.name, "wavelength_m", wavelength_m, valid)
        self._line.set(f"SYS:WAVE: {wavelength_nm}")

    def sleep(self) -> None:
        """Put the box to sleep: dark, unbiased, least attenuation; settings are kept."""
        self._line.set("SYS:SLEEP")

    def wake(self) -> None:
        """Wake the box with its earlier settings."""
        self._line.set("SYS:WAKE")
