"""Frames without weights, by which both receivers find their way: what each is for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labctl import checks


class AlignmentPurpose(StrEnum):
    """What a frame without weights is for.

    RANGE: to fit the receivers' ranges to the light. PHASE: to turn the client's phase to zero.
    DARK: to learn what a receiver shows without light. CLOCK: to learn how digitizers run against
    the generator. NOISE: to measure the server's receiver, blocked.
    """

    RANGE = "range"
    PHASE = "phase"
    DARK = "dark"
    CLOCK = "clock"
    NOISE = "noise"


# Beyond any number of frames that an alignment takes for one purpose.
MOST_FRAMES = 1024


@dataclass(frozen=True)
class AlignmentFrame:
    """Frame `number`, from 0, of at most `count` of a purpose, of a layer's length."""

    purpose: AlignmentPurpose
    layer: int
    number: int
    count: int

    def __post_init__(self) -> None:
        checks.at_least("layer", self.layer, 0)
        checks.within("count", self.count, 1, MOST_FRAMES)
        checks.within("number", self.number, 0, self.count - 1)

    @property
    def last(self) -> bool:
        """Whether no more of its purpose can follow."""
        return self.number == self.count - 1

    @property
    def read_by_server(self) -> bool:
        """Whether the server records it too: the phase is the client's alone."""
        return self.purpose is not AlignmentPurpose.PHASE
