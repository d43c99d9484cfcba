"""Counting: shares, what chance leaves open, pulls, and a table that says no."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.calibration.quantity import Quantity
from labctl.studies.coverage.benches import BenchResult, Case
from labctl.studies.coverage.count import cells, counted, markdown


def results(pulls: list[float], truth: float | None = 5.0) -> list[BenchResult]:
    return [
        BenchResult(seed, (Case("toy", "server.x_v", Quantity(5.0 + pull, 1.0, "V"), truth),), {})
        for seed, pull in enumerate(pulls)
    ]


@given(st.lists(st.floats(-4.0, 4.0), min_size=1, max_size=60))
@settings(deadline=None)
def test_intervals_hold_what_is_within_1_96(pulls: list[float]) -> None:
    (row,) = counted(results(pulls)).rows
    inside = sum(abs((5.0 + pull) - 5.0) <= 1.959963984540054 for pull in pulls)
    assert (row.covered, row.cases) == (inside, len(pulls))
    assert row.share_low <= row.share <= row.share_high
    assert row.mean_pull == pytest.approx(sum(pulls) / len(pulls), abs=1e-9)
    assert row.rms_pull == pytest.approx(
        math.sqrt(sum(pull**2 for pull in pulls) / len(pulls)), abs=1e-9
    )


@pytest.mark.parametrize(
    ("outside", "verdict"),
    [(0, "no"), (3, "no, by chance?"), (4, "yes"), (20, "yes"), (21, "no, by chance?"), (40, "no")],
)
def test_the_band_is_90_to_98_percent(outside: int, verdict: str) -> None:
    """Of 200; 0 misses exclude 98 % (1.8 % at most), 40 exclude 90 % (14.7 % at least)."""
    (row,) = counted(results([3.0] * outside + [0.0] * (200 - outside))).rows
    assert row.verdict == verdict
    assert row.in_band == (verdict == "yes")
    assert cells(row)[2] == f"{200 - outside} / 200"


@pytest.mark.parametrize(("failed", "verdict"), [(0, "yes"), (10, "yes"), (14, "no, by chance?")])
def test_a_bound_holds_at_least_as_often_as_stated(failed: int, verdict: str) -> None:
    """Of 200 at 5 %: none too few is wrong, 10 are as stated."""
    bound = Quantity(0.8, 0.0, "1")
    cases = [
        BenchResult(seed, (Case("session", "session.t_lower", bound, 0.9, seed >= failed),), {})
        for seed in range(200)
    ]
    (row,) = counted(cases).rows
    assert row.covered == 200 - failed
    assert row.verdict == verdict
    assert row.is_bound


def test_chance_is_that_of_clopper_and_pearson() -> None:
    """190 of 200: 91.0 % to 97.6 %, as in tables of the beta distribution."""
    (row,) = counted(results([3.0] * 10 + [0.0] * 190)).rows
    assert (row.share_low, row.share_high) == pytest.approx((0.9100, 0.9758), abs=1e-4)


def test_degrees_of_freedom_widen_the_interval() -> None:
    few = Quantity.of(7.5, "V", {"readings": 1.0}, degrees_of_freedom=4.0)
    many = Quantity.of(7.5, "V", {"readings": 1.0})
    assert Case("toy", "server.x_v", few, 5.0).covered
    assert not Case("toy", "server.x_v", many, 5.0).covered


def test_what_has_no_truth_is_named_and_not_counted() -> None:
    found = counted(results([0.0], truth=None))
    assert found.rows == ()
    assert found.unjudged == {"server.x_v": "no truth is known"}
    exact = Case("toy", "server.x_v", Quantity(5.0, 0.0, "V"), 5.0)
    assert exact.pull == 0.0


def test_refusals_count_with_their_first_complaint() -> None:
    refused = [BenchResult(seed, (), {"toy": f"dark on {seed}"}) for seed in range(3)]
    found = counted([*refused, *results([0.0])])
    (refusal,) = found.refusals
    assert (refusal.routine, str(refusal)) == ("toy", "3: dark on 0")
    assert found.rows[0].cases == 1
    assert found.benches == 4


def test_the_table_is_markdown_with_its_command() -> None:
    setting = Case("toy", "server.noise_range_v", Quantity(1.0, 0.0, "V"), None)
    found = counted(
        [
            *results([0.0] * 19 + [3.0]),
            BenchResult(8, (setting,), {}),
            BenchResult(9, (), {"other": "no light"}),
        ]
    )
    text = markdown(found, "labctl calibration coverage")
    assert text.startswith("`labctl calibration coverage`\n\n| routine | quantity |")
    assert "| toy | server.x_v | 19 / 20 | 95.0 % | 75.1 to 99.9 % | +0.15 | 0.67 | yes |" in text
    assert "- `server.noise_range_v`: a setting, without uncertainty" in text
    assert "- other, 1: no light" in text
    assert text.endswith("\n")
    assert text == markdown(found, "labctl calibration coverage")


def test_the_pull_beside_a_limit_counts_the_side_towards_the_truth() -> None:
    quantity = Quantity(1.0, 0.5, "V", span=(1.0 - 1.96, 1.0 + 3.92))
    assert Case("toy", "server.x_v", quantity, 3.0).pull == pytest.approx(-1.0, rel=1e-3)
    assert Case("toy", "server.x_v", quantity, 0.0).pull == pytest.approx(1.0, rel=1e-3)
    assert Case("toy", "server.x_v", Quantity(1.0, 0.5, "V", span=(0.0, 1.0)), 1.0).pull == 0.0
