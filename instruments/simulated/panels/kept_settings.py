"""SCPI commands for the fields of a frozen dataclass that holds a panel's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from labctl.instruments.codecs.scpi import Command, Suffixes, setting
from labctl.instruments.codecs.scpi_values import Kind, T

S = TypeVar("S")


def kept(
    pattern: str,
    kind: Kind[T],
    get: Callable[[S], T],
    put: Callable[[S, T], S],
    read: Callable[[Suffixes], S],
    write: Callable[[Suffixes, S], None],
) -> Command:
    """Declare a setting: `get` reads it from the settings, `put` returns the settings with it.

    `read` and `write` fetch and replace the settings that the suffixes of a header address; each
    may raise ScpiError.
    """

    def adopt(suffixes: Suffixes, value: T) -> None:
        write(suffixes, put(read(suffixes), value))

    return setting(pattern, kind, lambda suffixes: get(read(suffixes)), adopt)
