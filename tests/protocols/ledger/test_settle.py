"""Reservations of killed processes: booked by what they had noted, at the worst without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_runs import IMAGES, MU, UNSEEN, facts, kept

from labctl.errors import RecordError
from labctl.processes import ProcessName
from labctl.protocols.encoding import Floats
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.ledger.run import Ledgers, RunLedger, SentBatch
from labctl.protocols.ledger.settle import Settlement, settle

BITS, QUERIES, PHOTONS = Meter.WEIGHT_BITS, Meter.QUERIES, Meter.PHOTONS


def books_of(ledgers: Ledgers, worst_case: Basis = Basis.EVERYTHING) -> RunLedger:
    return RunLedger(ledgers, facts(worst_case))


def killed(work: Callable[[], None]) -> int:
    """Have another process do some work, which ends in its being killed; return its id."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    return child


def kill_after(books: RunLedger, images: Floats, sent: int | None) -> int:
    """Kill a process that has reserved for images and noted that `sent` were sent (None: never)."""

    def work() -> None:
        with books.sending(images) as batch:
            if sent is not None:
                begins = batch.noted()
                for count in range(1, sent + 1):
                    begins(count)
            os.kill(os.getpid(), signal.SIGKILL)

    return killed(work)


def both(ledgers: Ledgers, **options: bool) -> list[Settlement]:
    return [each for one in (ledgers.server, ledgers.client) for each in settle(one, **options)]


def test_without_notes_all_that_was_reserved_is_booked(ledgers: Ledgers) -> None:
    books = books_of(ledgers)
    process = kill_after(books, IMAGES[:8], None)
    before = ledgers.server.balance(books.account).taken
    server, client = both(ledgers)
    balance = ledgers.server.balance(books.account)
    assert server.holder is not None
    assert server.holder.process_id == process
    assert "has ended; nothing was noted" in server.why
    assert (server.sent, client.sent) == (None, None)
    assert balance.spent.value(BITS) == before.value(BITS) == pytest.approx(kept(8))
    assert (balance.reserved.unit(BITS), balance.spent.value(QUERIES)) == (0, 8)
    assert sum(each.spent.value(QUERIES) for each in ledgers.client.balances().values()) == 8
    assert (ledgers.server.open_queries(), ledgers.client.open_queries()) == ({}, {})
    ledgers.server.verify()
    ledgers.client.verify()


@pytest.mark.parametrize(("sent", "noted"), [(1, 2), (2, 2), (3, 4), (7, 8), (8, 8)])
def test_notes_bound_what_is_booked_and_are_at_most_a_quarter_ahead(
    ledgers: Ledgers, sent: int, noted: int
) -> None:
    books = books_of(ledgers)
    images = IMAGES[[0, 1, 0, 2, 3, 4, 5, 0]]
    inputs = books.client.inputs(images)
    kill_after(books, images, sent)
    server, client = both(ledgers)
    assert (server.sent, client.sent) == (noted, noted)
    spent = ledgers.server.balance(books.account).spent
    assert spent.value(QUERIES) == noted
    assert kept(noted) <= spent.value(BITS) == pytest.approx(kept(noted))
    assert noted * MU <= spent.value(PHOTONS) == pytest.approx(noted * MU)
    again = ledgers.client.balances()
    found = {name: each.spent.value(QUERIES) for name, each in again.items()}
    assert found == {name: inputs[:noted].count(name) for name in inputs}
    one = again[inputs[1]].spent.value(Meter.INFORMATION_QUANTUM)
    repeated = again[inputs[0]].spent.value(Meter.INFORMATION_QUANTUM)
    if noted >= 2:
        assert repeated == pytest.approx(inputs[:noted].count(inputs[0]) * one)


