"""The planner: its settings are those of the closed forms, its best the best, its refusals true."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import ndtr
from sessions import ideal_session

from labctl.data.models import load_network
from labctl.errors import SettingError
from labctl.protocols.labels.curve import LabelCurve
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.leakage import (
    Assumptions,
    LayerShape,
    Trust,
    data_bits_journal,
    weights_bits_per_mode,
)
from labctl.protocols.leakage.setting import WeightsFigure
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne, ReceiverKind
from labctl.protocols.rotation import Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, VerificationSettings
from labctl.studies.planner import search as searching
from labctl.studies.planner.accuracy_curve import AccuracyCurve, AccuracyPoint
from labctl.studies.planner.option import Conditions, PlanLimits
from labctl.studies.planner.plan import Planner, Preference, Proof, Wish
from labctl.studies.planner.pooling import pool_for
from labctl.studies.planner.search import LEAST_GAIN, MOST_GAIN, Search
from labctl.studies.planner.throughput import Transmission

UNTRUSTED = Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED)
REFERENCE = (LayerShape(784, 392, 784), LayerShape(10, 392, 784))
# Known answers are of the honest figure.
LOSSLESS = Conditions(
    REFERENCE, UNTRUSTED, 0.0, 0.0, IDEAL_HOMODYNE, IDEAL_HOMODYNE,
    weights_figure=WeightsFigure.HONEST,
)  # fmt: skip
SEARCH = Search(LOSSLESS)
SMALL = replace(LOSSLESS, layers=(LayerShape(60, 24, 47), LayerShape(10, 30, 60)))
LABELS = LabelCurve(
    Detection.HOMODYNE, (1.0, 10.0, 100.0), (0.15, 0.5, 0.9), (0.005, 0.01, 0.005), 0.1
)


def smooth_curve() -> AccuracyCurve:
    """Return a curve of 10,000 images that passes 97 % at F = 0.3 and ends at 98.5 %."""
    points = []
    for f in np.geomspace(0.02, 20.0, 25):
        share = 0.985 * float(ndtr(2.18 + 2.4 * math.log(f / 0.3)))
        points.append(
            AccuracyPoint(float(f), (10_000 - round(10_000 * share), round(10_000 * share)))
        )
    return AccuracyCurve("0" * 64, "1" * 64, tuple(points))


CURVE = smooth_curve()


@pytest.fixture
def coarse_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the greatest F within 4 %, where a test does not look at it: it takes most of a plan."""
    monkeypatch.setattr(searching, "_F_ERROR", 0.04)


def planner(conditions: Conditions = LOSSLESS, labels: LabelCurve | None = None) -> Planner:
    return Planner(Search(conditions, labels), CURVE, Transmission(), Proof())


@pytest.mark.parametrize(
    ("gain", "photons", "weights", "data"),
    [(1.3, 0.57, 0.0039, 0.185), (1.02, 7.5, 0.0047, 0.0021)],
)
def test_the_known_settings_at_f_of_0_3(
    gain: float, photons: float, weights: float, data: float
) -> None:
    option = SEARCH.option(0.3, gain, 392)
    assert option is not None
    assert option.mean_photons == pytest.approx(photons, abs=0.01)
    assert option.weights_bits == pytest.approx(weights, abs=5e-5)
    assert option.data_bits == pytest.approx(data, rel=0.02)
    assert option.data_bits == pytest.approx(data_bits_journal(gain, 392, 784), rel=1e-12)


def test_the_least_leakage_of_weights_is_the_least_over_all_gains() -> None:
    best = SEARCH.least_weights(0.3, PlanLimits())
    assert best is not None
    tried = [SEARCH.option(0.3, float(gain), 392) for gain in 1.0 + np.geomspace(1e-3, 3.4, 400)]
    assert best.weights_bits <= min(one.weights_bits for one in tried if one is not None) * (
        1.0 + 1e-7
    )
    assert 1.2 < best.gain < 1.6


def test_a_limit_on_the_data_is_a_limit_on_the_gain() -> None:
    limits = PlanLimits(data_bits=0.0025)
    best = SEARCH.least_weights(0.3, limits)
    assert best is not None
    assert best.data_bits <= 0.0025
    assert best.data_bits == pytest.approx(0.0025, rel=1e-9)
    assert best.gain == SEARCH.greatest_gain(392, limits, 0.3)


