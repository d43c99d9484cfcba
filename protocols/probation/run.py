"""A session whose server mixes worthless queries in: practice first, then images until served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from labctl.protocols.encoding import Floats
from labctl.protocols.probation.server import ProbationServer
from labctl.protocols.session import BATCH_IMAGES, Batch, Session


class QueryKind(Enum):
    """What a round of queries is: before anybody is served, worthless in between, or served."""

    PRACTICE = "practice"
    WORTHLESS = "worthless"
    SERVED = "served"


@dataclass(frozen=True, eq=False)
class Round:
    """Some queries of one kind that have ended.

    `inputs` (queries, N): what the client fed in. `batch`: the results of served queries, with the
    place of the first image among all; None for others, whose answers the client discards.
    """

    kind: QueryKind
    inputs: Floats
    batch: Batch | None = None


Around = Callable[[QueryKind, Floats], AbstractContextManager[None]]


def run_on_probation(
    session: Session,
    server: ProbationServer,
    images: Floats,
    *,
    practice_queries: int = 0,
    batch_images: int = BATCH_IMAGES,
    around: Around = lambda kind, inputs: nullcontext(),
    fitting: Callable[[Floats], int] = len,
) -> Iterator[Round]:
    """Classify images (B, N), each as often as it takes until a real query has served it.

    session: with `server`. practice_queries: how many queries go first, fed with flat inputs that
    say nothing of the data; if one of them is real, its answer is of no use to the client.
    around: what is done before and after each round, as to book it. fitting: how many of some
    images may be served at once, 1 or more. Images come in order. Yields every round of queries.
    """
    flat = np.ones((1, images.shape[1]), np.float32)
    left = practice_queries
    while left:
        count, _ = server.next_of_a_kind(min(left, batch_images))
        inputs = np.repeat(flat, count, axis=0)
        _run(session, around, QueryKind.PRACTICE, inputs)
        left -= count
        yield Round(QueryKind.PRACTICE, inputs)
    served = 0
    while served < len(images):
        count, real = server.next_of_a_kind(min(len(images) - served, batch_images))
        inputs = images[served : served + count]
        if not real:
            _run(session, around, QueryKind.WORTHLESS, inputs)
            yield Round(QueryKind.WORTHLESS, inputs)
            continue
        inputs = inputs[: fitting(inputs)]
        for batch in _run(session, around, QueryKind.SERVED, inputs):
            part = inputs[batch.first_image : batch.first_image + len(batch.classes)]
            moved = replace(batch, first_image=served + batch.first_image)
            yield Round(QueryKind.SERVED, part, moved)
        served += len(inputs)


def _run(session: Session, around: Around, kind: QueryKind, inputs: Floats) -> list[Batch]:
    with around(kind, inputs):
        return list(session.run(inputs, batch_images=len(inputs)))
