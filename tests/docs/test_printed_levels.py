"""What the page says of networks with few levels is what their sessions give, run again."""

from __future__ import annotations

import re
from functools import cache

import pytest
from level_networks import CASES, Case, Read, read, rounded
from printed_tables import Bound, assert_printed, table_of, text_of

from labctl.protocols.weight_search import look_at

# One of each kind runs with the quick suite: accepted and read, rejected, a share of the modes.
QUICK = (CASES[0], CASES[2], CASES[4])
_again = cache(read)


def rows() -> dict[str, list[str]]:
    """Return the rows of the page by network, μ and queries."""
    return {
        f"{title} {mu} {queries}": [levels, apart, *rest]
        for title, levels, apart, mu, queries, *rest in table_of(
            "docs/attacks.md", "rounded network"
        )
    }


def named(case: Case) -> str:
    return f"{case.title} {case.mu:g} {case.queries}"


def assert_row(case: Case, found: Read) -> None:
    levels, apart, wrong, bits, printed, copy, noise, verdict = rows()[named(case)]
    seen = found.verdict
    assert seen.excess_noise is not None
    assert seen.excess_noise_standard_error is not None
    assert verdict == ("accepted" if seen.accepted else "rejected")
    assert_printed(
        {
            "levels": (levels, [found.levels]),
            "apart": (apart, [found.apart]),
            "wrong": (wrong.replace(",", ""), [found.wrong * found.weights, found.weights]),
            "bits": (bits, [found.bits]),
            "printed": (printed, [Bound(found.prior_free)]),
            "copy": (copy, [100.0 * found.copy]),
            "noise": (noise, [seen.excess_noise, seen.excess_noise_standard_error]),
        }
    )


def test_each_case_has_its_row() -> None:
    assert set(rows()) == {named(case) for case in CASES}


@pytest.mark.parametrize("case", QUICK, ids=named)
def test_the_row_is_that_of_its_session(case: Case) -> None:
    assert_row(case, _again(case))


@pytest.mark.long
@pytest.mark.parametrize("case", [one for one in CASES if one not in QUICK], ids=named)
def test_the_other_rows_are_those_of_their_sessions(case: Case) -> None:
    assert_row(case, _again(case))


def test_a_run_refuses_the_network_that_is_read_unseen() -> None:
    assert look_at(rounded(CASES[0].model, CASES[0].step), CASES[0].mu).told_apart


def test_the_page_for_whoever_signs_says_how_many_were_mistaken() -> None:
    page = re.sub(r"\s+", " ", text_of("docs/protection.md"))
    ((levels, wrong, weights),) = re.findall(
        r"(\d+) levels read with (\d+) weight in ([\d,]+) mistaken", page
    )
    found = _again(CASES[0])
    assert found.verdict.accepted
    assert_printed(
        {
            "levels": (levels, [found.levels]),
            "wrong": (wrong, [found.wrong * found.weights]),
            "weights": (weights.replace(",", ""), [found.weights]),
        }
    )
