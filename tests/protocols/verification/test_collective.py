"""Residuals of single weights summed over queries: what honest light and a memory make of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from sessions import network

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.disguise import Disguise
from labctl.protocols.encoding import Floats
from labctl.protocols.link import Exchange, LayerLight, ReturnedLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.session import Session
from labctl.protocols.verification.collective import PlacedSums, Placement, WeightSums
from labctl.protocols.verification.collective_noise import collective_noise, whole_mode
from labctl.protocols.verification.collective_record import collective_sums, record_of
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.read_shares import ReadShares
from labctl.protocols.verification.row_moments import RowMoments
from labctl.protocols.verification.verdict import VerificationReport
from labctl.studies.attacks.false_alarms import HONEST

Doubles = npt.NDArray[np.float64]
SETTINGS = replace(HONEST, verification=replace(HONEST.verification, calibration_samples=10**8))


class Disturbed(ModeLink):
    """A client that disturbs slot or weight of every query by an amount that it chooses.

    `kick(light)` returns what it adds to X and P, (2, rows, modes), in receiver units.
    """

    kick: Callable[[LayerLight], npt.NDArray[np.float64]]

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        exchange = super().exchange(light, coefficients)

        def disturbed() -> Iterator[ReturnedLight]:
            for returned in exchange.returned:
                kicks = self.kick(light)
                added = returned.cosine * kicks[0] + returned.sine * kicks[1]
                yield replace(returned, measured=returned.measured + added.astype(np.float32))

        return Exchange(exchange.measured, disturbed(), exchange.arriving)


def verdict_of(
    link: ModeLink, net: Network, images: int, disguise: Disguise | None = None
) -> VerificationReport:
    settings = (
        SETTINGS
        if disguise is None
        else replace(SETTINGS, light=replace(SETTINGS.light, disguise=disguise))
    )
    session = Session(net, settings, link)
    data = np.random.default_rng(7).random((images, net.sizes[0])).astype(np.float32)
    for _ in session.run(data):
        pass
    return session.verdict()


def fixed_kicks(net: Network, variance: float, seed: int = 11) -> dict[int, Doubles]:
    random = np.random.default_rng(seed)
    return {
        layer: math.sqrt(variance) * random.normal(size=(2, len(w), (w.shape[1] + 1) // 2))
        for layer, w in enumerate(net.layers)
    }


# Sums.


@pytest.mark.parametrize("angles", ["X or P", "X alone", "any"])
def test_white_noise_leaves_each_degree_of_freedom_its_own_variance(angles: str) -> None:
    random = np.random.default_rng(2)
    rows, modes, variance = 60, 40, 1.7
    light = LayerLight(0, random.normal(size=(rows, 2 * modes)).astype(np.float32))
    evidence = LayerEvidence(light)
    for _ in range(9):
        turn = {
            "X or P": np.where(random.random((rows, 1)) < 0.5, 0.0, math.pi / 2.0),
            "X alone": np.zeros((rows, 1)),
            "any": random.uniform(0.0, 2.0 * math.pi, (rows, 1)),
        }[angles]
        cosine, sine = np.cos(turn), np.sin(turn)
        if angles == "X or P":
            cosine, sine = np.round(cosine), np.round(sine)
        read = 0.8 * (cosine * light.x + sine * light.p)
        read = read + math.sqrt(variance) * random.normal(size=read.shape)
        evidence.add(
            ReturnedLight(
                read.astype(np.float32), cosine.astype(np.float32), sine.astype(np.float32)
            )
        )
    found = evidence.weight_sums().power(evidence.pattern)
    both = 1 if angles == "X alone" else 2
    # With X or P by chance, 2 of 512 rows are read in one quadrature only.
    assert found.read == pytest.approx(both * rows * modes, rel=0.02)
    # Gain and turn of each row; ten terms per quadrature that was read, less common gain and turn.
    assert found.degrees == found.read - 2 * rows - (10 * both - 2)
    # Standard error sqrt(2/4740) = 2.1 % (2.9 % for X alone); seed 2.
    assert found.value / found.degrees == pytest.approx(variance, rel=0.08)


def test_the_gain_of_a_row_is_taken_off_and_nothing_else() -> None:
    random = np.random.default_rng(5)
    light = LayerLight(0, random.normal(size=(8, 20)).astype(np.float32))
    evidence = LayerEvidence(light)
    gains = np.linspace(0.5, 1.5, 8)[:, None]
    for on_x in (1.0, 0.0, 1.0):
        cosine = np.full((8, 1), on_x, np.float32)
        read = gains * (cosine * light.x + (1.0 - cosine) * light.p)
        evidence.add(ReturnedLight(read.astype(np.float32), cosine, 1.0 - cosine))
    sums = evidence.weight_sums()
    assert sums.power(evidence.pattern).value < 1e-9
    assert sums.power(np.roll(evidence.pattern, 1, axis=1)).value > 1.0


def test_sums_of_other_layers_do_not_merge() -> None:
    sums = WeightSums(np.zeros((2, 4), np.float32), np.zeros((3, 2)))
    with pytest.raises(SettingError, match="sums by weight"):
        sums.merged(WeightSums(np.zeros((3, 4), np.float32), np.zeros((3, 3))))


def test_plain_and_disguised_sums_merge_weight_by_weight() -> None:
    plain = WeightSums(np.ones((1, 4), np.float32), np.array([[3.0], [0.0], [2.0]]))
    placed = WeightSums(
        np.ones((1, 4), np.float32),
        np.array([[5.0], [0.0], [5.0]]),
        np.full((1, 4), 5.0, np.float32),
    )
    merged = plain.merged(placed)
    assert merged.sums.tolist() == [[2.0] * 4]
    assert merged.by_entry().tolist() == [[8.0, 7.0, 8.0, 7.0]]


# Honest clients.


@pytest.mark.parametrize("disguise", [None, Disguise(True), Disguise(True, True)])
def test_an_honest_client_shows_its_clones_and_no_more(disguise: Disguise | None) -> None:
    net = network(61, 41, 30, 7)
    chosen = (
        replace(SETTINGS, light=replace(SETTINGS.light, disguise=disguise))
        if disguise
        else SETTINGS
    )
    report = verdict_of(ModeLink(chosen), net, 24, disguise)
    assert report.accepted
    found = report.collective
    assert found is not None
    assert found.queries == 24
    # Seed 0: 3 standard errors of the sums over some 4,000 weights.
    assert found.seen == pytest.approx(report.excess_noise_expected, abs=3.0 * found.seen_error)
    assert found.upper > found.estimate


def test_one_image_again_and_again_is_no_alarm() -> None:
    net, images = network(24, 16, 6), np.ones((40, 24), np.float32)
    session = Session(net, SETTINGS, ModeLink(SETTINGS))
    for _ in session.run(images):
        pass
    assert session.verdict().accepted


# A memory.


def test_what_repeats_in_every_query_is_found_and_what_is_fresh_is_not() -> None:
    net, variance, queries = network(64, 48, 10), 0.02, 40
    fixed = fixed_kicks(net, variance)
    random = np.random.default_rng(1)
    memory, fresh = Disturbed(SETTINGS), Disturbed(SETTINGS)
    memory.kick = lambda light: fixed[light.layer]
    fresh.kick = lambda light: (
        math.sqrt(variance) * random.normal(size=(2, light.rows, light.modes))
    )
    found = verdict_of(memory, net, queries)
    assert "collective noise" in {check.name for check in found.failed}
    other = verdict_of(fresh, net, queries)
    assert "collective noise" not in {check.name for check in other.failed}
    assert found.collective is not None
    unit = (1.0 + SETTINGS.verifier.electronic_noise) / SETTINGS.verifier.efficiency
    honest = found.excess_noise_expected or 0.0
    # Read in half the queries, what adds up over all shows half; the estimate makes up for it.
    expected = honest + queries * variance * unit
    assert found.collective.seen < 0.6 * expected
    # 3,000 sums: 2.6 % of their variance, seed 11.
    assert found.collective.estimate == pytest.approx(expected, rel=0.12)
    assert found.collective.upper > expected


def test_in_disguise_a_memory_of_the_weight_is_found_and_one_of_the_slot_averages_away() -> None:
    """Noise that follows a neuron adds up; noise that stays in a slot does not."""
    net, disguise, queries = network(40, 36, 20), Disguise(True, True), 40
    chosen = replace(SETTINGS, light=replace(SETTINGS.light, disguise=disguise))
    fixed = fixed_kicks(net, 0.05)
    by_slot = Disturbed(chosen)
    wide = math.sqrt(0.05) * np.random.default_rng(8).normal(size=(2, 20, 36))
    by_slot.kick = lambda light: fixed[0] if light.layer == 0 else wide
    found = verdict_of(by_slot, net, queries, disguise)
    assert "collective noise" not in {check.name for check in found.failed}

    # A thief that recognises each weight by its size, on any mode.
    values = {round(abs(float(v)), 4): i for i, v in enumerate(net.layers[0].ravel())}
    assert len(values) > 0.9 * net.layers[0].size
    random = np.random.default_rng(9)
    of_weight = math.sqrt(0.05) * random.normal(size=net.layers[0].size)
    rms = math.sqrt(float(np.mean(net.layers[0].astype(np.float64) ** 2)))
    amplitude = math.sqrt(2.0 * chosen.light.mean_photons) / rms

    def kick(light: LayerLight) -> Doubles:
        kicks = np.zeros((2, light.rows, light.modes))
        if light.layer == 0:
            for part, sent in enumerate((light.x, light.p)):
                flat = [
                    np.sign(v) * of_weight[values.get(round(abs(float(v)) / amplitude, 4), 0)]
                    for v in sent.ravel()
                ]
                kicks[part] = np.reshape(flat, sent.shape)
        return kicks

    by_weight = Disturbed(chosen)
    by_weight.kick = kick
    found = verdict_of(by_weight, net, queries, disguise)
    assert "collective noise" in {check.name for check in found.failed}


@pytest.mark.parametrize(("queries", "repeats"), [(6, 0.0), (6, 0.5), (6, 1.0)])
def test_noise_of_the_whole_mode_follows_from_that_of_the_queries_read(
    queries: int, repeats: float
) -> None:
    """Monte Carlo over which queries are read; 20,000 weights, seed 6."""
    random = np.random.default_rng(6)
    common = math.sqrt(repeats) * random.normal(size=(20_000, 1))
    each = common + math.sqrt(1.0 - repeats) * random.normal(size=(20_000, queries))
    read = random.random(each.shape) < 0.5
    counts = read.sum(axis=1)
    used = counts > 0
    seen = float(np.mean((each * read).sum(axis=1)[used] ** 2 / counts[used]))
    pairs = (float(np.mean(counts[used])) - 1.0) / (queries - 1.0)
    whole = float(np.mean(each.sum(axis=1) ** 2 / queries))
    found = whole_mode(seen, float(np.mean(each**2)), pairs)
    assert found == pytest.approx(whole, abs=0.03 + 0.05 * whole)


def test_the_bound_holds_as_often_as_it_says() -> None:
    """At a failure probability of 20 % at most 20 % of 300 sessions, with noise that repeats."""
    random = np.random.default_rng(12)
    calibration = ReceiverCalibration(1.0, 0.0, 1.0, 10**6)
    expectation = replace(
        Session(network(4, 2), SETTINGS, ModeLink(SETTINGS)).expectation(),
        excess_noise=0.0,
        clone_noise=0.0,
    )
    queries, variance, beaten = 8, 0.1, 0
    for _ in range(300):
        light = LayerLight(0, random.normal(size=(12, 16)).astype(np.float32))
        evidence = LayerEvidence(light)
        kicks = math.sqrt(variance) * random.normal(size=(2, 12, 8))
        for _ in range(queries):
            cosine = (random.random((12, 1)) < 0.5).astype(np.float64)
            read = cosine * (light.x + kicks[0]) + (1.0 - cosine) * (light.p + kicks[1])
            read = read + random.normal(size=read.shape)
            evidence.add(
                ReturnedLight(
                    read.astype(np.float32),
                    cosine.astype(np.float32),
                    (1.0 - cosine).astype(np.float32),
                )
            )
        record = record_of([evidence], calibration, expectation, 1.0)
        sums = collective_sums([evidence], record)
        assert sums is not None
        found = collective_noise(sums, 0.2)
        beaten += found.upper < queries * variance
    assert beaten <= 0.2 * 300


@pytest.mark.parametrize(("moved", "expected"), [(False, 1.0), (True, 2.0)])
def test_weights_in_disguise_read_between_x_and_p_scatter_as_the_record_says(
    moved: bool, expected: float
) -> None:
    """400 times 3 queries of 200 weights at one angle; seed 13.

    Where columns keep their places, both weights of a mode are judged together, exactly.
    """
    random = np.random.default_rng(13)
    rows, columns, turn = 10, 20, 0.6
    cosine, sine = np.full(rows, math.cos(turn)), np.full(rows, math.sin(turn))
    order = np.arange(columns)[:: -1 if moved else 1]
    placed = Placement(np.arange(rows), np.ones(rows, np.float32), order, np.ones(20, np.float32))
    pattern = random.normal(size=(rows, columns)).astype(np.float32)
    found = []
    for _ in range(400):
        sums = PlacedSums(rows, columns)
        for _ in range(3):
            left = random.normal(size=(rows, columns // 2)).astype(np.float32)
            sums.begin(ReadShares.of(cosine, sine), placed)
            sums.add(0, left)
        found.append(sums.sums().power(pattern))
    powers = np.array([each.value for each in found])
    degrees, scatter = found[0].degrees, found[0].scatter
    assert scatter == pytest.approx(expected)
    assert float(powers.mean()) == pytest.approx(degrees, rel=0.03)
    # Standard error of a variance from 400: 7 %.
    assert float(powers.var()) == pytest.approx(2.0 * scatter * degrees, rel=0.25)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_sums_of_weights_that_change_places_are_those_added_one_by_one(
    twice: bool, turned: bool
) -> None:
    """230 rows in three blocks, fresh orders and signs in each of 150 queries; seed 14."""
    random = np.random.default_rng(14)
    rows, weights, queries = 230, 10, 150
    sums = PlacedSums(rows, weights)
    expected, entries = np.zeros((rows, weights)), np.zeros((rows, weights))
    for query in range(queries):
        order = random.permutation(weights)
        columns = np.concatenate([order, order]) if twice else order
        if not twice and query % 3 == 0:
            columns = np.arange(weights)
        placed = Placement(
            random.permutation(rows),
            random.choice(np.array([1.0, -1.0], np.float32), rows),
            columns,
            random.choice(np.array([1.0, -1.0], np.float32), len(columns)),
        )
        if query % 2:
            placed = replace(placed, row_signs=np.ones(rows, np.float32))
        if query % 6 == 0:
            placed = replace(placed, column_signs=np.ones(len(columns), np.float32))
        angle = random.uniform(0.0, 6.3, rows) if turned else np.zeros(rows)
        cosine, sine = np.cos(angle), np.sin(angle)
        if not turned:
            cosine = (random.random(rows) < 0.5).astype(np.float64)
            sine = 1.0 - cosine
        left = random.normal(size=(rows, len(columns) // 2)).astype(np.float32)
        sums.begin(ReadShares.of(cosine, sine), placed)
        for first in range(0, rows, 100):
            sums.add(first, left[first : first + 100])
        for quadrature, share in enumerate((cosine, sine)):
            signs = placed.column_signs[quadrature::2]
            values = left * share[:, None] * placed.row_signs[:, None] * signs
            place = (placed.rows[:, None], placed.columns[quadrature::2])
            np.add.at(expected, place, values)
            np.add.at(entries, place, np.broadcast_to(share[:, None] ** 2, values.shape))
    found = sums.sums()
    np.testing.assert_allclose(found.sums, expected, atol=1e-3)
    np.testing.assert_allclose(found.by_entry(), entries, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [False, True])
def test_known_distortion_is_fitted_and_costs_its_degrees_of_freedom(changes: bool) -> None:
    """60 layers of 12 x 30 weights, 6 queries; chi-squared within 4 of its errors; seed 15."""
    random = np.random.default_rng(15)
    rows, columns = 12, 30
    plain: list[float] = []
    distorted: list[float] = []
    degrees = 0
    for _ in range(60):
        pattern = random.normal(size=(rows, columns)).astype(np.float32)
        read = random.random((6, rows)) < 0.5
        counts = np.empty((rows, columns), np.float32)
        counts[:, 0::2], counts[:, 1::2] = read.sum(0)[:, None], (~read).sum(0)[:, None]
        x, p = pattern[:, 0::2], pattern[:, 1::2]
        bent = np.empty_like(pattern)
        bent[:, 0::2] = 0.7 * p + 0.2 * x - 0.5 * x**2 + 0.3 * p**3 + 0.1
        bent[:, 1::2] = -0.4 * x + 0.3 * p**2 - 0.2 * x * p + 0.1 * x**2 * p
        shares = np.stack([read.sum(0), np.zeros(rows), (~read).sum(0)]).astype(np.float64)
        noise = np.sqrt(counts) * random.normal(size=counts.shape).astype(np.float32)
        for kept, added in ((plain, 0.0), (distorted, bent)):
            sums = (noise + counts * added).astype(np.float32)
            power = WeightSums(sums, shares, counts if changes else None).power(pattern)
            kept.append(power.value)
            degrees = power.degrees
            assert power.read - degrees == 2 * rows + 18
    error = 4.0 * math.sqrt(2.0 * degrees / 60)
    assert np.mean(plain) == pytest.approx(np.mean([degrees]), abs=error + 4.0)
    np.testing.assert_allclose(distorted, plain, rtol=2e-3)


def test_weights_of_two_levels_have_fewer_terms() -> None:
    """x^3 = x, x^2 = 1 and the like are one term each: 1, x, p and x p on either quadrature."""
    random = np.random.default_rng(4)
    pattern = random.choice(np.array([-1.0, 1.0], np.float32), (12, 30))
    shares = np.stack([np.full(12, 3.0), np.zeros(12), np.full(12, 3.0)])
    sums = (math.sqrt(3.0) * random.normal(size=(12, 30))).astype(np.float32)
    power = WeightSums(sums, shares).power(pattern)
    assert power.read - power.degrees == 2 * 12 + 2 * 4 - 2


@pytest.mark.parametrize("changes", [False, True])
def test_turns_of_single_rows_are_taken_off(changes: bool) -> None:
    """A phase of each row's own, the same in all queries, leaves the power as it is; seed 21."""
    random = np.random.default_rng(21)
    rows, columns = 40, 60
    pattern = random.normal(size=(rows, columns)).astype(np.float32)
    read = random.random((9, rows)) < 0.5
    counts = np.empty((rows, columns), np.float32)
    counts[:, 0::2], counts[:, 1::2] = read.sum(0)[:, None], (~read).sum(0)[:, None]
    shares = np.stack([read.sum(0), np.zeros(rows), (~read).sum(0)]).astype(np.float64)
    noise = np.sqrt(counts) * random.normal(size=counts.shape).astype(np.float32)
    turn = random.normal(size=(rows, 1)).astype(np.float32)
    turned = np.empty_like(pattern)
    turned[:, 0::2], turned[:, 1::2] = turn * pattern[:, 1::2], -turn * pattern[:, 0::2]

    def power(added: Floats) -> float:
        sums = (noise + counts * added).astype(np.float32)
        return WeightSums(sums, shares, counts if changes else None).power(pattern).value

    plain = power(np.zeros_like(pattern))
    assert power(turned) == pytest.approx(plain, rel=1e-3)
    # The same by single weights, of changing sign along the row, is seen in full.
    assert power(turned * random.choice([-1.0, 1.0], turned.shape)) > 3.0 * plain


def test_sums_that_are_changed_do_not_keep_what_was_known_of_them() -> None:
    """The power of sums with known moments, scaled, is that of the same sums by themselves."""
    random = np.random.default_rng(9)
    pattern = random.normal(size=(5, 8)).astype(np.float32)
    own = WeightSums(
        random.normal(size=(5, 8)).astype(np.float32), np.outer([7.0, 0.0, 5.0], np.ones(5))
    )
    known = own.knowing(RowMoments.of(pattern, own.sums, own.shares, None))
    alone = own.scaled(1.7, 2.0).power(pattern)
    assert known.scaled(1.7, 2.0).power(pattern).value == pytest.approx(alone.value, rel=1e-5)
    changed = replace(known, sums=3.0 * own.sums)
    assert changed.moments is None
    assert changed.power(pattern).value == pytest.approx(9.0 * own.power(pattern).value, rel=1e-5)
