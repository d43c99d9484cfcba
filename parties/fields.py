"""Strict reading of a decoded message: each field is there, of its kind and in its range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.errors import ProtocolError
from labctl.parties.protobuf import Message as Decoded
from labctl.parties.wire_form import malformed

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper as EnumTypeWrapper

# What one field may hold in text; a reason is a few sentences.
MOST_TEXT = 1000

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


def members(kind: type[E], numbers: EnumTypeWrapper[Any]) -> dict[int, E]:
    """Return the members of an enumeration by their numbers in the schema, which has the same ones.

    The schema puts a name of the enumeration before each, and has 0 for none of them.
    """
    prefix = len(_prefix(numbers))
    return {number: kind[name[prefix:]] for name, number in numbers.items() if number}


def name_of(meaning: StrEnum, numbers: EnumTypeWrapper[Any]) -> str:
    """Return the name of an enumeration's member in the schema."""
    return _prefix(numbers) + meaning.name


def _prefix(numbers: EnumTypeWrapper[Any]) -> str:
    name: str = numbers.Name(0)
    return name.removesuffix("UNSPECIFIED")


class Fields:
    """The fields of one message by name; every method raises ProtocolError, naming the field."""

    def __init__(self, decoded: Decoded) -> None:
        self._decoded = decoded
        self._kind = decoded.DESCRIPTOR.name

    def has(self, name: str) -> bool:
        """Whether a field that may be missing is there."""
        return self._decoded.HasField(name)

    def integer(self, name: str, least: int, most: int) -> int:
        """Return a whole number of a range."""
        value: int = self._there(name)
        if not least <= value <= most:
            raise self.refused(name, value, f"{least} to {most}")
        return value

    def integers(self, name: str, least: int, most: int, *, most_items: int) -> tuple[int, ...]:
        """Return 1 to `most_items` whole numbers of a range."""
        values = getattr(self._decoded, name)
        if not 1 <= len(values) <= most_items:
            raise self.refused(f"length of {name}", len(values), f"1 to {most_items}")
        for value in values:
            if not least <= value <= most:
                raise self.refused(name, value, f"{least} to {most}")
        return tuple(values)

    def real(self, name: str, least: float = -math.inf, most: float = math.inf) -> float:
        """Return a number of a range, never NaN; infinite only where an end of the range is."""
        value: float = self._there(name)
        if not least <= value <= most:
            raise self.refused(name, value, f"{least:g} to {most:g}")
        return value

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        return bool(self._there(name))

    def text(self, name: str, most: int = MOST_TEXT) -> str:
        """Return a text of at most `most` characters."""
        value: str = self._there(name)
        if len(value) > most:
            raise self.refused(f"length of {name}", len(value), f"at most {most} characters")
        return value

    def octets(self, name: str, least: int, most: int) -> bytes:
        """Return bytes of a length between both."""
        value: bytes = self._there(name)
        if not least <= len(value) <= most:
            valid = f"{least} bytes" if least == most else f"{least} to {most} bytes"
            raise self.refused(f"length of {name}", len(value), valid)
        return value

    def choice(self, name: str, choices: Mapping[int, T]) -> T:
        """Return what a number of an enumeration means."""
        value: int = self._there(name)
        if value not in choices:
            valid = ", ".join(f"{number} ({meaning})" for number, meaning in choices.items())
            raise self.refused(name, value, f"one of {valid}")
        return choices[value]

    def part(self, name: str) -> Fields:
        """Return the fields of a message inside this one."""
        return Fields(self._there(name))

    def parts(self, name: str, *, most_items: int) -> tuple[Fields, ...]:
        """Return the fields of 1 to `most_items` messages inside this one."""
        values = getattr(self._decoded, name)
        if not 1 <= len(values) <= most_items:
            raise self.refused(f"length of {name}", len(values), f"1 to {most_items}")
        return tuple(map(Fields, values))

    def refused(self, name: str, value: object, valid: str) -> ProtocolError:
        """Return the error for a field's value."""
        return malformed(self._kind, f"{name} = {value!r}: must be {valid}")

    def _there(self, name: str) -> Any:
        if not self._decoded.HasField(name):
            raise malformed(self._kind, f"{name} is missing")
        return getattr(self._decoded, name)
