"""Block size as a countermeasure: what smaller blocks do to weights, data, labels and accuracy.

Accuracy stays: a row's value has the same F in any blocks. Each block adds its clone's noise g to b
modes, so that eps = g/b and data bits grow with M/b. A label is read from all blocks of a row: each
shows the direction of its own part of the input and hides that part's length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labctl.data.mnist import LabelledImages
from labctl.protocols.blocks import BlockOption, BlockQuestion, block_option
from labctl.protocols.labels.reading import Detection
from labctl.studies.attacks.label_reading import DIMENSIONS, label_success


@dataclass(frozen=True)
class BlockEffect:
    """A block size: what leaks, and the share of labels read with its standard error."""

    option: BlockOption
    label_success: float
    label_success_error: float


def block_effects(
    question: BlockQuestion,
    sizes: Iterable[int],
    images: LabelledImages,
    templates: LabelledImages,
    *,
    seed: int,
    receiver: Detection = Detection.HOMODYNE,
    dimensions: int = DIMENSIONS,
) -> list[BlockEffect]:
    """Measure block sizes on images that are not among the templates, one sending of each."""
    effects = []
    for size in sizes:
        learned = label_success(
            images.images,
            images.labels,
            templates.images,
            templates.labels,
            gain=question.receiver.gain,
            rows=question.rows,
            block_modes=size,
            emission_factor=question.receiver.emission_factor,
            receiver=receiver,
            dimensions=dimensions,
            seed=seed,
        )
        option = block_option(question, size)
        share, error = learned.label_success or 0.0, learned.label_success_error or 0.0
        effects.append(BlockEffect(option, share, error))
    return effects
