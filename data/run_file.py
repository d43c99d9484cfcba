"""Reading run files (HDF5): finished, cut short by a kill, or still being written.

What was damaged is refused by name and never read as if it were right: values by the checksum of
each block, what points out of the file or takes more memory than it has bytes before it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from labctl.data.file_locks import in_use
from labctl.data.hdf5_structure import check_structure
from labctl.data.hdf5_view import ClosedView, clear_mark
from labctl.data.models import Network, PublicModel
from labctl.data.run_layout import (
    FORMAT,
    FORMAT_VERSION,
    READABLE_VERSIONS,
    blocks_of,
    last_document,
    model_of,
    party_of,
    peer_file_of,
    streams_of,
    text_of,
)
from labctl.data.session_record import SessionRecord
from labctl.errors import ModelError, RunFileError
from labctl.party import Party

T = TypeVar("T")
Status = Literal["complete", "aborted", "interrupted", "failed"]

# A reading may fall into the writing of one block; three in a row would fall into three blocks.
_READ_ATTEMPTS = 3
HDF5_PROBLEMS = (
    *(OSError, KeyError, ValueError, TypeError, AttributeError),
    *(RuntimeError, OverflowError, MemoryError, ModelError),
)
"""What h5py raises where a file is damaged, gone, or has no room."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run as it was read; result arrays have one row per acknowledged image.

    status is `interrupted` when the writer never recorded an end. images, labels, predictions:
    (n,) whole numbers. raw_names: `<group>/<name>` of each raw dataset. verification, leakage and
    session are None when never recorded.

    party: whose file it is, None for both parties' in one. A server's has `images` alone, which
    number the queries: its labels and predictions are empty. A client's names the `model`, without
    weights. peer_file: name of the other party's file, if it is known.
    """

    path: Path
    status: Status
    reason: str
    started_utc: str
    finished_utc: str | None
    settings: Mapping[str, Any]
    station_text: str | None
    model: Network | PublicModel
    versions: Mapping[str, str]
    seed: int
    images: NDArray[np.int64]
    labels: NDArray[np.int32]
    predictions: NDArray[np.int32]
    raw_names: tuple[str, ...]
    verification: Mapping[str, Any] | None
    leakage: Mapping[str, Any] | None
    session: SessionRecord | None
    party: Party | None
    peer_file: str | None

    @property
    def complete(self) -> bool:
        """True if the run was finished as complete."""
        return self.status == "complete"

    def measured(self) -> tuple[NDArray[np.float32], ...] | None:
        """Read the measured values, per layer (n, outputs), or None if they were not kept.

        A server's file never keeps them.
        """
        return _read(self.path, self._measured)

    def _measured(self, file: Any) -> tuple[NDArray[np.float32], ...] | None:
        if self.party is Party.SERVER:
            return None
        blocks = blocks_of(file, "results")
        names = [f"results/measured/{depth}" for depth in range(len(self.model.sizes) - 1)]
        if blocks.rows == 0 or len(file[names[0]]) == 0:
            return None
        # A run that is still written may have more by now than when it was read.
        return tuple(blocks.values(file, name)[: len(self.images)] for name in names)

    def raw(self, group: str, name: str) -> NDArray[Any]:
        """Read all acknowledged rows of one raw dataset."""
        if f"{group}/{name}" not in self.raw_names:
            held = ", ".join(self.raw_names) or "none"
            raise RunFileError(f"{self.path}: no raw data {group}/{name}; it holds: {held}")
        key = f"raw/{group}/{name}"
        values: NDArray[Any] = _read(self.path, lambda file: blocks_of(file, key).values(file, key))
        return values


def read_run(path: Path) -> Run:
    """Read a run file: finished, cut short by a kill, or still being written.

    Measured values and raw data are read on request. Raises RunFileError.
    """
    return _read(path, partial(_run, path))


@dataclass(frozen=True)
class Health:
    """What reading a whole run file found.

    checksums: whether it has them (from version 2 on). blocks, values_bytes: how many blocks and
    bytes of values were read. damage: what is wrong, in words; empty where nothing is.
    """

    path: Path
    status: Status | None
    written_now: bool
    checksums: bool
    blocks: int
    values_bytes: int
    damage: tuple[str, ...]


def verify_run(path: Path) -> Health:
    """Read every block of a run file against its checksum; RunFileError if there is none."""
    if not path.is_file():
        raise RunFileError(f"{path}: no such run file")
    live = is_written_now(path)
    try:
        return _read(path, partial(_health, path, live))
    except RunFileError as problem:
        return Health(path, None, live, False, 0, 0, (str(problem).removeprefix(f"{path}: "),))


def repair_run(path: Path) -> None:
    """Clear the mark of a killed writer, so that other HDF5 tools open the file too.

    `read_run` needs no repair. Raises RunFileError, also for a run that is still written.
    """
    if path.is_file() and is_written_now(path):
        raise RunFileError(
            f"{path}: is being written; a run is repaired after its writer has ended"
        )
    read_run(path)
    with explained(path, "cannot be repaired"):
        clear_mark(path)


def is_written_now(path: Path) -> bool:
    """Return whether a live process writes the file."""
    try:
        return in_use(path)
    except OSError:  # not ours to write to: nor is it to lock
        return False


def _read(path: Path, take: Callable[[Any], T]) -> T:
    """Apply a function to the open file, again if a writer may have been changing it just then."""
    if not path.is_file():
        raise RunFileError(f"{path}: no such run file")
    for _ in range(_READ_ATTEMPTS - 1):
        before = _stamp(path)
        try:
            return _read_once(path, take)
        except RunFileError:
            if _stamp(path) == before and not _may_be_written(path):
                raise
    return _read_once(path, take)


def _stamp(path: Path) -> tuple[int, int]:
    """Return what a writer changes of a file: its size and when it was written last."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _may_be_written(path: Path) -> bool:
    """Return whether a live process writes the file, or it cannot be known."""
    try:
        return in_use(path)
    except OSError:
        return True


