"""Decoys: inputs of other classes that share the clone's hardware with the client's own.

Decoys come from a store of pictures that the server does not hold: it would find those that it has
in the span and strike them out. They are of J classes other than the own, each drawn equally often,
and both the own class and theirs are what one public guess says: by any other rule a candidate of
which the guess is wrong would betray itself. They are drawn with a secret key and the input's own
values, so that a repeat of an input has the same decoys; fresh ones would average away. They are
the same in all rows. In the next layer a decoy is what was measured of it: it travels through the
network as the input does.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.errors import DatasetError
from labctl.protocols.encoding import Blocks, Floats
from labctl.protocols.hiding.collection import Collected
from labctl.protocols.hiding.hiding import reading_cap, require_decoys
from labctl.protocols.hiding.orthogonal import collected_together
from labctl.protocols.hiding.public_guess import PublicGuess
from labctl.protocols.keys import require_key

# Numbers of 64 bits, of which two are hardly ever alike.
_WORD_BYTES = 8


def decoy_key_of_seed(seed: int) -> bytes:
    """Return a key for simulated runs that repeat: as secret as the seed, so no secret at all."""
    return hashlib.sha256(b"decoys" + str(seed).encode()).digest()


class Decoys:
    """A client's J decoys for every input.

    store: pictures (T, N) of any scale with labels, the client's own; none may be dark. Every other
    one serves as a decoy; the rest teach the guess, which may be known to everybody, and which has
    to meet decoys as it meets the input: for the first time. key: the client's secret, 16 bytes or
    more. Raises DatasetError where the store lacks classes.
    """

    def __init__(self, store: LabelledImages, decoys: int, key: bytes) -> None:
        require_key(key)
        if not store.images.any(axis=1).all():
            raise DatasetError("a decoy is dark: all pictures of the store must show something")
        self.decoys = decoys
        self.store = LabelledImages(store.images[1::2], store.labels[1::2])
        self.guess = PublicGuess(store.images[0::2], store.labels[0::2])
        self._key = key
        guessed = self.guess.of(self.store.images)
        self.guess_error = float(np.mean(guessed != self.store.labels))
        self._classes = self.guess.classes
        self._places = [np.flatnonzero(guessed == one) for one in self._classes]
        require_decoys(decoys, len(self._classes))
        checks.at_least("decoys", decoys, 1)
        if not all(len(places) for places in self._places):
            raise DatasetError("no picture of the store looks like one of the classes: more needed")

    @property
    def cap(self) -> float:
        """The most labels that any reader names, as a share; see `reading_cap`."""
        return reading_cap(self.decoys, len(self._classes), self.guess_error)

    def chosen(self, images: Floats) -> npt.NDArray[np.intp]:
        """Return the places (B, J) in the store of the decoys of images (B, N)."""
        own = np.searchsorted(self._classes, self.guess.of(images))
        classes = len(self._classes)
        drawn = np.empty((len(images), classes + self.decoys), np.uint64)
        size = _WORD_BYTES * drawn.shape[1]
        for row, image in zip(drawn, np.ascontiguousarray(images, np.float32), strict=True):
            words = hashlib.shake_256(self._key + image.tobytes()).digest(size)
            row[:] = np.frombuffer(words, np.uint64)
        order, picks = drawn[:, :classes].copy(), drawn[:, classes:]
        # The own class comes last, so that it is not among the first J.
        order[np.arange(len(images)), own] = np.iinfo(np.uint64).max
        others = np.argsort(order, axis=1, kind="stable")[:, : self.decoys]
        chosen = np.empty((len(images), self.decoys), np.intp)
        for index, places in enumerate(self._places):
            here = others == index
            chosen[here] = places[(picks[here] % np.uint64(len(places))).astype(np.intp)]
        return chosen

    def inputs(self, images: Floats) -> Floats:
        """Return images and their decoys, (B, J + 1, N)."""
        if images.shape[1] != self.store.images.shape[1]:
            raise DatasetError(
                f"decoys of {self.store.images.shape[1]} pixels, inputs of {images.shape[1]}: "
                "must be as many"
            )
        return np.concatenate([images[:, None], self.store.images[self.chosen(images)]], axis=1)

    def collected(self, layer: int, inputs: Floats, blocks: Blocks) -> Collected:
        """Return modes that span the inputs (B, J + 1, 2n) and each one's shares."""
        return collected_together(inputs, blocks)
