"""The ITLA panel as a host sees it, frame by frame."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laser_head import LaserHead

from labctl.instruments.codecs.itla import Reply, Request, Status, to_signed, to_unsigned
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.itla import ITLAPanel

NOP, CHANNEL, PWR, RESENA, GRID, FCF1, FCF2, FTF = 0, 0x30, 0x31, 0x32, 0x34, 0x35, 0x36, 0x62
TURN_ON_S = 5.0


@dataclass
class Host:
    """A host on the module's serial line."""

    clock: BenchClock
    head: LaserHead
    panel: ITLAPanel

    def read(self, register: int) -> Reply:
        return self.send(Request(register))

    def put(self, register: int, value: int) -> Reply:
        return self.send(Request(register, to_unsigned(value), write=True))

    def send(self, request: Request) -> Reply:
        self.panel.write(request.encode(), end=False)
        reply, ended = self.panel.read(4)
        assert ended
        return Reply.decode(reply)

    def error(self) -> int:
        return self.read(NOP).data & 0xF

    def turn_on(self) -> None:
        assert self.put(RESENA, 8).status is Status.OK
        self.clock.sleep(TURN_ON_S)


def make_host(*, v13: bool = False, nop_pending: bool = False, checks: bool = False) -> Host:
    clock, head = BenchClock(), LaserHead()
    panel = ITLAPanel(
        "laser",
        clock,
        head,
        turn_on_s=TURN_ON_S,
        supports_v13=v13,
        nop_reports_pending=nop_pending,
        checks_frequency=checks,
    )
    return Host(clock, head, panel)


@pytest.fixture
def host() -> Host:
    return make_host()


def test_the_usual_recipe_turns_the_laser_on(host: Host) -> None:
    for register, value in ((FCF1, 193), (FCF2, 5000), (CHANNEL, 1), (PWR, 1000)):
        assert host.put(register, value) == Reply(register, value)
    assert host.put(RESENA, 8) == Reply(RESENA, 8)
    assert host.read(NOP) == Reply(NOP, 0x0110)
    host.clock.sleep(TURN_ON_S)
    assert host.read(NOP) == Reply(NOP, 0x0010)
    assert host.read(RESENA).data == 8
    on, power_w, frequency_hz = host.head.settings[-1]
    assert (on, frequency_hz) == (True, 193.5e12)
    assert power_w == pytest.approx(10e-3)
    assert (host.read(0x40).data, host.read(0x41).data) == (193, 5000)
    assert host.read(0x42).data == 1000
    assert host.read(0x20).data & 0x7000 == 0x1000
    assert host.put(RESENA, 0).status is Status.OK
    assert host.head.settings[-1][0] is False


def test_a_frame_with_a_bad_checksum_is_not_carried_out(host: Host) -> None:
    before = host.read(PWR).data
    host.panel.write(bytes.fromhex("713103e8"), end=False)
    assert Reply.decode(host.panel.read(4)[0]).checksum_error
    assert host.read(PWR).data == before
    assert host.read(0x20).data & 0x40


def test_single_zero_bytes_bring_host_and_module_back_in_step(host: Host) -> None:
    host.panel.write(b"\x81\x32", end=False)
    sent = 0
    while not (reply := host.panel.read(4)[0]):
        host.panel.write(b"\0", end=False)
        sent += 1
    assert sent == 2
    assert Reply.decode(reply).checksum_error
    assert host.read(NOP).status is Status.OK


@pytest.mark.parametrize(
    ("register", "value", "error"),
    [
        (0xAA, 0, 1),
        (0x63, 0, 1),
        (0x40, 1, 2),
        (0x03, 1, 2),
        (0x57, 1, 2),
        (PWR, 1351, 3),
        (PWR, 599, 3),
        (CHANNEL, 0, 3),
        (FCF2, 10000, 3),
        (FTF, 12001, 3),
        (0x90, 3, 3),
        (0x0B, 0, 7),
    ],
)
def test_refused_writes_name_their_error(host: Host, register: int, value: int, error: int) -> None:
    assert host.put(register, value).status is Status.EXECUTION_ERROR
    assert host.error() == error
    assert host.error() == 0


