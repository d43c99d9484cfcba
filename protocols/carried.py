"""What of a network is sent: rows and inputs that carry nothing get no light.

An input whose weights in a layer are all zero changes no inner product; it would only take its
share of the input's unit norm, and empty modes. A hidden neuron that is fed by zeros alone gives
noise, and one that feeds zeros alone is never used. Leaving one out may empty a column before it or
a row behind it, so that this is repeated until nothing changes. The outputs are the classes: all of
them are sent.

Which inputs and how many rows are sent is public, like the sizes of the layers. Light is per mode
that is sent: weights have unit RMS over those that are left, and F = 2 mu T/D holds for the input's
unit norm over the inputs that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.data.models import Network
from labctl.errors import ModelError, SettingError
from labctl.protocols.encoding import Floats, modes_of, require_block_modes

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Which values of an image are fed to the first layer: public.

    `width`: values of one image. `fed`: rising indices of those that are fed, None for all.
    """

    width: int
    fed: Indices | None = None

    def same(self, other: Inputs) -> bool:
        """Whether the same values of images of the same width are fed."""
        if self.fed is None or other.fed is None:
            return self.width == other.width and self.fed is other.fed
        return self.width == other.width and np.array_equal(self.fed, other.fed)

    def taken(self, images: Floats) -> Floats:
        """Return the values (B, n) of images (B, width) that are fed; raises SettingError."""
        if images.ndim != 2 or images.shape[1] != self.width:
            raise SettingError(
                "images",
                images.shape,
                f"(images, {self.width}): the network has {self.width} inputs",
            )
        return images if self.fed is None else np.ascontiguousarray(images[:, self.fed])


@dataclass(frozen=True, eq=False)
class Carried:
    """The part of a network that is sent.

    `network`: without what carries nothing, the very same object if all carries something.
    `inputs`: which values of an image its first layer is fed with. `rows`: of each layer, whether
    each of its rows is sent.
    """

    network: Network
    inputs: Inputs
    rows: tuple[npt.NDArray[np.bool_], ...]


def carried(network: Network) -> Carried:
    """Return what of a network is sent; raises ModelError if nothing but zeros is left."""
    lit = [layer != 0.0 for layer in network.layers]
    kept = [lit[0].any(axis=0)]
    kept += [np.ones(len(layer), bool) for layer in lit]
    while _narrowed(kept, lit):
        pass
    if all(every.all() for every in kept):
        return Carried(network, Inputs(network.sizes[0]), tuple(kept[1:]))
    if not all(every.any() for every in kept):
        raise ModelError(
            f"{network.name}: no path of weights other than 0 leads from an input to an output"
        )
    layers = tuple(
        np.ascontiguousarray(layer[np.ix_(rows, columns)])
        for layer, columns, rows in zip(network.layers, kept[:-1], kept[1:], strict=True)
    )
    fed = None if kept[0].all() else np.flatnonzero(kept[0])
    sent = Network(layers, network.name, network.provenance)
    return Carried(sent, Inputs(network.sizes[0], fed), tuple(kept[1:]))


def require_blocks_of(network: Network, block_modes: int | None) -> None:
    """Raise SettingError for blocks of more modes than the longest row that is sent has."""
    if block_modes is not None:
        widths = carried(network).network.sizes[:-1]
        require_block_modes(block_modes, max(map(modes_of, widths)))


def _narrowed(kept: list[npt.NDArray[np.bool_]], lit: list[npt.NDArray[np.bool_]]) -> bool:
    """Drop inputs and neurons that carry nothing between those still kept; say if any was."""
    before = sum(int(every.sum()) for every in kept)
    for depth, weights in enumerate(lit):
        columns, rows = kept[depth], kept[depth + 1]
        kept[depth] = columns & weights[rows].any(axis=0)
        if depth + 1 < len(lit):
            kept[depth + 1] = rows & weights[:, kept[depth]].any(axis=1)
    return sum(int(every.sum()) for every in kept) < before
