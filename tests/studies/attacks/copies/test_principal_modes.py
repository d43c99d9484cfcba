"""QND of principal directions: what it reads, what it leaves, that the verdict lets it pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.copies.spend import hidden_noise, honest_noise
from labctl.protocols.disguise import Disguise
from labctl.protocols.encoding import Floats
from labctl.protocols.link import LayerLight
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.copies import principal_thief
from labctl.studies.attacks.copies.copy_curve import steal
from labctl.studies.attacks.copies.honest_optics import ModelCopy
from labctl.studies.attacks.copies.neighbours import Doubles
from labctl.studies.attacks.copies.principal_modes import PrincipalModes
from labctl.studies.attacks.copies.stolen import worth_of
from labctl.studies.attacks.tampered_link import Beam


def symplectic_oracle(directions: Doubles, strengths: Doubles) -> Doubles:
    """Return the exact linear map of quadratures by exp(Omega H), ancillas after the modes.

    H couples each direction of the modes' quadratures to P of an ancilla, all at once.
    """
    count, size = directions.shape
    total = size + 2 * count
    form = np.zeros((total, total))
    for place, (direction, strength) in enumerate(zip(directions, strengths, strict=True)):
        p = size + 2 * place + 1
        form[:size, p] += np.sqrt(strength) * direction
        form[p, :size] += np.sqrt(strength) * direction
    omega = np.kron(np.eye(total // 2), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    found: Doubles = expm(omega @ form)
    return found


def test_couplings_have_the_covariance_of_the_unitary_that_they_stand_for() -> None:
    """Two directions that do not commute; 40,000 rows, seed 0, five standard errors."""
    rows = 40_000
    directions = np.array([[1.0, 0.0, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0]])
    strengths = np.array([0.5, 2.0])
    beam = Beam(LayerLight(0, np.zeros((rows, 4), np.float32)), np.random.default_rng(0))
    values = principal_thief._couple(beam, directions, strengths)
    after = np.ascontiguousarray(beam.field).view(np.float32)
    drawn = np.concatenate([after, values * np.sqrt(strengths)], axis=1)
    whole = symplectic_oracle(directions, strengths)
    exact = (whole @ whole.T)[np.ix_([0, 1, 2, 3, 4, 6], [0, 1, 2, 3, 4, 6])]
    error = np.sqrt((exact**2 + np.outer(np.diag(exact), np.diag(exact))) / rows)
    assert np.all(np.abs(drawn.T @ drawn / rows - exact) < 5.0 * error)


def test_one_direction_is_read_with_one_over_b_and_kicks_the_other_quadrature_by_b() -> None:
    whole = symplectic_oracle(np.array([[1.0, 0.0]]), np.array([0.5]))
    covariance = whole @ whole.T
    assert covariance[0, 0] == pytest.approx(1.0)
    assert covariance[1, 1] == pytest.approx(1.5)
    assert covariance[2, 2] / 0.5 == pytest.approx(1.0 + 1.0 / 0.5)


@pytest.mark.parametrize("budget", [0.01, 1.0, 100.0])
def test_the_budget_is_filled_where_it_is_worth_most(budget: float) -> None:
    """No move of a little coupling from one direction to another leaves less unknown."""
    signal = np.array([9.0, 4.0, 1.0, 0.2])
    importance = np.array([5.0, 1.0, 1.0, 0.1])

    def unknown(couplings: Doubles) -> float:
        return float(np.sum(importance / (1.0 + signal * couplings)))

    best = principal_thief._filled(importance, signal, budget)
    assert best.sum() == pytest.approx(budget)
    assert np.all(best >= 0.0)
    for one in range(4):
        for other in range(4):
            moved = best.copy()
            step = min(1e-3 * budget, best[one])
            moved[one] -= step
            moved[other] += step
            assert unknown(moved) >= unknown(best) * (1.0 - 1e-9)


def run(small: Any, attack: PrincipalModes, settings: SessionSettings, images: Floats) -> Session:
    mounted = attack.mount(small.network, settings)
    session = Session(small.network, settings, mounted.link)
    for _ in session.run(images):
        pass
    return session


@pytest.mark.parametrize("noise", [1.0, 20.0])
def test_the_returned_light_has_the_noise_that_was_asked_for(small: Any, noise: float) -> None:
    """300 images of 1280 modes, seed 0; five standard errors."""
    settings = small.settings(5.0, 1.05)
    attack = PrincipalModes(small.public, noise)
    verdict = run(small, attack, settings, small.judged.images[:300]).verdict(figures=False)
    honest = honest_noise(small.network.sizes, settings)
    expected = honest + attack.mark(small.network, settings).excess_noise
    assert expected == pytest.approx(noise * honest)
    assert verdict.excess_noise is not None
    assert abs(verdict.excess_noise - expected) < 5.0 * np.sqrt(2.0 / verdict.samples)


def test_honest_noise_is_accepted_and_copies_better_with_every_query(small: Any) -> None:
    """Light so weak that one query tells little; seed 0."""
    worths = []
    for queries in (1, 40):
        found = steal(
            PrincipalModes(small.public),
            small.network,
            small.settings(0.2, 1.05),
            small.judged.images[:queries],
            small.public,
            small.judged,
        )
        assert found.accepted
        worths.append(found.worth)
    assert worths[0].raw < 0.7
    assert worths[1].raw > 0.9


def test_what_hides_in_one_query_is_many_times_honest_noise_and_passes(small: Any) -> None:
    settings = small.settings(5.0, 1.05)
    attack = PrincipalModes(small.public).hidden_in(1, small.network.sizes, settings, 0.9)
    assert attack.noise > 10.0
    many = PrincipalModes(small.public).hidden_in(100, small.network.sizes, settings, 0.9)
    assert attack.noise - 1.0 == pytest.approx(10.0 * (many.noise - 1.0))
    sessions = (
        run(small, attack, replace(settings, seed=seed), small.judged.images[:1])
        for seed in range(40)
    )
    passed = sum(session.verdict(figures=False).accepted is True for session in sessions)
    # Of 40 sessions at 0.9 each, 28 or fewer pass with a probability below 1e-3.
    assert passed > 28


def test_a_fresh_order_costs_a_single_query_nothing_and_many_queries_something(small: Any) -> None:
    """A strong thief, 8 queries, seed 0: rows found by matching make a working copy."""
    settings = small.settings(5.0, 1.05)
    fresh = replace(settings, light=replace(settings.light, disguise=Disguise(permute=True)))
    attack = PrincipalModes(small.public, 60.0)
    for queries, least in ((1, 0.5), (8, 0.8)):
        found = steal(
            attack, small.network, fresh, small.judged.images[:queries], small.public, small.judged
        )
        assert max(found.worth.raw, found.worth.smoothed) > least
    mounted = attack.mount(small.network, fresh)
    for _ in Session(small.network, fresh, mounted.link).run(small.judged.images[:2]):
        pass
    assert mounted.learned(small.network, small.judged).weights_correlation is None


def test_a_batch_of_queries_tells_no_query_of_a_later_one(small: Any) -> None:
    """Directions of each query's last layer are the same whether queries come together or not."""
    settings, shown = small.settings(5.0, 1.05), []
    for batch in (1, 4):
        mounted = PrincipalModes(small.public, 5.0).mount(small.network, settings)
        for _ in Session(small.network, settings, mounted.link).run(
            small.judged.images[:4], batch_images=batch
        ):
            pass
        shown.append(mounted.copy().scores(small.judged.images[:20]))
    assert shown[0] == pytest.approx(shown[1], rel=1e-3, abs=1e-6)


