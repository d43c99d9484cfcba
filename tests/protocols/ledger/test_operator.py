"""Only the operator raises a budget or binds a client: by a signature that the chain checks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import BudgetError, IdentityError, RecordError, SettingError
from labctl.processes import ProcessName
from labctl.protocols.ledger.accounts import ANY, Party, weights_account
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import HOLDER, Ledger
from labctl.protocols.ledger.chain import BEGINNING, seal
from labctl.protocols.ledger.entries import BudgetSet, Committed, OperatorNamed, PresumedEnded
from labctl.protocols.ledger.figure import curves_of
from labctl.protocols.ledger.key import make_key
from labctl.protocols.ledger.run import Ledgers
from labctl.protocols.ledger.settle import settle
from labctl.protocols.ledger.signing import Purpose, SigningKey

MODEL = "0" * 64
ALICE = weights_account("alice", MODEL)
BITS, QUERIES = Meter.WEIGHT_BITS, Meter.QUERIES
SEALS = ("hash", "mac")
ONLY_THE_OPERATOR = "which only the operator may: labctl ledger set-budget, or --operator-keys"


@pytest.fixture
def old(tmp_path: Path, notices: list[str]) -> Ledger:
    """A server's ledger as it was begun before there were operators, with a budget."""
    ledger = Ledger(tmp_path / "ledger", Party.SERVER, on_notice=notices.append)
    ledger.folder.mkdir()
    make_key(ledger.keys / "server.key")
    (ledger.keys / "server.head").touch()
    key = bytes.fromhex((ledger.keys / "server.key").read_text())
    written: list[dict[str, Any]] = [
        {"kind": "opened", "party": "server", "format_version": 1},
        {"kind": "budget", "account": ALICE, "limits": {"bits_per_weight": 1.0}},
        {"kind": "budget", "account": ALICE, "limits": {"bits_per_weight": 2.0}},
    ]
    lines, previous = b"", BEGINNING
    for number, says in enumerate(written, start=1):
        said = {**says, "number": number, "time": "2026-01-01T00:00:00Z", "previous": previous}
        line, previous = seal(said, key)
        lines += line
    ledger.path.write_bytes(lines)
    return ledger


def forge(ledger: Ledger, **says: Any) -> None:
    """Append an entry as someone may who has all keys of a running server."""
    head = ledger.head()
    said = {"number": head.count + 1, "time": "2026-01-01T00:00:00Z", "previous": head.hash, **says}
    line, _ = seal(said, ledger.secret())
    with ledger.path.open("ab") as file:
        file.write(line)


def test_the_key_is_made_with_the_ledger_apart_from_those_of_a_running_server(
    ledger: Ledger,
) -> None:
    ledger.start()
    path = ledger.folder.parent / "ledger-operator" / "operator.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    fingerprint, clients = ledger.identities()
    assert (fingerprint, clients) == (ledger.operator().public.fingerprint, {})
    assert sorted(each.name for each in ledger.keys.iterdir()) == ["server.head", "server.key"]


@pytest.mark.parametrize("where", ["ledger", "ledger-keys", "ledger-keys/operator", "ledger/x/.."])
def test_the_key_is_not_kept_where_a_running_server_reads(tmp_path: Path, where: str) -> None:
    with pytest.raises(SettingError, match="a separate folder"):
        Ledger(tmp_path / "ledger", Party.SERVER, operator_keys=tmp_path / where)


def test_a_ledger_works_where_the_operators_key_was_taken_away(ledger: Ledger) -> None:
    ledger.set_budget(ALICE, {BITS: 1.0})
    (ledger.operator_keys / "operator.pem").unlink()
    with ledger.query({ALICE: {BITS: 0.5}}, {}):
        pass
    ledger.set_budget(ALICE, {BITS: 0.7})
    with pytest.raises(IdentityError, match="the operator's key is not there"):
        ledger.operator()
    with pytest.raises(BudgetError):
        ledger.reserve({ALICE: {BITS: 0.3}}, {})
    ledger.verify()


def test_several_ledgers_may_have_one_operator(ledger: Ledger, tmp_path: Path) -> None:
    ledger.start()
    second = Ledger(tmp_path / "b", Party.SERVER, operator_keys=ledger.operator_keys)
    assert second.operator().public == ledger.operator().public


