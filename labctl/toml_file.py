"""Strict TOML files: what is wrong is named with its file, its line and the nearest valid key."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from labctl.errors import StationFileError
from labctl.plain_file import read_plain_text
from labctl.wording import plain_fault

Model = TypeVar("Model", bound=BaseModel)

ENCODING = "utf-8-sig"
"""Of all TOML files here: UTF-8, with or without the byte-order mark that some editors write."""

_PART = r"""(?:"[^"\n]*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
# The longest shipped one has 45 kB; Python's own reader takes some seconds for as much as this.
_MOST_BYTES = 1 << 22
_MOST_PARTS = 50
# It takes the square of the parts of a key, minutes for one of 100,000 letters and dots.
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_PART}[ \t]*\.[ \t]*){{{_MOST_PARTS}}}")
# Of a wrong value, as much as a line of an error needs.
_SHOWN = 80
_HEADER = re.compile(rf"^\s*\[{{1,2}}\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"^\s*({_DOTTED})\s*=")


def read_toml(path: Path, model: type[Model]) -> Model:
    """Read `path` as `model`; raises StationFileError with the file, line and what is valid."""
    text = toml_text(path)
    try:
        content = _content(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise StationFileError(f"{path}: not valid TOML: {why}") from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise StationFileError(_explain(path, text, content, error, model)) from error


def toml_text(path: Path) -> str:
    """Return what is written in a TOML file; raises StationFileError where it cannot be read."""
    try:
        return read_plain_text(path, _MOST_BYTES, ENCODING)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise StationFileError(f"{path}: cannot be read ({reason})") from error


def place(path: Path, *keys: str) -> str:
    """Return `file:line` of a key that was read, for faults that no type can say."""
    return f"{path}:{_line_of(toml_text(path), list(keys))}"


def _content(text: str) -> dict[str, Any]:
    """Return what TOML says; raises ValueError and RecursionError where it is none."""
    if _LONG_KEY.search(text):
        raise ValueError(f"a key has more than {_MOST_PARTS} parts")
    return tomllib.loads(text)


def _explain(
    path: Path, text: str, content: dict[str, Any], error: ValidationError, model: type[BaseModel]
) -> str:
    """Return one line on the most telling fault, and how many more there are."""
    faults = error.errors(include_url=False)
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    keys = _keys(content, fault["loc"], fault["type"])
    name = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        message = f"unknown key {name!r}; {_hint(keys[-1], _fields_at(model, fault['loc'][:-1]))}"
    elif fault["type"] == "missing":
        message = f"key {name!r} is missing"
    else:
        message = f"{name} = {_shown(fault['input'])}: {plain_fault(fault['msg'])}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{path}:{_line_of(text, keys)}: {message}{more}"


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _hint(key: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(key, valid, n=1)
    return f"did you mean {near[0]!r}?" if near else "valid here: " + ", ".join(valid)


def _keys(content: Any, location: tuple[int | str, ...], kind: str) -> list[str]:
    """Return the keys of a fault's location as written: tags of unions are in no file."""
    keys = []
    for place, part in enumerate(location):
        known = _holds(content, part)
        if known:
            content = content[part]
        if known or (kind == "missing" and place == len(location) - 1):
            keys.append(str(part))
    return keys


def _holds(content: Any, part: int | str) -> bool:
    if isinstance(content, list):
        return isinstance(part, int) and part < len(content)
    return isinstance(content, dict) and part in content


def _fields_at(annotation: Any, location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the model at a location takes."""
    for part in location:
        annotation = _step(_bare(annotation), part)
    owner = _bare(annotation)
    is_model = isinstance(owner, type) and issubclass(owner, BaseModel)
    fields = owner.model_fields if is_model else {}
    return sorted(field.alias or name for name, field in fields.items())


def _step(annotation: Any, part: int | str) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return field.annotation if field is not None else None
    if get_origin(annotation) in (Union, UnionType):
        members = [_bare(member) for member in get_args(annotation)]
        tagged = [m for m in members if part in _tags(m)]
        return tagged[0] if tagged else _step(next(m for m in members if m is not type(None)), part)
    arguments = get_args(annotation)
    return arguments[-1] if arguments else None


def _tags(model: Any) -> tuple[Any, ...]:
    """Return the values that a union member's `type` field may have."""
    field = getattr(model, "model_fields", {}).get("type")
    return get_args(field.annotation) if field is not None else ()


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _line_of(text: str, keys: list[str]) -> int:
    """Return the line of `keys`, or the nearest table that holds them; 1 if none does."""
    table: list[str] = []
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            here = table = _parts(header.group(1))
        elif key:
            here = [*table, *_parts(key.group(1))]
        else:
            continue
        if len(here) > depth and keys[: len(here)] == here:
            best, depth = number, len(here)
    return best


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_PART, dotted)]