def test_blocks_and_signs_and_no_noise_are_refused(small: Any) -> None:
    settings = small.settings(5.0, 1.05)
    with pytest.raises(SettingError, match="whole rows"):
        PrincipalModes(small.public).mount(
            small.network, replace(settings, channel=replace(settings.channel, block_modes=4))
        )
    with pytest.raises(SettingError, match="signs"):
        PrincipalModes(small.public).mount(
            small.network,
            replace(settings, light=replace(settings.light, disguise=Disguise(signs=True))),
        )
    with pytest.raises(SettingError, match="above 0"):
        PrincipalModes(small.public, 0.0)
    with pytest.raises(SettingError, match="robbed"):
        PrincipalModes(small.public, robbed=0)


def test_all_noise_of_many_queries_passes_in_the_first_alone(small: Any) -> None:
    """8 queries, fresh order, seeds 0 to 9: of 10 at 0.9 each, 6 pass but once in 600 times."""
    plain = small.settings(0.5, 1.05)
    settings = replace(plain, light=replace(plain.light, disguise=Disguise(permute=True)))
    queries = 8
    once = PrincipalModes(small.public).at_once_in(queries, small.network.sizes, settings, 0.9)
    noise = hidden_noise(queries, small.network.sizes, settings, 0.9)
    assert once.noise == pytest.approx(0.8 * queries * noise)
    pooled = once.mark_after(queries, small.network, settings).excess_noise
    honest = honest_noise(small.network.sizes, settings)
    assert pooled == pytest.approx((0.8 * noise - 1.0) * honest)
    shown = small.judged.images[:queries]
    found = [
        steal(once, small.network, replace(settings, seed=seed), shown, small.public, small.judged)
        for seed in range(10)
    ]
    assert sum(one.accepted for one in found) >= 6
    assert found[0].worth.raw > 0.9


@pytest.mark.parametrize("fresh", [False, True])
def test_of_inputs_that_carry_nothing_no_light_comes_and_copies_need_none(
    small: Any, fresh: bool
) -> None:
    """Every third input and every fourth neuron cut off; three queries of much light, seed 0."""
    first, last = (layer.copy() for layer in small.network.layers)
    first[:, ::3] = 0.0
    last[:, ::4] = 0.0
    cut = Network((first, last), "cut", {})
    plain = small.settings(5.0, 1.05)
    settings = replace(plain, light=replace(plain.light, disguise=Disguise(permute=fresh)))
    for attack in (PrincipalModes(small.public, 60.0), ModelCopy(small.public)):
        shown = small.judged.images[:3]
        found = steal(attack, cut, settings, shown, small.public, small.judged)
        assert found.worth.best > 0.6


def test_a_copy_is_judged_on_some_images(small: Any) -> None:
    mounted = PrincipalModes(small.public).mount(small.network, small.settings(5.0, 1.05))
    for _ in Session(small.network, small.settings(5.0, 1.05), mounted.link).run(
        small.judged.images[:1]
    ):
        pass
    nothing = LabelledImages(small.judged.images[:0], small.judged.labels[:0])
    with pytest.raises(SettingError, match="1 or more"):
        worth_of(mounted.copy(), small.public, nothing)
