"""`labctl ledger`: budgets are set, what stands on accounts is shown, and damage is found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.data.models import load_network
from labctl.errors import LabctlError, ModelError, RecordError, SettingError, UsageError
from labctl.processes import ProcessName
from labctl.protocols.ledger.accounts import Party, weights_account
from labctl.protocols.ledger.amounts import Meter, information_of_bits
from labctl.protocols.ledger.book import HOLDER, Ledger

Run = Callable[..., str]
MODEL = "0123456789abcdef" * 4
ALICE = weights_account("alice", MODEL)
BOB = weights_account("bob", MODEL)
ACCOUNT = ("--client", "alice", "--model", MODEL)


@pytest.fixture
def books(tmp_path: Path, run_ledger: Run) -> Ledger:
    """A server's ledger with two clients of a model, one query of alice's never booked."""
    ledger = Ledger(tmp_path / "labctl-ledger", Party.SERVER)
    ledger.set_budget(ALICE, {Meter.WEIGHT_BITS: 0.5})
    for account, bits in ((ALICE, 0.1), (BOB, 0.05), (ALICE, 0.06)):
        amounts = {account: {Meter.WEIGHT_BITS: bits, Meter.QUERIES: 4.0}}
        with ledger.query(amounts, {}) as query:
            query.commit(amounts, {"basis": "bounds"})
    ledger.reserve({ALICE: {Meter.WEIGHT_BITS: 0.08, Meter.QUERIES: 2.0}}, {})
    return ledger


def shown(run_ledger: Run, *arguments: str) -> dict[str, Any]:
    text = run_ledger("show", *arguments, "--json")
    assert text.count("\n") == 1
    return dict(json.loads(text))


def test_a_budget_is_set_and_shown(run_ledger: Run) -> None:
    text = run_ledger("set-budget", *ACCOUNT, "--bits-per-weight", "0.25", "--max-queries", "100")
    assert "client alice on model 0123456789ab" in text
    assert "0.25" in text
    (account,) = shown(run_ledger)["server"]["accounts"]
    assert account["budget"] == {"bits_per_weight": 0.25, "queries": 100.0}
    assert (account["client"], account["model_sha256"]) == ("alice", MODEL)


def test_limits_per_input_are_the_clients_and_hold_for_any(run_ledger: Run) -> None:
    line = ("--bits-per-symbol", "0.5", "--formula", "journal", "--max-repeats", "10", "--json")
    found = json.loads(run_ledger("set-budget", *line))
    assert "server" not in found
    assert found["client"]["account"] == "any"
    limits = shown(run_ledger)["client"]["any_account"]
    assert limits["information_journal"] == pytest.approx(information_of_bits(0.5))
    assert limits["bits_per_symbol_journal"] == pytest.approx(0.5)
    assert limits["queries"] == 10
    assert "0.5 bit per symbol (journal)" in run_ledger("show")


def test_a_budget_is_taken_away(run_ledger: Run) -> None:
    run_ledger("set-budget", *ACCOUNT, "--max-queries", "3")
    run_ledger("set-budget", *ACCOUNT, "--unlimited")
    (account,) = shown(run_ledger)["server"]["accounts"]
    assert account["budget"] == {}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "at least one limit"),
        (("--unlimited", "--max-queries", "3"), "at least one limit"),
        (("--client", "alice", "--max-queries", "3"), "both, or neither"),
        (("--client", "alice", "--model", "0123", "--max-queries", "3"), "SHA-256"),
        (("--client", "a/b", "--model", MODEL, "--max-queries", "3"), "letters"),
        ((*ACCOUNT, "--max-repeats", "3"), "any input"),
        (("--bits-per-weight", "-1"), "0 to 1e"),
        (("--bits-per-weight", "nan"), "0 to 1e"),
        (("--bits-per-symbol", "1000"), "--bits-per-symbol"),
        (("--max-queries", "-1"), "queries"),
        (("--max-queries", "1" + "0" * 400), "max-queries"),
        (("--max-repeats", "1" + "0" * 400), "max-repeats"),
    ],
)
def test_a_budget_that_says_nothing_is_a_usage_error(
    arguments: tuple[str, ...], complaint: str, run_ledger: Run, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=complaint):
        run_ledger("set-budget", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_model_may_be_named(run_ledger: Run) -> None:
    run_ledger("set-budget", "--client", "alice", "--model", "reference", "--max-queries", "3")
    (account,) = shown(run_ledger, "--model", "reference")["server"]["accounts"]
    assert account["model_sha256"] == load_network("reference").sha256
    with pytest.raises(ModelError):
        run_ledger("show", "--model", "nowhere")


def test_what_is_spent_reserved_and_left_is_shown(run_ledger: Run, books: Ledger) -> None:
    found = shown(run_ledger)
    alice, bob = found["server"]["accounts"]
    assert alice["spent"] == {"bits_per_weight": 0.16, "queries": 8.0}
    assert alice["reserved"] == {"bits_per_weight": 0.08, "queries": 2.0}
    # No run has noted its terms: charges so far do not say what the next query reserves.
    assert (alice["queries_left"], alice["queries_left_known"]) == (None, False)
    assert (bob["queries_left"], bob["queries_left_known"], bob["overdrawn"]) == (None, True, False)
    (together,) = found["server"]["by_model"]
    assert together["clients"] == 2
    assert together["taken"]["bits_per_weight"] == pytest.approx(0.29)
    (postings,) = found["server"]["open"].values()
    assert postings == {ALICE: {"bits_per_weight": 0.08, "queries": 2.0}}
    assert found["server"]["head"]["hash"] == books.head().hash


def test_people_get_a_table(run_ledger: Run, books: Ledger) -> None:
    text = run_ledger("show")
    for part in ("alice", "bob", "0.16", "0.08", "0.5", "together: 0.29 bit", "add over queries"):
        assert part in text
    assert f"head, to note down: {books.head().hash} after 9 entries" in text


@pytest.mark.parametrize(
    ("arguments", "clients"),
    [
        (("--client", "bob"), ["bob"]),
        (("--model", "0123"), ["alice", "bob"]),
        (("--model", "ffff"), []),
        (("--client", "alice", "--model", MODEL), ["alice"]),
    ],
)
def test_accounts_can_be_chosen(
    arguments: tuple[str, ...], clients: list[str], run_ledger: Run, books: Ledger
) -> None:
    found = shown(run_ledger, *arguments)["server"]
    assert [account["client"] for account in found["accounts"]] == clients
    assert bool(found["open"]) == ("alice" in clients)


def test_the_figure_is_written(run_ledger: Run, books: Ledger, tmp_path: Path) -> None:
    found = shown(run_ledger, "--figure", "bits.png")
    assert found["figure"] == "bits.png"
    assert (tmp_path / "bits.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("figure", "said"),
    [("bits.pdf", "--figure"), ("nowhere/bits.png", "no such folder"), (".", "is a folder")],
)
def test_a_figure_that_cannot_be_written_is_refused(
    figure: str, said: str, run_ledger: Run, books: Ledger
) -> None:
    with pytest.raises(UsageError, match=said):
        run_ledger("show", "--figure", figure)


@pytest.mark.parametrize("name", ["show", "verify"])
def test_where_there_is_no_ledger_none_is_made(name: str, run_ledger: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no ledger in labctl-ledger"):
        run_ledger(name)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_ledger_verifies(run_ledger: Run, books: Ledger) -> None:
    head = books.head()
    found = json.loads(run_ledger("verify", "--server-head", head.hash, "--json"))
    assert found["verified"] is True
    assert (found["server"]["entries"], found["server"]["head"]) == (head.count, head.hash)
    assert "every entry holds" in run_ledger("verify")


def test_damage_is_named_by_file_and_line(run_ledger: Run, books: Ledger) -> None:
    content = books.path.read_bytes()
    books.path.write_bytes(content.replace(b'"bits_per_weight":0.05', b'"bits_per_weight":0.01', 1))
    with pytest.raises(RecordError, match=r"server\.jsonl:5: its hash is not that"):
        run_ledger("verify")


def test_a_head_that_was_noted_of_a_ledger_that_is_gone_is_missed(
    run_ledger: Run, books: Ledger
) -> None:
    with pytest.raises(LabctlError, match="no client ledger"):
        run_ledger("verify", "--client-head", "0" * 64)
    with pytest.raises(LabctlError, match="no entry has the hash"):
        run_ledger("verify", "--server-head", "0" * 64)


def test_a_lost_head_is_made_anew(run_ledger: Run, books: Ledger) -> None:
    head = books.head()
    (books.keys / "server.head").unlink()
    with pytest.raises(RecordError, match="--rebuild"):
        run_ledger("verify")
    found = json.loads(run_ledger("verify", "--rebuild", "--json"))
    assert found["server"]["head"] == head.hash


def test_keys_can_be_elsewhere(run_ledger: Run, tmp_path: Path) -> None:
    run_ledger("set-budget", *ACCOUNT, "--max-queries", "3", "--keys", "safe")
    assert (tmp_path / "safe" / "server.key").exists()
    assert not (tmp_path / "labctl-ledger-keys").exists()
    with pytest.raises(RecordError, match=r"server\.key is gone"):
        run_ledger("verify")
    assert json.loads(run_ledger("verify", "--keys", "safe", "--json"))["verified"] is True


@pytest.mark.parametrize(
    ("spelled", "where"), [(".", "home"), ("..", "home/inside"), ("link", "elsewhere")]
)
def test_one_ledger_has_one_key_folder_however_its_path_is_written(
    run_ledger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled: str, where: str
) -> None:
    home = tmp_path / "home"
    (home / "inside").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(home)
    monkeypatch.chdir(tmp_path / where)
    run_ledger("set-budget", "--ledger", spelled, *ACCOUNT, "--max-queries", "3")
    assert (tmp_path / "home-keys" / "server.key").exists()
    found = json.loads(run_ledger("verify", "--ledger", str(home), "--json"))
    assert found["verified"] is True


def test_keys_beside_a_link_are_still_found(run_ledger: Run, tmp_path: Path) -> None:
    """As they were made before links were followed."""
    (tmp_path / "deep" / "home").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "home")
    (tmp_path / "home-keys").mkdir()
    run_ledger("set-budget", "--ledger", "link", *ACCOUNT, "--max-queries", "3")
    assert (tmp_path / "home-keys" / "server.key").exists()


def test_a_budget_in_accuracy_needs_a_network_that_was_measured(
    run_here: Callable[..., Any],
) -> None:
    asked = ("ledger", "set-budget", "--client", "alice", "--copy-accuracy", "0.9")
    assert run_here(*asked, "--model", "noise-aware").returncode == 0
    refused = run_here(*asked, "--model", "few-rows")
    assert refused.returncode != 0
    assert "was measured, and what one network gives away says" in refused.stderr
    anybody = run_here("ledger", "set-budget", "--copy-accuracy", "0.9")
    assert "given with --client and --model" in anybody.stderr
    shown = json.loads(run_here("ledger", "show", "--json").stdout)
    (account,) = shown["server"]["accounts"]
    assert account["budget"] == {"copy_accuracy": 0.9}
    assert account["best_copy"]["reason"] == "no query was sent yet"


def unheld(books: Ledger) -> None:
    """Have the fixture's open query be of a process that has ended."""
    (query,) = books.open_queries()
    books.release(query, "of this process")
    gone = replace(ProcessName.own(), process_id=os.getppid(), started="1")
    books.reserve({ALICE: {Meter.WEIGHT_BITS: 0.08, Meter.QUERIES: 2.0}}, {HOLDER: gone.as_json()})


