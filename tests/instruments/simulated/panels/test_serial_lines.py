"""Lines in and out of a serial instrument."""

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.panels.serial_lines import LineInput, LineOutput


def take_all(lines: LineInput) -> list[str]:
    taken = []
    while (line := lines.take()) is not None:
        taken.append(line)
    return taken


def test_lines_end_with_cr_or_nl_or_both() -> None:
    lines = LineInput()
    lines.feed(b"one\rtwo\nthree\r\n\r\n fou", end=False)
    assert take_all(lines) == ["one", "two", "three"]
    lines.feed(b"r ", end=True)
    assert take_all(lines) == ["four"]


def test_long_lines_and_too_many_are_lost() -> None:
    lines = LineInput(longest=4, most=2)
    for _ in range(100):
        lines.feed(b"abc", end=False)
    lines.feed(b"\nok\nlost\n", end=False)
    assert take_all(lines) == ["\0", "ok"]


def test_clear_forgets_half_a_line_too() -> None:
    lines = LineInput()
    lines.feed(b"one\ntw", end=False)
    lines.clear()
    lines.feed(b"o\n", end=False)
    assert take_all(lines) == ["o"]


def test_output_comes_line_by_line_and_is_bounded() -> None:
    output = LineOutput(most=8)
    output.put("one\r\n\r\n")
    output.put("lost\r\n")
    assert output.read(2) == (b"on", False)
    assert output.read(100) == (b"e\r\n", True)
    assert output.read(100) == (b"\r\n", True)
    assert output.read(100) == (b"", False)


@settings(deadline=None)
@given(st.lists(st.text("abc ", min_size=1, max_size=5), max_size=8), st.integers(1, 5))
def test_pieces_make_no_difference(words: list[str], size: int) -> None:
    data = "".join(f"{word}\r\n" for word in words).encode()
    lines = LineInput()
    for start in range(0, len(data), size):
        lines.feed(data[start : start + size], end=False)
    assert take_all(lines) == [word.strip() for word in words if word.strip()]
