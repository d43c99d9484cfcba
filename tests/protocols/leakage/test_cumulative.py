"""Leakage of many queries of the same weights: known answers, and a memory that holds them all."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from labctl.errors import SettingError
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.leakage.cumulative import (
    AssumedChannel,
    Cumulative,
    Likely,
    changing_weights_bits,
    cumulative,
    everything_bits,
    history_eigenvalues,
    queries_for,
    unseen,
)
from labctl.protocols.receiver import added_noise

Doubles = npt.NDArray[np.float64]
WORST = Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED)
WHITE = AssumedChannel(1.0, 0.0, WORST, prior_free=False)
FREE = AssumedChannel(1.0, 0.0, WORST)
NOISE = added_noise(1.3) / 392.0
# 6.467 standard errors, 5e-11, of 614,656 sums and of 1e8 samples of the calibration.
UPPER = NOISE + 6.467 * math.sqrt(2.0 / 614_656 + 2.0 / 1e8)


@pytest.mark.parametrize(
    ("queries", "additive", "memory", "collective", "upper"),
    [
        (10, 0.0392, 0.1957, 0.0311, 0.209),
        (100, 0.3917, 2.1928, 0.2061, 0.958),
        (255, 0.9988, 3.353, 0.4061, 1.485),
        (1000, 3.917, 4.883, 0.9341, 2.384),
        (6000, 23.50, 6.498, 2.0009, 3.649),
    ],
)
def test_known_answers_of_independent_weights(
    queries: int, additive: float, memory: float, collective: float, upper: float
) -> None:
    found = cumulative(
        WHITE,
        queries=queries,
        mean_photons=0.57,
        excess_noise=NOISE,
        collective_noise=NOISE,
        collective_noise_upper=UPPER,
    )
    assert found.additive == pytest.approx(additive, rel=2e-3)
    assert found.memory_unchecked == pytest.approx(memory, rel=2e-3)
    assert found.collective == pytest.approx(collective, rel=2e-3)
    assert found.collective_upper == pytest.approx(upper, rel=2e-3)
    assert (found.headline, found.bits) == ("collective_upper", found.collective_upper)


@pytest.mark.parametrize(
    ("photons", "gain", "expected"),
    [(0.57, 1.3, (255, 36, 1140, 109)), (4.0, 2.0, (23, 9, 75, 14))],
)
def test_known_numbers_of_queries_for_one_bit(
    photons: float, gain: float, expected: tuple[int, ...]
) -> None:
    """As tabled, to the one query by which roundings differ."""
    noise = added_noise(gain) / 392.0
    upper = noise + UPPER - NOISE
    laws: tuple[Callable[[int], float], ...] = (
        lambda r: r * WHITE.bits(photons, noise),
        lambda r: WHITE.bits(r * photons, r * noise),
        lambda r: WHITE.bits(r * photons, noise),
        lambda r: WHITE.bits(r * photons, upper),
    )
    for law, queries in zip(laws, expected, strict=True):
        found = queries_for(1.0, [law(r) for r in range(1, queries + 3)])
        assert found is not None
        assert abs(found - queries) <= 1


def test_the_worst_prior_is_never_below_independent_weights() -> None:
    for light, noise in ((0.57, NOISE), (57.0, NOISE), (570.0, UPPER), (40.0, 0.1)):
        assert FREE.bits(light, noise) >= WHITE.bits(light, noise) * (1.0 - 1e-6)
        assert FREE.bits(light, noise) <= everything_bits(light)


def test_light_that_nobody_looked_at_is_loss() -> None:
    assert WHITE.bits(0.0, math.inf, unseen=5.0) == everything_bits(5.0)
    lossy = AssumedChannel(0.7, 0.0, WORST, prior_free=False)
    assert WHITE.bits(7.0, NOISE, unseen=3.0) == pytest.approx(lossy.bits(10.0, NOISE))
    steps = [WHITE.bits(7.0, NOISE, unseen=kept) for kept in (0.0, 1.0, 3.0, 10.0)]
    assert steps == sorted(steps)
    assert unseen(4, 0.57).bits == everything_bits(4 * 0.57)


def test_loss_that_is_trusted_does_not_make_unseen_light_trusted() -> None:
    trusting = AssumedChannel(
        0.5, 0.0, Assumptions(Trust.TRUSTED, Trust.UNTRUSTED), prior_free=False
    )
    seen_all = trusting.bits(10.0, NOISE)
    assert trusting.bits(5.0, NOISE, unseen=5.0) > 10.0 * seen_all


@pytest.mark.parametrize("light", [(0.0, 0.0), (-1.0, 2.0), (math.nan, 1.0)])
def test_no_light_is_refused(light: tuple[float, float]) -> None:
    with pytest.raises(SettingError, match="photons"):
        WHITE.bits(light[0], NOISE, unseen=light[1])


# Weights that change.


def test_constant_weights_have_one_history_and_independent_ones_as_many_as_steps() -> None:
    random = np.random.default_rng(1)
    weights = random.normal(size=(1, 50_000))
    constant = history_eigenvalues(np.repeat(weights, 4, axis=0))
    assert constant == pytest.approx([4.0, 0.0, 0.0, 0.0], abs=1e-9)
    fresh = history_eigenvalues(random.normal(size=(4, 50_000)))
    # 50,000 weights: correlations of 0.4 %, seed 1.
    assert fresh == pytest.approx([1.0] * 4, abs=0.02)

    def bits(eigenvalues: Doubles) -> float:
        return changing_weights_bits(
            WHITE, eigenvalues, queries_per_step=8, mean_photons=0.57, collective_noise=NOISE
        )

    together = bits(constant)
    assert together == pytest.approx(WHITE.bits(32 * 0.57, NOISE), rel=1e-9)
    apart = bits(np.ones(4))
    assert apart == pytest.approx(4.0 * WHITE.bits(8 * 0.57, NOISE), rel=1e-9)
    slowly = np.array([3.2, 0.5, 0.2, 0.1])
    assert together < bits(slowly) < apart
    with pytest.raises(SettingError, match="history"):
        history_eigenvalues(np.zeros((2, 5)))


# Symplectic oracle: covariance matrices in the order x1, p1, x2, p2, ..., vacuum 1.


def entropy_bits(covariance: Doubles) -> float:
    size = len(covariance) // 2
    form = np.kron(np.eye(size), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    values = np.abs(np.linalg.eigvals(1j * form @ covariance))
    total = 0.0
    for value in np.sort(values)[::2]:
        n = max((float(value) - 1.0) / 2.0, 0.0)
        total += (n + 1) * math.log2(n + 1) - (n * math.log2(n) if n > 0.0 else 0.0)
    return total


def memory_attack(queries: int, photons: float, strength: float) -> tuple[float, float]:
    """Return a client's bits per weight with two ancillas per query, and the noise it makes.

    Per query one ancilla reads X (kicks P), one reads P (kicks X), QND of gain `strength`^0.5 each.
    All ancillas are kept to the end. The noise is that of the collective mode at the server.
    """
    modes, gain = 3 * queries, math.sqrt(strength)
    symplectic = np.eye(2 * modes)
    for query in range(queries):
        signal, first, second = (2 * (part * queries + query) for part in range(3))
        step = np.eye(2 * modes)
        step[first, signal] = gain
        step[signal + 1, first + 1] = -gain
        other = np.eye(2 * modes)
        other[second + 1, signal + 1] = gain
        other[signal, second] = gain
        symplectic = other @ step @ symplectic
    noise = symplectic @ symplectic.T
    spread = np.zeros((2 * modes, 2))
    for query in range(queries):
        spread[2 * query, 0] = spread[2 * query + 1, 1] = math.sqrt(2.0 * photons)
    carried = symplectic @ spread
    whole = noise + carried @ carried.T
    kept = slice(2 * queries, None)
    bits = entropy_bits(whole[kept, kept]) - entropy_bits(noise[kept, kept])
    mode = np.zeros(2 * modes)
    mode[0 : 2 * queries : 2] = 1.0 / math.sqrt(queries)
    return bits / 2.0, float(mode @ noise @ mode) - 1.0


@pytest.mark.parametrize("queries", [1, 2, 5])
def test_queries_of_one_weight_are_one_mode_of_all_their_light(queries: int) -> None:
    spread = np.tile(np.eye(2), (queries, 1)) * math.sqrt(2.0 * 0.57)
    whole = np.eye(2 * queries) + spread @ spread.T
    assert entropy_bits(whole) / 2.0 == pytest.approx(everything_bits(queries * 0.57), rel=1e-9)


@pytest.mark.parametrize("queries", [2, 6, 20])
@pytest.mark.parametrize("photons", [0.57, 4.0])
def test_a_memory_learns_less_than_the_bound_at_its_collective_noise_and_more_than_the_sum(
    queries: int, photons: float
) -> None:
    learned, noise = memory_attack(queries, photons, 0.0012)
    single, alone = memory_attack(1, photons, 0.0012)
    assert learned <= WHITE.bits(queries * photons, noise) * (1.0 + 1e-9)
    assert alone == pytest.approx(0.0012, rel=0.01)
    # Each query's ancilla is fresh: its kicks do not repeat, so the sum of honest bounds holds.
    assert learned <= queries * WHITE.bits(photons, alone)
    assert single <= WHITE.bits(photons, alone)


def test_one_ancilla_for_all_queries_beats_the_sum_and_shows_in_the_collective_noise() -> None:
    """One QND coupling to the same ancilla in every query is one of R times the gain."""
    queries, photons, each = 100, 0.57, NOISE
    learned, noise = memory_attack(1, queries * photons, queries * each)
    assert noise == pytest.approx(queries * each, rel=0.2)
    assert learned > 4.0 * queries * WHITE.bits(photons, each)
    assert learned <= WHITE.bits(queries * photons, noise)
    # Half of the queries are read: the sums show half of that noise, too little for a bound.
    assert learned > WHITE.bits(queries * photons, (noise + each) / 2.0)


UNTRUSTED = Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED)


def held_to(transmittance: float, light: float, noise: float) -> Cumulative:
    """100 queries of 8.91 photons of which 0.8526 came back with 0.0021 SNU, at these bounds."""
    found = AssumedChannel(0.8526, 0.0, UNTRUSTED)
    return cumulative(
        found,
        queries=100,
        mean_photons=8.91,
        excess_noise=noise,
        collective_noise=0.0021,
        collective_noise_upper=noise,
        confident=AssumedChannel(transmittance, 0.0, UNTRUSTED),
        mean_photons_upper=light,
        likely=Likely(found),
    )


@pytest.mark.parametrize(
    ("bounds", "ruling"),
    [
        ((0.4, 8.92, 0.0022), "transmittance"),
        ((0.85, 12.0, 0.0022), "mean_photons"),
        ((0.85, 8.92, 0.1), "collective_noise"),
    ],
)
def test_slack_names_the_bound_that_costs_most(
    bounds: tuple[float, float, float], ruling: str
) -> None:
    found = held_to(*bounds)
    assert found.slack is not None
    assert found.collective_upper is not None
    assert found.slack.ruled_by == ruling
    assert found.slack.estimate == pytest.approx(found.collective)
    alone = found.slack.as_json()[ruling]
    assert isinstance(alone, float)
    assert found.slack.estimate < alone <= found.collective_upper + 1e-12


def test_slack_says_where_the_evidence_lowers_nothing() -> None:
    doubtful, good = held_to(0.383, 11.87, 0.101), held_to(0.85, 8.92, 0.0022)
    for found, saturated in ((doubtful, True), (good, False)):
        assert found.slack is not None
        assert found.collective_upper is not None
        said = found.slack.in_words(found.collective_upper)
        assert said.endswith("does not lower this bound") is saturated
        assert (found.collective_upper == pytest.approx(found.slack.everything)) is saturated
