"""Inputs collected together: orthonormal modes of their span, no input treated otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.errors import SettingError
from labctl.protocols.encoding import Blocks, unit_norm
from labctl.protocols.hiding.orthogonal import collected_together, orthonormal

Complexes = NDArray[np.complex64]


def drawn(images: int, together: int, modes: int, seed: int = 0) -> Complexes:
    """Return inputs of pixels that are not negative, so that they overlap as pictures do."""
    pixels = np.random.default_rng(seed).random((images * together, 2 * modes), np.float32)
    fields: Complexes = unit_norm(pixels).view(np.complex64)
    return fields.reshape(images, together, modes)


def projectors(modes: Complexes) -> Complexes:
    return np.asarray(np.einsum("ikm,ikn->imn", modes, modes.conj()), np.complex64)


def test_the_modes_are_orthonormal_and_span_the_inputs() -> None:
    inputs = drawn(20, 4, 30)
    modes, overlaps = orthonormal(inputs)
    gram = np.einsum("ikm,ijm->ikj", modes.conj(), modes)
    assert np.allclose(gram, np.eye(4), atol=1e-4)
    assert np.allclose(np.einsum("ikj,ikm->ijm", overlaps, modes), inputs, atol=1e-4)


def test_no_input_is_treated_otherwise() -> None:
    # Decoys must not differ from the own input by how they are measured, in any layer.
    inputs, order = drawn(5, 4, 30), [2, 0, 3, 1]
    modes, overlaps = orthonormal(inputs)
    again, turned = orthonormal(inputs[:, order])
    assert np.allclose(again, modes[:, order], atol=1e-4)
    assert np.allclose(turned, overlaps[:, order][:, :, order], atol=1e-4)


def test_overlaps_are_hermitian_so_that_little_is_left_in_p() -> None:
    inputs = drawn(20, 4, 300)
    _, overlaps = orthonormal(inputs)
    assert np.allclose(overlaps, overlaps.conj().swapaxes(1, 2), atol=1e-4)
    assert np.sum(overlaps.imag**2, axis=1).max() < 0.01


@pytest.mark.parametrize("case", ["dark", "all dark", "alike", "nearly alike"])
def test_public_modes_fill_up_where_inputs_do_not_span_enough(case: str) -> None:
    inputs = drawn(3, 3, 8)
    if case == "dark":
        inputs[1, 0] = 0.0
    elif case == "all dark":
        inputs[1] = 0.0
    else:
        inputs[1, 2] = 1j * inputs[1, 0]
    if case == "nearly alike":
        inputs[1, 2, 0] += 1e-6
    modes, overlaps = orthonormal(inputs)
    gram = np.einsum("ikm,ijm->ikj", modes.conj(), modes)
    assert np.allclose(gram, np.eye(3), atol=1e-4)
    left = inputs - np.einsum("ikj,ikm->ijm", overlaps, modes)
    assert np.abs(left).max() < 1e-3
    if case == "all dark":
        flat = np.full(8, 1.0 / np.sqrt(8.0))
        assert np.allclose(projectors(modes)[1] @ flat, flat, atol=1e-4)


def test_each_block_is_orthonormal_by_itself_and_values_add_up() -> None:
    blocks = Blocks.of(17, 6)
    inputs = drawn(4, 3, 17).view(np.float32)
    found = collected_together(inputs, blocks)
    weights = np.random.default_rng(1).standard_normal((5, 34)).astype(np.float32)
    for part in blocks.slices():
        modes = found.coefficients.view(np.complex64)[..., part]
        gram = np.einsum("ikm,ijm->ikj", modes.conj(), modes)
        assert np.allclose(gram, np.eye(3), atol=1e-4)
    # X and P of every mode together give the inner product; X alone all but what Im S says.
    values = np.zeros((4, 3, 5))
    for block, columns in enumerate(blocks.slices(2)):
        x = found.coefficients[..., columns] @ weights[:, columns].T
        values += found.shares[..., block] @ x
    exact = inputs @ weights.T
    assert np.corrcoef(values.ravel(), exact.ravel())[0, 1] > 0.93


def test_a_block_needs_as_many_modes_as_inputs() -> None:
    with pytest.raises(SettingError, match="decoys"):
        collected_together(drawn(1, 3, 8).view(np.float32), Blocks.of(8, 3))
