"""One secure-inference session: layer after layer over a link, then the server's verdict."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.client import Client
from labctl.protocols.disguise import key_of_seed
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.collection import Collection
from labctl.protocols.hiding.hiding import OPEN
from labctl.protocols.leakage import Leakage, Spectrum, leakage_of
from labctl.protocols.link import Link, MonitoredLink, MonitorReading, Reordered
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.scaled_levels import repeats
from labctl.protocols.server import Server
from labctl.protocols.server.disguised import DisguisedServer
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.verification.client_guard import ClientGuard
from labctl.protocols.verification.collective_record import CollectiveRecord, record_of
from labctl.protocols.verification.verdict import (
    Estimate,
    Expectation,
    VerificationReport,
    estimate_channel,
    no_verification,
    verify,
)

BATCH_IMAGES = 512
DISCRETE = (
    "weights of layer {} take few values, or the same value often: figures in bits, for Gaussian "
    "weights, do not hold; labctl leakage --model says what does"
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Result for some images: where they start, their classes, each layer's measured values."""

    first_image: int
    classes: npt.NDArray[np.uint8]
    measured: tuple[Floats, ...]


class Session:
    """A server, and one client per batch of images, over a link.

    The session carries light and values between the parties and keeps neither weights nor
    images itself. Results come batch by batch, so memory does not grow with the images. `server`
    takes the place of an honest one. `guard`: the client's, which refuses light that is too bright.
    `collection`: which modes the client collects, where it hides its input (`settings.hiding`).
    `history`, which may be set before a verdict: sums by weight of what the client was sent of the
    network in other sessions.
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
        self._settings = settings
        self._collection = collection
        self._guard = guard
        self._monitored: MonitorReading | None = None
        self._link = link
        self.server = server or honest_server(network, settings)
        self._calibration: ReceiverCalibration | None = None
        self.history: CollectiveRecord | None = None

    def calibrate(self) -> ReceiverCalibration | None:
        """Calibrate the verifier once, if the returned light is looked at at all."""
        if self._settings.sampling is Sampling.ALL and self._calibration is None:
            self._calibration = self._link.calibrate()
        return self._calibration

    def run(self, images: Floats, *, batch_images: int = BATCH_IMAGES) -> Iterator[Batch]:
        """Classify images (B, N); yields batches of at most `batch_images` in order."""
        if batch_images < 1:
            raise SettingError("batch_images", batch_images, "1 or more")
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
        """Pool what the link's receiver shows when blocked, if it ever is."""
        if self._calibration is None or not isinstance(self._link, MonitoredLink):
            return
        reading = self._link.monitor()
        if reading is not None:
            before = self._monitored
            self._monitored = reading if before is None else before.pooled(reading)

    def _batch(self, first: int, images: Floats) -> Batch:
        carried = self.server.carried
        client = Client(
            carried.network.sizes,
            images,
            self._settings.block_modes,
            signed=self.server.signed,
            inputs=carried.inputs,
            collection=self._collection,
        )
        measured = []
        for layer in range(self.server.layers):
            measured.append(client.receive(self._exchanged(layer, client.coefficients())))
        return Batch(first, client.classes(), tuple(measured))

    def _exchanged(self, layer: int, coefficients: Floats) -> Floats:
        """Send a layer to all images, have what returns checked; return the measured values."""
        reordered = self._together(layer, len(coefficients))
        if reordered is not None:
            return self._exchanged_together(reordered, coefficients)
        measured = []
        for part, light in self.server.sent(layer, len(coefficients)):
            exchange = self._link.exchange(light, coefficients[part])
            if self._guard is not None:
                frames = part.stop - part.start
                self._guard.check(light.layer, light.blocks, exchange.arriving, frames)
            for returned in exchange.returned:
                self.server.check(layer, returned)
            measured.append(exchange.measured)
        return measured[0] if len(measured) == 1 else np.concatenate(measured)

    def _together(self, layer: int, images: int) -> Reordered | None:
        """Return light for all images at once, where nobody looks at the order it is sent in.

        A mode-level link with an exact rotation treats all rows and modes alike: values measured
        of reordered light are those of plain light in another order, noise included.
        """
        settings = self._settings
        alike = settings.sampling is Sampling.MEASURED and settings.rotation.exact
        if not (alike and isinstance(self._link, ModeLink)):
            return None
        return self.server.together(layer, images)

    def _exchanged_together(self, reordered: Reordered, coefficients: Floats) -> Floats:
        light, set_to = reordered.light, coefficients
        if reordered.columns is not None:
            inputs = reordered.columns.shape[1]
            set_to = coefficients.copy()
            columns = reordered.columns
            if coefficients.ndim > columns.ndim:
                shape = (*coefficients.shape[:2], inputs)
                columns = np.broadcast_to(columns[:, None], shape)
            # The client's slot i meets column columns[i] of the plain light.
            np.put_along_axis(set_to[..., :inputs], columns, coefficients[..., :inputs], -1)
        exchange = self._link.exchange(light, set_to)
        if self._guard is not None:
            self._guard.check(light.layer, light.blocks, exchange.arriving, len(coefficients))
        if reordered.rows is None:
            return exchange.measured
        rows = reordered.rows if exchange.measured.ndim == 2 else reordered.rows[:, None]
        return np.take_along_axis(exchange.measured, rows, -1)

    def verdict(
        self, expectation: Expectation | None = None, spectrum: Spectrum | None = None
    ) -> VerificationReport:
        """Judge all light returned so far; `expectation` defaults to that of the settings.

        `spectrum`: of the network sent, for its own bound.
        """
        settings = self._settings
        calibration = self._calibration
        if calibration is None or not any(part.samples for part in self.server.evidence):
            return no_verification(settings.verification)
        report = verify(
            self.server.evidence,
            calibration,
            expectation or self.expectation(),
            settings.verification,
            mean_photons=settings.mean_photons,
            technical_noise=settings.technical_noise,
            assumptions=settings.assumptions,
            monitor=self._monitored,
            history=self._own_history(),
            spectrum=spectrum,
            own=self.server.own_evidence,
        )
        return replace(report, discrete_weights=self._discrete)

    @cached_property
    def _discrete(self) -> str | None:
        """What voids figures in bits for the network, where that is plain to see."""
        found = [
            str(number)
            for number, weights in enumerate(self.server.carried.network.layers, 1)
            if repeats(weights)
        ]
        return DISCRETE.format(", ".join(found)) if found else None

    def _own_history(self) -> CollectiveRecord | None:
        """Return the history, None where another network's light is looked at beside."""
        own = self.server.own_evidence is self.server.evidence
        return self.history if own else None

    def record(self, expectation: Expectation | None = None) -> CollectiveRecord:
        """Return the sums by weight of the network's light returned so far; see `verdict`."""
        if self._calibration is None:
            return CollectiveRecord()
        return record_of(
            self.server.own_evidence,
            self._calibration,
            expectation or self.expectation(),
            self._settings.mean_photons,
        )

    def estimate(self) -> Estimate | None:
        """Return the channel as all light read so far shows it; None if none was read."""
        if self._calibration is None or not any(part.samples for part in self.server.evidence):
            return None
        return estimate_channel(self.server.evidence, self._calibration)

    def expectation(self) -> Expectation:
        """Return what the settings let an honest round trip show, over the light read so far.

        Each clone of each block adds its noise once. Layers whose blocks differ in size pass a
        lossy rotation differently: one slope fits all of them, and what it misses shows as noise.
        """
        settings, evidence = self._settings, self.server.evidence
        read = max(sum(part.samples for part in evidence), 1)
        noise = 0.0
        for part, shape in zip(evidence, self.server.evidence_shapes, strict=True):
            leg = settings.leg_transmittance_of(shape.modes)
            noise += leg * part.samples * shape.loud_modes / shape.modes
        loudest = max(settings.leg_transmittance_of(shape.modes) for shape in self.server.shapes)
        largest = max(settings.block_of(shape.modes) for shape in self.server.shapes)
        transmittance, missed = self._pooled_transmittance()
        return Expectation(
            transmittance=transmittance,
            excess_noise=settings.receiver.returned_noise * noise / read
            + settings.technical_noise
            + missed / read,
            client_transmittance=settings.rotation.transmittance(
                largest, settings.hiding.decoys + 1
            ),
            clone_noise=settings.receiver.returned_noise * loudest,
        )

    def _pooled_transmittance(self) -> tuple[float, float]:
        """Return the squared mean slope over all light read, and what it leaves unexplained."""
        settings, evidence = self._settings, self.server.evidence
        each = [settings.transmittance_of(shape.modes) for shape in self.server.evidence_shapes]
        sent = [part.sent_power for part in evidence]
        if len(set(each)) == 1 or not sum(sent) > 0.0:
            return min(each), 0.0
        slopes = [math.sqrt(one) for one in each]
        mean = sum(map(operator.mul, slopes, sent)) / sum(sent)
        missed = [(slope - mean) ** 2 * power for slope, power in zip(slopes, sent, strict=True)]
        return mean**2, sum(missed)

    def leakage(self, spectrum: Spectrum | None = None, *, decoys: int | None = None) -> Leakage:
        """Return the leakage of an honest client at these settings; `spectrum` as in `verdict`.

        `decoys`: as if it cloned so many inputs besides its own, None for what it does.
        """
        settings, shapes = self._settings, self.server.shapes
        if decoys is not None:
            shapes = tuple(replace(shape, clones=decoys + 1) for shape in shapes)
        found = leakage_of(
            shapes,
            mean_photons=settings.mean_photons,
            gain=settings.receiver.gain,
            transmittance=settings.transmittance,
            technical_noise=settings.technical_noise,
            assumptions=settings.assumptions,
            emission_factor=settings.receiver.emission_factor,
            rotation=settings.rotation,
            spectrum=spectrum,
        )
        # What returns has the same law whatever the input: nothing of the data is in it.
        return found if settings.hiding.return_modes is None else found.without_data()


def honest_server(
    network: Network, settings: SessionSettings, *, key: bytes | None = None
) -> Server:
    """Return the server of the settings.

    `key`: the secret of its disguise; None takes it from the settings' seed, so that runs repeat.
    """
    if settings.disguise.plain or len(network.layers) == 1:
        return Server(network, settings.mean_photons, settings.block_modes, settings.clones_of)
    return DisguisedServer(
        network,
        settings.mean_photons,
        settings.block_modes,
        settings.disguise,
        key=key or key_of_seed(settings.seed),
        clones_of=settings.clones_of,
    )
