"""The time grid on which light is computed, and the white noise that lives on it.

A field is a complex64 array of quadratures X + iP per grid sample, in shot-noise units: vacuum
has variance 1 in each, and a sample holds (X^2 + P^2)/4 photons. Drawing vacuum as classical
Gaussian noise and propagating it linearly is exact for Gaussian states seen by homodyne
(Wigner representation; Leonhardt, Measuring the Quantum State of Light, 1997, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.complex64]
Real = npt.NDArray[np.float32]
Instants = npt.NDArray[np.int64]
"""Grid samples since the bench's time zero, in rising order but with any gaps between them."""


@dataclass(frozen=True)
class Window:
    """A stretch of grid samples; `start` counts samples since the bench's time zero."""

    start: int
    samples: int

    @property
    def stop(self) -> int:
        """First sample after the window."""
        return self.start + self.samples

    def shifted(self, by: int) -> Window:
        """Return the window `by` samples later."""
        return Window(self.start + by, self.samples)

    def within(self, outer: Window) -> slice:
        """Return where this window lies in an array that covers `outer`."""
        if self.start < outer.start or self.stop > outer.stop:
            raise ValueError(f"{self} is not inside {outer}")
        return slice(self.start - outer.start, self.stop - outer.start)


def union(*windows: Window) -> Window:
    """Return the smallest window that covers all of `windows`."""
    start = min(window.start for window in windows)
    return Window(start, max(window.stop for window in windows) - start)


class Seeds:
    """Streams of random numbers by name: adding a component leaves all others as they are.

    Noise is another in each `run`, as on a real bench; what is the same whenever drawn is not.
    """

    def __init__(self, seed: int, run: int = 0) -> None:
        self._seed = seed
        # Behind the name, whose bytes are all below 256.
        self._run = (256 + run,) if run else ()

    def noise(self, name: str) -> Noise:
        """Return the source of randomness of that name."""
        return Noise(np.random.SeedSequence([self._seed, *name.encode(), *self._run]))

    def sequence(self, name: str) -> np.random.SeedSequence:
        """Return the seed of that name, for numbers that are the same whenever drawn."""
        return np.random.SeedSequence([self._seed, *name.encode()])


class Noise:
    """One physical source of randomness with its own stream."""

    def __init__(self, seed: np.random.SeedSequence) -> None:
        self.generator = np.random.Generator(np.random.SFC64(seed))

    def normals(self, samples: int) -> Real:
        """Return unit normal numbers."""
        return self.generator.standard_normal(samples, dtype=np.float32)

    def vacuum(self, samples: int) -> Field:
        """Return the field of empty modes."""
        return self.normals(2 * samples).view(np.complex64)
