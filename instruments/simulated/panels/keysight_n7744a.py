"""Front panel of a Keysight N7744A multiport power meter: SCPI in, sensor current to power.

Source: docs/wire/keysight_n7744a.md, sections Power, Settings, Reference, Logging, Triggers and
Assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

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
    readout,
)
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import INFINITY, Boolean, Integer, Kind, Number, T, Word
from labctl.instruments.simulated.panels.kept_settings import as_set, kept
from labctl.instruments.simulated.panels.optical_values import (
    DBM,
    WATT,
    LongNumber,
    PowerUnit,
    format_power,
    long_number,
    parse_power_w,
)
from labctl.instruments.simulated.ports import PowerSensorPort, TriggerPort
from labctl.units import db_to_ratio, dbm_to_w, ratio_to_db, w_to_dbm

# Headroom of a range, assumed (docs/wire/keysight_n7744a.md, [M]).
OVERLOAD_DB = 3.0
_CHANNEL = "[:CHANnel#]"


@dataclass(frozen=True)
class Settings:
    """Settings of one port of the meter."""

    wavelength_m: float
    range_dbm: float
    unit: int = DBM
    averaging_s: float = 0.1
    auto_range: bool = True
    auto_gain: bool = True
    reference_w: float = 1e-3
    module_reference_db: float = 0.0
    relative: bool = False
    relative_to: int = 0
    continuous: bool = True
    trigger_in: str = "IGN"
    trigger_out: str = "DIS"
    points: int = 100
    point_s: float = 0.1


@dataclass
class Log:
    """A logging function under way or complete; `due_s` is the end of the next sample."""

    points: int
    point_s: float
    unit: int
    due_s: float
    single: bool
    values: list[float] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all samples are taken."""
        return len(self.values) >= self.points


