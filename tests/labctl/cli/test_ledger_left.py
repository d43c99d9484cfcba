"""What `labctl ledger show` says is left is what a run then gets, for budgets drawn at random."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ledger_runs import UNSEEN, facts
from typer.testing import CliRunner

from labctl.cli.ledger import app
from labctl.cli.ledger_shown import _failure_words, by_name
from labctl.errors import BudgetError
from labctl.protocols.copies.figure import QuerySpend
from labctl.protocols.copies.table import Order
from labctl.protocols.ledger.amounts import Amounts, Meter
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.ledger.copy_account import CopyMeans
from labctl.protocols.ledger.cumulative_account import CumulativeAccount
from labctl.protocols.ledger.further import QueryTerms
from labctl.protocols.ledger.run import Ledgers, RunLedger


def left_by_show(folder: Path) -> int | None:
    result = CliRunner().invoke(app, ["show", "--ledger", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    (account,) = json.loads(result.stdout)["server"]["accounts"]
    assert account["queries_left_known"]
    left = account["queries_left"]
    assert left is None or isinstance(left, int)
    return left


@pytest.mark.parametrize("seed", range(12))
def test_what_is_shown_as_left_is_what_a_run_gets(seed: int, tmp_path: Path) -> None:
    """Random budgets, light, bases and sends; each run is booked as kept, as nobody looked."""
    random = np.random.default_rng(seed)
    ledgers = Ledgers.in_folder(tmp_path / "ledger", "alice")
    basis = Basis.HONEST if random.random() < 0.3 else Basis.EVERYTHING
    books = RunLedger(ledgers, facts(basis, float(10.0 ** random.uniform(-1.0, 1.0))))
    limits = {
        Meter.WEIGHT_BITS: float(random.uniform(0.5, 4.0)),
        Meter.TOTAL_BITS: float(random.uniform(50.0, 800.0)),
        Meter.QUERIES: float(random.integers(2, 60)),
    }
    kept = [meter for meter in limits if random.random() < 0.6] or [Meter.WEIGHT_BITS]
    ledgers.server.set_budget(books.account, {meter: limits[meter] for meter in kept})
    images = random.random((80, 16), dtype=np.float32)
    sent = 0
    for _ in range(3):
        wanted = int(random.integers(1, 4))
        if books.fitting(images[:wanted]) < wanted:
            continue
        with books.sending(images[sent : sent + wanted]) as batch:
            batch.book(UNSEEN)
        sent += wanted
        shown = left_by_show(tmp_path / "ledger")
        assert shown == books.server.state()["queries_left"]
    if not sent:
        with pytest.raises(BudgetError), books.sending(images[:3]):
            pass
        return
    left = left_by_show(tmp_path / "ledger")
    assert left is not None
    if left < 80:
        with pytest.raises(BudgetError), books.sending(images[: left + 1]):
            pass
    if 0 < left <= 80:
        with books.sending(images[:left]) as batch:
            batch.release("no light was sent")


def test_terms_are_read_back_as_they_were_noted() -> None:
    terms = facts().query_terms
    copies = CopyMeans(QuerySpend(0.25, 0.5), Order.FRESH)
    for each in (terms, replace(terms, copies=copies, worst_case=Basis.HONEST)):
        assert QueryTerms.of_json(json.loads(json.dumps(each.as_json()))) == each


def test_without_a_limit_nothing_is_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on a billion queries takes long; with a budget in queries alone it is not asked."""
    ledgers = Ledgers.in_folder(tmp_path / "ledger", "alice")
    books = RunLedger(ledgers, facts())
    images = np.zeros((1, 16), np.float32)
    with books.sending(images) as batch:
        batch.book(UNSEEN)

    def refuse(*_: object) -> float:
        raise AssertionError("the bound was worked out")

    monkeypatch.setattr(CumulativeAccount, "bits", refuse)
    assert left_by_show(tmp_path / "ledger") is None
    ledgers.server.set_budget(books.account, {Meter.QUERIES: 60.0})
    assert left_by_show(tmp_path / "ledger") == 59


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (0.0, "no bound was charged"),
        (2e-10, "hold together except with probability 2e-10"),
        (33.6, "hold with no certainty"),
    ],
)
def test_for_people_it_is_said_what_the_charged_bounds_may_fail_with(
    failure: float, expected: str
) -> None:
    shown = by_name(Amounts.of({Meter.FAILURE_PROBABILITY: failure}))
    # The ledger keeps the sum; people read the union bound.
    assert shown == {"failure_probability_union_bound": min(failure, 1.0)}
    assert expected in _failure_words(shown)
