"""`labctl ledger client-key|add-client` and the operator's key, as people use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import IdentityError, SettingError
from labctl.protocols.ledger.accounts import Party, weights_account
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.signing import SigningKey

MODEL = "0123456789abcdef" * 4
ACCOUNT = ("--client", "alice", "--model", MODEL)
Run = Callable[..., str]


@pytest.fixture
def public(run_ledger: Run) -> str:
    """The file of a client's public key, whose private one is in alice.pem."""
    Path("alice.pub").write_text(run_ledger("client-key", "alice.pem"))
    return "alice.pub"


def shown(run_ledger: Run) -> dict[str, Any]:
    return dict(json.loads(run_ledger("show", "--json"))["server"])


def test_a_client_makes_its_key_and_prints_only_the_public_one(run_ledger: Run) -> None:
    text = run_ledger("client-key", "alice.pem")
    key = SigningKey.read(Path("alice.pem"), "alice's")
    assert text == key.public_pem
    assert "PRIVATE" not in text
    found = json.loads(run_ledger("client-key", "bob.pem", "--json"))
    assert found["fingerprint"] != key.public.fingerprint
    assert set(found) == {"private_key", "public_key", "fingerprint"}
    with pytest.raises(SettingError, match="this is there already"):
        run_ledger("client-key", "alice.pem")
    assert SigningKey.read(Path("alice.pem"), "alice's").public == key.public
    for folder in ("alice.pem", "missing"):
        with pytest.raises(SettingError, match=r"client key = .*: must be in a folder that is"):
            run_ledger("client-key", f"{folder}/inside.pem")


def test_a_name_is_bound_to_a_key_and_shown_with_it(run_ledger: Run, public: str) -> None:
    run_ledger("set-budget", *ACCOUNT, "--max-queries", "3")
    assert shown(run_ledger)["accounts"][0]["identity"] == "name alone"
    assert "name alone" in run_ledger("show")
    found = json.loads(run_ledger("add-client", "alice", "--public-key", public, "--json"))
    fingerprint = SigningKey.read(Path("alice.pem"), "alice's").public.fingerprint
    assert (found["fingerprint"], found["before"]) == (fingerprint, None)
    server = shown(run_ledger)
    assert server["accounts"][0]["identity"] == fingerprint
    assert server["clients"] == {"alice": fingerprint}
    assert f"alice: key {fingerprint[:16]}" in run_ledger("show")
    assert json.loads(run_ledger("verify", "--json"))["verified"] is True


def test_a_second_key_needs_replace(run_ledger: Run, public: str) -> None:
    run_ledger("add-client", "alice", "--public-key", public)
    Path("new.pub").write_text(run_ledger("client-key", "new.pem"))
    with pytest.raises(SettingError, match="or --replace"):
        run_ledger("add-client", "alice", "--public-key", "new.pub")
    text = run_ledger("add-client", "alice", "--public-key", "new.pub", "--replace")
    old, new = (SigningKey.read(Path(name), "a").public for name in ("alice.pem", "new.pem"))
    assert f"no longer to {old.fingerprint}" in text
    assert shown(run_ledger)["clients"] == {"alice": new.fingerprint}


@pytest.mark.parametrize("name", ["alice ", "al\u0456ce"])
def test_a_name_that_no_account_can_have_is_bound_to_nothing(
    run_ledger: Run, public: str, name: str
) -> None:
    with pytest.raises(SettingError, match="letters, digits"):
        run_ledger("add-client", name, "--public-key", public)
    assert not Path("labctl-ledger").exists()


def test_the_operators_key_may_be_anywhere_and_is_needed(run_ledger: Run, public: str) -> None:
    run_ledger("set-budget", *ACCOUNT, "--max-queries", "3", "--operator-keys", "stick")
    assert not Path("labctl-ledger-operator").exists()
    for refused in (
        ("set-budget", *ACCOUNT, "--max-queries", "4"),
        ("set-budget", *ACCOUNT, "--max-queries", "2"),
        ("add-client", "alice", "--public-key", public),
        ("settle", "--presume-ended"),
    ):
        with pytest.raises(IdentityError, match="the operator's key is not there"):
            run_ledger(*refused)
    run_ledger("set-budget", *ACCOUNT, "--max-queries", "4", "--operator-keys", "stick")
    run_ledger("add-client", "alice", "--public-key", public, "--operator-keys", "stick")
    run_ledger("settle", "--presume-ended", "--operator-keys", "stick")
    # What needs no operator asks for none.
    run_ledger("settle")
    run_ledger("show")
    run_ledger("set-budget", "--max-repeats", "3")
    run_ledger("set-budget", "--max-repeats", "4")
    balance = Ledger(Path("labctl-ledger"), Party.SERVER).balance(weights_account("alice", MODEL))
    assert balance.limits.value(Meter.QUERIES) == 4
