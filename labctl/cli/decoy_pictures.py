"""`--decoy-images`: what is wrong with the client's own pictures is said of the option, at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labctl.cli.choices import pictures_besides
from labctl.data.mnist import LabelledImages
from labctl.errors import DatasetError, SettingError
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.hiding.public_guess import LEAST_OF_A_CLASS

_OPTION = "--decoy-images"


def pictures_for(
    data: str | Path | None, count: int, source: str | None, *, hiding: Hiding, inputs: int
) -> LabelledImages:
    """Return pictures for decoys or a public subspace; see `pictures_besides`.

    inputs: of the network. Raises SettingError for a `source` of pictures that cannot serve.
    """
    try:
        found = pictures_besides(data, count, source)
    except DatasetError as error:
        if source is None:
            raise
        raise DatasetError(f"{_OPTION} = {source!r}: {error}") from error
    if source is not None:
        _require(source, found, hiding, inputs)
    return found


def _require(source: str, pictures: LabelledImages, hiding: Hiding, inputs: int) -> None:
    size = pictures.images.shape[1]
    if size != inputs:
        valid = f"pictures of {inputs} values, as the network has inputs; these have {size}"
        raise SettingError(_OPTION, source, valid)
    if not hiding.decoys:
        return
    dark = int(np.count_nonzero(~pictures.images.any(axis=1)))
    if dark:
        valid = f"pictures that all show something; {dark} of {len(pictures.labels)} are dark"
        raise SettingError(_OPTION, source, valid)
    # Every other picture teaches the guess of a class, the others serve.
    counts = np.unique(pictures.labels[0::2], return_counts=True)[1]
    if len(counts) <= hiding.decoys or counts.min() < LEAST_OF_A_CLASS:
        valid = (
            f"pictures of {hiding.decoys + 1} classes or more, {2 * LEAST_OF_A_CLASS} or more of "
            f"each; there are {len(counts)} classes, of which one has about {2 * counts.min()}"
        )
        raise SettingError(_OPTION, source, valid)