def _read_once(path: Path, take: Callable[[Any], T]) -> T:
    import h5py

    with (
        explained(path, "not a readable run file"),
        path.open("rb", buffering=0) as raw,
        h5py.File(ClosedView(raw), "r") as file,
    ):
        version = file.attrs.get("format_version")
        if text_of(file, "format") != FORMAT or version not in READABLE_VERSIONS:
            raise RunFileError(f"{path}: not a {FORMAT} file of version 1 to {FORMAT_VERSION}")
        check_structure(file, path.stat().st_size)
        return take(file)


@contextmanager
def explained(path: Path, problem: str) -> Iterator[None]:
    """Turn what HDF5 and the system raise in the block into a RunFileError that names the file."""
    try:
        yield
    except FileExistsError:
        raise RunFileError(f"{path}: exists already; a run file is never overwritten") from None
    except HDF5_PROBLEMS as error:
        said = getattr(error, "strerror", None) or error
        raise RunFileError(f"{path}: {problem} ({said})") from error


def _run(path: Path, file: Any) -> Run:
    ended = last_document(file, "ended") or {"status": "interrupted", "reason": ""}
    results, party = blocks_of(file, "results"), party_of(file)
    numbers = ("image",) if party is Party.SERVER else ("image", "label", "prediction")
    held = {name: results.values(file, f"results/{name}") for name in numbers}
    none = np.zeros(0, np.int32)
    return Run(
        path=path,
        status=ended["status"],
        reason=ended["reason"],
        started_utc=text_of(file, "started_utc"),
        finished_utc=ended.get("finished_utc"),
        settings=json.loads(text_of(file, "settings")),
        station_text=json.loads(text_of(file, "station")),
        model=model_of(file),
        versions=json.loads(text_of(file, "versions")),
        seed=json.loads(text_of(file, "seed")),
        images=held["image"],
        labels=held.get("label", none),
        predictions=held.get("prediction", none),
        raw_names=tuple(f"{group}/{name}" for group, held in file["raw"].items() for name in held),
        verification=last_document(file, "verification"),
        leakage=last_document(file, "leakage"),
        session=_session(file),
        party=party,
        peer_file=peer_file_of(file),
    )


def _session(file: Any) -> SessionRecord | None:
    """Return what was recorded of the session; raises ValueError where it is not that."""
    found = last_document(file, "session")
    return None if found is None else SessionRecord.read(found)


def _health(path: Path, live: bool, file: Any) -> Health:
    """Read all streams of a file; what cannot be read at all is left to the caller."""
    checked = file.attrs["format_version"] > 1
    if not checked:
        run = _run(path, file)
        return Health(path, run.status, live, False, 0, path.stat().st_size, ())
    damage: list[str] = []
    blocks = size = 0
    for stream, names in streams_of(file):
        held = blocks_of(file, stream)
        blocks += len(held.ends)
        for name in names:
            damage += held.damage(name, file[name])
            size += held.rows * file[name].dtype.itemsize * int(np.prod(file[name].shape[1:]))
    if damage:
        model_of(file)  # raises where the network itself is damaged, of which one cannot go on
        return Health(path, None, live, True, blocks, size, tuple(damage))
    return Health(path, _run(path, file).status, live, True, blocks, size, ())
