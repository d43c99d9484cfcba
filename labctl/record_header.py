"""How a wire record begins, which no other kind of file does."""

from __future__ import annotations

import json
from pathlib import Path

from labctl.errors import RunFileError

FORMAT = "labctl wire record 1"


def require_record(path: Path) -> None:
    """Refuse a file with anything else in it than a wire record; raises RunFileError.

    An empty one may be a record that another process begins.
    """
    begins = json.dumps({"format": FORMAT})[:-1].encode()
    try:
        with path.open("rb") as file:
            found = file.read(len(begins))
    except OSError as error:
        raise RunFileError(f"{path}: cannot be read ({error.strerror})") from error
    if found and found != begins:
        raise RunFileError(f"{path} exists and is no wire record: choose another name")
