"""Wire records: what crosses the wire is in the file, and the same file stands in for the wire."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from recorded_bench import ADDRESS, Bench, steps

from labctl.clock import wait_until
from labctl.environment import RECORD, RECORD_BLOCKS, REPLAY, REPLAY_STATE
from labctl.errors import (
    ConnectionFailedError,
    InstrumentTimeoutError,
    LabctlError,
    ReplyError,
    RunFileError,
)
from labctl.instruments.transports import masking, taps
from labctl.instruments.transports.opening import DriverOptions, read_options
from labctl.instruments.transports.socket_transport import SocketTransport
from labctl.instruments.transports.transport import Complete, MessageTransport
from labctl.instruments.transports.visa_transport import open_visa
from labctl.instruments.transports.wire_replay import read_record
from labctl.testing.scripts import ScriptedFrames, ScriptedTransport

Use = Callable[[MessageTransport], Any]


@pytest.fixture(autouse=True)
def _no_tap_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in (
        RECORD,
        RECORD_BLOCKS,
        REPLAY,
        REPLAY_STATE,
    ):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(masking, "_known", set())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def talk(wire: MessageTransport) -> list[object]:
    """Use everything that a message transport has."""
    wire.write("OUTP 1")
    heard: list[object] = [wire.query("*IDN?")]
    heard.append(bytes(wire.query_block("CURV?")))
    wire.write_block("DATA w,", b"\x00\n\xff")
    heard.append(wire.fence("MODE: 1", "MODEL?", "MX"))
    wire.clear()
    wire.close()
    wire.close()
    return heard


TALK: list[Any] = [
    ("OUTP 1", None),
    ("*IDN?", "A,µ,\x01,4"),
    ("CURV?", bytes(range(256))),
    (b"DATA w,\x00\n\xff", None),
    ("MODE: 1", ("1", "")),
]


def test_without_a_tap_the_driver_holds_the_wire_itself(bench: Bench) -> None:
    assert isinstance(bench.messages([]), ScriptedTransport)
    assert isinstance(bench.frames([]), ScriptedFrames)
    assert not bench.path.exists()


def test_without_a_tap_an_opened_socket_is_a_socket_transport(
    socket_peer: Callable[..., Any],
) -> None:
    peer = socket_peer(lambda line, send: send(b"yes\n"))
    wire = open_visa("dut", peer.address, library="@py", timeout_s=5)
    assert type(wire) is SocketTransport
    wire.close()


def test_every_message_stands_in_the_record(bench: Bench) -> None:
    bench.record()
    talk(bench.messages(TALK))
    found = [
        (entry["event"], entry.get("text"), entry.get("block", {}).get("bytes"))
        for entry in bench.entries()
    ]
    assert found == [
        ("open", None, None),
        ("sent", "OUTP 1", None),
        ("sent", "*IDN?", None),
        ("received", "A,µ,\x01,4", None),
        ("sent", "CURV?", None),
        ("received", None, 256),
        ("sent", "DATA w,", 3),
        ("sent", "MODE: 1", None),
        ("sent", "MODEL?", None),
        ("received", "1", None),
        ("received", "", None),
        ("received", "MX", None),
        ("clear", None, None),
        ("close", None, None),
    ]
    for entry in bench.entries():
        assert (entry["instrument"], entry["address"]) == ("scripted", ADDRESS)
        assert entry["wall"].endswith("+00:00")


def test_stamps_are_the_time_of_the_instrument(bench: Bench) -> None:
    bench.record()
    wire = bench.messages([("A?", "1"), ("B?", "2")])
    wire.query("A?")
    wire.clock.sleep(2.5)
    wire.query("B?")
    times = [entry["time_s"] for entry in bench.entries()]
    assert times == [None, 0.0, 0.0, 2.5, 2.5]


def test_blocks_are_hashed_unless_they_are_kept(bench: Bench) -> None:
    bench.record("hash")
    bench.messages([("CURV?", b"secret light")]).query_block("CURV?")
    block = bench.entries()[-1]["block"]
    assert block == {"bytes": 12, "sha256": hashlib.sha256(b"secret light").hexdigest()}


def test_what_was_recorded_is_played_back(bench: Bench) -> None:
    bench.record()
    heard = talk(bench.messages(TALK))
    bench.replay()
    assert talk(bench.messages([])) == heard
    assert bench.difference() is None


def test_frames_are_played_back(bench: Bench) -> None:
    bench.record()
    steps = [("20020000", "56020010")]
    wire = bench.frames(steps)
    answer = wire.exchange(bytes.fromhex("20020000"))
    wire.clear()
    wire.close()
    assert [entry.get("hex") for entry in bench.entries()][1:3] == ["20020000", "56020010"]
    bench.replay()
    wire = bench.frames([])
    assert wire.exchange(bytes.fromhex("20020000")) == answer
    with pytest.raises(ConnectionFailedError, match=r"line 5: expected scripted cleared, got .*ff"):
        wire.exchange(b"\xff")


class ScriptedLines:
    """A LinesTransport that replies these lines to everything, and then nothing more."""

    def __init__(self, *lines: str) -> None:
        self.name = "scripted"
        self.clock = ScriptedTransport([]).clock
        self._lines = lines

    def exchange(self, command: str, complete: Complete) -> tuple[str, ...]:
        for count in range(1, len(self._lines) + 1):
            if complete(self._lines[:count]):
                return self._lines[:count]
        raise InstrumentTimeoutError(self.name, "no answer", command)

    def clear(self) -> None:
        """Discard nothing."""

    def close(self) -> None:
        """End nothing."""


def test_replies_of_several_lines_are_played_back_with_what_came_before_a_time_out(
    bench: Bench,
) -> None:
    def use() -> list[object]:
        wire = taps.tapped_lines("scripted", ADDRESS, lambda: ScriptedLines("E01", "5", "OK"))
        heard: list[object] = list(wire.exchange("V?", lambda lines: lines[-1] == "5"))

        def never(lines: Sequence[str]) -> bool:
            heard.append(lines[-1])
            return False

        with pytest.raises(InstrumentTimeoutError):
            wire.exchange("I?", never)
        wire.clear()
        wire.close()
        return heard

    bench.record()
    heard = use()
    assert heard == ["E01", "5", "E01", "5", "OK"]
    bench.replay()
    assert use() == heard
    assert bench.difference() is None


@pytest.mark.parametrize(
    "error",
    [
        InstrumentTimeoutError("scripted", "no answer", "A?"),
        ConnectionFailedError("scripted", "lost", None),
        ReplyError("scripted", "garbage", "A?"),
    ],
)
def test_errors_are_played_back(bench: Bench, error: LabctlError) -> None:
    def use(wire: MessageTransport) -> str:
        with pytest.raises(type(error), match=str(error).split("(")[0].strip()):
            wire.query("A?")
        return wire.query("B?")

    bench.record()
    assert use(bench.messages([("A?", error), ("B?", "1")])) == "1"
    bench.replay()
    assert use(bench.messages([])) == "1"
    assert bench.difference() is None


def test_a_session_that_could_not_be_opened_cannot_be_opened_again(bench: Bench) -> None:
    def connect() -> MessageTransport:
        raise ConnectionFailedError("dut", "nobody there")

    for switch in (bench.record, bench.replay):
        switch()
        with pytest.raises(ConnectionFailedError, match="dut: nobody there"):
            taps.tapped_messages("dut", ADDRESS, connect)
    assert bench.difference() is None


def test_an_interrupt_is_played_back(bench: Bench) -> None:
    class Interrupted(ScriptedTransport):
        def query(self, command: str) -> str:
            raise KeyboardInterrupt

    for switch in (bench.record, bench.replay):
        switch()
        wire = taps.tapped_messages("dut", ADDRESS, lambda: Interrupted([]))
        with pytest.raises(KeyboardInterrupt):
            wire.query("A?")
    assert bench.difference() is None


def test_waiting_ends_when_it_ended_and_takes_no_time(bench: Bench) -> None:
    def use(wire: MessageTransport) -> bool:
        return wait_until(lambda: wire.query("DONE?") == "1", wire.clock, 3600.0, 900.0)

    bench.record()
    assert use(bench.messages([("DONE?", "0")] * 5)) is False
    bench.replay()
    assert use(bench.messages([])) is False
    assert bench.difference() is None


def test_the_first_difference_is_told_with_its_line(bench: Bench) -> None:
    bench.record()
    wire = bench.messages([("A?", "1"), ("B?", "2")])
    wire.query("A?")
    wire.query("B?")
    bench.replay()
    wire = bench.messages([])
    wire.query("A?")
    with pytest.raises(ConnectionFailedError) as raised:
        wire.query("C?")
    expected = "line 5: expected scripted sent 'B?', got scripted sent 'C?'"
    assert expected in str(raised.value)
    with pytest.raises(ConnectionFailedError, match="the replay ended at line 5"):
        wire.query("B?")
    with pytest.raises(ConnectionFailedError, match="the replay ended at line 5"):
        wire.clock.now_s()
    wire.close()
    assert bench.difference() == expected


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda wire: wire.write("A?"), "got the end of the program"),
        (lambda wire: wire.fence("A?", "M?", "x"), "got scripted sent 'M?'"),
        (lambda wire: wire.query_block("A?"), "got scripted received a reply of another kind"),
        (
            lambda wire: wire.write_block("A?", b"x"),
            "got scripted sent 'A?' with a block of 1 byte",
        ),
        (lambda wire: wire.clear(), "got scripted cleared"),
        (lambda wire: wire.close(), "got scripted closed"),
        (lambda wire: wire.clock.now_s(), "got scripted's clock read"),
        (lambda wire: wire.query("A?") and wire.query("A?"), "line 5: expected the end of the rec"),
    ],
)
def test_every_way_to_differ_is_found(bench: Bench, use: Use, expected: str) -> None:
    bench.record()
    bench.messages([("A?", "1")]).query("A?")
    bench.replay()
    wire = bench.messages([])
    with suppress(ConnectionFailedError):
        use(wire)
    difference = bench.difference()
    assert difference is not None
    assert expected in difference


def test_a_block_that_differs_by_one_byte_is_found(bench: Bench) -> None:
    bench.record("hash")
    bench.messages([(b"DATA w,abc", None)]).write_block("DATA w,", b"abc")
    bench.replay()
    with pytest.raises(ConnectionFailedError, match=r"line 3: .* block of 3 bytes.*got"):
        bench.messages([]).write_block("DATA w,", b"abd")


def test_another_instrument_or_address_is_a_difference(bench: Bench) -> None:
    bench.record()
    bench.messages([], "first")
    bench.replay()
    with pytest.raises(ConnectionFailedError, match=r"expected first opened at .*, got second"):
        bench.messages([], "second")


def test_the_order_of_two_instruments_counts(bench: Bench) -> None:
    bench.record()
    first, second = bench.messages([("A?", "1")], "first"), bench.messages([("B?", "2")], "second")
    first.query("A?")
    second.query("B?")
    bench.replay()
    first, second = bench.messages([], "first"), bench.messages([], "second")
    with pytest.raises(ConnectionFailedError, match=r"second: .* expected first sent 'A\?'"):
        second.query("B?")


def test_programs_one_after_the_other_play_one_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.record()
    for _ in range(2):
        bench.messages([("A?", "1")]).query("A?")
    bench.replay()
    for _ in range(2):
        monkeypatch.setattr("labctl.instruments.transports.wire_replay._replays", {})
        bench.messages([]).query("A?")
    assert bench.difference() is None


def test_a_hashed_block_cannot_be_played_and_says_how_to_record_it(bench: Bench) -> None:
    bench.record("hash")
    bench.messages([("CURV?", b"x")]).query_block("CURV?")
    bench.replay()
    with pytest.raises(RunFileError, match=r"line 4 holds a block as its hash.*--blocks keep"):
        bench.messages([]).query_block("CURV?")


def test_secrets_are_in_no_line_and_play_back_all_the_same(bench: Bench) -> None:
    class Options(DriverOptions):
        password: str

    def use(wire: MessageTransport) -> str:
        return wire.query('SYST:PASS "hunter22";*OPC?')

    read_options(Options, "dut", {"password": "hunter22"})
    bench.record()
    use(bench.messages([('SYST:PASS "hunter22";*OPC?', "hunter22 is right")]))
    text = bench.path.read_text(encoding="utf-8")
    assert "hunter22" not in text
    assert '*** is right"' in text
    bench.replay()
    assert use(bench.messages([])) == "*** is right"
    with pytest.raises(ConnectionFailedError) as raised:
        use(bench.messages([]))
    assert "hunter22" not in str(raised.value)


def test_a_record_that_cannot_be_written_stops_the_program_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second message passes: the way to the safe state must stay open."""

    def full(descriptor: int, line: bytes) -> int:
        raise OSError(28, "No space left on device")

    bench.record()
    wire = bench.messages([("A?", "1")])
    monkeypatch.setattr("labctl.instruments.transports.wire_record.os.write", full)
    with pytest.raises(RunFileError, match=r"wire.jsonl: recording ended \(No space left"):
        wire.query("A?")
    assert wire.query("A?") == "1"


