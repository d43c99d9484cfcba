"""Front panel of a Santec TSL-570 tunable laser, in its Legacy and SCPI command sets.

Source: the drivers of PyMeasure and QMI (with error and alert tables), which agree, and the TSL-710
manual page 73 for the status registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from labctl.clock import Clock
from labctl.instruments.codecs.ieee488 import encode_block, parse_error
from labctl.instruments.codecs.scpi import (
    SCPI_ERRORS,
    Command,
    ScpiCore,
    Suffixes,
    action,
    readout,
    setting,
)
from labctl.instruments.codecs.scpi_status import MESSAGE_WAITS, ScpiError
from labctl.instruments.codecs.scpi_values import Boolean, Form, Integer, Kind, Number, Parameter, T
from labctl.instruments.simulated.panels.optical_values import long_number
from labctl.instruments.simulated.panels.wavelength_sweep import SweepRun, WavelengthSweep
from labctl.instruments.simulated.ports import LaserPort
from labctl.units import (
    dbm_to_w,
    frequency_to_wavelength_m,
    w_to_dbm,
    wavelength_to_frequency_hz,
)

LEGACY, SCPI = 0, 1
STOPPED, RUNNING, WAITING, PREPARING = 0, 1, 3, 4
SPEEDS_NM_S = (1, 2, 5, 10, 20, 50, 100, 200)
STEP_TRIGGER = 3
RESOLUTION_M = 0.1e-12
ERRORS = {
    0: "No error",
    -102: "Syntax error",
    -103: "Invalid separator",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -148: "Character data not allowed",
    -200: "Execution error",
    -222: "Data out of range",
    -410: "Query INTERRUPTED",
}
_NEAREST = {-101: -102, -104: -148, -114: -113, -131: -148, -151: -102, -161: -102, -224: -222}
_EVERYTHING = 1 << 30


@dataclass(frozen=True)
class Quantity:
    """A wavelength or frequency: in `legacy` units and `style`, or in m or Hz in the SCPI set."""

    unit: str
    low: float
    high: float
    legacy: float
    style: str
    command_set: Callable[[], int]

    def parse(self, parameter: Parameter) -> float:
        """Read a number, with or without suffix; raises ScpiError -104, -131 or -222."""
        bare = parameter.form is Form.PLAIN and not parameter.text()[-1:].isalpha()
        factor = self.legacy if bare and self.command_set() == LEGACY else 1.0
        value = Number(self.unit).parse(parameter) * factor
        if not self.low * (1.0 - 1e-12) <= value <= self.high * (1.0 + 1e-12):
            raise ScpiError(-222)
        return value

    def limit(self, parameter: Parameter) -> float:
        """Refuse: limits have queries of their own (ScpiError -108)."""
        raise ScpiError(-108)

    def format(self, value: float) -> str:
        """Write a value in the units of the command set."""
        legacy = self.command_set() == LEGACY
        return self.style.format(value / self.legacy) if legacy else long_number(value)


@dataclass(frozen=True)
class Settings:
    """What *RST resets; wavelengths in m."""

    wavelength_m: float
    start_m: float
    stop_m: float
    power_w: float
    on: bool = False
    shut: bool = False
    in_milliwatts: bool = False
    auto_attenuation: bool = True
    in_terahertz: bool = False
    fine: float = 0.0
    coherence: bool = False
    step_m: float = 100e-12
    speed_nm_s: int = 100
    dwell_s: float = 0.0
    delay_s: float = 0.0
    cycles: int = 1
    mode: int = 1
    trigger_out: int = 0
    trigger_step_m: float = 100e-12
    trigger_setting: int = 0
    external: bool = False


class SantecTSL570Panel:
    """One laser; satisfies `FrontPanel`. Its frequency follows a sweep at every message.

    SYST:COMM:COD chooses units: nm and THz (0, Legacy), or m and Hz (1, SCPI); mnemonics are the
    same. Messages end with CR, NL or END, replies with `terminator`, except the block of READ:DAT?.
    A sweep prepares (state 4), waits for TRIG:INP:SOFT if TRIG:INP:EXT is on (3), runs (1) and
    stops (0). With TRIG:OUTP 3 the wavelengths at every TRIG:OUTP:STEP of the last way are logged.
    Other errors than the ten that the laser knows are reported as the nearest of them. Assumed,
    not confirmed by a source: limits and defaults, `prepare_s`, `tuning_s` of each step besides
    its dwell time, numbers in the SCPI set as +1.55000000E-006, READ:DAT? in 0.1 pm in both sets,
    CYCL 0 as one cycle, -200 for what a running sweep refuses, `dark_dbm`, and the frequency shift
    of fine tuning (`fine_step_hz`, none by default). POW:ATT:AUT and COHC are kept only.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        laser: LaserPort,
        *,
        identity: str = "SANTEC,TSL-570,21020001,0001.000.0001",
        terminator: bytes = b"\r",
        command_set: int = LEGACY,
        wavelength_limits_m: tuple[float, float] = (1480e-9, 1640e-9),
        power_limits_dbm: tuple[float, float] = (-15.0, 13.0),
        warm_up_s: float = 0.0,
        prepare_s: float = 0.5,
        tuning_s: float = 0.05,
        fine_step_hz: float = 0.0,
        dark_dbm: float = -99.99,
    ) -> None:
        self.name, self._clock, self._laser = name, clock, laser
        self._terminator, self._command_set = terminator, command_set
        self._limits_m, self._power_limits_dbm = wavelength_limits_m, power_limits_dbm
        self._warm_s = clock.now_s() + warm_up_s
        self._prepare_s, self._tuning_s = prepare_s, tuning_s
        self._fine_step_hz, self._dark_dbm = fine_step_hz, dark_dbm
        self._pending = b""
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            error_style=SCPI_ERRORS,
            message_bytes=1 << 16,
        )
        self.read_timed_out = self._scpi.read_timed_out
        self._reset()

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host, with the laser where its sweep is by now."""
        self._follow()
        if end and self._pending:
            self._pending = b""
            self._scpi.status.fault(ScpiError(-410))
        self._scpi.write(data.replace(b"\r", b"\n"), end=end)

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the oldest reply, and whether it ends with them."""
        if not self._pending:
            reply = self._scpi.read(_EVERYTHING)[0]
            ends = b"" if reply[:1] in (b"", b"#") else self._terminator
            self._pending = reply.removesuffix(b"\n") + ends
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
        low_m, high_m = self._limits_m
        low_dbm, high_dbm = self._power_limits_dbm
        self._settings = Settings(
            wavelength_m=(low_m + high_m) / 2.0,
            start_m=low_m,
            stop_m=high_m,
            power_w=dbm_to_w(min(max(0.0, low_dbm), high_dbm)),
        )
        self._run: SweepRun | None = None
        self._ready_s = -math.inf
        self._log = np.empty(0)
        self._count = 0
        self._emit()

    def _wavelength(self, low_m: float, high_m: float) -> Quantity:
        return Quantity("M", low_m, high_m, 1e-9, "{:.4f}", lambda: self._command_set)

    def _frequency(self) -> Quantity:
        low_hz, high_hz = (wavelength_to_frequency_hz(x) for x in reversed(self._limits_m))
        return Quantity("HZ", low_hz, high_hz, 1e12, "{:.5f}", lambda: self._command_set)

    def _commands(self) -> list[Command]:
        return [
            *self._system_commands(),
            *self._power_commands(),
            *self._wavelength_commands(),
            *self._limit_commands(),
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

        def adopt(_: Suffixes, value: T) -> None:
            if not sweeping:
                self._only_at_rest()
            self._settings = put(self._settings, value)
            self._emit()

        return setting(pattern, kind, lambda _: get(self._settings), adopt)

    def _system_commands(self) -> list[Command]:
        return [
            readout(":SYSTem:ERRor[:NEXT]", lambda _: self._next_error()),
            readout(":SYSTem:ALERt", lambda _: self._alert()),
            setting(
                ":SYSTem:COMMunicate:CODe",
                Integer(0, 1),
                lambda _: self._command_set,
                self._put_command_set,
            ),
            action(":SPECial:SHUTdown", lambda _: self._reset()),
            action(":SPECial:REBoot", lambda _: self._reset()),
        ]

    def _power_commands(self) -> list[Command]:
        return [
            self._setting(
                ":POWer:STATe",
                Boolean(),
                lambda s: s.on,
                lambda s, on: replace(s, on=on),
                sweeping=True,
            ),
            self._setting(
                ":POWer:SHUTter",
                Boolean(),
                lambda s: s.shut,
                lambda s, shut: replace(s, shut=shut),
                sweeping=True,
            ),
            self._setting(
                ":POWer[:LEVel][:IMMediate][:AMPLitude]",
                Number("", style="{:+.2f}"),
                lambda s: self._shown_power(s.power_w),
                self._with_power,
                sweeping=True,
            ),
            readout(":POWer:ACTual[:LEVel]", lambda _: self._actual_power()),
            self._setting(
                ":POWer:UNIT",
                Integer(0, 1),
                lambda s: int(s.in_milliwatts),
                lambda s, unit: replace(s, in_milliwatts=unit == 1),
                sweeping=True,
            ),
            self._setting(
                ":POWer:ATTenuation:AUTo",
                Boolean(),
                lambda s: s.auto_attenuation,
                lambda s, auto: replace(s, auto_attenuation=auto),
                sweeping=True,
            ),
        ]

    def _wavelength_commands(self) -> list[Command]:
        commands = [
            self._setting(
                ":WAVelength",
                self._wavelength(*self._limits_m),
                lambda s: self._wavelength_m(),
                lambda s, wavelength_m: replace(s, wavelength_m=_rounded(wavelength_m)),
            ),
            self._setting(
                ":WAVelength:UNIT",
                Integer(0, 1),
                lambda s: int(s.in_terahertz),
                lambda s, unit: replace(s, in_terahertz=unit == 1),
                sweeping=True,
            ),
            self._setting(
                ":WAVelength:FINe",
                Number("", -100.0, 100.0, 0.0, "{:+.2f}"),
                lambda s: s.fine,
                lambda s, fine: replace(s, fine=fine),
            ),
            action(":WAVelength:FINe:DISable", lambda _: self._stop_fine()),
            self._setting(
                ":COHCtrl",
                Boolean(),
                lambda s: s.coherence,
                lambda s, coherence: replace(s, coherence=coherence),
                sweeping=True,
            ),
        ]
        for pattern in (":WAVelength:FREQuency", ":FREQuency"):
            commands.append(
                self._setting(
                    pattern,
                    self._frequency(),
                    lambda s: wavelength_to_frequency_hz(self._wavelength_m()),
                    lambda s, value_hz: replace(
                        s, wavelength_m=frequency_to_wavelength_m(value_hz)
                    ),
                )
            )
        return commands

    def _limit_commands(self) -> list[Command]:
        wavelength, frequency = self._wavelength(*self._limits_m), self._frequency()
        limits: list[tuple[str, Quantity]] = [
            (":WAVelength:{}", wavelength),
            (":WAVelength:SWEep:RANGe:{}", wavelength),
            (":WAVelength:FREQuency:{}", frequency),
            (":FREQuency:{}", frequency),
            (":FREQuency:SWEep:RANGe:{}", frequency),
        ]
        return [
            _limit(pattern.format(word), kind, high=word == "MAXimum")
            for pattern, kind in limits
            for word in ("MINimum", "MAXimum")
        ]

    def _sweep_commands(self) -> list[Command]:
        wavelength, frequency = self._wavelength(*self._limits_m), self._frequency()
        seconds = Number("S", 0.0, 999.9, 0.0, "{:.1f}")
        sweep = ":WAVelength:SWEep"
        return [
            self._setting(
                f"{sweep}:STARt",
                wavelength,
                lambda s: s.start_m,
                lambda s, value_m: replace(s, start_m=_rounded(value_m)),
            ),
            self._setting(
                f"{sweep}:STOP",
                wavelength,
                lambda s: s.stop_m,
                lambda s, value_m: replace(s, stop_m=_rounded(value_m)),
            ),
            self._setting(
                ":FREQuency:SWEep:STARt",
                frequency,
                lambda s: wavelength_to_frequency_hz(s.start_m),
                lambda s, value_hz: replace(s, start_m=frequency_to_wavelength_m(value_hz)),
            ),
            self._setting(
                ":FREQuency:SWEep:STOP",
                frequency,
                lambda s: wavelength_to_frequency_hz(s.stop_m),
                lambda s, value_hz: replace(s, stop_m=frequency_to_wavelength_m(value_hz)),
            ),
            self._setting(
                f"{sweep}:STEP",
                self._wavelength(RESOLUTION_M, self._limits_m[1] - self._limits_m[0]),
                lambda s: s.step_m,
                lambda s, step_m: replace(s, step_m=_rounded(step_m)),
            ),
            self._setting(
                f"{sweep}:SPEed",
                Integer(1, 200),
                lambda s: s.speed_nm_s,
                lambda s, speed: replace(s, speed_nm_s=_nominal_speed(speed)),
            ),
            self._setting(
                f"{sweep}:DWELl", seconds, lambda s: s.dwell_s, lambda s, v: replace(s, dwell_s=v)
            ),
            self._setting(
                f"{sweep}:DELay", seconds, lambda s: s.delay_s, lambda s, v: replace(s, delay_s=v)
            ),
            self._setting(
                f"{sweep}:CYCLes",
                Integer(0, 999),
                lambda s: s.cycles,
                lambda s, v: replace(s, cycles=v),
            ),
            self._setting(
                f"{sweep}:MODe", Integer(0, 3), lambda s: s.mode, lambda s, v: replace(s, mode=v)
            ),
            setting(f"{sweep}[:STATe]", Integer(0, 1), lambda _: self._state(), self._control),
            action(f"{sweep}[:STATe]:REPeat", lambda _: self._start(math.inf)),
            readout(f"{sweep}:COUNt", lambda _: str(self._cycles_done())),
        ]

    def _trigger_commands(self) -> list[Command]:
        return [
            self._setting(
                ":TRIGger:OUTPut",
                Integer(0, 3),
                lambda s: s.trigger_out,
                lambda s, value: replace(s, trigger_out=value),
            ),
            self._setting(
                ":TRIGger:OUTPut:STEP[:WIDTh]",
                self._wavelength(RESOLUTION_M, self._limits_m[1] - self._limits_m[0]),
                lambda s: s.trigger_step_m,
                lambda s, step_m: replace(s, trigger_step_m=_rounded(step_m)),
            ),
            self._setting(
                ":TRIGger:OUTPut:SETTing",
                Integer(0, 1),
                lambda s: s.trigger_setting,
                lambda s, value: replace(s, trigger_setting=value),
            ),
            self._setting(
                ":TRIGger:INPut:EXTernal",
                Boolean(),
                lambda s: s.external,
                lambda s, external: replace(s, external=external),
            ),
            action(":TRIGger:INPut:SOFTtrigger", lambda _: self._soft_trigger()),
            readout(":READout:POINts", lambda _: str(self._logged().size)),
            readout(":READout:DATa", lambda _: self._block()),
        ]

    def _next_error(self) -> str:
        code = parse_error(self._scpi.status.next_error())[0]
        known = code if code in ERRORS else _NEAREST.get(code, -200)
        return SCPI_ERRORS.format(code=known, text=ERRORS[known])

    def _alert(self) -> str:
        return "No23.,Ongoing Warm up" if self._clock.now_s() < self._warm_s else "No alerts."

    def _put_command_set(self, _: Suffixes, command_set: int) -> None:
        self._command_set = command_set

    def _only_at_rest(self) -> None:
        if self._run is not None:
            raise ScpiError(-200, "a sweep is running")

    def _shown_power(self, power_w: float) -> float:
        return power_w * 1e3 if self._settings.in_milliwatts else w_to_dbm(power_w)

    def _with_power(self, settings: Settings, value: float) -> Settings:
        low_dbm, high_dbm = self._power_limits_dbm
        if settings.in_milliwatts:
            if value <= 0.0:
                raise ScpiError(-222)
            value = w_to_dbm(value * 1e-3)
        if not low_dbm - 0.005 <= value <= high_dbm + 0.015:
            raise ScpiError(-222)
        return replace(settings, power_w=dbm_to_w(value))

    def _actual_power(self) -> str:
        shown = self._shown_power(self._laser.emitted_power_w())
        return f"{max(shown, self._dark_dbm):+.2f}"

    def _stop_fine(self) -> None:
        self._only_at_rest()
        self._settings = replace(self._settings, fine=0.0)
        self._emit()

    def _control(self, _: Suffixes, state: int) -> None:
        if state == 1:
            self._start(max(self._settings.cycles, 1))
        else:
            self._stop()

    def _start(self, cycles: float) -> None:
        self._only_at_rest()
        s = self._settings
        if s.start_m == s.stop_m:
            raise ScpiError(-200, "start and stop are the same")
        continuous = s.mode in (1, 3)
        sweep = WavelengthSweep(
            start_m=s.start_m,
            stop_m=s.stop_m,
            step_m=s.trigger_step_m if continuous else s.step_m,
            speed_m_s=s.speed_nm_s * 1e-9,
            dwell_s=s.dwell_s + self._tuning_s,
            continuous=continuous,
            two_way=s.mode in (2, 3),
            cycles=cycles,
            pause_s=s.delay_s,
        )
        self._log, self._count = np.empty(0), 0
        self._ready_s = self._clock.now_s() + self._prepare_s
        self._run = SweepRun(self._clock, sweep, self._prepare_s)
        if s.external:
            self._run.pause()
        self._emit()

    def _stop(self) -> None:
        """Halt the sweep for good; the laser stays where it is."""
        if self._run is not None:
            self._log, self._count = self._logged(), self._run.cycle()
            self._settings = replace(self._settings, wavelength_m=self._run.wavelength_m())
            self._run = None

    def _soft_trigger(self) -> None:
        if self._run is None or self._state() != WAITING:
            raise ScpiError(-200, "no sweep waits for a trigger")
        self._run.resume()

    def _state(self) -> int:
        if self._run is None:
            return STOPPED
        if self._clock.now_s() < self._ready_s:
            return PREPARING
        return WAITING if self._run.paused else RUNNING

    def _cycles_done(self) -> int:
        return self._count if self._run is None else self._run.cycle()

    def _wavelength_m(self) -> float:
        return self._settings.wavelength_m if self._run is None else self._run.wavelength_m()

    def _follow(self) -> None:
        """Bring the laser to where its sweep is, and end a sweep that is complete."""
        if self._run is not None:
            if self._run.done():
                self._stop()
            self._emit()

    def _emit(self) -> None:
        s = self._settings
        frequency_hz = wavelength_to_frequency_hz(self._wavelength_m())
        shift_hz = s.fine * self._fine_step_hz
        self._laser.set_emission(s.on and not s.shut, s.power_w, frequency_hz + shift_hz)

    def _logged(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        if self._run is None:
            return self._log
        logs = self._settings.trigger_out == STEP_TRIGGER and self._state() == RUNNING
        return self._run.passed() if logs else np.empty(0)

    def _block(self) -> bytes:
        """Return the logged wavelengths as uint32 in 0.1 pm, little-endian."""
        return encode_block(np.rint(self._logged() / RESOLUTION_M).astype("<u4").tobytes())


def _rounded(length_m: float) -> float:
    """Return a wavelength on the laser's grid of 0.1 pm."""
    return round(length_m / RESOLUTION_M) * RESOLUTION_M


def _nominal_speed(speed_nm_s: int) -> int:
    if speed_nm_s not in SPEEDS_NM_S:
        raise ScpiError(-222)
    return speed_nm_s


def _limit(pattern: str, kind: Quantity, *, high: bool) -> Command:
    return readout(pattern, lambda _: kind.format(kind.high if high else kind.low))
