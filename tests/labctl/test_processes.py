"""A process is the same only if it also started at the same moment, on the same computer."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from labctl.processes import Life, ProcessName, runs, start_of

OWN = ProcessName.own()


def test_this_process_runs() -> None:
    assert OWN.process_id == os.getpid()
    assert OWN.life() is Life.RUNS
    assert ProcessName.of_json(OWN.as_json()) == OWN


@pytest.mark.parametrize(
    ("changes", "life"),
    [
        ({"started": "1"}, Life.ENDED),
        ({"process_id": 2**22 + 1}, Life.ENDED),
        ({"host": "elsewhere"}, Life.UNKNOWN),
        ({"machine": "another"}, Life.UNKNOWN),
        ({"id_space": "pid:[1]"}, Life.UNKNOWN),
    ],
)
def test_another_process_is_not_this_one(changes: dict[str, object], life: Life) -> None:
    assert replace(OWN, **changes).life() is life  # type: ignore[arg-type]


@pytest.mark.parametrize(("machine", "life"), [("m", Life.ENDED), ("", Life.UNKNOWN)])
def test_nothing_runs_on_that_ran_before_the_computer_was_started_again(
    monkeypatch: pytest.MonkeyPatch, machine: str, life: Life
) -> None:
    here = replace(OWN, machine=machine, boot="second")
    monkeypatch.setattr(ProcessName, "own", classmethod(lambda cls: here))
    assert replace(here, boot="first").life() is life


def test_a_process_that_stands_still_runs_and_one_that_was_killed_has_ended() -> None:
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    started = start_of(child)
    assert runs(child, started)
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not runs(child, started), "it only waits for its parent to notice"
    os.waitpid(child, 0)
    assert not runs(child, started)


def test_another_users_process_that_hides_its_start_counts_as_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def not_ours(process_id: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", not_ours)
    assert runs(2**22 + 1, "17")


@pytest.mark.parametrize(
    "wrong",
    [{}, {**OWN.as_json(), "more": ""}, {**OWN.as_json(), "process_id": "1"},
     {**OWN.as_json(), "host": 3}],
)  # fmt: skip
def test_what_names_no_process_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not the name of a process"):
        ProcessName.of_json(wrong)
