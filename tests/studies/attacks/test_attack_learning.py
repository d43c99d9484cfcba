"""What attackers learn: the best linear estimate, and never more than Holevo's bound allows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sessions import ideal_session

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.encoding import unit_norm, unit_rms
from labctl.protocols.leakage import holevo_bits_per_mode
from labctl.protocols.link import LayerLight
from labctl.protocols.receiver import CloneReceiver, Homodyne, Receiver, TapReceiver
from labctl.protocols.session import Session
from labctl.protocols.settings import (
    SessionSettings,
    VerificationSettings,
)
from labctl.studies.attacks.adaptive_tap import AdaptiveTap
from labctl.studies.attacks.attack import Attack, ChangingAttack, Mark, carry_out
from labctl.studies.attacks.chosen_inputs import ChosenInputs
from labctl.studies.attacks.heterodyne_resend import HeterodyneResend
from labctl.studies.attacks.hidden_tap import HiddenTap
from labctl.studies.attacks.intercept_resend import InterceptResend
from labctl.studies.attacks.local_oscillator import LocalOscillator
from labctl.studies.attacks.marks import layer_paths
from labctl.studies.attacks.more_modes import CloneMoreModes
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.outsider import Leg
from labctl.studies.attacks.over_gain import OverGain
from labctl.studies.attacks.own_laser import NothingReturned, OwnLaser
from labctl.studies.attacks.tap import Tap
from labctl.studies.attacks.weights_estimate import Notebook

GENERATOR = np.random.default_rng(17)
INPUTS, ROWS = 96, 250
# One layer of Gaussian weights, as the bound assumes: 24,000 of them.
NETWORK = Network((GENERATOR.standard_normal((ROWS, INPUTS)).astype(np.float32),), "gaussian", {})
TRUTH = unit_rms(NETWORK.layers[0]).astype(np.float64)
IMAGES = LabelledImages(
    GENERATOR.random((INPUTS, INPUTS), dtype=np.float32), np.zeros(INPUTS, np.uint8)
)
IDEAL = ideal_session(4.0, 2.0, seed=4)
REAL = replace(
    IDEAL,
    receiver=CloneReceiver(2.0, 1.3, Homodyne(0.8, 0.1)),
    verifier=Homodyne(0.7, 0.15),
    channel=replace(IDEAL.channel, loss_db=1.0, technical_noise=0.05),
)
BY_TAP = replace(
    REAL,
    receiver=TapReceiver.of_gain(2.0, Homodyne(0.8, 0.1)),
    channel=replace(REAL.channel, block_modes=8),
)
ATTACKS: tuple[Attack, ...] = (
    OverGain(4.0),
    CloneMoreModes(5),
    HeterodyneResend(0.3),
    HiddenTap(1.0),
    OwnLaser(0.3),
    NothingReturned(0.5),
    ChosenInputs(1.0),
    LocalOscillator(0.15),
    AdaptiveTap(1.0),
    AdaptiveTap(0.5),
    Tap(0.3),
    Tap(0.3, Leg.RETURN),
    InterceptResend(0.4),
    InterceptResend(0.4, Leg.RETURN),
)


def some(count: int) -> LabelledImages:
    return LabelledImages(IMAGES.images[:count], IMAGES.labels[:count])


def estimate_of(attack: Attack, chosen: SessionSettings, count: int) -> NDArray[np.float64]:
    """Return an attacker's estimate of the layer after some queries."""
    mounted = attack.mount(NETWORK, chosen)
    session = Session(NETWORK, chosen, mounted.link)
    for _ in session.run(mounted.inputs(IMAGES.images[:count])):
        pass
    light = session.server.light(0)
    assert hasattr(mounted, "notebook")
    return np.asarray(mounted.notebook.layer(light).best())


def learned_correlation(attack: Attack, chosen: SessionSettings, count: int) -> float:
    learned = carry_out(attack, NETWORK, chosen, some(count)).learned
    assert learned.weights_correlation is not None
    assert learned.samples == TRUTH.size
    return learned.weights_correlation


