"""The command line's manners: exit codes, one error line, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from long_tests import long

from labctl import __version__
from labctl.cli import app, leakage
from labctl.errors import InstrumentError

Result = subprocess.CompletedProcess[str]
COMMANDS = {
    "attack",
    "blocks",
    "calibrate",
    "calibration",
    "client",
    "copies",
    "countermeasures",
    "demo",
    "evidence",
    "false-alarms",
    "faults",
    "infer",
    "instruments",
    "label-attack",
    "leakage",
    "keys",
    "ledger",
    "plan",
    "record",
    "replay",
    "reproduce",
    "runs",
    "server",
    "safe",
    "sim",
    "station",
    "sweep",
    "train",
}


def raises(error: BaseException) -> Callable[..., None]:
    def instead(*arguments: object, **options: object) -> None:
        raise error

    return instead


@pytest.mark.parametrize("arguments", [["--version"], ["--debug", "--version"]])
def test_the_version_is_printed(arguments: list[str], run_here: Callable[..., Result]) -> None:
    result = run_here(*arguments)
    assert (result.returncode, result.stdout) == (0, f"labctl {__version__}\n")


def test_help_names_every_command_and_succeeds(run_process: Callable[..., Result]) -> None:
    result = run_process("--help")
    assert (result.returncode, result.stderr) == (0, "")
    listed = re.findall(r"^  ([a-z][a-z-]*) +[A-Z].*[.?]$", result.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_help_and_a_wrong_name_load_no_numerical_library(
    run_process: Callable[..., Result],
) -> None:
    script = (
        "import sys\nfrom labctl.cli import main\nsys.argv = ['labctl', sys.argv[1]]\n"
        "try:\n    main()\nexcept SystemExit:\n    print('numpy' in sys.modules)"
    )
    for argument in ("--help", "infr"):
        result = subprocess.run(
            [sys.executable, "-c", script, argument],
            capture_output=True,
            text=True,
            timeout=200,
            check=True,
        )
        assert result.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("labctl ca", {"calibrate", "calibration"}, marks=pytest.mark.long),
        ("labctl attack ru", {"run"}),
    ],
)
def test_the_shell_completes_commands(words: str, expected: set[str]) -> None:
    asked = {
        "_LABCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    result = subprocess.run(
        [sys.executable, "-m", "labctl"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert set(result.stdout.split()) == expected, result.stderr


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, run_here: Callable[..., Result]) -> None:
    result = run_here(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"labctl {command}" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["station"]])
def test_no_command_at_all_is_answered_with_help_as_a_usage_error(
    arguments: list[str], run_here: Callable[..., Result]
) -> None:
    result = run_here(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named", "valid"),
    [
        (["infr"], "'infr'", "infer"),
        (["station", "chek"], "'chek'", "check, show"),
        (["--bogus"], "--bogus", "demo, evidence, false-alarms, faults, infer, instruments"),
        (["infer", "--imges", "3"], "--imges", "--images"),
        (["leakage", "--mu", "4"], "'--gain'", "labctl leakage --help"),
        (["leakage", "--mu", "4", "--gain", "2", "more"], "(more)", "labctl leakage --help"),
        (["infer", "--mu"], "--mu", "requires an argument"),
        (["infer", "--images", "many"], "--images = 'many'", "a whole number"),
        (["infer", "--mu", "much"], "--mu = 'much'", "a number"),
        (["infer", "--link", "cable"], "--link = 'cable'", "one of mode, bench"),
        (["infer", "--loss", "maybe"], "--loss = 'maybe'", "one of trusted, untrusted"),
        (["infer", "--sample", "some"], "--sample = 'some'", "one of measured, all"),
        (["station", "check"], "'FILE'", "labctl station check --help"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_names_it_and_what_is_valid(
    arguments: list[str], named: str, valid: str, refused: Callable[..., str]
) -> None:
    line = refused(*arguments)
    assert named.lower() in line.lower()
    assert valid in line


def test_a_wrong_command_line_is_told_by_a_process_too(
    run_process: Callable[..., Result], is_refusal: Callable[..., str]
) -> None:
    assert "'bogus'" in is_refusal(run_process("bogus"))


@pytest.mark.parametrize("place", [0, 1, 99])
def test_debug_shows_the_traceback_wherever_it_stands(
    place: int, run_here: Callable[..., Result]
) -> None:
    arguments = ["leakage", "--mu", "0", "--gain", "2"]
    arguments.insert(place, "--debug")
    result = run_here(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Traceback")
    assert result.stderr.splitlines()[-1].startswith("error: --mu = 0.0: ")


def test_a_surprise_is_one_line_with_a_hint_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, run_here: Callable[..., Result]
) -> None:
    monkeypatch.setattr(leakage, "leakage_of_setting", raises(ZeroDivisionError("by\nzero")))
    result = run_here("leakage", "--mu", "4", "--gain", "2")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "error: unexpected ZeroDivisionError: by zero (run with --debug to see where)\n"
    )


def test_an_errors_notes_stand_on_its_line(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    error = InstrumentError("laser", "is deaf")
    error.add_note("not left safe: shutter")
    monkeypatch.setattr(leakage, "leakage_of_setting", raises(error))
    line = refused("leakage", "--mu", "4", "--gain", "2", code=1)
    assert line == "error: laser: is deaf (not left safe: shutter)"


def test_ctrl_c_exits_with_130_and_tells_what_is_not_safe(
    monkeypatch: pytest.MonkeyPatch, run_here: Callable[..., Result]
) -> None:
    error = KeyboardInterrupt()
    error.add_note("not left safe: shutter")
    monkeypatch.setattr(leakage, "leakage_of_setting", raises(error))
    result = run_here("leakage", "--mu", "4", "--gain", "2")
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == "interrupted (not left safe: shutter)\n"


def test_a_reader_that_goes_away_causes_no_traceback(run_process: Callable[..., Result]) -> None:
    script = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'labctl', 'leakage', '--mu', '4', '--gain', '2']\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "child.stdout.close()\n"
        "said = child.stderr.read()\n"
        "print(child.wait(timeout=150), said)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=True
    )
    assert result.stdout == "1 b''\n"


def test_progress_and_markup_leave_no_trace_where_nobody_looks(
    run_process: Callable[..., Result],
) -> None:
    result = run_process("leakage", "--mu", "4", "--gain", "2", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["mu"] == 4.0


def test_the_app_has_a_name_for_its_messages() -> None:
    assert app.info.name == "labctl"


@pytest.mark.parametrize("encoding", ["ascii:strict", *long("latin-1:strict")])
def test_a_stream_without_some_characters_gets_the_result(
    run_process: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    result = run_process("blocks", "--f", "0.3")
    assert result.returncode == 0, result.stderr
    assert "0.3" in result.stdout