def test_a_limit_on_the_weights_leaves_the_least_gain_that_keeps_it() -> None:
    found = SEARCH.least_data(0.3, PlanLimits(weights_bits=0.0045))
    assert found is not None
    assert found.weights_bits <= 0.0045
    assert found.weights_bits == pytest.approx(0.0045, rel=1e-6)
    less = SEARCH.option(0.3, 1.0 + 0.99 * (found.gain - 1.0), 392)
    assert less is not None
    assert less.weights_bits > 0.0045
    assert SEARCH.least_data(0.3, PlanLimits(weights_bits=0.001)) is None


def test_every_layer_gets_the_f_that_it_needs() -> None:
    """Lossy rotation, rows of 24 and 30 modes: the longer ones need more light for all."""
    conditions = replace(SMALL, rotation=Rotation(0.01))
    option = Search(conditions).option(0.3, 1.3, 30)
    assert option is not None
    settings = replace(
        ideal_session(option.mean_photons, 1.3, seed=0),
        channel=Channel(rotation=conditions.rotation, block_modes=30),
        receiver=conditions.receiver(1.3),
    )
    reached = [settings.signal_to_noise_of(modes) for modes in (24, 30)]
    assert min(reached) == pytest.approx(0.3, rel=1e-9)


@pytest.mark.parametrize(
    "conditions",
    [
        replace(LOSSLESS, loss_db=1.0),
        replace(LOSSLESS, technical_noise=0.01),
        replace(LOSSLESS, rotation=Rotation(1e-3)),
        replace(LOSSLESS, verifier=Homodyne(0.8, 0.1)),
        replace(LOSSLESS, kind=ReceiverKind.TAP, client=Homodyne(0.9, 0.05)),
    ],
    ids=["loss", "noise", "rotation", "verifier", "tap"],
)
def test_what_comes_back_is_what_a_session_expects(conditions: Conditions) -> None:
    """The evidence that pooling reckons with is a session's own expectation of honest use."""
    network = load_network("noise-aware")
    search = Search(conditions)
    option = search.option(0.3, 1.3, 392 if conditions.rotation == Rotation() else 100)
    assert option is not None
    settings = replace(
        ideal_session(option.mean_photons, 1.3, seed=0),
        channel=Channel(
            loss_db=conditions.loss_db,
            technical_noise=conditions.technical_noise,
            rotation=conditions.rotation,
            block_modes=option.block_modes,
        ),
        receiver=conditions.receiver(1.3),
        verifier=conditions.verifier,
    )
    session = Session(network, settings, ModeLink(settings))
    for _ in session.run(np.ones((1, 784), np.float32)):
        pass
    expected, found = session.expectation(), search.evidence(option)
    assert found.expectation.transmittance == pytest.approx(expected.transmittance, rel=1e-6)
    assert found.expectation.excess_noise == pytest.approx(expected.excess_noise, rel=1e-6)
    assert found.expectation.client_transmittance == pytest.approx(expected.client_transmittance)
    assert found.samples_per_image == sum(part.samples for part in session.server.evidence)


@pytest.mark.usefixtures("coarse_reach")
def test_the_plan_keeps_its_promises() -> None:
    wish = Wish(0.965, PlanLimits(weights_bits=0.006, data_bits=0.0025))
    plan = planner().plan(wish, front=False)
    found = plan.recommended
    assert found is not None
    assert found.accuracy_lower == pytest.approx(0.965, abs=1e-6)
    assert found.accuracy > found.accuracy_lower
    assert found.option.signal_to_noise == plan.reach.needed.upper > plan.reach.needed.value
    assert found.option.weights_bits <= 0.006
    assert found.option.data_bits <= 0.0025
    assert found.pool is not None
    assert found.pool.weights_bits_upper <= found.bound_bits == 2.0 * found.option.weights_bits
    seconds = found.pool.images * found.throughput.seconds_per_inference
    assert found.proof_s == pytest.approx(seconds + found.pool.calibration_samples / 20e6)
    assert plan.pool_to_limit is not None
    assert plan.pool_to_limit.weights_bits_upper <= 0.006
    assert found.repeats == 1


@pytest.mark.usefixtures("coarse_reach")
def test_the_front_holds_the_recommendation_and_nothing_better() -> None:
    plan = planner().plan(Wish(0.965, PlanLimits(data_bits=0.0025)))
    assert plan.recommended in plan.front
    for one in plan.front:
        for other in plan.front:
            pairs = list(zip(one.costs, other.costs, strict=True))
            assert one is other or any(a < b for a, b in pairs) or one.costs == other.costs
    assert len({round(one.accuracy_lower, 9) for one in plan.front}) == 5