def test_a_clients_ledger_has_no_operator_and_its_owner_sets_its_limits(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", Party.CLIENT)
    ledger.set_budget(ANY, {QUERIES: 1})
    ledger.set_budget(ANY, {QUERIES: 2})
    assert not ledger.operator_keys.exists()
    with pytest.raises(IdentityError, match="a client's ledger has no operator"):
        ledger.operator()


RAISED = [
    pytest.param({}, {BITS: 1.0}, {BITS: 1.000001}, id="one higher"),
    pytest.param({}, {BITS: 1.0}, {}, id="removed"),
    pytest.param({}, {BITS: 1.0}, {QUERIES: 1}, id="another kind instead"),
    pytest.param({}, {BITS: 1.0, QUERIES: 5}, {BITS: 0.5, QUERIES: 6}, id="one lower, one higher"),
    pytest.param({BITS: 1.0}, {}, {BITS: 2.0}, id="above that of any account"),
]


@pytest.mark.parametrize(("for_any", "before", "after"), RAISED)
def test_a_limit_is_raised_or_removed_by_the_operator_alone(
    ledger: Ledger, for_any: Any, before: Any, after: Any
) -> None:
    ledger.set_budget(ANY, for_any)
    ledger.set_budget(ALICE, before)
    entries, limits = ledger.head().count, ledger.balance(ALICE).limits
    with pytest.raises(IdentityError, match=ONLY_THE_OPERATOR):
        ledger.set_budget(ALICE, after)
    assert (ledger.head().count, ledger.balance(ALICE).limits) == (entries, limits)
    ledger.set_budget(ALICE, after, operator=ledger.operator())
    assert ledger.head().count == entries + 1
    ledger.verify()


def test_the_limit_of_any_account_is_raised_by_the_operator_alone(ledger: Ledger) -> None:
    ledger.set_budget(ANY, {BITS: 1.0})
    for limits in ({BITS: 2.0}, {}):
        with pytest.raises(IdentityError, match="raises a limit of any account"):
            ledger.set_budget(ANY, limits)
    ledger.set_budget(ANY, {BITS: 0.5, QUERIES: 3})
    assert ledger.balance(ALICE).limits.value(BITS) == 0.5


def test_a_run_sets_and_lowers_its_budget_but_does_not_raise_it(ledgers: Ledgers) -> None:
    ledgers.allow(MODEL, 2.0)
    ledgers.allow(MODEL, 1.0)
    entries = ledgers.server.head().count
    with pytest.raises(IdentityError, match=ONLY_THE_OPERATOR):
        ledgers.allow(MODEL, 2.0)
    ledgers.allow(MODEL, 1.0)
    assert ledgers.server.head().count == entries
    ledgers.allow(MODEL, 2.0, ledgers.server.operator())
    assert ledgers.server.balance(ALICE).limits.value(BITS) == 2.0


def test_a_run_takes_over_no_limit_of_any_account_as_its_own(ledgers: Ledgers) -> None:
    """It would stay where the operator lowers that of any account later."""
    ledgers.server.set_budget(ANY, {QUERIES: 50})
    ledgers.allow(MODEL, 2.0)
    ledgers.server.set_budget(ANY, {QUERIES: 5})
    limits = ledgers.server.balance(ALICE).limits
    assert (limits.value(QUERIES), limits.value(BITS)) == (5, 2.0)


@pytest.mark.parametrize("signature", [None, "0" * 128])
def test_who_has_all_keys_of_a_running_server_cannot_raise_a_budget_unnoticed(
    ledger: Ledger, signature: str | None
) -> None:
    ledger.set_budget(ALICE, {BITS: 1.0})
    limits = {"bits_per_weight": 9.0}
    forge(ledger, kind="budget", account=ALICE, limits=limits, signature=signature)
    with pytest.raises(RecordError, match="signature is"):
        Ledger(ledger.folder, Party.SERVER).reserve({ALICE: {BITS: 2.0}}, {})
    with pytest.raises(RecordError, match="signature is"):
        ledger.verify()


def test_a_signature_of_the_operator_is_not_used_again(ledger: Ledger) -> None:
    """Raised once, then lowered: the entry that raised it does not fit another place."""
    ledger.set_budget(ALICE, {BITS: 1.0})
    ledger.set_budget(ALICE, {BITS: 9.0}, operator=ledger.operator())
    raised = list(ledger.entries())[-1]
    ledger.set_budget(ALICE, {BITS: 1.0})
    assert isinstance(raised, BudgetSet)
    says = json.loads(raised.model_dump_json(include={"kind", "account", "limits", "signature"}))
    forge(ledger, **says)
    with pytest.raises(RecordError, match="its signature is not the operator's"):
        ledger.head()


def test_no_client_is_bound_and_no_second_operator_named_without_the_operator(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.start()
    foreign = SigningKey.make(tmp_path / "foreign.pem")
    bound = {"client": "alice", "fingerprint": foreign.public.fingerprint, "replaces": None}
    with pytest.raises(IdentityError, match="is not that of its operator"):
        ledger.add_client("alice", foreign.public, foreign)
    with pytest.raises(IdentityError, match="is not that of its operator"):
        ledger.set_budget(ALICE, {BITS: 1.0}, operator=foreign)
    assert (ledger.client_key("alice"), ledger.head().count) == (None, 1)
    forge(ledger, kind="client", signature=None, **bound)
    with pytest.raises(RecordError, match="the operator's signature is missing"):
        ledger.head()
    again = Ledger(tmp_path / "again", Party.SERVER)
    again.start()
    forge(again, kind="operator", operator=foreign.public.der.hex())
    with pytest.raises(RecordError, match="has an operator already"):
        again.head()


def test_the_key_of_another_operator_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    ledger.start()
    (tmp_path / "others").mkdir()
    SigningKey.make(tmp_path / "others" / "operator.pem")
    elsewhere = Ledger(ledger.folder, Party.SERVER, operator_keys=tmp_path / "others")
    with pytest.raises(IdentityError, match="is not that of its operator"):
        elsewhere.operator()
    path = ledger.operator_keys / "operator.pem"
    path.chmod(0o640)
    with pytest.raises(IdentityError, match="others may read the operator's key"):
        ledger.operator()


def test_an_old_ledger_is_read_and_gets_its_operator_when_one_is_needed(
    old: Ledger, notices: list[str]
) -> None:
    assert old.verify().entries == 3
    assert old.identities() == (None, {})
    with old.query({ALICE: {BITS: 0.5}}, {}):
        pass
    with pytest.raises(IdentityError, match=ONLY_THE_OPERATOR):
        old.set_budget(ALICE, {BITS: 3.0})
    assert not old.operator_keys.exists()
    operator = old.operator()
    (notice,) = notices
    assert "had no operator: the key that raises its budgets from now on is" in notice
    old.set_budget(ALICE, {BITS: 3.0}, operator=operator)
    old.operator()
    assert len(notices) == 1
    assert [type(entry) for entry in old.entries()][-2:] == [OperatorNamed, BudgetSet]
    forge(old, kind="budget", account=ALICE, limits={}, signature=None)
    with pytest.raises(RecordError, match="the operator's signature is missing"):
        old.verify()


@pytest.fixture
def elsewhere(ledger: Ledger) -> Ledger:
    """A ledger with an open reservation of a process that nobody here can look up."""
    reserve_elsewhere(ledger)
    return ledger


def reserve_elsewhere(ledger: Ledger) -> None:
    unknown = replace(ProcessName.own(), host="elsewhere", boot="other")
    ledger.reserve({ALICE: {BITS: 0.1, QUERIES: 1.0}}, {HOLDER: unknown.as_json()})


def test_what_cannot_be_looked_up_is_presumed_ended_by_the_operator_alone(
    elsewhere: Ledger,
) -> None:
    key, kept = elsewhere.operator_keys / "operator.pem", elsewhere.folder.parent / "kept.pem"
    key.rename(kept)
    with pytest.raises(IdentityError, match="the operator's key is not there"):
        settle(elsewhere, presume_ended=True)
    assert len(elsewhere.open_queries()) == 1
    (planned,) = settle(elsewhere, presume_ended=True, dry_run=True)
    assert planned.booked
    kept.rename(key)
    (done,) = settle(elsewhere, presume_ended=True)
    assert done.booked == planned.booked
    assert not elsewhere.open_queries()


def test_what_is_presumed_is_signed_and_counts_as_spent(elsewhere: Ledger) -> None:
    settle(elsewhere, presume_ended=True)
    entry = list(elsewhere.entries())[-1]
    assert isinstance(entry, PresumedEnded)
    assert entry.signature is not None
    assert elsewhere.operator().public.holds(
        entry.signature, Purpose.OPERATOR, entry.signed_content
    )
    assert "presumed ended" in entry.about["why"]
    assert elsewhere.balance(ALICE).spent.value(BITS) == pytest.approx(0.1)
    (curve,) = curves_of(elsewhere.entries(), [elsewhere.balance(ALICE)])
    assert (curve.queries[-1], curve.bits[-1]) == (1.0, 0.1)
    elsewhere.verify()


def test_a_process_that_has_ended_needs_no_signature(ledger: Ledger) -> None:
    ended = replace(ProcessName.own(), started="1")
    ledger.reserve({ALICE: {BITS: 0.1, QUERIES: 1.0}}, {HOLDER: ended.as_json()})
    settle(ledger)
    assert isinstance(list(ledger.entries())[-1], Committed)


@pytest.mark.parametrize("signature", [None, "0" * 128])
def test_nobody_else_presumes_that_a_process_has_ended(
    elsewhere: Ledger, signature: str | None
) -> None:
    (query,) = elsewhere.open_queries()
    says: dict[str, Any] = {"query": query, "postings": {}, "about": {}, "signature": signature}
    forge(elsewhere, kind="presumed", **says)
    with pytest.raises(RecordError, match="signature is"):
        Ledger(elsewhere.folder, Party.SERVER).balance(ALICE)
    with pytest.raises(RecordError, match="signature is"):
        elsewhere.verify()


@pytest.mark.parametrize(
    "changes",
    [
        {"postings": {ALICE: {"bits_per_weight": 0.01, "queries": 1.0}}},
        {"about": {"basis": "worst case", "why": "another"}},
    ],
)
def test_what_the_operator_presumed_is_not_changed_by_who_has_all_other_keys(
    elsewhere: Ledger, changes: dict[str, Any]
) -> None:
    settle(elsewhere, presume_ended=True)
    *before, signed = elsewhere.path.read_bytes().splitlines(keepends=True)
    said = {name: value for name, value in json.loads(signed).items() if name not in SEALS}
    line, _ = seal({**said, **changes}, elsewhere.secret())
    elsewhere.path.write_bytes(b"".join(before) + line)
    (elsewhere.keys / "server.head").unlink()
    with pytest.raises(RecordError, match="its signature is not the operator's"):
        elsewhere.rebuild()


def test_a_presumption_is_not_used_again_for_another_query(elsewhere: Ledger) -> None:
    settle(elsewhere, presume_ended=True)
    signed = json.loads(elsewhere.path.read_bytes().splitlines()[-1])
    reserve_elsewhere(elsewhere)
    (query,) = elsewhere.open_queries()
    kept = {name: signed[name] for name in ("kind", "postings", "about", "signature")}
    forge(elsewhere, **{**kept, "query": query})
    with pytest.raises(RecordError, match="its signature is not the operator's"):
        elsewhere.head()


def test_the_key_of_another_operator_presumes_nothing(elsewhere: Ledger, tmp_path: Path) -> None:
    foreign = SigningKey.make(tmp_path / "foreign.pem")
    (query,) = elsewhere.open_queries()
    with pytest.raises(IdentityError, match="is not that of its operator"):
        elsewhere.commit(query, {}, {}, operator=foreign)
    assert list(elsewhere.open_queries()) == [query]


def test_what_was_presumed_before_it_was_signed_is_read(old: Ledger) -> None:
    """As earlier versions wrote it: a commit whose reason says so."""
    reserve_elsewhere(old)
    (query,) = old.open_queries()
    about = {"basis": "worst case", "why": "elsewhere cannot be looked up: presumed ended"}
    forge(old, kind="committed", query=query, postings={ALICE: {"queries": 1.0}}, about=about)
    assert old.verify().entries == 5
    reserve_elsewhere(old)
    settle(old, presume_ended=True)
    assert [type(entry) for entry in old.entries()][-2:] == [OperatorNamed, PresumedEnded]
    old.verify()


def test_a_clients_reservation_is_presumed_ended_by_its_owner(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", Party.CLIENT)
    unknown = replace(ProcessName.own(), host="elsewhere", boot="other")
    ledger.reserve({"a" * 64: {QUERIES: 1.0}}, {HOLDER: unknown.as_json()})
    settle(ledger, presume_ended=True)
    assert isinstance(list(ledger.entries())[-1], Committed)
    ledger.verify()
