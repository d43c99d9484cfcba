"""Options of all commands: one name, one type, one meaning; every help text is a whole sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from labctl.cli import link_options, options
from labctl.cli.commands import COMMANDS


@dataclass(frozen=True)
class Declared:
    """One option of one command: its name, its type without None, and its declaration."""

    command: str
    name: str
    kind: str
    info: OptionInfo

    @property
    def meaning(self) -> tuple[object, ...]:
        """What must be the same in all uses of the name."""
        return self.kind, self.info.help, self.info.min, self.info.max


def _functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, entry in COMMANDS.items():
        found = getattr(import_module(f"labctl.cli.{entry.module}"), entry.attribute)
        if not isinstance(found, typer.Typer):
            yield name, found
            continue
        for command in found.registered_commands:
            assert command.callback is not None
            yield f"{name} {command.name or command.callback.__name__}", command.callback


def _declared() -> Iterator[Declared]:
    for command, function in _functions():
        hints = get_type_hints(function, include_extras=True)
        for parameter in inspect.signature(function).parameters:
            assert get_origin(hints[parameter]) is Annotated, f"{command}: {parameter}"
            kind, info = get_args(hints[parameter])
            if isinstance(info, ArgumentInfo):
                continue
            # The first positional of an option in Annotated is a name, kept as `default`.
            given = (info.default, *(info.param_decls or ()))
            names = [each for each in given if isinstance(each, str) and each.startswith("--")]
            name = names[0] if names else "--" + parameter.replace("_", "-")
            shown = " | ".join(
                sorted(repr(each) for each in get_args(kind) or (kind,) if each is not type(None))
            )
            yield Declared(command, name, shown, info)


DECLARED = tuple(_declared())
NAMES = sorted({each.name for each in DECLARED})


def test_all_commands_are_looked_at() -> None:
    assert len({each.command for each in DECLARED}) > len(COMMANDS)
    assert {"--mu", "--gain", "--seed", "--json", "--figure"} <= set(NAMES)


def test_a_name_has_one_type_and_one_meaning() -> None:
    for name in NAMES:
        uses = [each for each in DECLARED if each.name == name]
        assert len({each.meaning for each in uses}) == 1, [
            (each.command, each.meaning) for each in uses
        ]


def test_an_option_of_several_files_is_declared_once() -> None:
    for name in NAMES:
        assert len({id(each.info) for each in DECLARED if each.name == name}) == 1, name


def test_help_is_a_sentence() -> None:
    for each in DECLARED:
        text = each.info.help or ""
        assert text[:1].isupper() or text[:1] == "*", text
        assert text.endswith("."), text


def test_every_shared_option_is_used() -> None:
    used = {id(each.info) for each in DECLARED}
    for module in (options, link_options):
        for alias, value in vars(module).items():
            if get_origin(value) is Annotated:
                assert id(get_args(value)[1]) in used, f"{module.__name__}.{alias} has no user"
