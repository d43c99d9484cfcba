"""What goes wrong after the report was made costs neither the report nor the run's file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labctl.data.run_file import read_run
from labctl.errors import InstrumentError, StillLitError
from labctl.run.opening import opened

Result = subprocess.CompletedProcess[str]
LIT = "not left safe: laser: no answer; MAY STILL EMIT LIGHT: LASER (ASRL1): SWITCH IT OFF BY HAND"


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Have what a run opens raise when it is left."""

    def set_up(error: BaseException) -> None:
        @contextmanager
        def left_badly(*arguments: Any) -> Iterator[Any]:
            with opened(*arguments) as run:
                yield run
            raise error

        monkeypatch.setattr("labctl.run.inference.opened", left_badly)

    return set_up


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StillLitError("lab", LIT), 4, "MAY STILL EMIT LIGHT: LASER (ASRL1): SWITCH IT OFF"),
        (InstrumentError("lab", "not left safe: meter: no answer"), 1, "not left safe: meter"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_the_report_is_printed_and_then_what_was_not_left_safe(
    late: Callable[[BaseException], None],
    run_here: Callable[..., Result],
    tiny_network: str,
    pictures: str,
    error: BaseException,
    code: int,
    said: str,
    as_json: bool,
) -> None:
    late(error)
    given = ("--model", tiny_network, "--data", pictures, "--images", "12")
    result = run_here("infer", *given, *(("--json",) if as_json else ()))
    assert result.returncode == code
    (line,) = result.stderr.splitlines()
    assert said in line
    assert "the run itself is whole: labctl-runs" in line
    client, server = sorted(Path("labctl-runs").glob("*.h5"))
    assert [read_run(path).status for path in (server, client)] == ["complete"] * 2
    if as_json:
        named = {"server": str(server), "client": str(client)}
        assert json.loads(result.stdout)["run_files"] == named
    else:
        assert "weights, bound" in result.stdout


def test_an_error_before_the_report_is_raised_as_it_is(
    run_here: Callable[..., Result],
    tiny_network: str,
    pictures: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*arguments: Any) -> None:
        raise InstrumentError("laser", "is deaf")

    monkeypatch.setattr("labctl.run.inference.classify", fails)
    result = run_here("infer", "--model", tiny_network, "--data", pictures, "--images", "12")
    assert (result.returncode, result.stdout) == (1, "")
    assert "whole" not in result.stderr
