"""Ctrl-C before the command line is loaded, and after it has ended, is no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

EARLY = """
import os, signal, sys
sys.meta_path.insert(0, type("Finder", (), {"find_spec": staticmethod(
    lambda name, *rest: os.kill(os.getpid(), signal.SIGINT) if name == "labctl.cli" else None)}))
from labctl.__main__ import main
main()
"""
LATE = """
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv = ["labctl", "--version"]
from labctl.__main__ import main
main()
"""


@pytest.mark.parametrize(("program", "code"), [(EARLY, -signal.SIGINT), (LATE, 0)])
def test_ctrl_c_at_the_edges(program: str, code: int) -> None:
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (code, "")
