"""The entry points of installed packages, searched again only after something was installed.

`importlib.metadata` reads a file of every installed distribution at each search, about 10 ms of
CPU; a station of twelve instruments searches some thirty times. What was found is kept as long as
`sys.path` and its folders stay what they are, by which `importlib.metadata` itself decides whether
to list a folder again: to install, update or remove a distribution changes its folder.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group, as `importlib.metadata.entry_points` does."""
    return _found(group, tuple((folder, _changed_at_ns(folder)) for folder in sys.path))


def _changed_at_ns(folder: str) -> int | None:
    """Return when a folder of `sys.path` last changed, None if there is no such folder."""
    try:
        return os.stat(folder or os.curdir).st_mtime_ns
    except OSError:
        return None


# The groups that labctl looks for, on the paths of before and after a change.
@lru_cache(maxsize=8)
def _found(group: str, paths: Iterable[tuple[str, int | None]]) -> tuple[EntryPoint, ...]:
    """Search; `paths` are what the answer depends on."""
    return tuple(importlib.metadata.entry_points(group=group))
