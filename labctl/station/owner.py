"""Who holds which instruments: one program at a time, by address, for all station files.

A lock is a small file for each address, in one folder of this computer (`LABCTL_LOCKS`, else a
folder `labctl-locks` among its temporary files). It names the program that holds it: process id and
the moment it started, host, since when, for what. All changes are made under one advisory lock of
the folder, so that two programs cannot both find an address free.

A lock whose program has ended is stale. A process id is used again some day: a program counts as
the same only if it also started at the same moment. While the dead program's watchdog still makes
the bench safe, the lock holds: a program that opens then waits for it.

Another computer on the same instrument is seen only if both use one folder (`LABCTL_LOCKS`) that
they share; what a program there does, nobody here can tell: its locks hold until they are removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from labctl.errors import BenchHeldError, UsageError
from labctl.plain_file import SMALL_BYTES, parsed_json, read_plain
from labctl.processes import runs, start_of

LOCKS = "LABCTL_LOCKS"
_GATE = ".gate"
# A watchdog that makes a bench safe needs about 1 s, and 12 s where instruments are silent.
_WATCHDOG_S = 20.0
_LOOK_S = 0.1


@dataclass(frozen=True)
class Owner:
    """A program that holds an address; `started`: the moment, as the system writes it."""

    address: str
    process_id: int
    started: str
    host: str
    since: str
    purpose: str
    token: str
    watchdog_id: int = 0
    watchdog_started: str = ""

    def __str__(self) -> str:
        return (
            f"{self.address} is held by process {self.process_id} on {self.host} since "
            f"{self.since}: {self.purpose}"
        )

    @property
    def is_alive(self) -> bool:
        """Whether its program still runs; one on another computer counts as running."""
        return self.host != socket.gethostname() or runs(self.process_id, self.started)

    @property
    def is_this_process(self) -> bool:
        """Whether it is the program that asks."""
        here = self.host == socket.gethostname() and self.process_id == os.getpid()
        return here and self.started == start_of(os.getpid())

    @property
    def is_being_made_safe(self) -> bool:
        """Whether the watchdog of a program that ended is still at work."""
        return bool(self.watchdog_id) and runs(self.watchdog_id, self.watchdog_started)


class Ownership:
    """The addresses that one station holds."""

    def __init__(self) -> None:
        self._token = ""
        self._held: list[Path] = []
        self._process_id = os.getpid()

    def take(self, addresses: Iterable[str], purpose: str) -> None:
        """Hold all addresses or none; raises BenchHeldError, naming who holds one of them."""
        addresses = sorted(set(addresses))
        self._process_id, self._token = os.getpid(), f"{os.getpid()}-{time.monotonic_ns()}"
        deadline_s = time.monotonic() + _WATCHDOG_S
        while (found := self._taken(addresses, purpose)) is not None:
            if found.is_alive or time.monotonic() > deadline_s:
                raise BenchHeldError(found.address, str(found), here=found.is_this_process)
            time.sleep(_LOOK_S)

    def name_watchdog(self, process_id: int) -> None:
        """Say which process makes the bench safe if this one dies."""
        with _alone():
            for path in self._held:
                own = _read(path)
                if own is not None and own.token == self._token:
                    started = start_of(process_id)
                    _write(path, replace(own, watchdog_id=process_id, watchdog_started=started))

    def give_back(self) -> None:
        """Hold nothing any more; what another took over stays as it is."""
        if not self._held or os.getpid() != self._process_id:
            return
        with _alone():
            for path in self._held:
                own = _read(path)
                if own is not None and own.token == self._token:
                    path.unlink(missing_ok=True)
        self._held = []

    def _taken(self, addresses: list[str], purpose: str) -> Owner | None:
        """Take all addresses; return who holds one of them if they are not free."""
        with _alone() as folder:
            paths = {address: folder / f"{_key(address)}.json" for address in addresses}
            for path in paths.values():
                other = _read(path)
                if other is not None and (other.is_alive or other.is_being_made_safe):
                    return other
            own = Owner(
                "",
                os.getpid(),
                start_of(os.getpid()),
                socket.gethostname(),
                datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
                purpose,
                self._token,
            )
            for address, path in paths.items():
                self._held.append(path)
                _write(path, replace(own, address=address))
        return None


def owner_of(address: str) -> Owner | None:
    """Return who holds an address; None if nobody does."""
    found = _read(_folder() / f"{_key(address)}.json")
    return found if found is not None and found.is_alive else None


def _folder() -> Path:
    folder = Path(os.environ.get(LOCKS) or Path(tempfile.gettempdir()) / "labctl-locks")
    if not folder.is_dir():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _no_lock(folder, error) from error
        with suppress(OSError):  # another user's folder, which everybody may use already
            folder.chmod(0o1777)
    return folder


@contextmanager
def _alone() -> Iterator[Path]:
    """Be the only program that looks at the locks or changes them."""
    folder = _folder()
    if sys.platform == "win32":
        yield folder
        return
    import fcntl

    # The folder is everybody's: a link in it could lead to a file of ours that is nobody else's.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(folder / _GATE, flags, 0o666)
    except OSError as error:
        raise _no_lock(folder / _GATE, error) from error
    try:
        with suppress(OSError):
            os.fchmod(descriptor, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)


def _key(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:20]


def _read(path: Path) -> Owner | None:
    """Return the owner that a lock names; one that cannot be read names nobody."""
    try:
        owner = Owner(**parsed_json(read_plain(path, SMALL_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    plain = all(type(getattr(owner, each.name)).__name__ == each.type for each in fields(owner))
    return owner if plain else None


def _write(path: Path, owner: Owner) -> None:
    # A new file, of a name that nobody knows before: never one that a link leads to.
    fresh = path.with_suffix(f".{secrets.token_hex(8)}")
    try:
        with fresh.open("x", encoding="utf-8") as file:
            file.write(json.dumps(asdict(owner), indent=1))
        os.replace(fresh, path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise _no_lock(path, error) from error


def _no_lock(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path}: no lock can be taken ({error.strerror}); must be in a folder that you may write "
        f"to, with room ({LOCKS} names another)"
    )
