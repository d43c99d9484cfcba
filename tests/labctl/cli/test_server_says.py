"""What a server says holds up no session, comes in order, and ends it once nobody can read it."""

from __future__ import annotations

import io
import json
import sys
import threading
import time

import pytest

from labctl.cli.server import _Events
from labctl.said_in_time import sayer

# Each event waits for its reader 0.2 s at most, and all behind it not at all.
SOON_S = 2.0


class Stopped(io.StringIO):
    """A terminal that takes nothing until it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def write(self, text: str) -> int:
        assert self.goes_on.wait(60)
        return super().write(text)


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("as_json", [True, False])
def test_a_stopped_terminal_holds_no_session_up(
    monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    terminal = Stopped()
    monkeypatch.setattr(sys, "stdout", terminal)
    events = _Events(as_json=as_json)
    began_s = time.monotonic()
    for name in ("alice", "bob", "carol"):
        events.begins(name, "here")
    assert time.monotonic() - began_s < SOON_S
    assert terminal.getvalue() == ""
    terminal.goes_on.set()
    sayer.finish(60)
    lines = terminal.getvalue().splitlines()
    if as_json:
        assert [json.loads(line)["client"] for line in lines] == ["alice", "bob", "carol"]
    else:
        assert lines == [f"session: {name} (here)" for name in ("alice", "bob", "carol")]


def test_a_reader_that_is_gone_is_told_to_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    events = _Events(as_json=False)
    events.check()
    events.ends("alice", "closed", "file")
    sayer.finish(60)
    with pytest.raises(BrokenPipeError):
        events.check()
