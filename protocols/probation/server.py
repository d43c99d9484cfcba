"""A server that sends some queries a worthless network instead of the real one.

Theory of operation.
1. Server and client agree on the network's public shape. The server holds a second network of that
   shape, the stand-in: trained for the same task on public data, so that it answers as well and
   tells nothing of the first.
2. A schedule, secret to the server, says of each query which of the two is sent.
3. What returns of either is compared with what was sent of it, and pooled: a client that adds noise
   adds it to queries of both, unless it can tell them apart.
4. When a query's light is back, the server says which it was. The client keeps the answer or asks
   again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from labctl.errors import SettingError
from labctl.protocols.leakage import LayerShape
from labctl.protocols.link import LayerLight, Reordered, ReturnedLight
from labctl.protocols.probation.schedule import Schedule
from labctl.protocols.server import Server
from labctl.protocols.verification.evidence import LayerEvidence


class ProbationServer(Server):
    """Sends `own` or `stand_in`, query by query, as the schedule says.

    All queries of one batch must be of one kind: `next_of_a_kind` says how many are. Raises
    SettingError if the two servers' layers differ in shape.
    """

    def __init__(self, own: Server, stand_in: Server, schedule: Schedule) -> None:
        if own.shapes != stand_in.shapes or own.signed != stand_in.signed:
            wanted = f"of the network's own layers: {_layers(own)}"
            raise SettingError("stand-in network", _layers(stand_in), wanted)
        if not own.carried.inputs.same(stand_in.carried.inputs):
            raise SettingError("stand-in network", "fed with other inputs", "fed with the same")
        self.carried = own.carried
        self.signed = own.signed
        self._own, self._stand_in, self._schedule = own, stand_in, schedule
        self._next = 0
        self._current = own

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self._own.layers

    @property
    def shapes(self) -> tuple[LayerShape, ...]:
        """Rows, modes per row and block and real inputs of each layer: public."""
        return self._own.shapes

    @property
    def templates(self) -> tuple[LayerLight, ...]:
        """Of each layer the light of the network whose largest value is the larger."""
        pairs = zip(self._own.templates, self._stand_in.templates, strict=True)
        return tuple(max(pair, key=_largest) for pair in pairs)

    def light(self, layer: int) -> LayerLight:
        """Refuse, with SettingError: no light is the same for every query; see `sent`."""
        raise SettingError("probation", f"layer {layer + 1} asked for once", "none")

    def next_of_a_kind(self, most: int) -> tuple[int, bool]:
        """Return how many of the next queries, up to `most`, are of one kind, and if they are real.

        For code that makes up batches; between two parties only a finished query is announced.
        """
        real = self._schedule.real(self._next)
        count = 1
        while count < most and self._schedule.real(self._next + count) == real:
            count += 1
        return count, real

    def sent(self, layer: int, images: int) -> Iterator[tuple[slice, LayerLight]]:
        """Yield what is sent for a layer; layer 0 begins new queries. See `Server.sent`."""
        self._begin(layer, images)
        yield from self._current.sent(layer, images)

    def together(self, layer: int, images: int) -> Reordered | None:
        """See `Server.together`."""
        reordered = self._current_for(layer).together(layer, images)
        if reordered is None:
            return None
        self._begin(layer, images)
        return reordered

    def check(self, layer: int, returned: ReturnedLight) -> None:
        """Compare returned light with what was sent in its query, and pool it."""
        self._current.check(layer, returned)

    @property
    def evidence(self) -> tuple[LayerEvidence, ...]:
        """What returned of the network's layers, then of the stand-in's."""
        return (*self._own.evidence, *self._stand_in.evidence)

    @property
    def evidence_shapes(self) -> tuple[LayerShape, ...]:
        """The layers that `evidence` is of."""
        return (*self._own.shapes, *self._stand_in.shapes)

    @property
    def own_evidence(self) -> tuple[LayerEvidence, ...]:
        """What returned of the network's own layers."""
        return self._own.evidence

    def _current_for(self, layer: int) -> Server:
        if layer > 0:
            return self._current
        return self._own if self._schedule.real(self._next) else self._stand_in

    def _begin(self, layer: int, images: int) -> None:
        if layer > 0:
            return
        count, real = self.next_of_a_kind(images)
        if count < images:
            raise SettingError("queries in a batch", images, f"at most {count}, of one kind")
        self._current = self._own if real else self._stand_in
        self._next += images


def _layers(server: Server) -> str:
    return ", ".join(f"{shape.rows} x {shape.inputs}" for shape in server.shapes)


def _largest(light: LayerLight) -> float:
    return float(np.max(np.abs(light.quadratures)))
