"""What hides a label from the returned noise at all, and what it costs in weights.

Kicks along K orthonormal directions show a server their span and nothing inside it. A client that
clones, besides its input, public images of other labels (decoys, the same for every repeat of an
input) shows K candidates that look alike, however many rows return. White noise on all modes
instead only dims the kick. Both are excess noise, K g/n and g/n + w, that the server has to accept
from everybody, so a dishonest client may use as much: that is the price, in bits per weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.errors import DatasetError, SettingError
from labctl.protocols.client import directions_of
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.leakage import Assumptions, weights_bits_per_mode
from labctl.protocols.receiver import Receiver
from labctl.studies.attacks.label_reading import DIMENSIONS, LabelReader
from labctl.studies.countermeasures.drawn_rows import circular, features_of_rows


@dataclass(frozen=True)
class DecoyHiding:
    """Directions cloned per row, `decoys` besides the input's; white noise on all modes in SNU."""

    decoys: int = 0
    white_noise: float = 0.0

    def __post_init__(self) -> None:
        checks.at_least("decoys", self.decoys, 0)
        checks.not_negative("white_noise", self.white_noise, ", in SNU")

    def excess_noise(self, receiver: Receiver, modes: int) -> float:
        """Return the excess noise per mode that the server has to accept."""
        cloned = min(self.decoys + 1, modes)
        return cloned * receiver.returned_noise / modes + self.white_noise


def weights_bits(
    hiding: DecoyHiding,
    *,
    mean_photons: float,
    receiver: Receiver,
    modes: int,
    assumptions: Assumptions,
) -> float:
    """Return bits per real weight and query where this excess noise is accepted, without loss."""
    return 0.5 * weights_bits_per_mode(
        mean_photons=mean_photons,
        transmittance=1.0,
        excess_noise=hiding.excess_noise(receiver, modes),
        technical_noise=0.0,
        assumptions=assumptions,
    )


class HiddenReading:
    """A server that heterodynes what returns from a client that hides, and knows how it hides."""

    def __init__(
        self, templates: LabelledImages, reading: Reading, dimensions: int = DIMENSIONS
    ) -> None:
        if reading.receiver is not Detection.HETERODYNE:
            raise SettingError("receiver", str(reading.receiver), "heterodyne")
        self._reading = reading
        self._reader = LabelReader(templates.images, templates.labels, reading, dimensions)

    def success(
        self, images: LabelledImages, decoys_from: LabelledImages, hiding: DecoyHiding, seed: int
    ) -> float:
        """Return the share of labels read.

        Decoys of each image are drawn from `decoys_from`, of labels that differ from the image's
        and from each other's. The server does not have these; raises DatasetError if there are
        too few labels.
        """
        generator, reading = np.random.default_rng(seed), self._reading
        directions = directions_of(images.images, None)
        others = directions_of(decoys_from.images, None)
        features = []
        for own, label in zip(directions, images.labels, strict=True):
            chosen = _chosen(generator, int(label), decoys_from, hiding.decoys)
            cloned = np.linalg.qr(np.concatenate([own[None], others[chosen]]).T)[0]
            # A reader that knows of the white noise counts in its unit.
            white = 1.0 + reading.transmittance * hiding.white_noise / 2.0
            kicks = circular(generator, (reading.samples, hiding.decoys + 1))
            kicks *= np.float32(math.sqrt(reading.spike / white))
            features.append(features_of_rows(self._reader, generator, kicks, cloned.T))
        named = self._reader.read([np.concatenate(features)])
        return float(np.mean(named == images.labels))


def _chosen(
    generator: np.random.Generator, label: int, pool: LabelledImages, decoys: int
) -> list[int]:
    """Return the places of decoys of labels that differ from `label` and from each other."""
    labels = [int(one) for one in np.unique(pool.labels) if int(one) != label]
    if decoys > len(labels):
        raise DatasetError(f"{decoys} decoys: must be at most {len(labels)}, one per other label")
    drawn = generator.permutation(labels)[:decoys]
    return [int(generator.choice(np.flatnonzero(pool.labels == one))) for one in drawn]
