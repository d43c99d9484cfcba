"""Tables: boxes on a terminal that fits them, whole words everywhere, one line a row in a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from labctl.cli import output

ADDRESS = "TCPIP::127.0.0.1::hislip0,38479::INSTR"
SHA256 = "b14e521d5586ef647d9d13c7bad71675b9f83964ee400ae09f0390f806d7ad5d"
COLUMNS = ["instrument", "HiSLIP", "socket", "what it is"]
ROWS = [
    ["server_laser", "–", "TCPIP::127.0.0.1::37773::SOCKET", "a laser\nthat is tuned"],
    ["server_generator", ADDRESS, "TCPIP::127.0.0.1::42895::SOCKET", "two channels"],
]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None, Callable[[], None]], list[str]]:
    """`shown(width, print)`: lines printed on a terminal of that width, or in a pipe for None."""

    def lines(width: int | None, show: Callable[[], None]) -> list[str]:
        file = io.StringIO()
        console = output.PlainConsole(
            file=file,
            width=width or 80,
            force_terminal=width is not None,
            color_system=None,
            highlight=False,
            markup=False,
        )
        monkeypatch.setattr(output, "people", console)
        show()
        return file.getvalue().splitlines()

    return lines


def whole_table() -> None:
    output.table("Bench", COLUMNS, ROWS)


def test_outside_a_terminal_a_row_is_a_line_with_tabs(shown: Callable[..., list[str]]) -> None:
    assert shown(None, whole_table) == [
        "Bench",
        "\t".join(COLUMNS),
        "server_laser\t–\tTCPIP::127.0.0.1::37773::SOCKET\ta laser that is tuned",
        "\t".join(ROWS[1]),
    ]


def test_facts_outside_a_terminal_have_their_name_on_each_line(
    shown: Callable[..., list[str]],
) -> None:
    long = "loss untrusted: " + "the client may hold it " * 10
    values = {"assumes": f"{long}\nnoise untrusted", "records": "calB"}
    assert shown(None, lambda: output.facts("Kept", values)) == [
        "Kept",
        f"assumes\t{long.strip()}",
        "assumes\tnoise untrusted",
        "records\tcalB",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 140, 200])
def test_no_word_is_broken_or_left_out_at_any_width(
    width: int, shown: Callable[..., list[str]]
) -> None:
    lines = shown(width, whole_table)
    words = " ".join(lines).split()
    assert {word for row in (COLUMNS[1:], *ROWS) for value in row for word in value.split()} <= {
        *words
    }
    boxed = any("│" in line for line in lines)
    # The longest words, and the box around each column.
    assert boxed == (width >= 16 + len(ADDRESS) + 31 + 8 + 3 * 4 + 1)
    if boxed:
        assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [20, 80, 120, None])
def test_a_hash_or_a_path_is_whole(width: int | None, shown: Callable[..., list[str]]) -> None:
    lines = shown(width, lambda: output.facts("Ledger", {"head": SHA256}))
    assert any(SHA256 in line for line in lines)
    sentence = f"head, to note down: {SHA256} after 25 entries"
    assert any(SHA256 in line for line in shown(width, lambda: output.people.print(sentence)))
