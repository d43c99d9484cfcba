"""Several inputs at once: orthonormal modes that span them, no input being treated otherwise.

A clone's noise in orthonormal modes shows their span and nothing inside it. The inputs a_j overlap,
so they are made orthogonal, all alike (Lowdin, J. Chem. Phys. 18, 365 (1950)): with the Gram matrix
G_jk = a_j^dagger a_k and its root S, the modes u = a S^-1 are the orthonormal ones nearest to the
inputs, and a_j = sum_k S_kj u_k. Measured is X of each mode, X_k = Re(u_k^dagger w); the value of
an input, Re(a_j^dagger w), is sum_k Re(S_kj) X_k + Im(S_kj) P_k. P is not measured. What Im S
leaves out is 0.2 % of an input's power for four digits, of the own input and of decoys alike, so
that in no layer an input differs from a decoy by how it was measured. (Gram and Schmidt's way would
leave out nothing of the first and 0.6 % of the last: visible in the next layer, at least in
principle.)

Where inputs are dark or depend on each other, public modes of the block fill up: those of a
discrete Fourier transform, the flat one first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError
from labctl.protocols.encoding import Blocks, Floats
from labctl.protocols.hiding.collection import Collected

Complexes = npt.NDArray[np.complex64]
Wide = npt.NDArray[np.complex128]

# Below, the root's inverse would magnify what float32 rounds.
_LEAST_EIGENVALUE = 1e-3


def collected_together(inputs: Floats, blocks: Blocks) -> Collected:
    """Return K = A modes per block that span the inputs (B, A, 2n), and each input's shares.

    Raises SettingError where a block has fewer modes than there are inputs.
    """
    count, together, columns = inputs.shape
    if min(blocks.sizes) < together:
        raise SettingError(
            "decoys", together - 1, f"at most {min(blocks.sizes) - 1}, the smallest block's modes "
            "less one"
        )  # fmt: skip
    coefficients = np.empty((count, together, columns), np.float32)
    shares = np.empty((count, together, together, blocks.count), np.float32)
    fields = np.ascontiguousarray(inputs).view(np.complex64)
    for block, part in enumerate(blocks.slices()):
        modes, overlaps = orthonormal(np.ascontiguousarray(fields[..., part]))
        coefficients[..., 2 * part.start : 2 * part.stop] = modes.view(np.float32)
        shares[..., block] = overlaps.real.swapaxes(1, 2)
    return Collected(coefficients, shares)


def orthonormal(inputs: Complexes) -> tuple[Complexes, Complexes]:
    """Return modes (B, A, b) that span inputs (B, A, b), and overlaps (B, A, A).

    overlaps[:, k, j] is u_k^dagger a_j.
    """
    conjugate = inputs.conj()
    gram = (conjugate @ inputs.swapaxes(1, 2)).astype(np.complex128)
    norms = np.sqrt(np.einsum("ijj->ij", gram).real)
    dark = norms == 0.0
    scale = np.where(dark, 1.0, norms)
    gram /= scale[:, :, None] * scale[:, None, :]
    values, vectors = np.linalg.eigh(gram)
    poor = values[:, 0] < _LEAST_EIGENVALUE
    safe = np.maximum(values, _LEAST_EIGENVALUE)
    backwards = vectors.conj().swapaxes(1, 2)
    root = (vectors * np.sqrt(safe)[:, None, :]) @ backwards
    inverse = (vectors / np.sqrt(safe)[:, None, :]) @ backwards
    modes = (inverse.swapaxes(1, 2) / scale[:, None, :]).astype(np.complex64) @ inputs
    overlaps = (root * scale[:, None, :]).astype(np.complex64)
    for image in np.flatnonzero(poor):
        modes[image], overlaps[image] = _filled(inputs[image].astype(np.complex128))
    return modes, overlaps


def _filled(inputs: Wide) -> tuple[Wide, Wide]:
    """Return modes (A, b) and overlaps (A, A) of inputs (A, b) that do not span A dimensions.

    Of all orthonormal bases of the span the one nearest to the inputs (polar decomposition).
    """
    together, size = inputs.shape
    norms = np.linalg.norm(inputs, axis=1, keepdims=True)
    unit = np.divide(inputs, norms, out=np.zeros_like(inputs), where=norms > 0.0)
    _, strengths, axes = np.linalg.svd(unit, full_matrices=False)
    basis = list(axes[strengths**2 >= _LEAST_EIGENVALUE])
    place = np.arange(size)
    for frequency in range(size):
        if len(basis) == together:
            break
        left = np.exp(2j * np.pi * frequency * place / size) / np.sqrt(size)
        for _ in range(2):
            left = left - sum((np.vdot(mode, left) * mode for mode in basis), np.zeros(size))
        length = np.linalg.norm(left)
        if length**2 >= _LEAST_EIGENVALUE:
            basis.append(left / length)
    modes = np.array(basis)
    first, _, second = np.linalg.svd(modes.conj() @ unit.T)
    turned = (first @ second).T @ modes
    return turned, turned.conj() @ inputs.T
