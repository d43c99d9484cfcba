"""The server's transmitter: laser, modulator and attenuator that send frames of a known power."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from labctl.dsp.layout import PEAK, FrameLayout
from labctl.dsp.sender import FrameSender, Predistortion
from labctl.errors import InstrumentError, SettingError, SignalError
from labctl.protocols.bench_causes import Rest
from labctl.protocols.encoding import Floats
from labctl.protocols.link import LayerLight
from labctl.station.equipment import ServerEquipment
from labctl.station.file import FrameTable
from labctl.units import db_to_ratio, photon_energy_j, ratio_to_db

# Progress messages while the monitor is read: first without the payload, then with it.
PAYLOAD_STEP = ("monitor: at rest", "monitor: payload alone")
_LEVEL_NAME = "LEVEL"
# A quarter of a reading's noise, which is known from their scatter to 1/sqrt(2 x 15) = 18 %.
_READINGS = 16
# Over the modulator's largest: normal weights' peaks, of five times the RMS, reach half of it.
_RMS_FIELD = 0.1


@dataclass(frozen=True)
class Level:
    """How the light was set: mu, the attenuation in dB, the relative error of the readings."""

    mean_photons: float
    attenuation_db: float
    relative_error: float
    readings: int


class Transmitter:
    """Sends one frame per trigger; knows the server's light and nothing of the client.

    In a frame each block is a separate row, with pilot and readout slot.

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
        self._mean_photons = mean_photons
        self._on_step = on_step
        # Carrier and quadrature are settled again with each lock of the biases; the gain stays.
        gain = Predistortion(gain=equipment.constants.iq_gain)
        self._sender = FrameSender(equipment, frame, on_step, predistortion=gain)
        self._selected: int | None = None
        self._stored: dict[int, LayerLight] = {}
        self.layouts: dict[int, FrameLayout] = {}
        self.scale = 1.0
        self.level: Level | None = None
        self.rest: Rest | None = None

    def prepare(self, layers: Sequence[LayerLight]) -> None:
        """Switch on, level every layer's payload on the power meter, upload every frame.

        What is sent later may carry other values, of the same power and the same largest one.
        """
        self._sender.switch_on()
        self.layouts.update({light.layer: self.layout(light) for light in layers})
        self.scale = scale = _common_scale(layers, self._mean_photons)
        self._on_step(f"level to {self._mean_photons:g} photons a mode")
        self._level(max(layers, key=lambda light: light.quadratures.size), scale)
        for light in layers:
            self._on_step(f"layer {light.layer + 1}: upload")
            self.load(light)

    def layout(self, light: LayerLight) -> FrameLayout:
        """Return the frame of a layer, whose rows are the blocks of the layer's."""
        blocks = light.blocks
        return self._sender.layout(rows=light.rows * blocks.count, modes=blocks.size)

    def load(self, light: LayerLight) -> None:
        """Store a layer's frame in the generator, unless this very light is stored already.

        A frame instead of another one of its layer costs the frames of all other layers: the
        generator's memory is cleared as a whole.
        """
        layer = light.layer
        if self._stored.get(layer) is light:
            return
        if layer in self._stored:
            self._sender.forget()
            self._stored.clear()
        layout = self.layouts[layer]
        self._sender.upload(
            _name(layer), layout, layout.server_symbols(_in_slots(light), self.scale)
        )
        self._stored[layer] = light
        self._selected = None

    def select(self, layer: int) -> None:
        """Make the layer's frame, at its power, the one that the next trigger sends."""
        if self._selected == layer:
            return
        self._sender.select(_name(layer))
        self._selected = layer

    def send(self) -> None:
        """Start the selected frame."""
        self._sender.send()

    def wait(self) -> None:
        """Return when the frame has ended."""
        self._sender.wait()

    def _level(self, light: LayerLight, scale: float) -> None:
        """Attenuate so that mu photons per mode reach the fibre, measured on the payload alone.

        All layers have the same RMS and the same scale, so one of them sets the power of all.
        """
        layout = self.layouts[light.layer]
        self._sender.forget()
        self._on_step(PAYLOAD_STEP[0])
        background_w, background_error_w = self._monitor_w()
        symbols = layout.server_symbols(_in_slots(light), scale, pilots=False)
        self._sender.upload(_LEVEL_NAME, layout, symbols)
        self._sender.play(_LEVEL_NAME)
        self._on_step(PAYLOAD_STEP[1])
        modes = light.rows * light.modes
        played_w, error_w = self._monitor_w()
        added_w = played_w - background_w
        self.rest = Rest(background_w, played_w)
        attenuation_db = self._attenuate(layout.duration_s, modes, added_w)
        self.level = Level(
            mean_photons=self._mean_photons,
            attenuation_db=attenuation_db,
            relative_error=math.hypot(error_w, background_error_w) / added_w,
            readings=_READINGS,
        )
        self._sender.forget()

    def _monitor_w(self) -> tuple[float, float]:
        """Return the mean of several readings of the monitor in W, and its standard error."""
        readings = [self._equipment.monitor.power_w() for _ in range(_READINGS)]
        return float(np.mean(readings)), float(np.std(readings, ddof=1)) / math.sqrt(_READINGS)

    def _attenuate(self, frame_s: float, modes: int, monitor_w: float) -> float:
        """Set and return the attenuation in dB for what a frame's modes add to the monitor."""
        constants = self._equipment.constants
        energy_j = monitor_w * constants.monitor_ratio * frame_s
        photons = energy_j / photon_energy_j(self._equipment.laser_frequency_hz)
        per_mode = photons / modes
        if not per_mode > 0.0:
            raise SignalError(
                f"monitor reads {monitor_w:.3g} W more while light is modulated: is the laser on, "
                "the modulator biased and driven, the head on its tap?"
            )
        at_zero_db = per_mode * db_to_ratio(-constants.fixed_attenuation_db)
        wanted_db = ratio_to_db(at_zero_db / self._mean_photons)
        attenuation_db = wanted_db / constants.attenuator_slope
        try:
            self._equipment.attenuator.set_attenuation(attenuation_db)
        except InstrumentError as error:
            raise SettingError(
                "mean_photons",
                self._mean_photons,
                f"in reach of the attenuator: {attenuation_db:.2f} dB would be needed from "
                f"{at_zero_db:.4g} photons per mode at 0 dB ({error})",
            ) from error
        return attenuation_db


def _common_scale(layers: Sequence[LayerLight], mean_photons: float) -> float:
    """Return field per SNU: the RMS field wanted, less where the largest weight would not fit."""
    largest = max(float(np.max(np.abs(light.quadratures))) for light in layers)
    return min(PEAK / largest, _RMS_FIELD / math.sqrt(2.0 * mean_photons))


def _in_slots(light: LayerLight) -> Floats:
    """Return mean interleaved quadratures (rows * blocks, 2b); a short block ends in darkness."""
    return light.blocks.split(light.quadratures).reshape(light.rows * light.blocks.count, -1)


def _name(layer: int) -> str:
    return f"LAYER{layer}"
