"""What a client learns from values of hidden neurons whose order it does not know.

One query reads one number of each of m neurons, y = (w . x) sqrt(F) + noise of unit variance, in an
different order. To add up queries the client has to find out which number is whose. A number with
signal-to-noise F tells (1/2) log2(1 + F) bit, a neuron's name has log2 m: below F of about m^2 a
single number does not tell the name, for any reader (Shannon's capacity against its length). Who
reads K quadratures of each row at once needs K times less information from each. But names are not
needed: doubtful ones, over many queries, do as well; that takes more queries, not infinitely many.

Two readers are measured. Repeats of one input are aligned by sorting, which is the assignment of
least squared distance in one dimension. Many inputs are aligned by expectation maximisation: the
probability of each slot to be each neuron's, doubly stochastic as all neurons come once, then least
squares. Signs are left to the second reader as a further hidden variable. Without knowing the
order there remain sums over neurons: the mean neuron (which signs take away), the Gram matrix
W^T W, and higher moments, which determine W up to the order: so the first estimates grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.protocols.disguise import Disguise

Doubles = npt.NDArray[np.float64]

# Steps of expectation maximisation, where it does not settle before.
_MOST_STEPS = 100
# Rows come out exact and columns nearly so: the next step starts from better shares.
_SINKHORN_STEPS = 5
# A thousandth of a weight's standard deviation.
_SETTLED = 1e-3
# Weights have unit variance, and so has the noise of a number.
_PRIOR = 1.0


@dataclass(frozen=True)
class Repeats:
    """Correlation with one input's values, in the slots of the first query, after some repeats.

    `plain`: nothing disguised, averaged. `sorted`: in disguise, aligned by sorting. `magnitudes`:
    in the same way where signs are hidden as well, with the magnitudes of the values.
    """

    queries: int
    plain: float
    sorted: float
    magnitudes: float


def repeat_input(
    values: Doubles, signal_to_noise: float, queries: tuple[int, ...], seed: int
) -> list[Repeats]:
    """Measure what repeats of one input tell of the neurons' `values` (m,), of unit variance.

    In the slots of the first query, because no other order is known to the client. Magnitudes are
    judged against the magnitudes of the truth.
    """
    _require_positive("queries", min(queries, default=0))
    generator = np.random.default_rng(seed)
    signal = math.sqrt(signal_to_noise) * values
    plain, ordered, sizes = (np.zeros(len(values)) for _ in range(3))
    ranks, size_ranks = (np.zeros(len(values), np.intp) for _ in range(2))
    found = []
    for query in range(1, max(queries) + 1):
        read = signal + generator.standard_normal(len(values))
        if query == 1:
            ranks, size_ranks = np.argsort(np.argsort(read)), np.argsort(np.argsort(np.abs(read)))
        plain += read
        ordered += np.sort(read)
        sizes += np.sort(np.abs(read))
        if query in queries:
            found.append(
                Repeats(
                    query,
                    _pearson(plain, values),
                    _pearson(ordered[ranks], values),
                    _pearson(sizes[size_ranks], np.abs(values)),
                )
            )
    return found


@dataclass(frozen=True)
class Realigned:
    """Outcome of many queries in all directions: correlation after the best assignment of neurons.

    `chance`: of neurons drawn from the same distribution, assigned as well: what no query tells.
    `named`: share of the slots whose neuron is the likeliest one.
    """

    queries: int
    correlation: float
    chance: float
    named: float


def realign(
    weights: Doubles,
    signal_to_noise: float,
    queries: int,
    disguise: Disguise,
    seed: int,
    *,
    start: Doubles | None = None,
) -> Realigned:
    """Measure the best estimate of `weights` (m, N) from `queries` random inputs in disguise.

    weights: of unit root mean square. start: what the client already holds of them (m, N), or None
    for random numbers. Starting from the truth shows what no better start can beat.
    """
    _require_positive("queries", queries)
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((queries, weights.shape[1]))
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    read, orders = _read(generator, weights, inputs, signal_to_noise, disguise)
    guess = generator.standard_normal(weights.shape) if start is None else start
    looks = inputs * math.sqrt(signal_to_noise)
    estimate, likely = _maximised(read, looks, guess, disguise)
    blind = generator.standard_normal(weights.shape)
    assigned, owners = assigned_correlation(estimate, weights, disguise.signs)
    return Realigned(
        queries=queries,
        correlation=assigned,
        chance=assigned_correlation(blind, weights, disguise.signs)[0],
        named=float(np.mean(owners[likely] == orders)),
    )


def assigned_correlation(
    estimate: Doubles, truth: Doubles, signs: bool = False
) -> tuple[float, npt.NDArray[np.intp]]:
    """Return the correlation after the assignment that makes it largest, and whose each row is.

    Hungarian algorithm on the rows' inner products; with `signs` on their magnitudes, each row
    turned to the side that fits.
    """
    from scipy.optimize import linear_sum_assignment

    overlaps = estimate @ truth.T
    rows, owners = linear_sum_assignment(np.abs(overlaps) if signs else overlaps, maximize=True)
    side = np.where(overlaps[rows, owners] < 0.0, -1.0, 1.0) if signs else np.ones(len(rows))
    found = _pearson((estimate * side[:, None]).ravel(), truth[owners].ravel())
    return found, np.asarray(owners, np.intp)


def _read(
    generator: np.random.Generator,
    weights: Doubles,
    inputs: Doubles,
    signal_to_noise: float,
    disguise: Disguise,
) -> tuple[Doubles, npt.NDArray[np.intp]]:
    """Return what is read (Q, m), slot by slot, and whose each slot is."""
    shape = (len(inputs), len(weights))
    orders = np.broadcast_to(np.arange(shape[1]), shape)
    if disguise.permute:
        orders = np.argsort(generator.random(shape), axis=1)
    values = math.sqrt(signal_to_noise) * inputs @ weights.T
    values = np.take_along_axis(values, orders, axis=1)
    if disguise.signs:
        values *= generator.choice([-1.0, 1.0], shape)
    return values + generator.standard_normal(shape), np.asarray(orders, np.intp)


def _maximised(
    read: Doubles, looks: Doubles, guess: Doubles, disguise: Disguise
) -> tuple[Doubles, npt.NDArray[np.intp]]:
    """Return the estimate (m, N) that expectation maximisation settles at, and likeliest owners."""
    precision = np.linalg.inv(looks.T @ looks + _PRIOR * np.eye(looks.shape[1]))
    shares = np.zeros((*read.shape, len(guess)))
    for _ in range(_MOST_STEPS):
        expected = looks @ guess.T
        shares, means = _expected(read, expected, disguise)
        better = (precision @ (looks.T @ means)).T
        moved = float(np.max(np.abs(better - guess)))
        guess = better
        if moved < _SETTLED:
            break
    return guess, np.asarray(np.argmax(shares, axis=2), np.intp)


def _expected(read: Doubles, expected: Doubles, disguise: Disguise) -> tuple[Doubles, Doubles]:
    """Return how likely each slot is each neuron's (Q, m, m), and neurons' mean values (Q, m)."""
    product = read[:, :, None] * expected[:, None, :]
    turned = np.tanh(product) if disguise.signs else np.ones(())
    if not disguise.permute:
        shares = np.broadcast_to(np.eye(read.shape[1]), product.shape)
        return shares, np.einsum("qij,qi->qj", shares * turned, read)
    log = -0.5 * expected[:, None, :] ** 2
    log = log + (np.logaddexp(product, -product) if disguise.signs else product)
    log -= log.max(axis=2, keepdims=True)
    shares = np.exp(log)
    for _ in range(_SINKHORN_STEPS):
        shares /= shares.sum(axis=1, keepdims=True) + 1e-300
        shares /= shares.sum(axis=2, keepdims=True) + 1e-300
    return shares, np.einsum("qij,qi->qj", shares * turned, read)


def _pearson(one: Doubles, other: Doubles) -> float:
    if float(np.std(one)) == 0.0 or float(np.std(other)) == 0.0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _require_positive(name: str, value: int) -> None:
    checks.at_least(name, value, 1)
