"""A budget in accuracy of the best copy: counted over all queries of an account, under its lock."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import BudgetError
from labctl.protocols.copies.figure import QuerySpend
from labctl.protocols.copies.table import (
    CLASSES_ALONE,
    CopyPoint,
    CopyTable,
    Order,
    ServedNetwork,
)
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, LayerShape, Trust, leakage_of
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.copy_account import CopyBudget, CopyMeans
from labctl.protocols.ledger.run import Ledgers, RunLedger
from labctl.protocols.ledger.run_facts import RunFacts
from labctl.protocols.ledger.server_books import ServerBooks
from labctl.protocols.settings import VerificationSettings
from labctl.protocols.verification.collective_record import CollectiveRecord
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.verdict import VerificationReport, no_verification

SHA = "0" * 64
SHAPES = (LayerShape(rows=12, modes=8, inputs=16), LayerShape(rows=4, modes=6, inputs=12))
IMAGES: Floats = np.random.default_rng(3).random((40, 16), dtype=np.float32)
WEAK = CopyMeans(QuerySpend(0.15, 0.05), Order.FIXED)
STRONG = CopyMeans(QuerySpend(0.6, 0.4), Order.FIXED)
UNSEEN = CopyMeans(None, Order.FIXED)


def point(attack: str, queries: int, spend: float, accuracy: float) -> CopyPoint:
    return CopyPoint(
        network_sha256=SHA,
        order=Order.FIXED,
        attack=attack,
        queries=queries,
        spend=spend,
        accuracy=accuracy,
        standard_error=1e-6,
        seeds=1,
    )


# A copy of half the images at a total spend of 1, of seven in ten at 2, of nine in ten at 4.
TABLE = CopyTable(
    command="by hand",
    public="some",
    judged="others",
    network=(ServedNetwork(name="by-hand", sha256=SHA, accuracy=0.95),),
    point=(
        point(CLASSES_ALONE, 100, 0.0, 0.2),
        *(
            point("principal-modes", 1, spend, share)
            for spend, share in ((1.0, 0.5), (2.0, 0.7), (4.0, 0.9))
        ),
    ),
)


class Looking(ServerBooks):
    """Has looked at all light that comes back, and keeps nothing of it."""

    def keep(
        self, record: CollectiveRecord, evidence: Sequence[LayerEvidence], doubts: Doubts = EXACT
    ) -> bool:
        return True


def books_of(folder: Path, means: CopyMeans, *, model: str = SHA) -> RunLedger:
    leakage = leakage_of(
        SHAPES,
        mean_photons=0.57,
        gain=1.3,
        transmittance=1.0,
        technical_noise=0.0,
        assumptions=Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED),
        emission_factor=1.0,
    )
    facts = RunFacts(model, SHAPES, 0.57, leakage, {"mu": 0.57}, "run.h5", copies=means)
    books = RunLedger(Ledgers.in_folder(folder, "alice"), facts)
    books.server = Looking(books.server.ledger, "alice", facts)
    books.server.copies = CopyBudget(model, means, TABLE)
    return books


def limited(books: RunLedger, accuracy: float) -> RunLedger:
    books.ledgers.server.set_budget(books.account, {Meter.COPY_ACCURACY: accuracy})
    return books


PASSED = replace(no_verification(VerificationSettings()), accepted=True)


def send(books: RunLedger, images: Floats, verdict: VerificationReport = PASSED) -> None:
    with books.sending(images) as batch:
        batch.book(verdict, CollectiveRecord(), ())


def queries_of(books: RunLedger) -> int:
    return round(books.ledgers.server.balance(books.account).taken.value(Meter.QUERIES))


def test_a_run_stops_before_the_query_that_would_make_too_good_a_copy(tmp_path: Path) -> None:
    books = limited(books_of(tmp_path / "ledger", WEAK), 0.71)
    # 0.2 in each query: a total of 2 after ten.
    assert books.fitting(IMAGES) == 10
    send(books, IMAGES[:9])
    send(books, IMAGES[9:10])
    with pytest.raises(BudgetError, match=r"best copy after 11 queries.*of 0\.71 allowed; 0 more"):
        send(books, IMAGES[10:11])
    assert queries_of(books) == 10
    assert books.server.best_copy().accuracy == pytest.approx(0.7, abs=1e-4)
    assert books.server.best_copy().classes_alone == pytest.approx(0.2)


def test_queries_count_at_the_worst_spend_so_far(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    send(books_of(folder, STRONG), IMAGES[:1])
    later = limited(books_of(folder, WEAK), 0.71)
    assert later.fitting(IMAGES) == 1, "a second query counts as if it were of spend 1 too"
    send(later, IMAGES[:1])
    with pytest.raises(BudgetError):
        send(later, IMAGES[:1])


def test_several_at_a_time_never_send_more_than_fits(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    limited(books_of(folder, WEAK), 0.71)

    def spend(place: int) -> int:
        books, sent = books_of(folder, WEAK), 0
        for _ in range(4):
            try:
                send(books, IMAGES[place : place + 1])
            except BudgetError:
                break
            sent += 1
        return sent

    with ThreadPoolExecutor(6) as pool:
        counts = list(pool.map(spend, range(6)))
    # While one is out nobody knows what a thief has of it, and another may be refused.
    assert 1 <= sum(counts) <= 10
    assert queries_of(books_of(folder, WEAK)) == sum(counts)


@pytest.mark.parametrize("how", ["killed", "interrupted", "rejected", "unverified"])
def test_light_that_passed_no_verdict_ends_a_budget_in_accuracy(tmp_path: Path, how: str) -> None:
    """A client may have kept all of it, even if the settings let an accepted one spend."""
    books = limited(books_of(tmp_path / "ledger", WEAK), 0.71)
    send(books, IMAGES[:1])
    if how == "killed":
        books._reserve(IMAGES[1:3])
    elif how == "interrupted":
        with pytest.raises(KeyboardInterrupt), books.sending(IMAGES[1:3]):
            raise KeyboardInterrupt
    else:
        accepted = False if how == "rejected" else None
        send(books, IMAGES[1:3], replace(PASSED, accepted=accepted))
    assert books.server.best_copy().accuracy is None
    with pytest.raises(BudgetError, match="2 of 4 queries did not pass a verdict"):
        send(books, IMAGES[3:4])


def test_what_was_released_is_free_again_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    strong, weak = books_of(folder, STRONG), limited(books_of(folder, WEAK), 0.71)
    batch = strong._reserve(IMAGES[:2])
    with pytest.raises(BudgetError):
        send(weak, IMAGES[:1])
    batch.release("no light was sent")
    send(weak, IMAGES[:10])
    assert weak.fitting(IMAGES) == 0


def test_queries_of_which_nothing_is_known_end_every_budget(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    send(books_of(folder, UNSEEN), IMAGES[:3])
    books = limited(books_of(folder, WEAK), 0.94)
    assert books.server.best_copy().accuracy is None
    with pytest.raises(BudgetError, match="3 of 4 queries did not pass a verdict"):
        send(books, IMAGES[:1])


def test_a_model_that_was_not_measured_has_a_reason_in_place_of_a_figure(tmp_path: Path) -> None:
    books = books_of(tmp_path / "ledger", WEAK, model="1" * 64)
    send(books, IMAGES[:1])
    found = books.server.best_copy()
    assert found.accuracy is None
    assert "was measured" in (found.reason or "")