def test_a_folder_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(RECORD, str(tmp_path / "absent" / "wire.jsonl"))
    with pytest.raises(RunFileError, match=r"absent.wire.jsonl: cannot be written"):
        taps.tapped_messages("dut", ADDRESS, lambda: ScriptedTransport([]))


HEADER = '{"format": "labctl wire record 1"}\n'
WHO = '"instrument": "a", "address": "b"'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ":1: must be the header"),
        ("{}\n", ":1: must be the header"),
        ("[1]\n", ":1: must be one JSON object"),
        (HEADER + "nonsense\n", ":2: must be one JSON object, not 'nonsense'"),
        (HEADER + "{}\n", ":2: event None must be one of open, sent"),
        (HEADER + '{"event": "sing", "instrument": "a", "address": "b"}\n', ":2: event 'sing'"),
        (HEADER + '{"event": "open", "instrument": "a"}\n', ":2: address = None"),
        (HEADER + f'{{"event": "time", {WHO}}}\n', ":2: time_s = None"),
        (HEADER + f'{{"event": "sent", "hex": "xy", {WHO}}}\n', ":2: hex = 'xy' must be bytes"),
        (HEADER + f'{{"event": "sent", "text": 5, {WHO}}}\n', ":2: text = 5"),
        (HEADER + f'{{"event": "received", "block": 5, {WHO}}}\n', ":2: block = 5"),
        (HEADER + f'{{"event": "failed", "error": "E", {WHO}}}\n', ":2: problem = None"),
    ],
)
def test_what_is_no_record_is_refused_by_line(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "wire.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RunFileError) as raised:
        read_record(path)
    assert f"{path}{expected}" in str(raised.value)


def test_a_record_that_is_not_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    with pytest.raises(RunFileError, match="cannot be read"):
        read_record(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RunFileError, match="not UTF-8"):
        read_record(path)


@pytest.mark.parametrize("block", ['{"base64": "!"}', '{"base64": 5}', '{"base64": "YQ=="}'])
def test_a_block_that_was_tampered_with_is_refused(bench: Bench, block: str) -> None:
    asked = f'{{"event": "sent", "text": "A?", "instrument": "scripted", "address": "{ADDRESS}"}}\n'
    opened = asked.replace('"sent", "text": "A?"', '"open"')
    answer = asked.replace("sent", "received").replace('"text": "A?"', f'"block": {block}')
    bench.path.write_text(HEADER + opened + asked + answer, encoding="utf-8")
    bench.replay()
    with pytest.raises(RunFileError, match="line 4: block "):
        bench.messages([]).query_block("A?")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversation=steps)
def test_any_conversation_plays_back(
    tmp_path_factory: pytest.TempPathFactory, conversation: list[tuple[str, str | bytes | None]]
) -> None:
    def use(wire: MessageTransport) -> list[object]:
        heard: list[object] = []
        for command, reply in conversation:
            if reply is None:
                wire.write(command)
            elif isinstance(reply, str):
                heard.append(wire.query(command))
            else:
                heard.append(bytes(wire.query_block(command)))
        return heard

    with pytest.MonkeyPatch.context() as patch:
        bench = Bench(tmp_path_factory.mktemp("wire"), patch)
        bench.record()
        heard = use(bench.messages(list(conversation)))
        bench.replay()
        assert use(bench.messages([])) == heard
        assert bench.difference() is None
