"""A ledger's key: with it entries are sealed, and only its owner may read it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from labctl.errors import RecordError, SettingError
from labctl.plain_file import SMALL_BYTES, read_plain
from labctl.protocols.ledger.files import write_whole

# As long as the output of HMAC's SHA-256: a longer one adds little (RFC 2104, section 3).
_KEY_BYTES = 32
# Permissions of group and others, of which a key file has none.
_OWNER_ONLY = 0o077


def make_key(path: Path) -> None:
    """Make the key of a ledger that has no entries yet, unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, secrets.token_hex(_KEY_BYTES).encode("ascii"))


def read_key(path: Path, ledger: Path) -> bytes:
    """Return the key of a ledger; raises RecordError where it is gone, no key, or others' too."""
    if not path.exists():
        raise RecordError(f"{ledger} has entries, but its key {path} is gone")
    if open_to_others(path):
        raise RecordError(f"{path}: others may read this key; chmod 600 it, or start a new one")
    try:
        key = bytes.fromhex(read_plain(path, SMALL_BYTES).decode("ascii"))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordError(f"{path}: not a key of a ledger") from error
    if len(key) != _KEY_BYTES:
        raise RecordError(f"{path}: not a key of a ledger")
    return key


def open_to_others(path: Path) -> bool:
    """Whether others than its owner may do anything with a file; raises OSError."""
    return os.name == "posix" and bool(path.stat().st_mode & _OWNER_ONLY)


def operator_beside(keys: Path) -> Path:
    """Return the default folder of the operator's key: beside the ledger's keys, not in it."""
    whole = keys.resolve()
    return whole.with_name(f"{whole.name.removesuffix('-keys')}-operator")


def keys_beside(folder: Path) -> Path:
    """Return the default folder of keys and heads: beside the ledger, not in it.

    The same however the ledger's path is written: relative, with `..`, or through a link. Raises
    SettingError for the root of a file system, which has nothing beside it.
    """
    whole = folder.resolve()
    if not whole.name:
        raise SettingError("ledger", str(folder), "a folder, not the root of a file system")
    beside = whole.with_name(f"{whole.name}-keys")
    # Before links were followed the keys were made beside the link.
    unfollowed = folder.parent / beside.name
    return unfollowed if unfollowed.is_dir() and not beside.exists() else beside
