"""The server's sender: laser, modulator and generator that put frames of symbols on the light."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labctl.instruments.capabilities import BiasPoint, TriggerSource
from labctl.instruments.equipment import ServerEquipment
from labctl.instruments.frames.layout import Complexes, FrameLayout, modulator_drive
from labctl.station_file import FrameTable
from labctl.units import frequency_to_wavelength_m


class FrameSender:
    """Uploads frames, plays one of them continuously or once per trigger.

    The drive is linearised by the half-wave voltages of the station's constants.
    """

    def __init__(
        self,
        equipment: ServerEquipment,
        frame: FrameTable,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._equipment = equipment
        self._frame = frame
        self._on_step = on_step

    def layout(self, *, rows: int, modes: int) -> FrameLayout:
        """Return the slots of a frame of `rows` rows of `modes` modes."""
        return FrameLayout(
            symbol_rate_hz=self._frame.symbol_rate_hz,
            sample_rate_hz=self._frame.sample_rate_hz,
            preamble_symbols=self._frame.preamble_symbols,
            guard_symbols=self._frame.guard_symbols,
            rows=rows,
            modes=modes,
        )

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
        """Store a frame on both channels; `symbols` (slots,) in units of the largest field."""
        drive = self._equipment.drive
        for channel, part in zip(drive.channels, (symbols.real, symbols.imag), strict=True):
            samples = modulator_drive(layout.pulses(np.ascontiguousarray(part)))
            drive.generator.upload(channel, name, samples)

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
