"""Fast inputs of a Red Pitaya board: the ring buffer of 16384 samples, its trigger and readout.

Source: docs/wire/red_pitaya.md, sections Acquisition and Records; the board's own server for words,
defaults and the forms of replies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from labctl.clock import Clock
from labctl.instruments.codecs.scpi import (
    Command,
    Parameters,
    Reply,
    Suffixes,
    action,
    only,
    readout,
    setting,
)
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Integer, Kind, Number, Parameter, T, Word
from labctl.instruments.simulated.panels.kept_settings import as_set
from labctl.instruments.simulated.panels.red_pitaya_values import (
    BUFFER_SAMPLES,
    CLOCK_HZ,
    FLOAT,
    DataFormat,
    Switch,
    two,
)
from labctl.instruments.simulated.ports import (
    Capture,
    CaptureWindow,
    ChannelWindow,
    DigitizerPort,
    Volts,
)

# Delay 0 puts the trigger there; 14 bits are codes of +-8192 (docs/wire/red_pitaya.md).
MIDDLE = BUFFER_SAMPLES // 2
HALF_SCALE_CODES = 8192
RANGES_V = {"LV": 2.0, "HV": 40.0}
# Assumed: 2 ms of samples after the trigger.
DELAY_LIMITS = (-MIDDLE, 1 << 18)
_LINES = ("CH1", "CH2", "EXT", "AWG")
_EDGES = ("PE", "NE", "AE")
SOURCES = ("DISABLED", "NOW", *(f"{line}_{edge}" for edge in _EDGES for line in _LINES))


@dataclass(frozen=True)
class Acquisition:
    """What ACQ:RST resets."""

    decimation: int = 1
    averaging: bool = True
    format: DataFormat = field(default_factory=DataFormat)
    units: str = "VOLTS"
    source: str = "DISABLED"
    level_v: float = 0.0
    hysteresis_v: float = 0.005
    debounce_us: float = 500.0
    delay: int = 0
    started: bool = False

    @property
    def sample_rate_hz(self) -> float:
        """Samples per second in the buffer."""
        return CLOCK_HZ / self.decimation

    def with_delay_ns(self, delay_ns: int) -> Acquisition:
        """Return the settings with a delay given in ns; raises ScpiError -222."""
        delay = round(delay_ns * 1e-9 * self.sample_rate_hz)
        if not DELAY_LIMITS[0] <= delay <= DELAY_LIMITS[1]:
            raise ScpiError(-222)
        return replace(self, delay=delay)


class RedPitayaAcquisition:
    """The two inputs, their trigger and the last record.

    `playing` returns whether an output of the board plays, for trigger source AWG.
    """

    def __init__(self, clock: Clock, digitizer: DigitizerPort, playing: Callable[[], bool]) -> None:
        self._clock, self._digitizer, self._playing = clock, digitizer, playing
        self.reset()

    def reset(self) -> None:
        """Forget settings, gains and the record (*RST)."""
        self._gains = {1: "LV", 2: "LV"}
        self._reset()

    def _reset(self) -> None:
        self._digitizer.disarm()
        self._acquisition = Acquisition()
        self._record: Capture | None = None
        self._record_gains = dict(self._gains)
        self._expected: CaptureWindow | None = None
        self._waiting = False
        self._full_s = math.inf

    def commands(self) -> list[Command]:
        """Declare the commands of the inputs."""
        return [*self._acquisition_commands(), *self._trigger_commands(), *self._data_commands()]

    def _declare(
        self,
        pattern: str,
        kind: Kind[T],
        get: Callable[[Acquisition], T],
        put: Callable[[Acquisition, T], Acquisition],
    ) -> Command:
        def adopt(_: Suffixes, value: T) -> None:
            self._acquisition = put(self._acquisition, value)

        return setting(pattern, kind, lambda _: get(self._acquisition), adopt)

    def _acquisition_commands(self) -> list[Command]:
        return [
            action(":ACQ:RST", lambda _: self._reset()),
            action(":ACQ:START", lambda _: self._start()),
            action(":ACQ:STOP", lambda _: self._stop()),
            self._declare(
                ":ACQ:DEC",
                Integer(1, 65536),
                lambda a: a.decimation,
                lambda a, value: replace(a, decimation=_power_of_two(value)),
            ),
            self._declare(
                ":ACQ:DEC:Factor",
                Integer(1, 65536),
                lambda a: a.decimation,
                lambda a, value: replace(a, decimation=_factor(value)),
            ),
            readout(":ACQ:SRATe", lambda _: f"{self._acquisition.sample_rate_hz:9.0f} Hz"),
            self._declare(":ACQ:AVG", Switch(), *as_set("averaging")),
            self._declare(
                ":ACQ:DATA:FORMAT",
                Word("ASCII", "BIN"),
                lambda a: "BIN" if a.format.binary else "ASCII",
                lambda a, v: replace(a, format=replace(a.format, binary=v == "BIN")),
            ),
            self._declare(":ACQ:DATA:Units", Word("VOLTS", "RAW"), *as_set("units")),
            self._declare(
                ":ACQ:DATA:BYTE:ORDER",
                Word("BEND", "LEND"),
                lambda a: "LEND" if a.format.little_endian else "BEND",
                lambda a, v: replace(a, format=replace(a.format, little_endian=v == "LEND")),
            ),
            setting(
                ":ACQ:SOUR#:GAIN",
                Word("LV", "HV"),
                lambda n: self._gains[_input(n)],
                self._put_gain,
            ),
            readout(":ACQ:BUF:SIZE", lambda _: str(BUFFER_SAMPLES)),
        ]

    def _trigger_commands(self) -> list[Command]:
        return [
            Command(":ACQ:TRig", self._put_source),
            self._declare(
                ":ACQ:TRig:LEV", Number("V", -20.0, 20.0, style=FLOAT), *as_set("level_v")
            ),
            self._declare(
                ":ACQ:TRig:HYST", Number("V", 0.0, 20.0, style=FLOAT), *as_set("hysteresis_v")
            ),
            self._declare(
                ":ACQ:TRig:EXT:DEBouncer[:US]",
                Number("", 0.0, 1e6, style=FLOAT),
                *as_set("debounce_us"),
            ),
            self._declare(":ACQ:TRig:DLY", Integer(*DELAY_LIMITS), *as_set("delay")),
            self._declare(
                ":ACQ:TRig:DLY:NS",
                Integer(-(2**53), 2**53),
                lambda a: round(a.delay / a.sample_rate_hz * 1e9),
                lambda a, delay_ns: a.with_delay_ns(delay_ns),
            ),
            readout(":ACQ:TRig:STAT", lambda _: self._trigger_state()),
            readout(":ACQ:TRig:FILL", lambda _: self._filled()),
            readout(":ACQ:TPOS", lambda _: str(self._trigger_position())),
            readout(":ACQ:WPOS", lambda _: "0"),
        ]

    def _data_commands(self) -> list[Command]:
        data = ":ACQ:SOUR#:DATA"
        return [
            readout(data, lambda n: self._data(n, 0, BUFFER_SAMPLES)),
            Command(f"{data}:Old:N", ask=lambda n, p: self._data(n, 0, _count(only(p)))),
            Command(f"{data}:LATest:N", ask=self._latest),
            Command(f"{data}:STArt:N", ask=self._from_start),
            Command(f"{data}:Start:N", ask=self._from_start),
            Command(f"{data}:STArt:End", ask=self._from_start_to_end),
            Command(f"{data}:Start:End", ask=self._from_start_to_end),
            Command(f"{data}:TRig", ask=self._around_trigger),
        ]

    def _put_gain(self, suffixes: Suffixes, gain: str) -> None:
        self._gains[_input(suffixes)] = gain

    def _start(self) -> None:
        self._digitizer.disarm()
        self._acquisition = replace(self._acquisition, started=True)
        self._record, self._full_s = None, math.inf
        self._arm()

    def _stop(self) -> None:
        self._digitizer.disarm()
        self._waiting = False
        self._acquisition = replace(self._acquisition, started=False)

    def _put_source(self, _: Suffixes, parameters: Parameters) -> None:
        source = Word(*SOURCES).parse(only(parameters))
        self._digitizer.disarm()
        self._acquisition = replace(self._acquisition, source=source)
        self._arm()

    def _arm(self) -> None:
        """Wait for the trigger, if the acquisition is started and has a source."""
        acquisition = self._acquisition
        self._waiting = acquisition.source != "DISABLED"
        if not (acquisition.started and self._waiting):
            return
        window = self._window()
        self._expected, self._record_gains = window, dict(self._gains)
        if acquisition.source == "NOW":
            self._store(window, self._digitizer.capture_now(window))
        elif acquisition.source.startswith("EXT"):
            self._digitizer.arm(window, lambda capture: self._store(window, capture))
        else:
            self._seek()

    def _window(self) -> CaptureWindow:
        rate_hz = self._acquisition.sample_rate_hz
        channels = {n: ChannelWindow(RANGES_V[gain], 0.0) for n, gain in self._gains.items()}
        start = self._acquisition.delay - MIDDLE
        return CaptureWindow(start / rate_hz, rate_hz, BUFFER_SAMPLES, channels)

    def _store(self, window: CaptureWindow, capture: Capture) -> None:
        if window is not self._expected or not self._waiting:
            return
        self._record, self._waiting = capture, False
        after_s = window.start_s + window.samples / window.sample_rate_hz
        self._full_s = self._clock.now_s() + max(after_s, 0.0)
        self._acquisition = replace(self._acquisition, source="DISABLED")

    def _seek(self) -> None:
        """Look whether an edge, or a playing output, triggers now."""
        acquisition, window = self._acquisition, self._expected
        if not (acquisition.started and self._waiting) or window is None:
            return
        if acquisition.source.startswith("AWG"):
            if self._playing():
                self._store(window, self._digitizer.capture_now(window))
        elif acquisition.source.startswith("CH"):
            self._seek_edge(window)

    def _seek_edge(self, window: CaptureWindow) -> None:
        start = round(window.start_s * window.sample_rate_hz)
        lead = max(-start, 0)
        longer = replace(
            window,
            start_s=-lead / window.sample_rate_hz,
            samples=lead + max(start, 0) + 2 * BUFFER_SAMPLES,
        )
        capture = self._digitizer.capture_now(longer)
        edge = self._edge(capture[int(self._acquisition.source[2])][lead : lead + BUFFER_SAMPLES])
        if edge is not None:
            first = lead + edge + start
            record = {n: v[first : first + BUFFER_SAMPLES].copy() for n, v in capture.items()}
            self._store(window, record)

    def _edge(self, volts: Volts) -> int | None:
        """Return the index of the first edge of the source, None if there is none."""
        a = self._acquisition
        rising = _first_rise(volts, a.level_v, a.hysteresis_v)
        falling = _first_rise(-volts, -a.level_v, a.hysteresis_v)
        wanted = {"PE": (rising,), "NE": (falling,), "AE": (rising, falling)}[a.source[-2:]]
        return min((edge for edge in wanted if edge is not None), default=None)

    def _trigger_state(self) -> str:
        self._seek()
        return "WAIT" if self._waiting else "TD"

    def _trigger_position(self) -> int:
        return (MIDDLE - self._acquisition.delay) % BUFFER_SAMPLES

    def _filled(self) -> str:
        self._seek()
        return "1" if self._record is not None and self._clock.now_s() >= self._full_s else "0"

    def _latest(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        count = _count(only(parameters))
        return self._data(suffixes, BUFFER_SAMPLES - count, count)

    def _from_start(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        start, count = two(parameters, Integer(0, BUFFER_SAMPLES - 1), Integer(1, BUFFER_SAMPLES))
        return self._data(suffixes, start, count)

    def _from_start_to_end(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        index = Integer(0, BUFFER_SAMPLES - 1)
        start, end = two(parameters, index, index)
        return self._data(suffixes, start, (end - start) % BUFFER_SAMPLES + 1)

    def _around_trigger(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        """Reply n samples before the trigger, after it, or both, and the one it falls on."""
        modes = Word("PRE_TRIG", "POST_TRIG", "PRE_POST_TRIG")
        count, mode = two(parameters, Integer(0, BUFFER_SAMPLES), modes)
        before = 0 if mode == "POST_TRIG" else count
        total = 2 * count + 1 if mode == "PRE_POST_TRIG" else count + 1
        start = (self._trigger_position() - before) % BUFFER_SAMPLES
        return self._data(suffixes, start, min(total, BUFFER_SAMPLES))

    def _data(self, suffixes: Suffixes, start: int, count: int) -> Reply:
        """Return samples from `start` on, around the end of the buffer if need be."""
        self._seek()
        number = _input(suffixes)
        if self._record is None or number not in self._record:
            raise ScpiError(-230, "nothing was acquired")
        volts = np.take(self._record[number], range(start, start + count), mode="wrap")
        acquisition = self._acquisition
        if acquisition.units == "VOLTS":
            return acquisition.format.encode(volts.astype(np.float32))
        return acquisition.format.encode(_codes(volts, RANGES_V[self._record_gains[number]]))


def _input(suffixes: Suffixes) -> int:
    if suffixes[0] not in (1, 2):
        raise ScpiError(-114)
    return suffixes[0]


def _count(parameter: Parameter) -> int:
    return Integer(1, BUFFER_SAMPLES).parse(parameter)


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ScpiError(-222)
    return value


def _factor(value: int) -> int:
    """Return a decimation: 1, 2, 4, 8 or any from 16 on (the documentation of ACQ:DEC:Factor)."""
    return value if value >= 16 else _power_of_two(value)


def _first_rise(volts: Volts, level_v: float, hysteresis_v: float) -> int | None:
    """Return where volts first reach the level after they were below it by the hysteresis."""
    armed = np.flatnonzero(volts < level_v - hysteresis_v)
    if not armed.size:
        return None
    reached = np.flatnonzero(volts[armed[0] :] >= level_v)
    return int(armed[0] + reached[0]) if reached.size else None


def _codes(volts: Volts, range_v: float) -> npt.NDArray[np.int16]:
    """Return the 14-bit codes of volts."""
    codes = np.rint(volts * np.float32(2 * HALF_SCALE_CODES / range_v))
    clipped: npt.NDArray[np.float32] = np.clip(codes, -HALF_SCALE_CODES, HALF_SCALE_CODES - 1)
    return clipped.astype(np.int16)