class KeysightN7744APanel:
    """A meter with one photodiode per entry of `sensors`; satisfies `FrontPanel`.

    Power is (photocurrent - zero) / responsivity at the set wavelength. A measurement takes its
    averaging time on the bench clock. A log takes its samples one after the other (input IGN), all
    after one trigger (CME) or each after one (SME), from `trigger_in`; samples that ended between
    two messages see the light of the later one. Powers without suffix are in the unit of
    POW:UNIT; ranges are in dBm. Assumed, not confirmed by a source: the texts of FUNC:STAT?,
    FUNC:RES? in the unit set when the log began, ratios (W) and dB (dBm) in reference mode, limits
    and defaults, 3 dB of headroom in a range, 9.9E+37 as an overload, the time of a zero, and
    at most `max_points` samples.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        sensors: Mapping[int, PowerSensorPort],
        trigger_in: TriggerPort | None = None,
        *,
        identity: str = "Keysight Technologies,N7744A,MY00000001,1.0",
        wavelength_limits_m: tuple[float, float] = (1250e-9, 1650e-9),
        default_wavelength_m: float = 1550e-9,
        range_limits_dbm: tuple[float, float] = (-30.0, 10.0),
        averaging_limits_s: tuple[float, float] = (1e-6, 10.0),
        max_points: int = 100_000,
        zero_s: float = 1.0,
    ) -> None:
        self.name, self._clock, self._sensors = name, clock, dict(sensors)
        self._limits_m, self._default_m = wavelength_limits_m, default_wavelength_m
        self._range_limits_dbm, self._averaging_limits_s = range_limits_dbm, averaging_limits_s
        self._max_points, self._zero_s = max_points, zero_s
        self._zero_a = dict.fromkeys(self._sensors, 0.0)
        self._zero_until_s = -math.inf
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            busy=lambda: self._clock.now_s() < self._zero_until_s,
            message_bytes=1 << 16,
        )
        self.clear, self.status_byte = self._scpi.clear, self._scpi.status_byte
        self.serial_poll = self._scpi.serial_poll
        self.read_timed_out = self._scpi.read_timed_out
        self.power_cycle = self._scpi.power_cycle
        self._reset()
        if trigger_in is not None:
            trigger_in.listen(self._triggered)

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host, with the logs as far as they are by now."""
        self._sample()
        self._scpi.write(data, end=end)

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the oldest reply, and whether it ends with them."""
        self._sample()
        return self._scpi.read(limit)

    def _reset(self) -> None:
        initial = Settings(wavelength_m=self._default_m, range_dbm=self._range_limits_dbm[1])
        self._settings = dict.fromkeys(self._sensors, initial)
        self._results_w: dict[int, float] = {}
        self._logs: dict[int, Log] = {}

    def _commands(self) -> list[Command]:
        return [
            *self._power_commands(),
            *self._reference_commands(),
            *self._trigger_commands(),
            *self._measure_commands(),
            *self._logging_commands(),
        ]

    def _setting(
        self,
        pattern: str,
        kind: Kind[T],
        get: Callable[[Settings], T],
        put: Callable[[Settings, T], Settings],
    ) -> Command:
        """Declare a setting of one port: how to read it and what the new settings are."""

        def write(suffixes: Suffixes, settings: Settings) -> None:
            self._settings[self._slot(suffixes)] = settings

        return kept(pattern, kind, get, put, lambda n: self._settings[self._slot(n)], write)

    def _power_commands(self) -> list[Command]:
        power = f":SENSe#{_CHANNEL}:POWer"
        low_dbm, high_dbm = self._range_limits_dbm
        return [
            self._setting(
                f"{power}:WAVelength",
                LongNumber("M", *self._limits_m, self._default_m),
                *as_set("wavelength_m"),
            ),
            self._setting(f"{power}:UNIT", PowerUnit(), *as_set("unit")),
            self._setting(
                f"{power}:ATIMe",
                LongNumber("S", *self._averaging_limits_s, 0.1),
                *as_set("averaging_s"),
            ),
            self._setting(
                f"{power}:RANGe[:UPPer]",
                LongNumber("DBM", low_dbm, high_dbm, high_dbm),
                lambda s: s.range_dbm,
                lambda s, dbm: replace(s, range_dbm=_decade_dbm(dbm), auto_range=False),
            ),
            self._setting(f"{power}:RANGe:AUTO", Boolean(), *as_set("auto_range")),
            self._setting(f"{power}:GAIN:AUTO", Boolean(), *as_set("auto_gain")),
        ]

    def _reference_commands(self) -> list[Command]:
        reference = f":SENSe#{_CHANNEL}:POWer:REFerence"
        return [
            Command(reference, self._put_reference, self._ask_reference),
            self._setting(f"{reference}:STATe", Boolean(), *as_set("relative")),
            Command(f"{reference}:STATe:RATio", self._put_ratio, self._ask_ratio),
            action(f"{reference}:DISPlay", self._adopt_reference),
        ]

    def _trigger_commands(self) -> list[Command]:
        return [
            self._setting(
                f":TRIGger#{_CHANNEL}:INPut",
                Word("IGNore", "SMEasure", "CMEasure"),
                *as_set("trigger_in"),
            ),
            self._setting(
                f":TRIGger#{_CHANNEL}:OUTPut",
                Word("DISabled", "AVGover", "MEASure"),
                *as_set("trigger_out"),
            ),
            self._setting(f":INITiate#{_CHANNEL}:CONTinuous", Boolean(), *as_set("continuous")),
        ]

    def _measure_commands(self) -> list[Command]:
        zero = f":SENSe#{_CHANNEL}:CORRection:COLLect:ZERO"
        return [
            action(f":INITiate#{_CHANNEL}[:IMMediate]", lambda n: self._measure(self._slot(n))),
            readout(f":READ#{_CHANNEL}[:SCALar]:POWer[:DC]", self._read),
            readout(f":FETCh#{_CHANNEL}[:SCALar]:POWer[:DC]", self._fetch),
            readout(f":READ#{_CHANNEL}[:SCALar]:POWer[:DC]:ALL:CONFig", self._ask_slots),
            action(zero, lambda n: self._begin_zero([self._slot(n)])),
            action(f"{zero}:ALL", lambda _: self._begin_zero(list(self._sensors))),
            readout(zero, self._ask_zero),
            readout(f"{zero}:ALL", self._ask_zero),
        ]

    def _logging_commands(self) -> list[Command]:
        function = f":SENSe#{_CHANNEL}:FUNCtion"
        return [
            Command(f"{function}:PARameter:LOGGing", self._put_logging, self._ask_logging),
            Command(f"{function}:STATe", self._control_log, self._ask_log_state),
            readout(f"{function}:RESult", self._ask_result),
            Command(f"{function}:RESult:BLOCk", ask=self._ask_block),
        ]

    def _slot(self, suffixes: Suffixes) -> int:
        if suffixes[0] not in self._sensors or (suffixes[1:] and suffixes[1] != 1):
            raise ScpiError(-114)
        return suffixes[0]

    def _put_reference(self, suffixes: Suffixes, parameters: Parameters) -> None:
        """Set the reference power (TOREF), or the reference to another port in dB (TOMOD)."""
        slot = self._slot(suffixes)
        if len(parameters) != 2:
            raise ScpiError(-109 if len(parameters) < 2 else -108)
        settings = self._settings[slot]
        if Word("TOREF", "TOMODule").parse(parameters[0]) == "TOREF":
            power_w = parse_power_w(parameters[1], settings.unit)
            if power_w <= 0.0:
                raise ScpiError(-222)
            self._settings[slot] = replace(settings, reference_w=power_w)
        else:
            value_db = Number("DB", -200.0, 200.0).parse(parameters[1])
            self._settings[slot] = replace(settings, module_reference_db=value_db)

    def _ask_reference(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        settings = self._settings[self._slot(suffixes)]
        if len(parameters) != 1:
            raise ScpiError(-109 if not parameters else -108)
        if Word("TOREF", "TOMODule").parse(parameters[0]) == "TOREF":
            return format_power(settings.reference_w, settings.unit)
        return long_number(settings.module_reference_db)

    def _put_ratio(self, suffixes: Suffixes, parameters: Parameters) -> None:
        """Choose what powers are relative to: TOREF, or another port by slot and channel."""
        slot = self._slot(suffixes)
        if len(parameters) != 2:
            raise ScpiError(-109 if len(parameters) < 2 else -108)
        other = 0
        if parameters[0].text().upper() != "TOREF":
            other = Integer(0, 9999).parse(parameters[0])
            if other not in self._sensors or Integer(0, 9999).parse(parameters[1]) != 1:
                raise ScpiError(-222, "no such port")
        self._settings[slot] = replace(self._settings[slot], relative_to=other)

    def _ask_ratio(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        if parameters:
            raise ScpiError(-108)
        other = self._settings[self._slot(suffixes)].relative_to
        return f"{other:+d},+1" if other else "TOREF,+0"

    def _adopt_reference(self, suffixes: Suffixes) -> None:
        """Take the power that is there now as the reference, and show powers relative to it."""
        slot = self._slot(suffixes)
        power_w = self._power_w(slot, self._settings[slot].averaging_s)
        if not 0.0 < power_w < INFINITY:
            raise ScpiError(-222, "no power to refer to")
        self._settings[slot] = replace(self._settings[slot], reference_w=power_w, relative=True)

    def _power_w(self, slot: int, averaging_s: float) -> float:
        """Measure a power; INFINITY if it is too much for a fixed range."""
        sensor, settings = self._sensors[slot], self._settings[slot]
        current_a = sensor.photocurrent_a(averaging_s) - self._zero_a[slot]
        power_w = current_a / sensor.responsivity_a_w(settings.wavelength_m)
        if settings.auto_range:
            low_dbm, high_dbm = self._range_limits_dbm
            wanted_dbm = min(max(w_to_dbm(power_w) - OVERLOAD_DB, low_dbm), high_dbm)
            settings = replace(settings, range_dbm=_decade_dbm(wanted_dbm))
            self._settings[slot] = settings
        overload = power_w > dbm_to_w(settings.range_dbm + OVERLOAD_DB)
        return INFINITY if overload else power_w

    def _measure(self, slot: int) -> None:
        averaging_s = self._settings[slot].averaging_s
        self._clock.sleep(averaging_s)
        self._results_w[slot] = self._power_w(slot, averaging_s)

    def _read(self, suffixes: Suffixes) -> str:
        slot = self._slot(suffixes)
        self._measure(slot)
        return self._displayed(slot)

    def _fetch(self, suffixes: Suffixes) -> str:
        slot = self._slot(suffixes)
        settings = self._settings[slot]
        if settings.continuous and settings.trigger_in == "IGN":
            self._results_w[slot] = self._power_w(slot, settings.averaging_s)
        return self._displayed(slot)

    def _displayed(self, slot: int) -> str:
        if slot not in self._results_w:
            raise ScpiError(-230, "nothing was measured")
        settings, power_w = self._settings[slot], self._results_w[slot]
        if power_w >= INFINITY:
            return long_number(INFINITY)
        if not settings.relative:
            return format_power(power_w, settings.unit)
        reference_w = self._reference_w(settings)
        ratio = power_w / reference_w if reference_w > 0.0 else math.inf
        return long_number(ratio if settings.unit == WATT else ratio_to_db(ratio))

    def _reference_w(self, settings: Settings) -> float:
        other = settings.relative_to
        if not other:
            return settings.reference_w
        power_w = self._power_w(other, self._settings[other].averaging_s)
        return power_w * db_to_ratio(settings.module_reference_db)

    def _ask_slots(self, suffixes: Suffixes) -> bytes:
        """Return slot and channel of every port, in the order of their numbers."""
        self._slot(suffixes)
        pairs = [(slot, 1) for slot in sorted(self._sensors)]
        return encode_block(np.array(pairs, dtype="<u2").tobytes())

    def _begin_zero(self, slots: list[int]) -> None:
        for slot in slots:
            self._zero_a[slot] = self._sensors[slot].photocurrent_a(self._zero_s)
        self._zero_until_s = self._clock.now_s() + self._zero_s

    def _ask_zero(self, suffixes: Suffixes) -> str:
        """Return the outcome of the last zero, which is always 0: success."""
        self._slot(suffixes)
        return "+0"

    def _put_logging(self, suffixes: Suffixes, parameters: Parameters) -> None:
        slot = self._slot(suffixes)
        if len(parameters) != 2:
            raise ScpiError(-109 if len(parameters) < 2 else -108)
        points = Integer(1, self._max_points).parse(parameters[0])
        point_s = Number("S", *self._averaging_limits_s).parse(parameters[1])
        self._settings[slot] = replace(self._settings[slot], points=points, point_s=point_s)

    def _ask_logging(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        if parameters:
            raise ScpiError(-108)
        settings = self._settings[self._slot(suffixes)]
        return f"{settings.points:+d},{long_number(settings.point_s)}"

    def _control_log(self, suffixes: Suffixes, parameters: Parameters) -> None:
        slot = self._slot(suffixes)
        if len(parameters) != 2:
            raise ScpiError(-109 if len(parameters) < 2 else -108)
        Word("LOGGing").parse(parameters[0])
        if Word("STARt", "STOP").parse(parameters[1]) == "STOP":
            self._logs.pop(slot, None)
            return
        s = self._settings[slot]
        waits = s.trigger_in != "IGN"
        due_s = math.inf if waits else self._clock.now_s() + s.point_s
        self._logs[slot] = Log(s.points, s.point_s, s.unit, due_s, s.trigger_in == "SME")

    def _triggered(self, time_s: float) -> None:
        """Start the logs, or the samples, that wait for a trigger."""
        self._sample()
        for log in self._logs.values():
            if log.due_s == math.inf and not log.complete:
                log.due_s = time_s + log.point_s

    def _sample(self) -> None:
        """Take the samples that have ended by now."""
        now_s = self._clock.now_s()
        for slot, log in self._logs.items():
            while not log.complete and log.due_s <= now_s + 1e-12:
                log.values.append(self._logged(self._power_w(slot, log.point_s), log.unit))
                log.due_s = math.inf if log.single else log.due_s + log.point_s

    def _logged(self, power_w: float, unit: int) -> float:
        if unit == WATT or power_w >= INFINITY:
            return power_w
        return max(w_to_dbm(power_w), -INFINITY)

    def _ask_log_state(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        if parameters:
            raise ScpiError(-108)
        log = self._logs.get(self._slot(suffixes))
        if log is None:
            return "NONE,COMPLETE"
        return f"LOGGING_STABILITY,{'COMPLETE' if log.complete else 'PROGRESS'}"

    def _complete_log(self, suffixes: Suffixes) -> list[float]:
        log = self._logs.get(self._slot(suffixes))
        if log is None or not log.complete:
            raise ScpiError(-230, "no log is complete")
        return log.values

    def _ask_result(self, suffixes: Suffixes) -> bytes:
        """Return all samples as float32, little-endian."""
        return encode_block(np.array(self._complete_log(suffixes), dtype="<f4").tobytes())

    def _ask_block(self, suffixes: Suffixes, parameters: Parameters) -> Reply:
        """Return some samples: the number of the first, from 0, and how many."""
        values = self._complete_log(suffixes)
        if len(parameters) != 2:
            raise ScpiError(-109 if len(parameters) < 2 else -108)
        first = Integer(0, len(values) - 1).parse(parameters[0])
        count = Integer(1, len(values) - first).parse(parameters[1])
        return encode_block(np.array(values[first : first + count], dtype="<f4").tobytes())


def _decade_dbm(dbm: float) -> float:
    """Return the end of the 10 dB range that a power is in."""
    return 10.0 * math.ceil(dbm / 10.0 - 1e-9)