def test_what_a_killed_process_reserved_is_settled(run_ledger: Run, books: Ledger) -> None:
    unheld(books)
    planned = json.loads(run_ledger("settle", "--dry-run", "--json"))
    assert planned["dry_run"] is True
    (reservation,) = planned["reservations"]
    assert reservation["settled"] is True
    assert reservation["booked"] == {ALICE: {"bits_per_weight": 0.08, "queries": 2.0}}
    assert (reservation["queries_reserved"], reservation["queries_sent_at_most"]) == (2.0, None)
    assert len(books.open_queries()) == 1
    text = " ".join(run_ledger("settle").split())
    assert "nothing was noted of what was sent: all counts" in text
    assert "2 queries, 0.08 bit per real weight: client alice on model" in text
    assert books.open_queries() == {}
    assert books.balance(ALICE).spent.value(Meter.WEIGHT_BITS) == pytest.approx(0.24)
    assert run_ledger("settle").strip() == "no reservation is open"


def test_what_a_process_that_runs_has_reserved_is_left_open(run_ledger: Run, books: Ledger) -> None:
    (reservation,) = json.loads(run_ledger("settle", "--presume-ended", "--json"))["reservations"]
    assert (reservation["settled"], reservation["booked"]) == (False, None)
    assert reservation["process"]["process_id"] == os.getpid()
    assert f"process {os.getpid()} on" in " ".join(run_ledger("settle").split())
    assert len(books.open_queries()) == 1
