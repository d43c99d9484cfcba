"""Front panel of a Keysight InfiniiVision oscilloscope: SCPI in, digitizer captures out.

Source: docs/wire/keysight_infiniivision.md, sections Record, Settings, Acquisition and Assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from labctl.clock import Clock
from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.codecs.scpi import (
    Command,
    Parameters,
    Reply,
    ScpiCore,
    Suffixes,
    action,
    none,
    readout,
    setting,
)
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Boolean, Integer, Kind, Number, T, Text, Word
from labctl.instruments.simulated.panels.kept_settings import as_set
from labctl.instruments.simulated.panels.oscilloscope_acquisition import Acquisition
from labctl.instruments.simulated.panels.oscilloscope_measure import Trace
from labctl.instruments.simulated.panels.oscilloscope_measurements import Measurements
from labctl.instruments.simulated.panels.oscilloscope_record import (
    ChannelSettings,
    Transfer,
    WaveformFormat,
)
from labctl.instruments.simulated.panels.oscilloscope_screen import bitmap, picture, png
from labctl.instruments.simulated.panels.oscilloscope_settings import (
    DIVISIONS_X,
    DIVISIONS_Y,
    TIME_RANGE_LIMITS_S,
    EdgeTrigger,
    Timebase,
    channel_summary,
    checked,
)
from labctl.instruments.simulated.ports import DigitizerPort

# 8-bit converter over the screen's height.
SCREEN_LEVELS = 256


class InfiniiVisionPanel:
    """An oscilloscope of `channels` channels; satisfies `FrontPanel`.

    The sample rate is the largest that lets the time range fit in `memory_samples`. :DIG and :SING
    acquire once: with trigger source EXT they arm the digitizer and wait for its trigger, however
    long; *OPC? answers when it has come, :OPER:COND? shows meanwhile whether it waits. With a
    channel as source, the first edge within one record's length triggers, and without any edge (or
    with source LINE) the record is untriggered, as in the instrument's automatic sweep. :RUN arms
    again after every record. A record keeps its settings until the next one. All transfer modes
    (NORM, MAX, RAW) read the whole record, thinned out to :WAV:POIN. HRESolution averages up to 16
    finer samples into one, of at most 2^23; AVERage :ACQ:COUN records, refused where
    an internal trigger would take too many at once; PEAK is not fitted. Coupling, impedance and
    bandwidth limit are kept and read back, but the digitizer port takes range and offset only.
    :DISP:DATA? draws the traces as PNG or 24-bit BMP, which is also what it sends unasked.
    Assumed, not confirmed by a source: that it runs after *RST, as keyoscacquire expects it; ink
    saver off at first, the reply to :TIM?, the limits of range and time base, at most 65536
    averages.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        digitizer: DigitizerPort,
        channels: int,
        *,
        identity: str = "KEYSIGHT TECHNOLOGIES,DSO-X 3102T,MY57452230,07.50.2021102830",
        max_sample_rate_hz: float = 5e9,
        memory_samples: int = 4_000_000,
    ) -> None:
        self.name, self._clock = name, clock
        self._numbers = range(1, channels + 1)
        self._scope = Acquisition(
            digitizer,
            self._numbers,
            max_sample_rate_hz=max_sample_rate_hz,
            memory_samples=memory_samples,
        )
        self._measurements = Measurements(self._numbers, self._trace)
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            busy=lambda: self._scope.armed and not self._scope.running,
            error_depth=30,
            message_bytes=1 << 20,
        )
        self.clear, self.status_byte = self._scpi.clear, self._scpi.status_byte
        self.serial_poll = self._scpi.serial_poll
        self.read, self.read_timed_out = self._scpi.read, self._scpi.read_timed_out
        self.power_cycle = self._scpi.power_cycle
        self._reset()

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host; while running, first arm for the next record.

        With no channel displayed there is none to arm for, which is no message's error.
        """
        scope = self._scope
        displayed = scope.displayed()
        if displayed and scope.running and not scope.armed and scope.trigger.source == "EXT":
            scope.acquire(displayed)
        self._scpi.write(data, end=end)

    def _reset(self) -> None:
        self._scope.reset()
        self._format = WaveformFormat()
        self._source = self._numbers[0]
        self._measurements.reset()
        self._saves_ink = False

    def _commands(self) -> list[Command]:
        return [
            *self._acquisition_commands(),
            *self._channel_commands(),
            *self._timebase_commands(),
            *self._trigger_commands(),
            *self._waveform_commands(),
            *self._transfer_commands(),
            *self._measurements.commands(),
            *self._screen_commands(),
        ]

    def _acquisition_commands(self) -> list[Command]:
        types = Word("NORMal", "AVERage", "HRESolution", "PEAK")
        return [
            Command(":DIGitize", self._digitize),
            action(":SINGle", lambda _: self._scope.single()),
            action(":RUN", lambda _: self._scope.run()),
            action(":STOP", lambda _: self._scope.stop()),
            action(":AUToscale", lambda _: self._scope.autoscale()),
            action(":SYSTem:PRESet", lambda _: self._reset()),
            readout(":OPERegister:CONDition", lambda _: f"{self._scope.condition():+d}"),
            setting(":ACQuire:TYPE", types, lambda _: self._scope.type.name, self._put_type),
            setting(":ACQuire:MODE", Word("RTIMe"), lambda _: "RTIM", lambda _, name: None),
            readout(":ACQuire:POINts", lambda _: f"{self._scope.window([]).samples:+d}"),
            readout(":ACQuire:SRATe", lambda _: f"{self._scope.window([]).sample_rate_hz:+.8E}"),
            setting(
                ":ACQuire:COUNt",
                Integer(2, 65536, 8),
                lambda _: self._scope.type.count,
                self._put_count,
            ),
        ]

    def _channel(
        self,
        node: str,
        kind: Kind[T],
        get: Callable[[ChannelSettings], T],
        put: Callable[[ChannelSettings, T], ChannelSettings],
    ) -> Command:
        """Declare a setting of one channel: how to read it and what the new settings are."""

        def adopt(suffixes: Suffixes, value: T) -> None:
            number = self._number(suffixes)
            self._scope.channels[number] = checked(put(self._scope.channels[number], value))

        return setting(
            f":CHANnel#:{node}", kind, lambda n: get(self._scope.channels[self._number(n)]), adopt
        )

    def _channel_commands(self) -> list[Command]:
        volts = Number("V", -4e5, 4e5, 0.0, "{:+.8E}")
        return [
            readout(":CHANnel#", self._channel_summary),
            self._channel("RANGe", volts, *as_set("range_v")),
            self._channel(
                "SCALe",
                volts,
                lambda c: c.range_v / DIVISIONS_Y,
                lambda c, v: replace(c, range_v=v * DIVISIONS_Y),
            ),
            self._channel("OFFSet", volts, *as_set("offset_v")),
            self._channel("COUPling", Word("AC", "DC"), *as_set("coupling")),
            self._channel("IMPedance", Word("ONEMeg", "FIFTy"), *as_set("impedance")),
            self._channel("DISPlay", Boolean(), *as_set("display")),
            self._channel("BWLimit", Boolean(), *as_set("bandwidth_limit")),
            self._channel("INVert", Boolean(), *as_set("invert")),
            self._channel(
                "PROBe",
                Number("", 0.1, 1e4, 1.0, "{:+.8E}"),
                lambda c: c.probe,
                lambda c, v: replace(c, probe=v, range_v=c.range_v * v / c.probe),
            ),
            self._channel("LABel", Text(32), *as_set("label")),
        ]

    def _timebase_setting(
        self,
        node: str,
        kind: Kind[T],
        get: Callable[[Timebase], T],
        put: Callable[[Timebase, T], Timebase],
    ) -> Command:
        def adopt(_: Suffixes, value: T) -> None:
            self._scope.timebase = put(self._scope.timebase, value)

        return setting(f":TIMebase:{node}", kind, lambda _: get(self._scope.timebase), adopt)

    def _timebase_commands(self) -> list[Command]:
        low_s, high_s = TIME_RANGE_LIMITS_S
        style = "{:+.8E}"
        return [
            readout(":TIMebase", lambda _: self._scope.timebase.summary()),
            setting(":TIMebase:MODE", Word("MAIN"), lambda _: "MAIN", lambda _, name: None),
            self._timebase_setting(
                "RANGe", Number("S", low_s, high_s, 1e-3, style), *as_set("range_s")
            ),
            self._timebase_setting(
                "SCALe",
                Number("S", low_s / DIVISIONS_X, high_s / DIVISIONS_X, 1e-4, style),
                lambda t: t.range_s / DIVISIONS_X,
                lambda t, v: replace(t, range_s=v * DIVISIONS_X),
            ),
            self._timebase_setting(
                "POSition", Number("S", -high_s, high_s, 0.0, style), *as_set("position_s")
            ),
            self._timebase_setting(
                "REFerence", Word("LEFT", "CENTer", "RIGHt"), *as_set("reference")
            ),
        ]

    def _trigger_setting(
        self,
        node: str,
        kind: Kind[T],
        get: Callable[[EdgeTrigger], T],
        put: Callable[[EdgeTrigger, T], EdgeTrigger],
    ) -> Command:
        def adopt(_: Suffixes, value: T) -> None:
            self._scope.trigger = put(self._scope.trigger, value)

        return setting(f":TRIGger:EDGE:{node}", kind, lambda _: get(self._scope.trigger), adopt)

    def _trigger_commands(self) -> list[Command]:
        sources = Word(*(f"CHANnel{n}" for n in self._numbers), "EXTernal", "LINE")
        return [
            self._trigger_setting("SOURce", sources, *as_set("source")),
            self._trigger_setting(
                "LEVel", Number("V", -4e5, 4e5, 0.0, "{:+.8E}"), *as_set("level_v")
            ),
            self._trigger_setting(
                "SLOPe", Word("POSitive", "NEGative", "EITHer", "ALTernate"), *as_set("slope")
            ),
        ]

    def _format_setting(
        self,
        node: str,
        kind: Kind[T],
        get: Callable[[WaveformFormat], T],
        put: Callable[[WaveformFormat, T], WaveformFormat],
    ) -> Command:
        def adopt(_: Suffixes, value: T) -> None:
            self._format = put(self._format, value)

        return setting(f":WAVeform:{node}", kind, lambda _: get(self._format), adopt)

    def _waveform_commands(self) -> list[Command]:
        sources = Word(*(f"CHANnel{n}" for n in self._numbers))
        return [
            setting(":WAVeform:SOURce", sources, lambda _: f"CHAN{self._source}", self._put_source),
            self._format_setting("FORMat", Word("BYTE", "WORD", "ASCii"), *as_set("form")),
            self._format_setting(
                "BYTeorder",
                Word("LSBFirst", "MSBFirst"),
                lambda f: "LSBF" if f.little_endian else "MSBF",
                lambda f, v: replace(f, little_endian=v == "LSBF"),
            ),
            self._format_setting("UNSigned", Boolean(), *as_set("unsigned")),
            self._format_setting(
                "POINts",
                Integer(1, self._scope.memory_samples, style="{:+d}"),
                lambda f: self._points(),
                lambda f, v: replace(f, points=v),
            ),
            self._format_setting("POINts:MODE", Word("NORMal", "MAXimum", "RAW"), *as_set("mode")),
        ]

    def _transfer_commands(self) -> list[Command]:
        def answer(node: str, get: Callable[[Transfer], Reply]) -> Command:
            return readout(f":WAVeform:{node}", lambda _: get(self._transfer()))

        return [
            answer("PREamble", Transfer.preamble),
            answer("DATA", Transfer.block),
            answer("XINCrement", lambda t: f"{t.x_increment_s:+.8E}"),
            answer("XORigin", lambda t: f"{t.x_origin_s:+.8E}"),
            answer("XREFerence", lambda t: "+0"),
            answer("YINCrement", lambda t: f"{t.y_increment_v:+.8E}"),
            answer("YORigin", lambda t: f"{t.y_origin_v:+.8E}"),
            answer("YREFerence", lambda t: f"{t.y_reference:+d}"),
        ]

    def _screen_commands(self) -> list[Command]:
        return [
            Command(":DISPlay:DATA", ask=self._ask_screen),
            setting(
                ":HARDcopy:INKSaver", Boolean(), lambda _: self._saves_ink, self._put_ink_saver
            ),
        ]

    def _put_ink_saver(self, _: Suffixes, on: bool) -> None:
        self._saves_ink = on

    def _ask_screen(self, _: Suffixes, parameters: Parameters) -> Reply:
        """Reply a picture of the screen: [format][, palette]."""
        none(parameters[2:])
        form = Word("BMP", "PNG").parse(parameters[0]) if parameters else "BMP"
        palette = Word("COLor", "GRAYscale").parse(parameters[1]) if parameters[1:] else "COL"
        self._scope.refresh()
        volts = self._scope.record.volts if self._scope.record is not None else {}
        pixels = picture(
            volts, self._scope.channels, grey=palette == "GRAY", saves_ink=self._saves_ink
        )
        return encode_block(png(pixels) if form == "PNG" else bitmap(pixels), digits=8)

    def _trace(self, number: int) -> Trace | None:
        """Return what is displayed of a channel, for measurements; None if nothing is."""
        self._scope.refresh()
        if self._scope.record is None or number not in self._scope.record.volts:
            return None
        window = self._scope.record.window
        return Trace(
            self._scope.record.volts[number],
            window.sample_rate_hz,
            (self._scope.timebase.position_s - window.start_s) * window.sample_rate_hz,
            self._scope.record.settings[number].range_v / SCREEN_LEVELS,
        )

    def _number(self, suffixes: Suffixes) -> int:
        if suffixes[0] not in self._numbers:
            raise ScpiError(-114)
        return suffixes[0]

    def _channel_summary(self, suffixes: Suffixes) -> str:
        number = self._number(suffixes)
        return channel_summary(number, self._scope.channels[number])

    def _put_count(self, _: Suffixes, count: int) -> None:
        self._scope.type = replace(self._scope.type, count=count)

    def _put_type(self, _: Suffixes, name: str) -> None:
        if name == "PEAK":
            raise ScpiError(-221, "peak detection is not fitted")
        self._scope.type = replace(self._scope.type, name=name)

    def _put_source(self, _: Suffixes, source: str) -> None:
        self._source = int(source[4:])

    def _digitize(self, _: Suffixes, parameters: Parameters) -> None:
        kind = Word(*(f"CHANnel{n}" for n in self._numbers))
        named = sorted({int(kind.parse(p).removeprefix("CHAN")) for p in parameters})
        for number in self._numbers if named else ():
            shown = replace(self._scope.channels[number], display=number in named)
            self._scope.channels[number] = shown
        self._scope.single()

    def _transfer(self) -> Transfer:
        self._scope.refresh()
        if self._scope.record is None or self._source not in self._scope.record.volts:
            raise ScpiError(-230, f"no data of channel {self._source}")
        return Transfer(self._scope.record, self._source, self._format)

    def _points(self) -> int:
        if self._scope.record is not None and self._source in self._scope.record.volts:
            return Transfer(self._scope.record, self._source, self._format).points
        samples = self._scope.window([]).samples
        return min(samples, self._format.points or samples)
