"""The bench as calibration routines see it: equipment by role, frames, records, mean powers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.calibration.names import Party
from labctl.dsp.dsp import read_slots
from labctl.dsp.layout import Complexes, Floats, FrameLayout
from labctl.dsp.recorder import RECORD_MARGIN_S, Recorder
from labctl.dsp.sender import FrameSender, Predistortion
from labctl.instruments.capabilities import PowerMeter, Trace
from labctl.station.equipment import Equipment

# Student's t for 95 % is 3.2 at three degrees of freedom; one reading fewer makes it 4.3.
_LEAST_READINGS = 4
_STEADY_NAME = "STEADY"
# A waveform of one level; its length only has to be one that every generator takes.
_STEADY_SAMPLES = 2**14


@dataclass(frozen=True)
class MeanPower:
    """The mean of several readings in W, with its standard error and their number."""

    power_w: float
    standard_error_w: float
    readings: int


class CalibrationBench:
    """What a routine works with.

    `equipment` carries the best constants known so far. `effort` scales how many readings and
    records a routine takes (1 is a full calibration). `draw` is the routines' own randomness.
    """

    def __init__(
        self,
        equipment: Equipment,
        knowledge: Knowledge = NOTHING,
        *,
        effort: float = 1.0,
        seed: int = 0,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._nominal = equipment
        self._lit = False
        self.effort = effort
        self.on_step = on_step
        self.draw = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
        self.recorders: dict[Party, Recorder] = {
            "server": Recorder(equipment.server.digitizer, equipment.server.channel),
        }
        if equipment.has_client:
            client = equipment.client
            self.recorders["client"] = Recorder(client.digitizer, client.channel)
        self.learn(knowledge)

    def learn(self, knowledge: Knowledge) -> None:
        """Use what is known from now on."""
        self.knowledge = knowledge
        self.equipment = knowledge.applied(self._nominal)
        server = self.equipment.server
        self.sender = FrameSender(
            server,
            self.equipment.frame,
            self.on_step,
            predistortion=Predistortion(gain=server.constants.iq_gain),
        )

    def count(self, full: int, least: int = _LEAST_READINGS) -> int:
        """Return how many readings or records to take where a full calibration takes `full`."""
        return max(round(full * self.effort), least)

    def light_on(self) -> None:
        """Laser on at the station's power, biases locked, nothing driven, light on its way."""
        server = self.equipment.server
        if not self._lit:
            self.sender.switch_on()
            self._lit = True
        self.sender.rest()
        server.shutter.set(0.0)
        server.lo_phase.set(0.0)
        if self.equipment.has_client:
            self.rest_rotation()
            self.equipment.client.lo_phase.set(0.0)

    def light_changed(self) -> None:
        """Have the next `light_on` switch laser and biases on again."""
        self._lit = False

    def rest_rotation(self) -> None:
        """Switch the client's rotation off: light passes slot by slot."""
        rotation = self.equipment.client.rotation
        for channel in rotation.channels:
            rotation.generator.set_output(channel, False)

    def mean_power(self, meter: PowerMeter, readings: int) -> MeanPower:
        """Return the mean of `readings` readings (2 or more)."""
        values = np.array([meter.power_w() for _ in range(readings)])
        error = float(values.std(ddof=1)) / math.sqrt(readings)
        return MeanPower(float(values.mean()), error, readings)

    def load(self, name: str, layout: FrameLayout, symbols: Complexes) -> None:
        """Upload a frame and make it the one that `record` sends."""
        self.sender.forget()
        self.sender.upload(name, layout, symbols)
        self.sender.select(name)

    def duration_s(self, layout: FrameLayout) -> float:
        """Return how long a record must be that holds a frame with any delay."""
        return layout.duration_s + self.equipment.frame.longest_delay_s + RECORD_MARGIN_S

    def record(self, parties: Collection[Party], duration_s: float) -> dict[Party, Trace]:
        """Send the loaded frame and return the parties' records."""
        for party in parties:
            self.recorders[party].arm(duration_s)
        self.sender.send()
        traces = {party: self.recorders[party].read() for party in parties}
        self.sender.wait()
        return traces

    def fit_ranges(self, parties: Collection[Party], duration_s: float, rounds: int = 2) -> None:
        """Fit the recorders' ranges to what they see now."""
        for _ in range(rounds):
            for party, trace in self.record(parties, duration_s).items():
                self.recorders[party].fit_range(trace)

    def slots(self, trace: Trace, layout: FrameLayout) -> Floats:
        """Return all matched-filter values of a record as if a frame began with it, in V."""
        return read_slots(trace, layout, trace.start_s, 0, layout.slots)

    def steady_light(self) -> None:
        """Drive both children between their largest fields by a slow square wave: a steady beam.

        For power meters; `sender.forget` ends it.
        """
        drive, constants = self.equipment.server.drive, self.equipment.server.constants
        self.sender.forget()
        wave = np.repeat(np.array([1.0, -1.0], np.float32), _STEADY_SAMPLES)
        for channel, v_pi_v in zip(
            drive.channels, (constants.v_pi_i_v, constants.v_pi_q_v), strict=True
        ):
            drive.generator.upload(channel, _STEADY_NAME, wave)
            drive.generator.play(
                channel,
                _STEADY_NAME,
                sample_rate_hz=self.equipment.frame.sample_rate_hz,
                amplitude_v=drive.amplitude_v(v_pi_v),
                offset_v=0.0,
            )
            drive.generator.set_output(channel, True)
