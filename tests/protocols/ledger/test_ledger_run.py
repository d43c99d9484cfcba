"""One run in the ledgers: reserved before light is sent, booked by what came back."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from ledger_runs import GAIN, IMAGES, MU, UNSEEN, facts, kept, leakage
from long_tests import long
from sessions import ideal_session

from labctl.data.models import Network
from labctl.errors import BudgetError, RecordError, SettingError, UsageError
from labctl.protocols.encoding import Floats
from labctl.protocols.ledger.accounts import ANY
from labctl.protocols.ledger.amounts import Meter, bits_of_information, information_of_bits
from labctl.protocols.ledger.charges import Basis, data_charge
from labctl.protocols.ledger.entries import Committed, Reserved
from labctl.protocols.ledger.run import Ledgers, RunLedger
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.session import Session
from labctl.protocols.verification.collective_bounds import LIGHT_SHARE
from labctl.protocols.verification.doubts import Doubts, Source

BITS, QUERIES = Meter.WEIGHT_BITS, Meter.QUERIES
# So large that a few hundred readings bound anything.
FAILURE = 0.4
NETWORK = Network(
    tuple(
        np.random.default_rng(8).standard_normal(shape).astype(np.float32)
        for shape in ((12, 16), (4, 12))
    ),
    "small",
    {},
)
SETTINGS = ideal_session(MU, GAIN, seed=4)


def session_of(seed: int = 4) -> Session:
    settings = replace(SETTINGS, seed=seed)
    return Session(NETWORK, settings, ModeLink(settings))


def send(books: RunLedger, session: Session, images: Floats) -> None:
    """Reserve, send and book images whose returned light is looked at."""
    with books.sending(images) as batch:
        list(session.run(images))
        batch.book(session.verdict(figures=False), session.record(), session.server.evidence)


def allow(books: RunLedger, bits: float) -> None:
    """Set the budget of a run's account as the server's operator."""
    ledgers = books.ledgers
    ledgers.allow(books.facts.model_sha256, bits, ledgers.server.operator())


@pytest.fixture
def run(ledgers: Ledgers) -> Callable[..., RunLedger]:
    def start(worst_case: Basis = Basis.EVERYTHING, **changes: Any) -> RunLedger:
        changes = {"failure_probability": FAILURE, **changes}
        return RunLedger(ledgers, replace(facts(worst_case), **changes))

    return start


def test_all_queries_of_a_client_that_keeps_the_light_are_one_bright_mode(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    n = 5 * MU
    entropy = (n + 1) * math.log2(n + 1) - n * math.log2(n)
    books = run()
    for count in (2, 3):
        with books.sending(IMAGES[:count]) as batch:
            batch.book(UNSEEN)
    spent = ledgers.server.balance(books.account).spent
    assert spent.value(BITS) == pytest.approx(entropy / 2, rel=1e-9)
    assert spent.value(Meter.TOTAL_BITS) == pytest.approx(entropy * (12 * 8 + 4 * 6))
    assert spent.value(Meter.PHOTONS) == pytest.approx(5 * MU)
    assert books.server.state()["basis"] == "everything"


def test_a_batch_is_reserved_at_its_worst_and_booked_at_the_bound(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books, session = run(), session_of()
    with books.sending(IMAGES[:3]) as batch:
        reserved = ledgers.server.balance(books.account).reserved.value(BITS)
        assert reserved == pytest.approx(kept(3))
        list(session.run(IMAGES[:3]))
        batch.book(session.verdict(figures=False), session.record(), session.server.evidence)
    balance = ledgers.server.balance(books.account)
    assert 0.0 < balance.spent.value(BITS) <= kept(3) * (1.0 + 1e-9)
    assert balance.spent.value(BITS) == pytest.approx(books.server.cumulative().bits(3 * MU))
    assert (balance.spent.value(QUERIES), balance.reserved.unit(BITS)) == (3, 0)
    committed = list(ledgers.server.entries())[-1]
    assert isinstance(committed, Committed)
    assert committed.about["basis"] == "collective"
    assert committed.about["assumptions"]["loss"] == "untrusted"
    assert committed.about["run_file"] == "run.h5"
    assert committed.about["verdict"]["accepted"] is True


def test_an_account_stands_at_the_highest_bound_of_all_its_light(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    highest, number = 0.0, 0
    for seed in (4, 5, 6):
        books, session = run(), session_of(seed)
        session.history = books.server.history()
        for first in (0, 4):
            send(books, session, IMAGES[first : first + 4])
            number += 1
            highest = max(highest, books.server.cumulative().bits(4 * number * MU))
            spent = ledgers.server.balance(books.account).spent
            assert spent.value(BITS) == pytest.approx(highest)
            assert spent.value(Meter.FAILURE_PROBABILITY) == pytest.approx(number * FAILURE)
    (kept_sums,) = books.server.store.kept(books.account)
    assert (kept_sums.sums.queries, len(kept_sums.sums.parts)) == (24, 3)


def test_light_that_nobody_looked_at_lies_beside_that_which_came_back(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    send(books, session_of(), IMAGES[:4])
    before = ledgers.server.balance(books.account).spent.value(BITS)
    with books.sending(IMAGES[4:6]) as batch:
        batch.book(UNSEEN)
    spent = ledgers.server.balance(books.account).spent.value(BITS)
    assert before < spent <= kept(6) * (1.0 + 1e-9)
    assert spent == pytest.approx(books.server.cumulative().bits(6 * MU))


def test_what_is_taken_never_lies_below_the_bound_of_all_light(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    """Two runs of one client at a time, in any order of reserving, booking and breaking off."""
    random = np.random.default_rng(10)
    runs = [(run(), session_of(seed)) for seed in (4, 5)]
    account = runs[0][0].account
    allow(runs[0][0], 4.0)
    for _ in range(6):
        opened = []
        for books, session in runs:
            count = min(books.fitting(IMAGES[:4]), int(random.integers(1, 4)))
            if count:
                manager = books.sending(IMAGES[:count])
                opened.append((manager, manager.__enter__(), session, IMAGES[:count]))
                balance = ledgers.server.balance(account)
                bound = books.server.cumulative().bits(balance.taken.value(Meter.PHOTONS))
                assert balance.taken.value(BITS) >= bound * (1.0 - 1e-9)
        order = random.permutation(len(opened))
        for index in order:
            manager, batch, session, images = opened[index]
            what = random.integers(3)
            list(session.run(images))
            before = ledgers.server.balance(account).taken.value(BITS)
            if what == 0:
                batch.book(UNSEEN)
            elif what == 1:
                batch.book(
                    session.verdict(figures=False), session.record(), session.server.evidence
                )
            manager.__exit__(None, None, None)
            balance = ledgers.server.balance(account)
            bound = runs[0][0].server.cumulative().bits(balance.taken.value(Meter.PHOTONS))
            taken = balance.taken.value(BITS)
            # What stood there before was a bound of the same light: the lower of two may be booked.
            assert taken >= min(bound, before) * (1.0 - 1e-9)
            assert taken <= before * (1.0 + 1e-9)
            assert taken <= 4.0
    assert ledgers.server.balance(account).reserved.unit(BITS) == 0


def test_reserving_an_honest_share_books_the_bound_all_the_same(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run(Basis.HONEST)
    each = leakage().weights_bits_per_real
    with books.sending(IMAGES[:4]) as batch:
        reserved = ledgers.server.balance(books.account).reserved.value(BITS)
        assert reserved == pytest.approx(4 * each)
        batch.book(UNSEEN)
    assert ledgers.server.balance(books.account).spent.value(BITS) == pytest.approx(kept(4))


@pytest.mark.parametrize("looked", [False, *long(True)], ids=["unseen", "looked at"])
def test_what_was_counted_additively_stays_and_is_named(
    run: Callable[..., RunLedger], ledgers: Ledgers, looked: bool
) -> None:
    """Entries as they were written before sums by weight were kept."""
    books = run()
    ledgers.server.reserve({books.account: {QUERIES: 5, BITS: 0.7}}, {}).commit(
        {books.account: {QUERIES: 5, BITS: 0.25}}, {"basis": "bounds"}
    )
    assert books.server.state()["counted_additively"] == pytest.approx(0.25)
    assert "0.25 bit per real weight booked before" in books.server.state()["composition"][1]
    if looked:
        send(books, session_of(), IMAGES[:3])
    else:
        with books.sending(IMAGES[:3]) as batch:
            batch.book(UNSEEN)
    spent = ledgers.server.balance(books.account).spent
    assert spent.value(BITS) == pytest.approx(0.25 + books.server.cumulative().bits(3 * MU))
    assert books.server.state()["counted_additively"] == pytest.approx(0.25)


def test_a_batch_that_breaks_off_counts_at_its_worst_for_both_parties(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    with pytest.raises(KeyboardInterrupt), books.sending(IMAGES[:2]):
        raise KeyboardInterrupt
    spent = ledgers.server.balance(books.account).spent
    assert spent.value(BITS) == pytest.approx(kept(2))
    assert ledgers.client.balance(books.client.inputs(IMAGES[:1])[0]).spent.value(QUERIES) == 1
    assert (ledgers.server.open_queries(), ledgers.client.open_queries()) == ({}, {})


def test_repeats_of_an_input_add_information(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    for images in (IMAGES[[0, 1, 0]], IMAGES[[0]]):
        with books.sending(images) as batch:
            batch.book(UNSEEN)
    first, second = (ledgers.client.balance(name).spent for name in books.client.inputs(IMAGES[:2]))
    assert (first.value(QUERIES), second.value(QUERIES)) == (3, 1)
    assert first.value(Meter.ROWS) == 3 * 12
    one = leakage().data_bits_journal
    told = bits_of_information(first.value(Meter.INFORMATION_JOURNAL))
    assert told == pytest.approx(bits_of_information(3 * information_of_bits(one)))
    assert one < told < first.value(Meter.ADDED_JOURNAL) == pytest.approx(3 * one)
    assert second.value(Meter.ADDED_FIRST) == pytest.approx(leakage().data_bits_first, abs=1e-12)


@pytest.mark.long
def test_a_run_ends_where_the_weights_budget_does(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books, session = run(), session_of()
    allow(books, 1.5)
    sent = 0
    while count := books.fitting(IMAGES[sent:]):
        send(books, session, IMAGES[sent : sent + count])
        sent += count
    assert 2 <= sent < 20
    balance = ledgers.server.balance(books.account)
    assert balance.taken.value(BITS) <= 1.5
    assert books.server.worst(balance, 1).bits_per_weight + balance.taken.value(BITS) > 1.5
    with pytest.raises(UsageError, match="0 more such queries fit"), books.sending(IMAGES[:1]):
        pytest.fail("light was sent")
    assert books.server.state()["queries_left"] == 0
    assert ledgers.server.balance(books.account).reserved.unit(BITS) == 0


def test_the_clients_quota_of_repeats_frees_what_the_server_had_reserved(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    ledgers.client.set_budget(ANY, {QUERIES: 2})
    assert books.fitting(IMAGES[[0, 1, 0, 0, 2]]) == 3
    refused = pytest.raises(UsageError, match="3 asked for, of 2 queries")
    with refused, books.sending(IMAGES[[0, 0, 0]]):
        pytest.fail("light was sent")
    assert ledgers.server.balance(books.account).taken.unit(BITS) == 0
    assert books.server.queries == 0


def test_a_budget_given_with_a_run_leaves_the_other_limits(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    ledgers.server.set_budget(books.account, {QUERIES: 7})
    allow(books, 2.0)
    entries = ledgers.server.head().count
    allow(books, 2.0)
    assert ledgers.server.head().count == entries
    limits = ledgers.server.balance(books.account).limits
    assert (limits.value(QUERIES), limits.value(BITS)) == (7, 2.0)


def test_the_bound_of_what_comes_back_cannot_be_reserved(run: Callable[..., RunLedger]) -> None:
    with pytest.raises(SettingError, match="bounds come after light"):
        run(Basis.COLLECTIVE)


def test_a_batch_is_booked_once(run: Callable[..., RunLedger]) -> None:
    books = run()
    with books.sending(IMAGES[:1]) as batch:
        batch.book(UNSEEN)
        with pytest.raises(RecordError, match="has ended before"):
            batch.book(UNSEEN)
    assert books.server.queries == 1


def test_the_charge_for_data_is_that_of_the_three_formulas() -> None:
    charge = data_charge(leakage(), 12)
    assert bits_of_information(charge[Meter.INFORMATION_FIRST]) == pytest.approx(
        leakage().data_bits_first
    )
    assert charge[Meter.ADDED_QUANTUM] == leakage().data_bits_quantum
    assert charge[Meter.ROWS] == 12


def test_the_ledger_names_no_input(run: Callable[..., RunLedger], ledgers: Ledgers) -> None:
    books = run()
    with books.sending(IMAGES[:1]) as batch:
        batch.book(UNSEEN)
    reserved = [each for each in ledgers.client.entries() if isinstance(each, Reserved)]
    (account,) = reserved[0].postings
    assert account == books.client.inputs(IMAGES[:1])[0]
    other = Ledgers.in_folder(ledgers.server.folder.with_name("other"), "alice")
    assert account not in RunLedger(other, books.facts).client.inputs(IMAGES[:1])


def test_light_of_an_honest_share_that_broke_off_may_have_been_kept(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run(Basis.HONEST)
    with pytest.raises(KeyboardInterrupt), books.sending(IMAGES[:4]):
        raise KeyboardInterrupt
    spent = ledgers.server.balance(books.account).spent
    assert spent.value(BITS) == pytest.approx(kept(4))
    assert books.server.basis is Basis.EVERYTHING


def test_an_honest_share_owes_what_a_killed_run_may_have_told(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run(Basis.HONEST)
    each = leakage().weights_bits_per_real
    allow(books, 0.5)
    books._reserve(IMAGES[:4])
    # It never came back; four kept queries tell more than the budget allows.
    assert books.fitting(IMAGES[:4]) == 0
    with pytest.raises(BudgetError), books.sending(IMAGES[:1]):
        pytest.fail("light was sent")
    allow(books, 4.0)
    with books.sending(IMAGES[:1]):
        reserved = ledgers.server.balance(books.account).reserved.value(BITS)
        assert reserved == pytest.approx(kept(4) + each)


def test_what_a_release_leaves_is_no_less_than_the_bound_of_the_light_sent(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books, other, session = run(), run(), session_of()
    waiting = other._reserve(IMAGES[:12])
    send(books, session, IMAGES[:4])
    spent = ledgers.server.balance(books.account).spent.value(BITS)
    bound = books.server.cumulative().bits(4 * MU)
    assert spent < 0.9 * bound, "the open reservation covers the rest"
    waiting.release("no light was sent")
    balance = ledgers.server.balance(books.account)
    assert balance.spent.value(BITS) == pytest.approx(bound)
    assert (balance.spent.value(QUERIES), balance.reserved.unit(BITS)) == (4, 0)
    ledgers.server.verify()


@pytest.mark.parametrize("party", ["server", "client"])
def test_an_interruption_while_a_batch_is_booked_finds_it_booked(
    run: Callable[..., RunLedger],
    ledgers: Ledgers,
    party: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = run()
    ledger = getattr(ledgers, party)
    written = ledger._append

    def interrupted(*arguments: Any, **options: Any) -> None:
        written(*arguments, **options)
        signal.raise_signal(signal.SIGINT)

    def book() -> None:
        with books.sending(IMAGES[:2]) as batch:
            monkeypatch.setattr(ledger, "_append", interrupted)
            batch.book(UNSEEN)

    with pytest.raises(KeyboardInterrupt):
        book()
    assert (ledgers.server.open_queries(), ledgers.client.open_queries()) == ({}, {})
    assert books.server.queries == 2


def test_a_batch_shrinks_to_what_another_run_has_left(
    run: Callable[..., RunLedger], ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = run()
    ledgers.server.set_budget(books.account, {QUERIES: 3})
    looked = [5]
    fitting = books.fitting

    def late(images: Floats) -> int:
        return looked.pop() if looked else fitting(images)

    monkeypatch.setattr(books, "fitting", late)
    with books.sending(IMAGES[:5], or_fewer=True) as batch:
        assert batch.queries == 3
    refused = pytest.raises(BudgetError, match="1 asked for, of 3 queries")
    with refused, books.sending(IMAGES[:5], or_fewer=True):
        pytest.fail("light was sent")


def test_limits_that_follow_from_a_balance_lose_no_other_change(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    operator = ledgers.server.operator()
    quota = partial(ledgers.server.set_budget, books.account, {QUERIES: 7}, operator=operator)
    with ThreadPoolExecutor(4) as pool:
        for each in [
            *(pool.submit(allow, books, 1.0 + step) for step in range(8)),
            pool.submit(quota),
            *(pool.submit(allow, books, 9.0 + step) for step in range(8)),
        ]:
            each.result()
    allow(books, 2.0)
    limits = ledgers.server.balance(books.account).limits
    assert (limits.value(QUERIES), limits.value(BITS)) == (7, 2.0)


def test_light_that_nobody_looked_at_counts_as_it_was_at_most(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    """As on a bench; what is looked at counts as stated, its doubt is in what was kept."""
    books = run(light_factor=1.25)
    with books.sending(IMAGES[:4]) as batch:
        assert batch.server.reserved.worst_case[books.account][BITS] == pytest.approx(kept(5))
        batch.book(UNSEEN)
    spent = ledgers.server.balance(books.account).spent
    assert spent.value(BITS) == pytest.approx(kept(5))
    assert spent.value(Meter.PHOTONS) == pytest.approx(5 * MU)
    settings = ideal_session(MU, GAIN, seed=3)
    session = Session(NETWORK, settings, ModeLink(settings))
    send(books, session, IMAGES[:2])
    spent = ledgers.server.balance(books.account).spent
    assert spent.value(Meter.PHOTONS) == pytest.approx(7 * MU)
    assert spent.value(BITS) == pytest.approx(books.server.cumulative().bits(7 * MU), abs=1e-9)


def test_a_run_of_doubtful_constants_reserves_what_they_lift_the_bound_of_earlier_light_by(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    """As after a poor calibration: all light of an account is then known as poorly."""
    books = run()
    send(books, session_of(4), IMAGES[:6])
    before = ledgers.server.balance(books.account)
    well_known = books.server.worst(before, 2).values()[BITS]
    poor = (Source("readings", 0.05),)
    doubtful = Doubts(light=poor, unit=poor, share=poor, client_noise=poor)
    factor = doubtful.light_factor(LIGHT_SHARE * FAILURE)
    books, session = run(doubts=doubtful, light_factor=factor), session_of(5)
    session.history = books.server.history()
    with books.sending(IMAGES[6:8]) as batch:
        reserved = ledgers.server.balance(books.account).reserved.value(BITS)
        list(session.run(IMAGES[6:8]))
        verdict = session.verdict(figures=False)
        batch.book(verdict, session.record(), session.server.evidence, doubtful)
    spent = ledgers.server.balance(books.account).spent
    charged = spent.value(BITS) - before.spent.value(BITS)
    assert well_known < charged <= reserved + 1e-9
    assert spent.value(BITS) == pytest.approx(books.server.cumulative().bits(8 * MU), abs=1e-9)
    # A budget between the two refuses it before light is sent.
    limit = (
        spent.value(BITS)
        + 0.5 * books.server.worst(ledgers.server.balance(books.account), 1).values()[BITS]
    )
    ledgers.server.set_budget(books.account, {BITS: limit}, operator=ledgers.server.operator())
    with pytest.raises(BudgetError), books.sending(IMAGES[:1]):
        pytest.fail("light was sent")
