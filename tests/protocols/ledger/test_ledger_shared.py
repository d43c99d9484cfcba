"""A ledger whose making was cut short, that many write at once, or that the disk refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
from booked_amounts import ALICE, BITS, bits

from labctl.errors import RecordError, UsageError
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.entries import Entry
from labctl.protocols.ledger.state import Head, LedgerState


def test_a_ledger_whose_making_was_cut_short_is_made_by_the_next(ledger: Ledger) -> None:
    ledger.start()
    whole = ledger.path.read_bytes()
    ledger.path.unlink()
    (ledger.keys / "server.head").unlink()
    ledger.start()
    assert ledger.path.read_bytes() != whole
    assert ledger.verify().entries == 1


_SPENDS = """
import json, sys
from pathlib import Path
from labctl.errors import UsageError
from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger

ledger, account = Ledger(Path(sys.argv[1]), Party.SERVER), sys.argv[2]
each = {account: {Meter.WEIGHT_BITS: 0.0437, Meter.QUERIES: 1}}
done = 0
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    try:
        with ledger.query(each, {}) as query:
            query.commit(each, {})
        done += 1
    except UsageError:
        pass
print(done)
"""


def test_eight_processes_cannot_overspend(ledger: Ledger) -> None:
    ledger.set_budget(ALICE, {BITS: 2.185})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _SPENDS, str(ledger.folder), ALICE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n", timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sum(map(int, outputs)) == 50
    balance = ledger.balance(ALICE)
    assert balance.spent.unit(BITS) == balance.limits.unit(BITS)
    assert balance.reserved.unit(BITS) == 0
    assert ledger.verify().entries == 2 + 2 * 50


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ledger.set_budget(ALICE, {Meter.QUERIES: 5})

    def ask(number: int) -> bool:
        with suppress(UsageError):
            ledger.reserve({ALICE: bits(0.1)}, {"thread": number})
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(ask, range(8))) == 5


def test_a_ledger_that_another_process_holds_is_waited_for_and_then_given_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    from labctl.protocols.ledger import files

    ledger.start()
    monkeypatch.setattr(files, "_LOCK_TIMEOUT_S", 0.05)
    with FileLock(str(ledger.folder / "server.lock")), pytest.raises(RecordError, match="has held"):
        ledger.head()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ledger: ledger.folder.write_text("a file"),
        lambda ledger: ledger.keys.write_text("a file"),
        lambda ledger: ledger.path.mkdir(parents=True),
    ],
)
def test_what_the_disk_refuses_is_one_error(
    spoil: Callable[[Ledger], object], ledger: Ledger
) -> None:
    spoil(ledger)
    with pytest.raises(RecordError, match="ledger"):
        ledger.set_budget(ALICE, {BITS: 1.0})


def test_an_entry_is_plain_json_that_other_programs_can_check(ledger: Ledger) -> None:
    import hashlib

    ledger.set_budget(ALICE, {BITS: 1.0})
    ledger.reserve({ALICE: bits(0.25)}, {"settings": {"mu": 0.57}})
    before = "0" * 64
    for line in ledger.path.read_text(encoding="ascii").splitlines():
        entry = json.loads(line)
        told = {name: value for name, value in entry.items() if name not in {"hash", "mac"}}
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        assert entry["previous"] == before
        assert entry["hash"] == hashlib.sha256(text.encode()).hexdigest()
        before = entry["hash"]
    assert before == ledger.head().hash


def _without_folder(ledger: Ledger) -> None:
    shutil.rmtree(ledger.keys)


def _without_head(ledger: Ledger) -> None:
    (ledger.keys / "server.head").unlink()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the files that are open")
@pytest.mark.parametrize("remove", [_without_folder, _without_head])
def test_a_head_that_is_removed_while_it_is_kept_is_named_so(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, remove: Callable[[Ledger], None]
) -> None:
    ledger.set_budget(ALICE, {BITS: 1.0})
    as_before = LedgerState.apply

    def removed(state: LedgerState, entry: Entry, head: Head) -> None:
        remove(ledger)
        as_before(state, entry, head)

    monkeypatch.setattr(LedgerState, "apply", removed)
    with pytest.raises(RecordError, match=r"server.head: .*or its folder was removed meanwhile"):
        ledger.reserve({ALICE: bits(0.25)}, {})
