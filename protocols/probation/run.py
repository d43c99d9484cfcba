"""A session whose server mixes worthless queries in: practice first, then images until served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from labctl.protocols.encoding import Floats
from labctl.protocols.probation.server import ProbationServer
from labctl.protocols.session import BATCH_IMAGES, Batch, Session


@dataclass(frozen=True, eq=False)
class Round:
    """Some queries of one kind that have ended.

    `inputs` (queries, N): what the client fed in. `batch`: the results of real queries, with the
    place of the first image among all; None for worthless ones, whose answers the client discards.
    """

    inputs: Floats
    batch: Batch | None


def run_on_probation(
    session: Session,
    server: ProbationServer,
    images: Floats,
    *,
    practice_queries: int = 0,
    batch_images: int = BATCH_IMAGES,
) -> Iterator[Round]:
    """Classify images (B, N), each as often as it takes until a real query has served it.

    session: with `server`. practice_queries: so many queries go first, fed with flat inputs that
    say nothing of the data; if one of them is real, its answer is of no use to the client. Images
    come in order. Yields every round of queries.
    """
    flat = np.ones((1, images.shape[1]), np.float32)
    left = practice_queries
    while left:
        count, _ = server.next_of_a_kind(min(left, batch_images))
        inputs = np.repeat(flat, count, axis=0)
        for _batch in session.run(inputs, batch_images=count):
            pass
        left -= count
        yield Round(inputs, None)
    served = 0
    while served < len(images):
        count, real = server.next_of_a_kind(min(len(images) - served, batch_images))
        inputs = images[served : served + count]
        batches = list(session.run(inputs, batch_images=count))
        if not real:
            yield Round(inputs, None)
            continue
        for batch in batches:
            part = inputs[batch.first_image : batch.first_image + len(batch.classes)]
            yield Round(part, replace(batch, first_image=served + batch.first_image))
        served += count
