"""Writing run files (HDF5): what was acknowledged before a kill is there after it.

1. The file is written in HDF5's single-writer mode, whose write order keeps it readable at every
   instant.
2. Room on the disk is taken before each block, and for what closing writes (`disk_room`).
3. A block's values reach the operating system before their checksums, and these before the
   count of blocks (`run_layout`); a reader takes no more blocks than that count.
4. A new dataset, which that mode forbids, is added to a copy that then replaces the file.
5. A lock shows other processes that the writer lives (`file_locks`).
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.data.disk_room import SPARE_BYTES, require_free, reserve
from labctl.data.file_locks import lock
from labctl.data.models import Network, PublicModel
from labctl.data.run_contents import require_model, require_raw, require_results
from labctl.data.run_file import Status, explained
from labctl.data.run_layout import (
    FORMAT,
    add_stream,
    as_json,
    check_block,
    checksum,
    count_with_complement,
    lay_out,
    text_of,
    whole_numbers,
)
from labctl.data.runs_folder import at_free_paths
from labctl.data.session_record import SessionRecord
from labctl.errors import RunFileError
from labctl.party import Party

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# A run holds the weights and what was measured of the data: nobody else's to read.
_OWNER_ONLY = 0o600


class RunFileWriter:
    """Writes one run block by block; each method returns when its data has left the process.

    What it returned for survives a killed process (not a power failure). Leaving the context
    records the status: complete, interrupted (Ctrl-C) or failed. What a file of one party may not
    hold is refused (`run_contents`). Raises RunFileError.
    """

    def __init__(self, path: Path, layers: int, party: Party | None) -> None:
        self._path = path
        self._layers = layers
        self._party = party
        self._file: Any = None
        self._descriptor = -1
        self._datasets: dict[str, Any] = {}
        self._rows: dict[str, int] = {}
        self._blocks: dict[str, int] = {}
        self._columns: dict[str, list[str]] = {}
        self._measures = False
        self._finished = False

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        settings: Mapping[str, Any],
        station_text: str | None,
        model: Network | PublicModel,
        versions: Mapping[str, str],
        seed: int,
        party: Party | None = None,
        peer_file: str | None = None,
    ) -> Self:
        """Start a run file that does not exist yet; settings must be JSON-able.

        party: whose file it is, None for both parties' in one. model: without its weights in a
        client's file. peer_file: name of the other party's file of the same run, where one is
        known.
        """
        require_model(party, model)
        header = {
            "format": FORMAT,
            "started_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "settings": as_json("settings", settings),
            "versions": as_json("versions", versions),
            "seed": as_json("seed", seed),
            "station": as_json("station_text", station_text),
        }
        if party is not None:
            header |= {"party": str(party), "peer_file": as_json("peer_file", peer_file)}
        elif peer_file is not None:
            raise RunFileError(f"peer_file {peer_file!r}: a file of both parties has none")
        writer = cls(path, len(model.sizes) - 1, party)
        with explained(path, "cannot be created"):
            laid_out = _laid_out(header, model, party)
            require_free(path.parent, len(laid_out) + SPARE_BYTES)
            taken = _created(path)
            try:
                with _replacement(path) as (part, descriptor):
                    reserve(descriptor, part, len(laid_out) + SPARE_BYTES)
                    part.write_bytes(laid_out)
                    os.replace(part, path)
                writer._resume()
            except BaseException:
                writer._close()
                path.unlink()
                raise
            finally:
                os.close(taken)
        return writer

    @classmethod
    def start(
        cls,
        folder: Path,
        stem: str,
        *,
        settings: Mapping[str, Any],
        station_text: str | None,
        model: Network | PublicModel,
        versions: Mapping[str, str],
        seed: int,
        party: Party | None = None,
    ) -> Self:
        """Start a run file at a free path; see `new_run_path` and `create`.

        What killed writers left in the folder is removed.
        """
        return at_free_paths(
            folder,
            stem,
            (party,),
            lambda paths: cls.create(
                paths[0],
                settings=settings,
                station_text=station_text,
                model=model,
                versions=versions,
                seed=seed,
                party=party,
            ),
        )

    @property
    def path(self) -> Path:
        """Where the run is written."""
        return self._path

    def append_results(
        self,
        first_image: int,
        labels: ArrayLike,
        predictions: ArrayLike,
        measured: Sequence[NDArray[Any]] | None = None,
    ) -> None:
        """Append one block of classified images.

        labels, predictions: (rows,) whole numbers; measured: per layer (rows, outputs) of the
        network, in every block of the run or in none.
        """
        require_results(self._party)
        if measured is not None and len(measured) != self._layers:
            raise RunFileError(f"measured: {len(measured)} layers; must be {self._layers}")
        if self._rows.get("results", 0) and self._measures != (measured is not None):
            raise RunFileError(f"{self._path}: measured values must be in every block or in none")
        rows = len(np.atleast_1d(labels))
        block: dict[str, NDArray[Any]] = {
            "results/image": np.arange(first_image, first_image + rows, dtype=np.int64),
            "results/label": whole_numbers("labels", labels),
            "results/prediction": whole_numbers("predictions", predictions),
        }
        for depth, values in enumerate(measured or ()):
            block[f"results/measured/{depth}"] = np.asarray(values, dtype=np.float32)
        self._append("results", block)
        self._measures = measured is not None

    def append_queries(self, first: int, count: int) -> None:
        """Count queries that were answered: all that a server's file says of results."""
        if self._party is not Party.SERVER:
            raise RunFileError(f"{self._path}: queries are counted in a server's file alone")
        numbers = np.arange(first, first + count, dtype=np.int64)
        self._append("results", {"results/image": numbers})

    def append_raw(self, group: str, name: str, array: ArrayLike) -> None:
        """Append an array along its first axis to the dataset raw/<group>/<name>.

        The first call fixes type and shape of a row (numbers or booleans; a scalar is one row)
        and copies the file once, so names should be few and appear early.
        """
        values = np.atleast_1d(np.asarray(array))
        key = f"raw/{group}/{name}"
        if not (_NAME.fullmatch(group) and _NAME.fullmatch(name)):
            raise RunFileError(f"{key}: names must be letters, digits, '_', '-' and '.'")
        require_raw(self._party, group, name)
        if values.dtype.kind not in "biufc":
            raise RunFileError(f"{key}: type {values.dtype}; must be numbers or booleans")
        if 0 in values.shape[1:]:
            raise RunFileError(f"{key}: shape {values.shape}; only the first length may be 0")
        with explained(self._path, f"{key} cannot be written"):
            self._require_open()
            if key not in self._file:
                self._extend(key, values)
        self._append(key, {key: values})

    def set_verification(self, verification: Mapping[str, Any]) -> None:
        """Record the server's verdict so far; the last one counts."""
        self._append_document("verification", verification)

    def set_leakage(self, leakage: Mapping[str, Any]) -> None:
        """Record what has leaked so far, with its assumptions; the last one counts."""
        self._append_document("leakage", leakage)

    def set_session(self, session: SessionRecord) -> None:
        """Record who took part, the account, and what both sides noted; the last one counts."""
        self._append_document("session", session.model_dump(mode="json"))

    def finish(self, status: Status, reason: str = "") -> None:
        """Record how the run ended and close the file; nothing can be appended after."""
        if status not in get_args(Status):
            raise RunFileError(f"status {status!r}: must be one of {', '.join(get_args(Status))}")
        end = datetime.now(UTC).isoformat(timespec="milliseconds")
        ended = {"status": status, "reason": reason, "finished_utc": end}
        self._append_document("ended", ended, last=True)
        self._finished = True
        self._close()

    def end(self, status: Status, reason: str) -> None:
        """Record how the run ended, unless that is there, and close the file."""
        try:
            if not self._finished and self._file:
                self.finish(status, reason)
        finally:
            self._close()

    def discard(self) -> None:
        """Close the file and remove it, as if it had never been started."""
        self._finished = True
        self._close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(*ending(error))

    def _append_document(
        self, name: str, document: Mapping[str, Any], *, last: bool = False
    ) -> None:
        text = as_json(name, document) + "\n"
        self._append(name, {name: np.frombuffer(text.encode(), dtype=np.uint8)}, last=last)

    def _append(
        self, stream: str, block: Mapping[str, NDArray[Any]], *, last: bool = False
    ) -> None:
        """Write a block of equally many rows to datasets that grow together, then commit it.

        last: whether nothing follows, so that the room that was kept for the end may be used.
        """
        self._require_open()
        rows = len(next(iter(block.values())))
        done = self._rows.get(stream, 0)
        for key, values in block.items():
            check_block(key, self._dataset(key), values, rows)
        with explained(self._path, f"{stream} cannot be written"):
            self._require_present()
            if not last:
                reserve(self._descriptor, self._path, self._room_of(block))
            for key, values in block.items():
                dataset = self._dataset(key)
                dataset.resize(done + rows, axis=0)
                dataset[done:] = values
                dataset.flush()
            self._commit(stream, done + rows, block)
        self._rows[stream] = done + rows

    def _commit(self, stream: str, rows: int, block: Mapping[str, NDArray[Any]]) -> None:
        """Write the checksums of a block that is in the file, then count it."""
        table, count = self._dataset(f"blocks/{stream}"), self._blocks.get(stream, 0)
        if stream not in self._columns:
            self._columns[stream] = json.loads(text_of(table, "datasets"))
        sums = [checksum(block[name]) if name in block else 0 for name in self._columns[stream]]
        table.resize(count + 1, axis=0)
        table[count] = [rows, *sums]
        table.flush()
        committed = self._dataset(f"committed/{stream}")
        committed[...] = count_with_complement(count + 1)
        committed.flush()
        self._blocks[stream] = count + 1

    def _room_of(self, block: Mapping[str, NDArray[Any]]) -> int:
        """Return the bytes that a block may add to the file, and closing it after."""
        begun: int = sum(
            math.prod(self._dataset(key).chunks) * values.itemsize for key, values in block.items()
        )
        return sum(values.nbytes for values in block.values()) + begun + SPARE_BYTES

    def _dataset(self, key: str) -> Any:
        if key not in self._datasets:
            self._datasets[key] = self._file[key]
        return self._datasets[key]

    def _require_open(self) -> None:
        if not self._file:
            raise RunFileError(f"{self._path}: the run is finished; nothing can be appended")

    def _require_present(self) -> None:
        """Raise OSError where the file was removed or replaced under its writer."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            raise OSError("the file or its folder was removed while it was written") from None
        mine = os.fstat(self._descriptor)
        if (found.st_dev, found.st_ino) != (mine.st_dev, mine.st_ino):
            raise OSError("another file took its place while it was written")

    def _extend(self, key: str, like: NDArray[Any]) -> None:
        """Add a dataset in a copy that replaces the file at once, then continue writing there."""
        self._require_present()
        size = self._path.stat().st_size
        require_free(self._path.parent, size + like.nbytes + SPARE_BYTES)
        self._close()
        try:
            with _replacement(self._path) as (part, descriptor):
                shutil.copyfile(self._path, part)
                reserve(descriptor, part, like.nbytes + SPARE_BYTES)
                with _open(part, "r+") as file:
                    add_stream(file, key, {key: like})
                os.replace(part, self._path)
        finally:
            # After the replacement is closed, whose lock would keep the writer's own from the file.
            self._resume()

    def _resume(self) -> None:
        self._datasets.clear()
        self._file = _open(self._path, "r+")
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        lock(self._descriptor)
        # Closing needs room also where no block was ever written.
        reserve(self._descriptor, self._path, SPARE_BYTES)
        self._file.swmr_mode = True

    def _close(self) -> None:
        if self._file:
            self._file.close()
        if self._descriptor >= 0:
            # What was reserved beyond the end, and not used, goes back to the disk.
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size)
            os.close(self._descriptor)
            self._descriptor = -1


def _open(path: Path, mode: str) -> Any:
    import h5py

    return h5py.File(path, mode, libver="latest", locking="best-effort")


def _laid_out(
    header: Mapping[str, str], model: Network | PublicModel, party: Party | None
) -> bytes:
    """Return a run file before its first block, made in memory: HDF5 must not meet a full disk."""
    import h5py

    # HDF5 refuses a name that another thread has open, in memory too.
    name = uuid.uuid4().hex
    with h5py.File(name, "w", libver="latest", driver="core", backing_store=False) as file:
        lay_out(file, header, model, party)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _created(path: Path) -> int:
    """Create a file that was not there, for its owner alone; return its locked descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _OWNER_ONLY)
    lock(descriptor)
    return descriptor


@contextmanager
def _replacement(path: Path) -> Iterator[tuple[Path, int]]:
    """Give an empty, open file beside the path for a new version of it, and leave nothing there."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    taken = _created(part)
    try:
        yield part, taken
    finally:
        os.close(taken)
        part.unlink(missing_ok=True)


def ending(error: BaseException | None) -> tuple[Status, str]:
    """Return how a run ended that an error left, None for no error, and what its file says."""
    if error is None:
        return "complete", ""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "Ctrl-C"
    return "failed", f"{type(error).__name__}: {error}"
