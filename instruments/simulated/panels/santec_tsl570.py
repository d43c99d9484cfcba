"""Front panel of a Santec TSL-570 tunable laser, in its Legacy and SCPI command sets.

Source: docs/wire/santec_tsl570.md, sections Sources, Line, Command sets, Identity, Light, Triggers,
Alerts and Assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from labctl.clock import Clock
from labctl.instruments.codecs.ieee488 import encode_block
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
from labctl.instruments.codecs.scpi_values import Boolean, Integer, Kind, Number, T
from labctl.instruments.simulated.panel import EVERYTHING
from labctl.instruments.simulated.panels.kept_settings import as_set, kept
from labctl.instruments.simulated.panels.santec_tsl570_sweep import LaserSweep, Settings
from labctl.instruments.simulated.panels.santec_tsl570_values import (
    LEGACY,
    RESOLUTION_M,
    CommandSet,
    PowerLevel,
    Quantity,
    known_error,
    nominal_speed,
    rounded,
)
from labctl.instruments.simulated.ports import LaserPort
from labctl.units import (
    db_to_ratio,
    dbm_to_w,
    frequency_to_wavelength_m,
    wavelength_to_frequency_hz,
)

# Assumed, as limits are (docs/wire/santec_tsl570.md, [M]).
LARGEST_ATTENUATION_DB = 30.0
SMALLEST_STEP_HZ = 20e6
_FINE = ("FINe", "FINetuning")


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
    of fine tuning (`fine_step_hz`, none by default), and that the attenuator takes light only while
    POW:ATT:AUT is off. COHC, FREQ:SWE:STEP and polarity and way of triggers are kept only. With
    TRIG:INP:STAN on a sweep waits for TRIG:INP:SOFT too.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        laser: LaserPort,
        *,
        identity: str = "SANTEC,TSL-570,21020001,0026.0026.0011",
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
        self._power = PowerLevel(*power_limits_dbm, lambda: self._settings.in_milliwatts)
        self._warm_s = clock.now_s() + warm_up_s
        self._prepare_s, self._tuning_s = prepare_s, tuning_s
        self._fine_step_hz, self._dark_dbm = fine_step_hz, dark_dbm
        self._firmware = identity.rpartition(",")[2]
        self._pending = b""
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            error_style=SCPI_ERRORS,
            message_bytes=1 << 16,
        )
        self.read_timed_out = self._scpi.read_timed_out
        self.power_cycle = self._scpi.power_cycle
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
            reply = self._scpi.read(EVERYTHING)[0]
            ends = b"" if reply[:1] in (b"", b"#") else self._terminator
            self._pending = reply.removesuffix(b"\n") + ends
        chunk, self._pending = self._pending[:limit], self._pending[limit:]
        return chunk, bool(chunk) and not self._pending

    def clear(self) -> None:
        """Device clear: drop input and output that wait."""
        self._pending = b""
        self._scpi.clear()

    def status_byte(self) -> int:
        """Return the status byte as a serial poll would read it."""
        return self._scpi.status_byte() | (MESSAGE_WAITS if self._pending else 0)

    def serial_poll(self) -> int:
        """Return the status byte and end the service request."""
        return self._scpi.serial_poll() | (MESSAGE_WAITS if self._pending else 0)

    def _reset(self) -> None:
        low_m, high_m = self._limits_m
        low_dbm, high_dbm = self._power_limits_dbm
        self._settings = Settings(
            wavelength_m=(low_m + high_m) / 2.0,
            start_m=low_m,
            stop_m=high_m,
            power_w=dbm_to_w(min(max(0.0, low_dbm), high_dbm)),
        )
        self._sweep = LaserSweep(self._clock, self._prepare_s, self._tuning_s)
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
            *self._frequency_sweep_commands(),
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

        def write(_: Suffixes, settings: Settings) -> None:
            if not sweeping:
                self._sweep.only_at_rest()
            self._settings = settings
            self._emit()

        return kept(pattern, kind, get, put, lambda _: self._settings, write)

    def _system_commands(self) -> list[Command]:
        return [
            readout(":SYSTem:ERRor[:NEXT]", lambda _: known_error(self._scpi.status.next_error())),
            readout(":SYSTem:ALERt", lambda _: self._alert()),
            setting(
                ":SYSTem:COMMunicate:CODe",
                CommandSet(),
                lambda _: self._command_set,
                self._put_command_set,
            ),
            readout(":SYSTem:VERSion", lambda _: self._firmware),
            readout(":SYSTem:LOCK", lambda _: "0"),
            action(":SPECial:SHUTdown", lambda _: self._reset()),
            action(":SPECial:REBoot", lambda _: self._reset()),
        ]

    def _power_commands(self) -> list[Command]:
        return [
            self._setting("[:SOURce]:POWer:STATe", Boolean(), *as_set("on"), sweeping=True),
            self._setting("[:SOURce]:POWer:SHUTter", Boolean(), *as_set("shut"), sweeping=True),
            self._setting(
                "[:SOURce]:POWer[:LEVel][:IMMediate][:AMPLitude]",
                self._power,
                *as_set("power_w"),
                sweeping=True,
            ),
            readout("[:SOURce]:POWer:ACTual[:LEVel]", lambda _: self._actual_power()),
            self._setting(
                "[:SOURce]:POWer:UNIT",
                Integer(0, 1),
                lambda s: int(s.in_milliwatts),
                lambda s, unit: replace(s, in_milliwatts=unit == 1),
                sweeping=True,
            ),
            self._setting(
                "[:SOURce]:POWer:ATTenuation",
                Number("DB", 0.0, LARGEST_ATTENUATION_DB, 0.0, "{:.2f}"),
                *as_set("attenuation_db"),
                sweeping=True,
            ),
            self._setting(
                "[:SOURce]:POWer:ATTenuation:AUTo",
                Boolean(),
                *as_set("auto_attenuation"),
                sweeping=True,
            ),
        ]

    def _wavelength_commands(self) -> list[Command]:
        commands = [
            self._setting(
                "[:SOURce]:WAVelength",
                self._wavelength(*self._limits_m),
                self._now_m,
                lambda s, wavelength_m: replace(s, wavelength_m=rounded(wavelength_m)),
            ),
            self._setting(
                "[:SOURce]:WAVelength:UNIT",
                Integer(0, 1),
                lambda s: int(s.in_terahertz),
                lambda s, unit: replace(s, in_terahertz=unit == 1),
                sweeping=True,
            ),
            *(
                self._setting(
                    f"[:SOURce]:WAVelength:{fine}",
                    Number("", -100.0, 100.0, 0.0, "{:+.2f}"),
                    *as_set("fine"),
                )
                for fine in _FINE
            ),
            *(
                action(f"[:SOURce]:WAVelength:{fine}:DISable", lambda _: self._stop_fine())
                for fine in _FINE
            ),
            self._setting("[:SOURce]:COHCtrl", Boolean(), *as_set("coherence"), sweeping=True),
        ]
        for pattern in ("[:SOURce]:WAVelength:FREQuency", "[:SOURce]:FREQuency"):
            commands.append(
                self._setting(
                    pattern,
                    self._frequency(),
                    lambda s: wavelength_to_frequency_hz(self._now_m(s)),
                    lambda s, value_hz: replace(
                        s, wavelength_m=frequency_to_wavelength_m(value_hz)
                    ),
                )
            )
        return commands

    def _limit_commands(self) -> list[Command]:
        wavelength, frequency = self._wavelength(*self._limits_m), self._frequency()
        limits: list[tuple[str, Quantity]] = [
            ("[:SOURce]:WAVelength:{}", wavelength),
            ("[:SOURce]:WAVelength:SWEep:RANGe:{}", wavelength),
            ("[:SOURce]:WAVelength:FREQuency:{}", frequency),
            ("[:SOURce]:FREQuency:{}", frequency),
            ("[:SOURce]:FREQuency:SWEep:RANGe:{}", frequency),
        ]
        return [
            kind.limit_query(pattern.format(word), highest=word == "MAXimum")
            for pattern, kind in limits
            for word in ("MINimum", "MAXimum")
        ]

    def _sweep_commands(self) -> list[Command]:
        wavelength = self._wavelength(*self._limits_m)
        seconds = Number("S", 0.0, 999.9, 0.0, "{:.1f}")
        sweep = "[:SOURce]:WAVelength:SWEep"
        return [
            self._setting(
                f"{sweep}:STARt",
                wavelength,
                lambda s: s.start_m,
                lambda s, value_m: replace(s, start_m=rounded(value_m)),
            ),
            self._setting(
                f"{sweep}:STOP",
                wavelength,
                lambda s: s.stop_m,
                lambda s, value_m: replace(s, stop_m=rounded(value_m)),
            ),
            self._setting(
                f"{sweep}:STEP",
                self._wavelength(RESOLUTION_M, self._limits_m[1] - self._limits_m[0]),
                lambda s: s.step_m,
                lambda s, step_m: replace(s, step_m=rounded(step_m)),
            ),
            self._setting(
                f"{sweep}:SPEed",
                Integer(1, 200),
                lambda s: s.speed_nm_s,
                lambda s, speed: replace(s, speed_nm_s=nominal_speed(speed)),
            ),
            self._setting(f"{sweep}:DWELl", seconds, *as_set("dwell_s")),
            self._setting(f"{sweep}:DELay", seconds, *as_set("delay_s")),
            self._setting(f"{sweep}:CYCLes", Integer(0, 999), *as_set("cycles")),
            self._setting(f"{sweep}:MODe", Integer(0, 3), *as_set("mode")),
            setting(f"{sweep}[:STATe]", Integer(0, 1), lambda _: self._sweep.state, self._control),
            action(f"{sweep}[:STATe]:REPeat", lambda _: self._start(math.inf)),
            readout(f"{sweep}:COUNt", lambda _: str(self._sweep.cycles_done)),
        ]

    def _frequency_sweep_commands(self) -> list[Command]:
        frequency = self._frequency()
        span_hz = frequency.high - frequency.low
        step = replace(frequency, low=SMALLEST_STEP_HZ, high=span_hz)
        return [
            command
            for sweep in (
                "[:SOURce]:FREQuency:SWEep",
                "[:SOURce]:WAVelength:FREQuency:SWEep",
            )
            for command in (
                self._setting(
                    f"{sweep}:STARt",
                    frequency,
                    lambda s: wavelength_to_frequency_hz(s.start_m),
                    lambda s, value_hz: replace(s, start_m=frequency_to_wavelength_m(value_hz)),
                ),
                self._setting(
                    f"{sweep}:STOP",
                    frequency,
                    lambda s: wavelength_to_frequency_hz(s.stop_m),
                    lambda s, value_hz: replace(s, stop_m=frequency_to_wavelength_m(value_hz)),
                ),
                self._setting(f"{sweep}:STEP", step, *as_set("step_hz")),
            )
        ]

    def _trigger_commands(self) -> list[Command]:
        return [
            self._setting(":TRIGger:OUTPut", Integer(0, 3), *as_set("trigger_out")),
            self._setting(
                ":TRIGger:OUTPut:STEP[:WIDTh]",
                self._wavelength(RESOLUTION_M, self._limits_m[1] - self._limits_m[0]),
                lambda s: s.trigger_step_m,
                lambda s, step_m: replace(s, trigger_step_m=rounded(step_m)),
            ),
            self._setting(":TRIGger:OUTPut:SETTing", Integer(0, 1), *as_set("trigger_setting")),
            self._setting(":TRIGger:INPut:EXTernal", Boolean(), *as_set("external")),
            self._setting(":TRIGger:INPut:STANdby", Boolean(), *as_set("standby")),
            self._setting(":TRIGger:INPut:ACTive", Boolean(), *as_set("trigger_in_falls")),
            self._setting(":TRIGger:OUTPut:ACTive", Boolean(), *as_set("trigger_out_falls")),
            self._setting(":TRIGger:THRough", Boolean(), *as_set("trigger_through")),
            action(":TRIGger:INPut:SOFTtrigger", lambda _: self._sweep.trigger()),
            readout(":READout:POINts", lambda _: str(self._sweep.logged(self._settings).size)),
            readout(":READout:DATa", lambda _: self._block()),
        ]

    def _alert(self) -> str:
        return "No23.,Ongoing Warm up" if self._clock.now_s() < self._warm_s else "No alerts."

    def _put_command_set(self, _: Suffixes, command_set: int) -> None:
        self._command_set = command_set

    def _actual_power(self) -> str:
        shown = self._power.shown(self._laser.emitted_power_w())
        return f"{max(shown, self._dark_dbm):+.2f}"

    def _stop_fine(self) -> None:
        self._sweep.only_at_rest()
        self._settings = replace(self._settings, fine=0.0)
        self._emit()

    def _control(self, _: Suffixes, state: int) -> None:
        if state == 1:
            self._start(max(self._settings.cycles, 1))
        else:
            self._stop()

    def _start(self, cycles: float) -> None:
        self._sweep.start(self._settings, cycles)
        self._emit()

    def _stop(self) -> None:
        """Halt the sweep for good; the laser stays where it is."""
        wavelength_m = self._now_m(self._settings)
        self._sweep.stop(self._settings)
        self._settings = replace(self._settings, wavelength_m=wavelength_m)

    def _now_m(self, settings: Settings) -> float:
        return self._sweep.wavelength_m(settings)

    def _follow(self) -> None:
        """Tune the laser to where its sweep is, and end a sweep that is complete."""
        if self._sweep.complete:
            self._stop()
        self._emit()

    def _emit(self) -> None:
        s = self._settings
        frequency_hz = wavelength_to_frequency_hz(self._now_m(s)) + s.fine * self._fine_step_hz
        ratio = 1.0 if s.auto_attenuation else db_to_ratio(-s.attenuation_db)
        self._laser.set_emission(s.on and not s.shut, s.power_w * ratio, frequency_hz)

    def _block(self) -> bytes:
        """Return the logged wavelengths as uint32 in 0.1 pm, little-endian."""
        logged_m = self._sweep.logged(self._settings)
        return encode_block(np.rint(logged_m / RESOLUTION_M).astype("<u4").tobytes())
