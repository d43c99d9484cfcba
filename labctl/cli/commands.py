"""The commands by name: where each is, what it does, and its group in the help.

A command's module is imported when the command runs, so that help, completion and a wrong name cost
no numerical library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from labctl.cli.said import as_option, given, read, unread
from labctl.errors import SettingError


@dataclass(frozen=True)
class Entry:
    """A command: `module` of this package, `group` of the help, `help` a whole sentence.

    `attribute`: the function, or "app" for a group of commands; `context`: settings of the parser.
    """

    module: str
    group: str
    help: str
    attribute: str = "app"
    context: dict[str, Any] = field(default_factory=dict)

    def load(self, name: str) -> Any:
        """Return the parser's command; imports its module."""
        found = getattr(import_module(f"labctl.cli.{self.module}"), self.attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(
                rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
            )
            alone.command(name, context_settings=self.context)(found)
            found = alone
        for each in found.registered_commands:
            each.cls = Sections
            each.context_settings = {**(each.context_settings or {}), **_WIDTH}
        # All help looks alike, for groups of commands too.
        found.rich_markup_mode = None
        found.info.cls = WholeSentences
        command: Any = typer.main.get_command(found)
        command.name = name
        # Only `labctl` itself has the options for completion.
        command.params = [each for each in command.params if "completion" not in (each.name or "")]
        return command


# Help is at most as wide as a line of the source; narrower terminals wrap it further.
_WIDTH = {"max_content_width": 100}
# What follows belongs to the program that is run, options included.
_PROGRAM = {"allow_interspersed_args": False, "ignore_unknown_options": True}

_RUN, _BENCH = "Run", "Bench"
_SECURITY, _STUDIES = "Security", "Studies"

COMMANDS: Mapping[str, Entry] = {
    "demo": Entry("demo", _RUN, "Run the whole product once on the simulated bench.", "demo"),
    "infer": Entry("infer", _RUN, "Classify images; give accuracy, leakage and verdict.", "infer"),
    "server": Entry("server", _RUN, "Serve a network to clients at other sites.", "server"),
    "client": Entry("client", _RUN, "Have a server at another site classify images.", "client"),
    "plan": Entry("plan", _RUN, "Find a setting for the accuracy and leakage you want.", "plan"),
    "leakage": Entry("leakage", _RUN, "Give a setting's leakage and what it assumes.", "leakage"),
    "blocks": Entry("blocks", _RUN, "Find the block size that a rotation's loss allows.", "blocks"),
    "runs": Entry("runs", _RUN, "List, show, verify and repair run files."),
    "station": Entry("station", _BENCH, "Check or show a station file."),
    "safe": Entry("safe", _BENCH, "Switch a bench off that any program holds.", "safe"),
    "instruments": Entry("instruments", _BENCH, "List drivers; find instruments and query them."),
    "calibrate": Entry(
        "calibrate", _BENCH, "Measure what no longer applies, with uncertainty.", "calibrate"
    ),
    "calibration": Entry("calibration", _BENCH, "List, show, plot and check calibration records."),
    "sim": Entry("sim", _BENCH, "Offer a simulated bench to other programs."),
    "faults": Entry("faults", _BENCH, "Break a simulated bench; see what comes of it."),
    "record": Entry(
        "record", _BENCH, "Run a program and keep every wire message.", "record", _PROGRAM
    ),
    "replay": Entry(
        "record", _BENCH, "Run a program again without instruments.", "replay", _PROGRAM
    ),
    "ledger": Entry("ledger", _SECURITY, "Show what leaked and to whom; set budgets; verify."),
    "keys": Entry("keys", _SECURITY, "Make the keys and certificates of two parties."),
    "evidence": Entry("evidence", _SECURITY, "Export and verify evidence of sessions."),
    "attack": Entry("attack", _SECURITY, "Attack a session: what is learned, is it caught?"),
    "label-attack": Entry(
        "label", _SECURITY, "Read labels as a curious server would.", "label_attack"
    ),
    "copies": Entry("copies", _SECURITY, "Say what a stolen copy of a network is worth."),
    "countermeasures": Entry(
        "countermeasures", _SECURITY, "Measure what each countermeasure does.", "countermeasures"
    ),
    "false-alarms": Entry(
        "false_alarms", _SECURITY, "Count how often honest sessions are rejected.", "false_alarms"
    ),
    "train": Entry("train", _STUDIES, "Train a network with the protocol's noise.", "train"),
    "sweep": Entry(
        "sweep", _STUDIES, "Run a grid of settings; continue where it stopped.", "sweep"
    ),
    "reproduce": Entry(
        "reproduce", _STUDIES, "Draw the published figures with ours beside them.", "reproduce"
    ),
}


class _Loaded(Mapping[str, Any]):
    """The parser's commands by name, each imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        return COMMANDS[name].load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS


class WholeSentences(TyperGroup):
    """A group whose help shows the first paragraph of each command uncut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command's name and what it does."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, (command.help or "").split("\n\n")[0])
                    for name, command in self.commands.items()
                ]
            )


class Sections(TyperCommand):
    """A command whose help shows its options by section, and whose errors name them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; what cannot be read is named with its value and the option's help.

        Numbers that are 0 to a computer and not to a person keep their text.
        """
        texts = given(self.params, args)
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except Exception as error:
            parameter: Any = getattr(error, "param", None)
            text = None if parameter is None else texts.get(parameter.name)
            if text is None or parameter.param_type_name != "option":
                raise
            raise unread(parameter, text) from error
        for name, text in texts.items():
            if isinstance(ctx.params.get(name), float):
                ctx.params[name] = read(text)
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a setting that it refuses is named as the option that gave it."""
        try:
            return super().invoke(ctx)
        except SettingError as error:
            said = as_option(error, self.params, ctx.params)
            if said is None:
                raise
            raise said from error

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options by section in the order of their first option."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            shown = parameter.get_help_record(ctx)
            if shown is None:
                continue
            optional = parameter.param_type_name == "option"
            panel = getattr(parameter, "rich_help_panel", None) if optional else "Arguments"
            sections.setdefault(panel or "Options", []).append(shown)
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Commands(TyperGroup):
    """The group of all commands; its help and completion read the table alone."""

    def __init__(self, **settings: Any) -> None:
        """Take what typer gives a group; the commands are those of the table."""
        super().__init__(**settings)
        self.commands = cast(Any, _Loaded())
        self._listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None for a name that is not in the table."""
        if self._listing:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name].help)
        return self.commands[cmd_name] if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by group, each with its whole sentence."""
        for group in dict.fromkeys(entry.group for entry in COMMANDS.values()):
            with formatter.section(group):
                width = max(map(len, COMMANDS))
                formatter.write_dl(
                    [
                        (name.ljust(width), entry.help)
                        for name, entry in COMMANDS.items()
                        if entry.group == group
                    ]
                )

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands that begin so, from the table."""
        self._listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._listing = False
