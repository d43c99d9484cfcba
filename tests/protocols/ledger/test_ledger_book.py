"""A ledger on disk: budgets hold, nothing is lost, and no byte changes unnoticed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from booked_amounts import ALICE, BITS, MODEL, bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.errors import RecordError, SettingError, UsageError
from labctl.processes import ProcessName
from labctl.protocols.ledger.accounts import ANY, Party, weights_account
from labctl.protocols.ledger.admission import NAME_ALONE
from labctl.protocols.ledger.amounts import Amounts, Meter
from labctl.protocols.ledger.book import HOLDER, IDENTITY, Ledger
from labctl.protocols.ledger.entries import Committed, Recovered, Reserved
from labctl.protocols.ledger.open_query import OpenQuery

BOB = weights_account("bob", MODEL)

DISK = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12
)


def spent(ledger: Ledger, account: str = ALICE) -> tuple[float, float]:
    balance = ledger.balance(account)
    return balance.spent.value(BITS), balance.reserved.value(BITS)


def test_a_worst_case_is_reserved_while_a_query_runs_and_then_what_was_used_is_spent(
    ledger: Ledger,
) -> None:
    ledger.set_budget(ALICE, {BITS: 1.0})
    with ledger.query({ALICE: bits(0.7)}, {"run_file": "a.h5"}) as query:
        assert spent(ledger) == (0.0, 0.7)
        with pytest.raises(UsageError, match=r"0\.7 reserved, 0\.4 asked for"):
            ledger.reserve({ALICE: bits(0.4)}, {})
        query.commit({ALICE: bits(0.1)}, {"basis": "bounds"})
    assert spent(ledger) == (0.1, 0.0)
    assert ledger.open_queries() == {}
    assert [entry.kind for entry in ledger.entries()] == [
        "opened", "budget", "reserved", "committed",
    ]  # fmt: skip


def test_a_query_that_was_never_sent_is_released(ledger: Ledger) -> None:
    query = ledger.reserve({ALICE: bits(0.7)}, {})
    query.release("the other party refused")
    assert spent(ledger) == (0.0, 0.0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_query_that_ends_unbooked_counts_at_its_worst(
    ledger: Ledger, error: type[BaseException]
) -> None:
    with pytest.raises(error), ledger.query({ALICE: bits(0.7)}, {}):
        raise error
    assert spent(ledger) == (0.7, 0.0)
    last = list(ledger.entries())[-1]
    assert isinstance(last, Committed)
    assert "light may have been sent" in last.about["why"]


def test_a_query_ends_once(ledger: Ledger) -> None:
    query = ledger.reserve({ALICE: bits(0.7)}, {})
    query.commit({ALICE: bits(0.1)}, {})
    with pytest.raises(RecordError, match="has ended before"):
        query.commit({ALICE: bits(0.1)}, {})
    with pytest.raises(RecordError, match="has ended before"):
        query.release("")
    assert spent(ledger) == (0.1, 0.0)


def test_more_than_was_reserved_is_booked_in_full_and_then_all_is_refused(ledger: Ledger) -> None:
    ledger.set_budget(ALICE, {BITS: 1.0})
    with ledger.query({ALICE: bits(0.1)}, {}) as query:
        query.commit({ALICE: bits(3.0)}, {})
    assert ledger.balance(ALICE).overdrawn
    with pytest.raises(UsageError, match="3 spent"):
        ledger.reserve({ALICE: bits(0.0)}, {})


def test_a_reservation_on_several_accounts_is_whole_or_nothing(ledger: Ledger) -> None:
    ledger.set_budget(BOB, {BITS: 0.1})
    with pytest.raises(UsageError, match="client bob"):
        ledger.reserve({ALICE: bits(0.2), BOB: bits(0.2)}, {})
    assert spent(ledger) == (0.0, 0.0)


def test_limits_for_any_account_hold_where_there_are_no_others(ledger: Ledger) -> None:
    ledger.set_budget(ANY, {Meter.QUERIES: 2})
    ledger.set_budget(BOB, {Meter.QUERIES: 3}, operator=ledger.operator())
    assert ledger.fitting(ALICE, bits(1.0), most=99) == 2
    assert ledger.fitting(BOB, bits(1.0), most=99) == 3
    ledger.set_budget(BOB, {})
    assert ledger.fitting(BOB, bits(1.0), most=99) == 2
    with pytest.raises(UsageError, match="of 2 queries allowed"):
        ledger.reserve({ALICE: bits(0.0, queries=3)}, {})


def test_a_limit_of_its_own_replaces_only_the_one_of_its_kind(ledger: Ledger) -> None:
    ledger.set_budget(ANY, {BITS: 1.0})
    ledger.set_budget(BOB, {Meter.QUERIES: 50})
    with pytest.raises(UsageError, match="of 1 bit per real weight allowed"):
        ledger.reserve({BOB: bits(1.1, queries=1)}, {})
    ledger.set_budget(BOB, {BITS: 3.0}, operator=ledger.operator())
    assert ledger.fitting(BOB, bits(1.0), most=99) == 3
    assert {name: each.limits.value(BITS) for name, each in ledger.balances().items()} == {BOB: 3.0}


def test_nothing_is_made_by_looking(ledger: Ledger) -> None:
    for look in (ledger.verify, ledger.head, ledger.balances, lambda: list(ledger.entries())):
        with pytest.raises(RecordError, match="no server ledger"):
            look()
    assert not ledger.folder.exists()
    assert not ledger.keys.exists()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_amounts_that_mean_nothing_are_refused_before_anything_is_written(
    ledger: Ledger, value: float
) -> None:
    with pytest.raises(SettingError):
        ledger.set_budget(ALICE, {BITS: value})
    with pytest.raises(SettingError):
        ledger.reserve({ALICE: bits(value)}, {})
    query = ledger.reserve({ALICE: bits(0.1)}, {})
    with pytest.raises(SettingError):
        query.commit({ALICE: bits(value)}, {})
    assert spent(ledger) == (0.0, 0.1)
    ledger.verify()


def test_remarks_that_are_not_json_are_refused(ledger: Ledger) -> None:
    ledger.start()
    with pytest.raises(SettingError, match="plain JSON"):
        ledger.reserve({ALICE: bits(0.1)}, {"x": object()})
    assert ledger.verify().entries == 1


def test_remarks_that_are_not_finite_become_null(ledger: Ledger) -> None:
    ledger.reserve({ALICE: bits(0.1)}, {"T": float("nan"), "more": [float("inf")]})
    entry = list(ledger.entries())[-1]
    assert isinstance(entry, Reserved)
    assert entry.about == {
        "T": None,
        "more": [None],
        HOLDER: ProcessName.own().as_json(),
        IDENTITY: NAME_ALONE,
    }


steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "commit", "release", "raise"]),
        st.floats(0.0, 0.6),
        st.integers(0, 9),
    ),
    max_size=10,
)


@DISK
@given(steps=steps, number=st.integers(0, 10**9))
def test_no_interleaving_exceeds_the_budget(
    steps: list[tuple[str, float, int]], number: int, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / f"{number}-{os.urandom(4).hex()}", Party.SERVER)
    ledger.set_budget(ALICE, {BITS: 1.0})
    opened: list[OpenQuery] = []
    sent = 0
    for action, value, which in steps:
        if action == "reserve":
            with suppress(UsageError):
                opened.append(ledger.reserve({ALICE: bits(value)}, {}))
        elif opened:
            query = opened.pop(which % len(opened))
            worst = query.worst_case[ALICE][BITS]
            if action == "commit":
                query.commit({ALICE: bits(min(value, worst))}, {})
                sent += 1
            else:
                query.release(action)
        balance = ledger.balance(ALICE)
        assert 0 <= balance.taken.unit(BITS) <= balance.limits.unit(BITS)
        held = [Amounts.of(query.worst_case[ALICE]).unit(BITS) for query in opened]
        assert balance.reserved.unit(BITS) == sum(held)
        assert balance.spent.value(Meter.QUERIES) == sent
    assert ledger.verify().entries == len(list(ledger.entries()))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A ledger with one entry of each kind."""
    ledger = Ledger(tmp_path_factory.mktemp("written") / "ledger", Party.SERVER)
    ledger.set_budget(ALICE, {BITS: 1.0})
    ledger.reserve({ALICE: bits(0.25)}, {"run_file": "ä.h5"}).release("refused")
    with ledger.path.open("ab") as file:
        file.write(b'{"about":{"basis":"bou')
    with ledger.query({ALICE: bits(0.25)}, {"mu": 0.57}) as query:
        query.commit({ALICE: bits(0.1)}, {"verdict": None})
    assert {entry.kind for entry in ledger.entries()} == {
        "opened", "budget", "reserved", "released", "recovered", "committed",
    }  # fmt: skip
    return ledger


