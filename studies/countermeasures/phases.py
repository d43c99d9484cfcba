"""Phases of the client's rotation, drawn again for each row: what they do to who reads labels.

A clone's kick on a row is k c with k complex. An amplifier's and a tap's k is circular, alike in X
and P: amplifier n_sp g in both; tap 2 r^2 + s^2 (1 - eta + v) in X, 2 r^2 (1 + v)/eta in P, which
are equal, as s^2 = 2 r^2/eta. A phase turns c to c exp(i p) and k c to another number of the same
law: each row's covariance is c c^dagger before and after, rows are independent, and nothing that a
server reads changes at all. The client gets its value from turned light alike.

Only a receiver whose k is not circular would gain. The extreme one measures X of b without adding
noise to X; its D - 1 added to what is read costs at least 1/(D - 1) in P (uncertainty relation).
Its kick has one real direction; phases spread it over two, which halves the evidence that is of
second order in the kick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.errors import SettingError
from labctl.protocols.client import directions_of
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.receiver import Receiver, TapReceiver
from labctl.studies.attacks.label_reading import DIMENSIONS, LabelReader
from labctl.studies.countermeasures.drawn_rows import circular, features_of_rows


@dataclass(frozen=True)
class Kick:
    """Variances that a receiver adds to X and P of the returned mode b, in SNU."""

    x: float
    p: float

    @property
    def circular(self) -> bool:
        """Whether phases change nothing."""
        return math.isclose(self.x, self.p, rel_tol=1e-9)

    @property
    def total(self) -> float:
        """Noise in both quadratures together: half of it counts as g for the weights."""
        return self.x + self.p

    @property
    def evidence(self) -> float:
        """Sum of squared variances: what a reader of weak kicks gets from a row, fixed phase."""
        return self.x**2 + self.p**2

    @property
    def evidence_with_phases(self) -> float:
        """The same where each row has its own phase: the kick is spread over X and P."""
        return self.total**2 / 2.0


def kick_of(receiver: Receiver) -> Kick:
    """Return what a receiver adds to X and P, from its parts."""
    if isinstance(receiver, TapReceiver):
        vacua = 2.0 * receiver.vacuum_amplitude**2
        homodyne = receiver.homodyne
        detector = 1.0 - homodyne.efficiency + homodyne.electronic_noise
        return Kick(vacua + receiver.displacement**2 * detector, receiver.returned_noise)
    return Kick(receiver.returned_noise, receiver.returned_noise)


def phase_sensitive_kick(receiver: Receiver) -> Kick:
    """Return the least kick of a receiver of X alone that reads with the same D.

    Raises SettingError where D is vacuum's own: then nothing is added and no bound is finite.
    """
    added = receiver.referred_noise - 1.0
    if not added > 0.0:
        raise SettingError("referred noise", receiver.referred_noise, "above 1")
    return Kick(0.0, 1.0 / added)


def read_with_phases(
    images: LabelledImages,
    templates: LabelledImages,
    *,
    gain: float,
    rows: int,
    random_phases: bool,
    receiver: Detection,
    seed: int,
    dimensions: int = DIMENSIONS,
) -> float:
    """Return the share of labels read from rows that are drawn one by one, phases and all.

    Templates must not contain the images. Counting depends on |c_k|^2 alone and is refused.
    """
    if receiver is Detection.COUNTING:
        raise SettingError("receiver", str(receiver), "one that sees phases")
    reading = Reading(gain=gain, rows=rows, receiver=receiver)
    reader = LabelReader(templates.images, templates.labels, reading, dimensions)
    generator = np.random.default_rng(seed)
    features = []
    for direction in directions_of(images.images, None):
        kicks = math.sqrt(reading.spike) * circular(generator, (rows, 1))
        if random_phases:
            turn = np.exp(2j * np.pi * generator.random((rows, 1)))
            kicks = (kicks * turn).astype(np.complex64)
        features.append(features_of_rows(reader, generator, kicks, direction[None]))
    return float(np.mean(reader.read([np.concatenate(features)]) == images.labels))
