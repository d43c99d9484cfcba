"""What an attacker can say about the weights from linear, noisy looks at the light that was sent.

Every look is y = A (q . d) + noise, with q the interleaved quadratures of a row, d a direction and
A and the noise's variance known to the attacker. With weights of unit variance and no other prior
knowledge the best linear estimate w solves (1 + sum h h^T/s) w = sum h y/s, h = sqrt(2 mu) A d;
looks of any number of queries simply add up. Rows looked at alike share one matrix; otherwise each
has its own, never written down, and conjugate gradients solve them side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.leakage.network import rows_alike
from labctl.protocols.link import LayerLight
from labctl.studies.attacks.attack import Learned

Complex = npt.NDArray[np.complex64]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

# Conjugate gradients end by the relative tolerance; the number of steps only guards against none.
_MOST_STEPS = 500
_TOLERANCE = 1e-4
# Above that share few modes are missing, and taking those away is less work than masking all.
_MOST_KEPT = 0.75
# Relative to the largest second moment: below is rounding, as of pixels that never change.
_LEAST_VALUE = 1e-12
# Rows differ only by what was drawn for each, and each costs a determinant.
_ROWS_SAMPLED = 16


class LayerEstimate:
    """All looks at one layer's light, pooled; `mean_photons` is mu per mode."""

    def __init__(self, light: LayerLight, mean_photons: float) -> None:
        rows, quadratures = light.quadratures.shape
        self._scale = math.sqrt(2.0 * mean_photons)
        self._single: Doubles = np.zeros((1, quadratures))
        self._joint: Doubles | None = None
        self._parts: list[tuple[Floats, npt.NDArray[np.uint8]]] = []
        self._seen: Doubles = np.zeros((rows, quadratures))

    def look_at_modes(
        self, outcomes: Complex, chosen: Mask | None, amplitude: float, noise: float
    ) -> None:
        """Add X and P of all modes, or of those `chosen`, read as `outcomes`; both (rows, n).

        `noise`: variance of each quadrature in SNU, vacuum included.
        """
        slope = self._scale * amplitude
        values = outcomes.view(np.float32)
        if chosen is None:
            self._single = self._single + slope**2 / noise
            self._seen += values * np.float32(slope / noise)
            return
        looked = np.repeat(chosen, 2, axis=1)
        self._single = self._single + looked * (slope**2 / noise)
        self._seen += values * looked * np.float32(slope / noise)

    def look_along(
        self,
        directions: Floats,
        values: Floats,
        amplitude: float,
        noise: float,
        kept: Mask | None = None,
    ) -> None:
        """Add `values` (rows, K) read along `directions` (K, 2n).

        `kept`: the modes of each row that came that far (rows, n), or None for all.
        """
        slope = self._scale * amplitude
        back = (values @ directions) * np.float32(slope / noise)
        if kept is not None:
            self._parts.append(
                (directions * np.float32(slope / math.sqrt(noise)), np.packbits(kept, axis=1))
            )
            self._seen += back * np.repeat(kept, 2, axis=1)
            return
        if self._joint is None:
            self._joint = np.zeros((self._seen.shape[1], self._seen.shape[1]))
        self._joint += (directions.T @ directions) * np.float32(slope**2 / noise)
        self._seen += back

    def best(self) -> Doubles:
        """Return the best linear estimate (rows, 2n) of the unit-RMS weights."""
        if self._joint is None and not self._parts:
            estimate: Doubles = self._seen / (1.0 + self._single)
            return estimate
        if self._joint is None or self._parts or len(self._single) > 1:
            return self._solved_by_row()
        precision = self._joint + np.diag(1.0 + self._single[0])
        return np.asarray(np.linalg.solve(precision, self._seen.T).T)

    def precisions(self, rows: Sequence[int]) -> Iterator[Doubles]:
        """Yield what the looks add to the precision matrix (2n, 2n) of each of these rows."""
        modes = self._seen.shape[1] // 2
        for row in rows:
            found = np.diag(self._single[row if len(self._single) > 1 else 0])
            if self._joint is not None:
                found += self._joint
            for directions, packed in self._parts:
                kept = np.unpackbits(packed[row], count=modes).view(np.bool_)
                seen = directions * np.repeat(kept, 2)
                found += seen.T @ seen
            yield found

    @property
    def rows_differ(self) -> bool:
        """Whether rows were looked at differently."""
        return bool(self._parts) or len(self._single) > 1

    def _solved_by_row(self) -> Doubles:
        """Return the estimate by conjugate gradients, preconditioned by single modes' precision."""
        scale = 1.0 + self._single
        if self._joint is not None:
            scale = scale + np.diag(self._joint)
        found: Doubles = np.zeros_like(self._seen)
        rest = self._seen.copy()
        better = rest / scale
        step, power = better, _by_row(rest, better)
        target = _TOLERANCE**2 * power
        for _ in range(_MOST_STEPS):
            if (power <= target).all():
                break
            applied = self._applied(step)
            bend = _by_row(step, applied)
            length = np.divide(power, bend, out=np.zeros_like(power), where=bend > 0.0)
            found += length * step
            rest -= length * applied
            better = rest / scale
            now = _by_row(rest, better)
            step = better + np.divide(now, power, out=np.zeros_like(now), where=power > 0.0) * step
            power = now
        return found

    def _applied(self, estimate: Doubles) -> Doubles:
        """Return each row's precision matrix times its estimate."""
        applied = estimate * (1.0 + self._single)
        if self._joint is not None:
            applied += estimate @ self._joint
        modes, given = estimate.shape[1] // 2, estimate.astype(np.float32)
        back = np.zeros_like(given)
        for directions, packed in self._parts:
            kept = np.unpackbits(packed, axis=1, count=modes).view(np.bool_)
            if np.count_nonzero(kept) < _MOST_KEPT * kept.size:
                wide = np.repeat(kept, 2, axis=1)
                back += ((given * wide) @ directions.T) @ directions * wide
            else:
                _add_less_missing(back, given, directions, *np.nonzero(~kept))
        return applied + back


