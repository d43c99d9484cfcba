"""The bench-level link: the same session over instruments, real or simulated.

A pairing of the server's half (`BenchSender`) and the client's (`BenchReceiver`), which know
nothing of each other's equipment. The pairing says when each acts: the client sets its receiver,
both arm their digitizers, the server triggers its frame, each turns its own record into modes.
Before a session both find the frame in their records, with light that carries no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.errors import (
    InstrumentError,
    LabctlError,
    LimitError,
    OtherInstrumentError,
    SettingError,
    SignalError,
    StoppedError,
)
from labctl.instruments.capabilities import Trace
from labctl.protocols.alignment import AlignmentFrame
from labctl.protocols.bench_causes import causes_of
from labctl.protocols.client.bench_alignment import ClientAlignment
from labctl.protocols.client.own_laser_receiver import bench_receiver
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.turns import check_turns
from labctl.protocols.leakage import LayerShape
from labctl.protocols.link import Exchange, LayerLight
from labctl.protocols.receiver import CloneReceiver
from labctl.protocols.server.bench_alignment import ServerAlignment
from labctl.protocols.server.bench_sender import BenchSender, RawSink
from labctl.protocols.server.transmitter import Level
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.station.equipment import Equipment


class BenchLink:
    """Carries layers over the instruments of a station.

    `lo_excess_noise`: intensity noise of the server's local oscillator as calibrated, in SNU, which
    the session's shot-noise unit is stated without. `on_raw`: see `BenchSender`. `sender` and
    `receiver` are the two halves. Raises SettingError for a receiver, or for decoys, that the
    station cannot have.
    """

    def __init__(
        self,
        equipment: Equipment,
        settings: SessionSettings,
        *,
        lo_excess_noise: float = 0.0,
        on_raw: RawSink | None = None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        if not isinstance(settings.receiver, CloneReceiver):
            raise SettingError("receiver", "tap", "an amplifier: a station's rotation unit has one")
        check_turns(settings.hiding, equipment.frame.turns)
        self._equipment = equipment
        self._sampling = settings.sampling
        self._on_step = on_step
        self.sender = BenchSender(
            equipment.server,
            equipment.frame,
            mean_photons=settings.light.mean_photons,
            seed=settings.seed,
            on_raw=on_raw,
            on_step=on_step,
        )
        self.receiver = bench_receiver(
            equipment.client, equipment.frame, gain=settings.receiver.gain, seed=settings.seed
        )
        self._alignment = ServerAlignment(
            self.sender, self._aligned_by, lo_excess_noise=lo_excess_noise, on_step=on_step
        )
        self._client_alignment = ClientAlignment(self.receiver)

    @property
    def level(self) -> Level | None:
        """How the server's light was set, once it is."""
        return self.sender.level

    def duration_s(self, layer: int) -> float:
        """Return how long a prepared layer's frame lasts."""
        return self.sender.layouts[layer].duration_s

    def prepare(self, layers: list[LayerLight]) -> None:
        """Switch on, level, align phases and ranges, all with stand-ins for the layers' light.

        `layers`: one light per layer of the shape, power and largest value of all that follows.
        Raises SettingError, before any light, where the rotation unit cannot hold a block.
        """
        with self._explained():
            self._prepared(layers)

    def _prepared(self, layers: list[LayerLight]) -> None:
        shapes = {light.layer: _shape(light) for light in layers}
        self.receiver.expect(shapes)
        self.sender.expect(shapes)
        self.sender.settle()
        self.receiver.settle()
        self._alignment.prepare(layers)

    def calibrate(self) -> ReceiverCalibration:
        """Measure the verifier's noise with shutter closed, then with the laser off.

        Same frames, same matched filter, same range as the data that follow.
        """
        with self._explained():
            return self._alignment.calibrate()

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        """Send one frame per image; see `Link.exchange`.

        Raises SignalError or InstrumentError with the cause that was found at the instruments.
        """
        with self._explained():
            return self._exchanged(light, coefficients)

    def causes(self) -> list[str]:
        """Return what is wrong with the bench, the first cause first; nothing where all is right.

        The bench cannot be used for a session any more.
        """
        self._on_step("cause: instruments, laser, light along the fibre, receivers")
        return [*self._clock_causes(), *causes_of(self._equipment, self.sender.rest)]

    def _clock_causes(self) -> list[str]:
        """Return what the clocks show, as far as frames are still found."""
        layer = self.sender.longest()
        try:
            self._alignment.align(layer)
            client_trace, server_trace = self._both(layer)
        except (SignalError, InstrumentError, SettingError):
            return []  # what the instruments show says why
        found = []
        for side, trace in ((self.receiver, client_trace), (self.sender, server_trace)):
            try:
                side.check_clock(layer, trace)
            except SignalError as error:
                found.append(str(error))
        return found

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Add to an error what is found at the instruments: what failed first, and what followed.

        An error of one setting is its own cause; what another instrument shows says more.
        """
        try:
            yield
        except (StoppedError, LimitError, OtherInstrumentError):
            raise
        except (SignalError, InstrumentError) as error:
            causes = self.causes()
            if not causes:
                raise
            raise _with_cause(error, "; ".join(causes)) from error

    def _exchanged(self, light: LayerLight, coefficients: Floats) -> Exchange:
        values = light.rows * light.blocks.count
        measured = np.empty((*coefficients.shape[:-1], values), np.float32)
        returned = []
        self.sender.load(light)
        both = self._sampling is Sampling.ALL
        for image, row in enumerate(coefficients):
            modes = row.reshape(-1, row.shape[-1])
            places = self.receiver.drawn_places(len(modes))
            self.receiver.load(light.layer, modes[places])
            if both:
                self.sender.choose_basis()
            client_trace, server_trace = self._record(light.layer, both=both)
            by_turn = self.receiver.values(light.layer, client_trace)
            measured[image].reshape(-1, values)[places] = by_turn[: len(modes)]
            if server_trace is not None:
                returned.append(self.sender.values(light, server_trace))
        return Exchange(measured, returned)

    def _aligned_by(self, frame: AlignmentFrame) -> tuple[Trace | None, bool]:
        """Send a frame to align by; return the server's record and whether the client has learnt.

        See `server.bench_alignment.Exchange`.
        """
        self._client_alignment.arm(frame)
        if frame.read_by_server:
            self.sender.arm(self.sender.alignment_s(frame))
        client_trace, server_trace = self._sent(both=frame.read_by_server)
        return server_trace, self._client_alignment.take(frame, client_trace)

    def _both(self, layer: int) -> tuple[Trace, Trace]:
        client_trace, server_trace = self._record(layer, both=True)
        assert server_trace is not None
        return client_trace, server_trace

    def _record(self, layer: int, *, both: bool) -> tuple[Trace, Trace | None]:
        """Send the layer's frame and return both parties' records of all of it."""
        wanted_s = self.receiver.record_s(layer)
        self.receiver.arm(wanted_s)
        if both:
            self.sender.arm(wanted_s)
        return self._sent(both=both)

    def _sent(self, *, both: bool) -> tuple[Trace, Trace | None]:
        """Trigger a frame that both sides are armed for, and return their records."""
        self.sender.send()
        client_trace = self.receiver.read()
        server_trace = self.sender.read() if both else None
        self.sender.wait()
        return client_trace, server_trace


def _with_cause(error: SignalError | InstrumentError, cause: str) -> LabctlError:
    """Return an error of the same kind that says the cause first."""
    if isinstance(error, InstrumentError):
        kind = type(error) if type(error).__init__ is InstrumentError.__init__ else InstrumentError
        return kind(error.instrument, f"{cause}; seen as: {error.problem}", error.command)
    return type(error)(f"{cause}; seen as: {error}")


def _shape(light: LayerLight) -> LayerShape:
    """Return what is public of a layer's light."""
    return LayerShape(light.rows, light.modes, 2 * light.modes, light.block_modes, light.clones)
