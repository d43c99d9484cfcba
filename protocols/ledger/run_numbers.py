"""Numbers the runs of an account, so that no two of them repeat the same simulated noise.

Noise of real light is new in every query. That of a simulation follows from a seed: two runs with
the same one would repeat their noise, which the sums by weight correctly take for a client's doing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.plain_file import SMALL_BYTES, read_plain_text
from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.files import disk, locked, write_whole

# 48 bits: readers that take numbers as doubles have them exactly.
_SEED_BYTES = 6
_NUMBER = re.compile(r"[0-9]{1,15}")


def next_run(folder: Path, account: str) -> int:
    """Return how many runs of an account came before, each number once among all processes.

    Where the count was lost, and in ledgers from before runs were counted, it continues from the
    account's queries. Raises RecordError if the ledger's folder cannot be used.
    """
    path = folder / "runs" / account.replace("/", "-")
    with _held(path.parent):
        noted = _noted(path)
        number = _queries(folder, account) if noted is None else noted
        write_whole(path, str(number + 1).encode("ascii"))
    return number


def seed_of_run(seed: int, number: int) -> int:
    """Return the seed of an account's run: the one given in the first, another in each further."""
    if number == 0:
        return seed
    digest = hashlib.sha256(f"run {number} of seed {seed}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES])


def _noted(path: Path) -> int | None:
    """Return the count as it was noted, None where it was not, or is no number."""
    try:
        text = read_plain_text(path, SMALL_BYTES, "ascii")
    except (FileNotFoundError, ValueError):
        return None
    return int(text) if _NUMBER.fullmatch(text) else None


def _queries(folder: Path, account: str) -> int:
    ledger = Ledger(folder, Party.SERVER)
    if not ledger.exists:
        return 0
    return round(ledger.balance(account).taken.value(Meter.QUERIES))


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    who = str(folder)
    with disk(who):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock", who, "its lock"):
            yield
