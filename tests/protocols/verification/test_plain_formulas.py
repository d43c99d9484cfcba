"""The sums that the server keeps, against their plain formulas in double precision, at odd shapes.

What runs is arranged for speed: block by block, each power of the weights once, one product for
many sums. These tests write out what it means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from labctl.protocols.encoding import Floats
from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.server.varying_evidence import VaryingEvidence
from labctl.protocols.verification.collective import Placement, WeightSums
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.mode_gains import ModeGains, layer_moments

Doubles = npt.NDArray[np.float64]
QUERIES = 5
# One row, one mode, a block and one row more, two blocks and a rest; seed 3.
SHAPES = [(1, 7), (7, 1), (113, 5), (230, 33)]
# Single precision, in sums of up to 230 x 5 terms.
ROUNDED = 2e-5


def weights_of(rows: int, modes: int) -> Floats:
    return np.random.default_rng(3).normal(0.1, 2.0, (rows, 2 * modes)).astype(np.float32)


def query(random: np.random.Generator, light: LayerLight, turned: bool) -> ReturnedLight:
    """Light at 0.9 of its amplitude with unit noise; X or P by chance, or at any angle."""
    angle = random.uniform(0.0, 2.0 * math.pi, (light.rows, 1))
    if not turned:
        angle = np.where(random.random((light.rows, 1)) < 0.5, 0.0, 0.5 * math.pi)
    cosine, sine = (np.round(part, 6).astype(np.float32) for part in (np.cos(angle), np.sin(angle)))
    read = 0.9 * (cosine * light.x + sine * light.p) + random.normal(size=light.x.shape)
    return ReturnedLight(read.astype(np.float32), cosine, sine)


@dataclass
class Plain:
    """Sums written out: slots' light and readings, residuals put where their weights are."""

    rows: int
    modes: int
    slope: float | None = None
    sent: list[Doubles] = field(default_factory=list)
    read: list[Doubles] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weights = np.zeros((self.rows, 2 * self.modes))

    def add(self, light: LayerLight, returned: ReturnedLight, rows: npt.NDArray[np.intp]) -> None:
        cosine, sine = returned.cosine.astype(np.float64), returned.sine.astype(np.float64)
        sent = cosine * light.x.astype(np.float64) + sine * light.p
        read = returned.measured.astype(np.float64)
        if self.slope is None:
            self.slope = float(np.float32((sent * read).sum() / (sent**2).sum()))
        left = read - self.slope * sent
        self.weights[rows, 0::2] += cosine * left
        self.weights[rows, 1::2] += sine * left
        self.sent.append(sent)
        self.read.append(read)

    def groups(self, axis: int) -> tuple[Doubles, Doubles, Doubles]:
        """Sums of sent^2, sent times read, and what a slope of its own leaves, of each group."""
        sent, read = np.array(self.sent), np.array(self.read)
        square, cross, received = (
            part.sum(axis=(0, axis)) for part in (sent**2, sent * read, read**2)
        )
        return square, cross, received - cross**2 / square


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("turned", [False, True], ids=["X or P", "any angle"])
@pytest.mark.parametrize("moved", [False, True], ids=["one order", "fresh orders"])
def test_sums_of_rows_modes_and_weights(shape: tuple[int, int], turned: bool, moved: bool) -> None:
    rows, modes = shape
    weights, random = weights_of(rows, modes), np.random.default_rng(rows)
    first = LayerLight(0, weights)
    varying = VaryingEvidence(first, weights, 1)
    found = varying if moved else LayerEvidence(first)
    plain = Plain(rows, modes)
    columns, ones = np.arange(2 * modes), np.ones(2 * modes, np.float32)
    for _ in range(QUERIES):
        order = random.permutation(rows) if moved else np.arange(rows)
        light = LayerLight(0, weights[order]) if moved else first
        returned = query(random, light, turned)
        if moved:
            placed = Placement(order, np.ones(rows, np.float32), columns, ones)
            varying.add_query(light, placed, returned)
        else:
            found.add(returned)
        plain.add(light, returned, order)
    for sums, axis in ((found.row_sums(), 2), (found.mode_sums(), 1)):
        square, cross, left = plain.groups(axis)
        scale = float(np.abs(plain.read).max()) ** 2 * QUERIES * max(shape)
        np.testing.assert_allclose(sums.sent, square, rtol=ROUNDED)
        np.testing.assert_allclose(sums.cross, cross, atol=ROUNDED * scale)
        np.testing.assert_allclose(sums.residual, left, atol=ROUNDED * scale)
    largest = float(np.abs(plain.weights).max())
    np.testing.assert_allclose(found.weight_sums().sums, plain.weights, atol=ROUNDED * largest)


