"""Run files (HDF5): what was acknowledged before a kill is there after it.

The file is written in HDF5's single-writer mode, whose write order keeps it readable at every
instant. Each append reaches the operating system before its count of rows does, and a reader
takes no more rows than that count. A new dataset, which that mode forbids, is added
to a copy that then replaces the file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.data.hdf5_view import ClosedView, clear_mark
from labctl.data.models import Network
from labctl.data.run_layout import (
    FORMAT,
    FORMAT_VERSION,
    add_stream,
    as_json,
    check_block,
    committed_rows,
    last_document,
    lay_out,
    network_of,
    text_of,
    whole_numbers,
)
from labctl.errors import ModelError, RunFileError, SettingError

T = TypeVar("T")
Status = Literal["complete", "aborted", "interrupted", "failed"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_READ_ATTEMPTS = 3
_HDF5_PROBLEMS = (
    *(OSError, KeyError, ValueError, TypeError, AttributeError),
    *(RuntimeError, OverflowError, MemoryError, ModelError),
)
# What a block takes beside its values: chunks that are begun, and the file's own tables.
_SPARE_BYTES = 1 << 21


def new_run_path(folder: Path, stem: str) -> Path:
    """Return a free path `<UTC time>-<stem>.h5` in the folder, which is created if missing."""
    if not _NAME.fullmatch(stem):
        raise SettingError("stem", stem, "letters, digits, '_', '-' and '.'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunFileError(f"{folder}: cannot be created ({problem.strerror})") from problem
    start = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{stem}"
    path, number = folder / f"{start}.h5", 1
    while path.exists():
        number += 1
        path = folder / f"{start}-{number}.h5"
    return path


class RunFileWriter:
    """Writes one run block by block; each method returns when its data has left the process.

    What it returned for survives a killed process (not a power failure). Leaving the context
    records the status: complete, interrupted (Ctrl-C) or failed. Raises RunFileError.
    """

    def __init__(self, path: Path, layers: int) -> None:
        self._path = path
        self._layers = layers
        self._file: Any = None
        self._datasets: dict[str, Any] = {}
        self._rows: dict[str, int] = {}
        self._measures = False
        self._finished = False

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        settings: Mapping[str, Any],
        station_text: str | None,
        model: Network,
        versions: Mapping[str, str],
        seed: int,
    ) -> Self:
        """Start a run file that does not exist yet; settings must be JSON-able."""
        header = {
            "format": FORMAT,
            "started_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "settings": as_json("settings", settings),
            "versions": as_json("versions", versions),
            "seed": as_json("seed", seed),
            "station": as_json("station_text", station_text),
        }
        writer = cls(path, len(model.layers))
        with _explained(path, "cannot be created"):
            _require_room(path, sum(weights.nbytes for weights in model.layers))
            path.open("xb").close()
            try:
                with _replacement(path) as part:
                    with _open(part, "w") as file:
                        lay_out(file, header, model)
                    os.replace(part, path)
                writer._resume()
            except BaseException:
                path.unlink()
                raise
        return writer

    @classmethod
    def start(
        cls,
        folder: Path,
        stem: str,
        *,
        settings: Mapping[str, Any],
        station_text: str | None,
        model: Network,
        versions: Mapping[str, str],
        seed: int,
    ) -> Self:
        """Start a run file at a free path; see `new_run_path` and `create`."""
        while True:
            path = new_run_path(folder, stem)
            try:
                return cls.create(
                    path,
                    settings=settings,
                    station_text=station_text,
                    model=model,
                    versions=versions,
                    seed=seed,
                )
            except RunFileError as error:
                # Another process may have taken the path in between; a file in the folder's place
                # is there for good.
                if not (isinstance(error.__context__, FileExistsError) and path.is_file()):
                    raise

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

    def append_raw(self, group: str, name: str, array: ArrayLike) -> None:
        """Append an array along its first axis to the dataset raw/<group>/<name>.

        The first call fixes type and shape of a row (numbers or booleans; a scalar is one row)
        and copies the file once, so names should be few and appear early.
        """
        values = np.atleast_1d(np.asarray(array))
        key = f"raw/{group}/{name}"
        if not (_NAME.fullmatch(group) and _NAME.fullmatch(name)):
            raise RunFileError(f"{key}: names must be letters, digits, '_', '-' and '.'")
        if values.dtype.kind not in "biufc":
            raise RunFileError(f"{key}: type {values.dtype}; must be numbers or booleans")
        if 0 in values.shape[1:]:
            raise RunFileError(f"{key}: shape {values.shape}; only the first length may be 0")
        with _explained(self._path, f"{key} cannot be written"):
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

    def finish(self, status: Status, reason: str = "") -> None:
        """Record how the run ended and close the file; nothing can be appended after."""
        if status not in get_args(Status):
            raise RunFileError(f"status {status!r}: must be one of {', '.join(get_args(Status))}")
        end = datetime.now(UTC).isoformat(timespec="milliseconds")
        ended = {"status": status, "reason": reason, "finished_utc": end}
        self._append_document("ended", ended)
        self._finished = True
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not self._finished and self._file:
                self.finish(*_ending(error))
        finally:
            self._close()

    def _append_document(self, name: str, document: Mapping[str, Any]) -> None:
        text = as_json(name, document) + "\n"
        self._append(name, {name: np.frombuffer(text.encode(), dtype=np.uint8)})

    def _append(self, stream: str, block: Mapping[str, NDArray[Any]]) -> None:
        """Write a block of equally many rows to datasets that grow together, then commit it."""
        self._require_open()
        rows = len(next(iter(block.values())))
        done = self._rows.get(stream, 0)
        for key, values in block.items():
            check_block(key, self._dataset(key), values, rows)
        with _explained(self._path, f"{stream} cannot be written"):
            _require_room(self._path, sum(values.nbytes for values in block.values()))
            for key, values in block.items():
                dataset = self._dataset(key)
                dataset.resize(done + rows, axis=0)
                dataset[done:] = values
                dataset.flush()
            committed = self._dataset(f"committed/{stream}")
            committed[()] = done + rows
            committed.flush()
        self._rows[stream] = done + rows

    def _dataset(self, key: str) -> Any:
        if key not in self._datasets:
            self._datasets[key] = self._file[key]
        return self._datasets[key]

    def _require_open(self) -> None:
        if not self._file:
            raise RunFileError(f"{self._path}: the run is finished; nothing can be appended")

    def _extend(self, key: str, like: NDArray[Any]) -> None:
        """Add a dataset in a copy that replaces the file at once, then continue writing there."""
        with _replacement(self._path) as part:
            try:
                _require_room(self._path, self._path.stat().st_size + like.nbytes)
                self._close()
                shutil.copyfile(self._path, part)
                with _open(part, "r+") as file:
                    add_stream(file, key, {key: like})
                os.replace(part, self._path)
            finally:
                self._resume()

    def _resume(self) -> None:
        self._datasets.clear()
        self._file = _open(self._path, "r+")
        self._file.swmr_mode = True

    def _close(self) -> None:
        if self._file:
            self._file.close()


@dataclass(frozen=True, eq=False)
class Run:
    """One run as it was read; result arrays have one row per acknowledged image.

    status is `interrupted` when the writer never recorded an end. images, labels, predictions:
    (n,) whole numbers. raw_names: `<group>/<name>` of each raw dataset. verification and leakage
    are None when never recorded.
    """

    path: Path
    status: Status
    reason: str
    started_utc: str
    finished_utc: str | None
    settings: Mapping[str, Any]
    station_text: str | None
    model: Network
    versions: Mapping[str, str]
    seed: int
    images: NDArray[np.int64]
    labels: NDArray[np.int32]
    predictions: NDArray[np.int32]
    raw_names: tuple[str, ...]
    verification: Mapping[str, Any] | None
    leakage: Mapping[str, Any] | None

    @property
    def complete(self) -> bool:
        """True if the run was finished as complete."""
        return self.status == "complete"

    def measured(self) -> tuple[NDArray[np.float32], ...] | None:
        """Read the measured values, per layer (n, outputs), or None if they were not kept."""
        return _read(self.path, self._measured)

    def _measured(self, file: Any) -> tuple[NDArray[np.float32], ...] | None:
        rows = len(self.images)
        layers = [file[f"results/measured/{k}"] for k in range(len(self.model.layers))]
        kept = rows > 0 and len(layers[0]) >= rows
        return tuple(layer[:rows] for layer in layers) if kept else None

    def raw(self, group: str, name: str) -> NDArray[Any]:
        """Read all acknowledged rows of one raw dataset."""
        if f"{group}/{name}" not in self.raw_names:
            held = ", ".join(self.raw_names) or "none"
            raise RunFileError(f"{self.path}: no raw data {group}/{name}; it holds: {held}")
        key = f"raw/{group}/{name}"
        values: NDArray[Any] = _read(
            self.path, lambda file: file[key][: committed_rows(file, key, key)]
        )
        return values


def read_run(path: Path) -> Run:
    """Read a run file: finished, cut short by a kill, or still being written.

    Measured values and raw data are read on request. Raises RunFileError.
    """
    return _read(path, partial(_run, path))


def repair_run(path: Path) -> None:
    """Clear the mark of a killed writer, so that other HDF5 tools open the file too.

    `read_run` needs no repair. Not for a run that is still written. Raises RunFileError.
    """
    read_run(path)
    with _explained(path, "cannot be repaired"):
        clear_mark(path)


def _open(path: Path, mode: str) -> Any:
    import h5py

    return h5py.File(path, mode, libver="latest", locking="best-effort")


def _read(path: Path, take: Callable[[Any], T]) -> T:
    """Apply a function to the open file, again if a writer may have been changing it just then."""
    if not path.is_file():
        raise RunFileError(f"{path}: no such run file")
    for _ in range(_READ_ATTEMPTS - 1):
        with suppress(RunFileError):
            return _read_once(path, take)
    return _read_once(path, take)


def _read_once(path: Path, take: Callable[[Any], T]) -> T:
    import h5py

    with (
        _explained(path, "not a readable run file"),
        path.open("rb", buffering=0) as raw,
        h5py.File(ClosedView(raw), "r") as file,
    ):
        version = file.attrs.get("format_version")
        if text_of(file, "format") != FORMAT or version != FORMAT_VERSION:
            raise RunFileError(f"{path}: not a {FORMAT} file of version {FORMAT_VERSION}")
        return take(file)


@contextmanager
def _replacement(path: Path) -> Iterator[Path]:
    """Give a name beside the path for a new version of it, and leave nothing there."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _require_room(path: Path, size: int) -> None:
    """Raise OSError unless the disk has room: HDF5 does not survive a write that fails."""
    free = shutil.disk_usage(path.parent).free
    if free < size + _SPARE_BYTES:
        raise OSError(f"disk full: {free} bytes free, {size + _SPARE_BYTES} needed")


