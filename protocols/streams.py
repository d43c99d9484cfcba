"""Streams of random numbers by key: each runs on by itself, without regard to the others."""

from __future__ import annotations

import numpy as np


class Streams:
    """Generators spawned from one seed, each made once and kept."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[tuple[int, ...], np.random.Generator] = {}

    def of(self, *key: int) -> np.random.Generator:
        """Return the generator of a key, as far as it has run."""
        if key not in self._generators:
            self._generators[key] = stream(self._seed, *key)
        return self._generators[key]


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return a key's generator from its beginning."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


def party_stream(seed: int, *key: int) -> np.random.Generator:
    """Return a key's generator of NumPy's default kind, which a bench's parties draw from."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
