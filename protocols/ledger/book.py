"""A ledger on disk: entries only ever appended, one at a time among all processes.

`server.jsonl` (or `client.jsonl`) holds the entries. Key and head are in a separate folder,
which only its owner may read: someone who can change the entries but not that folder can neither
write, change, move nor cut off an entry unnoticed. One who can change both can; against that the
head's hash, noted elsewhere, helps (`verify(noted=...)`).

An entry is on disk before the head is, and the head before a query may send light. What a killed
process left behind the last whole entry stays in the file, and the next entry tells how much it
is. Whole entries that the head does not know yet are taken in.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from labctl.errors import RecordError, SettingError
from labctl.processes import ProcessName
from labctl.protocols.ledger.accounts import Balance, Balances, Party
from labctl.protocols.ledger.amounts import Amounts, Values, limits_of
from labctl.protocols.ledger.chain import seal, unseal
from labctl.protocols.ledger.entries import (
    ENTRIES,
    BudgetSet,
    Committed,
    Entry,
    Opened,
    Postings,
    Recovered,
    Released,
    Reserved,
)
from labctl.protocols.ledger.files import disk, locked, write_whole
from labctl.protocols.ledger.key import keys_beside, make_key, read_key
from labctl.protocols.ledger.lines import Line, chained, why_not
from labctl.protocols.ledger.open_query import OpenQuery
from labctl.protocols.ledger.sent import SentNotes, sent_path
from labctl.protocols.ledger.state import (
    Charge,
    Head,
    LedgerState,
    Verified,
    Worst,
    passing_state,
    settled,
    stored_state,
)
from labctl.safety import uninterrupted

HOLDER = "holder"
"""What a reservation calls, among what it says, the process that holds it."""
Limits = Values | Callable[[Balance], Values]


def utc_now() -> datetime:
    """Return the time of an entry."""
    return datetime.now(UTC)


class Ledger:
    """One party's ledger in a folder, which is made with the first entry.

    Several processes and threads may use it at a time. `on_notice` is called with what was left
    unfinished. Raises RecordError for what is damaged, was changed, or cannot be reached, and
    SettingError for a folder that is a file.
    """

    def __init__(
        self,
        folder: Path,
        party: Party,
        *,
        keys: Path | None = None,
        now: Callable[[], datetime] = utc_now,
        on_notice: Callable[[str], None] = lambda notice: None,
    ) -> None:
        for name, path in (("ledger", folder), ("keys", keys)):
            if path is not None and path.exists() and not path.is_dir():
                raise SettingError(name, str(path), "a folder, or a name that nothing has yet")
        self.folder = folder
        self.party = party
        self.keys = keys_beside(folder) if keys is None else keys
        self.path = folder / f"{party}.jsonl"
        self._key_path = self.keys / f"{party}.key"
        self._head_path = self.keys / f"{party}.head"
        self._now = now
        self._on_notice = on_notice

    @property
    def exists(self) -> bool:
        """Whether there is such a ledger, or a key that says that there was one."""
        return self.path.exists() or self._key_path.exists()

    @property
    def has_head(self) -> bool:
        """Whether the head is there, which tells whether entries are missing at the end."""
        return self._head_path.exists()

    def start(self) -> None:
        """Make the ledger where there is none; update its head where there is."""
        with self._changing():
            pass

    def secret(self) -> bytes:
        """Return the ledger's key, made with the first entry; raises RecordError."""
        self.start()
        return self._key()

    def head(self) -> Head:
        """Return the last entry's place and hash: note it elsewhere, it proves what was there."""
        with self._reading() as state:
            return state.head

    def balance(self, account: str) -> Balance:
        """Return the state of an account, under the limits that hold for it."""
        return self.balances_of([account])[account]

    def balances_of(self, accounts: Iterable[str]) -> Balances:
        """Return the states of some accounts at one time."""
        with self._reading() as state:
            return {account: state.effective(account) for account in accounts}

    def balances(self) -> Balances:
        """Return all accounts, each under the limits that hold for it."""
        with self._reading() as state:
            return state.balances()

    def open_queries(self) -> dict[str, Mapping[str, Mapping[str, float]]]:
        """Return what queries that never ended, or have not yet, have reserved by account."""
        with self._reading() as state:
            return {
                query: {
                    name: {str(meter): value for meter, value in values.items()}
                    for name, values in postings.items()
                }
                for query, postings in state.open_queries().items()
            }

    def set_budget(self, account: str, limits: Limits) -> None:
        """Set the limits of an account, replacing all of them; `any`: of accounts that have none.

        Written down are limits of whole units, rounded down. Limits that follow from the balance
        are worked out while nobody else changes it; no entry is made where they change nothing.
        """
        if not callable(limits):
            limits = limits_of(limits)
        with self._changing() as (state, file):
            balance = state.effective(account)
            wanted = limits_of(limits(balance)) if callable(limits) else limits
            if callable(limits) and Amounts.of(wanted) == balance.limits:
                return
            entry = self._next(state, BudgetSet, account=account, limits=wanted)
            self._append(state, file, entry)

    def fitting(self, account: str, each: Values, most: int) -> int:
        """Return how many times `each` fits the budget of an account now, at most `most`."""
        fits = self.balance(account).fitting(Amounts.of(each))
        return most if fits is None else max(min(fits, most), 0)

    @contextmanager
    def query(self, worst_case: Worst, about: Mapping[str, Any]) -> Iterator[OpenQuery]:
        """Reserve a worst case, by account, while a query runs; on disk before the block starts.

        Left without commit or release, the query is booked at its worst case. Killed, it stays
        reserved, which counts the same. Raises BudgetError if it does not fit a budget: then
        nothing is reserved.
        """
        opened = None
        try:
            with uninterrupted():
                opened = self.reserve(worst_case, about)
        except BaseException:
            if opened is not None:
                opened.release("interrupted before light was sent")
            raise
        try:
            yield opened
        finally:
            if opened.is_open:
                why = "the query ended before it was booked: light may have been sent"
                opened.commit(worst_case, {"basis": "worst case", "why": why})

    def reserve(self, charge: Charge, about: Mapping[str, Any]) -> OpenQuery:
        """Reserve a worst case, by account, on all accounts or on none; raises BudgetError."""
        identifier = secrets.token_hex(16)
        with self._changing() as (state, file):
            worst_case = settled(charge, state)
            asked = {account: Amounts.of(values) for account, values in worst_case.items()}
            for account, amounts in asked.items():
                state.effective(account).refuse_beyond(amounts)
            says = {HOLDER: ProcessName.own().as_json(), **about}
            entry = self._next(
                state, Reserved, query=identifier, postings=_plain(worst_case), about=says
            )
            self._append(state, file, entry)
        return OpenQuery(self, identifier, worst_case)

    def commit(self, query: str, charge: Charge, about: Mapping[str, Any]) -> Worst:
        """Append what a query used, and return it; raises RecordError if it is not open."""
        with self._changing() as (state, file):
            self._require_open(state, query)
            used = settled(charge, state)
            entry = self._next(
                state, Committed, query=query, postings=_plain(used), about=dict(about)
            )
            self._append(state, file, entry)
        return used

    def release(self, query: str, reason: str, owed: Charge | None = None) -> None:
        """Append that a query never happened, and book what is `owed` instead, if anything.

        Raises RecordError if it is not open.
        """
        with self._changing() as (state, file):
            self._require_open(state, query)
            used = {} if owed is None else settled(owed, state)
            entry = (
                self._next(
                    state, Committed, query=query, postings=_plain(used), about={"why": reason}
                )
                if used
                else self._next(state, Released, query=query, reason=reason)
            )
            self._append(state, file, entry)

    def notes(self, query: str, items: Sequence[str]) -> SentNotes:
        """Return what notes, for `settle`, how many queries of a reservation were sent."""
        return SentNotes(self.sent_path(query), self._key(), query, items)

    def sent_path(self, query: str) -> Path:
        """Return the file of those notes."""
        return sent_path(self.keys, self.party, query)

    def entries(self) -> Iterator[Entry]:
        """Yield all entries, each checked; raises RecordError at the first that does not hold."""
        head = self.head()
        for line in self._lines(self._key()):
            if line.entry is None:
                self._tolerated(line, head)
                return
            yield line.entry

    def latest(self) -> Iterator[Entry]:
        """Yield entries from the last one back, each held to its own code, not to the chain."""
        end, key = self.head().size, self._key()
        with self._disk():
            content = self.path.read_bytes()[:end]
        while end > 0:
            start = content.rfind(b"\n", 0, end - 1) + 1
            # Bytes that a killed process left are no entry; `entries` and `verify` say so.
            with suppress(ValueError):
                yield ENTRIES.validate_python(unseal(content[start:end], key).content)
            end = start

    def verify(
        self, noted: str | None = None, on_entries: Callable[[int], None] = lambda count: None
    ) -> Verified:
        """Check every byte: chain, codes, sums, and that nothing is missing at the end.

        `noted`: a head's hash that was noted elsewhere, which must be in the chain. Raises
        RecordError that names the first line that does not hold. Changes nothing.
        """
        if not self.exists:
            raise self._missing()
        key = self._key()
        with self._locked(), stored_state(self._existing_head()) as kept, passing_state() as again:
            head, trailing, seen = kept.head, 0, noted is None
            for line in self._lines(key):
                if line.entry is None:
                    trailing = self._tolerated(line, head)
                    break
                seen = seen or line.head.hash == noted
                self._apply(again, line.entry, line.head)
                if line.head.count == head.count:
                    self._agree(again, kept)
                on_entries(1)
            self._whole(again.head, head)
            if not seen:
                raise RecordError(f"{self.path}: no entry has the hash {noted} that was noted")
            return Verified(again.head.count, again.head.hash, again.head.recovered, trailing)

    def rebuild(self) -> Verified:
        """Make the head again from all entries where it was lost; then verify.

        What was cut off the end before is not seen to be missing. Raises RecordError.
        """
        if not self._key_path.exists() or not self.path.exists():
            raise self._missing()
        if self._head_path.exists():
            raise RecordError(f"{self._head_path} is there: take it away to have it made again")
        with (
            self._disk(),
            self._locked(),
            stored_state(self._head_path) as state,
            self.path.open("rb+") as file,
        ):
            self._catch_up(state, file, self._key())
        return self.verify()

    def _require_open(self, state: LedgerState, query: str) -> None:
        if not state.is_open(query):
            raise RecordError(f"{self.path}: query {query} is not open: it has ended before")

    def _next(self, state: LedgerState, kind: type[Any], **says: Any) -> Entry:
        head = state.head
        try:
            entry: Entry = kind(number=head.count + 1, time=self._now(), previous=head.hash, **says)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SettingError(where, first.get("input"), first["msg"]) from error
        return entry

    def _append(
        self, state: LedgerState, file: BinaryIO, entry: Entry, before: bytes = b""
    ) -> None:
        """Write an entry behind the last, then take it in; `before` ends what is unfinished."""
        try:
            line, digest = seal(entry.model_dump(mode="json"), self._key())
        except (ValueError, TypeError, RecursionError) as error:
            raise SettingError("about", "an entry", f"plain JSON values ({error})") from error
        file.seek(0, os.SEEK_END)
        start = file.tell() + len(before)
        file.write(before + line)
        file.flush()
        os.fsync(file.fileno())
        head = state.head
        self._apply(
            state, entry, replace(head, count=head.count + 1, start=start,
                                  size=start + len(line), hash=digest)
        )  # fmt: skip

    def _apply(self, state: LedgerState, entry: Entry, head: Head) -> None:
        try:
            state.apply(entry, replace(head, recovered=state.head.recovered))
        except (ValueError, SettingError) as error:
            raise RecordError(f"{self.path}: entry {entry.number}: {error}") from error

    @contextmanager
    def _reading(self) -> Iterator[LedgerState]:
        """Give the state of a ledger that exists."""
        if not self.exists:
            raise self._missing()
        with self._changing() as (state, _):
            yield state

    @contextmanager
    def _changing(self) -> Iterator[tuple[LedgerState, BinaryIO]]:
        """Hold the lock, the state and the file, made where missing and updated.

        Interruptions wait; if it raises, the state is as before, and what was appended is found
        when the ledger is used next.
        """
        with uninterrupted(), self._disk():
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._begin()
                with stored_state(self._existing_head()) as state, self.path.open("rb+") as file:
                    self._catch_up(state, file, self._key())
                    yield state, file

    def _begin(self) -> None:
        """Make key, head and first entry where there are none: in this order, each one whole."""
        if self.path.exists() and self.path.stat().st_size:
            return
        make_key(self._key_path)
        self._head_path.touch(mode=0o600)
        with stored_state(self._head_path) as state:
            if state.head.count:
                raise self._cut(state.head.count)
            opened = self._next(state, Opened, party=self.party)
        line, _ = seal(opened.model_dump(mode="json"), self._key())
        write_whole(self.path, line)

    def _catch_up(self, state: LedgerState, file: BinaryIO, key: bytes) -> None:
        """Check the end of the file against the head, and take in what came after."""
        head = state.head
        size = file.seek(0, os.SEEK_END)
        if size < head.size:
            raise self._cut(head.count)
        file.seek(head.start)
        if head.count:
            self._last_line_holds(file.read(head.size - head.start), head, key)
        file.seek(head.size)
        rest = file.read()
        for line in chained(rest, head, key):
            if line.entry is not None:
                self._apply(state, line.entry, line.head)
        torn = rest[state.head.size - head.size :]
        if torn and state.head.count:
            self._vouch(state, file, torn)
        elif torn:
            raise RecordError(f"{self.path}:1: {why_not(torn, key)}")

    def _last_line_holds(self, line: bytes, head: Head, key: bytes) -> None:
        try:
            holds = unseal(line, key).hash == head.hash
        except ValueError as error:
            raise RecordError(f"{self.path}: entry {head.count}, the last: {error}") from error
        if not holds:
            raise RecordError(f"{self.path}: entry {head.count} is not the one the head knows")

    def _vouch(self, state: LedgerState, file: BinaryIO, torn: bytes) -> None:
        """Record, in an entry, bytes that are none."""
        ending = b"" if torn.endswith(b"\n") else b"\n"
        left = torn + ending
        digest = hashlib.sha256(left).hexdigest()
        entry = self._next(state, Recovered, bytes=len(left), sha256=digest)
        self._append(state, file, entry, before=ending)
        self._on_notice(
            f"{self.path}: {len(torn)} bytes that are no whole entry, left by a process that was "
            f"killed; they stay there, entry {entry.number} tells of them"
        )

    def _lines(self, key: bytes) -> Iterator[Line]:
        with self._disk():
            content = self.path.read_bytes() if self.path.exists() else b""
        yield from chained(content, Head(), key)

    def _tolerated(self, line: Line, head: Head) -> int:
        """Return the bytes behind the head that are no entry; raises RecordError for any before."""
        if line.head.size < head.size or not line.head.count:
            raise RecordError(f"{self.path}:{line.number}: {line.problem}")
        return line.trailing

    def _agree(self, again: LedgerState, kept: LedgerState) -> None:
        if not again.same_as(kept):
            raise RecordError(
                f"{self._head_path}: its sums are not those of the entries; take it away and run "
                "labctl ledger verify --rebuild"
            )

    def _whole(self, found: Head, head: Head) -> None:
        if found.count < head.count:
            raise self._cut(head.count, found.count)

    def _cut(self, known: int, found: int | None = None) -> RecordError:
        ends = "ends before" if found is None else f"ends after entry {found}"
        return RecordError(
            f"{self.path}: cut short: the head knows {known} entries, the file {ends}"
        )

    def _missing(self) -> RecordError:
        return RecordError(
            f"no {self.party} ledger in {self.folder} with its key in {self.keys}; a run with "
            "--ledger, or labctl ledger set-budget, starts one"
        )

    def _key(self) -> bytes:
        with self._disk():
            return read_key(self._key_path, self.path)

    def _existing_head(self) -> Path:
        if not self._head_path.exists():
            raise RecordError(
                f"{self._head_path} is gone, so that nobody can tell whether entries are missing; "
                "restore it, or run labctl ledger verify --rebuild"
            )
        return self._head_path

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.folder / f"{self.party}.lock", self._name)

    def _disk(self) -> AbstractContextManager[None]:
        return disk(self._name)

    @property
    def _name(self) -> str:
        return f"ledger {self.folder}"


def _plain(postings: Worst) -> Postings:
    return {account: dict(values) for account, values in postings.items()}