def test_unknown_registers_cannot_be_read(host: Host) -> None:
    assert host.read(0xAA).status is Status.EXECUTION_ERROR
    assert host.error() == 1


@pytest.mark.parametrize("register", [FCF1, FCF2, GRID])
def test_first_frequency_and_grid_are_fixed_while_on(host: Host, register: int) -> None:
    host.turn_on()
    assert host.put(register, 193).status is Status.EXECUTION_ERROR
    assert host.error() == 9


def test_settings_wait_until_the_laser_is_on(host: Host) -> None:
    host.put(RESENA, 8)
    assert host.put(PWR, 1000).status is Status.EXECUTION_ERROR
    assert host.error() == 4


@pytest.mark.parametrize(("register", "value"), [(FTF, -1000), (PWR, 900), (CHANNEL, 3)])
def test_tuning_while_on_is_pending_for_a_while(host: Host, register: int, value: int) -> None:
    host.turn_on()
    assert host.put(register, value).status is (Status.PENDING if register == FTF else Status.OK)
    assert host.read(NOP).data >> 8 == 1
    host.clock.sleep(0.5)
    assert host.read(NOP).data >> 8 == 0
    assert to_signed(host.read(register).data) == value


def test_fine_tuning_moves_the_light_and_not_the_channel(host: Host) -> None:
    host.put(FTF, 1234)
    host.turn_on()
    assert host.head.settings[-1][2] == 191.5e12 + 1.234e9
    assert (host.read(0x40).data, host.read(0x41).data) == (191, 5000)


@settings(deadline=None)
@given(st.integers(1, 95), st.sampled_from([500, 250, 1000]))
def test_channels_count_from_the_first_frequency(channel: int, grid: int) -> None:
    clock, head = BenchClock(), LaserHead()
    host = Host(clock, head, ITLAPanel("laser", clock, head))
    host.put(FCF1, 191)
    host.put(FCF2, 5000)
    host.put(GRID, grid)
    host.put(CHANNEL, channel)
    host.put(RESENA, 8)
    wanted_hz = min(191.5e12 + (channel - 1) * grid * 1e8, 196.25e12)
    assert head.settings[-1][2] == wanted_hz


