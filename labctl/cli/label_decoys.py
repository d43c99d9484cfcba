"""Whose pictures are whose when a curious server reads labels that decoys hide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.wording import at_most_percent


@dataclass(frozen=True, eq=False)
class HiddenImages:
    """A client's images among decoys.

    attacked: its images. decoys: what hides them. taught: pictures that taught the public guess,
    public themselves. others: further ones that are neither sent nor decoys.
    """

    attacked: LabelledImages
    decoys: Decoys
    taught: LabelledImages
    others: LabelledImages

    def gallery(
        self, count: int | None, public: LabelledImages | None, *, candidates: bool
    ) -> LabelledImages:
        """Return the pictures that the server has.

        candidates: all inputs and all pictures that may be decoys. Else `public`, or where that is
        None the first `count` of those that taught the guess and of others, None for all.
        """
        if candidates:
            return _joined(self.attacked, self.decoys.store)
        if public is not None:
            return public
        both = _joined(self.taught, self.others)
        kept = len(both.labels) if count is None else count
        checks.within("templates", kept, 1, len(both.labels))
        return LabelledImages(both.images[:kept], both.labels[:kept])

    def assumptions(self, pictures: int, *, candidates: bool) -> list[str]:
        """Return what the figures assume."""
        held = (
            f"the server holds all {pictures} pictures that may be input or decoy, and not which"
            if candidates
            else f"{pictures} public images of known label, none of those sent"
        )
        return [
            f"any reader at all: at most {at_most_percent(self.decoys.cap)} of labels of classes "
            f"that are equally frequent, with {self.decoys.decoys} decoys of which the server "
            f"knows no more than the law (public guess wrong of {self.decoys.guess_error:.1%})",
            "honest client, server that only looks: the light it sends is as agreed",
            held,
            "sets of input and decoys by Bayes' rule, all directions, kick and mismatch together, "
            "drawn by Gibbs' sampler",
            "layer 1 alone is read; gain, loss, noise, the clone's mismatch, the number of decoys "
            "and the public guess are known to the server, the client's key is not",
            "photon counting: each returned mode displaced to vacuum, single photons by mode and "
            "row, no background; photons taken as independent",
            "a success reached, not a bound: the cap is the bound",
        ]


def hidden_among(test: LabelledImages, count: int, decoys: int, seed: int) -> HiddenImages:
    """Return the first `count` images of a set with decoys from the rest of its first half.

    Halves of the shipped set have other writers, which would tell decoys from inputs.
    """
    half = len(test.labels) // 2
    checks.within("images", count, 1, half // 2, note=", with decoys")
    store = LabelledImages(test.images[count:half], test.labels[count:half])
    return HiddenImages(
        attacked=LabelledImages(test.images[:count], test.labels[:count]),
        decoys=Decoys(store, decoys, decoy_key_of_seed(seed)),
        taught=LabelledImages(store.images[0::2], store.labels[0::2]),
        others=LabelledImages(test.images[half:], test.labels[half:]),
    )


def _joined(one: LabelledImages, other: LabelledImages) -> LabelledImages:
    return LabelledImages(
        np.concatenate([one.images, other.images]), np.concatenate([one.labels, other.labels])
    )