@pytest.mark.usefixtures("coarse_reach")
def test_what_is_preferred_is_least() -> None:
    limits = PlanLimits(weights_bits=0.006, data_bits=0.6)
    found = [
        planner().plan(Wish(0.965, limits, prefer=which), front=False).recommended
        for which in Preference
    ]
    settings = [one for one in found if one is not None]
    assert len(settings) == len(Preference)
    costs = np.array([one.costs[1:] for one in settings])
    # A row for each preference, a column for what it has least of.
    assert np.all(costs.argmin(axis=0) == [0, 1, 2])
    assert np.all(costs[:, 0] <= 0.006)
    assert np.all(costs[:, 1] <= 0.6)


def test_what_cannot_be_had_says_what_can() -> None:
    wish = Wish(0.965, PlanLimits(weights_bits=0.003, data_bits=0.0025))
    plan = planner().plan(wish, front=False)
    reach = plan.reach
    assert plan.recommended is None
    assert plan.pool_to_limit is None
    assert reach.weights_within_data is not None
    assert reach.weights_within_data.weights_bits > 0.003
    assert reach.f_within_data == CURVE.most_f
    assert reach.f_within_weights is not None
    assert reach.f_within_all is not None
    assert reach.f_within_all < reach.f_within_weights < reach.needed.upper
    assert reach.compromise is not None
    assert reach.compromise.weights_bits == pytest.approx(0.003, rel=1e-4)
    assert SEARCH.within(reach.compromise, wish.limits)
    more = SEARCH.least_weights(reach.f_within_all * 1.001, wish.limits)
    assert not SEARCH.within(more, wish.limits)


def test_an_accuracy_beyond_the_network_needs_an_f_that_there_is_not() -> None:
    plan = planner().plan(Wish(0.99, PlanLimits()), front=False)
    assert plan.recommended is None
    assert plan.reach.needed.upper == math.inf
    assert plan.reach.accuracy_at_best == pytest.approx(0.983, abs=0.002)
    assert plan.reach.weights is None


def test_untrusted_loss_and_noise_are_named_as_what_limits() -> None:
    """1 dB that the client may hold dwarfs its clone's noise; so does noise of 0.01 SNU."""
    for changed, cause in (
        (LOSSLESS, "noise of the client's own clone"),
        (replace(LOSSLESS, loss_db=1.0), "untrusted loss of the link"),
        (replace(LOSSLESS, technical_noise=0.01), "untrusted technical noise"),
        (
            replace(LOSSLESS, rotation=Rotation(1e-3)),
            "loss in the client's rotation, untrusted always",
        ),
    ):
        option = Search(changed).option(0.25, 1.3, 392)
        assert option is not None
        assert planner(changed).shares(option).main == cause


def test_the_published_setting_leaks_1_832_bit_at_1_db() -> None:
    """mu = 4, G = 2: the share that trusting the loss takes away."""
    conditions = replace(LOSSLESS, loss_db=1.0)
    signal_to_noise = CloneReceiver(2.0, 1.0, IDEAL_HOMODYNE).signal_to_noise(4.0, 10**-0.05)
    option = Search(conditions).option(signal_to_noise, 2.0, 392)
    assert option is not None
    assert option.mean_photons == pytest.approx(4.0)
    shares = planner(conditions).shares(option)
    assert 2.0 * shares.weights_bits == pytest.approx(1.832, abs=5e-4)
    whole = weights_bits_per_mode(
        mean_photons=4.0,
        transmittance=10**-0.1,
        excess_noise=1.0 / 392,
        technical_noise=0.0,
        assumptions=Assumptions(Trust.TRUSTED, Trust.TRUSTED),
    )
    assert 2.0 * shares.trusting_loss == pytest.approx(whole, rel=1e-9)


def test_a_limit_on_label_reading_is_a_limit_on_the_gain_and_on_repeats() -> None:
    search = Search(LOSSLESS, LABELS)
    limits = PlanLimits(label_success=0.3)
    best = search.least_weights(0.3, limits)
    assert best is not None
    noise = 2.0 - 2.0 / best.gain
    assert best.label_evidence == pytest.approx(784 * noise**2 / (1.0 + noise))
    assert search.label_success(best.label_evidence) == pytest.approx(0.3, abs=1e-6)
    assert search.repeats(best, limits) == 1
    gentle = search.option(0.3, 1.005, 392)
    assert gentle is not None
    repeats = search.repeats(gentle, limits)
    assert repeats is not None
    assert search.label_success(repeats * gentle.label_evidence) <= 0.3
    assert search.label_success((repeats + 1) * gentle.label_evidence) > 0.3


