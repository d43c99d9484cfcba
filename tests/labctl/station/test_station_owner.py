"""The folder of locks is everybody's: what others put into it harms no file and stops nobody."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import BenchHeldError, UsageError
from labctl.station.owner import LOCKS, Ownership, owner_of

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="links and pipes are POSIX files"),
    pytest.mark.timeout(30),
]
ADDRESS = "ASRL1::INSTR"


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setenv(LOCKS, str(folder))
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of the user's that nobody else may read."""
    path = tmp_path / "own"
    path.write_text("own")
    path.chmod(0o600)
    return path


def unharmed(path: Path) -> bool:
    return path.read_text() == "own" and path.stat().st_mode & 0o777 == 0o600


def taken() -> Ownership:
    ownership = Ownership()
    ownership.take([ADDRESS], "a test")
    return ownership


def lock_of(folder: Path) -> Path:
    """Return the file that locks the address."""
    held = taken()
    (path,) = folder.glob("*.json")
    held.give_back()
    assert not path.exists()
    return path


def test_a_link_in_place_of_the_gate_is_not_followed(locks: Path, own: Path) -> None:
    (locks / ".gate").symlink_to(own)
    with pytest.raises(UsageError, match="no lock can be taken"):
        taken()
    assert unharmed(own)


def test_a_link_in_place_of_a_lock_is_replaced_and_not_followed(locks: Path, own: Path) -> None:
    path = lock_of(locks)
    path.symlink_to(own)
    held = taken()
    assert unharmed(own)
    assert not path.is_symlink()
    found = owner_of(ADDRESS)
    assert found is not None
    assert found.process_id == os.getpid()
    held.give_back()
    assert [each.name for each in locks.iterdir()] == [".gate"]


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_place_of_the_folder_is_named(
    own: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    monkeypatch.setenv(LOCKS, str(own / below if below else own))
    with pytest.raises(UsageError, match=f"no lock can be taken.*{LOCKS} names another"):
        taken()
    assert unharmed(own)


def test_a_lock_that_cannot_be_written_is_named_and_leaves_nothing(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    own_replace, done = os.replace, list[object]()

    def replace(source: Path, target: Path) -> None:
        done.append(target)
        if len(done) == 2:
            raise full
        own_replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    ownership = Ownership()
    with pytest.raises(UsageError, match="No space left on device"):
        ownership.take([ADDRESS, "ASRL2::INSTR"], "a test")
    ownership.give_back()
    assert [each.name for each in locks.iterdir()] == [".gate"]


def nested(path: Path) -> None:
    path.write_text("[" * 100_000)


def of_other_types(path: Path) -> None:
    held = taken()
    said = json.loads(path.read_text())
    held.give_back()
    path.write_text(json.dumps({**said, "process_id": "1", "started": 1}))


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("put", [os.mkfifo, nested, of_other_types, large])
def test_what_is_no_lock_names_nobody_and_keeps_nobody_waiting(
    locks: Path, put: Callable[[Path], object]
) -> None:
    put(lock_of(locks))
    assert owner_of(ADDRESS) is None
    held = taken()
    # A notebook's cell that is run twice: nothing outside has to be switched off.
    with pytest.raises(BenchHeldError, match=f"is held by process {os.getpid()}.*`close"):
        taken()
    held.give_back()