@pytest.mark.parametrize("chosen", [REAL, BY_TAP], ids=["clone", "tap in blocks"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_estimates_are_calibrated(attack: Attack, chosen: SessionSettings) -> None:
    # The best estimate has Cov(w, e) = Var(e): a wrong amplitude or a wrong noise breaks it.
    # 5 queries, seed 4, 24,000 weights, five standard errors.
    estimate = estimate_of(attack, chosen, 5)
    explained = float(np.sum(estimate**2))
    error = np.sqrt(np.sum(estimate**2 * (TRUTH - estimate) ** 2))
    # Rows share directions: 250 rows are what is independent, the error is counted by row.
    by_row = np.sum(estimate * (TRUTH - estimate), axis=1)
    error = max(float(error), float(by_row.std()) * math.sqrt(ROWS))
    assert abs(float(by_row.sum())) < 5.0 * error
    assert explained > 0.0


@pytest.mark.parametrize("queries", [1, 20])
@pytest.mark.parametrize("attack", [HeterodyneResend(1.0), OwnLaser(1.0), InterceptResend(1.0)])
def test_heterodyne_of_all_modes_learns_what_it_must(attack: Attack, queries: int) -> None:
    # q queries: 2 mu of signal on 2/q of noise, rho^2 = q mu/(1 + q mu).
    wanted = math.sqrt(4.0 * queries / (1.0 + 4.0 * queries))
    found = learned_correlation(attack, IDEAL, queries)
    assert found == pytest.approx(wanted, abs=5.0 * (1.0 - wanted**2) / math.sqrt(TRUTH.size))


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_a_tap_learns_what_it_takes(share: float) -> None:
    wanted = math.sqrt(4.0 * share / (1.0 + 4.0 * share))
    found = learned_correlation(Tap(share), IDEAL, 1)
    assert found == pytest.approx(wanted, abs=5.0 / math.sqrt(TRUTH.size))


def test_a_hidden_tap_holds_all_light_that_is_lost() -> None:
    # 3 dB: half of the light of both legs, by two taps of the same total, besides honest use.
    settings_ = replace(IDEAL, channel=replace(IDEAL.channel, loss_db=3.0))
    share = 1.0 - settings_.transmittance
    least = math.sqrt(4.0 * share / (1.0 + 4.0 * share))
    found = learned_correlation(HiddenTap(1.0), settings_, 1)
    error = 5.0 * (1.0 - least**2) / math.sqrt(TRUTH.size)
    assert least - error < found < least + error + 0.02


@pytest.mark.parametrize("gain", [2.0, 4.0])
def test_one_image_tells_of_one_direction(gain: float) -> None:
    # F/(1 + F) of the variance of one of N directions.
    receiver = CloneReceiver(gain, 1.0, Homodyne(1.0, 0.0))
    strength = receiver.signal_to_noise(4.0, 1.0)
    wanted = strength / (1.0 + strength) / INPUTS
    found = learned_correlation(OverGain(gain), IDEAL, 1) ** 2
    # The direction's own variance is known from 250 rows.
    assert found == pytest.approx(wanted, rel=5.0 * math.sqrt(2.0 / ROWS) + 0.05)


def test_cloning_more_modes_tells_of_as_many_directions() -> None:
    wanted = 10 * 0.8 / INPUTS
    found = learned_correlation(CloneMoreModes(10), IDEAL, 1) ** 2
    assert found == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("queries", [10, 45, 96])
def test_basis_vectors_read_weight_after_weight(queries: int) -> None:
    attack = ChosenInputs(1.0)
    wanted = attack.correlation(queries, INPUTS, IDEAL.signal_to_noise)
    assert wanted == pytest.approx(math.sqrt(queries / INPUTS * 0.8))
    found = learned_correlation(attack, IDEAL, queries)
    assert found == pytest.approx(wanted, rel=5.0 / math.sqrt(queries * ROWS))


def test_after_all_basis_vectors_they_come_again() -> None:
    attack = ChosenInputs(1.0)
    assert attack.correlation(120, 60, 4.0) == pytest.approx(math.sqrt(8.0 / 9.0))
    mounted = attack.mount(NETWORK, IDEAL)
    fed = mounted.inputs(np.full((200, INPUTS), 0.5, np.float32))
    assert np.array_equal(fed.sum(axis=1), np.ones(200))
    assert np.array_equal(fed[:INPUTS].sum(axis=0), np.ones(INPUTS))
    assert np.array_equal(fed[:INPUTS], fed[INPUTS : 2 * INPUTS])


def test_a_share_of_chosen_inputs_leaves_the_other_images_alone() -> None:
    fed = ChosenInputs(0.25).mount(NETWORK, IDEAL).inputs(IMAGES.images[:40])
    changed = ~(fed == IMAGES.images[:40]).all(axis=1)
    assert changed.sum() == 10
    assert np.array_equal(fed[changed].sum(axis=1), np.ones(10))


@pytest.mark.parametrize(
    "hits", [None, [[1, 0, 1], [0, 1, 1], [0, 0, 1]], [[1, 0, 0], [0] * 3, [0] * 3]]
)
def test_looks_of_all_kinds_pool_as_in_the_textbook(hits: list[list[int]] | None) -> None:
    # Against the posterior mean of each row's explicit joint covariance matrix.
    random = np.random.default_rng(2)
    photons, amplitude, noise = 1.5, 0.8, 2.3
    scale = math.sqrt(2.0 * photons)
    light = LayerLight(0, np.zeros((3, 6), np.float32))
    directions = unit_norm(random.standard_normal((2, 6)).astype(np.float32))
    along, again = random.standard_normal((2, 3, 2)).astype(np.float32)
    read = random.standard_normal((3, 6)).astype(np.float32)
    by_row = hits is not None
    chosen = np.array(hits if by_row else np.zeros((3, 3)), np.bool_)
    page = Notebook(photons).layer(light)
    page.look_along(directions, along, amplitude, noise)
    if by_row:
        page.look_at_modes(read.view(np.complex64), chosen, 0.5, 2.0)
        page.look_along(directions, again, 0.7, 1.9, ~chosen)
    else:
        page.look_at_modes(read.view(np.complex64), None, 0.5, 2.0)
        page.look_along(directions, again, 0.7, 1.9)
    for row in range(3):
        hit = np.repeat(chosen[row] if by_row else np.ones(3, np.bool_), 2)
        kept = np.where(hit & by_row, 0.0, 1.0)
        looks = np.concatenate(
            [amplitude * directions, 0.7 * directions * kept, 0.5 * np.eye(6)[hit]]
        )
        looks *= scale
        variances = [noise] * 2 + [1.9] * 2 + [2.0] * int(hit.sum())
        covariance = looks @ looks.T + np.diag(variances)
        values = np.concatenate([along[row], again[row], read[row][hit]])
        wanted = values @ np.linalg.solve(covariance, looks)
        assert np.allclose(page.best()[row], wanted, atol=1e-4)


def test_an_empty_notebook_has_learned_nothing() -> None:
    learned = Notebook(4.0).learned(NETWORK)
    assert learned.weights_correlation == 0.0
    assert learned.weights_bits_per_real == 0.0


def receivers() -> st.SearchStrategy[Receiver]:
    def receiver(gain: float, efficiency: float, tap: bool) -> Receiver:
        homodyne = Homodyne(efficiency, 0.0)
        if tap:
            return TapReceiver.of_gain(gain, homodyne)
        return CloneReceiver(gain, 1.0, homodyne)

    return st.builds(receiver, st.floats(1.05, 3.0), st.floats(0.6, 1.0), st.booleans())


def attacks() -> st.SearchStrategy[Attack]:
    share, legs = st.floats(0.01, 1.0), st.sampled_from(list(Leg))
    kinds: list[st.SearchStrategy[Attack]] = [
        st.builds(OverGain, st.floats(3.0, 30.0)),
        st.builds(CloneMoreModes, st.integers(1, 30)),
        st.builds(HeterodyneResend, share),
        st.builds(HiddenTap, share),
        st.builds(OwnLaser, share),
        st.builds(NothingReturned, share),
        st.just(ChosenInputs(1.0)),
        st.builds(Tap, st.floats(0.01, 0.9), legs),
        st.builds(InterceptResend, share, legs),
    ]
    return st.one_of(*kinds)


@st.composite
def attacked_settings(draw: st.DrawFn) -> tuple[Attack, SessionSettings, int]:
    """Draw an attack, settings with untrusted loss, and a number of queries."""
    chosen = replace(
        IDEAL,
        receiver=draw(receivers()),
        light=replace(IDEAL.light, mean_photons=draw(st.floats(0.2, 8.0))),
        channel=replace(IDEAL.channel, loss_db=draw(st.floats(0.01, 3.0))),
        seed=draw(st.integers(0, 1000)),
    )
    return draw(attacks()), chosen, draw(st.sampled_from([1, 3]))


@given(attacked_settings())
@settings(deadline=None, max_examples=15)
def test_nobody_learns_more_than_the_bound_at_the_mark(
    case: tuple[Attack, SessionSettings, int],
) -> None:
    learns_no_more_than_the_bound(*case)


@pytest.mark.long
@given(attacked_settings())
@settings(deadline=None, max_examples=60)
def test_nobody_learns_more_than_the_bound_at_the_mark_of_more_attacks(
    case: tuple[Attack, SessionSettings, int],
) -> None:
    learns_no_more_than_the_bound(*case)


def learns_no_more_than_the_bound(attack: Attack, chosen: SessionSettings, queries: int) -> None:
    # The bound with untrusted loss, at the true transmittance and excess noise; it adds up over
    # queries. 24,000 weights: one standard error of the correlation is 0.0065, of the variance
    # of one direction, known from 250 rows, 9 %.
    mark = (
        attack.mark_after(queries, NETWORK, chosen)
        if isinstance(attack, ChangingAttack)
        else attack.mark(NETWORK, chosen)
    )
    assert mark is not None
    allowed = queries * bound(chosen, mark)
    found = learned_correlation(attack, chosen, queries)
    surely = max(found - 5.0 * (1.0 - found**2) / math.sqrt(TRUTH.size), 0.0) / 1.2
    assert -0.5 * math.log2(1.0 - surely**2) < allowed


def bound(chosen: SessionSettings, mark: Mark) -> float:
    """Return Holevo's bound in bits per weight where this mark is left."""
    (path,) = layer_paths(NETWORK, chosen)
    noise = path.leg * path.clone_noise + chosen.channel.technical_noise + mark.excess_noise
    transmittance = chosen.transmittance * mark.transmittance_ratio
    return 0.5 * holevo_bits_per_mode(chosen.light.mean_photons, transmittance, noise)


def test_a_dimmed_oscillator_breaks_the_bound_that_the_server_believes() -> None:
    # 1 dB of loss that the server trusts, dimmed by as much: nothing shows, and the client learns
    # more than the bound with trusted loss says. With untrusted loss the bound still holds.
    unwatched = VerificationSettings(monitor_samples=0)
    chosen = replace(IDEAL, channel=replace(IDEAL.channel, loss_db=1.0), verification=unwatched)
    attack = LocalOscillator(1.0 - chosen.transmittance)
    outcome = carry_out(attack, NETWORK, chosen, some(1))
    assert not outcome.caught
    mark = attack.mark(NETWORK, chosen)
    assert mark.excess_noise == pytest.approx(0.0, abs=1e-12)
    assert mark.transmittance_ratio == pytest.approx(1.0)
    (path,) = layer_paths(NETWORK, chosen)
    trusted = 0.5 * holevo_bits_per_mode(4.0, 1.0, path.clone_noise)
    # On top of honest use; 96 inputs make the honest noise, and what it leaks, large.
    honest = carry_out(CloneMoreModes(1), NETWORK, chosen, some(1)).learned
    bits, fair = outcome.learned.weights_bits_per_real, honest.weights_bits_per_real
    assert bits is not None
    assert fair is not None
    assert bits > 5.0 * fair
    share = attack.resent_share(NETWORK, chosen)
    assert 0.5 * share * math.log2(5.0) > 0.5 * trusted
    assert bits < bound(chosen, mark)


def test_mounted_attacks_bring_an_honest_server() -> None:
    mounted = Tap(0.1).mount(NETWORK, IDEAL)
    assert isinstance(mounted, WeightThief)
    assert mounted.server is None
    assert mounted.inputs(IMAGES.images) is IMAGES.images
