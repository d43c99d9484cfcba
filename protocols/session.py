"""One secure-inference session in one process: a server and a client paired over a link.

The pairing is the only object that knows both parties. It hands messages from one to the other, has
the link carry the light, and gives each party what its own receiver read. Neither weights nor
images stay with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.client.machine import ClientMachine
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.collection import Collection
from labctl.protocols.hiding.hiding import OPEN
from labctl.protocols.leakage import Leakage, Spectrum
from labctl.protocols.link import Link, MonitoredLink, Reordered
from labctl.protocols.messages import AbortCode, LayerOpen, Message
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.server.disguised import honest_server
from labctl.protocols.server.machine import ServerMachine
from labctl.protocols.server.plain import Server
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.verification.client_guard import ClientGuard
from labctl.protocols.verification.collective_record import CollectiveRecord
from labctl.protocols.verification.verdict import Estimate, Expectation, VerificationReport

# 1.6 MB of pixels of 784 each; what is measured does not depend on it.
BATCH_IMAGES = 512


@dataclass(frozen=True, eq=False)
class Batch:
    """Result for some images: where they start, their classes, each layer's measured values."""

    first_image: int
    classes: npt.NDArray[np.uint8]
    measured: tuple[Floats, ...]


class Session:
    """A server and a client, which classifies images batch by batch, over a link.

    Results come batch by batch, so memory does not grow with the images. `server` takes the place
    of an honest one. `guard`: the client's, which refuses light that is too bright. `collection`:
    which modes the client collects, where it hides its input (`settings.hiding`).

    `server_half` and `client_half` are the two parties' machines. When a batch fails, both are
    aborted: what was under way is lost, and another session has to be started.

    `on_light` is called before light leaves, with how many images of the `run` it may then have
    left of; what it raises keeps the light in.
    """

    def __init__(
        self,
        network: Network,
        settings: SessionSettings,
        link: Link,
        *,
        server: Server | None = None,
        guard: ClientGuard | None = None,
        collection: Collection | None = None,
    ) -> None:
        if (collection is None) != (settings.hiding == OPEN):
            raise SettingError(
                "collection", collection, "given with decoys or a public subspace, and only then"
            )
        self.on_light: Callable[[int], None] = lambda images: None
        self._settings = settings
        self._link = link
        self.server_half = ServerMachine(
            server or honest_server(network, settings), settings, in_one=_in_one(link, settings)
        )
        self.client_half = ClientMachine(
            block_modes=settings.channel.block_modes, collection=collection, guard=guard
        )
        welcome = self.server_half.receive(self.client_half.hello())
        assert welcome is not None
        self.client_half.receive(welcome)

    @property
    def server(self) -> Server:
        """Network, disguise and evidence of the server's half."""
        return self.server_half.server

    def calibrate(self) -> ReceiverCalibration | None:
        """Calibrate the verifier once, if the returned light is looked at at all."""
        verifier = self.server_half.verifier
        if self._settings.sampling is Sampling.ALL and verifier.calibration is None:
            verifier.calibration = self._link.calibrate()
        return verifier.calibration

    def run(self, images: Floats, *, batch_images: int = BATCH_IMAGES) -> Iterator[Batch]:
        """Classify images (B, N); yields batches of at most `batch_images` in order.

        Raises ProtocolError after a batch that failed.
        """
        checks.at_least("batch_images", batch_images, 1)
        self.calibrate()
        # A value per mode collected: batches shrink as these multiply, their memory stays.
        values = max(
            shape.blocks.count * min(shape.clones, shape.modes) for shape in self.server.shapes
        )
        size = max(batch_images // values, 1)
        for first in range(0, len(images), size):
            batch = self._batch(first, images[first : first + size])
            self._monitor()
            yield batch

    def _monitor(self) -> None:
        """Have the server see what the link's receiver shows when blocked, if it ever is."""
        verifier = self.server_half.verifier
        if verifier.calibration is None or not isinstance(self._link, MonitoredLink):
            return
        reading = self._link.monitor()
        if reading is not None:
            verifier.monitored(reading)

    def _batch(self, first: int, images: Floats) -> Batch:
        asked = self.client_half.begin(images)
        try:
            message = self.server_half.receive(asked)
            while isinstance(message, LayerOpen):
                message = self._exchanged(message, first + len(images))
            assert message is not None
            self.client_half.receive(message)
        except BaseException as error:
            self._abort(str(error) or type(error).__name__)
            raise
        answers = self.client_half.answers()
        return Batch(first, answers.classes, answers.measured)

    def _exchanged(self, opened: LayerOpen, images: int) -> Message | None:
        """Carry the open frames to the client and back; return what the server says next.

        images: how many of the run have been sent after that.
        """
        armed = self.client_half.receive(opened)
        assert armed is not None
        self.server_half.receive(armed)
        light, setting = self.server_half.light, self.client_half.setting
        self.on_light(images)
        if isinstance(light, Reordered):
            assert isinstance(self._link, ModeLink)
            exchange = self._link.exchange_reordered(light, setting)
        else:
            exchange = self._link.exchange(light, setting)
        self.client_half.arrived(exchange.arriving)
        for returned in exchange.returned:
            self.server_half.returned(returned)
        return self.server_half.receive(self.client_half.measured(exchange.measured))

    def _abort(self, reason: str) -> None:
        """Abort both halves, for the reason of the one that aborted first if one did."""
        halves = (self.client_half, self.server_half)
        abort = next((half.ended for half in halves if half.ended is not None), None)
        if abort is None:
            abort = self.client_half.abort(AbortCode.PROTOCOL, reason)
        for half in halves:
            if half.ended is None:
                half.receive(abort)

    @property
    def history(self) -> CollectiveRecord | None:
        """Sums by weight of what the client was sent in other sessions; see `Verifier`."""
        return self.server_half.verifier.history

    @history.setter
    def history(self, history: CollectiveRecord | None) -> None:
        self.server_half.verifier.history = history

    def verdict(
        self,
        expectation: Expectation | None = None,
        spectrum: Spectrum | None = None,
        *,
        figures: bool = True,
    ) -> VerificationReport:
        """Judge all light returned so far; see `Verifier.verdict`."""
        return self.server_half.verifier.verdict(expectation, spectrum, figures=figures)

    def record(self, expectation: Expectation | None = None) -> CollectiveRecord:
        """Return the sums by weight of the network's light returned so far."""
        return self.server_half.verifier.record(expectation)

    def estimate(self) -> Estimate | None:
        """Return the channel as all light read so far shows it; None if none was read."""
        return self.server_half.verifier.estimate()

    def expectation(self) -> Expectation:
        """Return what the settings let an honest round trip show, over the light read so far."""
        return self.server_half.verifier.expectation()

    def leakage(self, spectrum: Spectrum | None = None, *, decoys: int | None = None) -> Leakage:
        """Return the leakage of an honest client at these settings; see `Verifier.leakage`."""
        return self.server_half.verifier.leakage(spectrum, decoys=decoys)


def _in_one(link: Link, settings: SessionSettings) -> bool:
    """Tell whether light may go out for all images of a batch at once, in any order.

    A mode-level link with an exact rotation treats all rows and modes alike: values measured of
    reordered light are those of plain light in another order, noise included. Nobody looks at the
    order where the returned light is not read.
    """
    alike = settings.sampling is Sampling.MEASURED and settings.channel.rotation.exact
    return alike and isinstance(link, ModeLink)
