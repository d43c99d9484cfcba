"""A ledger's entries in the bytes of a file: each follows the one before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from labctl.protocols.ledger.chain import unseal
from labctl.protocols.ledger.entries import (
    ENTRIES,
    Entry,
    Opened,
    Recovered,
)
from labctl.protocols.ledger.state import Head


@dataclass(frozen=True)
class Line:
    """An entry and the head after it; without one, bytes from there on that are none, and why."""

    entry: Entry | None
    head: Head
    number: int
    problem: str = ""
    trailing: int = 0


def chained(content: bytes, head: Head, key: bytes) -> Iterator[Line]:
    """Yield entries that follow `head` one after the other; last, what follows none, if any.

    Bytes that are no entry pass if the entry behind them tells of them.
    """
    base, good, number, problem = head.size, 0, 0, ""
    at = 0
    while at < len(content):
        newline = content.find(b"\n", at)
        end = len(content) if newline < 0 else newline + 1
        number += 1
        try:
            entry, digest = _entry(content[at:end], head, key)
            _check_gap(entry, content[good:at])
        except ValueError as error:
            problem = problem or f"{number}\n{error}"
        else:
            head = Head(entry.number, base + at, base + end, digest, head.recovered)
            yield Line(entry, head, number)
            good, problem = end, ""
        at = end
    if good < len(content):
        first, _, why = problem.partition("\n")
        yield Line(None, head, int(first), why, len(content) - good)


def _entry(line: bytes, head: Head, key: bytes) -> tuple[Entry, str]:
    """Return the entry of a line that follows `head`, and its hash; raises ValueError."""
    sealed = unseal(line, key)
    try:
        entry = ENTRIES.validate_python(sealed.content)
    except ValidationError as error:
        raise ValueError("not an entry of a ledger") from error
    if entry.previous != head.hash:
        raise ValueError("does not follow the entry before it")
    if entry.number != head.count + 1:
        raise ValueError(f"numbered {entry.number}, not {head.count + 1}")
    if isinstance(entry, Opened) != (head.count == 0):
        raise ValueError("a ledger begins with an entry that opens it, and with no other")
    return entry, sealed.hash


def _check_gap(entry: Entry, gap: bytes) -> None:
    stated = (entry.bytes, entry.sha256) if isinstance(entry, Recovered) else (0, None)
    found = (len(gap), hashlib.sha256(gap).hexdigest() if gap else None)
    if stated != found:
        raise ValueError("bytes before it are no entry")


def why_not(line: bytes, key: bytes) -> str:
    """Return why bytes do not begin a ledger."""
    try:
        unseal(line[: line.find(b"\n") + 1] or line, key)
    except ValueError as error:
        return str(error)
    return "does not begin a ledger"
