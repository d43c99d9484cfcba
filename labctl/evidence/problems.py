"""What is wrong with a document, in one line that names the place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from labctl.wording import plain_fault

# A value in a line of error: enough to see which it is.
_SHOWN_CHARACTERS = 60


def first_problem(error: ValueError) -> str:
    """Return the first thing that a model refused, with its place; other errors as they are."""
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in found["loc"])
    problem = plain_fault(found["msg"])
    return f"{place}: {problem}" if place else problem


def differences(expected: Any, found: Any, place: str = "") -> Iterator[str]:
    """Yield where two JSON values differ, each as `place: expected …, got …`."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for name in sorted({*expected, *found}):
            inside = f"{place}.{name}" if place else name
            if name not in found:
                yield f"{inside}: missing, expected {_shown(expected[name])}"
            elif name not in expected:
                yield f"{inside}: not expected, got {_shown(found[name])}"
            else:
                yield from differences(expected[name], found[name], inside)
        return
    if _is_list(expected) and _is_list(found) and len(expected) == len(found):
        for index, (left, right) in enumerate(zip(expected, found, strict=True)):
            yield from differences(left, right, f"{place}[{index}]")
        return
    # 1 and True are equal in Python, and not in JSON.
    if expected != found or isinstance(expected, bool) != isinstance(found, bool):
        yield f"{place}: expected {_shown(expected)}, got {_shown(found)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