@pytest.mark.parametrize(("gain_error", "expected"), [(0.002, 1.019), (0.005, 1.036)])
def test_a_mismatch_of_the_clone_has_a_gain_of_least_evidence(
    gain_error: float, expected: float
) -> None:
    """At fixed F more gain kicks more and less gain shows more light: g^3 = 1.25 delta^2 F Q."""
    search = Search(LOSSLESS, LABELS, CloneMismatch(-gain_error), 42.0)
    best = search.least_gain(0.228)
    assert best == pytest.approx(expected, abs=0.002)
    noise = 2.0 - 2.0 / best
    assert noise**3 == pytest.approx(1.25 * gain_error**2 * 0.228 * 42.0, rel=0.25)
    evidence = search.label_evidence(best, 0.228)
    assert evidence < search.label_evidence(1.0 + 0.5 * (best - 1.0), 0.228)
    assert evidence < search.label_evidence(1.0 + 2.0 * (best - 1.0), 0.228)


def test_no_gain_below_that_of_the_least_evidence_is_taken() -> None:
    search = Search(LOSSLESS, LABELS, CloneMismatch(0.005), 42.0)
    least = search.least_gain(0.3)
    light = search.least_data(0.3, PlanLimits())
    assert light is not None
    assert light.gain == pytest.approx(least)
    share = search.label_success(search.label_evidence(least, 0.3))
    assert search.least_weights(0.3, PlanLimits(label_success=share - 0.01)) is None
    within = search.least_weights(0.3, PlanLimits(label_success=share + 0.05))
    assert within is not None
    assert within.gain >= least
    assert search.label_success(within.label_evidence) <= share + 0.05
    matched = Search(LOSSLESS, LABELS).least_data(0.3, PlanLimits())
    assert matched is not None
    assert matched.gain == LEAST_GAIN


def test_repeats_within_a_label_limit_are_those_of_the_mismatched_clone() -> None:
    """By the curve's own account of the same reading; 0.1 % takes most of them away."""
    limits, counts = PlanLimits(label_success=0.3), []
    for mismatch in (CloneMismatch(), CloneMismatch(0.001)):
        search = Search(LOSSLESS, LABELS, mismatch, 42.0)
        option = search.option(0.3, 1.005, 392)
        assert option is not None
        reading = Reading(
            gain=1.005, rows=784, mismatch=mismatch, mode_photons=21.0 * option.mean_photons
        )
        repeats = search.repeats(option, limits)
        assert repeats == LABELS.repeats_within(0.3, reading)
        counts.append(repeats)
    assert 0 < 5 * counts[1] < counts[0]


def test_beyond_the_measured_curve_no_share_below_all_is_promised() -> None:
    """At most 95 %, above the last point's 90 %: as much evidence as was measured, no more."""
    search, limits = Search(LOSSLESS, LABELS), PlanLimits(label_success=0.95)
    last = LABELS.evidence[-1]
    assert search.label_success(last) < 0.95
    assert search.label_success(1.01 * last) == 1.0
    best = search.least_weights(4.0, limits)
    assert best is not None
    assert best.label_evidence <= last * (1.0 + 1e-6)
    assert search.repeats(best, limits) == int(last * (1.0 + 1e-6) / best.label_evidence)
    assert search.repeats(best, PlanLimits(label_success=1.0)) is None


def test_without_a_label_curve_a_limit_on_it_is_refused() -> None:
    with pytest.raises(SettingError, match="label curve"):
        SEARCH.least_weights(0.3, PlanLimits(label_success=0.5))


def test_labels_are_known_for_whole_rows_alone() -> None:
    lossy = replace(LOSSLESS, rotation=Rotation(1e-3))
    assert Search(lossy, LABELS).block_sizes == (392,)
    assert len(Search(lossy).block_sizes) > 10


@pytest.mark.parametrize("repeats", [1, 2, 7])
def test_repeats_add_up_to_the_limit_on_the_data(repeats: int) -> None:
    option = SEARCH.option(0.3, 1.02, 392)
    assert option is not None
    most = data_bits_journal(1.02, 392, repeats * 784)
    assert SEARCH.repeats(option, PlanLimits(data_bits=most)) == repeats
    assert SEARCH.repeats(option, PlanLimits(data_bits=0.999 * most)) == repeats - 1
    assert SEARCH.repeats(option, PlanLimits()) is None


BITS = st.floats(1e-4, 1.0)


@pytest.mark.usefixtures("coarse_reach")
def test_more_leakage_allowed_is_not_less_accuracy() -> None:
    """Of limits that bind alone or together; halvings of one range meet the same F."""
    wider_is_no_worse(0.003, 0.006, 0.0025, 0.02)


