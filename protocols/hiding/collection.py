"""Which modes a receiver collects, and how a client combines what it measures of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from labctl.protocols.encoding import Blocks, Floats


@dataclass(frozen=True, eq=False)
class Collected:
    """One layer's setting and reading.

    coefficients: (B, K, 2n), the modes collected of each block, orthonormal there. shares:
    (B, A, K, blocks): the value of input a is the sum of shares times measured values.
    """

    coefficients: Floats
    shares: Floats


class Collection(Protocol):
    """How a client hides its input: what travels beside it, and which modes are collected."""

    def inputs(self, images: Floats) -> Floats:
        """Return what travels through the network, (B, A, N), for images (B, N): own first."""
        ...

    def collected(self, layer: int, inputs: Floats, blocks: Blocks) -> Collected:
        """Return what to collect of a layer for inputs (B, A, 2n) of unit norm, or all zero."""
        ...
