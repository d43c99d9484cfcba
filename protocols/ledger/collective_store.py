"""Sums by weight of each account, on disk beside the server's ledger.

One file per client and model: a header in JSON and the layers' arrays, as an .npz. The header has
the SHA-256 of every array and is sealed with the ledger's key. A file is replaced as a whole, under
a lock; whoever puts back an older one has less light that was looked at, and is charged more.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from labctl.errors import RecordError, SettingError
from labctl.protocols.ledger.files import write_whole
from labctl.protocols.verification.collective import WeightSums
from labctl.protocols.verification.collective_record import (
    CollectivePart,
    CollectiveRecord,
    CollectiveSums,
    collective_sums,
)
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.running_evidence import CalibratedSums

VERSION = 1
_LOCK_TIMEOUT_S = 60.0
_PURPOSE = b"labctl ledger: sums by weight"
_SUMS = ("power", "degrees", "read", "scatter", "loud", "carriers", "pairs")


class CollectiveStore:
    """The sums by weight of all accounts of one server's ledger, in its folder.

    `key`: the ledger's. Several processes may add at a time. Raises RecordError for files
    that are damaged, of another version or account, or cannot be reached.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder = folder / "collective"
        self._key = hmac.new(key, _PURPOSE, hashlib.sha256).digest()

    def path(self, account: str) -> Path:
        """Return the file of an account."""
        return self._folder / f"{account.replace('/', '-')}.npz"

    def sums(self, account: str) -> CollectiveSums | None:
        """Return what an account's record comes to, None without one; reads no array."""
        header = self._header(account)
        if header is None:
            return None
        try:
            return CollectiveSums(_parts(header["parts"]), **{n: header["sums"][n] for n in _SUMS})
        except (KeyError, TypeError) as error:
            raise self._damaged(account, "its header lacks sums") from error

    def load(self, account: str) -> CollectiveRecord:
        """Return an account's record, empty without one."""
        header = self._header(account)
        if header is None:
            return CollectiveRecord()
        with self._opened(account) as file:
            layers: list[WeightSums] = []
            try:
                for digests in header["layers"]:
                    index = len(layers)
                    arrays = {name: file[f"{name}{index}"] for name in digests}
                    for name, digest in digests.items():
                        if _sha256(arrays[name]) != digest:
                            raise self._damaged(account, f"{name} of layer {index + 1} was changed")
                    layers.append(
                        WeightSums(arrays["sums"], arrays["shares"], arrays.get("entries"))
                    )
            except KeyError as error:
                raise self._damaged(account, f"no {error.args[0]}") from error
        return CollectiveRecord(tuple(layers), _parts(header["parts"]))

    def add(
        self, account: str, record: CollectiveRecord, evidence: Sequence[LayerEvidence]
    ) -> CollectiveSums | None:
        """Add a record to an account's and return what all of it comes to.

        `evidence` says what the weights are. On disk when this returns.
        """
        if not record.parts:
            return self.sums(account)
        with self._locked():
            try:
                whole = self.load(account).merged(record)
                sums = collective_sums(evidence, whole)
            except (SettingError, ValueError) as error:
                raise self._damaged(account, f"kept of another network ({error})") from error
            if sums is None:
                raise SettingError("record", "no sums by weight", "sums of what was read")
            self._write(account, whole, sums)
        return sums

    def _write(self, account: str, record: CollectiveRecord, sums: CollectiveSums) -> None:
        arrays: dict[str, Any] = {}
        digests = []
        for index, layer in enumerate(record.layers):
            named: dict[str, np.ndarray[Any, Any]] = {"sums": layer.sums, "shares": layer.shares}
            if layer.entries is not None:
                named["entries"] = layer.entries
            digests.append({name: _sha256(array) for name, array in named.items()})
            arrays.update({f"{name}{index}": array for name, array in named.items()})
        header = json.dumps(
            {
                "version": VERSION,
                "account": account,
                "layers": digests,
                "parts": [asdict(part) for part in record.parts],
                "sums": {name: getattr(sums, name) for name in _SUMS},
            },
            sort_keys=True,
        ).encode()
        content = io.BytesIO()
        np.savez(
            content,
            header=np.frombuffer(header, np.uint8),
            mac=np.frombuffer(self._code(header), np.uint8),
            **arrays,
        )
        with self._disk():
            write_whole(self.path(account), content.getvalue())

    def _header(self, account: str) -> Mapping[str, Any] | None:
        with self._disk():
            if not self.path(account).exists():
                return None
        with self._opened(account) as file:
            try:
                text, code = file["header"].tobytes(), file["mac"].tobytes()
                header = json.loads(text)
            except (KeyError, ValueError) as error:
                raise self._damaged(account, "no header") from error
        if not hmac.compare_digest(code, self._code(text)):
            raise self._damaged(account, "its header was not made with the key of this ledger")
        if header.get("version") != VERSION:
            raise self._damaged(account, f"version {header.get('version')}, expected {VERSION}")
        if header.get("account") != account:
            raise self._damaged(account, "of another account")
        return dict(header)

    def _code(self, header: bytes) -> bytes:
        return hmac.new(self._key, header, hashlib.sha256).digest()

    @contextmanager
    def _opened(self, account: str) -> Iterator[Mapping[str, Any]]:
        with self._disk():
            try:
                with (
                    self.path(account).open("rb") as content,
                    np.load(content, allow_pickle=False) as file,
                ):
                    yield file
            except (zipfile.BadZipFile, ValueError, EOFError) as error:
                raise self._damaged(account, str(error)) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._disk():
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(self._folder / "lock"), timeout=_LOCK_TIMEOUT_S)
            try:
                lock.acquire(poll_interval=0.005)
            except Timeout as error:
                raise RecordError(
                    f"{self._folder}: another process has held its lock for {_LOCK_TIMEOUT_S:.0f} s"
                ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise RecordError(f"{self._folder}: {error.filename or ''} {reason}") from error

    def _damaged(self, account: str, why: str) -> RecordError:
        return RecordError(
            f"{self.path(account)}: not the sums by weight of this account: {why}; put a copy "
            "back, or take it away: its queries then count as light that nobody looked at"
        )


def _sha256(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _parts(values: Sequence[Mapping[str, Any]]) -> tuple[CollectivePart, ...]:
    return tuple(
        CollectivePart(**{**value, "pooled": CalibratedSums(**value["pooled"])}) for value in values
    )