@pytest.mark.long
@hypothesis_settings(deadline=None, max_examples=6)
@given(BITS, BITS, BITS, BITS)
def test_more_leakage_allowed_is_never_less_accuracy(
    weights: float, more_weights: float, data: float, more_data: float
) -> None:
    wider_is_no_worse(weights, more_weights, data, more_data)


def wider_is_no_worse(weights: float, more_weights: float, data: float, more_data: float) -> None:
    def reached(limits: PlanLimits) -> float:
        return SEARCH.greatest_f(limits, CURVE.least_f, CURVE.most_f) or 0.0

    tight = PlanLimits(min(weights, more_weights), min(data, more_data))
    for wide in (
        replace(tight, weights_bits=max(weights, more_weights)),
        replace(tight, data_bits=max(data, more_data)),
    ):
        assert reached(tight) <= reached(wide) * (1.0 + 1e-5)


@hypothesis_settings(deadline=None, max_examples=15)
@given(st.floats(0.02, 20.0), st.floats(0.02, 20.0), st.one_of(st.none(), BITS))
def test_more_f_never_leaks_less_of_the_weights(
    one: float, other: float, data: float | None
) -> None:
    limits = PlanLimits(data_bits=data)
    low, high = (SEARCH.least_weights(f, limits) for f in sorted((one, other)))
    assert (low is None) == (high is None)
    if low is not None and high is not None:
        assert low.weights_bits <= high.weights_bits * (1.0 + 1e-6)


@hypothesis_settings(deadline=None, max_examples=4)
@given(st.floats(0.0, 3.0), st.floats(0.0, 0.05), st.floats(0.6, 1.0), st.floats(0.05, 2.0))
def test_a_setting_found_is_within_its_limits(
    loss_db: float, noise: float, efficiency: float, signal_to_noise: float
) -> None:
    search = Search(
        replace(
            SMALL,
            loss_db=loss_db,
            technical_noise=noise,
            client=Homodyne(efficiency, 0.05),
            rotation=Rotation(1e-3),
        )
    )
    limits = PlanLimits(data_bits=0.05)
    option = search.least_weights(signal_to_noise, limits)
    assert option is not None
    assert search.within(option, limits)
    assert option.signal_to_noise == signal_to_noise
    assert 1.001 <= option.gain <= MOST_GAIN
    bound = 2.0 * option.weights_bits
    pool = pool_for(search.evidence(option), bound, VerificationSettings())
    assert pool is None or pool.weights_bits_upper <= bound


@pytest.mark.parametrize("loss_db", [300.0, 1000.0])
def test_a_link_that_passes_nothing_leaves_no_setting(loss_db: float) -> None:
    plan = planner(replace(LOSSLESS, loss_db=loss_db)).plan(Wish(0.965, PlanLimits()))
    assert plan.recommended is None
    assert plan.front == ()
    assert plan.reach.f_within_all is None


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("accuracy", lambda: Wish(1.0, PlanLimits())),
        ("accuracy", lambda: Wish(math.nan, PlanLimits())),
        ("confidence", lambda: Wish(0.9, PlanLimits(), 0.3)),
        ("weights_bits", lambda: PlanLimits(weights_bits=0.0)),
        ("data_bits", lambda: PlanLimits(data_bits=math.nan)),
        ("label_success", lambda: PlanLimits(label_success=1.5)),
        ("factor", lambda: Proof(factor=1.0)),
        ("weights_bits", lambda: Proof(weights_bits=-1.0)),
        ("calibration_samples", lambda: Proof(calibration_samples=1)),
        ("loss_db", lambda: replace(LOSSLESS, loss_db=-1.0)),
        ("technical_noise", lambda: replace(LOSSLESS, technical_noise=math.nan)),
        ("layers", lambda: replace(LOSSLESS, layers=())),
        ("emission_factor", lambda: replace(LOSSLESS, emission_factor=0.5)),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(SettingError, match=name):
        wrong()


@pytest.mark.usefixtures("coarse_reach")
def test_what_a_limit_alone_allows_does_not_depend_on_copies() -> None:
    free = planner()
    search = replace(free.search, spares_copies=lambda option: False)
    wish = Wish(0.5, PlanLimits(weights_bits=0.3, data_bits=0.5))
    found, expected = replace(free, search=search).reach(wish), free.reach(wish)
    assert found.f_within_weights == expected.f_within_weights is not None
    assert found.f_within_data == expected.f_within_data is not None
    assert found.f_within_all is None
