"""The drivers that are installed, found by their entry points in the group `labctl.drivers`."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import EntryPoint
from typing import cast

from labctl.entry_points import entry_points
from labctl.errors import SettingError
from labctl.instruments.capabilities import Driver

GROUP = "labctl.drivers"


def names() -> tuple[str, ...]:
    """Return the names of all installed drivers, sorted."""
    return tuple(sorted(_found()))


def load(name: str) -> type[Driver]:
    """Return the driver class of a name; nothing else is imported.

    Raises SettingError if there is no such driver (suggesting the nearest name), or if an
    installed one cannot be imported.
    """
    found = _found()
    if name not in found:
        raise SettingError("driver", name, _valid(name, sorted(found)))
    try:
        driver = found[name].load()
    except Exception as error:  # a third party's driver may fail in any way while importing
        raise SettingError(
            "driver", name, f"importable, but {found[name].value} raises {error!r}"
        ) from error
    return cast("type[Driver]", driver)


def _found() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _valid(name: str, known: list[str]) -> str:
    near = get_close_matches(name.lower().replace("-", "_"), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"one of {', '.join(known) or 'no drivers are installed'}{hint}"