def _add_less_missing(
    back: Floats, given: Floats, directions: Floats, rows: Indices, modes: Indices
) -> None:
    """Add to `back` the product of `directions` and `given`, these modes of these rows left out."""
    missing = np.moveaxis(directions.reshape(len(directions), -1, 2)[:, modes], 0, 2)
    values = given @ directions.T
    lacking = np.einsum("im,imk->ik", given.reshape(len(given), -1, 2)[rows, modes], missing)
    for column, part in enumerate(lacking.T):
        values[:, column] -= np.bincount(rows, part, len(values))
    back += values @ directions
    back.reshape(len(back), -1, 2)[rows, modes] -= np.einsum("imk,ik->im", missing, values[rows])


def _by_row(one: Doubles, other: Doubles) -> Doubles:
    return np.asarray(np.einsum("ij,ij->i", one, other)[:, None])


class Notebook:
    """An attacker's looks at all layers over all queries of a session."""

    def __init__(self, mean_photons: float) -> None:
        self._mean_photons = mean_photons
        self._layers: dict[int, LayerEstimate] = {}

    def layer(self, light: LayerLight) -> LayerEstimate:
        """Return the page for a layer."""
        if light.layer not in self._layers:
            self._layers[light.layer] = LayerEstimate(light, self._mean_photons)
        return self._layers[light.layer]

    def estimates(self, network: Network) -> tuple[Floats, ...]:
        """Return the best estimate of each layer as sent (unit RMS), 0 where nothing was seen."""
        return tuple(
            np.zeros(weights.shape, np.float32)
            if index not in self._layers
            else self._layers[index].best()[:, : weights.shape[1]].astype(np.float32)
            for index, weights in enumerate(carried(network).network.layers)
        )

    def learned(self, network: Network) -> Learned:
        """Score the estimates over all weights that are sent; 0 is what is said of one not seen.

        The correlation is 0 where nothing was estimated at all.
        """
        sent = carried(network).network
        truth = [unit_rms(weights).astype(np.float64).ravel() for weights in sent.layers]
        estimate = [layer.astype(np.float64).ravel() for layer in self.estimates(network)]
        size = network_size(network)
        bits = math.fsum(
            layer_bits(weights, self._layers[index])
            for index, weights in enumerate(sent.layers)
            if index in self._layers
        )
        return Learned(
            size,
            pearson(np.concatenate(truth), estimate),
            weights_bits_network=bits / size,
        )


def layer_bits(weights: Floats, page: LayerEstimate) -> float:
    """Return the mutual information of a layer's weights with the looks at it, in bits.

    Prior: that of this network's bound (`rows_alike`). Rows are independent of each other and
    Gaussian, with the covariance C of this very layer's rows times the brightness b of each, which
    is known: log2 det(1 + b C H)/2 per row, H what the looks add to the precision (Cover and
    Thomas, Elements of Information Theory, section 9.4). Where rows were looked at differently,
    the looks at 16 rows, evenly spaced, represent those at a row of any brightness.
    """
    brightness, alike = rows_alike(weights)
    # A row of odd length ends in half a mode, whose P is dark.
    alike = np.pad(alike, [(0, 0), (0, alike.shape[1] % 2)])
    values, vectors = np.linalg.eigh(alike.T @ alike / len(alike))
    resolved = values > _LEAST_VALUE * values[-1]
    root = vectors[:, resolved] * np.sqrt(values[resolved])
    rows: Sequence[int] = range(1)
    if page.rows_differ:
        rows = sorted(set(np.linspace(0, len(weights) - 1, _ROWS_SAMPLED).astype(int).tolist()))
    found = [
        bits_of_rows(brightness, np.linalg.eigvalsh(root.T @ precision @ root))
        for precision in page.precisions(rows)
    ]
    return math.fsum(found) / len(found)


def bits_of_rows(brightness: Doubles, ratios: Doubles) -> float:
    """Return the bits that rows of this brightness tell, looked at alike.

    `ratios`: signal over noise along each direction of a row of brightness 1.
    """
    told = np.log1p(np.outer(brightness, np.maximum(ratios, 0.0)))
    return float(told.sum()) / (2.0 * math.log(2.0))


def network_size(network: Network) -> int:
    """Return the number of weights of a network that are sent."""
    return sum(weights.size for weights in carried(network).network.layers)


def pearson(truth: Doubles, estimates: list[Doubles]) -> float:
    """Return the correlation of estimates, end to end, with the truth; 0 where either is flat."""
    estimate = np.concatenate(estimates)
    spread = float(np.std(truth)) * float(np.std(estimate))
    if spread == 0.0:
        return 0.0
    covariance = float(np.mean((truth - truth.mean()) * (estimate - estimate.mean())))
    return min(max(covariance / spread, -1.0), 1.0)
