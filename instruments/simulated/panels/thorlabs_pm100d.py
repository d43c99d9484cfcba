"""Front panel of a Thorlabs PM100D optical power meter: SCPI in, sensor current to power.

Source: docs/wire/thorlabs_pm100d.md, sections Line, Sensor, Correction, Measurement and Assumed;
the rest of the command tree as the package ThorlabsPM100 has it from the manual.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from labctl.clock import Clock
from labctl.instruments.codecs.scpi import (
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
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import (
    INFINITY,
    Boolean,
    Integer,
    Kind,
    Number,
    Parameter,
    T,
    Word,
)
from labctl.instruments.simulated.panels.kept_settings import as_set, kept
from labctl.instruments.simulated.ports import PowerSensorPort
from labctl.units import db_to_ratio, w_to_dbm

# Ranges, the bit and the beam's limits are assumed (docs/wire/thorlabs_pm100d.md, [M]).
CURRENT_RANGES_A = (50e-9, 500e-9, 5e-6, 50e-6, 500e-6, 5e-3)
OVERLOAD = 1.1
CALIBRATING = 1
STYLE = "{:.6E}"
_ROUNDED = 1e-6
BEAM_LIMITS_MM, BEAM_MM = (0.1, 30.0), 9.5
POWER, CURRENT, DENSITY = "POW", "CURR", "PDEN"
QUANTITIES = {POWER: "POWer", CURRENT: "CURRent[:DC]", DENSITY: "PDENsity"}


@dataclass(frozen=True)
class CurrentRange:
    """The ranges of the photocurrent in a quantity that is `per_ampere` times as much."""

    unit: str
    per_ampere: Callable[[], float]

    def limits(self) -> Number:
        """Return the smallest and the largest range, which is the default."""
        low, high = (end * self.per_ampere() for end in (CURRENT_RANGES_A[0], CURRENT_RANGES_A[-1]))
        return Number(self.unit, low, high, high, STYLE)

    def index(self, parameter: Parameter) -> int:
        """Return the smallest range that holds the value asked for; raises ScpiError."""
        limits = self.limits()
        smallest = parameter.text()[:3].upper() == "MIN"
        # A range is taken as it is shown, rounded to the digits of STYLE.
        highest = limits.high * (1.0 + _ROUNDED)
        allowed = replace(limits, low=0.0, high=highest)
        wanted = limits.low if smallest else allowed.parse(parameter)
        wanted_a = wanted / self.per_ampere() * (1.0 - 2.0 * _ROUNDED)
        return next(i for i, limit_a in enumerate(CURRENT_RANGES_A) if limit_a >= wanted_a)


@dataclass(frozen=True)
class Settings:
    """What *RST resets."""

    wavelength_nm: float
    loss_db: float = 0.0
    averages: int = 1
    low_pass: bool = False
    auto_range: bool = True
    range_index: int = len(CURRENT_RANGES_A) - 1
    unit: str = "W"
    reference_w: float = 0.0
    relative: bool = False
    quantity: str = POWER
    beam_mm: float = BEAM_MM


class ThorlabsPM100DPanel:
    """The meter with one photodiode head; satisfies `FrontPanel`.

    Power is (photocurrent - zero) / responsivity at the set wavelength, times the attenuation
    correction. Wavelengths are in nm on the wire. A measurement takes SENS:AVER samples of
    `sample_s` of bench time each. Assumed, not confirmed by a source: `sample_s`, the current
    ranges behind the power ranges, 9.9E+37 as the reading of an overload, `zero_s`, bit 0 of the
    operation register as "zeroing", the limits of the beam diameter, and power density in W/cm2.
    The photodiode head is calibrated: its response can be read, not set. Reference (delta) mode
    shows power minus reference in W, their ratio in dB with unit DBM.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        sensor: PowerSensorPort,
        *,
        identity: str = "THORLABS,PM100D,P0000001,2.7.0",
        sensor_identity: str = "S154C,1234567,12-Jan-2024,1,2,33",
        wavelength_limits_nm: tuple[float, float] = (800.0, 1700.0),
        default_wavelength_nm: float = 1550.0,
        sample_s: float = 3e-3,
        zero_s: float = 1.0,
    ) -> None:
        self.name, self._clock, self._sensor = name, clock, sensor
        self._sensor_identity = sensor_identity
        self._wavelength_limits_nm = wavelength_limits_nm
        self._default_nm, self._sample_s, self._zero_s = default_wavelength_nm, sample_s, zero_s
        self._zero_a = 0.0
        self._zero_until_s = -math.inf
        self._next_zero_a = 0.0
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            busy=self._zeroing,
        )
        self.write, self.read = self._scpi.write, self._scpi.read
        self.clear, self.status_byte = self._scpi.clear, self._scpi.status_byte
        self.serial_poll = self._scpi.serial_poll
        self.read_timed_out = self._scpi.read_timed_out
        self.power_cycle = self._scpi.power_cycle
        self._reset()

    def _reset(self) -> None:
        self._settings = Settings(wavelength_nm=self._default_nm)
        self._result: float | None = None
        self._rising, self._falling = 0, 0
        self._condition, self._event = 0, 0

    def _commands(self) -> list[Command]:
        return [
            *self._correction_commands(),
            *self._power_commands(),
            *self._zero_commands(),
            *self._measure_commands(),
            *self._operation_commands(),
        ]

    def _setting(
        self,
        pattern: str,
        kind: Kind[T],
        get: Callable[[Settings], T],
        put: Callable[[Settings, T], Settings],
    ) -> Command:
        """Declare a setting: how to read it and what the new settings are."""

        def write(_: Suffixes, settings: Settings) -> None:
            self._settings = settings

        return kept(pattern, kind, get, put, lambda _: self._settings, write)

    def _correction_commands(self) -> list[Command]:
        low_nm, high_nm = self._wavelength_limits_nm
        return [
            readout(":SYSTem:VERSion", lambda _: "1999.0"),
            readout(":SYSTem:SENSor:IDN", lambda _: self._sensor_identity),
            self._setting(
                "[:SENSe]:CORRection:WAVelength",
                Number("NM", low_nm, high_nm, self._default_nm, STYLE),
                *as_set("wavelength_nm"),
            ),
            self._setting(
                "[:SENSe]:CORRection[:LOSS][:INPut][:MAGNitude]",
                Number("DB", -60.0, 60.0, 0.0, STYLE),
                *as_set("loss_db"),
            ),
            self._setting("[:SENSe]:AVERage[:COUNt]", Integer(1, 10_000, 1), *as_set("averages")),
            self._setting(
                "[:SENSe]:CORRection:BEAMdiameter",
                Number("MM", *BEAM_LIMITS_MM, BEAM_MM, STYLE),
                *as_set("beam_mm"),
            ),
            readout(
                "[:SENSe]:CORRection:POWer[:PDIode][:RESPonse]",
                lambda _: STYLE.format(self._responsivity_a_w()),
            ),
            self._setting(":INPut[:PDIode]:FILTer[:LPASs][:STATe]", Boolean(), *as_set("low_pass")),
        ]

    def _power_commands(self) -> list[Command]:
        return [
            *self._range_commands("POWer", "W", self._watts_per_ampere),
            *self._range_commands("CURRent", "A", lambda: 1.0),
            self._setting("[:SENSe]:POWer[:DC]:UNIT", Word("W", "DBM"), *as_set("unit")),
            self._setting(
                "[:SENSe]:POWer[:DC]:REFerence[:VALue]",
                Number("W", 0.0, 1e3, 1e-3, STYLE),
                *as_set("reference_w"),
            ),
            self._setting("[:SENSe]:POWer[:DC]:REFerence:STATe", Boolean(), *as_set("relative")),
        ]

    def _range_commands(
        self, quantity: str, unit: str, per_ampere: Callable[[], float]
    ) -> list[Command]:
        """Declare the range of a quantity, which is that of the photocurrent behind it."""
        ranges = CurrentRange(unit, per_ampere)

        def put(_: Suffixes, parameters: Parameters) -> None:
            index = ranges.index(only(parameters))
            self._settings = replace(self._settings, range_index=index, auto_range=False)

        def ask(_: Suffixes, parameters: Parameters) -> Reply:
            if parameters:
                return STYLE.format(ranges.limits().limit(only(parameters)))
            return STYLE.format(CURRENT_RANGES_A[self._settings.range_index] * per_ampere())

        return [
            Command(f"[:SENSe]:{quantity}[:DC]:RANGe[:UPPer]", put, ask),
            self._setting(f"[:SENSe]:{quantity}[:DC]:RANGe:AUTO", Boolean(), *as_set("auto_range")),
        ]

    def _zero_commands(self) -> list[Command]:
        zero = "[:SENSe]:CORRection:COLLect:ZERO"
        return [
            action(f"{zero}[:INITiate]", lambda _: self._begin_zero()),
            action(f"{zero}:ABORt", lambda _: self._abort_zero()),
            readout(f"{zero}:STATe", lambda _: "1" if self._zeroing() else "0"),
            readout(f"{zero}:MAGNitude", lambda _: STYLE.format(self._zero())),
        ]

    def _measure_commands(self) -> list[Command]:
        return [
            *(
                command
                for quantity in (POWER, CURRENT, DENSITY)
                for command in self._quantity_commands(quantity)
            ),
            readout(":READ", lambda _: self._measure(self._settings.quantity)),
            readout(":CONFigure", lambda _: self._settings.quantity),
            action(":INITiate[:IMMediate]", lambda _: self._acquire()),
            readout(":FETCh", lambda _: self._fetch()),
            action(":ABORt", lambda _: self._abort_zero()),
        ]

    def _quantity_commands(self, quantity: str) -> list[Command]:
        header = QUANTITIES[quantity]
        return [
            readout(f":MEASure[:SCALar]:{header}", lambda _: self._measure(quantity)),
            action(f":MEASure[:SCALar]:{header}", lambda _: self._begin(quantity)),
            action(f":CONFigure[:SCALar]:{header}", lambda _: self._configure(quantity)),
        ]

    def _operation_commands(self) -> list[Command]:
        mask = Integer(0, 0x7FFF)
        return [
            readout(":STATus:OPERation[:EVENt]", lambda _: self._take_event()),
            readout(":STATus:OPERation:CONDition", lambda _: self._present_condition()),
            setting(
                ":STATus:OPERation:PTRansition",
                mask,
                lambda _: self._rising,
                lambda _, value: self._filter(value, self._falling),
            ),
            setting(
                ":STATus:OPERation:NTRansition",
                mask,
                lambda _: self._falling,
                lambda _, value: self._filter(self._rising, value),
            ),
        ]

    def _responsivity_a_w(self) -> float:
        return self._sensor.responsivity_a_w(self._settings.wavelength_nm * 1e-9)

    def _watts_per_ampere(self) -> float:
        return db_to_ratio(self._settings.loss_db) / self._responsivity_a_w()

    def _begin_zero(self) -> None:
        self._zero_a = self._zero()
        self._next_zero_a = self._sensor.photocurrent_a(self._zero_s)
        self._zero_until_s = self._clock.now_s() + self._zero_s
        self._observe()

    def _abort_zero(self) -> None:
        if self._zeroing():
            self._next_zero_a = self._zero_a
            self._zero_until_s = self._clock.now_s()
        self._observe()

    def _zeroing(self) -> bool:
        return self._clock.now_s() < self._zero_until_s

    def _zero(self) -> float:
        """Return the zero in A that is in force."""
        return self._zero_a if self._zeroing() else self._next_zero_a

    def _configure(self, quantity: str) -> None:
        self._settings = replace(self._settings, quantity=quantity)

    def _begin(self, quantity: str) -> None:
        self._configure(quantity)
        self._acquire()

    def _measure(self, quantity: str) -> str:
        self._begin(quantity)
        return self._fetch()

    def _acquire(self) -> None:
        """Take a measurement, which costs its averaging time on the bench."""
        duration_s = self._settings.averages * self._sample_s
        self._clock.sleep(duration_s)
        current_a = self._sensor.photocurrent_a(duration_s)
        if self._settings.auto_range:
            self._settings = replace(self._settings, range_index=_fitting_range(current_a))
        if abs(current_a) > OVERLOAD * CURRENT_RANGES_A[self._settings.range_index]:
            self._result = INFINITY
        else:
            self._result = self._quantity(current_a - self._zero())

    def _quantity(self, current_a: float) -> float:
        """Return what is measured, for a photocurrent."""
        settings = self._settings
        if settings.quantity == CURRENT:
            return current_a
        power_w = current_a * self._watts_per_ampere()
        if settings.quantity == DENSITY:
            return power_w / (math.pi / 4.0 * (settings.beam_mm / 10.0) ** 2)
        return self._displayed(power_w)

    def _displayed(self, power_w: float) -> float:
        settings = self._settings
        if settings.unit == "W":
            return power_w - settings.reference_w if settings.relative else power_w
        shown_db = w_to_dbm(power_w)
        if settings.relative:
            shown_db -= w_to_dbm(settings.reference_w)
        return INFINITY if math.isnan(shown_db) else min(max(shown_db, -INFINITY), INFINITY)

    def _fetch(self) -> str:
        if self._result is None:
            raise ScpiError(-230)
        return STYLE.format(self._result)

    def _filter(self, rising: int, falling: int) -> None:
        self._observe()
        self._rising, self._falling = rising, falling

    def _observe(self) -> None:
        """Latch transitions of the operation condition register."""
        condition = CALIBRATING if self._zeroing() else 0
        rose, fell = condition & ~self._condition, self._condition & ~condition
        self._event |= rose & self._rising | fell & self._falling
        self._condition = condition

    def _present_condition(self) -> str:
        self._observe()
        return str(self._condition)

    def _take_event(self) -> str:
        self._observe()
        event, self._event = self._event, 0
        return str(event)


def _fitting_range(current_a: float) -> int:
    """Return the smallest range that holds a current, or the largest range."""
    fitting = (i for i, limit_a in enumerate(CURRENT_RANGES_A) if abs(current_a) <= limit_a)
    return next(fitting, len(CURRENT_RANGES_A) - 1)
