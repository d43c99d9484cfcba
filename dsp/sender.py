"""The server's sender: laser, modulator and generator that put frames of symbols on the light.

1. The modulator's children are locked at their nulls, the parent at quadrature: a drive of u
   half-wave voltages gives the field sin(pi u/2), I and Q a quarter turn apart.
2. A frame's symbols, in units of the largest field, become pulses. The inverse of what the
   modulator does to fields (`Predistortion`) is applied, then the arcsine, which makes it linear.
3. Both waveforms are stored in the generator under a name and played, over and over or once per
   trigger, at the half-wave voltage of each child.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labctl import checks
from labctl.dsp.layout import Complexes, Floats, FrameLayout, modulator_drive
from labctl.instruments.capabilities import BiasPoint, TriggerSource
from labctl.station.equipment import ServerEquipment
from labctl.station.file import FrameTable
from labctl.units import frequency_to_wavelength_m


@dataclass(frozen=True)
class Predistortion:
    """How an I/Q modulator changes fields driven to it, and the inverse.

    Driven to x_i and x_q it puts out x_i + i gain exp(i quadrature_rad) x_q + carrier_i +
    i carrier_q, in units of its largest field: `gain` is that of Q over I, the carrier what leaks.
    Raises SettingError for a gain that is not above 0, or axes that are not apart.
    """

    gain: float = 1.0
    quadrature_rad: float = 0.0
    carrier_i: float = 0.0
    carrier_q: float = 0.0

    def __post_init__(self) -> None:
        checks.positive("gain", self.gain)
        apart = abs(self.quadrature_rad) < math.pi / 2.0
        checks.require(apart, "quadrature_rad", self.quadrature_rad, "between -pi/2 and pi/2")
        for name in ("carrier_i", "carrier_q"):
            checks.inside(name, getattr(self, name), -1.0, 1.0)

    def made(self, drive_i: Floats, drive_q: Floats) -> Complexes:
        """Return the field that these drives produce."""
        turned = np.complex64(1j * self.gain * np.exp(1j * self.quadrature_rad))
        field = drive_i + turned * drive_q + np.complex64(complex(self.carrier_i, self.carrier_q))
        return np.asarray(field, np.complex64)

    def driven(self, wanted_i: Floats, wanted_q: Floats) -> tuple[Floats, Floats]:
        """Return the drives that produce the wanted field."""
        if self == _NONE:
            return wanted_i, wanted_q
        sine, cosine = math.sin(self.quadrature_rad), math.cos(self.quadrature_rad)
        drive_q = (wanted_q - np.float32(self.carrier_q)) / np.float32(self.gain * cosine)
        drive_i = wanted_i - np.float32(self.carrier_i) + np.float32(self.gain * sine) * drive_q
        return drive_i, drive_q


_NONE = Predistortion()


def frame_layout(frame: FrameTable, *, rows: int, modes: int) -> FrameLayout:
    """Return the slots of a frame of `rows` rows of `modes` modes; public, the same to both."""
    return FrameLayout(
        symbol_rate_hz=frame.symbol_rate_hz,
        sample_rate_hz=frame.sample_rate_hz,
        preamble_symbols=frame.preamble_symbols,
        guard_symbols=frame.guard_symbols,
        rows=rows,
        modes=modes,
        turns=frame.turns,
    )


class FrameSender:
    """Uploads frames, plays one of them continuously or once per trigger.

    The drive is linearised by the half-wave voltages of the station's constants, and corrected by
    `predistortion`.
    """

    def __init__(
        self,
        equipment: ServerEquipment,
        frame: FrameTable,
        on_step: Callable[[str], None] = lambda step: None,
        predistortion: Predistortion = _NONE,
    ) -> None:
        self._predistortion = predistortion
        self._equipment = equipment
        self._frame = frame
        self._on_step = on_step

    def layout(self, *, rows: int, modes: int) -> FrameLayout:
        """Return the slots of a frame of `rows` rows of `modes` modes."""
        return frame_layout(self._frame, rows=rows, modes=modes)

    def switch_on(self) -> None:
        """Zero the monitor in the dark, switch the laser on, lock the modulator's biases."""
        equipment = self._equipment
        self._on_step("monitor: zero in the dark")
        equipment.laser.set_emission(False)
        equipment.monitor.set_wavelength(frequency_to_wavelength_m(equipment.laser_frequency_hz))
        equipment.monitor.zero()
        self._on_step("laser on")
        equipment.laser.set_frequency(equipment.laser_frequency_hz)
        equipment.laser.set_power(equipment.laser_power_w)
        equipment.laser.set_emission(True)
        self._on_step("modulator bias: lock")
        self.rest()
        equipment.bias_i.lock(BiasPoint.NULL)
        equipment.bias_q.lock(BiasPoint.NULL)
        equipment.bias_parent.lock(BiasPoint.QUADRATURE_PLUS)

    def upload(self, name: str, layout: FrameLayout, symbols: Complexes) -> None:
        """Store a frame on both channels; `symbols` (slots,) in units of the largest field.

        Raises SettingError where they, or what corrects them, are beyond the largest field.
        """
        drive = self._equipment.drive
        in_phase, quadrature = (
            layout.pulses(np.ascontiguousarray(part)) for part in (symbols.real, symbols.imag)
        )
        fields = self._predistortion.driven(in_phase, quadrature)
        largest = max(float(np.max(np.abs(field), initial=0.0)) for field in fields)
        checks.require(
            largest <= 1.0, "symbols", largest, "at most 1, the modulator's largest field"
        )
        for channel, field in zip(drive.channels, fields, strict=True):
            drive.generator.upload(channel, name, modulator_drive(field))

    def play(self, name: str) -> None:
        """Play a stored frame over and over."""
        drive, constants = self._equipment.drive, self._equipment.constants
        for channel, v_pi_v in zip(
            drive.channels, (constants.v_pi_i_v, constants.v_pi_q_v), strict=True
        ):
            drive.generator.play(
                channel,
                name,
                sample_rate_hz=self._frame.sample_rate_hz,
                amplitude_v=drive.amplitude_v(v_pi_v),
                offset_v=0.0,
            )
            drive.generator.set_output(channel, True)

    def select(self, name: str) -> None:
        """Make a stored frame the one that each `send` sends once."""
        self.play(name)
        for channel in self._equipment.drive.channels:
            self._equipment.drive.generator.burst(channel, cycles=1, trigger=TriggerSource.SOFTWARE)

    def send(self) -> None:
        """Start the selected frame."""
        self._equipment.drive.generator.trigger()

    def wait(self) -> None:
        """Return when the frame has ended."""
        self._equipment.drive.generator.wait_for_bursts()

    def rest(self) -> None:
        """Switch the drive off: the modulator stays at its bias point."""
        for channel in self._equipment.drive.channels:
            self._equipment.drive.generator.set_output(channel, False)

    def forget(self) -> None:
        """Switch the drive off and clear the generator's memory."""
        self.rest()
        for channel in self._equipment.drive.channels:
            self._equipment.drive.generator.forget(channel)
