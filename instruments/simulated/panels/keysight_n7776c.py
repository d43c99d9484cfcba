"""Front panel of a Keysight N7776C swept laser, or one in a slot of an 8164B: SCPI in, light out.

Source: docs/wire/keysight_n7776c.md, sections Numbers, Index, Light, Errors and Assumed.
"""

from __future__ import annotations

import math
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
    only,
    readout,
)
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Boolean, Integer, Kind, Number, T, Word
from labctl.instruments.simulated.panels.kept_settings import as_set, kept
from labctl.instruments.simulated.panels.keysight_n7776c_sweep import (
    SMALLEST_STEP_M,
    LaserSweep,
    Settings,
    SweepLimits,
)
from labctl.instruments.simulated.panels.optical_values import (
    LongNumber,
    PowerUnit,
    format_power,
    long_number,
    parse_power_w,
)
from labctl.instruments.simulated.ports import LaserPort
from labctl.units import db_to_ratio, wavelength_to_frequency_hz

PIN = "1234"
# docs/wire/keysight_n7776c.md: 0.5, 1, 50, 80 and 200 nm/s.
SPEEDS_M_S = (0.5e-9, 1e-9, 50e-9, 80e-9, 200e-9)
_SOURCE = "[:SOURce#][:CHANnel#]"
_SWEEP = f"{_SOURCE}:WAVelength:SWEep"


