"""A training run on disk: what is needed to continue with it after an interruption."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.data.archive_room import opened_npz
from labctl.errors import UsageError
from labctl.plain_file import parsed_json
from labctl.whole_file import whole_file

# Counts changes of what a checkpoint holds.
_FORMAT = 1
_DAMAGE = (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Settings (JSON) and data (sha256) of a run, its reports so far, and all its arrays."""

    settings: str
    data_sha256: str
    reports: Sequence[Sequence[Any]]
    leaves: Sequence[NDArray[Any]]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of an earlier one, which stays whole until the new one is.

    Raises UsageError if it cannot be written.
    """
    about = {
        "format": _FORMAT,
        "settings": checkpoint.settings,
        "data_sha256": checkpoint.data_sha256,
        "reports": checkpoint.reports,
    }
    arrays = {f"leaf{index}": leaf for index, leaf in enumerate(checkpoint.leaves)}
    try:
        with whole_file(path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
    except OSError as problem:
        raise UsageError(f"{path}: checkpoint cannot be written ({problem.strerror})") from problem


def load_checkpoint(path: Path, settings: str, data_sha256: str) -> Checkpoint:
    """Read a checkpoint of these settings and data; raises UsageError."""
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    try:
        with opened_npz(path) as file:
            about = parsed_json(str(file["about"]))
            leaves = [file[f"leaf{index}"] for index in range(len(file.files) - 1)]
        found = Checkpoint(about["settings"], about["data_sha256"], about["reports"], leaves)
        form, told = about["format"], dict(parsed_json(found.settings))
    except _DAMAGE as problem:
        raise UsageError(f"{path}: not a readable checkpoint ({problem})") from problem
    if form != _FORMAT:
        raise UsageError(f"{path}: checkpoint of format {form}; must be {_FORMAT}")
    if found.settings != settings:
        different = ", ".join(_differences(told, json.loads(settings)))
        raise UsageError(f"{path}: checkpoint of other settings ({different})")
    if found.data_sha256 != data_sha256:
        raise UsageError(f"{path}: checkpoint of other images or labels")
    return found


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    return [
        f"{name} {there.get(name)} there, {here.get(name)} here"
        for name in dict.fromkeys((*there, *here))
        if there.get(name) != here.get(name)
    ]