def read_once(rows: int, modes: int, turned: bool) -> tuple[WeightSums, Floats]:
    """Sums of white noise in six queries, with their shares, and the weights."""
    random, weights = np.random.default_rng(17), weights_of(rows, modes)
    sums, shares = np.zeros((rows, 2 * modes)), np.zeros((3, rows))
    for _ in range(6):
        angle = random.uniform(0.0, 2.0 * math.pi, rows)
        if not turned:
            angle = np.where(random.random(rows) < 0.5, 0.0, 0.5 * math.pi)
        cosine, sine = np.round(np.cos(angle), 12), np.round(np.sin(angle), 12)
        left = random.normal(size=(rows, modes))
        sums[:, 0::2] += cosine[:, None] * left
        sums[:, 1::2] += sine[:, None] * left
        shares += np.stack([cosine**2, cosine * sine, sine**2])
    return WeightSums(sums.astype(np.float32), shares), weights


def powers(x: Doubles, p: Doubles) -> list[Doubles]:
    """The ten terms of a bench's distortion on one quadrature."""
    return [x**a * p**b for degree in range(4) for b in range(degree + 1) for a in [degree - b]]


class Model:
    """Gain and turn of each row, and terms on X and P, as columns over all sums by weight.

    The sums of a mode have the mean W times a column, and W as their covariance, W = [[xx, xp],
    [xp, pp]] of its row: columns and sums are multiplied by roots of it, so that noise is white.
    """

    def __init__(self, sums: WeightSums, weights: Floats) -> None:
        unit = weights / np.float32(np.sqrt(np.mean(np.square(weights, dtype=np.float64))))
        x, p = unit[:, 0::2].astype(np.float64), unit[:, 1::2].astype(np.float64)
        self.rows, self.modes = x.shape
        xx, xp, pp = sums.shares
        whole = np.stack([np.stack([xx, xp]), np.stack([xp, pp])]).transpose(2, 0, 1)
        values, vectors = np.linalg.eigh(whole)
        root = np.sqrt(np.maximum(values, 0.0))
        back = np.divide(1.0, root, out=np.zeros_like(root), where=root > 1e-6)
        self._roots = root[:, :, None] * vectors.transpose(0, 2, 1)
        self._backs = back[:, :, None] * vectors.transpose(0, 2, 1)
        read = np.stack([sums.sums[:, 0::2], sums.sums[:, 1::2]], axis=1).astype(np.float64)
        self.sums = (self._backs @ read).ravel()
        zero = np.zeros_like(x)
        terms = [(t, zero) for t in powers(x, p)] + [(zero, t) for t in powers(x, p)]
        self.terms = np.stack([self.whitened(*each) for each in terms], axis=1)
        own = np.eye(self.rows)[:, :, None]
        by_row = [(x * one, p * one) for one in own] + [(p * one, -x * one) for one in own]
        self.by_row = np.stack([self.whitened(*each) for each in by_row], axis=1)
        here = np.eye(self.modes)[:, None, :]
        self.by_mode = np.stack([self.whitened(x * one, p * one) for one in here], axis=1)

    def whitened(self, on_x: Doubles, on_p: Doubles) -> Doubles:
        return np.asarray(self._roots @ np.stack([on_x, on_p], axis=1)).ravel()


@pytest.mark.parametrize("turned", [False, True], ids=["X or P", "any angle"])
@pytest.mark.parametrize(("rows", "modes"), [(29, 11), (57, 7)])
def test_the_power_is_what_least_squares_over_all_weights_leaves(
    rows: int, modes: int, turned: bool
) -> None:
    sums, weights = read_once(rows, modes, turned)
    model = Model(sums, weights)
    columns = np.concatenate([model.by_row, model.terms], axis=1)
    fitted, _, rank, _ = np.linalg.lstsq(columns, model.sums, rcond=1e-9)
    left = model.sums - columns @ fitted
    found = sums.power(weights)
    assert found.value == pytest.approx(float(left @ left), rel=1e-9)
    weight_count = int(np.count_nonzero(np.abs(model.sums) > 0.0))
    assert (found.read, found.degrees) == (weight_count, weight_count - rank)


@pytest.mark.parametrize("turned", [False, True], ids=["X or P", "any angle"])
@pytest.mark.parametrize(("rows", "modes"), [(29, 11), (57, 7)])
def test_sums_of_modes_are_those_without_gain_and_turn_of_rows(
    rows: int, modes: int, turned: bool
) -> None:
    sums, weights = read_once(rows, modes, turned)
    model = Model(sums, weights)
    moments, of_modes = layer_moments(sums, weights)
    found = ModeGains.of(of_modes, weights, moments)
    basis, strengths, _ = np.linalg.svd(model.by_row, full_matrices=False)
    basis = basis[:, strengths > 1e-9 * strengths[0]]
    taken = basis.T @ model.by_mode
    # A mode's sum over its rows is the product with its column; rows take their projection of it.
    alone = model.by_mode - basis @ taken
    close = 1e-9 * float(np.abs(found.terms).max())
    np.testing.assert_allclose(found.along, alone.T @ model.sums, rtol=1e-9, atol=close)
    np.testing.assert_allclose(found.sent, (model.by_mode**2).sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.terms, alone.T @ model.terms, rtol=1e-9, atol=close)
    np.testing.assert_allclose(found.taken.T @ found.taken, taken.T @ taken, rtol=1e-9, atol=close)
