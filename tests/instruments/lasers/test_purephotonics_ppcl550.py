"""PPCL550: golden frames out, strings by AEA, errors by NOP, limits from the module itself."""

from __future__ import annotations

import pytest

from labctl.errors import (
    InstrumentReportedError,
    InstrumentTimeoutError,
    LabctlError,
    LimitError,
    ReplyError,
)
from labctl.instruments.capabilities import Identity
from labctl.instruments.codecs.itla import Reply, Status, to_unsigned
from labctl.instruments.lasers.purephotonics_ppcl550 import (
    ControlMode,
    PPCL550Options,
    PurePhotonicsPPCL550,
)
from labctl.testing.scripts import ScriptedFrames

Frames = list[tuple[str, str | LabctlError]]
NOP = "00000000"
SENA_ON, SENA_OFF = "81320008", "01320000"


def ok(register: int, data: int = 0, status: Status = Status.OK) -> str:
    return Reply(register, to_unsigned(data), status).encode().hex()


def read(frame: str, data: int) -> Frames:
    """Each register is read until two readings agree."""
    frames: Frames = [(frame, ok(int(frame[2:4], 16), data))]
    return 2 * frames


def written(frame: str, *pending: int) -> Frames:
    """A write, and the NOP reads that follow until nothing is pending."""
    register, data = int(frame[2:4], 16), int(frame[4:], 16)
    status = Status.PENDING if pending else Status.OK
    polls = [(NOP, ok(0, flags << 8 | 0x10)) for flags in (*pending, 0)]
    return [(frame, ok(register, data, status)), *polls]


def string(frame: str, text: bytes) -> Frames:
    padded = text + bytes(len(text) % 2)
    words = [int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2)]
    head = (frame, ok(int(frame[2:4], 16), len(text), Status.AEA))
    return [head, *(("b00b0000", ok(0x0B, word)) for word in words)]


def laser(*frames: tuple[str, str | LabctlError]) -> tuple[PurePhotonicsPPCL550, ScriptedFrames]:
    wire = ScriptedFrames(frames)
    return PurePhotonicsPPCL550(wire), wire


EMISSION_ON = read("10320000", 8)
EMISSION_OFF = read("10320000", 0)
LIMITS = [
    *read("70520000", 191),
    *read("60530000", 5000),
    *read("10540000", 196),
    *read("00550000", 2500),
]
CHANNEL_1 = [*read("60350000", 194), *read("50360000", 1751), *read("30300000", 1)]


def test_identity_is_read_two_bytes_at_a_time() -> None:
    source, wire = laser(
        *string("20020000", b"Pure Photonics\0"),
        *string("30030000", b"PPCL550\0"),
        *string("40040000", b"CRTN1234567"),
        *string("60060000", b"HW 1.0\0\0"),
    )
    assert source.identify() == Identity("Pure Photonics", "PPCL550", "CRTN1234567", "HW 1.0")
    wire.finish()


def test_another_module_is_refused() -> None:
    source, _ = laser(
        *string("20020000", b"ACME"),
        *string("30030000", b"X1"),
        *string("40040000", b"1\0"),
        *string("60060000", b"2\0"),
    )
    with pytest.raises(ReplyError, match="expected a PPCL, got ACME 'X1'"):
        source.identify()


@pytest.mark.parametrize(("count", "status"), [(4, Status.OK), (0, Status.AEA), (9999, Status.AEA)])
def test_a_string_without_a_sensible_length_is_refused(count: int, status: Status) -> None:
    source, _ = laser(("20020000", ok(2, count, status)))
    with pytest.raises(ReplyError, match=r"is not the length of a string.*read MFGR"):
        source.identify()


POWER_LIMITS = [*read("50500000", 600), *read("40510000", 1350)]


def test_power_travels_in_hundredths_of_dbm() -> None:
    source, wire = laser(*POWER_LIMITS, *written("613103e8"), *read("60420000", 998))
    source.set_power(10e-3)
    assert source.power_w() == pytest.approx(9.954e-3, rel=1e-4)
    wire.finish()


def test_negative_powers_are_signed() -> None:
    source, wire = laser(
        *read("50500000", -1000),
        *read("40510000", 1000),
        *written("e131fe0c"),
        *read("60420000", -500),
    )
    source.set_power(10**-0.5 * 1e-3)
    assert source.power_w() == pytest.approx(10**-0.5 * 1e-3)
    wire.finish()


@pytest.mark.parametrize("power_dbm", [6.0, 13.5])
def test_the_limits_themselves_are_allowed(power_dbm: float) -> None:
    code = round(power_dbm * 100)
    frame = "c1310258" if code == 600 else "41310546"
    source, wire = laser(*POWER_LIMITS, *written(frame))
    source.set_power(1e-3 * 10 ** (power_dbm / 10))
    wire.finish()


