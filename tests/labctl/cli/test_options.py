"""Options of all commands: one name, one type, one meaning; every help text is a whole sentence."""

from __future__ import annotations

from typing import Annotated, get_args, get_origin

from declared_options import DECLARED

from labctl.cli import link_options, options
from labctl.cli.commands import COMMANDS

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
