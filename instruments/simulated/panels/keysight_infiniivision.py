"""Front panel of a Keysight InfiniiVision oscilloscope: SCPI in, digitizer captures out.

Source: docs/wire/keysight_infiniivision.md, sections Record, Settings, Acquisition and Assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

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
from labctl.instruments.simulated.panels.oscilloscope_measure import Trace
from labctl.instruments.simulated.panels.oscilloscope_measurements import Measurements
from labctl.instruments.simulated.panels.oscilloscope_record import (
    AcquisitionType,
    ChannelSettings,
    Record,
    Transfer,
    WaveformFormat,
)
from labctl.instruments.simulated.panels.oscilloscope_screen import bitmap, picture, png
from labctl.instruments.simulated.panels.oscilloscope_settings import (
    DIVISIONS_X,
    DIVISIONS_Y,
    RANGE_LIMITS_V,
    TIME_RANGE_LIMITS_S,
    EdgeTrigger,
    Timebase,
    channel_summary,
    checked,
    coarser,
    finer_window,
)
from labctl.instruments.simulated.ports import Capture, CaptureWindow, DigitizerPort, Volts

SCREEN_LEVELS = 256
RUN_BIT, WAIT_TRIGGER_BIT = 8, 32
# One message may average so many samples, a record counting for at least this many.
MOST_WORK, RECORD_WORK = 1 << 25, 40_000
MOST_FINE = 1 << 23


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
        self.name, self._clock, self._digitizer = name, clock, digitizer
        self._numbers = range(1, channels + 1)
        self._max_rate_hz, self._memory_samples = max_sample_rate_hz, memory_samples
        self._measurements = Measurements(self._numbers, self._trace)
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            busy=lambda: self._armed and not self._running,
            error_depth=30,
            message_bytes=1 << 20,
        )
        self.clear, self.status_byte = self._scpi.clear, self._scpi.status_byte
        self.serial_poll = self._scpi.serial_poll
        self.read, self.read_timed_out = self._scpi.read, self._scpi.read_timed_out
        self._reset()

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host; while running, first arm for the next record.

        With no channel displayed there is none to arm for, which is no message's error.
        """
        displayed = self._displayed()
        if displayed and self._running and not self._armed and self._trigger.source == "EXT":
            self._acquire(displayed)
        self._scpi.write(data, end=end)

    def _reset(self) -> None:
        first = self._numbers[0]
        self._channels = {
            number: ChannelSettings(display=number == first, label=str(number))
            for number in self._numbers
        }
        self._timebase = Timebase()
        self._trigger = EdgeTrigger()
        self._format = WaveformFormat()
        self._source = first
        self._type = AcquisitionType()
        self._measurements.reset()
        self._saves_ink = False
        self._left = 0
        self._armed, self._running = False, True
        self._expected: CaptureWindow | None = None
        self._record: Record | None = None
        self._digitizer.disarm()

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
            action(":SINGle", lambda _: self._single()),
            action(":RUN", lambda _: self._run()),
            action(":STOP", lambda _: self._stop()),
            action(":AUToscale", lambda _: self._autoscale()),
            action(":SYSTem:PRESet", lambda _: self._reset()),
            readout(":OPERegister:CONDition", lambda _: f"{self._condition():+d}"),
            setting(":ACQuire:TYPE", types, lambda _: self._type.name, self._put_type),
            setting(":ACQuire:MODE", Word("RTIMe"), lambda _: "RTIM", lambda _, name: None),
            readout(":ACQuire:POINts", lambda _: f"{self._window([]).samples:+d}"),
            readout(":ACQuire:SRATe", lambda _: f"{self._window([]).sample_rate_hz:+.8E}"),
            setting(
                ":ACQuire:COUNt", Integer(2, 65536, 8), lambda _: self._type.count, self._put_count
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
            self._channels[number] = checked(put(self._channels[number], value))

        return setting(
            f":CHANnel#:{node}", kind, lambda n: get(self._channels[self._number(n)]), adopt
        )

    def _channel_commands(self) -> list[Command]:
        volts = Number("V", -4e5, 4e5, 0.0, "{:+.8E}")
        return [
            readout(":CHANnel#", self._channel_summary),
            self._channel("RANGe", volts, lambda c: c.range_v, lambda c, v: replace(c, range_v=v)),
            self._channel(
                "SCALe",
                volts,
                lambda c: c.range_v / DIVISIONS_Y,
                lambda c, v: replace(c, range_v=v * DIVISIONS_Y),
            ),
            self._channel(
                "OFFSet", volts, lambda c: c.offset_v, lambda c, v: replace(c, offset_v=v)
            ),
            self._channel(
                "COUPling",
                Word("AC", "DC"),
                lambda c: c.coupling,
                lambda c, v: replace(c, coupling=v),
            ),
            self._channel(
                "IMPedance",
                Word("ONEMeg", "FIFTy"),
                lambda c: c.impedance,
                lambda c, v: replace(c, impedance=v),
            ),
            self._channel(
                "DISPlay", Boolean(), lambda c: c.display, lambda c, v: replace(c, display=v)
            ),
            self._channel(
                "BWLimit",
                Boolean(),
                lambda c: c.bandwidth_limit,
                lambda c, v: replace(c, bandwidth_limit=v),
            ),
            self._channel(
                "INVert", Boolean(), lambda c: c.invert, lambda c, v: replace(c, invert=v)
            ),
            self._channel(
                "PROBe",
                Number("", 0.1, 1e4, 1.0, "{:+.8E}"),
                lambda c: c.probe,
                lambda c, v: replace(c, probe=v, range_v=c.range_v * v / c.probe),
            ),
            self._channel("LABel", Text(32), lambda c: c.label, lambda c, v: replace(c, label=v)),
        ]

    def _timebase_setting(
        self,
        node: str,
        kind: Kind[T],
        get: Callable[[Timebase], T],
        put: Callable[[Timebase, T], Timebase],
    ) -> Command:
        def adopt(_: Suffixes, value: T) -> None:
            self._timebase = put(self._timebase, value)

        return setting(f":TIMebase:{node}", kind, lambda _: get(self._timebase), adopt)

    def _timebase_commands(self) -> list[Command]:
        low_s, high_s = TIME_RANGE_LIMITS_S
        style = "{:+.8E}"
        return [
            readout(":TIMebase", lambda _: self._timebase.summary()),
            setting(":TIMebase:MODE", Word("MAIN"), lambda _: "MAIN", lambda _, name: None),
            self._timebase_setting(
                "RANGe",
                Number("S", low_s, high_s, 1e-3, style),
                lambda t: t.range_s,
                lambda t, v: replace(t, range_s=v),
            ),
            self._timebase_setting(
                "SCALe",
                Number("S", low_s / DIVISIONS_X, high_s / DIVISIONS_X, 1e-4, style),
                lambda t: t.range_s / DIVISIONS_X,
                lambda t, v: replace(t, range_s=v * DIVISIONS_X),
            ),
            self._timebase_setting(
                "POSition",
                Number("S", -high_s, high_s, 0.0, style),
                lambda t: t.position_s,
                lambda t, v: replace(t, position_s=v),
            ),
            self._timebase_setting(
                "REFerence",
                Word("LEFT", "CENTer", "RIGHt"),
                lambda t: t.reference,
                lambda t, v: replace(t, reference=v),
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
            self._trigger = put(self._trigger, value)

        return setting(f":TRIGger:EDGE:{node}", kind, lambda _: get(self._trigger), adopt)

    def _trigger_commands(self) -> list[Command]:
        sources = Word(*(f"CHANnel{n}" for n in self._numbers), "EXTernal", "LINE")
        return [
            self._trigger_setting(
                "SOURce", sources, lambda t: t.source, lambda t, v: replace(t, source=v)
            ),
            self._trigger_setting(
                "LEVel",
                Number("V", -4e5, 4e5, 0.0, "{:+.8E}"),
                lambda t: t.level_v,
                lambda t, v: replace(t, level_v=v),
            ),
            self._trigger_setting(
                "SLOPe",
                Word("POSitive", "NEGative", "EITHer", "ALTernate"),
                lambda t: t.slope,
                lambda t, v: replace(t, slope=v),
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
            self._format_setting(
                "FORMat",
                Word("BYTE", "WORD", "ASCii"),
                lambda f: f.form,
                lambda f, v: replace(f, form=v),
            ),
            self._format_setting(
                "BYTeorder",
                Word("LSBFirst", "MSBFirst"),
                lambda f: "LSBF" if f.little_endian else "MSBF",
                lambda f, v: replace(f, little_endian=v == "LSBF"),
            ),
            self._format_setting(
                "UNSigned", Boolean(), lambda f: f.unsigned, lambda f, v: replace(f, unsigned=v)
            ),
            self._format_setting(
                "POINts",
                Integer(1, self._memory_samples, style="{:+d}"),
                lambda f: self._points(),
                lambda f, v: replace(f, points=v),
            ),
            self._format_setting(
                "POINts:MODE",
                Word("NORMal", "MAXimum", "RAW"),
                lambda f: f.mode,
                lambda f, v: replace(f, mode=v),
            ),
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
        self._refresh()
        volts = self._record.volts if self._record is not None else {}
        pixels = picture(volts, self._channels, grey=palette == "GRAY", saves_ink=self._saves_ink)
        return encode_block(png(pixels) if form == "PNG" else bitmap(pixels), digits=8)

    def _trace(self, number: int) -> Trace | None:
        """Return what is displayed of a channel, for measurements; None if nothing is."""
        self._refresh()
        if self._record is None or number not in self._record.volts:
            return None
        window = self._record.window
        return Trace(
            self._record.volts[number],
            window.sample_rate_hz,
            (self._timebase.position_s - window.start_s) * window.sample_rate_hz,
            self._record.settings[number].range_v / SCREEN_LEVELS,
        )

    def _number(self, suffixes: Suffixes) -> int:
        if suffixes[0] not in self._numbers:
            raise ScpiError(-114)
        return suffixes[0]

    def _channel_summary(self, suffixes: Suffixes) -> str:
        number = self._number(suffixes)
        return channel_summary(number, self._channels[number])

    def _put_count(self, _: Suffixes, count: int) -> None:
        self._type = replace(self._type, count=count)

    def _put_type(self, _: Suffixes, name: str) -> None:
        if name == "PEAK":
            raise ScpiError(-221, "peak detection is not fitted")
        self._type = replace(self._type, name=name)

    def _put_source(self, _: Suffixes, source: str) -> None:
        self._source = int(source[4:])

    def _displayed(self) -> list[int]:
        return [number for number, c in self._channels.items() if c.display]

    def _digitize(self, _: Suffixes, parameters: Parameters) -> None:
        kind = Word(*(f"CHANnel{n}" for n in self._numbers))
        named = sorted({int(kind.parse(p).removeprefix("CHAN")) for p in parameters})
        for number in self._numbers if named else ():
            shown = replace(self._channels[number], display=number in named)
            self._channels[number] = shown
        self._single()

    def _single(self) -> None:
        self._acquire(self._displayed())
        self._running = False

    def _run(self) -> None:
        self._acquire(self._displayed())
        self._running = True

    def _stop(self) -> None:
        """Stop, also where the record that the screen shows now cannot be taken."""
        try:
            if self._displayed():
                self._refresh()
        finally:
            self._digitizer.disarm()
            self._armed = self._running = False

    def _condition(self) -> int:
        running = RUN_BIT if self._armed or self._running else 0
        return running | (WAIT_TRIGGER_BIT if self._armed else 0)

    def _window(self, numbers: list[int]) -> CaptureWindow:
        range_s = self._timebase.range_s
        rate_hz = min(self._max_rate_hz, self._memory_samples / range_s)
        windows = {number: self._channels[number].window() for number in numbers}
        samples = max(round(range_s * rate_hz), 1)
        return CaptureWindow(self._timebase.start_s, rate_hz, samples, windows)

    def _acquire(self, numbers: list[int]) -> None:
        """Take a record of the channels, or arm the digitizer for it."""
        if not numbers:
            raise ScpiError(-221, "no channel is displayed")
        window = self._window(numbers)
        finer = self._type.finer(window.sample_rate_hz, self._max_rate_hz)
        fine = finer_window(window, min(finer, max(MOST_FINE // window.samples, 1)))
        finer = fine.samples // window.samples
        work = self._type.records * (fine.samples + RECORD_WORK)
        if self._trigger.source != "EXT" and self._type.records > 1 and work > MOST_WORK:
            raise ScpiError(-221, "too many samples to average in one message")
        if self._armed:
            self._digitizer.disarm()
            self._armed = False
        self._expected, self._left = fine, self._type.records
        self._sum: dict[int, Volts] = {}
        settings, how = dict(self._channels), self._type

        def deliver(capture: Capture) -> None:
            self._store(fine, Record(window, settings, coarser(capture, finer), how), deliver)

        if self._trigger.source == "EXT":
            self._armed = True
            self._digitizer.arm(fine, deliver)
            return
        for _ in range(self._left):
            at_once = self._trigger.source == "LINE"
            deliver(self._digitizer.capture_now(fine) if at_once else self._edge_capture(fine))

    def _store(
        self, fine: CaptureWindow, record: Record, deliver: Callable[[Capture], None]
    ) -> None:
        """Add one record to those to be averaged; keep their mean when it is the last."""
        if fine is not self._expected:
            return
        self._left -= 1
        for number, volts in record.volts.items():
            self._sum[number] = self._sum[number] + volts if number in self._sum else volts
        if self._left > 0:
            if self._armed:
                self._digitizer.arm(fine, deliver)
            return
        scale = np.float32(record.type.records)
        self._record = replace(
            record,
            volts={
                number: record.settings[number].displayed(total / scale if scale != 1 else total)
                for number, total in self._sum.items()
            },
        )
        self._sum.clear()
        self._armed = False

    def _refresh(self) -> None:
        """While running on an internal trigger, take the record that the screen shows now."""
        if self._running and self._trigger.source != "EXT":
            self._acquire(self._displayed())

    def _edge_capture(self, window: CaptureWindow) -> Capture:
        """Capture until one record after the first edge of the trigger channel."""
        source = int(self._trigger.source.removeprefix("CHAN"))
        start = round(window.start_s * window.sample_rate_hz)
        if abs(start) > 2 * window.samples:
            return self._digitizer.capture_now(window)
        lead = max(-start, 0)
        longer = replace(
            window,
            start_s=-lead / window.sample_rate_hz,
            samples=lead + max(start, 0) + 2 * window.samples,
            channels={**window.channels, source: self._channels[source].window()},
        )
        capture = self._digitizer.capture_now(longer)
        shown = self._channels[source].displayed(capture[source])
        first = lead + start + self._trigger.first_edge(shown[lead : lead + window.samples + 1])
        return {n: capture[n][first : first + window.samples].copy() for n in window.channels}

    def _autoscale(self) -> None:
        """Fit range and offset of each displayed channel to what it sees, in two passes."""
        for number in self._displayed():
            probe = self._channels[number].probe
            self._channels[number] = replace(
                self._channels[number], range_v=RANGE_LIMITS_V[1] * probe, offset_v=0.0
            )
            for _ in range(2):
                self._fit(number)

    def _fit(self, number: int) -> None:
        c = self._channels[number]
        volts = c.displayed(self._digitizer.capture_now(self._window([number]))[number])
        low_v, high_v = float(volts.min()), float(volts.max())
        smallest_v, largest_v = (limit_v * c.probe for limit_v in RANGE_LIMITS_V)
        range_v = min(max(1.25 * (high_v - low_v), smallest_v), largest_v)
        self._channels[number] = replace(c, range_v=range_v, offset_v=(low_v + high_v) / 2.0)

    def _transfer(self) -> Transfer:
        self._refresh()
        if self._record is None or self._source not in self._record.volts:
            raise ScpiError(-230, f"no data of channel {self._source}")
        return Transfer(self._record, self._source, self._format)

    def _points(self) -> int:
        if self._record is not None and self._source in self._record.volts:
            return Transfer(self._record, self._source, self._format).points
        samples = self._window([]).samples
        return min(samples, self._format.points or samples)