@settings(DISK, max_examples=150)
@given(position=st.floats(0.0, 1.0, exclude_max=True), change=st.integers(1, 255))
def test_any_byte_that_changes_is_found(written: Ledger, position: float, change: int) -> None:
    original = written.path.read_bytes()
    at = int(position * len(original))
    changed = bytearray(original)
    changed[at] ^= change
    line = original.count(b"\n", 0, at) + 1
    try:
        written.path.write_bytes(changed)
        with pytest.raises(RecordError) as found:
            written.verify()
    finally:
        written.path.write_bytes(original)
    assert written.verify().recovered == 1
    # Of bytes that an entry vouches for it is known with the entry that they changed.
    named = int(str(found.value).split("server.jsonl:")[1].split(":")[0])
    assert named in {line, line - 1}


@settings(DISK, max_examples=40)
@given(lines=st.lists(st.integers(0, 7), min_size=7, max_size=9))
def test_lines_that_were_moved_doubled_or_left_out_are_found(
    written: Ledger, lines: list[int]
) -> None:
    original = written.path.read_bytes()
    parts = original.splitlines(keepends=True)
    changed = b"".join(parts[number % len(parts)] for number in lines)
    if changed == original:
        return
    try:
        written.path.write_bytes(changed)
        with pytest.raises(RecordError, match=r"server\.jsonl"):
            written.verify()
    finally:
        written.path.write_bytes(original)