@pytest.mark.parametrize("power_w", [0.0, -1.0, 3.9e-3, 23e-3, 10.0, float("nan"), float("inf")])
def test_a_power_that_the_module_has_not_is_not_sent(power_w: float) -> None:
    source, wire = laser(*POWER_LIMITS)
    with pytest.raises(LimitError, match=r"0.003981 to 0.02239 W"):
        source.set_power(power_w)
    wire.finish()


def test_frequency_is_set_as_channel_one_while_the_light_is_off() -> None:
    source, wire = laser(
        *LIMITS,
        *EMISSION_OFF,
        *written("913500c2"),
        *written("813606d7"),
        *written("31300001"),
        *written("d1620019"),
    )
    source.set_frequency(194.175125e12)
    wire.finish()


def test_golden_frequency_frames() -> None:
    source, wire = laser(
        *LIMITS,
        *EMISSION_OFF,
        *written("a13500c1"),
        *written("61361388"),
        *written("31300001"),
        *written("51620000"),
    )
    source.set_frequency(193.5e12)
    wire.finish()


def test_frequency_read_back() -> None:
    source, wire = laser(*CHANNEL_1, *read("40620000", -25))
    assert source.frequency_hz() == pytest.approx(194.175075e12, abs=1e3)
    wire.finish()


def test_another_channel_counts_by_the_grid() -> None:
    source, wire = laser(
        *CHANNEL_1[:4], *read("30300000", 3), *read("70340000", -500), *read("40620000", 0)
    )
    assert source.frequency_hz() == pytest.approx(194.1751e12 - 100e9, abs=1e3)
    wire.finish()


@pytest.mark.parametrize("frequency_hz", [191.4e12, 196.3e12, 1550e-9, 0.0, float("nan")])
def test_a_frequency_beyond_the_module_s_limits_is_not_sent(frequency_hz: float) -> None:
    source, wire = laser(*LIMITS)
    with pytest.raises(LimitError, match=r"1.915e\+14 to 1.9625e\+14 Hz"):
        source.set_frequency(frequency_hz)
    wire.finish()


def test_while_the_light_is_on_only_the_fine_tuning_moves() -> None:
    reach = read("b04f0000", 12_000)
    source, wire = laser(
        *LIMITS, *EMISSION_ON, *CHANNEL_1, *reach, *written("f162fc18", 0x04, 0x04)
    )
    source.set_frequency(194.1741e12)
    wire.finish()


@pytest.mark.parametrize(
    "reach",
    [
        [*read("b04f0000", 12_000)],
        [("b04f0000", ok(0x4F, 0, Status.EXECUTION_ERROR)), (NOP, ok(0, 0x11))],
    ],
)
def test_beyond_fine_tuning_the_light_must_go_off_first(reach: Frames) -> None:
    source, wire = laser(*LIMITS, *EMISSION_ON, *CHANNEL_1, *reach)
    with pytest.raises(LimitError, match="while the light is on"):
        source.set_frequency(194.2e12)
    wire.finish()


def test_emission_waits_until_nothing_is_pending() -> None:
    ready = [(NOP, ok(0, 0x0000)), (NOP, ok(0, 0x0010))]
    on = written(SENA_ON, 0x01, 0x01, 0x01)
    source, wire = laser(*EMISSION_OFF, *ready, *on, *EMISSION_ON)
    source.set_emission(True)
    wire.finish()
    assert wire.clock.now_s() > 0


def test_pending_may_also_come_as_the_status_of_the_nop_itself() -> None:
    polls: Frames = [(NOP, ok(0, 0x10, Status.PENDING)), (NOP, ok(0, 0x10))]
    source, wire = laser(*EMISSION_ON, (SENA_ON, ok(0x32, 8)), *polls, *EMISSION_ON)
    source.set_emission(True)
    wire.finish()


def test_emission_that_never_settles_times_out() -> None:
    forever = [(NOP, ok(0, 0x0110))] * 1300
    wire = ScriptedFrames([*EMISSION_ON, (SENA_ON, ok(0x32, 8, Status.PENDING)), *forever])
    source = PurePhotonicsPPCL550(wire, PPCL550Options(tuning_timeout_s=10.0))
    with pytest.raises(InstrumentTimeoutError, match="within 10 s"):
        source.set_emission(True)
    assert 10 <= wire.clock.now_s() < 11


def test_emission_that_did_not_come_on_is_an_error() -> None:
    source, _ = laser(*EMISSION_ON, *written(SENA_ON), *EMISSION_OFF)
    with pytest.raises(ReplyError, match="emission did not go on"):
        source.set_emission(True)


