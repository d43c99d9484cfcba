"""A data-independent return: all modes of a public subspace are cloned, for any input.

The amplifier is phase-insensitive: noise and mismatch of a clone of all modes of a subspace depend
on its projector alone, which is public. What returns is one channel for all inputs, so no state
that the server sends and no measurement tells it anything of the input. The input c is projected on
the subspace, sum_k alpha_k u_k with orthonormal modes u_k. What is cloned of mode k is measured at
the phase arg alpha_k of the client's own local oscillator, behind the clone, where the server has
no part; sum_k |alpha_k| X_k is the inner product, and since sum |alpha_k|^2 = 1 its noise is that
of one value: F stays, for the projected input. A mode of the subspace carries two real dimensions
this way; real components measured at fixed phases would need modes whose X alone spans them.

The settings say this with coefficients u_k e^(i arg alpha_k): X of that mode is u_k's quadrature at
that phase, and the phase drops out of all that returns, cc^dagger being the same.

First layer: complex principal components of public pictures. Hidden layers: the client knows no
weights, so all modes, or the flat mode (activations are not negative) and random ones from a public
seed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from labctl.errors import DatasetError, SettingError
from labctl.protocols.encoding import Blocks, Floats, modes_of, pad_to_modes, unit_norm
from labctl.protocols.hiding.collection import Collected
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.streams import stream

Complexes = npt.NDArray[np.complex64]
# Anybody may know the subspace: it hides nothing by being unknown.
_PUBLIC_SEED = 0


def _require_room(hiding: Hiding, inputs: tuple[int, ...], block_modes: int | None) -> None:
    """Refuse more modes than any block has: a number that means nothing would be printed."""
    sizes = [Blocks.of(modes_of(count), block_modes).size for count in inputs]
    groups = (("return_modes", sizes[:1]), ("hidden_return_modes", sizes[1:]))
    for name, largest in groups:
        wanted, most = getattr(hiding, name), max(largest, default=1)
        if wanted is not None and wanted > most:
            raise SettingError(name, wanted, f"1 to {most}, the modes of a block")


class PublicReturn:
    """The public modes of every layer.

    pictures: public, (T, N), any scale; not the client's. sizes: of the network's layers. hiding:
    how many modes of each block, a block that has no more being returned wholly.
    """

    def __init__(
        self,
        pictures: Floats,
        sizes: tuple[int, ...],
        block_modes: int | None,
        hiding: Hiding,
        *,
        doubled: bool = False,
    ) -> None:
        """`doubled`: hidden layers are fed values and magnitudes."""
        if pictures.ndim != 2 or pictures.shape[1] != sizes[0]:
            raise DatasetError(f"pictures of shape {pictures.shape}: must be (T, {sizes[0]})")
        inputs = (sizes[0], *((2 if doubled else 1) * size for size in sizes[1:-1]))
        _require_room(hiding, inputs, block_modes)
        self._bases: list[list[Complexes]] = []
        fields = pad_to_modes(unit_norm(pictures)).view(np.complex64)
        for layer, count in enumerate(inputs):
            blocks = Blocks.of(modes_of(count), block_modes)
            wanted = hiding.clones_of(layer)
            bases = []
            for block, part in enumerate(blocks.slices()):
                size = part.stop - part.start
                if layer and wanted < size:
                    bases.append(_random_modes(size, wanted, layer, block))
                else:
                    own = fields[:, part] if not layer else np.eye(size, dtype=np.complex64)
                    bases.append(_strongest(own, min(wanted, size)))
            self._bases.append(bases)

    def basis(self, layer: int) -> list[Complexes]:
        """Return the modes (K, b) of each block of a layer."""
        return self._bases[layer]

    def inputs(self, images: Floats) -> Floats:
        """Return the images alone, (B, 1, N): nothing travels beside them."""
        return images[:, None]

    def collected(self, layer: int, inputs: Floats, blocks: Blocks) -> Collected:
        """Return the public modes, each at the phase of the input's share in it."""
        bases = self._bases[layer]
        most = max(len(basis) for basis in bases)
        fields = np.ascontiguousarray(inputs[:, 0]).view(np.complex64)
        coefficients = np.zeros((len(inputs), most, blocks.modes), np.complex64)
        shares = np.zeros((len(inputs), 1, most, blocks.count), np.float32)
        for block, (part, basis) in enumerate(zip(blocks.slices(), bases, strict=True)):
            alpha = fields[:, part] @ basis.conj().T
            size = np.abs(alpha)
            phase = np.divide(alpha, size, out=np.ones_like(alpha), where=size > 0.0)
            coefficients[:, : len(basis), part] = phase[..., None] * basis
            shares[:, 0, : len(basis), block] = size
        return Collected(coefficients.view(np.float32), shares)


def projected(images: Floats, basis: Complexes) -> Floats:
    """Return images (B, 2n), or odd, of unit norm projected on modes (K, n): what is measured."""
    fields = pad_to_modes(unit_norm(images)).view(np.complex64)
    seen: Floats = np.ascontiguousarray((fields @ basis.conj().T) @ basis).view(np.float32)
    return seen[:, : images.shape[1]]


def _strongest(fields: Complexes, count: int) -> Complexes:
    """Return the `count` strongest principal modes (count, b) of fields (T, b), not centred."""
    moments = fields.T.astype(np.complex128) @ fields.conj()
    _, vectors = np.linalg.eigh(moments)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count].T, np.complex64)


def _random_modes(size: int, count: int, layer: int, block: int) -> Complexes:
    """Return orthonormal modes (count, size): the flat one, then random ones from a public seed."""
    drawn = stream(_PUBLIC_SEED, layer, block).standard_normal((size, 2 * count))
    columns = drawn[:, 0::2] + 1j * drawn[:, 1::2]
    # Activations ride in pairs on X and P and are not negative: their mean is (1 + i) everywhere.
    columns[:, 0] = (1.0 + 1.0j) / math.sqrt(2.0 * size)
    return np.ascontiguousarray(np.linalg.qr(columns)[0].T, np.complex64)