def test_a_ledger_that_was_cut_short_is_refused_by_everything(written: Ledger) -> None:
    original = written.path.read_bytes()
    whole_lines = original.splitlines(keepends=True)
    try:
        for kept in (b"", whole_lines[0], b"".join(whole_lines[:-1]), original[:-1]):
            written.path.write_bytes(kept)
            with pytest.raises(RecordError):
                written.verify()
            with pytest.raises(RecordError, match="cut short"):
                written.reserve({ALICE: bits(0.1)}, {})
        written.path.unlink()
        with pytest.raises(RecordError, match="cut short"):
            written.reserve({ALICE: bits(0.1)}, {})
    finally:
        written.path.write_bytes(original)
    written.verify()


def test_a_last_entry_that_changed_stops_the_next_query(written: Ledger) -> None:
    original = written.path.read_bytes()
    try:
        written.path.write_bytes(
            original.replace(b'"bits_per_weight":0.1', b'"bits_per_weight":0.0')
        )
        with pytest.raises(RecordError, match="the last: its hash is not that of what it says"):
            written.balance(ALICE)
    finally:
        written.path.write_bytes(original)


def test_entries_are_read_up_to_the_first_that_does_not_hold(ledger: Ledger) -> None:
    for number in range(3):
        ledger.set_budget(ALICE, {BITS: float(number)}, operator=ledger.operator())
    content = ledger.path.read_bytes()
    ledger.path.write_bytes(content.replace(b'"bits_per_weight":1.0', b'"bits_per_weight":9.0'))
    entries = ledger.entries()
    assert [next(entries).number, next(entries).number] == [1, 2]
    with pytest.raises(RecordError, match=r"server\.jsonl:3: its hash"):
        next(entries)


def test_what_was_noted_elsewhere_shows_that_file_and_head_were_put_back(ledger: Ledger) -> None:
    ledger.set_budget(ALICE, {BITS: 1.0})
    files = [path for folder in (ledger.folder, ledger.keys) for path in folder.iterdir()]
    old = {path: path.read_bytes() for path in files}
    ledger.reserve({ALICE: bits(0.1)}, {})
    noted = ledger.head().hash
    assert ledger.verify(noted).head == noted
    for path, content in old.items():
        path.write_bytes(content)
    assert ledger.verify().entries == 2
    with pytest.raises(RecordError, match=noted):
        ledger.verify(noted)


