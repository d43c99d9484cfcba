"""A client's name is bound to a key: without proof of it nothing is reserved, by anybody."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.errors import IdentityError, RecordError, SettingError
from labctl.protocols.ledger.accounts import Party, weights_account
from labctl.protocols.ledger.admission import NAME_ALONE, PossessionProof
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import IDENTITY, Ledger
from labctl.protocols.ledger.entries import Reserved
from labctl.protocols.ledger.run import Ledgers
from labctl.protocols.ledger.signing import SigningKey
from labctl.protocols.ledger.state import LedgerState

MODEL, OTHER_MODEL = "0" * 64, "1" * 64
ALICE, BOB = weights_account("alice", MODEL), weights_account("bob", MODEL)
BITS = {Meter.WEIGHT_BITS: 0.1}


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.make(tmp_path / "alice.pem")


@pytest.fixture
def other(tmp_path: Path) -> SigningKey:
    return SigningKey.make(tmp_path / "other.pem")


@pytest.fixture
def bound(ledger: Ledger, key: SigningKey) -> Ledger:
    """A ledger in which alice is bound to a key."""
    assert ledger.add_client("alice", key.public, ledger.operator()) is None
    return ledger


def again(ledger: Ledger) -> Ledger:
    """The same ledger as another process opens it."""
    return Ledger(ledger.folder, Party.SERVER)


def identities(ledger: Ledger) -> list[str]:
    return [each.about[IDENTITY] for each in ledger.entries() if isinstance(each, Reserved)]


def test_who_proves_the_key_may_reserve_and_the_entry_says_by_what(
    bound: Ledger, key: SigningKey
) -> None:
    bound.admit(ALICE, PossessionProof.of(bound.challenge(ALICE), key))
    bound.reserve({ALICE: BITS}, {IDENTITY: "anything"})
    bound.reserve({BOB: BITS}, {})
    assert identities(bound) == [key.public.fingerprint, NAME_ALONE]
    bound.verify()


def test_without_proof_nothing_is_reserved(bound: Ledger, key: SigningKey) -> None:
    entries = bound.head().count
    with pytest.raises(IdentityError, match=r"alice is bound to the key .* --client-key"):
        bound.reserve({ALICE: BITS}, {})
    bound.challenge(ALICE)
    with pytest.raises(IdentityError):
        bound.reserve({BOB: BITS, ALICE: BITS}, {})
    assert bound.head().count == entries
    # What one process was shown, another does not know.
    bound.admit(ALICE, PossessionProof.of(bound.challenge(ALICE), key))
    with pytest.raises(IdentityError):
        again(bound).reserve({ALICE: BITS}, {})


def test_another_key_is_refused(bound: Ledger, key: SigningKey, other: SigningKey) -> None:
    challenge = bound.challenge(ALICE)
    with pytest.raises(IdentityError, match="this is another"):
        bound.admit(ALICE, PossessionProof.of(challenge, other))
    challenge = bound.challenge(ALICE)
    foreign = PossessionProof.of(challenge, other)
    with pytest.raises(IdentityError, match="signature is not of this ledger's challenge"):
        bound.admit(ALICE, replace(foreign, public=key.public))


def test_a_signature_counts_once(bound: Ledger, key: SigningKey) -> None:
    proof = PossessionProof.of(bound.challenge(ALICE), key)
    bound.admit(ALICE, proof)
    with pytest.raises(IdentityError, match="no challenge is open"):
        bound.admit(ALICE, proof)
    fresh = again(bound)
    with pytest.raises(IdentityError, match="no challenge is open"):
        fresh.admit(ALICE, proof)
    fresh.challenge(ALICE)
    with pytest.raises(IdentityError, match="signature is not of"):
        fresh.admit(ALICE, proof)
    with pytest.raises(IdentityError):
        fresh.reserve({ALICE: BITS}, {})


def test_a_challenge_is_open_for_one_answer(
    bound: Ledger, key: SigningKey, other: SigningKey
) -> None:
    challenge = bound.challenge(ALICE)
    with pytest.raises(IdentityError):
        bound.admit(ALICE, PossessionProof.of(challenge, other))
    with pytest.raises(IdentityError, match="no challenge is open"):
        bound.admit(ALICE, PossessionProof.of(challenge, key))


def test_a_signature_for_another_account_is_refused(bound: Ledger, key: SigningKey) -> None:
    elsewhere = weights_account("alice", OTHER_MODEL)
    mine, theirs = bound.challenge(ALICE), bound.challenge(elsewhere)
    with pytest.raises(IdentityError, match="signature is not of"):
        bound.admit(elsewhere, PossessionProof.of(mine, key))
    bound.admit(ALICE, PossessionProof.of(mine, key))
    with pytest.raises(IdentityError):
        bound.reserve({elsewhere: BITS}, {})
    with pytest.raises(IdentityError, match="no challenge is open"):
        bound.admit(elsewhere, PossessionProof.of(theirs, key))


def test_a_signature_for_another_ledger_is_refused(
    bound: Ledger, key: SigningKey, tmp_path: Path
) -> None:
    """Also where that ledger repeats the number that this one asked with."""
    elsewhere = Ledger(tmp_path / "elsewhere", Party.SERVER)
    elsewhere.add_client("alice", key.public, elsewhere.operator())
    challenge = bound.challenge(ALICE)
    relayed = replace(elsewhere.challenge(ALICE), nonce=challenge.nonce)
    with pytest.raises(IdentityError, match="signature is not of"):
        bound.admit(ALICE, PossessionProof.of(relayed, key))


def test_challenges_are_never_the_same(bound: Ledger) -> None:
    asked = [bound.challenge(ALICE) for _ in range(50)]
    assert len({each.nonce for each in asked}) == 50
    assert {each.head for each in asked} == {bound.head().hash}
    assert {each.account for each in asked} == {ALICE}


def test_only_the_last_challenge_is_answered(bound: Ledger, key: SigningKey) -> None:
    asked = bound.challenge(ALICE)
    proof = PossessionProof.of(asked, key)
    bound.challenge(ALICE)
    with pytest.raises(IdentityError):
        bound.admit(ALICE, proof)


def test_a_second_key_needs_to_be_asked_for_and_ends_what_the_first_was_admitted_to(
    bound: Ledger, key: SigningKey, other: SigningKey
) -> None:
    bound.admit(ALICE, PossessionProof.of(bound.challenge(ALICE), key))
    bound.reserve({ALICE: BITS}, {})
    entries, operator = bound.head().count, bound.operator()
    with pytest.raises(SettingError, match="--replace"):
        bound.add_client("alice", other.public, operator)
    assert bound.head().count == entries
    before = again(bound).add_client("alice", other.public, operator, replace_key=True)
    assert before == key.public.fingerprint
    assert bound.head().count == entries + 1
    with pytest.raises(IdentityError, match=other.public.fingerprint[:16]):
        bound.reserve({ALICE: BITS}, {})
    with pytest.raises(IdentityError, match="this is another"):
        bound.admit(ALICE, PossessionProof.of(bound.challenge(ALICE), key))
    bound.admit(ALICE, PossessionProof.of(bound.challenge(ALICE), other))
    bound.reserve({ALICE: BITS}, {})
    bound.verify()


def test_the_same_key_again_is_no_entry_and_no_two_names_share_one(
    bound: Ledger, key: SigningKey
) -> None:
    entries, operator = bound.head().count, bound.operator()
    assert bound.add_client("alice", key.public, operator) == key.public.fingerprint
    with pytest.raises(SettingError, match="it is alice's"):
        bound.add_client("bob", key.public, operator)
    assert bound.head().count == entries


@pytest.mark.parametrize(
    "name",
    [
        "",
        "any",
        "alice ",
        " alice",
        "alice\n",
        "alice\x00",
        "alice/x",
        "alice\u00a0",
        "alice\u200b",
        "\u0430lice",
        "\uff41lice",
        "alic\u00e9",
        unicodedata.normalize("NFD", "alic\u00e9"),
    ],
)
def test_a_name_that_looks_like_a_bound_one_is_no_name(
    bound: Ledger, other: SigningKey, name: str
) -> None:
    """Spaces of several kinds, a Cyrillic letter, one of full width, accents in two forms."""
    with pytest.raises(SettingError, match="letters, digits"):
        Ledgers.in_folder(bound.folder, name).admit(MODEL, None)
    with pytest.raises(SettingError, match="letters, digits"):
        bound.add_client(name, other.public, bound.operator())


@pytest.mark.parametrize("name", ["Alice", "alicE"])
@pytest.mark.parametrize("has", ["key", "budget", "query"])
def test_a_name_that_differs_by_case_alone_is_refused_with_the_one_that_is_there(
    ledger: Ledger, key: SigningKey, other: SigningKey, name: str, has: str
) -> None:
    """In every place that takes a name."""
    if has == "key":
        ledger.add_client("alice", key.public, ledger.operator())
    elif has == "budget":
        ledger.set_budget(ALICE, {Meter.QUERIES: 1})
    else:
        ledger.reserve({ALICE: BITS}, {})
    entries = ledger.head().count
    account = weights_account(name, OTHER_MODEL)
    for use in (
        lambda: ledger.add_client(name, other.public, ledger.operator()),
        lambda: ledger.set_budget(account, {Meter.QUERIES: 9}, operator=ledger.operator()),
        lambda: again(ledger).reserve({account: BITS}, {}),
        lambda: Ledgers.in_folder(ledger.folder, name).admit(MODEL, None),
    ):
        with pytest.raises(SettingError, match="must be 'alice', as it is written"):
            use()
    assert ledger.head().count == entries
    ledger.verify()


def test_signs_in_a_name_are_signs_not_patterns(ledger: Ledger) -> None:
    ledger.reserve({weights_account("a_b", MODEL): BITS}, {})
    ledger.reserve({weights_account("aXb", MODEL): BITS}, {})
    ledger.reserve({weights_account("a_", MODEL): BITS}, {})
    with pytest.raises(SettingError, match="'aXb'"):
        ledger.reserve({weights_account("axb", MODEL): BITS}, {})
    for name in ("any", "ANY", "Any"):
        with pytest.raises(SettingError, match="not 'any'"):
            weights_account(name, MODEL)


def test_a_ledger_that_has_both_names_from_before_goes_on(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper = weights_account("Alice", MODEL)
    with monkeypatch.context() as before:
        before.setattr(LedgerState, "require_name", lambda state, client: None)
        for account in (ALICE, upper):
            ledger.reserve({account: BITS}, {})
    for account in (ALICE, upper):
        again(ledger).reserve({account: BITS}, {})
    with pytest.raises(SettingError, match="must be 'Alice'"):
        again(ledger).reserve({weights_account("ALICE", MODEL): BITS}, {})
    again(ledger).verify()


def test_an_edited_entry_does_not_hold(bound: Ledger, key: SigningKey, other: SigningKey) -> None:
    content = bound.path.read_bytes()
    new = other.public.fingerprint.encode()
    bound.path.write_bytes(content.replace(key.public.fingerprint.encode(), new))
    with pytest.raises(RecordError, match="its hash is not that of what it says"):
        bound.verify()
    with pytest.raises(RecordError):
        again(bound).reserve({ALICE: BITS}, {})


def test_a_name_that_is_bound_to_no_key_is_known_by_name_alone(
    ledger: Ledger, key: SigningKey
) -> None:
    ledgers = Ledgers.in_folder(ledger.folder, "bob")
    ledgers.admit(MODEL, None)
    assert not ledger.exists
    with pytest.raises(IdentityError, match="bound to no key in this ledger"):
        ledgers.admit(MODEL, key)
    ledger.start()
    with pytest.raises(IdentityError, match="bound to no key in this ledger"):
        ledger.admit(BOB, PossessionProof.of(ledger.challenge(BOB), key))


def test_settling_what_a_bound_client_reserved_needs_no_proof(
    bound: Ledger, key: SigningKey
) -> None:
    bound.admit(ALICE, PossessionProof.of(bound.challenge(ALICE), key))
    query = bound.reserve({ALICE: BITS}, {})
    again(bound).commit(query.id, {ALICE: BITS}, {})
    assert bound.balance(ALICE).spent.value(Meter.WEIGHT_BITS) == 0.1
