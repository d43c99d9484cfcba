"""Results files (JSON lines): what was acknowledged before a kill is there after it.

The first line names the sweep. Each run of the command adds a line that says which code computes
the points below it, and each point one line, which is handed to the operating system before the
point counts as done. Nothing is ever changed. A line that a kill cut short has no end of line: it
is left out by a reader and cut off by the next writer. Of lines about one point the last counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Annotated, Any, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labctl.errors import RunFileError, UsageError
from labctl.plain_file import parsed_json, read_plain, within_memory
from labctl.studies.sweep.point import Point, PointOutcome
from labctl.studies.sweep.sweep_file import Sweep
from labctl.studies.sweep.task import Scalar

FORMAT = "labctl sweep results"
# Counts changes of the table's form.
FORMAT_VERSION = 1
# A line of 500 bytes becomes mappings of 5 kB.
_GROWS = 10
# 64 bits: those of JSON may have thousands of digits.
_Whole = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
_START = json.dumps({"format": FORMAT})[:-1].encode()


@dataclass(frozen=True)
class ResultRecord:
    """What the file holds of a point, and the code that computed it."""

    seed: int
    values: Mapping[str, Scalar] | None
    error: str | None
    duration_s: float
    blas: str
    code: str


class _Said(BaseModel):
    """What a line says of a point: numbers that can be worked with."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    point: str
    seed: int
    values: dict[str, str | bool | _Whole | float | None] | None = None
    error: str | None = None
    duration_s: float
    blas: str

    def record(self, code: str) -> ResultRecord:
        """Return it with the code that computed it."""
        return ResultRecord(self.seed, self.values, self.error, self.duration_s, self.blas, code)


@dataclass(frozen=True)
class Results:
    """A results file as it was read; `whole_bytes` ends its last whole line."""

    name: str | None = None
    task: str | None = None
    records: Mapping[str, ResultRecord] = field(default_factory=dict)
    whole_bytes: int = 0

    def of(self, sweep: Sweep) -> dict[str, ResultRecord]:
        """Return the records of the sweep's points by key, in the sweep's order."""
        keys = (point.key for point in sweep.points)
        return {key: self.records[key] for key in keys if key in self.records}


def read_results(path: Path) -> Results:
    """Read a results file, also one cut short or still written; none at all holds no results.

    Raises RunFileError where it is something else, or damaged before its last line.
    """
    if not path.exists():
        return Results()
    with _explained(path, "cannot be read"):
        content = read_plain(path, within_memory(_GROWS))
    if not (content.startswith(_START) or _START.startswith(content)):
        raise RunFileError(f"{path}: not a {FORMAT} file")
    whole = content[: content.rfind(b"\n") + 1]
    lines = whole.splitlines()
    if not lines:
        return Results()
    header = _parsed(path, 1, lines[0])
    if header.get("version") != FORMAT_VERSION:
        raise RunFileError(f"{path}: not a {FORMAT} file of version {FORMAT_VERSION}")
    try:
        records = dict(_records(path, lines))
        return Results(header["name"], header["task"], records, len(whole))
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFileError(f"{path}: damaged, a line lacks {error}") from error


def _records(path: Path, lines: list[bytes]) -> Iterator[tuple[str, ResultRecord]]:
    code = ""
    for number, line in enumerate(lines[1:], start=2):
        entry = _parsed(path, number, line)
        if "run" in entry:
            code = entry["run"]["code"]
            continue
        try:
            said = _Said.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "missing":
                raise RunFileError(f"{path}: damaged, a line lacks {first['loc'][0]!r}") from error
            where = ".".join(map(str, first["loc"]))
            raise RunFileError(f"{path}:{number}: damaged, {where}: {first['msg']}") from error
        yield said.point, said.record(code)


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        entry = parsed_json(line)
    except ValueError as error:
        raise RunFileError(f"{path}:{number}: damaged, not a line of JSON ({error})") from error
    if not isinstance(entry, dict):
        raise RunFileError(f"{path}:{number}: damaged, not a JSON object")
    return entry


class ResultsWriter:
    """Appends points; each is with the operating system when `append` returns.

    What was appended survives a killed process; leaving the context also makes it survive a power
    failure.
    """

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file = file
        self._path = path

    @classmethod
    @contextmanager
    def open(cls, path: Path, sweep: Sweep, code: str) -> Iterator[Self]:
        """Continue with a results file, or start one; raises RunFileError.

        One writer at a time: a second one is refused while the first lives.
        """
        with _explained(path, "cannot be created"):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(path.name + ".lock"))
        with _explained(path, "cannot be locked"):
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise RunFileError(f"{path}: another sweep is writing to it") from error
        try:
            held = read_results(path)
            with _explained(path, "cannot be written"), FileIO(path, "a") as file:
                file.truncate(held.whole_bytes)
                writer = cls(file, path)
                writer._begin(held, sweep, code)
                try:
                    yield writer
                finally:
                    os.fsync(file.fileno())
        finally:
            lock.release()

    def append(self, point: Point, outcome: PointOutcome) -> None:
        """Append a point."""
        result = {"error": outcome.error} if outcome.values is None else {"values": outcome.values}
        self._write(
            {
                "point": point.key,
                "settings": point.settings,
                "repeat": point.repeat,
                "seed": point.seed,
                **result,
                "duration_s": round(outcome.duration_s, 6),
                "blas": outcome.blas,
            }
        )

    def _begin(self, held: Results, sweep: Sweep, code: str) -> None:
        if held.name is None:
            header = {"version": FORMAT_VERSION, "name": sweep.name, "task": sweep.task.name}
            self._write({"format": FORMAT, **header})
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write({"run": {"started_utc": started, "code": code, "sweep": sweep.text}})

    def _write(self, entry: Mapping[str, Any]) -> None:
        rest = memoryview(json.dumps(entry, allow_nan=False).encode() + b"\n")
        while rest:
            rest = rest[self._file.write(rest) or 0 :]


def require_same_sweep(path: Path, held: Results, sweep: Sweep) -> None:
    """Raise UsageError if the file holds another sweep's results."""
    if held.name is not None and (held.name, held.task) != (sweep.name, sweep.task.name):
        raise UsageError(
            f"{path}: holds results of sweep {held.name!r}, task {held.task}, not of "
            f"{sweep.name!r}, task {sweep.task.name}; choose another --out"
        )


@contextmanager
def _explained(path: Path, problem: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFileError(f"{path}: {problem} ({error.strerror or error})") from error
