"""What instruments and files say of themselves acts on no terminal, on any way to it."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from labctl.cli import _explain, output
from labctl.errors import LabctlError
from labctl.visible import visible, visible_line

IDENTITY = "ACME\x1b[2J\x1b]0;owned\x07,M\u202e1\x9b31m,\x7f\r7\x08,1"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Return what a terminal gets that shows colours."""
    text = io.StringIO()
    console = output.PlainConsole(
        file=text, force_terminal=True, highlight=False, markup=False, width=300
    )
    monkeypatch.setattr(output, "people", console)
    monkeypatch.setattr(output, "aside", console)
    return text


def ways() -> dict[str, Callable[[], None]]:
    return {
        "print": lambda: output.people.print(IDENTITY, style="dim"),
        "facts": lambda: output.facts(IDENTITY, {IDENTITY: IDENTITY}),
        "table": lambda: output.table(IDENTITY, [IDENTITY, "b"], [[IDENTITY, "b"]]),
        "step": lambda: output.say_step(IDENTITY),
    }


@pytest.mark.parametrize("way", ways())
def test_only_our_own_styles_reach_the_terminal(way: str, screen: io.StringIO) -> None:
    ways()[way]()
    printed = screen.getvalue()
    assert "ACME\\x1b[2J\\x1b]0;owned\\x07,M\\u202e1\\x9b31m,\\x7f\\r7\\x08,1" in printed
    for act in ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\u202e", "\x7f", "\x08", "\r"):
        assert act not in printed
    assert "\x1b[" in printed


def test_an_error_is_one_line_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    _explain(LabctlError(f"laser: identifies as {IDENTITY!s}\nerror: all is safe"), debug=False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert "ACME\\x1b[2J" in said


def test_visible_text_is_printable_but_for_newlines_and_tabs() -> None:
    every = "".join(map(chr, range(0x3000)))
    shown = visible(every)
    assert all(c.isprintable() or c in "\n\t" or c.isspace() for c in shown if c < "\u0300")
    assert not {c for c in shown if c < " "} - {"\n", "\t"}
    assert visible("μ = 8.91, “é”, 漢") == "μ = 8.91, “é”, 漢"
    assert visible_line("a\nb\tc") == "a\\nb\\tc"


@pytest.fixture
def liar() -> Iterator[str]:
    """Return the address of an instrument whose reply holds an escape and a bell."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            line, _ = server.accept()
            with line, line.makefile("rb") as asked:
                for _ in asked:
                    line.sendall(b"Agilent Technologies,33512B,\x1b[2J\x07,1.0\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"TCPIP::127.0.0.1::{server.getsockname()[1]}::SOCKET"
        thread.join(5.0)


def test_an_identity_with_an_escape_is_shown_as_text(
    liar: str, run_here: Callable[..., CompletedProcess[str]]
) -> None:
    result = run_here("instruments", "identify", "--driver", "keysight_33512b", "--address", liar)
    assert "\x1b" not in result.stdout + result.stderr
    assert "\x07" not in result.stdout + result.stderr
    assert "\\x1b[2J" in result.stdout + result.stderr
