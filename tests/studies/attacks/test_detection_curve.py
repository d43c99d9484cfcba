"""Detection curves: attacked sessions, counted, agree with the theory."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import SettingError
from labctl.studies.attacks.attack import Mark
from labctl.studies.attacks.catalogue import attack_of
from labctl.studies.attacks.chosen_inputs import ChosenInputs
from labctl.studies.attacks.detection import DetectionTheory
from labctl.studies.attacks.detection_cases import CASES, IDEAL, SEED, cases_of
from labctl.studies.attacks.detection_curve import (
    DetectionCurve,
    DetectionPoint,
    Rate,
    agreement_of,
    attacked_session,
    detection_curve,
    random_network,
    sessions_needed,
    sizes_for,
)
from labctl.studies.attacks.heterodyne_resend import HeterodyneResend
from labctl.studies.attacks.label_reading import LabelReading
from labctl.studies.attacks.local_oscillator import LocalOscillator

SMALL = (16, 12, 4)
_QUICK = ("heterodyne-resend", "tap", "local-oscillator-unwatched")


def test_counts_of_a_small_network_agree_with_theory() -> None:
    """40 sessions at three numbers of modes, seeds from 0: p above 1e-3."""
    network = random_network(SMALL, 1)
    attack = HeterodyneResend(0.1)
    curve = detection_curve(attack, network, IDEAL, (120, 240, 360), 40, (0.1,))
    found = agreement_of([curve])
    assert found.degrees == 3
    assert found.holds, found
    # They tell something: at a tenth of the modes the same counts would be far off.
    theory = DetectionTheory(attack, network, IDEAL)
    points = tuple(
        replace(p, theory=theory.power(curve.mark, p.modes // 10, 0.1).either) for p in curve.points
    )
    assert not agreement_of([replace(curve, points=points)]).holds


@pytest.mark.long
def test_counts_agree_with_theory() -> None:
    """24 sessions per point of three cases, seeds from 2026: p above 1e-3."""
    curves = [case.curve(SEED, scale=0.12) for case in cases_of(list(_QUICK))]
    found = agreement_of(curves)
    assert found.degrees >= 9
    assert found.holds, found
    # They tell something: at a tenth of the modes the same counts would be far off.
    fewer = [
        _with_theory_of_fewer_modes(curve, name) for curve, name in zip(curves, _QUICK, strict=True)
    ]
    assert not agreement_of(fewer).holds


def _with_theory_of_fewer_modes(curve: DetectionCurve, name: str) -> DetectionCurve:
    theory = CASES[name].theory(SEED)
    points = tuple(
        replace(p, theory=theory.power(curve.mark, p.modes // 10, p.false_alarm_probability).either)
        for p in curve.points
    )
    return replace(curve, points=points)


def test_a_curve_repeats_itself_and_its_points_share_no_session() -> None:
    network = random_network(SMALL, 1)

    def once(seed: int) -> DetectionCurve:
        asked = replace(IDEAL, seed=seed)
        return detection_curve(HeterodyneResend(0.5), network, asked, (120, 240), 12, (0.1, 1e-3))

    first = once(0)
    assert first == once(0)
    assert [p.images for p in first.points] == [1, 1, 2, 2]
    assert [p.modes for p in first.at(0.1)] == [120, 240]
    later = replace(IDEAL, seed=12)
    alone = detection_curve(HeterodyneResend(0.5), network, later, (240,), 12, (0.1, 1e-3))
    assert alone.points == first.points[2:]


def test_one_session_answers_for_all_alarms() -> None:
    network = random_network(SMALL, 1)
    found = detection_curve(HeterodyneResend(0.3), network, IDEAL, (1200,), 30, (1e-3, 0.1))
    strict, loose = found.points
    assert strict.pooled.caught <= loose.pooled.caught
    assert all(point.pooled.caught <= point.verdict.caught for point in found.points)
    assert strict.by_check["pooled noise"] <= strict.pooled.caught


def test_the_monitor_catches_what_pooled_checks_cannot() -> None:
    network = random_network(SMALL, 1)
    lossy = replace(IDEAL, channel=replace(IDEAL.channel, loss_db=1.0))
    found = detection_curve(LocalOscillator(0.05), network, lossy, (1200,), 10, (1e-6,)).points[0]
    assert (found.pooled.caught, found.verdict.caught) == (0, 10)
    assert found.by_check["shot noise"] == 10


def test_a_session_is_that_of_its_seed() -> None:
    network = random_network(SMALL, 1)
    attack = HeterodyneResend(0.3)
    one, same, other = (
        attacked_session(attack, network, replace(IDEAL, seed=seed), 3) for seed in (5, 5, 6)
    )
    assert one == same != other
    assert one.samples == 3 * 120


def test_progress_is_told_session_by_session() -> None:
    told: list[int] = []
    detection_curve(
        ChosenInputs(1.0),
        random_network(SMALL, 1),
        IDEAL,
        (100, 130, 500),
        3,
        (1e-3,),
        on_session=told.append,
    )
    # 100 and 130 modes are both one image.
    assert told == [1] * 6
    assert sessions_needed(120, (100, 130, 500), 3) == 6


@given(st.integers(12, 10**7))
@settings(deadline=None)
def test_the_network_for_few_modes_is_the_largest_that_fits(modes: int) -> None:
    inputs, rows, classes = sizes_for(modes)
    assert (inputs, classes) == (rows, 10)
    assert inputs % 2 == 0
    per_image = inputs // 2 * (rows + 10)
    assert per_image <= modes < (inputs + 2) // 2 * (inputs + 12)


@given(st.integers(0, 60), st.integers(1, 60))
@settings(deadline=None)
def test_an_interval_holds_its_count(caught: int, sessions: int) -> None:
    rate = Rate(min(caught, sessions), sessions)
    assert 0.0 <= rate.lower <= rate.measured <= rate.upper <= 1.0
    assert rate.p_value(rate.measured) == pytest.approx(1.0)


def test_intervals_by_hand() -> None:
    """None of 10: 1 - 0.025^(1/10) (Clopper and Pearson)."""
    assert Rate(0, 10).upper == pytest.approx(1.0 - 0.025**0.1)
    assert Rate(10, 10).lower == pytest.approx(0.025**0.1)


def curve_of(*counts: tuple[float, float, int]) -> DetectionCurve:
    """Return a curve of 100 sessions per point: alarms, theory, caught; images count upwards."""
    points = tuple(
        DetectionPoint(1, 10, alarm, theory, Rate(caught, 100), Rate(caught, 100), {})
        for alarm, theory, caught in counts
    )
    return DetectionCurve("x", 1.0, Mark(), (2, 2), IDEAL, points)


def test_agreement_by_hand() -> None:
    """Of 100 sessions 60 at 0.5: chi-square 4. Of these 60, 30 with 0.25/0.5 = 1/2 expected: 0."""
    found = agreement_of([curve_of((1e-6, 0.25, 30), (1e-3, 0.5, 60))])
    assert found.chi_square == pytest.approx(4.0)
    assert (found.degrees, found.counts) == (2, 2)
    assert found.p_value == pytest.approx(0.1353, abs=1e-4)
    assert found.holds
    assert not agreement_of([curve_of((1e-3, 0.5, 75))]).holds


def test_a_count_that_cannot_be_is_no_agreement() -> None:
    assert not agreement_of([curve_of((1e-3, 0.0, 1))]).holds
    assert not agreement_of([curve_of((1e-3, 1.0, 99))]).holds
    assert agreement_of([curve_of((1e-3, 0.0, 0), (1e-6, 0.0, 0))]).holds


def test_what_cannot_be_counted_is_refused() -> None:
    network, attack = random_network(SMALL, 0), HeterodyneResend(0.1)
    for modes, sessions, alarms, said in (
        ((), 1, (0.1,), "modes"),
        ((1,), 1, (0.1,), "modes"),
        ((10**12,), 1, (0.1,), "modes"),
        ((100,), 0, (0.1,), "sessions"),
        ((100,), 1, (), "false-alarm"),
        ((100,), 1, (1.5,), "false_alarm"),
    ):
        with pytest.raises(SettingError, match=said):
            detection_curve(attack, network, IDEAL, modes, sessions, alarms)
    reading = attack_of("label-reading")
    assert isinstance(reading, LabelReading)
    with pytest.raises(SettingError, match="server's own"):
        detection_curve(reading, network, IDEAL, (100,), 1, (0.1,))
    with pytest.raises(SettingError, match="sizes"):
        random_network((5,), 0)
    with pytest.raises(SettingError, match="modes"):
        sizes_for(11)
    with pytest.raises(SettingError, match="curves"):
        agreement_of([])
    with pytest.raises(SettingError, match="one of over-gain"):
        cases_of(["nothing"])


def test_every_case_can_be_run_and_no_two_share_a_seed() -> None:
    theories = [case.theory(SEED) for case in CASES.values()]
    seeds = [theory.settings.seed for theory in theories]
    most = max(case.sessions * len(case.modes) for case in CASES.values())
    assert min(after - before for before, after in pairwise(seeds)) > most
    assert {case.left_out is None for case in CASES.values()} == {True, False}
