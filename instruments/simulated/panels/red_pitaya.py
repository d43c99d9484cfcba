"""Front panel of a Red Pitaya STEMlab 125-14 SCPI server: acquisition, generator and slow pins.

Source: the official Python client and its examples (github.com/RedPitaya/RedPitaya-Examples), in
agreement with the driver of PyMeasure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from labctl.clock import Clock
from labctl.instruments.codecs.ieee488 import encode_block, parse_error
from labctl.instruments.codecs.scpi import (
    SCPI_ERRORS,
    Command,
    Parameters,
    Reply,
    ScpiCore,
    Suffixes,
    action,
    only,
    readout,
    setting,
)
from labctl.instruments.codecs.scpi_status import ERROR_TEXTS, MESSAGE_WAITS, ScpiError
from labctl.instruments.codecs.scpi_values import Boolean, Integer, Kind, Number, Parameter, T, Word
from labctl.instruments.simulated.panels.waveforms import Samples, standard_waveform
from labctl.instruments.simulated.ports import (
    Capture,
    CaptureWindow,
    ChannelWindow,
    DigitizerPort,
    Drive,
    DrivePort,
    Volts,
)

U = TypeVar("U")

CLOCK_HZ = 125e6
BUFFER_SAMPLES = 16384
MIDDLE = BUFFER_SAMPLES // 2
HALF_SCALE_CODES = 8192
RANGES_V = {"LV": 2.0, "HV": 40.0}
DELAY_LIMITS = (-MIDDLE, 1 << 18)
EDGES = ("CH1_PE", "CH1_NE", "CH2_PE", "CH2_NE", "EXT_PE", "EXT_NE", "AWG_PE", "AWG_NE")
SOURCES = ("DISABLED", "NOW", *EDGES)
DIGITAL_PINS = tuple(f"LED{n}" for n in range(8)) + tuple(
    f"DIO{n}_{side}" for side in "PN" for n in range(8)
)
ANALOG_INPUTS = tuple(f"AIN{n}" for n in range(4))
ANALOG_OUTPUTS = tuple(f"AOUT{n}" for n in range(4))
_SHAPES = {"SINE": "SIN", "SQUARE": "SQU", "TRIANGLE": "TRI", "SAWU": "RAMP", "SAWD": "RAMP"}
_EVERYTHING = 1 << 30


@dataclass(frozen=True)
class Acquisition:
    """What ACQ:RST resets."""

    decimation: int = 1
    averaging: str = "ON"
    form: str = "ASCII"
    units: str = "VOLTS"
    byte_order: str = "BEND"
    source: str = "DISABLED"
    level_v: float = 0.0
    delay: int = 0
    started: bool = False


@dataclass(frozen=True)
class Output:
    """Settings of one generator output."""

    on: bool = False
    shape: str = "SINE"
    amplitude_v: float = 1.0
    offset_v: float = 0.0
    frequency_hz: float = 1000.0
    trace: tuple[float, ...] = (0.0,)
    start_s: float = 0.0


class RedPitayaPanel:
    """One board with two fast inputs; satisfies `FrontPanel`. Messages and replies end with CR NL.

    After ACQ:START and ACQ:TRIG, in either order, a record of 16384 samples is taken: at once
    (NOW), at the first edge that a query finds within one record's length (CH1, CH2), at the
    digitizer's trigger (EXT), or when an output plays (AWG). Its end lies 8192 + ACQ:TRIG:DLY
    samples after the trigger, so 0 has the trigger in the middle. The oldest sample is
    number 0 of the buffer. An output plays amplitude times shape plus offset, within +-1 V.
    ACQ:AVG is kept only: the digitizer port takes a sample rate. Inputs AIN read `analog_inputs_v`,
    0 V where nothing is connected. Assumed, not confirmed by a source: the identity, the digits of
    ASCII numbers and replies, ACQ:WPOS? 0, decimations as powers of two only, error replies in
    the style of SCPI-99. ACQ:SOUR:DATA:TRIG, delays in ns, deep memory, bursts, and the board's
    date and time are not fitted.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        digitizer: DigitizerPort,
        outputs: Mapping[int, DrivePort],
        *,
        identity: str = "REDPITAYA,INSTR2020,0,01-02",
        board: str = "STEMlab 125-14",
        analog_inputs_v: Mapping[int, float] | None = None,
    ) -> None:
        self.name, self._clock, self._digitizer = name, clock, digitizer
        self._ports = dict(outputs)
        self._analog_inputs_v = dict(analog_inputs_v or {})
        self._board = board
        self._pending = b""
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            error_style=SCPI_ERRORS,
            message_bytes=1 << 20,
        )
        self.read_timed_out = self._scpi.read_timed_out
        self._reset()

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host."""
        if end and self._pending:
            self._pending = b""
            self._scpi.status.fault(ScpiError(-410))
        self._scpi.write(data, end=end)

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the oldest reply, and whether it ends with them."""
        if not self._pending:
            reply = self._scpi.read(_EVERYTHING)[0]
            self._pending = reply[:-1] + b"\r\n" if reply else b""
        chunk, self._pending = self._pending[:limit], self._pending[limit:]
        return chunk, bool(chunk) and not self._pending

    def clear(self) -> None:
        """Device clear: drop input and output that wait."""
        self._pending = b""
        self._scpi.clear()

    def status_byte(self) -> int:
        """Return the status byte."""
        return self._scpi.status_byte() | (MESSAGE_WAITS if self._pending else 0)

    def _reset(self) -> None:
        self._gains = {1: "LV", 2: "LV"}
        self._reset_acquisition()
        self._reset_pins()
        self._outputs = dict.fromkeys(self._ports, Output())
        for number in self._ports:
            self._play(number)

    def _reset_acquisition(self) -> None:
        self._digitizer.disarm()
        self._acquisition = Acquisition()
        self._record: Capture | None = None
        self._record_gains = dict(self._gains)
        self._expected: CaptureWindow | None = None
        self._waiting = False
        self._full_s = math.inf

    def _reset_pins(self) -> None:
        self._pins = dict.fromkeys(DIGITAL_PINS, False)
        self._directions = dict.fromkeys(DIGITAL_PINS[8:], "IN")
        self._analog_v = dict.fromkeys(ANALOG_OUTPUTS, 0.0)

    def _commands(self) -> list[Command]:
        return [
            *self._acquisition_commands(),
            *self._trigger_commands(),
            *self._data_commands(),
            *self._output_commands(),
            *self._pin_commands(),
            readout(":SYSTem:ERRor:COUNt", lambda _: str(self._count_errors())),
            readout(":SYSTem:BRD:NAME", lambda _: self._board),
        ]

    def _acquiring(
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
            action(":ACQ:RST", lambda _: self._reset_acquisition()),
            action(":ACQ:START", lambda _: self._start()),
            action(":ACQ:STOP", lambda _: self._stop()),
            self._acquiring(
                ":ACQ:DEC[:FACTOR]",
                Integer(1, 65536),
                lambda a: a.decimation,
                lambda a, value: replace(a, decimation=_power_of_two(value)),
            ),
            self._acquiring(
                ":ACQ:AVG",
                Word("ON", "OFF"),
                lambda a: a.averaging,
                lambda a, word: replace(a, averaging=word),
            ),
            self._acquiring(
                ":ACQ:DATA:FORMAT",
                Word("ASCII", "BIN"),
                lambda a: a.form,
                lambda a, word: replace(a, form=word),
            ),
            self._acquiring(
                ":ACQ:DATA:UNITS",
                Word("VOLTS", "RAW"),
                lambda a: a.units,
                lambda a, word: replace(a, units=word),
            ),
            self._acquiring(
                ":ACQ:DATA:BYTE:ORDER",
                Word("BEND", "LEND"),
                lambda a: a.byte_order,
                lambda a, word: replace(a, byte_order=word),
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
            Command(":ACQ:TRIG", self._put_source),
            self._acquiring(
                ":ACQ:TRIG:LEV",
                Number("V", -20.0, 20.0, style="{:.6f}"),
                lambda a: a.level_v,
                lambda a, level_v: replace(a, level_v=level_v),
            ),
            self._acquiring(
                ":ACQ:TRIG:DLY",
                Integer(*DELAY_LIMITS),
                lambda a: a.delay,
                lambda a, delay: replace(a, delay=delay),
            ),
            readout(":ACQ:TRIG:STAT", lambda _: self._trigger_state()),
            readout(":ACQ:TRIG:FILL", lambda _: self._filled()),
            readout(":ACQ:TPOS", lambda _: self._trigger_position()),
            readout(":ACQ:WPOS", lambda _: "0"),
        ]

    def _data_commands(self) -> list[Command]:
        data = ":ACQ:SOUR#:DATA"
        return [
            readout(data, lambda n: self._data(n, 0, BUFFER_SAMPLES)),
            Command(f"{data}:OLD:N", ask=lambda n, p: self._data(n, 0, _count(only(p)))),
            Command(f"{data}:LATest:N", ask=self._latest),
            Command(f"{data}:STArt:N", ask=self._from_start),
            Command(f"{data}:STArt:END", ask=self._from_start_to_end),
        ]

    def _output_commands(self) -> list[Command]:
        def declare(
            pattern: str,
            kind: Kind[T],
            get: Callable[[Output], T],
            put: Callable[[Output, T], Output],
        ) -> Command:
            def adopt(suffixes: Suffixes, value: T) -> None:
                number = self._number(suffixes)
                self._outputs[number] = put(self._outputs[number], value)
                self._play(number)

            return setting(pattern, kind, lambda n: get(self._outputs[self._number(n)]), adopt)

        return [
            declare(":OUTPUT#:STATE", Boolean(), lambda o: o.on, self._switched),
            declare(
                ":SOUR#:FUNC",
                Word(*_SHAPES, "ARBITRARY", "DC"),
                lambda o: o.shape,
                lambda o, shape: replace(o, shape=shape),
            ),
            declare(
                ":SOUR#:VOLT",
                Number("V", 0.0, 1.0, style="{:.6f}"),
                lambda o: o.amplitude_v,
                lambda o, amplitude_v: replace(o, amplitude_v=amplitude_v),
            ),
            declare(
                ":SOUR#:VOLT:OFFS",
                Number("V", -1.0, 1.0, style="{:.6f}"),
                lambda o: o.offset_v,
                lambda o, offset_v: replace(o, offset_v=offset_v),
            ),
            declare(
                ":SOUR#:FREQ:FIX",
                Number("HZ", 1e-3, 50e6, style="{:.6f}"),
                lambda o: o.frequency_hz,
                lambda o, frequency_hz: replace(o, frequency_hz=frequency_hz),
            ),
            Command(":SOUR#:TRAC:DATA:DATA", self._put_trace),
            action(":SOUR#:TRIG:INT", self._restart),
        ]

    def _pin_commands(self) -> list[Command]:
        return [
            action(":DIG:RST", lambda _: self._reset_pins()),
            action(":ANALOG:RST", lambda _: self._reset_pins()),
            Command(":DIG:PIN", self._put_pin, self._ask_pin),
            Command(":DIG:PIN:DIR", self._put_direction, self._ask_direction),
            Command(":ANALOG:PIN", self._put_analog, self._ask_analog),
        ]

    def _count_errors(self) -> int:
        """Count the errors that wait: take all off the queue and put them back."""
        status = self._scpi.status
        event, found = status.event, []
        while (error := parse_error(status.next_error()))[0] != 0:
            found.append(error)
        for code, text in found:
            standard = ERROR_TEXTS.get(code, "")
            status.fault(ScpiError(code, text.removeprefix(standard).removeprefix("; ")))
        status.event = event
        return len(found)

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
        rate_hz = CLOCK_HZ / self._acquisition.decimation
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
            if any(output.on for output in self._outputs.values()):
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
        source = self._acquisition.source
        above = capture[int(source[2])][lead : lead + BUFFER_SAMPLES] >= self._acquisition.level_v
        edges = above[1:] & ~above[:-1] if source.endswith("PE") else above[:-1] & ~above[1:]
        if edges.any():
            first = lead + int(np.argmax(edges)) + 1 + start
            record = {n: v[first : first + BUFFER_SAMPLES].copy() for n, v in capture.items()}
            self._store(window, record)

    def _trigger_state(self) -> str:
        self._seek()
        return "WAIT" if self._waiting else "TD"

    def _trigger_position(self) -> str:
        return str((MIDDLE - self._acquisition.delay) % BUFFER_SAMPLES)

    def _filled(self) -> str:
        self._seek()
        return "1" if self._record is not None and self._clock.now_s() >= self._full_s else "0"

    def _latest(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        count = _count(only(parameters))
        return self._data(suffixes, BUFFER_SAMPLES - count, count)

    def _from_start(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        start, count = _two(parameters, Integer(0, BUFFER_SAMPLES - 1), Integer(1, BUFFER_SAMPLES))
        return self._data(suffixes, start, count)

    def _from_start_to_end(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        index = Integer(0, BUFFER_SAMPLES - 1)
        start, end = _two(parameters, index, index)
        return self._data(suffixes, start, (end - start) % BUFFER_SAMPLES + 1)

    def _data(self, suffixes: Suffixes, start: int, count: int) -> Reply:
        """Return samples from `start` on, around the end of the buffer if need be."""
        self._seek()
        number = _input(suffixes)
        if self._record is None or number not in self._record:
            raise ScpiError(-230, "nothing was acquired")
        volts = np.take(self._record[number], range(start, start + count), mode="wrap")
        binary = self._acquisition.form == "BIN"
        order = "<" if self._acquisition.byte_order == "LEND" else ">"
        if self._acquisition.units == "VOLTS":
            block = encode_block(volts.astype(f"{order}f4").tobytes())
            return block if binary else _braces(volts, "{:.6f}")
        codes = _codes(volts, RANGES_V[self._record_gains[number]])
        block = encode_block(codes.astype(f"{order}i2").tobytes())
        return block if binary else _braces(codes, "{:d}")

    def _number(self, suffixes: Suffixes) -> int:
        if suffixes[0] not in self._ports:
            raise ScpiError(-114)
        return suffixes[0]

    def _switched(self, output: Output, on: bool) -> Output:
        return replace(output, on=on, start_s=self._clock.now_s())

    def _restart(self, suffixes: Suffixes) -> None:
        number = self._number(suffixes)
        self._outputs[number] = replace(self._outputs[number], start_s=self._clock.now_s())
        self._play(number)

    def _put_trace(self, suffixes: Suffixes, parameters: Parameters) -> None:
        """Take one period of an arbitrary waveform, 2 to 16384 samples within +-1."""
        number = self._number(suffixes)
        if len(parameters) < 2:
            raise ScpiError(-109)
        if len(parameters) > BUFFER_SAMPLES:
            raise ScpiError(-222)
        kind = Number("", -1.0, 1.0)
        trace = tuple(kind.parse(parameter) for parameter in parameters)
        self._outputs[number] = replace(self._outputs[number], trace=trace)
        self._play(number)

    def _play(self, number: int) -> None:
        output = self._outputs[number]
        if not output.on:
            self._ports[number].play(None)
            return
        unit, rate_hz = _unit_waveform(output)
        volts = np.clip(unit * np.float32(output.amplitude_v) + np.float32(output.offset_v), -1, 1)
        samples = volts.astype(np.float32)
        drive = Drive(samples, rate_hz, output.start_s, None, float(samples[0]))
        self._ports[number].play(drive)

    def _put_pin(self, _: Suffixes, parameters: Parameters) -> None:
        pin, state = _two(parameters, Word(*DIGITAL_PINS), Boolean())
        self._pins[pin] = state

    def _ask_pin(self, _: Suffixes, parameters: Parameters) -> Reply:
        return f"{self._pins[Word(*DIGITAL_PINS).parse(only(parameters))]:d}"

    def _put_direction(self, _: Suffixes, parameters: Parameters) -> None:
        direction, pin = _two(parameters, Word("IN", "OUT"), Word(*DIGITAL_PINS[8:]))
        self._directions[pin] = direction

    def _ask_direction(self, _: Suffixes, parameters: Parameters) -> Reply:
        return self._directions[Word(*DIGITAL_PINS[8:]).parse(only(parameters))]

    def _put_analog(self, _: Suffixes, parameters: Parameters) -> None:
        pin, voltage_v = _two(parameters, Word(*ANALOG_OUTPUTS), Number("V", 0.0, 1.8))
        self._analog_v[pin] = voltage_v

    def _ask_analog(self, _: Suffixes, parameters: Parameters) -> Reply:
        pin = Word(*ANALOG_INPUTS, *ANALOG_OUTPUTS).parse(only(parameters))
        if pin in self._analog_v:
            return f"{self._analog_v[pin]:.6f}"
        return f"{self._analog_inputs_v.get(int(pin[3:]), 0.0):.6f}"


def _input(suffixes: Suffixes) -> int:
    if suffixes[0] not in (1, 2):
        raise ScpiError(-114)
    return suffixes[0]


def _count(parameter: Parameter) -> int:
    return Integer(1, BUFFER_SAMPLES).parse(parameter)


def _two(parameters: Parameters, first: Kind[T], second: Kind[U]) -> tuple[T, U]:
    """Read the two parameters there must be; raises ScpiError -109 or -108."""
    if len(parameters) != 2:
        raise ScpiError(-109 if len(parameters) < 2 else -108)
    return first.parse(parameters[0]), second.parse(parameters[1])


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ScpiError(-222)
    return value


def _codes(volts: Volts, range_v: float) -> npt.NDArray[np.int16]:
    """Return the 14-bit codes of volts."""
    codes = np.rint(volts * np.float32(2 * HALF_SCALE_CODES / range_v))
    clipped: npt.NDArray[np.float32] = np.clip(codes, -HALF_SCALE_CODES, HALF_SCALE_CODES - 1)
    return clipped.astype(np.int16)


def _braces(values: Volts | npt.NDArray[np.int16], style: str) -> str:
    return "{" + ",".join(map(style.format, values.tolist())) + "}"


def _unit_waveform(output: Output) -> tuple[Samples, float]:
    """Return one period between -1 and +1, and its sample rate in Hz."""
    if output.shape == "DC":
        return np.ones(1, np.float32), CLOCK_HZ
    if output.shape == "ARBITRARY":
        trace = np.array(output.trace, dtype=np.float32)
        return trace, trace.size * output.frequency_hz
    unit, rate_hz = standard_waveform(_SHAPES[output.shape], output.frequency_hz, 0.0, CLOCK_HZ)
    return (-unit if output.shape == "SAWD" else unit), rate_hz