def test_an_entry_made_with_another_key_is_none(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger(tmp_path / "other", Party.SERVER)
    for each in (ledger, other):
        each.set_budget(ALICE, {BITS: 1.0})
    ledger.path.write_bytes(other.path.read_bytes())
    with pytest.raises(RecordError, match=r"server\.jsonl:1: its code was not made with the key"):
        ledger.verify()


def test_the_key_is_its_owners_alone(ledger: Ledger) -> None:
    ledger.start()
    key = ledger.keys / "server.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert ledger.keys.stat().st_mode & 0o777 == 0o700
    key.chmod(0o640)
    with pytest.raises(RecordError, match="others may read this key"):
        ledger.balance(ALICE)


@pytest.mark.parametrize("content", [b"", b"xyz", b"00" * 31, b"\xff" * 64])
def test_a_damaged_key_is_no_key(ledger: Ledger, content: bytes) -> None:
    ledger.start()
    (ledger.keys / "server.key").write_bytes(content)
    with pytest.raises(RecordError, match="not a key of a ledger"):
        ledger.balance(ALICE)


def test_entries_without_their_key_are_not_gone_on_with(ledger: Ledger) -> None:
    ledger.start()
    (ledger.keys / "server.key").unlink()
    for use in (ledger.verify, ledger.start, ledger.head):
        with pytest.raises(RecordError, match=r"server\.key is gone"):
            use()


def test_a_lost_head_is_made_anew_only_when_asked(ledger: Ledger) -> None:
    ledger.set_budget(ALICE, {BITS: 1.0})
    kept = ledger.reserve({ALICE: bits(0.25)}, {})
    head = ledger.keys / "server.head"
    head.unlink()
    for use in (ledger.verify, ledger.start):
        with pytest.raises(RecordError, match=r"server\.head is gone"):
            use()
    assert ledger.rebuild().entries == 3
    with pytest.raises(RecordError, match="is there"):
        ledger.rebuild()
    kept.commit({ALICE: bits(0.125)}, {})
    assert spent(ledger) == (0.125, 0.0)


def test_a_damaged_head_is_an_error_with_a_way_out(ledger: Ledger) -> None:
    ledger.start()
    (ledger.keys / "server.head").write_bytes(b"no database" * 100)
    for use in (ledger.verify, ledger.start):
        with pytest.raises(RecordError, match="--rebuild"):
            use()


def test_sums_that_are_not_those_of_the_entries_are_found(ledger: Ledger) -> None:
    import sqlite3
    from contextlib import closing

    ledger.reserve({ALICE: bits(0.25)}, {})
    with closing(sqlite3.connect(ledger.keys / "server.head")) as database:
        database.execute("UPDATE accounts SET balance = replace(balance, '25', '05')")
        database.commit()
    with pytest.raises(RecordError, match="its sums are not those of the entries"):
        ledger.verify()


@pytest.mark.parametrize("torn", [b"x", b'{"about":{', b"\n", b"a\nb\n", b"\xff\x00" * 500])
def test_what_an_unfinished_write_left_stays_and_is_told(
    torn: bytes, ledger: Ledger, notices: list[str]
) -> None:
    ledger.set_budget(ALICE, {BITS: 1.0})
    with ledger.path.open("ab") as file:
        file.write(torn)
    assert ledger.verify().trailing_bytes == len(torn)
    assert notices == []
    ledger.reserve({ALICE: bits(0.25)}, {})
    assert len(notices) == 1
    assert f"{len(torn)} bytes" in notices[0]
    assert torn in ledger.path.read_bytes()
    found = ledger.verify()
    assert (found.recovered, found.trailing_bytes) == (1, 0)
    kinds = [type(entry) for entry in ledger.entries()]
    assert kinds[-2:] == [Recovered, Reserved]


_DIES = """
import os, signal, sys
from pathlib import Path
from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger

folder, at, account = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
ledger = Ledger(folder, Party.SERVER)
if at == "write":
    real = os.fsync
    def dies(handle):
        real(handle)
        os.kill(os.getpid(), signal.SIGKILL)
    os.fsync = dies
with ledger.query({account: {Meter.WEIGHT_BITS: 0.25}}, {}):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("at", ["write", "query"])
def test_a_query_that_died_counts_as_spent_and_shows_as_reserved(at: str, ledger: Ledger) -> None:
    ledger.set_budget(ALICE, {BITS: 0.3})
    line = [sys.executable, "-c", _DIES, str(ledger.folder), at, ALICE]
    assert subprocess.run(line, check=False, timeout=200).returncode == -signal.SIGKILL
    assert spent(ledger) == (0.0, 0.25)
    assert len(ledger.open_queries()) == 1
    with pytest.raises(UsageError, match=r"0\.25 reserved"):
        ledger.reserve({ALICE: bits(0.1)}, {})
    assert ledger.verify().recovered == 0
