"""What the computer has no more of is named, with the limit that is set, and is no surprise."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from labctl.cli import leakage
from labctl.exhausted import limit_met

Result = subprocess.CompletedProcess[str]
COULD_NOT_MAP = ImportError("libm.so: failed to map segment from shared object")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError(), "no more memory:"),
        (MemoryError("Unable to allocate 3 GiB"), "no more memory (Unable to allocate 3 GiB):"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "no more memory ("),
        (COULD_NOT_MAP, "no more memory (libm.so"),
        (RuntimeError("can't start new thread"), "no more threads and processes ("),
        (BlockingIOError(errno.EAGAIN, "fork"), "no more threads and processes ("),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "no more open files ("),
    ],
)
def test_what_there_is_no_more_of_is_named(error: Exception, what: str) -> None:
    said = limit_met(error)
    assert said is not None
    assert said.startswith(what)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "no"), RuntimeError("other"), ImportError("x"), ValueError()]
)
def test_another_error_is_about_no_limit(error: Exception) -> None:
    assert limit_met(error) is None


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
def test_the_limit_that_is_set_is_named_with_its_value() -> None:
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = limit_met(OSError(errno.EMFILE, "Too many open files"))
    assert said == f"no more open files ([Errno 24] Too many open files): `ulimit -n` is {files}"


def test_a_command_ends_in_one_line_about_it(
    monkeypatch: pytest.MonkeyPatch, run_here: Callable[..., Result]
) -> None:
    def starved(*arguments: object, **options: object) -> None:
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(leakage, "leakage_of_setting", starved)
    result = run_here("leakage", "--mu", "4", "--gain", "2")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: no more memory (Unable to allocate 3 GiB): ")
