"""Fast outputs of a Red Pitaya board: waveforms, bursts and frequency sweeps.

Source: docs/wire/red_pitaya.md, section Generator; the board's own server for words, defaults and
the forms of replies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from labctl.clock import Clock
from labctl.instruments.codecs.scpi import (
    Command,
    Parameters,
    Reply,
    Suffixes,
    action,
    none,
    only,
    setting,
)
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Integer, Kind, Number, T, Word
from labctl.instruments.simulated.panels.kept_settings import as_set
from labctl.instruments.simulated.panels.red_pitaya_values import (
    BUFFER_SAMPLES,
    CLOCK_HZ,
    FLOAT,
    DataFormat,
    Switch,
)
from labctl.instruments.simulated.panels.waveforms import Samples, standard_waveform
from labctl.instruments.simulated.ports import Drive, DrivePort

# Of a burst or sweep, 16 MB in single precision.
MOST_SAMPLES = 1 << 22
# Samples in a period of the highest frequency, so that slow sweeps stay short.
SWEEP_OVERSAMPLING = 64
_SHAPES = {"SINE": "SIN", "SQUARE": "SQU", "TRIANGLE": "TRI", "SAWU": "RAMP", "SAWD": "RAMP"}


@dataclass(frozen=True)
class Output:
    """Settings of one generator output."""

    on: bool = False
    shape: str = "SINE"
    amplitude_v: float = 1.0
    offset_v: float = 0.0
    frequency_hz: float = 1000.0
    phase_deg: float = 0.0
    duty_cycle: float = 0.5
    rise_us: float = 1.0
    fall_us: float = 1.0
    trace: tuple[float, ...] = (0.0,)
    trigger_source: str = "INT"
    mode: str = "CONTINUOUS"
    burst_cycles: int = 1
    bursts: int = 1
    burst_period_us: float = 1000.0
    first_v: float = 0.0
    last_v: float = 0.0
    sweep: bool = False
    sweep_start_hz: float = 1000.0
    sweep_stop_hz: float = 1000.0
    sweep_us: int = 1000
    sweep_mode: str = "LINEAR"
    sweep_direction: str = "NORMAL"
    sweep_endless: bool = True
    sweep_count: int = 1
    start_s: float = 0.0
    triggered: bool = False


class RedPitayaGenerator:
    """The outputs; each plays amplitude times shape plus offset, within +-1 V.

    A continuous waveform plays from OUTPUT:STATE ON on, a burst or sweep from SOUR:TRIG:INT on;
    with an external trigger source an output rests, since nothing is connected there. Rise and
    fall times are kept, but a `Drive` is the ideal signal. Assumed, not confirmed by a source: the
    limits of sweeps. A burst or sweep of more than 2**22 samples is refused (-221).
    """

    def __init__(self, clock: Clock, ports: Mapping[int, DrivePort]) -> None:
        self._clock, self._ports = clock, dict(ports)
        self._debounce_us = 500.0
        self.reset()

    def reset(self) -> None:
        """Switch the outputs off and forget their settings."""
        self._debounce_us = 500.0
        self._outputs = dict.fromkeys(self._ports, Output())
        for number in self._ports:
            self._play(number, self._outputs[number])

    def playing(self) -> bool:
        """Return whether any output is on."""
        return any(output.on for output in self._outputs.values())

    def commands(self) -> list[Command]:
        """Declare the commands of the outputs."""
        return [
            *self._signal_commands(),
            *self._trigger_commands(),
            *self._burst_commands(),
            *self._sweep_commands(),
        ]

    def _declare(
        self,
        node: str,
        kind: Kind[T],
        get: Callable[[Output], T],
        put: Callable[[Output, T], Output],
    ) -> Command:
        """Declare a setting of one output: how to read it and what the new settings are."""

        def adopt(suffixes: Suffixes, value: T) -> None:
            number = self._number(suffixes)
            self._adopt(number, put(self._outputs[number], value))

        return setting(node, kind, lambda n: get(self._outputs[self._number(n)]), adopt)

    def _signal_commands(self) -> list[Command]:
        shapes = Word(*_SHAPES, "PWM", "ARBITRARY", "DC", "DC_NEG")
        edge_us = Number("", 0.1, 1000.0, style=FLOAT)
        return [
            Command(":OUTPUT:STATE", self._switch_all),
            self._declare(":OUTPUT#:STATE", Switch(), lambda o: o.on, self._switched),
            self._declare(":SOUR#:FUNC", shapes, *as_set("shape")),
            self._declare(
                ":SOUR#:VOLT", Number("V", -1.0, 1.0, style=FLOAT), *as_set("amplitude_v")
            ),
            self._declare(
                ":SOUR#:VOLT:OFFS", Number("V", -1.0, 1.0, style=FLOAT), *as_set("offset_v")
            ),
            self._declare(
                ":SOUR#:FREQ:FIX", Number("HZ", 1e-3, 50e6, style=FLOAT), *as_set("frequency_hz")
            ),
            self._declare(
                ":SOUR#:PHAS", Number("DEG", -360.0, 360.0, style=FLOAT), *as_set("phase_deg")
            ),
            self._declare(":SOUR#:DCYC", Number("", 0.0, 1.0, style=FLOAT), *as_set("duty_cycle")),
            self._declare(":SOUR#:RISE:TIME", edge_us, *as_set("rise_us")),
            self._declare(":SOUR#:FALL:TIME", edge_us, *as_set("fall_us")),
            Command(":SOUR#:TRAC:DATA:DATA", self._put_trace, self._ask_trace),
            action(":GEN:RST", lambda _: self.reset()),
        ]

    def _trigger_commands(self) -> list[Command]:
        return [
            action(":PHAS:ALIGN", lambda _: self._start(*self._ports)),
            action(":SOUR:TRig:INT", lambda _: self._start(*self._ports)),
            action(":SOUR#:TRig:INT", lambda n: self._start(self._number(n))),
            action(":SOUR:TRig:INT:ONLY", lambda _: self._start(*self._ports)),
            action(":SOUR#:TRig:INT:ONLY", lambda n: self._start(self._number(n))),
            self._declare(
                ":SOUR#:TRig:SOUR",
                Word("INT", "EXT_PE", "EXT_NE", "GATED"),
                lambda o: o.trigger_source,
                lambda o, v: replace(o, trigger_source=v, triggered=False),
            ),
            setting(
                ":SOUR:TRig:EXT:DEBouncer[:US]",
                Number("", 0.0, 1e6, style=FLOAT),
                lambda _: self._debounce_us,
                self._put_debounce,
            ),
        ]

    def _burst_commands(self) -> list[Command]:
        count = Integer(1, 50_000)
        level_v = Number("V", -1.0, 1.0, style=FLOAT)

        def first(node: str) -> Command:
            return self._declare(node, level_v, *as_set("first_v"))

        return [
            self._declare(
                ":SOUR#:BURS:STAT",
                Word("CONTINUOUS", "BURST"),
                lambda o: o.mode,
                lambda o, v: replace(o, mode=v, triggered=False),
            ),
            self._declare(":SOUR#:BURS:NCYC", count, *as_set("burst_cycles")),
            self._declare(":SOUR#:BURS:NOR", count, *as_set("bursts")),
            self._declare(
                ":SOUR#:BURS:INT:PER", Number("", 1.0, 5e8, style=FLOAT), *as_set("burst_period_us")
            ),
            first(":SOUR#:BURS:INITValue"),
            first(":SOUR#:INITValue"),
            self._declare(":SOUR#:BURS:LASTValue", level_v, *as_set("last_v")),
        ]

    def _sweep_commands(self) -> list[Command]:
        frequency = Number("HZ", 1e-3, 50e6, style=FLOAT)
        return [
            self._declare(
                ":SOUR#:SWeep:STATE",
                Switch(),
                lambda o: o.sweep,
                lambda o, v: replace(o, sweep=v, triggered=False),
            ),
            self._declare(":SOUR#:SWeep:FREQ:START", frequency, *as_set("sweep_start_hz")),
            self._declare(":SOUR#:SWeep:FREQ:STOP", frequency, *as_set("sweep_stop_hz")),
            self._declare(":SOUR#:SWeep:TIME", Integer(1, 2**31 - 1), *as_set("sweep_us")),
            self._declare(":SOUR#:SWeep:MODE", Word("LINEAR", "LOG"), *as_set("sweep_mode")),
            self._declare(
                ":SOUR#:SWeep:DIR", Word("NORMAL", "UP_DOWN"), *as_set("sweep_direction")
            ),
            self._declare(":SOUR#:SWeep:REP:INF", Switch(), *as_set("sweep_endless")),
            self._declare(":SOUR#:SWeep:REP:COUNT", Integer(1, 2**31 - 1), *as_set("sweep_count")),
        ]

    def _number(self, suffixes: Suffixes) -> int:
        if suffixes[0] not in self._ports:
            raise ScpiError(-114)
        return suffixes[0]

    def _put_debounce(self, _: Suffixes, duration_us: float) -> None:
        self._debounce_us = duration_us

    def _switched(self, output: Output, on: bool) -> Output:
        return replace(output, on=on, triggered=False, start_s=self._clock.now_s())

    def _switch_all(self, _: Suffixes, parameters: Parameters) -> None:
        on = Switch().parse(only(parameters))
        for number, output in self._outputs.items():
            self._adopt(number, self._switched(output, on))

    def _start(self, *numbers: int) -> None:
        """Play from now on, also the bursts and sweeps that wait."""
        now_s = self._clock.now_s()
        for number in numbers:
            self._adopt(number, replace(self._outputs[number], start_s=now_s, triggered=True))

    def _put_trace(self, suffixes: Suffixes, parameters: Parameters) -> None:
        """Take one period of an arbitrary waveform, 2 to 16384 samples within +-1."""
        number = self._number(suffixes)
        if len(parameters) < 2:
            raise ScpiError(-109)
        if len(parameters) > BUFFER_SAMPLES:
            raise ScpiError(-222)
        kind = Number("", -1.0, 1.0)
        trace = tuple(kind.parse(parameter) for parameter in parameters)
        self._adopt(number, replace(self._outputs[number], trace=trace))

    def _ask_trace(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        none(parameters)
        trace = self._outputs[self._number(suffixes)].trace
        return DataFormat().encode(np.array(trace, dtype=np.float32))

    def _adopt(self, number: int, output: Output) -> None:
        """Play new settings, then keep them; raises ScpiError -221."""
        self._play(number, output)
        self._outputs[number] = output

    def _play(self, number: int, output: Output) -> None:
        self._ports[number].play(_drive(output) if output.on else None)


def _drive(output: Output) -> Drive:
    """Return what an output that is on plays; raises ScpiError -221 if it is too long."""
    waits = output.sweep or output.mode == "BURST" or output.trigger_source != "INT"
    if waits and not output.triggered:
        return _resting(output)
    if output.sweep:
        volts, rate_hz = _sweep(output)
        cycles = None if output.sweep_endless else output.sweep_count
        return Drive(volts, rate_hz, output.start_s, cycles, output.last_v)
    volts, rate_hz = _period(output)
    if output.mode == "BURST":
        return _burst(output, volts, rate_hz)
    return Drive(volts, rate_hz, output.start_s, None, float(volts[0]))


def _resting(output: Output) -> Drive:
    rest = np.full(1, output.first_v, np.float32)
    return Drive(rest, CLOCK_HZ, output.start_s, None, output.first_v)


def _burst(output: Output, volts: Samples, rate_hz: float) -> Drive:
    """Return the bursts, each with the rest up to the next one."""
    period = round(output.burst_period_us * 1e-6 * rate_hz)
    if period <= output.burst_cycles * volts.size:
        cycles = output.burst_cycles * output.bursts
        return Drive(volts, rate_hz, output.start_s, cycles, output.last_v)
    _check_length(period)
    burst = np.full(period, output.last_v, np.float32)
    burst[: output.burst_cycles * volts.size] = np.tile(volts, output.burst_cycles)
    return Drive(burst, rate_hz, output.start_s, output.bursts, output.last_v)


def _sweep(output: Output) -> tuple[Samples, float]:
    """Return one sweep in volts, and its sample rate in Hz."""
    start_hz, stop_hz = output.sweep_start_hz, output.sweep_stop_hz
    rate_hz = min(CLOCK_HZ, SWEEP_OVERSAMPLING * max(start_hz, stop_hz))
    count = max(round(output.sweep_us * 1e-6 * rate_hz), 1)
    _check_length(2 * count if output.sweep_direction == "UP_DOWN" else count)
    part = np.arange(count) / count
    if output.sweep_mode == "LOG":
        frequency_hz = start_hz * (stop_hz / start_hz) ** part
    else:
        frequency_hz = start_hz + (stop_hz - start_hz) * part
    if output.sweep_direction == "UP_DOWN":
        frequency_hz = np.concatenate((frequency_hz, frequency_hz[::-1]))
    turns = np.concatenate(([0.0], np.cumsum(frequency_hz[:-1]) / rate_hz))
    period, _ = _period(output)
    index = (np.floor(turns * period.size) % period.size).astype(np.intp)
    return period[index], rate_hz


def _check_length(samples: int) -> None:
    if samples > MOST_SAMPLES:
        raise ScpiError(-221, f"a signal of {samples} samples is too long")


def _period(output: Output) -> tuple[Samples, float]:
    """Return the volts of one period, and their sample rate in Hz."""
    unit, rate_hz = _unit_waveform(output)
    volts = unit * np.float32(output.amplitude_v) + np.float32(output.offset_v)
    return np.clip(volts, -1, 1).astype(np.float32), rate_hz


def _unit_waveform(output: Output) -> tuple[Samples, float]:
    """Return one period between -1 and +1, and its sample rate in Hz."""
    if output.shape in ("DC", "DC_NEG"):
        return np.full(1, 1.0 if output.shape == "DC" else -1.0, np.float32), CLOCK_HZ
    phase_rad = math.radians(output.phase_deg)
    if output.shape == "ARBITRARY":
        trace = np.array(output.trace, dtype=np.float32)
        shift = round(output.phase_deg / 360.0 * trace.size)
        return np.roll(trace, -shift), trace.size * output.frequency_hz
    if output.shape == "PWM":
        ramp, rate_hz = standard_waveform("RAMP", output.frequency_hz, phase_rad, CLOCK_HZ)
        # A ramp passes 0 at the start of its period and -1 in the middle of it.
        turns = np.where(ramp >= 0.0, ramp, ramp + 2.0) / 2.0
        return np.where(turns < output.duty_cycle, 1.0, -1.0).astype(np.float32), rate_hz
    shape = _SHAPES[output.shape]
    unit, rate_hz = standard_waveform(shape, output.frequency_hz, phase_rad, CLOCK_HZ)
    return (-unit if output.shape == "SAWD" else unit), rate_hz