class KeysightN7776CPanel:
    """One swept laser; satisfies `FrontPanel`. Its frequency follows a sweep at every message.

    `slot` is the index of the source: 0 for an N777x and for the back slot of an 8164B, whose
    `identity` and `slot_identity` are options. Headers without index, and index 1 that means
    them, mean this laser. A power without suffix is in the unit of POW:UNIT, other numbers in base
    units. A sweep waits for :SWE:SOFT with trigger input SWS; :STEP:NEXT, or :SOFT with input
    NEXT, moves a sweep in MAN mode. :FLAG? is 1 from the trigger awaited until the first cycle is
    complete, then 2 for each cycle. Assumed, not confirmed by a source: limits and defaults of
    power, wavelength and attenuator, error -200 for switching on while locked and for settings
    that a running sweep refuses, -224 for a wrong PIN, that locking darkens the laser, that CYCL 0
    sweeps until stopped, that :FLAG? keeps its count when the sweep is complete (a driver waits
    for it, the manual has 0), `max_triggers` and sweep time
    behind :CHEC?, and both identities.
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
        self._sweep_limits = SweepLimits(
            sweep_limits_m or wavelength_limits_m, max_trigger_hz, max_triggers
        )
        self._largest_attenuation_db, self._speeds_m_s = largest_attenuation_db, speeds_m_s
        self._scpi = ScpiCore(
            self._commands(), identity=identity, reset=self._reset, message_bytes=1 << 16
        )
        self.read, self.clear = self._scpi.read, self._scpi.clear
        self.status_byte, self.serial_poll = self._scpi.status_byte, self._scpi.serial_poll
        self.read_timed_out = self._scpi.read_timed_out
        self.power_cycle = self._scpi.power_cycle
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
        self._sweep = LaserSweep(self._clock)
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

        def read(suffixes: Suffixes) -> Settings:
            self._addressed(suffixes)
            return self._settings

        def write(_: Suffixes, settings: Settings) -> None:
            if not sweeping:
                self._sweep.only_at_rest()
            self._settings = settings
            self._emit()

        return kept(pattern, kind, get, put, read, write)

    def _system_commands(self) -> list[Command]:
        return [
            readout("*STB", lambda _: f"{self._scpi.master_status():+d}"),
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
            self._setting(f"{_SOURCE}:POWer:UNIT", PowerUnit(), *as_set("unit"), sweeping=True),
            self._setting(
                f"{_SOURCE}:POWer:ATTenuation",
                attenuation,
                *as_set("attenuation_db"),
                sweeping=True,
            ),
            self._setting(
                f"{_SOURCE}:POWer:ATTenuation:AUTO",
                Boolean(),
                *as_set("auto_attenuation"),
                sweeping=True,
            ),
            self._setting(f"{_SOURCE}:AM:STATe", Boolean(), *as_set("modulated")),
        ]

    def _wavelength_commands(self) -> list[Command]:
        wavelength = LongNumber("M", *self._limits_m, sum(self._limits_m) / 2.0)
        low_m, high_m = self._limits_m
        return [
            self._setting(
                f"{_SOURCE}:WAVelength",
                wavelength,
                self._now_m,
                lambda s, value_m: replace(s, wavelength_m=value_m),
            ),
            self._setting(f"{_SWEEP}:STARt", wavelength, *as_set("start_m")),
            self._setting(f"{_SWEEP}:STOP", wavelength, *as_set("stop_m")),
            self._setting(
                f"{_SWEEP}:STEP[:WIDTh]",
                LongNumber("M", SMALLEST_STEP_M, high_m - low_m),
                *as_set("step_m"),
            ),
            self._setting(
                f"{_SWEEP}:SPEed",
                LongNumber("M/S", min(self._speeds_m_s), max(self._speeds_m_s)),
                lambda s: s.speed_m_s,
                lambda s, value_m_s: replace(s, speed_m_s=self._nominal_speed_m_s(value_m_s)),
            ),
            self._setting(f"{_SWEEP}:DWELl", LongNumber("S", 1e-3, 1e3), *as_set("dwell_s")),
        ]

    def _sweep_commands(self) -> list[Command]:
        return [
            self._setting(
                f"{_SWEEP}:MODE", Word("STEPped", "MANual", "CONTinuous"), *as_set("mode")
            ),
            self._setting(f"{_SWEEP}:CYCLes", Integer(0, 999, 1, "{:+d}"), *as_set("cycles")),
            self._setting(f"{_SWEEP}:REPeat", Word("ONEWay", "TWOWay"), *as_set("repeat")),
            self._setting(f"{_SWEEP}:LLOGging", Boolean(), *as_set("logging"), sweeping=True),
            Command(
                f"{_SWEEP}[:STATe]", self._control, self._answer(lambda: f"{self._sweep.state:+d}")
            ),
            Command(f"{_SWEEP}:CHECkparams", ask=self._answer(self._check_text)),
            Command(f"{_SWEEP}:EXPectedtriggernum", ask=self._answer(self._triggers)),
            Command(f"{_SWEEP}:FLAG", ask=self._answer(lambda: f"{self._sweep.flag:+d}")),
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
                *as_set("trigger_out"),
                sweeping=True,
            ),
            self._setting(
                ":TRIGger#[:CHANnel#]:INPut",
                Word("IGNore", "NEXTstep", "SWStart"),
                *as_set("trigger_in"),
                sweeping=True,
            ),
            self._setting(
                ":TRIGger:CONFiguration",
                Word("DISabled", "DEFault", "PASSthrough", "LOOPback"),
                *as_set("trigger_path"),
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

    def _check_text(self) -> str:
        fault = self._sweep_limits.fault(self._settings)
        return f'{fault[0]},"{fault[1]}"' if fault else "0,OK"

    def _triggers(self) -> str:
        return f"{self._settings.expected_triggers():+d}"

    def _control(self, suffixes: Suffixes, parameters: Parameters) -> None:
        self._addressed(suffixes)
        text = only(parameters).text()
        if text.lstrip("+").isdigit():
            state = Integer(0, 3).parse(parameters[0])
        else:
            word = Word("STOP", "STARt", "PAUSe", "CONTinue").parse(parameters[0])
            state = ("STOP", "STAR", "PAUS", "CONT").index(word)
        (self._stop, self._start, self._sweep.pause, self._sweep.resume)[state]()
        self._emit()

    def _start(self) -> None:
        self._sweep.only_at_rest()
        fault = self._sweep_limits.fault(self._settings)
        if fault:
            raise ScpiError(*fault)
        self._sweep.start(self._settings)

    def _stop(self) -> None:
        """Halt the sweep for good; the laser stays where it is."""
        wavelength_m = self._sweep.wavelength_m(self._settings)
        self._sweep.stop(self._settings)
        self._settings = replace(self._settings, wavelength_m=wavelength_m)

    def _soft_trigger(self, suffixes: Suffixes) -> None:
        self._addressed(suffixes)
        self._sweep.trigger(self._settings)
        self._emit()

    def _walk(self, suffixes: Suffixes, by: int) -> None:
        self._addressed(suffixes)
        self._sweep.walk(self._settings, by)
        self._emit()

    def _follow(self) -> None:
        """Tune the laser to where its sweep is, and end a sweep that is complete."""
        if self._sweep.complete:
            self._stop()
        self._emit()

    def _emit(self) -> None:
        s = self._settings
        ratio = 1.0 if s.auto_attenuation else db_to_ratio(-s.attenuation_db)
        frequency_hz = wavelength_to_frequency_hz(self._sweep.wavelength_m(s))
        self._laser.set_emission(s.on, s.power_w * ratio, frequency_hz)

    def _now_m(self, settings: Settings) -> float:
        return self._sweep.wavelength_m(settings)

    def _logged(self, parameters: Parameters) -> str:
        """Return what the log is asked for as, with the log as long as it is by now."""
        word = Word("LLOGging", "PMAX").parse(only(parameters))
        self._sweep.keep_log(self._settings)
        return word

    def _ask_points(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        self._addressed(suffixes)
        self._logged(parameters)
        return f"{self._sweep.log.size:+d}"

    def _ask_data(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        """Return logged wavelengths in m as float64, or with PMAX pairs with a float32 in W."""
        self._addressed(suffixes)
        word = self._logged(parameters)
        if not self._sweep.log.size:
            raise ScpiError(-230, "nothing was logged")
        if word == "LLOG":
            return encode_block(self._sweep.log.astype("<f8").tobytes())
        pairs = np.empty(self._sweep.log.size, dtype=[("wavelength", "<f8"), ("power", "<f4")])
        pairs["wavelength"], pairs["power"] = self._sweep.log, self._power_limits_w[1]
        return encode_block(pairs.tobytes())

    def _largest_power(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        self._addressed(suffixes)
        if len(parameters) != 2:
            raise ScpiError(-109 if len(parameters) < 2 else -108)
        for parameter in parameters:
            LongNumber("M", *self._limits_m).parse(parameter)
        return long_number(self._power_limits_w[1])
