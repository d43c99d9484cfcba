"""Output that is lost is one error; words aside are none; no file gets a closed stream's number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="by a Unix shell")

ASKED = f"{sys.executable} -m labctl leakage --mu 4 --gain 2"
WRONG = f"{sys.executable} -m labctl leakage --mu 0 --gain 2"
LOST = "error: standard output cannot be written ({}); files and accounts are kept\n"
has_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")


def in_shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize(
    ("to", "why"),
    [
        pytest.param("> /dev/full", "No space left on device", marks=has_full),
        (">&-", "Bad file descriptor"),
        (">&- <&-", "Bad file descriptor"),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "PYTHONUNBUFFERED=1 "])
def test_output_that_is_lost_is_one_error(to: str, why: str, unbuffered: str) -> None:
    result = in_shell(f"{unbuffered}{ASKED} {to}")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", LOST.format(why))


@pytest.mark.parametrize("to", [pytest.param("> /dev/full", marks=has_full), ">&-"])
def test_another_error_keeps_its_line_and_its_code(to: str) -> None:
    result = in_shell(f"{WRONG} {to}")
    assert result.returncode == 2
    assert result.stderr.startswith("error: --mu = 0.0")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("to", [pytest.param("2> /dev/full", marks=has_full), "2>&-", "<&- 2>&-"])
def test_words_aside_that_are_lost_cost_no_result(to: str) -> None:
    result = in_shell(f"{ASKED} --json {to}")
    assert (result.returncode, result.stdout[:1], result.stderr) == (0, "{", "")
    assert in_shell(f"{WRONG} {to}").returncode == 2


OCCUPY = "import os, sys; from labctl.streams import occupy; occupy(); "


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_stream(closed: str, tmp_path: Path) -> None:
    file = tmp_path / "number"
    program = (
        f"{OCCUPY}f = os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT); os.write(f, b'%d' % f)"
    )
    in_shell(f'{sys.executable} -c "{program}" {closed}')
    assert int(file.read_text()) > 2


def test_a_child_has_the_streams_too(tmp_path: Path) -> None:
    file = tmp_path / "open"
    child = f"import os; os.fstat(0); os.fstat(1); os.fstat(2); open({str(file)!r}, 'w').write('3')"
    program = f"{OCCUPY}import subprocess; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-c", program]
    script = "import subprocess, sys, os; os.closerange(0, 3); subprocess.call(sys.argv[1:])"
    subprocess.run([sys.executable, "-c", script, *command], check=False, timeout=100)
    assert file.read_text() == "3"
