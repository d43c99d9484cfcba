"""How many queries of a reservation were sent: noted before their light leaves, for `settle`.

A small file for each reservation, beside the ledger's key and head, where nobody who can change
entries alone can cut it short. Its lines are sealed as a ledger's are: each follows the one before
it, by a key of its own that comes from the ledger's. A line is on disk before the light that it
tells of leaves, so that what a killed process had noted is never less than what it had sent. To
write seldom, a note tells of up to a quarter of the reservation in advance.

A file that is not whole to its last byte says nothing: then the worst case holds.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.plain_file import read_plain, within_memory
from labctl.protocols.ledger.chain import BEGINNING, seal, unseal
from labctl.protocols.ledger.files import disk

FOLDER = "sent"
_PURPOSE = b"labctl ledger: queries that were sent"
# Lines per reservation: each costs a write to the disk, and tells of the queries before the next.
_NOTES = 4
# Bytes become lines, and these what they say.
_GROWS = 10


def sent_path(keys: Path, party: str, query: str) -> Path:
    """Return the file of a reservation."""
    return keys / FOLDER / f"{party}-{query}.jsonl"


class SentNotes:
    """Notes, for one reservation, how many of its queries were sent.

    items: what each query is of, in their order. Raises RecordError where the disk refuses: then
    no light must leave.
    """

    def __init__(self, path: Path, key: bytes, query: str, items: Sequence[str]) -> None:
        self._path, self._key = path, _own(key)
        self._previous, self._noted = BEGINNING, 0
        self._count = len(items)
        with self._disk():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)
        try:
            self._write({"kind": "opened", "query": query, "items": list(items)})
        except BaseException:
            self.remove()
            raise

    def begins(self, count: int) -> None:
        """Have it on disk that the light of the first `count` queries may leave now."""
        if count <= self._noted:
            return
        step = -(-self._count // _NOTES)
        self._noted = max(count, min(-(-count // step) * step, self._count))
        self._write({"kind": "sent", "count": self._noted})

    def remove(self) -> None:
        """Take the file away: the reservation has ended."""
        with self._disk():
            self._file.close()
            self._path.unlink(missing_ok=True)

    def _write(self, says: dict[str, Any]) -> None:
        line, self._previous = seal({**says, "previous": self._previous}, self._key)
        with self._disk():
            written = self._file.write(line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes could be written")
            os.fsync(self._file.fileno())

    def _disk(self) -> Any:
        return disk(str(self._path))


@dataclass(frozen=True)
class Sent:
    """What a file of notes says: how many queries at most were sent, and what each was of."""

    count: int
    items: tuple[str, ...]


def read_sent(path: Path, key: bytes, query: str) -> Sent:
    """Return what was noted of a reservation.

    Raises ValueError with the reason where the file is none, damaged, cut or of another query, and
    FileNotFoundError where there is none.
    """
    key, previous, count = _own(key), BEGINNING, 0
    lines = read_plain(path, within_memory(_GROWS)).splitlines(keepends=True)
    items: tuple[str, ...] | None = None
    for number, line in enumerate(lines, start=1):
        says = unseal(line, key)
        if says.content.get("previous") != previous:
            raise ValueError(f"line {number} does not follow the one before it")
        previous = says.hash
        if number == 1:
            items = _items(says.content, query)
            continue
        assert items is not None
        count = _count(says.content, count, len(items))
    if items is None:
        raise ValueError("empty")
    return Sent(count, items)


def _items(content: Any, query: str) -> tuple[str, ...]:
    items = content.get("items")
    if content.get("kind") != "opened" or not isinstance(items, list):
        raise ValueError("does not begin with what was reserved")
    if content.get("query") != query:
        raise ValueError("of another query")
    if not all(isinstance(item, str) for item in items):
        raise ValueError("does not begin with what was reserved")
    return tuple(items)


def _count(content: Any, before: int, most: int) -> int:
    count = content.get("count")
    plain = isinstance(count, int) and not isinstance(count, bool)
    if content.get("kind") != "sent" or not plain or not before < count <= most:
        raise ValueError(f"expected more than {before} and at most {most} queries, got {count!r}")
    return int(count)


def _own(key: bytes) -> bytes:
    return hmac.new(key, _PURPOSE, hashlib.sha256).digest()
