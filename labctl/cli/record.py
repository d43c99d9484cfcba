"""`labctl record` and `labctl replay`: a program with its wire messages written down, or from them.

Both run any command that opens instruments through labctl: `labctl infer`, or a script.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from labctl.cli import options, output
from labctl.errors import LabctlError, SettingError, UsageError

# Reads until the pipe's other end closes, as it does when its process is killed.
_GUARD = "import os, signal, sys; sys.stdin.read(); os.kill(int(sys.argv[1]), signal.SIGTERM)"
_PASSED_ON = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_COMMAND = typer.Argument(metavar="-- COMMAND...", help="The program to run, with its options.")


class BinaryBlocks(StrEnum):
    """How binary blocks are recorded: as their SHA-256 and length alone, or in full."""

    HASH = "hash"
    KEEP = "keep"


def record(
    command: Annotated[list[str], _COMMAND],
    output_: options.OptionalOut = None,
    blocks: Annotated[
        BinaryBlocks,
        typer.Option(
            help="How to record binary blocks: their hash alone, or in full for a replay."
        ),
    ] = BinaryBlocks.HASH,
) -> None:
    """Run a program and write down every wire message of its instruments, one JSON line each.

    The record is a new file in labctl-runs unless --out is given. Ends with the program's own exit
    code. Passwords, pins and keys among a driver's options are
    masked in the record.
    """
    from labctl.environment import RECORD, RECORD_BLOCKS, REPLAY
    from labctl.instruments.transports.wire_record import start_record

    path = (output_ or _new_path()).absolute()
    _refuse_nested(RECORD, REPLAY)
    program = _program(command)
    start_record(path, command, blocks)
    try:
        code = _run(program, {RECORD: str(path), RECORD_BLOCKS: str(blocks)})
    except SettingError:
        path.unlink()
        raise
    lines = path.read_bytes().count(b"\n") - 1
    output.say_step(f"{lines} lines in {path}")
    raise typer.Exit(code)


def replay(
    file: Annotated[Path, typer.Argument(help="Record to play back.")],
    command: Annotated[list[str], _COMMAND],
) -> None:
    """Run a program against a record, without any instrument.

    Each message must be the one that the record has at that place. At the first difference the
    program gets a ConnectionFailedError and this command ends with exit code 1, naming the line,
    what it expects and what it got; without one it ends with the program's own exit code.
    """
    from labctl.environment import RECORD, REPLAY, REPLAY_STATE
    from labctl.instruments.transports.wire_replay import read_record, read_state, unplayed

    _refuse_nested(RECORD, REPLAY)
    entries = read_record(file)
    program = _program(command)
    with tempfile.TemporaryDirectory(prefix="labctl-replay-") as folder:
        state = Path(folder) / "state.json"
        code = _run(
            program,
            {REPLAY: str(file.absolute()), REPLAY_STATE: str(state)},
        )
        difference = unplayed(entries, read_state(state))
    if difference is not None:
        ended = f" (the program ended with exit code {code})" if code else ""
        raise LabctlError(f"{file}: {difference}{ended}")
    output.say_step(f"{len(entries)} lines of {file} played, no difference")
    raise typer.Exit(code)


def _new_path() -> Path:
    try:
        options.DEFAULT_RUNS.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(
            "--out", None, f"given: {options.DEFAULT_RUNS} is no folder to write to"
        ) from error
    start, number = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-wire", 1
    path = options.DEFAULT_RUNS / f"{start}.jsonl"
    while path.exists():
        number += 1
        path = options.DEFAULT_RUNS / f"{start}-{number}.jsonl"
    return path


def _refuse_nested(*switches: str) -> None:
    for switch in switches:
        if os.environ.get(switch):
            raise UsageError(f"{switch} is set: this process is recorded or replayed already")


def _program(command: list[str]) -> list[str]:
    """Return what to start; `labctl` is the one that runs now, not the shell's."""
    program = command[1:] if command[0] == "--" else command
    if not program:
        raise SettingError("COMMAND", "", "the program to run and its options, after --")
    if program[0] == "labctl":
        return [sys.executable, "-P", "-m", "labctl", *program[1:]]
    return program


def _run(program: list[str], switches: Mapping[str, str]) -> int:
    """Run a program to its end and return its exit code; raises SettingError if it cannot start.

    Ctrl-C reaches the program from the terminal, SIGTERM and SIGHUP are passed on: the program
    leaves its instruments safe, and this process waits for that. If this process is killed, the
    program gets SIGTERM.
    """
    sys.stdout.flush()
    with _passing_signals_on() as started:
        try:
            child = subprocess.Popen(program, env={**os.environ, **switches})
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SettingError("COMMAND", program[0], f"a program that runs ({reason})") from error
        started(child)
        with _ended_with_this_process(child):
            code = child.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _ended_with_this_process(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Have the child sent SIGTERM if this process is killed while the block runs.

    A small process waits for the end of a pipe from here. It has a session for itself, so that
    neither Ctrl-C nor a terminal that closes ends it before.
    """
    command = [sys.executable, "-S", "-c", _GUARD, str(child.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guard:
        try:
            yield
        finally:
            guard.kill()


@contextmanager
def _passing_signals_on() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Survive signals until the block ends; yields what registers the child that gets them."""
    children: list[subprocess.Popen[bytes]] = []
    asked: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for child in children:
            child.send_signal(number)

    def started(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        if asked:
            child.send_signal(asked[-1])

    previous = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None),
        **{number: signal.signal(number, pass_on) for number in _PASSED_ON},
    }
    try:
        yield started
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