@pytest.mark.parametrize("style", ["exact count", "until refused"])
def test_strings_are_read_by_both_host_styles(host: Host, style: str) -> None:
    reply = host.read(0x03)
    assert reply.status is Status.AEA
    assert reply.data % 2 == 0
    text = b""
    if style == "exact count":
        for _ in range(reply.data // 2):
            text += host.read(0x0B).data.to_bytes(2, "big")
    else:
        while (word := host.read(0x0B)).status is Status.OK:
            text += word.data.to_bytes(2, "big")
        assert host.error() == 6
    assert text.rstrip(b"\0") == b"PPCL550"


def test_temperatures_are_a_list_of_words(host: Host) -> None:
    reply = host.read(0x58)
    assert (reply.status, reply.data) == (Status.AEA, 4)
    assert [host.read(0x0B).data for _ in range(2)] == [3500, 2700]


def test_limits_are_reported(host: Host) -> None:
    registers = (0x50, 0x51, 0x52, 0x53, 0x54, 0x55)
    assert [host.read(register).data for register in registers] == [600, 1350, 191, 5000, 196, 2500]


def test_a_frequency_outside_is_accepted_and_raises_an_alarm(host: Host) -> None:
    host.put(FCF1, 199)
    host.turn_on()
    assert host.head.settings[-1][2] == 196.25e12
    assert host.read(0x20).data & 0x4404 == 0x4404
    host.put(RESENA, 0)
    host.put(FCF1, 193)
    assert host.put(0x20, 0x00FF).status is Status.OK
    assert host.read(0x20).data & 0xFF == 0


def test_a_checking_module_refuses_a_frequency_outside() -> None:
    host = make_host(checks=True)
    host.put(FCF1, 199)
    assert host.put(RESENA, 8).status is Status.EXECUTION_ERROR
    assert host.error() == 3
    assert host.read(RESENA).data == 0


def test_fatal_alarms_shut_down_if_asked_to(host: Host) -> None:
    host.put(0x33, 4)
    host.put(FCF1, 199)
    host.turn_on()
    host.read(0x20)
    assert host.read(RESENA).data == 0
    assert host.head.settings[-1][0] is False


def test_module_reset_restores_defaults_and_takes_a_while(host: Host) -> None:
    host.put(PWR, 900)
    host.turn_on()
    host.put(RESENA, 1)
    assert host.head.settings[-1][0] is False
    assert host.read(PWR).status is Status.EXECUTION_ERROR
    assert host.read(NOP).data == 0x0105
    host.clock.sleep(1.0)
    assert host.read(NOP).data == 0x0010
    assert host.read(PWR).data == 1350


def test_soft_reset_ends_a_string_and_leaves_the_light_on(host: Host) -> None:
    host.turn_on()
    host.read(0x03)
    host.put(RESENA, 8 | 2)
    assert host.read(0x0B).status is Status.EXECUTION_ERROR
    assert host.read(RESENA).data == 8


def test_the_last_response_is_sent_again_on_request(host: Host) -> None:
    first = host.read(0x50)
    assert host.send(Request(NOP, last_response=True)) == first
    assert host.read(0x13) == first


def test_version_1_3_has_megahertz() -> None:
    host = make_host(v13=True)
    for register, value in ((FCF1, 194), (FCF2, 1751), (0x67, 25), (RESENA, 8)):
        host.put(register, value)
    assert host.head.settings[-1][2] == 194.175125e12
    assert host.read(0x68).data == 25


def test_pending_can_also_be_the_status_of_writes() -> None:
    clock, head = BenchClock(), LaserHead()
    host = Host(clock, head, ITLAPanel("laser", clock, head, pending_replies=(PWR, RESENA)))
    assert host.put(PWR, 1000).status is Status.OK
    assert host.put(RESENA, 8).status is Status.PENDING
    clock.sleep(TURN_ON_S)
    assert [host.put(r, 900).status for r in (PWR, FTF)] == [Status.PENDING, Status.OK]


def test_pending_can_also_be_the_status_of_nop() -> None:
    host = make_host(nop_pending=True)
    host.put(RESENA, 8)
    assert host.read(NOP).status is Status.PENDING
    host.clock.sleep(TURN_ON_S)
    assert host.read(NOP).status is Status.OK


@settings(max_examples=75)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=9),
            st.builds(
                lambda register, data, write: Request(register, data, write).encode(),
                st.integers(0, 255),
                st.integers(0, 0xFFFF),
                st.booleans(),
            ),
        ),
        max_size=8,
    )
)
def test_any_bytes_get_whole_replies(writes: list[bytes]) -> None:
    clock, head = BenchClock(), LaserHead()
    panel = ITLAPanel("laser", clock, head)
    for data in writes:
        panel.write(data, end=False)
        clock.sleep(1.0)
    replies = b""
    while chunk := panel.read(3)[0]:
        replies += chunk
    assert len(replies) == sum(map(len, writes)) // 4 * 4
    for start in range(0, len(replies), 4):
        Reply.decode(replies[start : start + 4])


def test_a_host_that_never_reads_does_not_fill_the_memory(host: Host) -> None:
    host.panel.write(bytes(400_000), end=False)
    assert len(host.panel.read(4)[0]) == 4
    host.panel.clear()
    assert host.panel.read(4) == (b"", False)
    assert host.panel.status_byte() == 0