@contextmanager
def _explained(path: Path, problem: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise RunFileError(f"{path}: exists already; a run file is never overwritten") from None
    except _HDF5_PROBLEMS as error:
        raise RunFileError(f"{path}: {problem} ({error})") from error


def _run(path: Path, file: Any) -> Run:
    ended = last_document(file, "ended") or {"status": "interrupted", "reason": ""}
    rows = committed_rows(file, "results", "results/image")
    return Run(
        path=path,
        status=ended["status"],
        reason=ended["reason"],
        started_utc=text_of(file, "started_utc"),
        finished_utc=ended.get("finished_utc"),
        settings=json.loads(text_of(file, "settings")),
        station_text=json.loads(text_of(file, "station")),
        model=network_of(file),
        versions=json.loads(text_of(file, "versions")),
        seed=json.loads(text_of(file, "seed")),
        images=file["results/image"][:rows],
        labels=file["results/label"][:rows],
        predictions=file["results/prediction"][:rows],
        raw_names=tuple(f"{group}/{name}" for group, held in file["raw"].items() for name in held),
        verification=last_document(file, "verification"),
        leakage=last_document(file, "leakage"),
    )


def _ending(error: BaseException | None) -> tuple[Status, str]:
    if error is None:
        return "complete", ""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "Ctrl-C"
    return "failed", f"{type(error).__name__}: {error}"
