"""Bounds of sessions with hidden constants: they hold as stated, exact ones do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.studies.coverage.bounds import PROBABILITIES, Case, Count, cases_of, counted, run

SESSIONS = 150


@pytest.fixture(scope="module")
def counts() -> dict[tuple[str, float], Count]:
    return {(one.name, one.probability): one for one in run(range(SESSIONS))}


def test_bounds_fail_no_more_often_than_stated(counts: dict[tuple[str, float], Count]) -> None:
    # 150 sessions: 5 % are 7.5 +- 2.7, so that 17 would be too many with 99.9 %; docs have more.
    for name in ("transmittance", "excess_noise", "mean_photons", "share", "client_noise"):
        for probability in PROBABILITIES:
            assert counts[name, probability].holds
    assert counts["together", 0.05].failures < 17
    assert counts["together", 0.005].failures < 5


def test_constants_taken_as_exact_fail_in_a_third_and_more(
    counts: dict[tuple[str, float], Count],
) -> None:
    for probability in PROBABILITIES:
        exact = counts["as_exact", probability]
        assert exact.failures > SESSIONS / 3
        assert not exact.holds


def test_a_session_is_that_of_its_seed_alone() -> None:
    assert cases_of(7) == cases_of(7)
    assert [case.probability for case in cases_of(7)] == list(PROBABILITIES)


def test_failures_are_counted_by_bound_and_probability() -> None:
    held = Case(0.05, True, True, True, True, True, True, True)
    found = counted([held, replace(held, share=False, together=False), held])
    by_name = {one.name: one for one in found if one.probability == 0.05}
    assert by_name["share"].failures == by_name["together"].failures == 1
    assert by_name["transmittance"].failures == 0
    # Clopper and Pearson: one of three is anything from 0.8 % to 91 %.
    assert by_name["share"].low == pytest.approx(0.0084, abs=1e-4)
    assert by_name["share"].high == pytest.approx(0.9057, abs=1e-4)
