"""A ledger's files: entries only ever appended, one at a time among all processes.

`server.jsonl` (or `client.jsonl`) holds the entries. Key and head are in a separate folder,
which only its owner may read: someone who can change the entries but not that folder can neither
write, change, move nor cut off an entry unnoticed. One who can change both can; against that the
head's hash, noted elsewhere, helps (`verify(noted=...)`). The operator's key is in a third folder,
which a server does not need while it runs: without it nobody can raise a budget.

An entry is on disk before the head is, and the head before a query may send light. What a killed
process left behind the last whole entry stays in the file, and the next entry tells how much it
is. Whole entries that the head does not know yet are taken in.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from labctl.errors import RecordError, SettingError
from labctl.plain_file import read_plain, within_memory
from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.admission import Admissions
from labctl.protocols.ledger.chain import seal, unseal
from labctl.protocols.ledger.entries import Entry, Opened, Recovered
from labctl.protocols.ledger.files import disk, locked, write_whole
from labctl.protocols.ledger.key import keys_beside, make_key, operator_beside, read_key
from labctl.protocols.ledger.lines import Line, chained, why_not
from labctl.protocols.ledger.signing import SigningKey
from labctl.protocols.ledger.state import Head, LedgerState, stored_state
from labctl.safety import uninterrupted
from labctl.wording import plain_fault

# Bytes, one line of them at a time, and what a line says.
_GROWS = 2
_E = TypeVar("_E", bound=BaseModel)


def utc_now() -> datetime:
    """Return the time of an entry."""
    return datetime.now(UTC)


class LedgerFiles:
    """The files of one party's ledger, made with the first entry; see `Ledger`."""

    def __init__(
        self,
        folder: Path,
        party: Party,
        *,
        keys: Path | None = None,
        operator_keys: Path | None = None,
        now: Callable[[], datetime] = utc_now,
        on_notice: Callable[[str], None] = lambda notice: None,
    ) -> None:
        for name, path in (
            ("ledger", folder),
            ("keys", keys),
            ("operator keys", operator_keys),
        ):
            if path is not None and path.exists() and not path.is_dir():
                raise SettingError(name, str(path), "a folder, or a name that nothing has yet")
        self.folder = folder
        self.party = party
        self.keys = keys_beside(folder) if keys is None else keys
        self.operator_keys = operator_beside(self.keys) if operator_keys is None else operator_keys
        apart = self.operator_keys.resolve()
        if any(apart.is_relative_to(path.resolve()) for path in (self.keys, folder)):
            valid = "a separate folder, which a running server does not need"
            raise SettingError("operator keys", str(self.operator_keys), valid)
        self.path = folder / f"{party}.jsonl"
        self._key_path = self.keys / f"{party}.key"
        self._head_path = self.keys / f"{party}.head"
        # Who has proven its identity to this object; no file keeps it.
        self.admissions = Admissions()
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

    def _next(self, state: LedgerState, kind: type[_E], **says: Any) -> _E:
        head = state.head
        try:
            entry = kind(number=head.count + 1, time=self._now(), previous=head.hash, **says)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SettingError(where, first.get("input"), plain_fault(first["msg"])) from error
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
        if self.path.exists():
            if not self.path.is_file():
                raise RecordError(f"{self.path}: not an ordinary file; take it away")
            if self.path.stat().st_size:
                return
        make_key(self._key_path)
        self._head_path.touch(mode=0o600)
        with stored_state(self._head_path) as state:
            if state.head.count:
                raise self._cut(state.head.count)
            opened = self._next(state, Opened, party=self.party, operator=self._new_operator())
        line, _ = seal(opened.model_dump(mode="json"), self._key())
        write_whole(self.path, line)

    def _new_operator(self) -> str | None:
        """Return the public key of the operator of a server, made where there is none."""
        if self.party is not Party.SERVER:
            return None
        self.operator_keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Another ledger of the same operator may have made it.
        with suppress(FileExistsError):
            return SigningKey.make(self._operator_path).public.der.hex()
        return self._operator_key().public.der.hex()

    def _operator_key(self) -> SigningKey:
        return SigningKey.read(self._operator_path, "the operator's")

    @property
    def _operator_path(self) -> Path:
        return self.operator_keys / "operator.pem"

    def _catch_up(self, state: LedgerState, file: BinaryIO, key: bytes) -> None:
        """Check the end of the file against the head, and take in what came after."""
        head = state.head
        size = file.seek(0, os.SEEK_END)
        if size < head.size:
            raise self._cut(head.count)
        file.seek(head.start)
        if head.count:
            self._last_line_holds(file.read(head.size - head.start), head, key)
        if size - head.size > (most := within_memory(_GROWS)):
            raise RecordError(
                f"{self.path}: {size - head.size} bytes that the head does not know; "
                f"at most {most} are read"
            )
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
        content = self._content() if self.path.exists() else b""
        yield from chained(content, Head(), key)

    def _content(self) -> bytes:
        """Return the whole file."""
        with self._disk():
            return read_plain(self.path, within_memory(_GROWS))

    def _tolerated(self, line: Line, head: Head) -> int:
        """Return the bytes behind the head that are no entry; raises RecordError for any before."""
        if line.head.size < head.size or not line.head.count:
            raise RecordError(f"{self.path}:{line.number}: {line.problem}")
        return line.trailing

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
