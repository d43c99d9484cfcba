"""Measure the curves of label reading: success at each evidence, with kicks alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from labctl.data.mnist import LabelledImages
from labctl.protocols.labels.curve import CurveFile, CurvePoint
from labctl.protocols.labels.reading import Detection, Reading
from labctl.studies.attacks.label_reading import (
    DIMENSIONS,
    LabelReader,
    chance_of,
    success_of,
)

EVIDENCE = {
    Detection.HETERODYNE: (0.1, 0.3, 0.6, 1.0, 1.8, 3.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0),
    Detection.HOMODYNE: (0.1, 0.3, 0.6, 1.0, 1.8, 3.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0),
    Detection.COUNTING: (0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 60.0),
}
# Weak enough that a curve takes few rows to none of its points, and no point takes fractions.
_MEASURED_AT_GAIN = 1.02


def measure_curves(
    images: LabelledImages,
    templates: LabelledImages,
    *,
    seed: int,
    command: str,
    described: tuple[str, str],
    evidence: dict[Detection, Sequence[float]] | None = None,
    dimensions: int = DIMENSIONS,
    on_point: Callable[[CurvePoint], None] = lambda point: None,
) -> CurveFile:
    """Measure curves on images that are not among the templates.

    `described` says in words what templates and images are; `evidence` at which points to measure.
    """
    points = []
    for receiver, values in (evidence or EVIDENCE).items():
        for place, wanted in enumerate(values):
            reading = _reading_of(receiver, wanted)
            reader = LabelReader(templates.images, templates.labels, reading, dimensions)
            found = success_of(reader, images.images, images.labels, seed + place)
            point = _point(reading, found.label_success or 0.0, found.samples)
            points.append(point)
            on_point(point)
    return CurveFile(
        command=command,
        templates=described[0],
        images=described[1],
        seed=seed,
        dimensions=dimensions,
        chance=chance_of(images.labels),
        point=tuple(points),
    )


def _reading_of(receiver: Detection, evidence: float) -> Reading:
    """Return a reading of about this evidence, its rows being whole."""
    one = Reading(gain=_MEASURED_AT_GAIN, rows=1, receiver=receiver)
    return replace(one, rows=max(round(evidence / one.evidence), 1))


def _point(reading: Reading, share: float, images: int) -> CurvePoint:
    # Laplace's rule keeps the error of a share of 0 or 1 above 0.
    smooth = (share * images + 1.0) / (images + 2.0)
    return CurvePoint(
        receiver=reading.receiver,
        evidence=reading.evidence,
        success=share,
        standard_error=math.sqrt(smooth * (1.0 - smooth) / images),
    )
