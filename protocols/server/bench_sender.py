"""The server's half of a bench: transmitter and verifier; it knows no direction of the client's.

Per layer its light is uploaded as a frame: once, or for every image where each query gets light of
its own. It reads what returns in a quadrature that it draws for each frame. Before a session it
levels its light on the power meter, and gives light to align by: stand-ins for the layers' light,
which carry none of the weights, because nobody checks what a client does with light that it is
aligned by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from labctl.dsp.layout import PEAK, Complexes
from labctl.dsp.phase import track_phase
from labctl.errors import SignalError
from labctl.instruments.capabilities import Trace
from labctl.protocols.bench_causes import Rest
from labctl.protocols.bench_side import BenchSide
from labctl.protocols.encoding import Floats
from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.server.stand_in import stand_in
from labctl.protocols.server.transmitter import Level, Transmitter
from labctl.protocols.streams import party_stream
from labctl.station.equipment import ServerEquipment
from labctl.station.file import FrameTable

# The shot-noise unit's own scatter counts in every verdict: short frames take more records.
_BLOCKED_RECORDS, _MOST_RECORDS = 4, 64
# A variance to 0.32 %.
_BLOCKED_SAMPLES = 200_000
# Of the stream of random numbers that bases come from.
_BASIS_KEY = 99
# Of the modes' RMS amplitude: what 30 dB of extinction leaves at a moved null is 0.3.
_MOST_CARRIER = 1.0

RawSink = Callable[[str, Floats], None]


class BenchSender(BenchSide):
    """The server's instruments.

    mean_photons: mu per mode. seed: of the quadratures it reads and of the stand-ins. on_raw(name,
    array) is given what a re-analysis needs: each frame's returned quadratures and the cosine and
    sine of each row's phase.
    """

    party = "server"

    def __init__(
        self,
        equipment: ServerEquipment,
        frame: FrameTable,
        *,
        mean_photons: float,
        seed: int,
        on_raw: RawSink | None,
        on_step: Callable[[str], None],
    ) -> None:
        super().__init__(equipment.digitizer, equipment.channel, frame)
        self._equipment = equipment
        self._seed = seed
        self._on_raw = on_raw
        self._basis = party_stream(seed, _BASIS_KEY)
        self._transmitter = Transmitter(equipment, frame, mean_photons, on_step)
        self._stand_ins: dict[int, LayerLight] = {}

    @property
    def level(self) -> Level | None:
        """How the light was set, once it is."""
        return self._transmitter.level

    @property
    def rest(self) -> Rest | None:
        """What the monitor read when the light was levelled, once it is."""
        return self._transmitter.rest

    def settle(self) -> None:
        """Open the shutter and turn the local oscillator to where it starts."""
        self._equipment.shutter.set(0.0)
        self._equipment.lo_phase.set(0.0)

    def prepare(self, layers: Sequence[LayerLight]) -> None:
        """Switch on, level, and upload stand-ins for the layers' light."""
        stand_ins = [stand_in(light, self._seed) for light in layers]
        self._stand_ins = {light.layer: light for light in stand_ins}
        self._transmitter.prepare(stand_ins)

    def load(self, light: LayerLight) -> None:
        """Make a layer's light the one that the next trigger sends."""
        self._transmitter.load(light)
        self._transmitter.select(light.layer)

    def load_stand_in(self, layer: int) -> None:
        """Make light to align by, in the layer's place, the one that the next trigger sends."""
        self.load(self._stand_ins[layer])

    def select(self, layer: int) -> None:
        """Make the frame that is stored for a layer the one that the next trigger sends."""
        self._transmitter.select(layer)

    def send(self) -> None:
        """Start the selected frame."""
        self._transmitter.send()

    def wait(self) -> None:
        """Return when the frame has ended."""
        self._transmitter.wait()

    def block(self) -> None:
        """Close the shutter in front of the receiver."""
        self._equipment.shutter.set(self._equipment.constants.shutter_closed_v)

    def unblock(self) -> None:
        """Open the shutter in front of the receiver."""
        self._equipment.shutter.set(0.0)

    def set_laser(self, on: bool) -> None:
        """Switch the laser's emission, local oscillator included."""
        self._equipment.laser.set_emission(on)

    @property
    def efficiency(self) -> float:
        """Quantum efficiency of the receiver."""
        return self._equipment.constants.efficiency

    def choose_basis(self) -> None:
        """Turn the local oscillator to a quadrature that the client cannot foresee."""
        angle = math.pi / 2.0 if self._basis.random() < 0.5 else 0.0
        v_pi_v = self._equipment.constants.phase_shifter_v_pi_v
        self._equipment.lo_phase.set(angle / math.pi * v_pi_v)

    def blocked_records(self, layer: int) -> int:
        """Return how many records of a layer's frame the shot-noise unit takes."""
        wanted = math.ceil(_BLOCKED_SAMPLES / self.layouts[layer].slots)
        return min(max(wanted, _BLOCKED_RECORDS), _MOST_RECORDS)

    def values(self, light: LayerLight, trace: Trace) -> ReturnedLight:
        """Return the quadratures of all modes, with the phase that the whole frame shows.

        The server knows every symbol it sent; the phase that preamble, pilots and payload agree
        on is known better than from the pilots alone, which matters where X and P of a mode carry
        correlated weights.
        """
        layout, blocks = self.layouts[light.layer], light.blocks
        lowered, _, clock = self._found(light.layer, trace)
        read = clock.read(lowered, layout, 0, layout.slots - layout.guard_symbols)
        symbols = self._symbols(light)
        known = np.zeros(len(read), bool)
        known[: layout.first_row_slot] = True
        of_rows = known[layout.first_row_slot :].reshape(layout.rows, layout.row_slots)
        of_rows[:, layout.pilot_offsets] = of_rows[:, layout.mode_offsets] = True
        slots = np.flatnonzero(known)
        track = track_phase(
            read[slots],
            symbols[slots],
            slots,
            symbol_rate_hz=layout.symbol_rate_hz,
            linewidth_hz=self._frame.linewidth_hz,
        )
        mode_slots = layout.row_starts[:, None] + layout.mode_offsets
        cosine, sine = track.cosine_sine(mode_slots.reshape(light.rows, -1).mean(axis=1))
        modes = read[mode_slots].reshape(light.rows, blocks.count, blocks.size)
        chosen = ReturnedLight(
            measured=np.ascontiguousarray(blocks.join(modes)),
            cosine=cosine[:, None],
            sine=sine[:, None],
            fitted=1.0 + track.freedom * mode_slots.size / len(slots),
            offset_removed=True,
        )
        _remove_carrier(light, chosen)
        self._raw(f"returned-layer{light.layer}", chosen.measured)
        phases = np.concatenate([chosen.cosine, chosen.sine], axis=1)
        self._raw(f"phase-layer{light.layer}", phases)
        return chosen

    def _symbols(self, light: LayerLight) -> Complexes:
        """Return what the frame's slots carry up to the last row's end, in SNU."""
        layout, blocks = self.layouts[light.layer], light.blocks
        pilot = np.complex64(PEAK / self._transmitter.scale)
        symbols = np.zeros(layout.slots - layout.guard_symbols, np.complex64)
        symbols[: layout.preamble_symbols] = pilot * layout.preamble
        rows = symbols[layout.first_row_slot :].reshape(layout.rows, layout.row_slots)
        rows[:, layout.pilot_offsets] = pilot * layout.pilot_symbols
        sent = blocks.split(light.x) + 1j * blocks.split(light.p)
        rows[:, layout.mode_offsets] = sent.reshape(layout.rows, -1)
        return symbols

    def _raw(self, name: str, values: Floats) -> None:
        if self._on_raw is not None:
            self._on_raw(name, values)


def _remove_carrier(light: LayerLight, read: ReturnedLight) -> None:
    """Take off, in place, the constant that a residual carrier adds to all modes of a frame."""
    expected = read.cosine * light.x
    expected += read.sine * light.p
    centred = expected - expected.mean()
    slope = float(np.vdot(centred, read.measured)) / float(np.vdot(centred, centred))
    offset = float(read.measured.mean()) - slope * float(expected.mean())
    share = abs(offset / slope) / math.sqrt(float(np.mean(expected**2)))
    if share > _MOST_CARRIER:
        raise SignalError(
            f"light that came back has a carrier of {share:.2f} of its RMS amplitude, 0 expected: "
            "has a modulator's bias moved?"
        )
    read.measured[...] -= np.float32(offset)