def test_where_no_light_was_sent_all_is_free_again(ledgers: Ledgers) -> None:
    books = books_of(ledgers)
    kill_after(books, IMAGES[:5], 0)
    server, client = both(ledgers)
    assert (server.booked, client.booked) == ({}, {})
    assert "none of 5 queries was sent" in server.why
    assert ledgers.server.balance(books.account).taken.unit(BITS) == 0
    assert ledgers.server.verify().entries == 3


def test_a_reservation_that_is_freed_leaves_what_others_were_charged_less(
    ledgers: Ledgers,
) -> None:
    """The runs behind the open one were charged only what they added to its light."""
    books = books_of(ledgers)
    kill_after(books, IMAGES[:8], 0)
    for first in (8, 12):
        with books.sending(IMAGES[first : first + 4]) as batch:
            batch.book(UNSEEN)
    spent = ledgers.server.balance(books.account).spent.value(BITS)
    assert spent < kept(8), "the open reservation covers the rest"
    settle(ledgers.server)
    balance = ledgers.server.balance(books.account)
    assert kept(8) <= balance.spent.value(BITS) == pytest.approx(kept(8))
    assert (balance.spent.value(QUERIES), balance.reserved.unit(BITS)) == (8, 0)


def test_an_honest_share_is_lifted_to_the_bound_of_light_that_may_have_been_kept(
    ledgers: Ledgers,
) -> None:
    books = books_of(ledgers, Basis.HONEST)
    kill_after(books, IMAGES[:4], None)
    reserved = ledgers.server.balance(books.account).reserved.value(BITS)
    assert reserved < 0.5 * kept(4)
    settle(ledgers.server)
    spent = ledgers.server.balance(books.account).spent
    assert kept(4) <= spent.value(BITS) == pytest.approx(kept(4))
    modes = 12 * 8 + 4 * 6
    assert spent.value(Meter.TOTAL_BITS) == pytest.approx(2 * modes * kept(4))


def test_several_are_settled_one_after_the_other_as_a_dry_run_says(ledgers: Ledgers) -> None:
    books = books_of(ledgers)
    for sent in (0, 3, None, 1):
        kill_after(books, IMAGES[:8], sent)
    head = ledgers.server.head()
    planned = settle(ledgers.server, dry_run=True)
    assert ledgers.server.head() == head, "a dry run changes nothing"
    done = settle(ledgers.server)
    assert [each.booked for each in planned] == [each.booked for each in done]
    assert [each.why for each in planned] == [each.why for each in done]
    assert [each.sent for each in done] == [0, 4, None, 2]
    spent = ledgers.server.balance(books.account).spent
    assert spent.value(QUERIES) == 14
    assert spent.value(BITS) >= kept(14)
    ledgers.server.verify()
    assert settle(ledgers.server) == []


@contextmanager
def held_open(books: RunLedger, images: Floats) -> Iterator[int]:
    """Have another process hold a reservation, stopped by SIGSTOP, while the block runs."""
    told, tells = os.pipe()
    child = os.fork()
    if not child:
        with books.sending(images) as batch:
            batch.noted()
            os.write(tells, b"x")
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        os.read(told, 1)
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        os.close(tells)


@pytest.mark.parametrize("presume_ended", [False, True])
def test_nothing_is_settled_while_its_process_lives_even_if_it_is_stopped(
    ledgers: Ledgers, presume_ended: bool
) -> None:
    books = books_of(ledgers)
    with held_open(books, IMAGES[:3]) as child:
        (found,) = settle(ledgers.server, presume_ended=presume_ended)
        assert found.booked is None
        assert f"process {child} on" in found.why
        assert "still runs" in found.why
        assert len(ledgers.server.open_queries()) == 1
    (found,) = settle(ledgers.server)
    assert found.booked == {}


