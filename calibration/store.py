"""The append-only store of calibration records: one line of JSON each, raw data and figure beside.

`records.jsonl` is only ever appended to, one locked write per record, after raw data and figure
are on disk: a record that can be read has both. A last line that a power cut tore is left out and
said; any other damage is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt
from filelock import FileLock
from pydantic import ValidationError

from labctl import __version__
from labctl.calibration.record import ConditionRow, QuantityRow, Record, SettingValue, record_id
from labctl.calibration.routine import Outcome
from labctl.errors import RecordError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arrays = Mapping[str, npt.NDArray[np.generic]]

_RECORDS = "records.jsonl"
_FIGURE_SIZE_IN = (7.0, 4.2)
_FIGURE_DPI = 110


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
    """Calibration records in a folder; the folder is made with the first record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def records(self) -> list[Record]:
        """Return all records, oldest first; raises RecordError naming file and line."""
        path = self.folder / _RECORDS
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")
        torn = lines.pop()
        found = [self._parsed(path, number, line) for number, line in enumerate(lines, 1)]
        if torn:
            try:
                found.append(self._parsed(path, len(lines) + 1, torn))
            except RecordError:
                return found
        return found

    def newest(self, station: str) -> dict[str, Record]:
        """Return a station's newest record of each routine."""
        return {each.routine: each for each in self.records() if each.station == station}

    def record(self, identifier: str) -> Record:
        """Return the record whose id begins with `identifier`; raises RecordError."""
        found = [each for each in self.records() if each.id.startswith(identifier)]
        if len(found) != 1 or not identifier:
            known = ", ".join(each.id for each in self.records()[-8:]) or "none"
            problem = "no record" if not found else f"{len(found)} records"
            raise RecordError(f"{problem} {identifier!r} in {self.folder}; newest: {known}")
        return found[0]

    def append(self, about: About, outcome: Outcome, taken_at: datetime) -> Record:
        """Keep an outcome: raw data, then figure, then the record, each synced to disk."""
        content: dict[str, object] = {
            "routine": about.routine,
            "station": about.station,
            "subject": dict(about.subject),
            "settings": dict(about.settings),
            "conditions": {
                name: ConditionRow(value=each.value, tolerance=each.tolerance, unit=each.unit)
                for name, each in outcome.conditions.items()
            },
            "quantities": {name: QuantityRow.of(each) for name, each in outcome.quantities.items()},
            "taken_at": taken_at,
            "valid_for_s": about.valid_for_s,
            "used": dict(about.used),
            "remarks": tuple(outcome.remarks),
            "version": __version__,
        }
        identifier = record_id(content)
        self.folder.mkdir(parents=True, exist_ok=True)
        raw = self._write_raw(identifier, outcome.raw) if outcome.raw else None
        record = Record.model_validate(
            {
                **content,
                "id": identifier,
                "raw": raw,
                "figure": self._draw(identifier, outcome.draw),
                "digest": _sha256(self.folder / raw) if raw is not None else None,
            }
        )
        self._append_line(record.model_dump_json())
        return record

    def raw(self, record: Record) -> dict[str, npt.NDArray[np.generic]]:
        """Return a record's raw arrays; raises RecordError if they are gone or changed."""
        if record.raw is None:
            return {}
        path = self.folder / record.raw
        if not path.exists():
            raise RecordError(f"record {record.id}: raw data {path} are gone")
        if _sha256(path) != record.digest:
            raise RecordError(f"record {record.id}: raw data {path} changed since they were taken")
        with h5py.File(path, "r") as file:
            return {name: file[name][()] for name in file}

    def figure(self, record: Record) -> Path:
        """Return the path of a record's figure; raises RecordError if it is gone."""
        path = self.folder / (record.figure or "")
        if record.figure is None or not path.exists():
            raise RecordError(f"record {record.id}: its figure is gone from {self.folder}")
        return path

    def _parsed(self, path: Path, number: int, line: bytes) -> Record:
        try:
            return Record.model_validate(json.loads(line))
        except (ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise RecordError(f"{path}:{number}: not a calibration record: {reason}") from error

    def _write_raw(self, identifier: str, arrays: Arrays) -> str:
        relative = f"raw/{identifier}.h5"
        path = self.folder / relative
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                small = np.size(values) < 2
                file.create_dataset(name, data=values, compression=None if small else "gzip")
        _sync(path)
        return relative

    def _draw(self, identifier: str, draw: Callable[[Figure], None]) -> str:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        relative = f"figures/{identifier}.png"
        path = self.folder / relative
        path.parent.mkdir(exist_ok=True)
        figure = Figure(figsize=_FIGURE_SIZE_IN, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(path, dpi=_FIGURE_DPI)
        _sync(path)
        return relative

    def _append_line(self, text: str) -> None:
        path = self.folder / _RECORDS
        with FileLock(self.folder / f"{_RECORDS}.lock"), path.open("ab+") as file:
            self._mend_end(path, file)
            file.write(text.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _mend_end(self, path: Path, file: BinaryIO) -> None:
        """Take off what a power cut left of a line, so that what is appended stands alone."""
        file.seek(0)
        complete, newline, torn = file.read().rpartition(b"\n")
        if not torn:
            return
        try:
            self._parsed(path, 0, torn)
            file.write(b"\n")
        except RecordError:
            file.truncate(len(complete) + len(newline))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
