"""The Red Pitaya panel as a host sees it, with a sine on its inputs."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from panel_host import PanelHost

from labctl.instruments.codecs.ieee488 import decode_block
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.red_pitaya import RedPitayaPanel
from labctl.instruments.simulated.ports import Capture, CaptureWindow, Drive


@dataclass
class FrontEnd:
    """A digitizer that samples a sine of 0.5 V and 10 kHz; channel 2 sees half of it."""

    amplitude_v: float = 0.5
    armed: tuple[CaptureWindow, Callable[[Capture], None]] | None = None
    windows: list[CaptureWindow] = field(default_factory=list)

    def arm(self, window: CaptureWindow, deliver: Callable[[Capture], None]) -> None:
        self.armed = (window, deliver)

    def disarm(self) -> None:
        self.armed = None

    def capture_now(self, window: CaptureWindow) -> Capture:
        self.windows.append(window)
        time_s = window.start_s + np.arange(window.samples) / window.sample_rate_hz
        sine = np.sin(2 * np.pi * 1e4 * time_s + 1.0)
        return {n: (self.amplitude_v / n * sine).astype(np.float32) for n in window.channels}

    def trigger(self) -> None:
        assert self.armed is not None
        window, deliver = self.armed
        self.armed = None
        deliver(self.capture_now(window))


@dataclass
class Connector:
    drive: Drive | None = None

    def play(self, drive: Drive | None) -> None:
        self.drive = drive


class Host(PanelHost[RedPitayaPanel]):
    terminator = b"\r\n"
    says_end = False

    def __init__(self) -> None:
        self.clock, self.front = BenchClock(), FrontEnd()
        self.outputs = {1: Connector(), 2: Connector()}
        super().__init__(RedPitayaPanel("board", self.clock, self.front, self.outputs))

    def volts(self, message: str) -> npt.NDArray[np.float64]:
        return np.array([float(word) for word in self.ask(message).strip("{}").split(",")])

    def drive(self, number: int) -> Drive:
        drive = self.outputs[number].drive
        assert drive is not None
        return drive


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        ("ACQ:DEC 8", "8"),
        ("ACQ:DEC:Factor 65536", "65536"),
        ("ACQ:AVG OFF", "OFF"),
        ("ACQ:DATA:FORMAT BIN", "BIN"),
        ("ACQ:DATA:Units RAW", "RAW"),
        ("ACQ:DATA:BYTE:ORDER LEND", "LEND"),
        ("ACQ:SOUR1:GAIN HV", "HV"),
        ("ACQ:TRig:LEV 0.25", "0.25"),
        ("ACQ:TRig:DLY -100", "-100"),
        ("OUTPUT1:STATE ON", "ON"),
        ("SOUR2:FUNC SQUARE", "SQUARE"),
        ("SOUR2:VOLT 0.5", "0.5"),
        ("SOUR2:VOLT:OFFS -0.1", "-0.1"),
        ("SOUR2:FREQ:FIX 2000", "2000"),
    ],
)
def test_settings_are_read_back(host: Host, setting: str, reply: str) -> None:
    host.send(setting)
    assert host.ask(setting.partition(" ")[0] + "?") == reply
    assert host.errors() == []


@pytest.mark.parametrize(
    ("setting", "query", "reply"),
    [
        ("DIG:PIN LED0,1", "DIG:PIN? LED0", "1"),
        ("DIG:PIN:DIR OUT,DIO3_N", "DIG:PIN:DIR? DIO3_N", "OUT"),
        ("ANALOG:PIN AOUT0,1.2", "ANALOG:PIN? AOUT0", "1.200000"),
        ("ANALOG:RST", "ANALOG:PIN? AIN2", "0.000000"),
        ("DIG:RST", "DIG:PIN? DIO7_P", "0"),
    ],
)
def test_pins_are_read_back(host: Host, setting: str, query: str, reply: str) -> None:
    host.send(setting)
    assert host.ask(query) == reply
    assert host.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("ACQ:DEC 3", -222),
        ("ACQ:DEC 131072", -222),
        ("ACQ:TRIG SOON", -224),
        ("ACQ:TRIG", -109),
        ("ACQ:SOUR3:GAIN LV", -114),
        ("ACQ:SOUR1:GAIN MV", -224),
        ("ACQ:SOUR1:DATA?", -230),
        ("ACQ:SOUR1:DATA:OLD:N? 20000", -222),
        ("ACQ:SOUR1:DATA:STA:N? 5", -109),
        ("SOUR3:VOLT 1", -114),
        ("SOUR1:VOLT 2", -222),
        ("SOUR1:FREQ:FIX 0", -222),
        ("SOUR1:TRAC:DATA:DATA 0.5", -109),
        ("SOUR1:TRAC:DATA:DATA 0.5,1.5", -222),
        ("DIG:PIN LED9,1", -224),
        ("ANALOG:PIN AOUT0,2", -222),
        ("ANALOG:PIN AIN0,1", -224),
    ],
)
def test_wrong_messages_are_counted_and_reported(host: Host, message: str, code: int) -> None:
    host.send(message)
    assert host.ask("SYST:ERR:COUN?") == "1"
    assert host.errors() == [code]
    assert host.ask("SYST:ERR:COUN?") == "0"


def test_the_board_tells_its_name(host: Host) -> None:
    assert host.ask("SYST:BRD:Name?") == "STEMlab 125-14"


def test_replies_end_with_cr_nl(host: Host) -> None:
    assert host.reply("ACQ:BUF:SIZE?") == b"16384\r\n"


def test_an_immediate_record_has_the_trigger_in_the_middle(host: Host) -> None:
    assert host.ask("ACQ:TRIG:STAT?") == "TD"
    host.send("ACQ:DEC 8", "ACQ:START", "ACQ:TRIG NOW")
    assert host.ask("ACQ:TRIG:STAT?") == "TD"
    assert host.ask("ACQ:TPOS?") == "8192"
    window = host.front.windows[-1]
    assert window.sample_rate_hz == 125e6 / 8
    assert window.start_s == pytest.approx(-8192 * 8 / 125e6)
    volts = host.volts("ACQ:SOUR1:DATA?")
    assert volts.size == 16384
    assert volts[8192] == pytest.approx(0.5 * np.sin(1.0), abs=1e-6)
    assert host.errors() == []


def test_the_buffer_is_full_half_a_record_after_the_trigger(host: Host) -> None:
    host.send("ACQ:DEC 1024", "ACQ:START", "ACQ:TRIG NOW")
    assert host.ask("ACQ:TRIG:FILL?") == "0"
    host.clock.sleep(8192 * 1024 / 125e6)
    assert host.ask("ACQ:TRIG:FILL?") == "1"


def test_the_delay_moves_the_trigger(host: Host) -> None:
    host.send("ACQ:TRIG:DLY 8192", "ACQ:TRIG NOW", "ACQ:START")
    assert host.ask("ACQ:TPOS?") == "0"
    assert host.volts("ACQ:SOUR1:DATA?")[0] == pytest.approx(0.5 * np.sin(1.0), abs=1e-6)


@pytest.mark.parametrize(("source", "sign"), [("CH1_PE", 1), ("CH1_NE", -1), ("CH2_PE", 1)])
def test_an_edge_triggers_at_its_level(host: Host, source: str, sign: int) -> None:
    host.send("ACQ:DEC 8", "ACQ:TRIG:LEV 0.1", "ACQ:START", f"ACQ:TRIG {source}")
    assert host.ask("ACQ:TRIG:STAT?") == "TD"
    volts = host.volts(f"ACQ:SOUR{source[2]}:DATA?")
    assert volts[8192] == pytest.approx(0.1, abs=5e-3)
    assert np.sign(volts[8300] - volts[8092]) == sign


def test_without_an_edge_it_waits(host: Host) -> None:
    host.send("ACQ:TRIG:LEV 0.9", "ACQ:DEC 8", "ACQ:START", "ACQ:TRIG CH1_PE")
    assert host.ask("ACQ:TRIG:STAT?") == "WAIT"
    host.front.amplitude_v = 1.0
    assert host.ask("ACQ:TRIG:STAT?") == "TD"


def test_an_external_trigger_is_awaited(host: Host) -> None:
    host.send("ACQ:START", "ACQ:TRIG EXT_PE")
    assert host.ask("ACQ:TRIG:STAT?") == "WAIT"
    host.front.trigger()
    assert host.ask("ACQ:TRIG:STAT?") == "TD"
    assert host.volts("ACQ:SOUR2:DATA:Old:N? 5").size == 5
    host.send("ACQ:START", "ACQ:TRIG EXT_PE", "ACQ:STOP")
    assert host.front.armed is None


def test_the_generator_can_trigger(host: Host) -> None:
    host.send("ACQ:START", "ACQ:TRIG AWG_PE")
    assert host.ask("ACQ:TRIG:STAT?") == "WAIT"
    host.send("OUTPUT1:STATE ON")
    assert host.ask("ACQ:TRIG:STAT?") == "TD"


def test_parts_of_the_buffer_are_read(host: Host) -> None:
    host.send("ACQ:START", "ACQ:TRIG NOW")
    volts = host.volts("ACQ:SOUR1:DATA?")
    np.testing.assert_array_equal(host.volts("ACQ:SOUR1:DATA:STA:N? 100,7"), volts[100:107])
    np.testing.assert_array_equal(host.volts("ACQ:SOUR1:DATA:STA:END? 100,106"), volts[100:107])
    np.testing.assert_array_equal(host.volts("ACQ:SOUR1:DATA:LAT:N? 7"), volts[-7:])
    np.testing.assert_array_equal(
        host.volts("ACQ:SOUR1:DATA:STA:N? 16380,8"), [*volts[-4:], *volts[:4]]
    )


def test_parts_of_the_buffer_are_asked_for_as_the_official_client_spells_it(host: Host) -> None:
    host.send("ACQ:START", "ACQ:TRIG NOW")
    data = "ACQ:SOUR1:DATA"
    assert host.ask(f"{data}:STArt:N? 3,7") == host.ask(f"{data}:STA:N? 3,7")
    assert host.ask(f"{data}:STArt:End? 3,9") == host.ask(f"{data}:STA:END? 3,9")
    assert host.ask(f"{data}:LATest:N? 7") == host.ask(f"{data}:LAT:N? 7")
    assert host.errors() == []


@pytest.mark.parametrize(("units", "kind"), [("VOLTS", "f4"), ("RAW", "i2")])
def test_binary_samples_come_in_the_byte_order_asked_for(host: Host, units: str, kind: str) -> None:
    host.send("ACQ:DATA:FORMAT BIN", f"ACQ:DATA:Units {units}", "ACQ:START", "ACQ:TRIG NOW")
    big = np.frombuffer(decode_block(host.reply("ACQ:SOUR1:DATA?")[:-2]), f">{kind}")
    host.send("ACQ:DATA:BYTE:ORDER LEND")
    little = np.frombuffer(decode_block(host.reply("ACQ:SOUR1:DATA?")[:-2]), f"<{kind}")
    np.testing.assert_array_equal(big, little)
    assert np.ptp(big) > 0
    host.send("ACQ:RST")
    assert host.ask("ACQ:DATA:BYTE:ORDER?") == "BEND"


def test_binary_blocks_are_big_endian(host: Host) -> None:
    host.send("ACQ:START", "ACQ:TRIG NOW")
    volts = host.volts("ACQ:SOUR1:DATA?")
    host.send("ACQ:DATA:FORMAT BIN")
    reply = host.reply("ACQ:SOUR1:DATA?")
    assert (reply[:7], reply[-2:]) == (b"#565536", b"\r\n")
    np.testing.assert_allclose(np.frombuffer(decode_block(reply), ">f4"), volts, atol=1e-6)
    host.send("ACQ:DATA:UNITS RAW")
    codes = np.frombuffer(decode_block(host.reply("ACQ:SOUR1:DATA?")), ">i2")
    np.testing.assert_allclose(codes / 8192, volts, atol=1.1 / 16384)
    host.send("ACQ:DATA:FORMAT ASCII")
    assert host.volts("ACQ:SOUR1:DATA?").tolist() == codes.tolist()


def test_gain_sets_the_range(host: Host) -> None:
    host.send("ACQ:SOUR2:GAIN HV", "ACQ:DATA:UNITS RAW", "ACQ:START", "ACQ:TRIG NOW")
    assert [w.range_v for w in host.front.windows[-1].channels.values()] == [2.0, 40.0]
    largest = np.abs(host.volts("ACQ:SOUR2:DATA?")).max()
    assert largest == pytest.approx(0.25 / 20 * 8192, abs=1)


def test_the_generator_plays_shapes(host: Host) -> None:
    host.send("SOUR1:FUNC SINE", "SOUR1:FREQ:FIX 1000", "SOUR1:VOLT 0.5", "SOUR1:VOLT:OFFS 0.2")
    assert host.outputs[1].drive is None
    host.clock.sleep(1.0)
    host.send("OUTPUT1:STATE ON")
    drive = host.drive(1)
    assert drive.sample_rate_hz / drive.samples_v.size == pytest.approx(1000.0)
    assert (drive.samples_v.max(), drive.samples_v.min()) == pytest.approx((0.7, -0.3))
    assert drive.start_s == 1.0
    host.send("SOUR1:FUNC SAWD")
    assert host.drive(1).samples_v[1] < host.drive(1).samples_v[0]
    host.send("SOUR1:FUNC DC", "SOUR1:VOLT 1")
    assert host.drive(1).samples_v.tolist() == [1.0]
    host.send("OUTPUT1:STATE OFF")
    assert host.outputs[1].drive is None


def test_the_generator_plays_a_trace(host: Host) -> None:
    host.send("SOUR2:FUNC ARBITRARY", "SOUR2:TRAC:DATA:DATA 1,0, -1,0", "SOUR2:FREQ:FIX 100")
    host.send("OUTPUT2:STATE ON")
    host.clock.sleep(1.0)
    host.send("SOUR2:TRig:INT")
    drive = host.drive(2)
    assert (drive.samples_v.tolist(), drive.sample_rate_hz) == ([1.0, 0.0, -1.0, 0.0], 400.0)
    assert drive.start_s == 1.0


def test_resets_bring_defaults(host: Host) -> None:
    host.send("ACQ:DEC 8", "ACQ:START", "ACQ:TRIG EXT_PE", "ACQ:RST")
    assert host.ask("ACQ:DEC?") == "1"
    assert host.front.armed is None
    host.send("OUTPUT1:STATE ON", "*RST")
    assert host.outputs[1].drive is None


def test_a_burst_waits_for_its_trigger_and_rests_at_its_last_value(host: Host) -> None:
    host.send("SOUR1:FUNC SQUARE", "SOUR1:FREQ:FIX 10000", "SOUR1:BURS:STAT BURST")
    host.send("SOUR1:BURS:NCYC 2", "SOUR1:BURS:NOR 3", "SOUR1:BURS:INT:PER 500")
    host.send("SOUR1:BURS:INITV 0.25", "SOUR1:BURS:LASTV -0.5", "OUTPUT1:STATE ON")
    waiting = host.outputs[1].drive
    assert waiting is not None
    assert waiting.samples_v.tolist() == [0.25]
    host.send("SOUR1:TRIG:INT")
    drive = host.outputs[1].drive
    assert drive is not None
    assert (drive.cycles, drive.idle_v) == (3, -0.5)
    assert drive.samples_v.size / drive.sample_rate_hz == pytest.approx(500e-6)
    assert drive.samples_v[-1] == -0.5
    assert host.errors() == []


def test_a_sweep_goes_up_and_down(host: Host) -> None:
    host.send("SOUR1:SWEEP:FREQ:START 1000", "SOUR1:SWEEP:FREQ:STOP 5000")
    host.send("SOUR1:SWEEP:TIME 10000", "SOUR1:SWEEP:DIR UP_DOWN", "SOUR1:SWEEP:REP:INF OFF")
    host.send("SOUR1:SWEEP:REP:COUNT 2", "SOUR1:SWEEP:STATE ON", "OUTPUT1:STATE ON")
    host.send("SOUR1:TRIG:INT")
    drive = host.outputs[1].drive
    assert drive is not None
    assert drive.cycles == 2
    assert drive.samples_v.size / drive.sample_rate_hz == pytest.approx(20e-3)
    upward = np.diff(np.signbit(drive.samples_v).astype(int)) == -1
    # 3 kHz on the mean for 20 ms: 60 periods.
    assert int(upward.sum()) == pytest.approx(60, abs=1)
    assert host.errors() == []


def test_a_level_within_the_hysteresis_does_not_trigger(host: Host) -> None:
    host.send("ACQ:TRIG:LEV 0.4", "ACQ:TRIG:HYST 2", "ACQ:START", "ACQ:TRIG CH1_PE")
    assert host.ask("ACQ:TRIG:STAT?") == "WAIT"
    host.send("ACQ:TRIG:HYST 0.1")
    assert host.ask("ACQ:TRIG:STAT?") == "TD"


def test_wrong_dates_and_long_sweeps_are_reported(host: Host) -> None:
    host.send('SYST:DATE "2026-02-30"', 'SYST:TIME "noon"')
    assert host.errors() == [-200, -200]
    host.send("SOUR1:SWEEP:STATE ON", "SOUR1:SWEEP:TIME 2000000000", "OUTPUT1:STATE ON")
    host.send("SOUR1:TRIG:INT")
    assert host.errors() == [-221]
