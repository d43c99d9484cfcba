"""One run in the ledgers: reserved before light is sent, booked by what came back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.data.models import Network
from labctl.errors import RecordError, SettingError, UsageError
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, LayerShape, Leakage, Trust, leakage_of
from labctl.protocols.ledger.accounts import ANY
from labctl.protocols.ledger.amounts import Meter, bits_of_information, information_of_bits
from labctl.protocols.ledger.charges import Basis, at_bounds, data_charge, everything
from labctl.protocols.ledger.entries import Committed, Reserved
from labctl.protocols.ledger.run import Ledgers, RunFacts, RunLedger
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.protocols.verification.verdict import VerificationReport, no_verification

BITS, QUERIES = Meter.WEIGHT_BITS, Meter.QUERIES
UNTRUSTED = Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED)
SHAPES = (LayerShape(rows=12, modes=8, inputs=16), LayerShape(rows=4, modes=6, inputs=12))
MU, GAIN = 0.57, 1.3
IMAGES: Floats = np.random.default_rng(3).random((20, 16), dtype=np.float32)
UNSEEN = no_verification(VerificationSettings())


def leakage(gain: float = GAIN) -> Leakage:
    return leakage_of(
        SHAPES,
        mean_photons=MU,
        gain=gain,
        transmittance=1.0,
        technical_noise=0.0,
        assumptions=UNTRUSTED,
        emission_factor=1.0,
    )


def seen(bits: float) -> VerificationReport:
    return replace(UNSEEN, accepted=True, weights_bits_per_real_upper=bits, samples=99)


@pytest.fixture
def ledgers(tmp_path: Path) -> Ledgers:
    return Ledgers.in_folder(tmp_path / "ledger", "alice")


@pytest.fixture
def run(ledgers: Ledgers) -> Callable[..., RunLedger]:
    def start(worst_case: Basis = Basis.EVERYTHING, **changes: Any) -> RunLedger:
        facts = RunFacts("0" * 64, SHAPES, MU, leakage(), {"mu": MU}, "run.h5", worst_case)
        return RunLedger(ledgers, replace(facts, **changes))

    return start


def test_everything_is_the_entropy_of_the_light_that_is_sent() -> None:
    n = MU
    entropy = (n + 1) * math.log2(n + 1) - n * math.log2(n)
    charge = everything(SHAPES, MU)
    assert charge.bits_per_weight == pytest.approx(entropy / 2)
    assert charge.bits_in_total == pytest.approx(entropy * (12 * 8 + 4 * 6))


@pytest.mark.parametrize("bound", [math.inf, math.nan, 5.0])
def test_bounds_that_say_nothing_charge_everything(bound: float) -> None:
    charge = at_bounds(seen(bound), SHAPES, MU)
    assert charge == everything(SHAPES, MU)


def test_bounds_are_charged_with_their_failure_probability() -> None:
    charge = at_bounds(seen(0.01), SHAPES, MU)
    assert charge is not None
    assert (charge.basis, charge.failure_probability) == (Basis.BOUNDS, 1e-10)
    assert charge.bits_in_total == pytest.approx(0.01 * 2 * (12 * 8 + 4 * 6))
    assert at_bounds(UNSEEN, SHAPES, MU) is None


def test_a_batch_is_reserved_at_its_worst_and_booked_at_the_bound(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    with books.sending(IMAGES[:3]) as batch:
        worst = 3 * everything(SHAPES, MU).bits_per_weight
        assert ledgers.server.balance(books.account).reserved.value(BITS) == pytest.approx(worst)
        batch.book(seen(0.05))
    balance = ledgers.server.balance(books.account)
    assert balance.spent.value(BITS) == pytest.approx(0.15)
    assert balance.spent.value(QUERIES) == 3
    assert balance.reserved.unit(BITS) == 0
    committed = list(ledgers.server.entries())[-1]
    assert isinstance(committed, Committed)
    assert committed.about["basis"] == "bounds"
    assert committed.about["assumptions"]["loss"] == "untrusted"
    assert committed.about["run_file"] == "run.h5"
    assert committed.about["verdict"]["accepted"] is True


def test_the_bookings_of_a_run_add_up_to_the_bound_on_all_its_light(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    bounds = [0.05, 0.03, 0.02, 0.004, 0.01]
    highest = 0.0
    for number, bound in enumerate(bounds, 1):
        with books.sending(IMAGES[:2]) as batch:
            batch.book(seen(bound))
        highest = max(highest, 2 * number * bound)
        spent = ledgers.server.balance(books.account).spent
        assert spent.value(BITS) == pytest.approx(highest)
        assert spent.value(Meter.FAILURE_PROBABILITY) == pytest.approx(number * 1e-10)
    assert books.queries == 10


def test_light_that_nobody_looked_at_is_charged_as_an_honest_clients(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run(Basis.HONEST)
    with books.sending(IMAGES[:4]) as batch:
        batch.book(UNSEEN)
    balance = ledgers.server.balance(books.account)
    assert balance.spent.value(BITS) == pytest.approx(4 * leakage().weights_bits_per_real)
    state = books.state()
    assert state["basis"] == "honest"
    assert "taken at its word" in state["basis_in_words"]


def test_a_batch_that_breaks_off_counts_at_its_worst_for_both_parties(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    with pytest.raises(KeyboardInterrupt), books.sending(IMAGES[:2]):
        raise KeyboardInterrupt
    spent = ledgers.server.balance(books.account).spent
    assert spent.value(BITS) == pytest.approx(2 * everything(SHAPES, MU).bits_per_weight)
    assert ledgers.client.balance(books.inputs(IMAGES[:1])[0]).spent.value(QUERIES) == 1
    assert (ledgers.server.open_queries(), ledgers.client.open_queries()) == ({}, {})


def test_repeats_of_an_input_add_information(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    for images in (IMAGES[[0, 1, 0]], IMAGES[[0]]):
        with books.sending(images) as batch:
            batch.book(seen(0.01))
    first, second = (ledgers.client.balance(name).spent for name in books.inputs(IMAGES[:2]))
    assert (first.value(QUERIES), second.value(QUERIES)) == (3, 1)
    assert first.value(Meter.ROWS) == 3 * 12
    one = leakage().data_bits_journal
    told = bits_of_information(first.value(Meter.INFORMATION_JOURNAL))
    assert told == pytest.approx(bits_of_information(3 * information_of_bits(one)))
    assert one < told < first.value(Meter.ADDED_JOURNAL) == pytest.approx(3 * one)
    assert second.value(Meter.ADDED_FIRST) == pytest.approx(leakage().data_bits_first, abs=1e-12)


def test_a_run_ends_where_the_weights_budget_does(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    books.allow(1.0)
    sent = 0
    while count := books.fitting(IMAGES[sent:]):
        with books.sending(IMAGES[sent : sent + count]) as batch:
            batch.book(seen(0.02))
        sent += count
    most = everything(SHAPES, MU).bits_per_weight
    assert sent == math.ceil((1.0 - most) / 0.02)
    with pytest.raises(UsageError, match="0 more such queries fit"), books.sending(IMAGES[:1]):
        pytest.fail("light was sent")
    assert books.state()["queries_left"] == 0
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
    assert books.queries == 0


def test_a_budget_given_with_a_run_leaves_the_other_limits(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    books = run()
    ledgers.server.set_budget(books.account, {QUERIES: 7})
    books.allow(2.0)
    entries = ledgers.server.head().count
    books.allow(2.0)
    assert ledgers.server.head().count == entries
    limits = ledgers.server.balance(books.account).limits
    assert (limits.value(QUERIES), limits.value(BITS)) == (7, 2.0)


def test_bounds_cannot_be_reserved(run: Callable[..., RunLedger]) -> None:
    with pytest.raises(SettingError, match="bounds come after light"):
        run(Basis.BOUNDS)


def test_a_batch_is_booked_once(run: Callable[..., RunLedger]) -> None:
    books = run()
    with books.sending(IMAGES[:1]) as batch:
        batch.book(seen(0.01))
        with pytest.raises(RecordError, match="has ended before"):
            batch.book(seen(0.01))
    assert books.queries == 1


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
        batch.book(seen(0.01))
    reserved = [each for each in ledgers.client.entries() if isinstance(each, Reserved)]
    (account,) = reserved[0].postings
    assert account == books.inputs(IMAGES[:1])[0]
    other = Ledgers.in_folder(ledgers.server.folder.with_name("other"), "alice")
    assert account not in RunLedger(other, books.facts).inputs(IMAGES[:1])


def test_a_session_over_a_mode_link_is_booked_at_its_verdict(
    run: Callable[..., RunLedger], ledgers: Ledgers
) -> None:
    random = np.random.default_rng(8)
    layers = tuple(
        random.standard_normal(shape).astype(np.float32) for shape in ((12, 16), (4, 12))
    )
    settings = SessionSettings(
        mean_photons=MU,
        receiver=CloneReceiver(GAIN, 1.0, IDEAL_HOMODYNE),
        verifier=IDEAL_HOMODYNE,
        loss_db=0.0,
        technical_noise=0.0,
        assumptions=UNTRUSTED,
        sampling=Sampling.ALL,
        seed=4,
        verification=VerificationSettings(),
    )
    network = Network(layers, "small", {})
    session = Session(network, settings, ModeLink(settings))
    books = run(
        shapes=session.server.shapes, leakage=session.leakage(), model_sha256=network.sha256
    )
    for first in range(0, 20, 5):
        with books.sending(IMAGES[first : first + 5]) as batch:
            list(session.run(IMAGES[first : first + 5]))
            batch.book(session.verdict())
    bound = session.verdict().weights_bits_per_real_upper
    spent = ledgers.server.balance(books.account).spent.value(BITS)
    assert bound is not None
    assert 20 * leakage().weights_bits_per_real < 20 * min(bound, 0.742) <= spent * (1 + 1e-9)
    assert spent <= 20 * everything(SHAPES, MU).bits_per_weight
