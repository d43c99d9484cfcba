"""The server's transmitter: laser, modulator and attenuator that send frames of a known power."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from labctl.errors import InstrumentError, SettingError, SignalError
from labctl.instruments.capabilities import BiasPoint, TriggerSource
from labctl.protocols.encoding import Floats
from labctl.protocols.equipment import ServerEquipment
from labctl.protocols.frames import PEAK, FrameLayout, modulator_drive
from labctl.protocols.link import LayerLight
from labctl.station_file import FrameTable
from labctl.units import db_to_ratio, frequency_to_wavelength_m, photon_energy_j, ratio_to_db

_LEVEL_NAME = "LEVEL"
_READINGS = 16
_RMS_FIELD = 0.1


class Transmitter:
    """Sends one frame per trigger; knows the server's light and nothing of the client.

    `scale`: field of the modulator, in units of its largest, per SNU of what is sent.
    """

    def __init__(
        self,
        equipment: ServerEquipment,
        frame: FrameTable,
        mean_photons: float,
        on_step: Callable[[str], None],
    ) -> None:
        self._equipment = equipment
        self._frame = frame
        self._mean_photons = mean_photons
        self._on_step = on_step
        self._selected: int | None = None
        self.layouts: dict[int, FrameLayout] = {}
        self.scale = 1.0

    def prepare(self, layers: Sequence[LayerLight]) -> None:
        """Switch on, level every layer's payload on the power meter, upload every frame."""
        self._switch_on()
        self.layouts.update({light.layer: self._layout(light) for light in layers})
        self.scale = scale = _common_scale(layers, self._mean_photons)
        self._on_step(f"level to {self._mean_photons:g} photons a mode")
        self._level(max(layers, key=lambda light: light.quadratures.size), scale)
        for light in layers:
            self._on_step(f"layer {light.layer + 1}: upload")
            layout = self.layouts[light.layer]
            symbols = layout.server_symbols(light.quadratures, scale)
            self._upload(_name(light.layer), layout, symbols)
        self._selected = None

    def select(self, layer: int) -> None:
        """Make the layer's frame, at its power, the one that the next trigger sends."""
        if self._selected == layer:
            return
        self._play(_name(layer))
        for channel in self._equipment.drive.channels:
            self._equipment.drive.generator.burst(channel, cycles=1, trigger=TriggerSource.SOFTWARE)
        self._selected = layer

    def send(self) -> None:
        """Start the selected frame."""
        self._equipment.drive.generator.trigger()

    def wait(self) -> None:
        """Return when the frame has ended."""
        self._equipment.drive.generator.wait_for_bursts()

    def _switch_on(self) -> None:
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
        for channel in equipment.drive.channels:
            equipment.drive.generator.set_output(channel, False)
        equipment.bias_i.lock(BiasPoint.NULL)
        equipment.bias_q.lock(BiasPoint.NULL)
        equipment.bias_parent.lock(BiasPoint.QUADRATURE_PLUS)

    def _layout(self, light: LayerLight) -> FrameLayout:
        return FrameLayout(
            symbol_rate_hz=self._frame.symbol_rate_hz,
            sample_rate_hz=self._frame.sample_rate_hz,
            preamble_symbols=self._frame.preamble_symbols,
            guard_symbols=self._frame.guard_symbols,
            rows=light.rows,
            modes=light.modes,
        )

    def _forget(self) -> None:
        for channel in self._equipment.drive.channels:
            self._equipment.drive.generator.set_output(channel, False)
            self._equipment.drive.generator.forget(channel)

    def _upload(self, name: str, layout: FrameLayout, symbols: Sequence[Floats]) -> None:
        drive = self._equipment.drive
        for channel, part in zip(drive.channels, symbols, strict=True):
            drive.generator.upload(channel, name, modulator_drive(layout.pulses(part)))

    def _play(self, name: str) -> None:
        """Play a waveform continuously on both channels."""
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

    def _level(self, light: LayerLight, scale: float) -> None:
        """Attenuate so that mu photons per mode reach the fibre, measured on the payload alone.

        All layers have the same RMS and the same scale, so one of them sets the power of all.
        """
        layout = self.layouts[light.layer]
        self._forget()
        background_w = self._monitor_w()
        symbols = layout.server_symbols(light.quadratures, scale, pilots=False)
        self._upload(_LEVEL_NAME, layout, symbols)
        self._play(_LEVEL_NAME)
        self._attenuate(layout, self._monitor_w() - background_w)
        self._forget()

    def _monitor_w(self) -> float:
        """Return the mean of several readings of the monitor in W."""
        readings = [self._equipment.monitor.power_w() for _ in range(_READINGS)]
        return sum(readings) / _READINGS

    def _attenuate(self, layout: FrameLayout, monitor_w: float) -> None:
        """Set the attenuation, `monitor_w` being what the payload adds to the monitor's reading."""
        constants = self._equipment.constants
        energy_j = monitor_w * constants.monitor_ratio * layout.duration_s
        photons = energy_j / photon_energy_j(self._equipment.laser_frequency_hz)
        per_mode = photons / (layout.rows * layout.modes)
        if not per_mode > 0.0:
            raise SignalError(
                f"monitor reads {monitor_w:.3g} W more while light is modulated: is the laser on, "
                "the modulator biased and driven, the head on its tap?"
            )
        at_zero_db = per_mode * db_to_ratio(-constants.fixed_attenuation_db)
        attenuation_db = ratio_to_db(at_zero_db / self._mean_photons)
        try:
            self._equipment.attenuator.set_attenuation(attenuation_db)
        except InstrumentError as error:
            raise SettingError(
                "mean_photons",
                self._mean_photons,
                f"in reach of the attenuator: {attenuation_db:.2f} dB would be needed from "
                f"{at_zero_db:.4g} photons per mode at 0 dB ({error})",
            ) from error


def _common_scale(layers: Sequence[LayerLight], mean_photons: float) -> float:
    """Return field per SNU: the RMS field wanted, less where the largest weight would not fit."""
    largest = max(float(np.max(np.abs(light.quadratures))) for light in layers)
    return min(PEAK / largest, _RMS_FIELD / math.sqrt(2.0 * mean_photons))


def _name(layer: int) -> str:
    return f"LAYER{layer}"
