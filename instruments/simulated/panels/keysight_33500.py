"""Front panel of a Keysight 33500B function generator: SCPI in, drive waveforms out.

Source: docs/wire/keysight_33512b.md, sections Identity, Output, Arbitrary waveforms, Triggers and
bursts and Assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from labctl.clock import Clock
from labctl.instruments.codecs.scpi import (
    Command,
    Do,
    Parameters,
    Reply,
    ScpiCore,
    Suffixes,
    action,
    none,
    only,
    readout,
    setting,
)
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import (
    Boolean,
    Kind,
    Number,
    T,
    Text,
    Word,
    spellings,
)
from labctl.instruments.simulated.panels.arbitrary_memory import ArbitraryMemory
from labctl.instruments.simulated.panels.generator_commands import (
    INFINITE,
    ROOT,
    burst_commands,
    mode_commands,
    shape_commands,
    trigger_commands,
)
from labctl.instruments.simulated.panels.generator_settings import (
    LARGEST_OPEN_V,
    Settings,
    divider,
)
from labctl.instruments.simulated.panels.generator_system import GeneratorSystem
from labctl.instruments.simulated.panels.kept_settings import as_set
from labctl.instruments.simulated.panels.waveforms import (
    Samples,
    noise_waveform,
    rms_of_unit,
    standard_waveform,
)
from labctl.instruments.simulated.ports import Drive, DrivePort, TriggerPort

SHAPES = ("SINusoid", "SQUare", "TRIangle", "RAMP", "PULSe", "NOISe", "ARBitrary", "DC")
LEVEL = Number("V", -LARGEST_OPEN_V, LARGEST_OPEN_V, 0.0)


class Keysight33500Panel:
    """A generator with one output per entry of `outputs`; satisfies `FrontPanel`.

    `connected_load_ohm` is the true load of the outputs: a load setting that differs from it
    scales the voltages as it does on a bench. *TRG starts the bursts of the outputs whose trigger
    source is BUS, then fires `trigger_out`; pulses on `trigger_in` start those whose source is
    EXT. A trigger that nothing waits for, or during a burst, is ignored (-211). With trigger
    source IMM a burst repeats every BURS:INT:PER, with TIM every TRIG:TIM; gated bursts are
    refused (-221), since nothing gates. An uploaded waveform plays -1..+1 as offset +- VOLT/2.
    Assumed, not confirmed by a source: at least 8 points, names of at most 12 characters, error
    786 for a name that exists, *RST emptying the volatile memory, 10 V as the largest open-circuit
    peak. FUNC:ARB:FILT and the edges of pulses are kept, but a `Drive` is the ideal signal before
    any filter. PRBS, modulation, sweeps, sequences and mass memory are not fitted.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        outputs: Mapping[int, DrivePort],
        trigger_out: TriggerPort | None = None,
        trigger_in: TriggerPort | None = None,
        *,
        model: str = "33512B",
        serial: str = "MY52302264",
        firmware: str = "3.03-1.19-2.00-52-00",
        memory_samples: int = 16_000_000,
        max_sample_rate_hz: float = 160e6,
        max_frequency_hz: float = 20e6,
        connected_load_ohm: float = 50.0,
        noise_seed: int = 0,
    ) -> None:
        self.name, self._clock = name, clock
        self._ports, self._trigger_out = dict(outputs), trigger_out
        self._memory_samples, self._max_rate_hz = memory_samples, max_sample_rate_hz
        self._max_frequency_hz, self._noise_seed = max_frequency_hz, noise_seed
        self._frequency = Number("HZ", 1e-6, max_frequency_hz, 1e3)
        self._connected = divider(connected_load_ohm)
        self._system = GeneratorSystem(self._ports)
        self._scpi = ScpiCore(
            self._commands(),
            identity=f"Agilent Technologies,{model},{serial},{firmware}",
            reset=self._reset,
            trigger=self._bus_trigger,
            busy=self._bursting,
            message_bytes=16 * memory_samples + (1 << 20),
        )
        self.write, self.read = self._scpi.write, self._scpi.read
        self.clear, self.status_byte = self._scpi.clear, self._scpi.status_byte
        self.serial_poll = self._scpi.serial_poll
        self.read_timed_out = self._scpi.read_timed_out
        self.power_cycle = self._scpi.power_cycle
        if trigger_in is not None:
            trigger_in.listen(self._external_trigger)
        self._reset()

    def _reset(self) -> None:
        self._system.reset()
        self._settings = {number: Settings() for number in self._ports}
        self._memory = {number: ArbitraryMemory(self._memory_samples) for number in self._ports}
        self._start_s = dict.fromkeys(self._ports, 0.0)
        self._busy_until_s = dict.fromkeys(self._ports, -math.inf)
        self._volts: dict[int, tuple[Samples, float]] = {}
        self._swapped = False
        for port in self._ports.values():
            port.play(None)

    def _commands(self) -> list[Command]:
        return [
            *self._signal_commands(),
            *self._level_commands(),
            *self._waveform_commands(),
            *shape_commands(self._setting, self._max_frequency_hz),
            *burst_commands(self._setting),
            *trigger_commands(self._setting),
            *mode_commands(self._setting),
            *self._apply_commands(),
            *self._system.commands(),
        ]

    def _setting(
        self,
        pattern: str,
        kind: Kind[T],
        get: Callable[[Settings], T],
        put: Callable[[Settings, T], Settings],
    ) -> Command:
        """Declare a setting of one output: how to read it and what the new settings are."""
        return setting(
            pattern,
            kind,
            lambda n: get(self._of(n)),
            lambda n, value: self._adopt(n, put(self._of(n), value)),
        )

    def _signal_commands(self) -> list[Command]:
        return [
            self._setting(f"{ROOT}:FUNCtion", Word(*SHAPES), *as_set("function")),
            self._setting(
                f"{ROOT}:FREQuency",
                self._frequency,
                lambda s: s.frequency_hz,
                lambda s, frequency_hz: s.with_frequency(frequency_hz),
            ),
            self._setting(f"{ROOT}:PHASe", Number("DEG", -360.0, 360.0, 0.0), *as_set("phase_deg")),
            self._setting(":OUTPut#", Boolean(), *as_set("on")),
            self._setting(
                ":OUTPut#:LOAD",
                Number("OHM", 1.0, 10e3, 50.0, words=INFINITE),
                lambda s: s.load_ohm,
                lambda s, load_ohm: s.with_load(load_ohm),
            ),
            self._setting(":OUTPut#:POLarity", Word("NORMal", "INVerted"), *as_set("polarity")),
            action(f"{ROOT}:PHASe:SYNChronize", lambda _: self._synchronise()),
        ]

    def _level_commands(self) -> list[Command]:
        return [
            Command(f"{ROOT}:VOLTage", self._put_amplitude, self._ask_amplitude),
            self._setting(f"{ROOT}:VOLTage:OFFSet", LEVEL, *as_set("offset_v")),
            self._setting(
                f"{ROOT}:VOLTage:HIGH",
                LEVEL,
                lambda s: s.high_v,
                lambda s, high_v: s.between(s.low_v, high_v),
            ),
            self._setting(
                f"{ROOT}:VOLTage:LOW",
                LEVEL,
                lambda s: s.low_v,
                lambda s, low_v: s.between(low_v, s.high_v),
            ),
            self._setting(
                f"{ROOT}:VOLTage:UNIT",
                Word("VPP", "VRMS", "DBM"),
                lambda s: s.unit,
                lambda s, unit: s.with_unit(unit),
            ),
        ]

    def _waveform_commands(self) -> list[Command]:
        rate = Number("SA/S", 1e-6, self._max_rate_hz, 40e3)
        return [
            Command(f"{ROOT}:DATA:ARBitrary", lambda n, p: self._upload(n, p, dac=False)),
            Command(f"{ROOT}:DATA:ARBitrary:DAC", lambda n, p: self._upload(n, p, dac=True)),
            action(f"{ROOT}:DATA:VOLatile:CLEar", self._clear_memory),
            readout(f"{ROOT}:DATA:VOLatile:CATalog", self._catalogue),
            readout(f"{ROOT}:DATA:VOLatile:FREE", lambda n: f"{self._memory_of(n).free:+d}"),
            setting(
                ":FORMat:BORDer",
                Word("NORMal", "SWAPped"),
                lambda _: "SWAP" if self._swapped else "NORM",
                lambda _, order: self._put_order(order),
            ),
            setting(
                f"{ROOT}:FUNCtion:ARBitrary",
                Text(),
                lambda n: self._of(n).waveform,
                self._select,
            ),
            self._setting(f"{ROOT}:FUNCtion:ARBitrary:SRATe", rate, *as_set("sample_rate_hz")),
            self._setting(
                f"{ROOT}:FUNCtion:ARBitrary:FILTer",
                Word("NORMal", "STEP", "OFF"),
                *as_set("filter"),
            ),
            self._setting(
                f"{ROOT}:FUNCtion:ARBitrary:PTPeak",
                Number("V", 0.0, 2.0 * LARGEST_OPEN_V, 0.1),
                *as_set("amplitude_vpp"),
            ),
        ]

    def _apply_commands(self) -> list[Command]:
        return [
            Command(f"{ROOT}:APPLy", ask=self._applied),
            *(Command(f"{ROOT}:APPLy:{shape}", self._applying(shape)) for shape in SHAPES),
        ]

    def _applying(self, shape: str) -> Do:
        """Return the command that plays a shape: [frequency [, amplitude [, offset]]]."""
        function = spellings(shape)[0]

        def do(suffixes: Suffixes, parameters: Parameters) -> None:
            none(parameters[3:])
            new = replace(self._of(suffixes), function=function, on=True, burst=False)
            if parameters:
                new = new.with_frequency(self._frequency.parse(parameters[0]))
            if len(parameters) > 1:
                vpp = new.parse_amplitude(parameters[1], self._rms(suffixes))
                new = replace(new, amplitude_vpp=vpp)
            if len(parameters) > 2:
                new = replace(new, offset_v=LEVEL.parse(parameters[2]))
            self._adopt(suffixes, new)

        return do

    def _applied(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        none(parameters)
        s = self._of(suffixes)
        amplitude = s.in_unit(s.amplitude_vpp, self._rms(suffixes))
        values = (s.frequency_hz, amplitude, s.offset_v)
        return f'"{s.function} {",".join(map(LEVEL.format, values))}"'

    def _number(self, suffixes: Suffixes) -> int:
        if suffixes[0] not in self._ports:
            raise ScpiError(-114)
        return suffixes[0]

    def _of(self, suffixes: Suffixes) -> Settings:
        return self._settings[self._number(suffixes)]

    def _memory_of(self, suffixes: Suffixes) -> ArbitraryMemory:
        return self._memory[self._number(suffixes)]

    def _adopt(self, suffixes: Suffixes, new: Settings) -> None:
        """Check new settings, then keep and play them; raises ScpiError -221 or -222."""
        new.check_levels()
        number = self._number(suffixes)
        if new.timing() != self._settings[number].timing():
            self._start_s[number] = self._clock.now_s()
        self._settings[number] = new
        self._volts.pop(number, None)
        self._play(number)

    def _put_amplitude(self, suffixes: Suffixes, parameters: Parameters) -> None:
        settings = self._of(suffixes)
        vpp = settings.parse_amplitude(only(parameters), self._rms(suffixes))
        self._adopt(suffixes, replace(settings, amplitude_vpp=vpp))

    def _ask_amplitude(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        settings = self._of(suffixes)
        kind = settings.amplitude_limits()
        vpp = kind.limit(only(parameters)) if parameters else settings.amplitude_vpp
        return kind.format(settings.in_unit(vpp, self._rms(suffixes)))

    def _rms(self, suffixes: Suffixes) -> float:
        settings = self._of(suffixes)
        if settings.unit == "VPP" and settings.function == "ARB":
            return 1.0
        return rms_of_unit(settings.function, self._memory_of(suffixes).get(settings.waveform))

    def _upload(self, suffixes: Suffixes, parameters: Parameters, *, dac: bool) -> None:
        self._memory_of(suffixes).upload(parameters, dac=dac, swapped=self._swapped)

    def _clear_memory(self, suffixes: Suffixes) -> None:
        self._memory_of(suffixes).clear()
        self._adopt(suffixes, replace(self._of(suffixes), waveform=""))

    def _catalogue(self, suffixes: Suffixes) -> str:
        return ",".join(f'"{name}"' for name in self._memory_of(suffixes).names()) or '""'

    def _select(self, suffixes: Suffixes, name: str) -> None:
        if self._memory_of(suffixes).get(name.upper()) is None:
            raise ScpiError(-224, name[:32])
        self._adopt(suffixes, replace(self._of(suffixes), waveform=name.upper()))

    def _put_order(self, order: str) -> None:
        self._swapped = order == "SWAP"

    def _synchronise(self) -> None:
        now_s = self._clock.now_s()
        for number in self._ports:
            self._start_s[number] = now_s
            self._play(number)

    def _play(self, number: int) -> None:
        """Put on the connector what the settings say, up to the trigger of a burst."""
        settings = self._settings[number]
        self._busy_until_s[number] = -math.inf
        if not settings.on:
            self._ports[number].play(None)
            return
        volts, rate_hz = self._waveform(number)
        if settings.burst and settings.trigger_source in ("BUS", "EXT"):
            volts = volts[:1]
        elif settings.burst:
            volts = self._repeating_burst(settings, volts, rate_hz)
        idle_v = float(volts[0])
        self._ports[number].play(Drive(volts, rate_hz, self._start_s[number], None, idle_v))

    def _repeating_burst(self, settings: Settings, volts: Samples, rate_hz: float) -> Samples:
        """Return one period of a burst with the rest up to the next one."""
        period = round(settings.repetition_s() * rate_hz)
        if settings.cycles * volts.size >= period:
            return volts
        if period > max(self._memory_samples, volts.size):
            self._scpi.status.fault(ScpiError(-221, "burst period is too long for this rate"))
            return volts[:1]
        burst = np.tile(volts, int(settings.cycles))
        return np.pad(burst, (0, period - burst.size), constant_values=float(volts[0]))

    def _waveform(self, number: int) -> tuple[Samples, float]:
        """Return the volts of one period into the connected load, and their sample rate."""
        if number not in self._volts:
            settings = self._settings[number]
            unit_samples, rate_hz = self._unit_waveform(number, settings)
            ratio = self._connected / divider(settings.load_ohm)
            polarity = -1.0 if settings.polarity == "INV" else 1.0
            scale = np.float32(polarity * settings.amplitude_vpp / 2.0 * ratio)
            offset_v = np.float32(settings.offset_v * ratio)
            plain = scale == 1.0 and offset_v == 0.0
            volts = unit_samples if plain else unit_samples * scale + offset_v
            self._volts[number] = (volts, rate_hz)
        return self._volts[number]

    def _unit_waveform(self, number: int, settings: Settings) -> tuple[Samples, float]:
        function, phase_deg = settings.function, settings.start_phase_deg()
        uploaded = self._memory[number].get(settings.waveform)
        if function == "ARB" and uploaded is not None:
            turn = round(phase_deg / 360.0 * uploaded.size)
            return np.roll(uploaded, -turn) if turn else uploaded, settings.sample_rate_hz
        if function in ("ARB", "DC"):
            return np.zeros(1, np.float32), settings.sample_rate_hz
        if function == "NOIS":
            return noise_waveform(self._noise_seed + number), self._max_rate_hz
        return standard_waveform(
            function,
            settings.frequency_hz,
            math.radians(phase_deg),
            self._max_rate_hz,
            high=settings.high_part(),
            symmetry=settings.symmetry_pct / 100.0,
        )

    def _bus_trigger(self) -> None:
        """Start the bursts that wait for *TRG, then pulse the trigger output."""
        started = self._start_bursts("BUS", self._clock.now_s())
        if not started:
            raise ScpiError(-211)
        if self._trigger_out is not None:
            self._trigger_out.fire()

    def _bursting(self) -> bool:
        """Return whether a burst that *TRG started, and that ends, is still running."""
        now_s = self._clock.now_s()
        return any(
            settings.burst
            and settings.trigger_source == "BUS"
            and now_s < self._busy_until_s[number] < math.inf
            for number, settings in self._settings.items()
        )

    def _external_trigger(self, time_s: float) -> None:
        self._start_bursts("EXT", time_s)

    def _start_bursts(self, source: str, time_s: float) -> bool:
        waiting = [
            number
            for number, settings in self._settings.items()
            if settings.on and settings.burst and settings.trigger_source == source
            if time_s >= self._busy_until_s[number]
        ]
        for number in waiting:
            self._start_burst(number, time_s)
        return bool(waiting)

    def _start_burst(self, number: int, time_s: float) -> None:
        settings = self._settings[number]
        volts, rate_hz = self._waveform(number)
        start_s = time_s + settings.trigger_delay_s
        endless = settings.cycles == math.inf
        cycles = None if endless else int(settings.cycles)
        self._busy_until_s[number] = start_s + settings.cycles * volts.size / rate_hz
        self._ports[number].play(Drive(volts, rate_hz, start_s, cycles, float(volts[0])))
