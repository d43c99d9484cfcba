"""The server's verifier: judges the light that returned by what an honest round trip shows."""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from functools import cached_property

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.leakage import Leakage, Spectrum
from labctl.protocols.link import MonitorReading
from labctl.protocols.scaled_levels import repeats
from labctl.protocols.server.plain import Server
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.collective_record import CollectiveRecord, record_of
from labctl.protocols.verification.verdict import (
    Estimate,
    Expectation,
    VerificationReport,
    estimate_channel,
    no_verification,
    verify,
)

DISCRETE = (
    "weights of layer {} take few values, or the same value often: figures in bits, for Gaussian "
    "weights, do not hold; labctl leakage --model says what does"
)


class Verifier:
    """Holds what the server's receiver showed, beside the evidence that `server` keeps.

    `calibration`: of its receiver, None until it was calibrated: nothing is verified then.
    `history`, which may be set before a verdict: sums by weight of what the client was sent of the
    network in other sessions.
    """

    def __init__(self, server: Server, settings: SessionSettings) -> None:
        self.server = server
        self.calibration: ReceiverCalibration | None = None
        self.history: CollectiveRecord | None = None
        self._settings = settings
        self._monitored: MonitorReading | None = None

    def monitored(self, reading: MonitorReading) -> None:
        """Pool what the receiver shows when it is blocked during the session."""
        before = self._monitored
        self._monitored = reading if before is None else before.pooled(reading)

    def verdict(
        self,
        expectation: Expectation | None = None,
        spectrum: Spectrum | None = None,
        *,
        figures: bool = True,
    ) -> VerificationReport:
        """Judge all light returned so far; `expectation` defaults to that of the settings.

        `spectrum`: of the network sent, for its own bound. `figures`: False for the checks alone.
        """
        settings = self._settings
        calibration = self.calibration
        if calibration is None or not any(part.samples for part in self.server.evidence):
            return no_verification(settings.verification)
        report = verify(
            self.server.evidence,
            calibration,
            expectation or self.expectation(),
            settings.verification,
            mean_photons=settings.light.mean_photons,
            technical_noise=settings.channel.technical_noise,
            assumptions=settings.assumptions,
            monitor=self._monitored,
            history=self._own_history(),
            spectrum=spectrum,
            own=self.server.own_evidence,
            figures=figures,
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
        if self.calibration is None:
            return CollectiveRecord()
        return record_of(
            self.server.own_evidence,
            self.calibration,
            expectation or self.expectation(),
            self._settings.light.mean_photons,
        )

    def estimate(self) -> Estimate | None:
        """Return the channel as all light read so far shows it; None if none was read."""
        if self.calibration is None or not any(part.samples for part in self.server.evidence):
            return None
        return estimate_channel(self.server.evidence, self.calibration)

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
            + settings.channel.technical_noise
            + missed / read,
            client_transmittance=settings.channel.rotation.transmittance(
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

        `decoys`: as if it cloned this many inputs in addition to its own, None for what it does.
        """
        settings, shapes = self._settings, self.server.shapes
        if decoys is not None:
            shapes = tuple(replace(shape, clones=decoys + 1) for shape in shapes)
        found = settings.leakage(shapes, spectrum)
        # What returns has the same law for any input: nothing of the data is in it.
        return found if settings.hiding.return_modes is None else found.without_data()
