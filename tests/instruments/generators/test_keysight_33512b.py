"""33512B: int16 blocks, low byte first; volts at the load; nothing sent beyond the limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import InstrumentReportedError, InstrumentTimeoutError, LimitError, ReplyError
from labctl.instruments.capabilities import (
    Instrument,
    TriggerSource,
    VoltageSource,
    WaveformGenerator,
)
from labctl.instruments.generators.keysight_33512b import Keysight33512B, Keysight33512BOptions
from labctl.testing.scripts import ScriptedTransport

OK = '+0,"No error"'
IDN = "Agilent Technologies,33512B,MY52302264,3.03-1.19-2.00-52-00"
Accepted = Callable[..., list[Any]]
RAMP = np.linspace(-1, 1, 8)


def test_it_is_a_waveform_generator() -> None:
    generator = Keysight33512B(ScriptedTransport([]))
    assert isinstance(generator, WaveformGenerator)
    assert isinstance(generator, Instrument)
    assert isinstance(generator.dc_output(2), VoltageSource)


def test_identity() -> None:
    identity = Keysight33512B(ScriptedTransport([("*IDN?", IDN)])).identify()
    assert (identity.model, identity.serial) == ("33512B", "MY52302264")


def test_another_generator_is_refused() -> None:
    wire = ScriptedTransport([("*IDN?", IDN.replace("33512B", "33612A"))])
    with pytest.raises(ReplyError, match=r"expected a 33512B.*33612A"):
        Keysight33512B(wire).identify()


def test_a_waveform_travels_as_codes_low_byte_first(accepted: Accepted) -> None:
    samples = np.array([0, 1, -1, 0.5, 1 / 32767, 1.4 / 32767, 10 / 32767, 0])
    codes = bytes.fromhex("0000 ff7f 0180 0040 0100 0100 0a00 0000")
    wire = ScriptedTransport(
        [
            ("SOUR2:DATA:VOL:FREE?", "+1000000"),
            *accepted("FORM:BORD SWAP", b"SOUR2:DATA:ARB:DAC frame_1," + codes),
        ]
    )
    Keysight33512B(wire).upload(2, "frame_1", samples)
    wire.finish()


class Accepting(ScriptedTransport):
    """Takes everything and keeps the last block."""

    payload = b""

    def query(self, command: str) -> str:
        return "100" if "FREE" in command else OK

    def write(self, command: str) -> None:
        self.sent.append(command)

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        self.payload = bytes(payload)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=8, max_size=40))
def test_codes_are_the_nearest_of_the_converter(samples: list[float]) -> None:
    wire = Accepting([])
    Keysight33512B(wire).upload(1, "w", np.array(samples))
    codes = np.frombuffer(wire.payload, "<i2")
    assert np.max(np.abs(codes / 32767 - samples)) <= 0.5 / 32767 + 1e-12


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (np.zeros(7), "8 samples or more"),
        (np.zeros(8, dtype=complex), "must be real"),
        (np.zeros((8, 2)), "one-dimensional"),
        (np.full(8, 1.0001), "within -1 to \\+1"),
        (np.full(8, np.nan), "within -1 to \\+1"),
        (np.full(8, -np.inf), "within -1 to \\+1"),
    ],
)
def test_samples_that_do_not_fit_are_not_sent(samples: Any, problem: str) -> None:
    with pytest.raises(LimitError, match=problem):
        Keysight33512B(ScriptedTransport([])).upload(1, "w", samples)


@pytest.mark.parametrize("name", ["", "1a", "a b", "a;*RST", "a\n", "x" * 13, "é", "a-b"])
def test_a_name_that_could_be_something_else_is_not_sent(name: str) -> None:
    generator = Keysight33512B(ScriptedTransport([]))
    with pytest.raises(LimitError, match="a letter, then letters"):
        generator.upload(1, name, RAMP)
    with pytest.raises(LimitError, match="a letter, then letters"):
        generator.play(1, name, sample_rate_hz=1e6, amplitude_v=1, offset_v=0)


def test_a_full_memory_is_noticed_before_the_upload() -> None:
    wire = ScriptedTransport([("SOUR1:DATA:VOL:FREE?", "7")])
    with pytest.raises(LimitError, match="samples = 8 refused, must be at most 7"):
        Keysight33512B(wire).upload(1, "w", RAMP)
    wire.finish()


def test_a_name_that_is_taken_is_the_instruments_error() -> None:
    wire = ScriptedTransport(
        [
            ("SOUR1:DATA:VOL:FREE?", "1000"),
            ("FORM:BORD SWAP", None),
            ("SYST:ERR?", OK),
            (b"SOUR1:DATA:ARB:DAC w," + bytes(16), None),
            ("SYST:ERR?", '+786,"Specified arb waveform already exists"'),
            ("SYST:ERR?", OK),
        ]
    )
    with pytest.raises(InstrumentReportedError, match=r"786.*'SOUR1:DATA:ARB:DAC w,'"):
        Keysight33512B(wire).upload(1, "w", np.zeros(8))


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ('""', ()),
        ("", ()),
        ('"a"', ("a",)),
        ('"INT:\\BUILTIN\\EXP_RISE.ARB","a", "b"', ("INT:\\BUILTIN\\EXP_RISE.ARB", "a", "b")),
        ("a,b", ("a", "b")),
    ],
)
def test_the_catalogue(reply: str, names: tuple[str, ...]) -> None:
    wire = ScriptedTransport([("SOUR1:DATA:VOL:CAT?", reply)])
    assert Keysight33512B(wire).stored(1) == names


def test_forget_clears_one_channel(accepted: Accepted) -> None:
    wire = ScriptedTransport(accepted("SOUR2:DATA:VOL:CLE"))
    Keysight33512B(wire).forget(2)
    wire.finish()


def test_play_sets_volts_at_the_load_and_never_adds_old_offset_to_new_amplitude(
    accepted: Accepted,
) -> None:
    wire = ScriptedTransport(
        accepted(
            "OUTP1:LOAD 50",
            "SOUR1:BURS:STAT 0",
            "SOUR1:FUNC:ARB w",
            "SOUR1:FUNC:ARB:SRAT 100000000",
            "SOUR1:FUNC:ARB:FILT NORM",
            "SOUR1:FUNC ARB",
            "SOUR1:VOLT:UNIT VPP",
            "SOUR1:VOLT:OFFS 0",
            "SOUR1:VOLT 3.2",
            "SOUR1:VOLT:OFFS -0.25",
        )
    )
    Keysight33512B(wire).play(1, "w", sample_rate_hz=100e6, amplitude_v=1.6, offset_v=-0.25)
    wire.finish()


@pytest.mark.parametrize(
    ("rate", "amplitude", "offset"),
    [
        (0.0, 1.0, 0.0),
        (161e6, 1.0, 0.0),
        (float("nan"), 1.0, 0.0),
        (1e6, 0.0, 0.0),
        (1e6, -1.0, 0.0),
        (1e6, 4.0, 1.1),
        (1e6, 4.0, -1.1),
        (1e6, float("nan"), 0.0),
        (1e6, 1.0, float("inf")),
    ],
)
def test_play_refuses_what_the_output_cannot_do(
    rate: float, amplitude: float, offset: float
) -> None:
    with pytest.raises(LimitError):
        Keysight33512B(ScriptedTransport([])).play(
            1, "w", sample_rate_hz=rate, amplitude_v=amplitude, offset_v=offset
        )


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (TriggerSource.IMMEDIATE, "IMM"),
        (TriggerSource.EXTERNAL, "EXT"),
        (TriggerSource.SOFTWARE, "BUS"),
    ],
)
def test_burst(accepted: Accepted, source: TriggerSource, word: str) -> None:
    wire = ScriptedTransport(
        accepted(
            "SOUR2:BURS:MODE TRIG",
            "SOUR2:BURS:NCYC 3",
            f"TRIG2:SOUR {word}",
            "TRIG2:DEL 2e-06",
            *(["TRIG2:SLOP POS"] if source is TriggerSource.EXTERNAL else []),
            "SOUR2:BURS:STAT 1",
        )
    )
    Keysight33512B(wire).burst(2, cycles=3, trigger=source, delay_s=2e-6)
    wire.finish()


@pytest.mark.parametrize(("cycles", "delay"), [(0, 0.0), (1, -1.0), (1, float("nan"))])
def test_burst_limits(cycles: int, delay: float) -> None:
    with pytest.raises(LimitError):
        Keysight33512B(ScriptedTransport([])).burst(
            1, cycles=cycles, trigger=TriggerSource.SOFTWARE, delay_s=delay
        )


@pytest.mark.parametrize("channel", [0, 3, -1])
def test_there_are_two_channels(channel: int) -> None:
    generator = Keysight33512B(ScriptedTransport([]))
    for call in (
        lambda: generator.upload(channel, "w", RAMP),
        lambda: generator.forget(channel),
        lambda: generator.stored(channel),
        lambda: generator.memory_free(channel),
        lambda: generator.set_output(channel, True),
        lambda: generator.dc_output(channel),
    ):
        with pytest.raises(LimitError, match="must be 1 to 2"):
            call()


def test_output_and_software_trigger(accepted: Accepted) -> None:
    wire = ScriptedTransport(accepted("OUTP1 1", "*TRG", "OUTP1 0"))
    generator = Keysight33512B(wire)
    generator.set_output(1, True)
    generator.trigger()
    generator.set_output(1, False)
    wire.finish()


def test_a_channel_as_a_constant_voltage(accepted: Accepted) -> None:
    offset = ("SOUR2:VOLT:OFFS?", "-7.5E+00")
    wire = ScriptedTransport(
        [
            *accepted("OUTP2:LOAD INF", "SOUR2:FUNC DC", "SOUR2:VOLT:OFFS -7.5"),
            offset,
            *accepted("OUTP2 1"),
            ("OUTP2?", "1"),
            offset,
        ]
    )
    options = Keysight33512BOptions(load_ohm=float("inf"))
    source = Keysight33512B(wire, options).dc_output(2)
    source.set_voltage(-7.5)
    assert source.voltage_v() == -7.5
    wire.finish()


def test_half_the_voltage_is_left_into_fifty_ohm() -> None:
    source = Keysight33512B(ScriptedTransport([])).dc_output(1)
    with pytest.raises(LimitError, match="at most 5 V into 50"):
        source.set_voltage(5.01)


def test_safe_state_switches_both_outputs_off_even_if_one_fails(accepted: Accepted) -> None:
    silent = InstrumentTimeoutError("scripted", "no answer", "SYST:ERR?")
    lost: list[Any] = [("SYST:ERR?", silent), ("*ESR?", silent)]
    wire = ScriptedTransport([("OUTP1 0", None), *lost, *accepted("OUTP2 0")])
    with pytest.raises(InstrumentTimeoutError):
        Keysight33512B(wire).safe_state()
    wire.finish()
