"""Front panel of a Keysight N7776C swept laser, or one in a slot of an 8164B: SCPI in, light out.

Source: Keysight N777xC Programming Guide N7770-90C02 and 816x Programming Guide, in agreement with
the drivers of PyMeasure and LabExT.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

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
    only,
    readout,
    setting,
)
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Boolean, Integer, Kind, Number, T, Word
from labctl.instruments.simulated.panels.optical_values import (
    DBM,
    LongNumber,
    PowerUnit,
    format_power,
    long_number,
    parse_power_w,
)
from labctl.instruments.simulated.panels.wavelength_sweep import SweepRun, WavelengthSweep
from labctl.instruments.simulated.ports import LaserPort
from labctl.units import db_to_ratio, wavelength_to_frequency_hz

PIN = "1234"
SMALLEST_STEP_M = 0.1e-12
SWEEP_TIME_LIMITS_S = (1e-3, 1e5)
SPEEDS_M_S = (0.5e-9, 1e-9, 50e-9, 80e-9, 200e-9)
_SOURCE = "[:SOURce#][:CHANnel#]"
_SWEEP = f"{_SOURCE}:WAVelength:SWEep"
_FAULTS = {
    368: "end wavelength <= start wavelength",
    369: "sweep time too small",
    370: "sweep time too big",
    371: "trigger frequency too large",
    372: "step too small",
    373: "number of triggers exceeds allowed limit",
    374: "lambda logging and modulation",
    375: "lambda logging only works with step finished output trigger",
    376: "lambda logging only works in continuous sweep mode",
    377: "step is no multiple of the smallest one",
    380: "start wavelength too small",
    381: "end wavelength too large",
}


@dataclass(frozen=True)
class Settings:
    """What *RST resets; wavelengths in m, powers in W."""

    wavelength_m: float
    power_w: float
    start_m: float
    stop_m: float
    speed_m_s: float
    unit: int = DBM
    on: bool = False
    attenuation_db: float = 0.0
    auto_attenuation: bool = True
    modulated: bool = False
    step_m: float = 1e-9
    mode: str = "STEP"
    cycles: int = 1
    dwell_s: float = 0.1
    repeat: str = "ONEW"
    logging: bool = False
    trigger_out: str = "DIS"
    trigger_in: str = "IGN"
    trigger_path: str = "DEF"


class KeysightN7776CPanel:
    """One swept laser; satisfies `FrontPanel`. Its frequency follows a sweep at every message.

    `slot` is the index of the source: 0 for an N777x and for the back slot of an 8164B, whose
    `identity` and `slot_identity` are options. Headers without index, and index 1 that stands for
    them, mean this laser. A power without suffix is in the unit of POW:UNIT, other numbers in base
    units. A sweep waits for :SWE:SOFT with trigger input SWS; :STEP:NEXT, or :SOFT with input
    NEXT, moves a sweep in MAN mode. :FLAG? is odd while it waits. Assumed, not confirmed by a
    source: limits and defaults of power, wavelength and attenuator, error -200 for switching on
    while locked and for settings that a running sweep refuses, -224 for a wrong PIN, that locking
    darkens the laser, that CYCL 0 sweeps until stopped, :FLAG? 2 once a sweep has begun, limits
    behind :CHEC? (40 kHz triggers, `max_triggers`, sweep time), and both identities.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        laser: LaserPort,
        *,
        slot: int = 0,
        identity: str = "Keysight Technologies,N7776C,MY00000001,1.0",
        slot_identity: str = "Keysight Technologies,N7776C,MY00000001,1.0",
        locked: bool = False,
        wavelength_limits_m: tuple[float, float] = (1480e-9, 1620e-9),
        sweep_limits_m: tuple[float, float] | None = None,
        power_limits_w: tuple[float, float] = (100e-6, 20e-3),
        largest_attenuation_db: float = 60.0,
        speeds_m_s: tuple[float, ...] = SPEEDS_M_S,
        max_trigger_hz: float = 40e3,
        max_triggers: int = 1_000_000,
    ) -> None:
        self.name, self._clock, self._laser, self._slot = name, clock, laser, slot
        self._slot_identity, self._locked = slot_identity, locked
        self._limits_m, self._power_limits_w = wavelength_limits_m, power_limits_w
        self._sweep_limits_m = sweep_limits_m or wavelength_limits_m
        self._largest_attenuation_db, self._speeds_m_s = largest_attenuation_db, speeds_m_s
        self._max_trigger_hz, self._max_triggers = max_trigger_hz, max_triggers
        self._scpi = ScpiCore(
            self._commands(), identity=identity, reset=self._reset, message_bytes=1 << 16
        )
        self.read, self.clear = self._scpi.read, self._scpi.clear
        self.status_byte = self._scpi.status_byte
        self.read_timed_out = self._scpi.read_timed_out
        self._reset()

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host, with the laser where its sweep is by now."""
        self._follow()
        self._scpi.write(data, end=end)

    def _reset(self) -> None:
        low_m, high_m = self._limits_m
        middle_m = (low_m + high_m) / 2.0
        self._settings = Settings(
            wavelength_m=middle_m,
            power_w=max(self._power_limits_w[0], min(1e-3, self._power_limits_w[1])),
            start_m=low_m,
            stop_m=high_m,
            speed_m_s=max(self._speeds_m_s),
        )
        self._run: SweepRun | None = None
        self._step: int | None = None
        self._waiting = False
        self._flag = 0
        self._log: np.ndarray[tuple[int], np.dtype[np.float64]] = np.empty(0)
        self._emit()

    def _commands(self) -> list[Command]:
        return [
            *self._system_commands(),
            *self._power_commands(),
            *self._wavelength_commands(),
            *self._sweep_commands(),
            *self._trigger_commands(),
        ]

    def _setting(
        self,
        pattern: str,
        kind: Kind[T],
        get: Callable[[Settings], T],
        put: Callable[[Settings, T], Settings],
        *,
        sweeping: bool = False,
    ) -> Command:
        """Declare a setting; one that is not for `sweeping` is refused while a sweep runs."""

        def adopt(suffixes: Suffixes, value: T) -> None:
            self._addressed(suffixes)
            if not sweeping:
                self._only_at_rest()
            self._settings = put(self._settings, value)
            self._emit()

        def show(suffixes: Suffixes) -> T:
            self._addressed(suffixes)
            return get(self._settings)

        return setting(pattern, kind, show, adopt)

    def _system_commands(self) -> list[Command]:
        return [
            readout("*STB", lambda _: f"{self.status_byte():+d}"),
            readout(":STATus:OPERation[:EVENt]", lambda _: "+0"),
            Command(":LOCK", self._put_lock, readout(":LOCK", lambda _: f"{self._locked:d}").ask),
            readout(":SLOT#:IDN", self._identify_slot),
        ]

    def _power_commands(self) -> list[Command]:
        attenuation = LongNumber("DB", 0.0, self._largest_attenuation_db, 0.0)
        return [
            self._setting(
                f"{_SOURCE}:POWer:STATe",
                Boolean(),
                lambda s: s.on,
                lambda s, on: replace(s, on=self._allowed(on)),
                sweeping=True,
            ),
            Command(f"{_SOURCE}:POWer", self._put_power, self._ask_power),
            self._setting(
                f"{_SOURCE}:POWer:UNIT",
                PowerUnit(),
                lambda s: s.unit,
                lambda s, unit: replace(s, unit=unit),
                sweeping=True,
            ),
            self._setting(
                f"{_SOURCE}:POWer:ATTenuation",
                attenuation,
                lambda s: s.attenuation_db,
                lambda s, value_db: replace(s, attenuation_db=value_db),
                sweeping=True,
            ),
            self._setting(
                f"{_SOURCE}:POWer:ATTenuation:AUTO",
                Boolean(),
                lambda s: s.auto_attenuation,
                lambda s, auto: replace(s, auto_attenuation=auto),
                sweeping=True,
            ),
            self._setting(
                f"{_SOURCE}:AM:STATe",
                Boolean(),
                lambda s: s.modulated,
                lambda s, modulated: replace(s, modulated=modulated),
            ),
        ]

    def _wavelength_commands(self) -> list[Command]:
        wavelength = LongNumber("M", *self._limits_m, sum(self._limits_m) / 2.0)
        low_m, high_m = self._limits_m
        return [
            self._setting(
                f"{_SOURCE}:WAVelength",
                wavelength,
                lambda s: self._wavelength_m(),
                lambda s, value_m: replace(s, wavelength_m=value_m),
            ),
            self._setting(
                f"{_SWEEP}:STARt",
                wavelength,
                lambda s: s.start_m,
                lambda s, value_m: replace(s, start_m=value_m),
            ),
            self._setting(
                f"{_SWEEP}:STOP",
                wavelength,
                lambda s: s.stop_m,
                lambda s, value_m: replace(s, stop_m=value_m),
            ),
            self._setting(
                f"{_SWEEP}:STEP[:WIDTh]",
                LongNumber("M", SMALLEST_STEP_M, high_m - low_m),
                lambda s: s.step_m,
                lambda s, value_m: replace(s, step_m=value_m),
            ),
            self._setting(
                f"{_SWEEP}:SPEed",
                LongNumber("M/S", min(self._speeds_m_s), max(self._speeds_m_s)),
                lambda s: s.speed_m_s,
                lambda s, value_m_s: replace(s, speed_m_s=self._nominal_speed_m_s(value_m_s)),
            ),
            self._setting(
                f"{_SWEEP}:DWELl",
                LongNumber("S", 1e-3, 1e3),
                lambda s: s.dwell_s,
                lambda s, dwell_s: replace(s, dwell_s=dwell_s),
            ),
        ]

    def _sweep_commands(self) -> list[Command]:
        return [
            self._setting(
                f"{_SWEEP}:MODE",
                Word("STEPped", "MANual", "CONTinuous"),
                lambda s: s.mode,
                lambda s, mode: replace(s, mode=mode),
            ),
            self._setting(
                f"{_SWEEP}:CYCLes",
                Integer(0, 999, 1, "{:+d}"),
                lambda s: s.cycles,
                lambda s, cycles: replace(s, cycles=cycles),
            ),
            self._setting(
                f"{_SWEEP}:REPeat",
                Word("ONEWay", "TWOWay"),
                lambda s: s.repeat,
                lambda s, repeat: replace(s, repeat=repeat),
            ),
            self._setting(
                f"{_SWEEP}:LLOGging",
                Boolean(),
                lambda s: s.logging,
                lambda s, logging: replace(s, logging=logging),
                sweeping=True,
            ),
            Command(f"{_SWEEP}[:STATe]", self._control, self._answer(lambda: str(self._state()))),
            Command(f"{_SWEEP}:CHECkparams", ask=self._answer(self._check_text)),
            Command(f"{_SWEEP}:EXPectedtriggernum", ask=self._answer(self._expected_triggers)),
            Command(f"{_SWEEP}:FLAG", ask=self._answer(lambda: f"{self._flag:+d}")),
            action(f"{_SWEEP}:SOFTtrigger", self._soft_trigger),
            action(f"{_SWEEP}:STEP:NEXT", lambda n: self._walk(n, +1)),
            action(f"{_SWEEP}:STEP:PREVious", lambda n: self._walk(n, -1)),
            Command(f"{_SWEEP}:PMAX", ask=self._largest_power),
            Command(f"{_SOURCE}:READout:POINts", ask=self._ask_points),
            Command(f"{_SOURCE}:READout:DATA", ask=self._ask_data),
        ]

    def _trigger_commands(self) -> list[Command]:
        return [
            self._setting(
                ":TRIGger#[:CHANnel#]:OUTPut",
                Word("DISabled", "STFinished", "SWFinished", "SWSTarted"),
                lambda s: s.trigger_out,
                lambda s, word: replace(s, trigger_out=word),
                sweeping=True,
            ),
            self._setting(
                ":TRIGger#[:CHANnel#]:INPut",
                Word("IGNore", "NEXTstep", "SWStart"),
                lambda s: s.trigger_in,
                lambda s, word: replace(s, trigger_in=word),
                sweeping=True,
            ),
            self._setting(
                ":TRIGger:CONFiguration",
                Word("DISabled", "DEFault", "PASSthrough", "LOOPback"),
                lambda s: s.trigger_path,
                lambda s, word: replace(s, trigger_path=word),
                sweeping=True,
            ),
        ]

    def _addressed(self, suffixes: Suffixes) -> None:
        if suffixes[:1] and suffixes[0] not in (self._slot, 1):
            raise ScpiError(-114)
        if suffixes[1:] and suffixes[1] != 1:
            raise ScpiError(-114)

    def _answer(self, get: Callable[[], str]) -> Callable[[Suffixes, Parameters], Reply]:
        def ask(suffixes: Suffixes, parameters: Parameters) -> Reply:
            self._addressed(suffixes)
            none(parameters)
            return get()

        return ask

    def _only_at_rest(self) -> None:
        if self._state() != 0:
            raise ScpiError(-200, "Execution error; a sweep is running")

    def _identify_slot(self, suffixes: Suffixes) -> str:
        if suffixes[0] != self._slot:
            raise ScpiError(-114)
        return self._slot_identity

    def _put_lock(self, _: Suffixes, parameters: Parameters) -> None:
        if len(parameters) != 2:
            raise ScpiError(-109 if len(parameters) < 2 else -108)
        locked = Boolean().parse(parameters[0])
        if parameters[1].text() != PIN:
            raise ScpiError(-224, "wrong PIN")
        self._locked = locked
        self._settings = replace(self._settings, on=self._settings.on and not locked)
        self._emit()

    def _allowed(self, on: bool) -> bool:
        if on and self._locked:
            raise ScpiError(-200, "Execution error; the laser is locked")
        return on

    def _put_power(self, suffixes: Suffixes, parameters: Parameters) -> None:
        self._addressed(suffixes)
        parameter = only(parameters)
        low_w, high_w = self._power_limits_w
        kind = Number("W", low_w, high_w, self._default_power_w())
        if parameter.text()[:3].upper() in ("MIN", "MAX", "DEF"):
            power_w = kind.limit(parameter)
        else:
            power_w = parse_power_w(parameter, self._settings.unit)
        if not low_w * (1 - 1e-9) <= power_w <= high_w * (1 + 1e-9):
            raise ScpiError(-222)
        self._settings = replace(self._settings, power_w=power_w)
        self._emit()

    def _ask_power(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        self._addressed(suffixes)
        kind = Number("W", *self._power_limits_w, self._default_power_w())
        power_w = kind.limit(only(parameters)) if parameters else self._settings.power_w
        return format_power(power_w, self._settings.unit)

    def _default_power_w(self) -> float:
        low_w, high_w = self._power_limits_w
        return min(max(1e-3, low_w), high_w)

    def _nominal_speed_m_s(self, wanted_m_s: float) -> float:
        for speed_m_s in self._speeds_m_s:
            if math.isclose(wanted_m_s, speed_m_s, rel_tol=1e-6):
                return speed_m_s
        raise ScpiError(-222)

    def _manual(self) -> bool:
        return self._settings.mode == "MAN" or self._settings.trigger_in == "NEXT"

    def _sweep(self) -> WavelengthSweep:
        s = self._settings
        return WavelengthSweep(
            start_m=s.start_m,
            stop_m=s.stop_m,
            step_m=s.step_m,
            speed_m_s=s.speed_m_s,
            dwell_s=s.dwell_s,
            continuous=s.mode == "CONT",
            two_way=s.repeat == "TWOW",
            cycles=float(s.cycles) or math.inf,
        )

    def _faults(self) -> list[tuple[int, bool]]:
        """Return the checks of :CHEC?, in order, and whether each fails."""
        s, sweep = self._settings, self._sweep()
        shortest_s, longest_s = SWEEP_TIME_LIMITS_S
        steps = s.step_m / SMALLEST_STEP_M
        stepping = s.trigger_out == "STF" and s.mode == "CONT"
        return [
            (368, s.stop_m <= s.start_m),
            (380, s.start_m < self._sweep_limits_m[0]),
            (381, s.stop_m > self._sweep_limits_m[1]),
            (369, sweep.way_s < shortest_s),
            (370, sweep.way_s > longest_s),
            (371, stepping and s.speed_m_s / s.step_m > self._max_trigger_hz * (1 + 1e-9)),
            (373, s.trigger_out == "STF" and sweep.steps > self._max_triggers),
            (374, s.logging and s.modulated),
            (375, s.logging and s.trigger_out != "STF"),
            (376, s.logging and s.mode != "CONT"),
            (377, abs(steps - round(steps)) > 1e-3),
        ]

    def _check(self) -> int:
        return next((code for code, fails in self._faults() if fails), 0)

    def _check_text(self) -> str:
        code = self._check()
        return f'{code},"{_FAULTS[code]}"' if code else "0,OK"

    def _expected_triggers(self) -> str:
        s = self._settings
        each = self._sweep().steps if s.trigger_out == "STF" and s.stop_m > s.start_m else 1
        return f"{0 if s.trigger_out == 'DIS' else each:+d}"

    def _control(self, suffixes: Suffixes, parameters: Parameters) -> None:
        self._addressed(suffixes)
        text = only(parameters).text()
        if text.lstrip("+").isdigit():
            state = Integer(0, 3).parse(parameters[0])
        else:
            word = Word("STOP", "STARt", "PAUSe", "CONTinue").parse(parameters[0])
            state = ("STOP", "STAR", "PAUS", "CONT").index(word)
        (self._stop, self._start, self._pause, self._continue)[state]()
        self._emit()

    def _start(self) -> None:
        self._only_at_rest()
        code = self._check()
        if code:
            raise ScpiError(code, _FAULTS[code])
        self._flag, self._log = 0, np.empty(0)
        self._waiting = self._settings.trigger_in == "SWS"
        self._step = 0 if self._manual() else None
        self._flag = 1 if self._waiting else 2
        if self._step is None:
            self._run = SweepRun(self._clock, self._sweep())
            if self._waiting:
                self._run.pause()

    def _stop(self) -> None:
        """Halt the sweep for good; the laser stays where it is."""
        self._keep_log()
        self._settings = replace(self._settings, wavelength_m=self._wavelength_m())
        self._run, self._step, self._waiting = None, None, False

    def _pause(self) -> None:
        if self._run is None or self._waiting:
            raise ScpiError(-200, "Execution error; no sweep is running")
        self._run.pause()

    def _continue(self) -> None:
        if self._run is None or self._waiting:
            raise ScpiError(-200, "Execution error; no sweep is paused")
        self._run.resume()

    def _soft_trigger(self, suffixes: Suffixes) -> None:
        self._addressed(suffixes)
        if self._waiting and self._run is not None:
            self._waiting, self._flag = False, self._flag + 1
            self._run.resume()
        elif self._step is not None and self._settings.trigger_in == "NEXT":
            self._walk(suffixes, +1)
        else:
            raise ScpiError(-211)

    def _walk(self, suffixes: Suffixes, by: int) -> None:
        self._addressed(suffixes)
        if self._step is None:
            raise ScpiError(-200, "Execution error; no manual sweep is running")
        if not 0 <= self._step + by < self._sweep().steps:
            raise ScpiError(-222, "the sweep ends here")
        self._step += by
        self._emit()

    def _state(self) -> int:
        """Return 0 stopped, 1 running (or waiting for its trigger), 2 paused."""
        if self._step is not None:
            return 1
        if self._run is None:
            return 0
        return 2 if self._run.paused and not self._waiting else 1

    def _wavelength_m(self) -> float:
        s = self._settings
        if self._step is not None:
            return s.start_m + self._step * s.step_m
        return s.wavelength_m if self._run is None else self._run.wavelength_m()

    def _follow(self) -> None:
        """Bring the laser to where its sweep is, and end a sweep that is complete."""
        if self._run is not None:
            if self._run.done():
                self._stop()
            self._emit()

    def _emit(self) -> None:
        s = self._settings
        ratio = 1.0 if s.auto_attenuation else db_to_ratio(-s.attenuation_db)
        self._laser.set_emission(
            s.on, s.power_w * ratio, wavelength_to_frequency_hz(self._wavelength_m())
        )

    def _keep_log(self) -> None:
        if self._run is not None and self._settings.logging and not self._waiting:
            self._log = self._run.passed()

    def _logged(self, parameters: Parameters, *words: str) -> str:
        word = Word(*words).parse(only(parameters))
        self._keep_log()
        return word

    def _ask_points(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        self._addressed(suffixes)
        self._logged(parameters, "LLOGging", "PMAX")
        return f"{self._log.size:+d}"

    def _ask_data(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        """Return logged wavelengths in m as float64, or with PMAX pairs with a float32 in W."""
        self._addressed(suffixes)
        word = self._logged(parameters, "LLOGging", "PMAX")
        if not self._log.size:
            raise ScpiError(-230, "nothing was logged")
        if word == "LLOG":
            return encode_block(self._log.astype("<f8").tobytes())
        pairs = np.empty(self._log.size, dtype=[("wavelength", "<f8"), ("power", "<f4")])
        pairs["wavelength"], pairs["power"] = self._log, self._power_limits_w[1]
        return encode_block(pairs.tobytes())

    def _largest_power(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        self._addressed(suffixes)
        if len(parameters) != 2:
            raise ScpiError(-109 if len(parameters) < 2 else -108)
        for parameter in parameters:
            LongNumber("M", *self._limits_m).parse(parameter)
        return long_number(self._power_limits_w[1])