def renamed(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Have reservations name another process than the one that makes them."""
    name = replace(ProcessName.own(), **changes)  # type: ignore[arg-type]
    monkeypatch.setattr(ProcessName, "own", classmethod(lambda cls: name))


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"id_space": "pid:[1]"}])
def test_processes_of_another_computer_or_container_take_a_persons_word_and_then_the_worst(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    books = books_of(ledgers)
    with monkeypatch.context() as patch:
        renamed(patch, **changes)
        kill_after(books, IMAGES[:3], 0)
    (found,) = settle(ledgers.server)
    assert found.booked is None
    assert "cannot be looked up" in found.why
    (found,) = settle(ledgers.server, presume_ended=True)
    assert found.sent is None, "the word may be wrong: what was noted so far is no bound"
    assert ledgers.server.balance(books.account).spent.value(BITS) == pytest.approx(kept(3))


def test_a_process_id_that_is_used_again_is_another_process(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = books_of(ledgers)
    own = ProcessName.own()
    with monkeypatch.context() as patch:
        renamed(patch, process_id=os.getppid(), started="1")
        books._reserve(IMAGES[:3])
    assert ProcessName.own() == own
    (found,) = settle(ledgers.server)
    assert "has ended" in found.why


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-90] ^= 1
    path.write_bytes(content)


def drop_a_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))


def repeat_a_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[-1]]))


def of_another_query(path: Path) -> None:
    (other,) = (each for each in path.parent.iterdir() if each != path and "server" in each.name)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    "damage", [cut, change_a_byte, drop_a_line, repeat_a_line, of_another_query, Path.unlink]
)
def test_notes_that_do_not_hold_say_nothing(
    ledgers: Ledgers, damage: Callable[[Path], None]
) -> None:
    books = books_of(ledgers)
    kill_after(books, IMAGES[:8], 3)
    kill_after(books, IMAGES[:8], 0)
    first = settle(ledgers.server, dry_run=True)[0]
    assert first.sent == 4
    damage(ledgers.server.sent_path(first.query))
    found = settle(ledgers.server)[0]
    assert found.sent is None
    assert "all counts" in found.why
    assert found.booked is not None
    assert found.booked[books.account][QUERIES] == 8


def test_what_ends_by_itself_leaves_no_notes(ledgers: Ledgers) -> None:
    books = books_of(ledgers)

    def sent(batch: SentBatch) -> None:
        batch.noted()(2)
        assert len(list((ledgers.server.keys / "sent").iterdir())) == 2

    with books.sending(IMAGES[:4]) as batch:
        sent(batch)
        batch.book(UNSEEN)
    with books.sending(IMAGES[:4]) as batch:
        sent(batch)
    assert list((ledgers.server.keys / "sent").iterdir()) == []


def test_notes_of_what_has_ended_are_cleaned_away(ledgers: Ledgers) -> None:
    books = books_of(ledgers)

    def work() -> None:
        with books.sending(IMAGES[:4]) as batch:
            batch.noted()
            ledgers.server.commit(batch.server.reserved.id, batch.server.reserved.worst_case, {})
            os.kill(os.getpid(), signal.SIGKILL)

    killed(work)
    assert both(ledgers)[0].party == "client"
    assert list((ledgers.server.keys / "sent").iterdir()) == []


def test_a_reservation_that_ends_meanwhile_is_no_error(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = books_of(ledgers)
    kill_after(books, IMAGES[:4], 1)
    commit = ledgers.server.commit

    def by_another(query: str, *arguments: object, **named: object) -> object:
        monkeypatch.undo()
        other = Ledger(ledgers.server.folder, ledgers.server.party)
        assert len(settle(other)) == 1
        return commit(query, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ledgers.server, "commit", by_another)
    assert settle(ledgers.server) == []
    assert ledgers.server.balance(books.account).spent.value(QUERIES) == 1


def test_a_disk_that_refuses_notes_keeps_the_light_in(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = books_of(ledgers)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def send() -> None:
        with books.sending(IMAGES[:4]) as batch:
            begins = batch.noted()
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", full)
                begins(1)
            pytest.fail("light was sent")

    with pytest.raises(RecordError, match="No space left"):
        send()
    assert ledgers.server.balance(books.account).spent.value(QUERIES) == 4
