"""The command line: `labctl COMMAND`, each command in its own file.

Exit codes: 0 done, 1 failure, 2 usage, 3 a session was rejected by its verdict, 4 something may
still emit light, 130 interrupted by Ctrl-C, 143 by SIGTERM (128 + the signal's number).
Errors are one line on stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Annotated, Any

import typer

from labctl import streams
from labctl.cli.commands import Commands
from labctl.errors import LabctlError, OutputError, UsageError
from labctl.exhausted import limit_met
from labctl.visible import visible

_DEBUG = "--debug"
# What a shell sets to ask for completions; the parser's own name for it.
_COMPLETING = "_LABCTL_COMPLETE"
# What typer's parser raises; where it keeps the class differs between its releases.
_USAGE_ERRORS: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="labctl",
    cls=Commands,
    help="Quantum-secure deep learning on the lab bench: run it, calibrate it, attack it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def every_command(
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Quantum-secure deep learning on the lab bench."""


def main(interrupts: bool = False) -> None:
    """Run the command line and exit the process.

    interrupts: Ctrl-C ended the process until now, and is from here on for the command to answer.
    """
    streams.guard()
    debug = _DEBUG in sys.argv[1:]
    code = _ended(interrupts, debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        streams.give_up_output()
        code = code or LabctlError.exit_code
    except OutputError as error:
        code = code or _explain(error, debug)
        streams.give_up_output()
    sys.exit(code)


def _ended(interrupts: bool, debug: bool) -> int:
    """Run the command and return the exit code, once what went wrong has been said."""
    arguments = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    try:
        if interrupts:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if "--version" in arguments[:1]:
            _print_version()
        else:
            _run(arguments)
    except typer.Exit as ended:
        return ended.exit_code
    except LabctlError as error:
        if isinstance(error, OutputError):
            streams.give_up_output()
        _explain(error, debug)
        return error.exit_code
    except KeyboardInterrupt as error:
        print(visible(f"interrupted{_notes(error)}"), file=sys.stderr)
        return 128 + int(getattr(error, "number", signal.SIGINT))
    except BrokenPipeError:
        streams.give_up_output()
        return LabctlError.exit_code
    except Exception as error:
        return _explain_usage(error, debug) or _explain(error, debug)
    return 0


def _run(arguments: list[str]) -> None:
    """Run a command; unlike typer's own main, let every exception out, Ctrl-C with its notes."""
    command = typer.main.get_command(app)
    if _COMPLETING in os.environ:
        command.main(prog_name=app.info.name)
    with command.make_context(app.info.name, arguments) as context:
        command.invoke(context)


def _print_version() -> None:
    from labctl.version import __version__

    print(f"labctl {__version__}")


def _explain_usage(error: Any, debug: bool) -> int:
    """Say what was wrong with the options and return the exit code; 0 if that is not the error."""
    if not isinstance(error, _USAGE_ERRORS):
        return 0
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)
    else:
        commands = getattr(error.ctx.command, "commands", None) if error.ctx else None
        path = error.ctx.command_path if error.ctx else app.info.name
        hint = f"commands: {', '.join(sorted(commands))}" if commands else f"see {path} --help"
        _explain(UsageError(f"{error.format_message().rstrip('.')} ({hint})"), debug)
    return UsageError.exit_code


def _explain(error: Exception, debug: bool) -> int:
    """Say on one line of stderr what went wrong; return the exit code."""
    if debug:
        print(visible(traceback.format_exc()), file=sys.stderr)
    met = None if isinstance(error, LabctlError) else limit_met(error)
    known = isinstance(error, LabctlError) or met is not None
    what = met or (str(error) if known else f"unexpected {type(error).__name__}: {error}")
    hint = "" if known or debug else f" (run with {_DEBUG} to see where)"
    line = " ".join(f"{what}{_notes(error)}{hint}".split())
    print(f"error: {visible(line)}", file=sys.stderr)
    return LabctlError.exit_code


def _notes(error: BaseException) -> str:
    return "".join(f" ({note})" for note in getattr(error, "__notes__", []))
