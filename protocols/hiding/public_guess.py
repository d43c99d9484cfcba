"""A guess of an input's class from public pictures alone: Gaussians per class.

The client has to keep its own class out of its decoys before the network names it, so it guesses
with what everybody may know. Quadratic discriminant analysis (Hastie, Tibshirani, Friedman, The
Elements of Statistical Learning, section 4.3) in the strongest principal components, each class'
covariance mixed with that of all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labctl.errors import DatasetError
from labctl.protocols.encoding import Floats, unit_norm

Labels = npt.NDArray[np.uint8]
Reals = npt.NDArray[np.float64]
# They hold 78 % of the variance of MNIST's pictures of unit norm.
_COMPONENTS = 40
# Enough for the strongest components; the Gaussians are learnt from all pictures.
_MOST_FOR_COMPONENTS = 2000
# Of all classes' covariance in each one's: classes of few pictures show no covariance.
_COMMON = 0.1
# A variance of four is known to 1/sqrt(6) = 41 %; `_COMMON` of all classes' makes up for it.
LEAST_OF_A_CLASS = 4
# Added variance, far below the 2.8e-3 of MNIST's 40th component: alike pictures have an inverse.
_FLOOR = 1e-6


class PublicGuess:
    """Learnt from pictures (T, N) of known label; raises DatasetError for too few of a class."""

    def __init__(self, images: Floats, labels: Labels) -> None:
        self.classes, members = np.unique(labels, return_inverse=True)
        counts = np.bincount(members)
        if len(counts) < 2 or counts.min() < LEAST_OF_A_CLASS:
            raise DatasetError(
                f"{len(counts)} classes, of {counts.min()} pictures at least: must be 2 classes or "
                f"more, of {LEAST_OF_A_CLASS} pictures or more, to guess by"
            )
        unit = unit_norm(images)
        some = unit[:: -(-len(unit) // _MOST_FOR_COMPONENTS)]
        self._mean = some.mean(axis=0)
        centred = some - self._mean
        _, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        self._axes = vectors[:, ::-1][:, :_COMPONENTS].astype(np.float32)
        self._models = _gaussians(self._seen(unit), members)

    def of(self, images: Floats) -> Labels:
        """Return the class (B,) guessed of each image (B, N), brightness aside."""
        guessed: Labels = self.classes[_named(self._seen(unit_norm(images)), self._models)]
        return guessed

    def _seen(self, unit: Floats) -> Reals:
        return np.asarray((unit - self._mean) @ self._axes, np.float64)


_Gaussian = tuple[Reals, Reals, float]


def _gaussians(seen: Reals, members: npt.NDArray[np.intp]) -> list[_Gaussian]:
    """Return each class' mean, root of the inverse covariance, and its log determinant."""
    common = np.cov(seen.T) + _FLOOR * np.eye(seen.shape[1])
    models = []
    for index in range(members.max() + 1):
        own = seen[members == index]
        covariance = (1.0 - _COMMON) * np.cov(own.T) + _COMMON * common
        root = np.linalg.inv(np.linalg.cholesky(covariance))
        models.append((own.mean(axis=0), root, 2.0 * float(np.sum(np.log(np.diag(root))))))
    return models


def _named(seen: Reals, models: list[_Gaussian]) -> npt.NDArray[np.intp]:
    """Return the most likely class' number (B,); all classes equally frequent."""
    scores = [bias - np.sum(((seen - mean) @ root.T) ** 2, axis=1) for mean, root, bias in models]
    return np.asarray(np.argmax(scores, axis=0), np.intp)
