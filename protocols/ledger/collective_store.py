"""Sums by weight of each account, on disk beside the server's ledger.

One file per client, model and terms of the light: a header in JSON and the layers' arrays, as an
.npz. The header has the SHA-256 of every array and is sealed with the ledger's key. A file is
replaced as a whole, under a lock; someone who puts back an older one has less light that was
verified, and is charged more.

Light of other terms is kept apart because what half of the queries show of a weight says what all
do only where all carry it with the same light (`collective_noise`), and because what one run may
trust another may not.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labctl.data.archive_room import plain_npz
from labctl.errors import RecordError, SettingError
from labctl.plain_file import open_plain
from labctl.protocols.leakage.assumptions import Assumptions, Trust
from labctl.protocols.ledger.files import disk, locked, write_whole
from labctl.protocols.verification.collective import WeightSums
from labctl.protocols.verification.collective_record import (
    CollectivePart,
    CollectiveRecord,
    CollectiveSums,
    collective_sums,
)
from labctl.protocols.verification.doubts import EXACT, UNKNOWN, Doubts
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.running_evidence import CalibratedSums

# Of the files' format; others are refused.
VERSION = 2
_SUFFIX = ".npz"
# 64 bits tell the few kinds of light of a folder apart.
_KEY_DIGITS = 16
_PURPOSE = b"labctl ledger: sums by weight"
# What NumPy and the zip reader raise for bytes that are not what they look like.
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, ValueError, TypeError, KeyError, AttributeError),
    *(EOFError, RuntimeError, MemoryError, OverflowError),
)
# What records held in place of the link's transmittance, before doubts were noted.
_BEFORE = "client_transmittance"
_TYPES = {"sums": "<f4", "shares": "<f8", "entries": "<f4"}
_SUMS = ("power", "degrees", "read", "scatter", "loud", "carriers", "pairs")


@dataclass(frozen=True)
class LightTerms:
    """With how much light queries carry a weight, and what may be trusted of its way.

    `mean_photons` per mode; `carriers`: quadratures of a query that carry one weight.
    `technical_noise` in SNU and the `link_transmittance` as calibrated, the client's rotation left
    out, matter where noise and loss are trusted, and may then change from run to run. `doubts`:
    of the constants of the bench; of records from before they were noted nothing is known.
    """

    mean_photons: float
    carriers: int
    assumptions: Assumptions
    technical_noise: float = 0.0
    link_transmittance: float = 1.0
    doubts: Doubts = EXACT

    @property
    def key(self) -> str:
        """Name what must be the same for queries to be summed together."""
        trusted = self.assumptions
        words = [repr(float(self.mean_photons)), str(self.carriers), trusted.loss]
        text = " ".join([*words, trusted.technical_noise])
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]

    def mixed(self, other: LightTerms, share: float) -> LightTerms:
        """Return the mean with terms of the same key that `share` of the light came under."""

        def mean(one: float, two: float) -> float:
            return (1.0 - share) * one + share * two

        return replace(
            self,
            technical_noise=mean(self.technical_noise, other.technical_noise),
            link_transmittance=mean(self.link_transmittance, other.link_transmittance),
            doubts=self.doubts.worse(other.doubts),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "doubts": self.doubts.as_json()}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> LightTerms:
        """Return the terms of `as_json`; raises TypeError, ValueError or KeyError."""
        named = {name: value for name, value in values.items() if name != _BEFORE}
        trusted = {name: Trust(value) for name, value in values["assumptions"].items()}
        doubts = Doubts.of_json(values["doubts"]) if "doubts" in values else UNKNOWN
        return cls(**{**named, "assumptions": Assumptions(**trusted), "doubts": doubts})


@dataclass(frozen=True)
class KeptSums:
    """What light of the same terms came to, the terms on average over it."""

    terms: LightTerms
    sums: CollectiveSums


class CollectiveStore:
    """The sums by weight of all accounts of one server's ledger, in its folder.

    `key`: the ledger's. Several processes may add at a time. Raises RecordError for files
    that are damaged, of another version or account, or cannot be reached.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder = folder / "collective"
        self._key = hmac.new(key, _PURPOSE, hashlib.sha256).digest()

    def path(self, account: str, terms: LightTerms) -> Path:
        """Return the file of an account's light of these terms."""
        return self._folder / f"{_stem(account)}{terms.key}{_SUFFIX}"

    def kept(self, account: str) -> tuple[KeptSums, ...]:
        """Return what an account's records come to, by terms of the light; reads no array."""
        with self._disk():
            names = sorted(path.name for path in self._folder.glob(f"*{_SUFFIX}"))
        own = [name for name in names if name.startswith(_stem(account))]
        headers = [self._header(account, self._folder / name) for name in own]
        return tuple(self._sums(account, header) for header in headers if header is not None)

    def _sums(self, account: str, header: Mapping[str, Any]) -> KeptSums:
        try:
            named = {name: header["sums"][name] for name in _SUMS}
            sums = CollectiveSums(_parts(header["parts"]), **named)
            return KeptSums(LightTerms.of_json(header["terms"]), sums)
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(self._folder, "its header lacks sums") from error

    def load(self, account: str, terms: LightTerms) -> CollectiveRecord:
        """Return an account's record of light of these terms, empty without one."""
        path = self.path(account, terms)
        # Header and arrays of one opening: another process may put a newer file there meanwhile.
        with self._opened(path) as file:
            if file is None:
                return CollectiveRecord()
            header = self._checked(account, path, file)
            layers = [
                self._layer(path, file, index, digests)
                for index, digests in enumerate(header["layers"])
            ]
        return CollectiveRecord(tuple(layers), _parts(header["parts"]))

    def _layer(
        self, path: Path, file: Mapping[str, Any], index: int, digests: Mapping[str, str]
    ) -> WeightSums:
        arrays = {}
        for name, digest in digests.items():
            array = file[f"{name}{index}"]
            if not _as_written(array, name) or _sha256(array) != digest:
                raise self._damaged(path, f"{name} of layer {index + 1} was changed")
            arrays[name] = array
        sums, shares, entries = arrays["sums"], arrays["shares"], arrays.get("entries")
        rows, columns = sums.shape
        fits = shares.shape == (3, rows) and columns % 2 == 0
        if not fits or (entries is not None and entries.shape != sums.shape):
            raise self._damaged(path, f"sums of layer {index + 1} were changed")
        return WeightSums(sums, shares, entries)

    def add(
        self,
        account: str,
        terms: LightTerms,
        record: CollectiveRecord,
        evidence: Sequence[LayerEvidence],
    ) -> None:
        """Add a record to an account's of the same terms; on disk when this returns.

        `evidence` says what the weights are.
        """
        if not record.parts:
            return
        path = self.path(account, terms)
        with self._locked():
            try:
                before = self._header(account, path)
                whole = self.load(account, terms).merged(record)
                sums = collective_sums(evidence, whole)
            except (SettingError, ValueError) as error:
                raise self._damaged(path, f"kept of another network ({error})") from error
            if sums is None:
                raise SettingError("record", "no sums by weight", "sums of what was read")
            if before is not None:
                old = self._sums(account, before).terms
                terms = old.mixed(terms, record.light / whole.light)
            self._write(account, terms, whole, sums)

    def _write(
        self, account: str, terms: LightTerms, record: CollectiveRecord, sums: CollectiveSums
    ) -> None:
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
                "terms": terms.as_json(),
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
            write_whole(self.path(account, terms), content.getvalue())

    def _header(self, account: str, path: Path) -> Mapping[str, Any] | None:
        with self._opened(path) as file:
            return None if file is None else self._checked(account, path, file)

    def _checked(self, account: str, path: Path, file: Mapping[str, Any]) -> Mapping[str, Any]:
        text, code = (np.asarray(file[name]).tobytes() for name in ("header", "mac"))
        header = json.loads(text)
        if not hmac.compare_digest(code, self._code(text)):
            raise self._damaged(path, "its header was not made with the key of this ledger")
        if header.get("version") != VERSION:
            raise self._damaged(path, f"version {header.get('version')}, expected {VERSION}")
        if header.get("account") != account:
            raise self._damaged(path, "of another account")
        if path != self.path(account, self._sums(account, header).terms):
            raise self._damaged(path, "of light of other terms")
        return dict(header)

    def _code(self, header: bytes) -> bytes:
        return hmac.new(self._key, header, hashlib.sha256).digest()

    @contextmanager
    def _opened(self, path: Path) -> Iterator[Mapping[str, Any] | None]:
        """Open a file for what it holds, None if there is none."""
        with self._disk():
            try:
                content = open_plain(path)
            except FileNotFoundError:
                yield None
                return
            try:
                with content, plain_npz(content) as file:
                    yield file
            except _UNREADABLE as error:
                raise self._damaged(path, str(error)) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._disk():
            self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder / "lock", str(self._folder), "its lock"):
            yield

    def _disk(self) -> AbstractContextManager[None]:
        return disk(str(self._folder))

    def _damaged(self, path: Path, why: str) -> RecordError:
        return RecordError(
            f"{path}: not the sums by weight of this account: {why}; put a copy "
            "back, or take it away: its queries then count as light that nobody looked at"
        )


def _stem(account: str) -> str:
    return f"{account.replace('/', '-')}-"


def _as_written(array: object, name: str) -> bool:
    """Whether bytes mean what they were written as: their hash says nothing of their type."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype.str == _TYPES.get(name)
        and array.ndim == 2
        and array.flags.c_contiguous
    )


def _sha256(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _parts(values: Sequence[Mapping[str, Any]]) -> tuple[CollectivePart, ...]:
    return tuple(
        CollectivePart(**{**value, "pooled": CalibratedSums(**value["pooled"])}) for value in values
    )
