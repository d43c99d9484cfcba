"""What leakage needs to know of a layer."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.protocols.encoding import Blocks
from labctl.protocols.leakage.weights import WEIGHTS_PER_MODE


@dataclass(frozen=True)
class LayerShape:
    """What leakage needs to know of a layer: rows, modes per row, real inputs, modes per block.

    `clones`: modes that the client collects of each block, all of a block that has no more.
    """

    rows: int
    modes: int
    inputs: int
    block_modes: int | None = None
    clones: int = 1

    @property
    def blocks(self) -> Blocks:
        """The blocks of each row."""
        return Blocks.of(self.modes, self.block_modes)

    @property
    def loud_modes(self) -> int:
        """Modes of each row that return with a clone's noise."""
        return self.blocks.collected(self.clones)

    @property
    def inputs_by_block_size(self) -> dict[int, int]:
        """Real inputs that ride in full blocks and, if it is short, in the last one, by size."""
        blocks, counts = self.blocks, {self.blocks.size: self.inputs}
        last = blocks.modes - (blocks.count - 1) * blocks.size
        if last < blocks.size:
            counts[blocks.size] = WEIGHTS_PER_MODE * (blocks.modes - last)
            counts[last] = self.inputs - counts[blocks.size]
        return counts
