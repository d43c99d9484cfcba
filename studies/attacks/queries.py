"""Curves over queries: what an attack has learned, and whether it was caught, after some images.

Each count of queries is a separate session, of the same seed: an attacker knows how long its
session will be, and plans for it. The copy of the network is judged on images that nobody sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.encoding import Floats
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attack, AttackOutcome, StealsNetwork
from labctl.studies.attacks.copies.stolen import worth_of
from labctl.studies.attacks.copies.thief import CopyThief
from labctl.studies.training.evaluation import noisy_accuracy

# Small batches, so that progress is seen and an interrupt comes through.
BATCH_IMAGES = 16


@dataclass(frozen=True)
class QueryPoint:
    """What came of a session of `queries` images."""

    queries: int
    outcome: AttackOutcome


def curve_over_queries(
    attack: Attack,
    network: Network,
    settings: SessionSettings,
    images: LabelledImages,
    queries: Sequence[int],
    *,
    test: LabelledImages | None = None,
    on_queries: Callable[[int], None] = lambda count: None,
) -> tuple[QueryPoint, ...]:
    """Run one attacked session for each count of `queries`, on the first images up to that count.

    `test`: images that a stolen copy is judged on, None to leave copies unjudged. `on_queries` is
    called with the number of queries done since. Raises SettingError for more queries than images,
    or none.
    """
    if not queries or min(queries) < 1 or max(queries) > len(images.images):
        valid = f"one or more, each 1 to {len(images.images)}, the given images"
        raise SettingError("queries", tuple(queries), valid)
    points = []
    for count in queries:
        given = LabelledImages(images.images[:count], images.labels[:count])
        points.append(
            QueryPoint(count, _outcome(attack, network, settings, given, test, on_queries))
        )
    return tuple(points)


def _outcome(
    attack: Attack,
    network: Network,
    settings: SessionSettings,
    images: LabelledImages,
    test: LabelledImages | None,
    on_queries: Callable[[int], None],
) -> AttackOutcome:
    mounted = attack.mount(network, settings)
    session = Session(network, settings, mounted.link, server=mounted.server)
    for batch in session.run(mounted.inputs(images.images), batch_images=BATCH_IMAGES):
        on_queries(len(batch.classes))
    learned = mounted.learned(network, images)
    if learned.copy_accuracy is None and test is not None and isinstance(mounted, StealsNetwork):
        # What is not sent is in nobody's copy; the inputs that are fed are public.
        copy, fed = mounted.stolen(network), carried(network).inputs
        if copy[0].shape[1] != fed.width:
            test = LabelledImages(fed.taken(test.images), test.labels)
        accuracy = copy_accuracy(copy, test)
        learned = replace(learned, copy_accuracy=accuracy)
    elif test is not None and isinstance(mounted, CopyThief):
        worth = worth_of(mounted.copy(), mounted.public, test)
        learned = replace(learned, copy_accuracy=worth.best)
    return AttackOutcome(learned, session.verdict())


def copy_accuracy(layers: Sequence[Floats], test: LabelledImages) -> float:
    """Return the share of test images that a network of these layers classifies correctly.

    Without noise; the scale of a layer plays no part. A copy with a layer of zeros, of which
    nothing is known, names the first class always.
    """
    if not all(layer.any() for layer in layers):
        return float(np.mean(test.labels == 0))
    copy = Network(tuple(layers), "copy", {})
    return noisy_accuracy(copy, test.images, test.labels, math.inf, 0)
