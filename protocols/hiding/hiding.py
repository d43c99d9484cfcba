"""What a client collects besides its input, as both parties agree on it: numbers of modes alone.

The server has to accept the noise of every clone, so it knows how many there are; which modes they
are stays the client's. Decoys: J more inputs of other classes share the clone's hardware, the
returned light depends on the span of all alone, and any reader names the right one of J + 1. Public
subspace: all its modes are cloned for any input, and the returned light depends on nothing
of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl import checks
from labctl.errors import SettingError

# One of each class but the input's own; labels are bytes, so that there are 256 classes at most.
MOST_DECOYS = 255
# Any reader names one label in four; more decoys cost weights in proportion and gain less and less.
DEFAULT_DECOYS = 3
# Error of the public guess where it is not measured: above what 1250 pictures of digits teach.
ASSUMED_GUESS_ERROR = 0.07
# More than any row has modes: all of them.
_ALL_MODES = 2**31 - 1


def require_decoys(decoys: int, classes: int) -> None:
    """Refuse more decoys than a network of this many classes has others: they are one per class."""
    checks.within("decoys", decoys, 0, classes - 1, note=", one per class")


@dataclass(frozen=True)
class Hiding:
    """Nothing by default, or decoys, or a public subspace; both are refused.

    decoys: J, inputs cloned in addition to its own. return_modes: modes of the first layer's public
    subspace. hidden_return_modes: of each further layer's, None for all modes.
    """

    decoys: int = 0
    return_modes: int | None = None
    hidden_return_modes: int | None = None

    def __post_init__(self) -> None:
        checks.within("decoys", self.decoys, 0, MOST_DECOYS)
        for name in ("return_modes", "hidden_return_modes"):
            value = getattr(self, name)
            if value is not None:
                checks.at_least(name, value, 1, note=", or none")
        if self.return_modes is None and self.hidden_return_modes is not None:
            raise SettingError("hidden_return_modes", self.hidden_return_modes, "with return_modes")
        if self.return_modes is not None and self.decoys:
            raise SettingError("decoys", self.decoys, "0 where a public subspace is returned")

    def clones_of(self, layer: int) -> int:
        """Return how many modes are cloned of each block of a layer; of a smaller block all are."""
        if self.return_modes is None:
            return self.decoys + 1
        if layer == 0:
            return self.return_modes
        return _ALL_MODES if self.hidden_return_modes is None else self.hidden_return_modes


OPEN = Hiding()


def reading_cap(decoys: int, classes: int, guess_error: float) -> float:
    """Return the most labels, as a share, that any reader names of inputs hidden among decoys.

    Input and decoys are drawn alike, of J + 1 classes by the same public guess, so a reader can
    only choose one of J + 1 at random. Its guess counts for more where two of them share a label in
    truth, because the public guess was wrong of one of them. Of (J + 1) J ordered pairs each does
    so with `guess_error`/(classes - 1), wrong guesses falling anywhere; each such pair adds one of
    J + 1. Holds for classes that are equally frequent.
    """
    checks.within("guess_error", guess_error, 0.0, 1.0)
    checks.within("decoys", decoys, 0, classes - 1, note=", one per other class")
    wrong = decoys * guess_error / (classes - 1) if decoys else 0.0
    return min(1.0 / (decoys + 1) + wrong, 1.0)
