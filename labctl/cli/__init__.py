"""The command line: `labctl COMMAND`, each command in a file of its own.

Exit codes: 0 done, 1 failure, 2 usage, 130 interrupted. Errors are one line on stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Annotated, Any

import typer

from labctl.errors import LabctlError, UsageError

_DEBUG = "--debug"
# What typer's parser raises; where it keeps the class differs between its releases.
_USAGE_ERRORS: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="labctl",
    help="Quantum-secure deep learning on the lab bench: run it, calibrate it, attack it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Quantum-secure deep learning on the lab bench."""


def main() -> None:
    """Run the command line and exit the process."""
    debug = _DEBUG in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    if "--version" in arguments[:1]:
        from labctl import __version__

        print(f"labctl {__version__}")
        sys.exit(0)
    try:
        _run(arguments)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except LabctlError as error:
        _explain(error, debug)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as error:
        print(f"interrupted{_notes(error)}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        sys.exit(_explain_usage(error, debug) or _explain(error, debug))


def _run(arguments: list[str]) -> None:
    """Run a command; unlike typer's own main, let every exception out, Ctrl-C with its notes."""
    _add_commands(arguments)
    command = typer.main.get_command(app)
    with command.make_context(app.info.name, arguments) as context:
        command.invoke(context)
    sys.stdout.flush()


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
        traceback.print_exc()
    known = isinstance(error, LabctlError)
    what = str(error) if known else f"unexpected {type(error).__name__}: {error}"
    hint = "" if known or debug else f" (run with {_DEBUG} to see where)"
    print("error: " + " ".join(f"{what}{_notes(error)}{hint}".split()), file=sys.stderr)
    return LabctlError.exit_code


def _notes(error: BaseException) -> str:
    return "".join(f" ({note})" for note in getattr(error, "__notes__", []))


def _add_commands(arguments: list[str]) -> None:
    """Add the command that is asked for, or all where none of them is: each loads much else."""
    first = next((argument for argument in arguments if not argument.startswith("-")), "")
    for name in (first,) if first in _COMMANDS else tuple(_COMMANDS):
        if name not in _added:
            _added.add(name)
            _COMMANDS[name](name)


def _add_blocks(name: str) -> None:
    from labctl.cli import blocks

    app.command(name)(blocks.blocks)


def _add_calibrate(name: str) -> None:
    from labctl.cli import calibrate

    app.command(name)(calibrate.calibrate)


def _add_calibration(name: str) -> None:
    from labctl.cli import calibration

    app.add_typer(calibration.app, name=name)


def _add_copies(name: str) -> None:
    from labctl.cli import copies

    app.add_typer(copies.app, name=name)


def _add_demo(name: str) -> None:
    from labctl.cli import demo

    app.command(name)(demo.demo)


def _add_infer(name: str) -> None:
    from labctl.cli import infer

    app.command(name)(infer.infer)


def _add_leakage(name: str) -> None:
    from labctl.cli import leakage

    app.command(name)(leakage.leakage)


def _add_ledger(name: str) -> None:
    from labctl.cli import ledger

    app.add_typer(ledger.app, name=name)


def _add_train(name: str) -> None:
    from labctl.cli import train

    app.command(name)(train.train)


def _add_station(name: str) -> None:
    from labctl.cli import station

    app.add_typer(station.app, name=name)


def _add_instruments(name: str) -> None:
    from labctl.cli import instruments

    app.add_typer(instruments.app, name=name)


def _add_sim(name: str) -> None:
    from labctl.cli import sim

    app.add_typer(sim.app, name=name)


def _add_record(name: str) -> None:
    from labctl.cli import record

    app.command(name, context_settings=record.CONTEXT)(record.record)


def _add_replay(name: str) -> None:
    from labctl.cli import record

    app.command(name, context_settings=record.CONTEXT)(record.replay)


def _add_false_alarms(name: str) -> None:
    from labctl.cli import false_alarms

    app.command(name)(false_alarms.false_alarms)


def _add_sweep(name: str) -> None:
    from labctl.cli import sweep

    app.command(name)(sweep.sweep)


def _add_plan(name: str) -> None:
    from labctl.cli import plan

    app.command(name)(plan.plan)


def _add_label_attack(name: str) -> None:
    from labctl.cli import label

    app.command(name)(label.label_attack)


def _add_attack(name: str) -> None:
    from labctl.cli import attack

    app.add_typer(attack.app, name=name)


def _add_reproduce(name: str) -> None:
    from labctl.cli import reproduce

    app.command(name)(reproduce.reproduce)


def _add_countermeasures(name: str) -> None:
    from labctl.cli import countermeasures

    app.command(name)(countermeasures.countermeasures)


_COMMANDS = {
    "demo": _add_demo,
    "infer": _add_infer,
    "blocks": _add_blocks,
    "calibrate": _add_calibrate,
    "calibration": _add_calibration,
    "leakage": _add_leakage,
    "ledger": _add_ledger,
    "train": _add_train,
    "false-alarms": _add_false_alarms,
    "sweep": _add_sweep,
    "plan": _add_plan,
    "label-attack": _add_label_attack,
    "attack": _add_attack,
    "reproduce": _add_reproduce,
    "countermeasures": _add_countermeasures,
    "copies": _add_copies,
    "station": _add_station,
    "instruments": _add_instruments,
    "sim": _add_sim,
    "record": _add_record,
    "replay": _add_replay,
}
_added: set[str] = set()