def test_safe_state_is_dark() -> None:
    source, wire = laser(*written(SENA_OFF), *EMISSION_OFF)
    source.safe_state()
    wire.finish()


@pytest.mark.parametrize("mode", list(ControlMode))
def test_control_modes(mode: ControlMode) -> None:
    frame = {0: "81900000", 1: "91900001", 2: "a1900002"}[mode]
    source, wire = laser(*written(frame), *read("90900000", mode))
    source.set_mode(mode)
    assert source.mode() is mode
    wire.finish()


def test_an_unknown_mode_is_a_reply_error() -> None:
    source, _ = laser(*read("90900000", 7))
    with pytest.raises(ReplyError, match="mode 7 is unknown"):
        source.mode()


@pytest.mark.parametrize(
    ("field", "name"),
    [(1, "RNI"), (3, "RVE"), (9, "CIE"), (12, "reserved"), (15, "VSE")],
)
def test_an_execution_error_is_named_from_the_nop(field: int, name: str) -> None:
    source, wire = laser(
        ("81900000", ok(0x90, 0, Status.EXECUTION_ERROR)), (NOP, ok(0, 0x10 | field))
    )
    with pytest.raises(InstrumentReportedError, match=f"{name}.*write MODE = 0") as raised:
        source.set_mode(ControlMode.DITHER)
    assert raised.value.code == field
    wire.finish()


REFUSED: Frames = [("81900000", ok(0x90, 0, Status.EXECUTION_ERROR)), (NOP, ok(0, 0x0114))]


def test_what_a_killed_program_left_pending_is_waited_for() -> None:
    polls: Frames = [(NOP, ok(0, 0x0110)), (NOP, ok(0, 0x0010))]
    source, wire = laser(*REFUSED, *polls, *written("81900000"))
    source.set_mode(ControlMode.DITHER)
    wire.finish()


def test_a_second_refusal_after_nothing_was_pending_any_more_is_an_error() -> None:
    source, wire = laser(*REFUSED, (NOP, ok(0, 0x0010)), *REFUSED)
    with pytest.raises(InstrumentReportedError, match=r"CIP.*write MODE = 0"):
        source.set_mode(ControlMode.DITHER)
    wire.finish()


DAMAGED = "00420000"


def test_a_request_that_arrived_damaged_is_sent_again() -> None:
    refused = Reply(0x42, 0, Status.OK, checksum_error=True).encode().hex()
    source, wire = laser(("60420000", refused), *read("60420000", 0))
    assert source.power_w() == pytest.approx(1e-3)
    wire.finish()


def test_a_reply_that_arrived_damaged_is_asked_for_again() -> None:
    source, wire = laser(
        ("60420000", DAMAGED), ("e8420000", ok(0x42, 0)), ("60420000", ok(0x42, 0))
    )
    assert source.power_w() == pytest.approx(1e-3)
    wire.finish()


def test_three_damaged_replies_are_enough() -> None:
    again = ("e8420000", DAMAGED)
    source, wire = laser(("60420000", DAMAGED), again, again)
    with pytest.raises(ReplyError, match=r"checksum errors in 3 attempts.*read OOP"):
        source.power_w()
    assert wire.cleared == 1
    wire.finish()


def test_an_answer_for_another_register_is_never_handed_out() -> None:
    source, wire = laser(("60420000", ok(0x43, 2500)))
    with pytest.raises(ReplyError, match=r"answered for register 0x43.*read OOP"):
        source.power_w()
    assert wire.cleared == 1


def test_a_time_out_passes_through() -> None:
    silent = ("60420000", InstrumentTimeoutError("scripted", "no answer"))
    source, _ = laser(silent, silent)
    with pytest.raises(InstrumentTimeoutError):
        source.power_w()


def test_one_reply_that_is_dropped_costs_nothing() -> None:
    silent = ("60420000", InstrumentTimeoutError("scripted", "no answer"))
    source, wire = laser(silent, *read("60420000", 0))
    assert source.power_w() == pytest.approx(1e-3)
    wire.finish()


@pytest.mark.parametrize("flipped", [0x0808, 0x0101, 0x8080])
def test_two_flipped_bits_that_keep_the_checksum_are_seen(flipped: int) -> None:
    """Any of the readings they hit: two in a row have to agree."""
    wrong, right = ("10320000", ok(0x32, 8 ^ flipped)), ("10320000", ok(0x32, 8))
    for frames in ([wrong, right, right], [right, wrong, right, right]):
        source, wire = laser(*frames)
        assert source.emission() is True
        wire.finish()
    source, _ = laser(*(("10320000", ok(0x32, each)) for each in (0, 8, 1, 9)))
    with pytest.raises(ReplyError, match="answered 0, 8, 1, 9"):
        source.emission()
