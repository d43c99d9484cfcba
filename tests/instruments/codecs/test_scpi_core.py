"""The SCPI core as a host sees it: message exchange, status reporting, errors."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.codecs.scpi import (
    Command,
    Parameters,
    ScpiCore,
    Suffixes,
    action,
    only,
    readout,
    setting,
)
from labctl.instruments.codecs.scpi_values import Number


@dataclass
class Device:
    """A device of one setting per channel, one block and an operation that can be slow."""

    frequency_hz: dict[int, float] = field(default_factory=dict)
    payload: bytes = b""
    busy: bool = False
    triggers: int = 0
    resets: int = 0

    def core(
        self, error_depth: int = 20, message_bytes: int = 1 << 25, output_bytes: int = 1 << 25
    ) -> ScpiCore:
        def put(suffixes: Suffixes, value: float) -> None:
            self.frequency_hz[suffixes[0]] = value

        def store(_: Suffixes, parameters: Parameters) -> None:
            self.payload = bytes(only(parameters).data)

        frequency = Number("HZ", 1.0, 1e9, 1e3, "{:g}")
        get: Callable[[Suffixes], float] = lambda n: self.frequency_hz.get(n[0], 0.0)  # noqa: E731
        commands = [
            setting("[:SOURce#]:FREQuency[:CW]", frequency, get, put),
            Command(":DATA", store),
            readout(":DATA", lambda _: encode_block(self.payload)),
            action(":STARt", lambda _: setattr(self, "busy", True)),
        ]
        return ScpiCore(
            commands,
            identity="MAKER,MODEL,1,2",
            reset=lambda: setattr(self, "resets", self.resets + 1),
            trigger=lambda: setattr(self, "triggers", self.triggers + 1),
            busy=lambda: self.busy,
            error_depth=error_depth,
            message_bytes=message_bytes,
            output_bytes=output_bytes,
        )


def ask(core: ScpiCore, message: bytes, *, end: bool = True) -> bytes:
    core.write(message, end=end)
    return core.read(1 << 30)[0]


def errors(core: ScpiCore) -> list[int]:
    found = []
    while (code := int(ask(core, b"SYST:ERR?").partition(b",")[0])) != 0:
        found.append(code)
    return found


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b" \n", b";\n"])
def test_a_query_is_answered_with_a_newline(ending: bytes) -> None:
    core = Device().core()
    for _ in range(2):
        assert ask(core, b"*idn?" + ending, end=False) == b"MAKER,MODEL,1,2\n"


def test_settings_are_read_back_with_suffixes_and_limits() -> None:
    core = Device().core()
    assert ask(core, b"FREQ 2 kHz;SOUR2:FREQ:CW 5;:freq?;:source2:frequency?") == b"2000;5\n"
    assert ask(core, b"FREQ? MAX;FREQ? DEF") == b"1e+09;1000\n"


def test_errors_carry_codes_and_set_event_bits() -> None:
    core = Device().core()
    core.write(b"*CLS;FREQ\n*CLS;BOGUS 1\nFREQ 0\n", end=False)
    assert ask(core, b"*ESR?") == b"48\n"
    assert ask(core, b"*ESR?") == b"0\n"
    assert ask(core, b"SYST:ERR?") == b'-113,"Undefined header; BOGUS"\n'
    assert errors(core) == [-222]
    assert ask(core, b"SYSTem:ERRor:NEXT?") == b'+0,"No error"\n'


def test_a_command_error_ends_the_message_an_execution_error_does_not() -> None:
    device = Device()
    core = device.core()
    core.write(b"FREQ 7;FREQ 0;:SOUR3:FREQ 3;FREQ x;:SOUR4:FREQ 4\n", end=True)
    assert device.frequency_hz == {1: 7.0, 3: 3.0}
    assert errors(core) == [-222, -104]


def test_a_full_queue_ends_with_overflow() -> None:
    core = Device().core(error_depth=3)
    core.write(b"A\nB\nC\nD\nE\n", end=False)
    assert errors(core) == [-113, -113, -350]


def test_status_byte_summarises() -> None:
    core = Device().core()
    core.write(b"*CLS;*ESE 32;*SRE 32;BOGUS", end=True)
    assert core.status_byte() == 4 + 32 + 64
    core.write(b"*STB?", end=True)
    assert core.status_byte() == 4 + 16 + 32 + 64
    assert core.read(100) == (b"100\n", True)
    core.write(b"*CLS", end=True)
    assert core.status_byte() == 0
    assert ask(core, b"*ESE?;*SRE?") == b"32;32\n"


def test_a_serial_poll_ends_the_request_for_service_and_the_master_summary_stays() -> None:
    """IEEE 488.2 sections 11.2.2.1 and 11.2.2.3."""
    core = Device().core()
    core.write(b"*CLS;*ESE 33;*SRE 32;BOGUS", end=True)
    assert core.status_byte() & 64
    assert core.serial_poll() == 4 + 32 + 64
    assert core.serial_poll() == core.status_byte() == 4 + 32
    assert ask(core, b"*STB?") == b"100\n"
    core.write(b"*OPC;BOGUS", end=True)
    assert not core.serial_poll() & 64


@pytest.mark.parametrize("reason", [b"*ESR?;BOGUS", b"*CLS;BOGUS", b"*SRE 0;*SRE 32", b"*SRE 4"])
def test_a_new_reason_requests_service_again(reason: bytes) -> None:
    """A summary bit that falls and rises, or is enabled: even within one message."""
    core = Device().core()
    core.write(b"*CLS;*ESE 32;*SRE 32;BOGUS", end=True)
    assert core.serial_poll() & 64
    core.write(reason, end=True)
    assert core.serial_poll() & 64
    assert not core.serial_poll() & 64


def test_a_request_is_withdrawn_with_its_last_reason() -> None:
    core = Device().core()
    core.write(b"*CLS;*ESE 32;*SRE 48;BOGUS", end=True)
    core.write(b"*CLS", end=True)
    assert core.serial_poll() == 0
    core.write(b"*IDN?", end=True)
    assert core.serial_poll() == 16 + 64
    core.read(3)
    assert core.serial_poll() == 16
    core.read(1000)
    core.write(b"*IDN?", end=True)
    core.read(1000)
    assert core.serial_poll() == 0


def test_end_interrupts_a_reply_but_a_stream_queues_it() -> None:
    core = Device().core()
    core.write(b"*IDN?\n", end=True)
    assert ask(core, b"*OPC?\n") == b"1\n"
    assert errors(core) == [-410]
    core.write(b"*IDN?\n*OPC?\n", end=False)
    core.write(b"*OPC?\n", end=False)
    assert [core.read(100)[0] for _ in range(4)] == [b"MAKER,MODEL,1,2\n", b"1\n", b"1\n", b""]


def test_reading_without_a_query_is_unterminated() -> None:
    core = Device().core()
    assert core.read(10) == (b"", False)
    core.read_timed_out()
    assert errors(core) == [-420]


def test_completion_queries_wait_for_the_operation() -> None:
    device = Device()
    core = device.core()
    core.write(b"START;*OPC?;*IDN?\nFREQ 5\n", end=False)
    assert core.read(100) == (b"", False)
    core.read_timed_out()
    assert device.frequency_hz == {}
    device.busy = False
    assert core.read(100) == (b"1;MAKER,MODEL,1,2\n", True)
    assert device.frequency_hz == {1: 5.0}
    assert errors(core) == []


def test_device_clear_ends_the_wait() -> None:
    device = Device()
    core = device.core()
    core.write(b"START;*WAI;FREQ 5\n", end=True)
    core.clear()
    assert ask(core, b"FREQ?") == b"0\n"


def test_opc_sets_its_bit_when_the_operation_ends() -> None:
    device = Device()
    core = device.core()
    core.write(b"*CLS;START;*OPC", end=True)
    assert ask(core, b"*ESR?") == b"0\n"
    device.busy = False
    assert ask(core, b"*ESR?") == b"1\n"


def test_input_that_piles_up_behind_a_wait_is_bounded() -> None:
    core = Device().core(message_bytes=100)
    core.write(b"START;*OPC?\n", end=False)
    for _ in range(50):
        core.write(b"FREQ 1\n", end=False)
    core.clear()
    assert errors(core)[:1] == [-363]


def test_replies_that_nobody_reads_are_bounded() -> None:
    core = Device().core(output_bytes=100)
    core.write(b"*IDN?\n" * 20, end=False)
    assert -430 in errors(core)


def test_trigger_and_reset_reach_the_device() -> None:
    device = Device()
    device.core().write(b"*TRG;*RST;*TST?", end=True)
    assert (device.triggers, device.resets) == (1, 1)


def test_replies_can_be_read_in_small_pieces() -> None:
    core = Device().core()
    core.write(b"*IDN?", end=True)
    parts = [core.read(6) for _ in range(3)]
    assert parts == [(b"MAKER,", False), (b"MODEL,", False), (b"1,2\n", True)]


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_blocks_pass_whatever_they_hold(payload: bytes, size: int) -> None:
    device = Device()
    core = device.core()
    message = b":DATA " + encode_block(payload) + b"\n"
    for start in range(0, len(message), size):
        core.write(message[start : start + size], end=False)
    assert device.payload == payload
    assert ask(core, b"DATA?") == encode_block(payload) + b"\n"


def test_a_block_of_ten_megabytes_passes_in_pieces() -> None:
    device = Device()
    core = device.core()
    payload = np.random.default_rng(1).bytes(10_000_000)
    message = b"DATA " + encode_block(payload)
    for start in range(0, len(message), 65536):
        last = start + 65536 >= len(message)
        core.write(message[start : start + 65536], end=last)
    assert device.payload == payload


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=5))
def test_garbage_never_stops_the_device(writes: list[tuple[bytes, bool]]) -> None:
    device = Device()
    core = device.core()
    for data, end in writes:
        core.write(data, end=end)
        device.busy = False
        core.read(1 << 20)
    core.clear()
    assert ask(core, b"*IDN?") == b"MAKER,MODEL,1,2\n"


def test_a_message_that_is_unfinished_loses_its_reply_to_the_next_one() -> None:
    """IEEE 488.2 section 6.3.2.3; the message itself is carried out to its end."""
    device = Device()
    core = device.core()
    for message in (b"*IDN?;STAR;*OPC?;FREQ 7\n", b"*TST?\n"):
        core.write(message, end=True)
        assert core.read(1 << 10) == (b"", False)
    device.busy = False
    assert core.read(1 << 10) == (b"0\n", True)
    assert core.read(1 << 10) == (b"", False)
    assert device.frequency_hz == {1: 7.0}
    assert errors(core) == [-410]


def test_without_end_nothing_is_interrupted() -> None:
    device = Device()
    core = device.core()
    core.write(b"STAR;*OPC?\n", end=False)
    core.write(b"*TST?\n", end=False)
    device.busy = False
    assert [core.read(1 << 10)[0] for _ in range(2)] == [b"1\n", b"0\n"]
    assert errors(core) == []


@pytest.mark.parametrize(
    "pieces", [[b"*TS", b"T?\n"], [b"FREQ 1;*TST", b"?"], [b"*TST?\n", b"*WAI"]]
)
def test_a_message_in_pieces_does_not_interrupt_itself(pieces: list[bytes]) -> None:
    core = Device().core()
    core.write(b"*WAI\n", end=True)
    for number, piece in enumerate(pieces, start=1):
        core.write(piece, end=number == len(pieces))
    waits = pieces[-1] != b"*WAI"
    assert core.read(1 << 10) == ((b"0\n", True) if waits else (b"", False))
    assert errors(core) == ([] if waits else [-410])


def test_a_reply_in_letters_that_latin_1_lacks_stops_nothing() -> None:
    core = ScpiCore(
        [readout(":NAME", lambda _: "\xff".upper())], identity="A,B,C,D", reset=lambda: None
    )
    assert ask(core, b"NAME?") == b"?\n"
