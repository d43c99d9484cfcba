"""The append-only store of calibration records: one line of JSON each, raw data and figure beside.

`records.jsonl` is only ever appended to, one locked write per record, after raw data and figure
are on disk under their final names: a record that can be read has both. Files without a record
are what an interruption left; they do no harm. A last line that a power cut tore is left out;
any other damage is an error.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from pydantic import ValidationError

from labctl.calibration.record import (
    ConditionRow,
    QuantityRow,
    Record,
    SettingValue,
    first_complaint,
    record_id,
)
from labctl.calibration.routine import Outcome
from labctl.data.hdf5_structure import read_arrays
from labctl.drawing import new_figure
from labctl.errors import CalibrationError, RecordError
from labctl.plain_file import parsed_json, read_plain, within_memory
from labctl.safety import uninterrupted
from labctl.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arrays = Mapping[str, npt.NDArray[np.generic]]

_RECORDS = "records.jsonl"
# 770 by 462 pixels, within the 62 rem of a report's page.
_FIGURE_SIZE_IN = (7.0, 4.2)
_FIGURE_DPI = 110
# A writer holds the lock for the time of one record and its arrays, far less than this.
_LOCK_TIMEOUT_S = 30.0
# A line of 2 kB becomes a record of 20 kB; raw data are there packed and unpacked.
_LINES_GROW = 10
_RAW_GROWS = 2
# What HDF5 raises for bytes that are not what they look like.
_UNREADABLE = (
    *(OSError, KeyError, ValueError, TypeError, AttributeError),
    *(RuntimeError, OverflowError, MemoryError, zlib.error),
)
# A draft's id, of as many digits as `record_id` gives, until its content is fixed.
_NO_ID = "0" * 16


@dataclass(frozen=True)
class About:
    """What a new record is about: see `Record`."""

    routine: str
    station: str
    subject: Mapping[str, str]
    settings: Mapping[str, SettingValue]
    valid_for_s: float
    used: Mapping[str, str]


class Store:
    """Calibration records in a folder; the folder is made with the first record.

    Several processes may read and append at a time. What the disk refuses is a RecordError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _RECORDS

    def records(self) -> list[Record]:
        """Return all records, oldest first; raises RecordError naming file and line."""
        lines = self._lines()
        torn = lines.pop()
        found = [self._parsed(number, line) for number, line in enumerate(lines, 1)]
        if torn and _is_record(torn):
            found.append(self._parsed(len(lines) + 1, torn))
        return found

    def torn(self) -> str | None:
        """Return file and line of a last line that was cut short; None if there is none."""
        lines = self._lines()
        if not lines[-1] or _is_record(lines[-1]):
            return None
        return f"{self._path}:{len(lines)}: cut short when it was written, left out"

    def newest(self, station: str) -> dict[str, Record]:
        """Return a station's newest record of each routine."""
        return {each.routine: each for each in self.records() if each.station == station}

    def record(self, identifier: str) -> Record:
        """Return the record whose id begins with `identifier`; raises RecordError."""
        records = self.records()
        matching = (each for each in records if identifier and each.id.startswith(identifier))
        found = list({each.id: each for each in matching}.values())
        if len(found) == 1:
            return found[0]
        problem = "no record" if not found else f"{len(found)} records begin with"
        known = ", ".join(each.id for each in (found or records)[-8:]) or "none"
        raise RecordError(f"{problem} {identifier!r} in {self.folder}; there are: {known}")

    def append(self, about: About, outcome: Outcome, taken_at: datetime) -> Record:
        """Keep an outcome: raw data, then figure, then the record, each synced to disk.

        Interruptions wait until it is done. Raises CalibrationError for an outcome that is no
        record (a value that is not finite, no quantity at all), and then keeps nothing;
        RecordError if the disk does not take it.
        """
        draft = _draft(about, outcome, taken_at)
        with uninterrupted(), self._disk("written"):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._temporary("raw") as raw, self._temporary("figures") as figure:
                digest = _write_raw(raw, outcome.raw) if outcome.raw else None
                _draw(figure, outcome.draw)
                record = _named(draft, digest)
                if record.raw is not None:
                    _move(raw, self.folder / record.raw)
                if record.figure is not None:
                    _move(figure, self.folder / record.figure)
            self._append(record)
        return record

    def raw(self, record: Record) -> dict[str, npt.NDArray[np.generic]]:
        """Return a record's raw arrays; raises RecordError if they are gone or changed."""
        if record.raw is None:
            return {}
        path = self.folder / record.raw
        with self._disk("read"):
            if not path.exists():
                raise RecordError(f"record {record.id}: raw data {path} are gone")
            content = read_plain(path, within_memory(_RAW_GROWS))
        if hashlib.sha256(content).hexdigest() != record.digest:
            raise RecordError(f"record {record.id}: raw data {path} changed since they were taken")
        try:
            with h5py.File(io.BytesIO(content), "r") as file:
                return read_arrays(file, len(content))
        except _UNREADABLE as error:
            told = " ".join(str(error).split())
            raise RecordError(f"record {record.id}: raw data {path} are no arrays: {told}") from (
                error
            )

    def figure(self, record: Record) -> Path:
        """Return the path of a record's figure; raises RecordError if it is gone."""
        path = self.folder / (record.figure or "")
        if record.figure is None or not path.is_file():
            raise RecordError(f"record {record.id}: its figure is gone from {self.folder}")
        return path

    def _lines(self) -> list[bytes]:
        """Return the file's lines; the last one is what follows the last newline."""
        with self._disk("read"):
            if self.folder.exists() and not self.folder.is_dir():
                raise RecordError(f"{self.folder} is no folder of calibration records")
            if not self._path.exists():
                return [b""]
            return read_plain(self._path, within_memory(_LINES_GROW)).split(b"\n")

    def _parsed(self, number: int, line: bytes) -> Record:
        try:
            return _record(line)
        except (ValueError, RecursionError) as error:
            told = first_complaint(error) if isinstance(error, ValidationError) else str(error)
            reason = " ".join(told.split())
            raise RecordError(
                f"{self._path}:{number}: not a calibration record as it was written ({reason}); "
                "restore the line from a copy, or take it out"
            ) from error

    def _append(self, record: Record) -> None:
        with FileLock(f"{self._path}.lock", timeout=_LOCK_TIMEOUT_S):
            # A pipe in its place would keep the writer waiting for ever.
            torn = self._lines()[-1]
            with self._path.open("ab") as file:
                _mend_end(file, torn)
                file.write(record.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(self.folder)

    @contextmanager
    def _temporary(self, kind: str) -> Iterator[Path]:
        """Yield a new file's path in a folder beside the records; what is left there goes."""
        folder = self.folder / kind
        folder.mkdir(exist_ok=True)
        path = folder / f".new-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _disk(self, done: str) -> Iterator[None]:
        try:
            yield
        except Timeout as error:
            raise RecordError(
                f"{self.folder}: another process has held {error.lock_file} for "
                f"{_LOCK_TIMEOUT_S:.0f} s"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise RecordError(f"{self.folder} cannot be {done}: {reason}") from error


def _draft(about: About, outcome: Outcome, taken_at: datetime) -> Record:
    """Return the record without id, digest and files; raises CalibrationError if it is none."""
    if taken_at.tzinfo is None:
        raise CalibrationError(f"{about.routine}: taken at {taken_at}, a time without a time zone")
    try:
        return Record(
            id=_NO_ID,
            routine=about.routine,
            station=about.station,
            subject=dict(about.subject),
            settings={name: _plain(value) for name, value in about.settings.items()},
            conditions={
                name: ConditionRow(value=each.value, tolerance=each.tolerance, unit=each.unit)
                for name, each in outcome.conditions.items()
            },
            quantities={name: QuantityRow.of(each) for name, each in outcome.quantities.items()},
            taken_at=taken_at,
            valid_for_s=about.valid_for_s,
            used=dict(about.used),
            remarks=tuple(outcome.remarks),
            raw=None,
            figure=None,
            digest=None,
            version=__version__,
        )
    except ValidationError as error:
        raise CalibrationError(f"{about.routine}: no valid record: {first_complaint(error)}") from (
            error
        )


def _plain(value: SettingValue) -> SettingValue:
    """Return a setting as JSON has it; numpy's numbers are not."""
    return value.item() if isinstance(value, np.generic) else value


def _named(draft: Record, digest: str | None) -> Record:
    content = {**json.loads(draft.model_dump_json()), "digest": digest}
    identifier = record_id(content)
    raw = None if digest is None else f"raw/{identifier}.h5"
    figure = f"figures/{identifier}.png"
    return Record.model_validate({**content, "id": identifier, "raw": raw, "figure": figure})


def _record(line: bytes) -> Record:
    """Return the record of a line; raises ValueError or RecursionError."""
    content = parsed_json(line)
    record = Record.model_validate(content)
    if record.id != record_id(content):
        raise ValueError(f"its content belongs to id {record_id(content)}, not to {record.id}")
    return record


def _is_record(line: bytes) -> bool:
    try:
        _record(line)
    except (ValueError, RecursionError):
        return False
    return True


def _mend_end(file: BinaryIO, torn: bytes) -> None:
    """Take off what a power cut left of a line, so that what is appended is a line by itself."""
    if _is_record(torn):
        file.write(b"\n")
    elif torn:
        file.truncate(file.seek(0, os.SEEK_END) - len(torn))


def _write_raw(path: Path, arrays: Arrays) -> str:
    """Write arrays and return the file's SHA-256."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            small = np.size(values) < 2
            file.create_dataset(name, data=values, compression=None if small else "gzip")
    _sync(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _draw(path: Path, draw: Callable[[Figure], None]) -> None:
    figure = new_figure(*_FIGURE_SIZE_IN)
    draw(figure)
    figure.savefig(path, dpi=_FIGURE_DPI, format="png")
    _sync(path)


def _move(path: Path, final: Path) -> None:
    path.replace(final)
    _sync_folder(final.parent)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Have a folder's entries on disk; only POSIX systems can be asked to."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
