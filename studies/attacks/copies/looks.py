"""What linear, noisy looks say of a layer's weights, given what weights of the task look like.

A look is y = A (w . d) + noise, with w a row in units of the layer's root mean square, d a
direction and A and the noise's variance known. Rows are Gaussian a priori, along the principal
directions of what feeds the layer, with the mean squares of that as variances: trained rows lie
along their inputs. Each row's own scale is unknown: it is averaged over a grid of scales, weighed
by how well they explain the row. With a flat prior this is ridge regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labctl.studies.attacks.copies.neighbours import Doubles

# Row scales from a thirtieth of the layer's to five times it: trained layers have dead rows.
_SCALES = np.geomspace(0.03, 5.0, 14)


@dataclass(frozen=True, eq=False)
class RowPrior:
    """Directions (N, K) that weights may have, with the variance (K,) of a unit-RMS row's part."""

    directions: Doubles
    variances: Doubles

    @classmethod
    def along(cls, directions: Doubles, mean_squares: Doubles, total: float) -> RowPrior:
        """Return the prior along principal directions (columns) of inputs, the strongest first.

        `total`: the mean squares of all directions, these and others. A row's variances add up to
        the number of inputs over all of them, as unit RMS has it.
        """
        kept = int(np.count_nonzero(mean_squares > 1e-9 * mean_squares[0]))
        return cls(directions[:, :kept], mean_squares[:kept] * (len(directions) / total))

    def first(self, most: int) -> RowPrior:
        """Return the prior of the strongest directions alone."""
        return RowPrior(self.directions[:, :most], self.variances[:most])

    @classmethod
    def flat(cls, inputs: int) -> RowPrior:
        """Return unit variance in every direction: nothing known but the scale."""
        return cls(np.eye(inputs), np.ones(inputs))


class Looks:
    """All looks at one layer's rows, added up; any order of adding gives the same."""

    def __init__(self, rows: int, inputs: int) -> None:
        self.precision: Doubles = np.zeros((inputs, inputs))
        self.seen: Doubles = np.zeros((rows, inputs))

    def add(self, directions: Doubles, values: Doubles, amplitude: float, noise: Doubles) -> None:
        """Add values (rows, K) along directions (K, N), of noise variances (K,) in SNU."""
        weighed = directions * (amplitude / noise)[:, None]
        self.precision += amplitude * (directions.T @ weighed)
        self.seen += values @ weighed

    def estimate(self, prior: RowPrior, *, scaled: bool = True) -> Doubles:
        """Return the posterior mean (rows, N); `scaled`: each row has its own scale."""
        root = prior.directions * np.sqrt(prior.variances)
        inner = root.T @ self.precision @ root
        sharpness, axes = np.linalg.eigh((inner + inner.T) / 2.0)
        sharpness = np.maximum(sharpness, 0.0)
        along = self.seen @ (root @ axes)
        scales = _SCALES if scaled else np.ones(1)
        return np.asarray(_scale_average(along, sharpness, scales) @ (root @ axes).T)


def _scale_average(along: Doubles, sharpness: Doubles, scales: Doubles) -> Doubles:
    """Return posterior means (rows, K), averaged over each row's unknown scale.

    With prior variance s^2 in each coordinate the mean is a/(h + 1/s^2), and the evidence of the
    row exp(sum of a^2 s^2/(1 + s^2 h)/2 - log(1 + s^2 h)/2).
    """
    squares, logs = along**2, np.empty((len(scales), len(along)))
    for place, scale in enumerate(scales):
        gain = scale**2 / (1.0 + scale**2 * sharpness)
        logs[place] = 0.5 * (squares @ gain) - 0.5 * np.sum(np.log1p(scale**2 * sharpness))
    weights = np.exp(logs - logs.max(axis=0))
    weights /= weights.sum(axis=0)
    gains = scales[:, None] ** 2 / (1.0 + scales[:, None] ** 2 * sharpness)
    return np.asarray(along * (weights.T @ gains))
