"""SCPI commands for the fields of a frozen dataclass that holds a panel's settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeVar

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


def as_set(name: str) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]:
    """Return `get` and `put` of the field of that name, which holds what was set as it is.

    >>> get, put = as_set("imag")
    >>> get(2 + 1j)
    1.0
    """
    return attrgetter(name), lambda settings, value: replace(settings, **{name: value})
