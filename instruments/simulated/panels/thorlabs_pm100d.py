"""Front panel of a Thorlabs PM100D optical power meter: SCPI in, sensor current to power.

Source: Thorlabs PM100D manual pages 49 and 51, PM100USB manual pages 20 to 22, in agreement with
the drivers of PyMeasure and QMI.
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
    T,
    Word,
)
from labctl.instruments.simulated.ports import PowerSensorPort
from labctl.units import db_to_ratio, w_to_dbm

CURRENT_RANGES_A = (50e-9, 500e-9, 5e-6, 50e-6, 500e-6, 5e-3)
OVERLOAD = 1.1
CALIBRATING = 1
STYLE = "{:.6E}"


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
    quantity: str = "POW"


class ThorlabsPM100DPanel:
    """The meter with one photodiode head; satisfies `FrontPanel`.

    Power is (photocurrent - zero) / responsivity at the set wavelength, times the attenuation
    correction. Wavelengths are in nm on the wire. A measurement takes SENS:AVER samples of
    `sample_s` of bench time each. Assumed, not confirmed by a source: `sample_s`, the current
    ranges behind the power ranges, 9.9E+37 as the reading of an overload, `zero_s`, and bit 0 of
    the operation register as "zeroing". Reference (delta) mode shows power minus reference in W,
    their ratio in dB with unit DBM.
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
        self.read_timed_out = self._scpi.read_timed_out
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

        def adopt(_: Suffixes, value: T) -> None:
            self._settings = put(self._settings, value)

        return setting(pattern, kind, lambda _: get(self._settings), adopt)

    def _correction_commands(self) -> list[Command]:
        low_nm, high_nm = self._wavelength_limits_nm
        return [
            readout(":SYSTem:SENSor:IDN", lambda _: self._sensor_identity),
            self._setting(
                ":SENSe:CORRection:WAVelength",
                Number("NM", low_nm, high_nm, self._default_nm, STYLE),
                lambda s: s.wavelength_nm,
                lambda s, wavelength_nm: replace(s, wavelength_nm=wavelength_nm),
            ),
            self._setting(
                ":SENSe:CORRection[:LOSS]",
                Number("DB", -60.0, 60.0, 0.0, STYLE),
                lambda s: s.loss_db,
                lambda s, loss_db: replace(s, loss_db=loss_db),
            ),
            self._setting(
                ":SENSe:AVERage[:COUNt]",
                Integer(1, 10_000, 1),
                lambda s: s.averages,
                lambda s, averages: replace(s, averages=averages),
            ),
            self._setting(
                ":INPut:FILTer:LPASs",
                Boolean(),
                lambda s: s.low_pass,
                lambda s, low_pass: replace(s, low_pass=low_pass),
            ),
        ]

    def _power_commands(self) -> list[Command]:
        return [
            Command(":SENSe:POWer:RANGe[:UPPer]", self._put_range, self._ask_range),
            self._setting(
                ":SENSe:POWer:RANGe:AUTO",
                Boolean(),
                lambda s: s.auto_range,
                lambda s, auto_range: replace(s, auto_range=auto_range),
            ),
            self._setting(
                ":SENSe:POWer:UNIT",
                Word("W", "DBM"),
                lambda s: s.unit,
                lambda s, unit: replace(s, unit=unit),
            ),
            self._setting(
                ":SENSe:POWer:REFerence",
                Number("W", 0.0, 1e3, 1e-3, STYLE),
                lambda s: s.reference_w,
                lambda s, reference_w: replace(s, reference_w=reference_w),
            ),
            self._setting(
                ":SENSe:POWer:REFerence:STATe",
                Boolean(),
                lambda s: s.relative,
                lambda s, relative: replace(s, relative=relative),
            ),
        ]

    def _zero_commands(self) -> list[Command]:
        zero = ":SENSe:CORRection:COLLect:ZERO"
        return [
            action(f"{zero}[:INITiate]", lambda _: self._begin_zero()),
            action(f"{zero}:ABORt", lambda _: self._abort_zero()),
            readout(f"{zero}:STATe", lambda _: "1" if self._zeroing() else "0"),
            readout(f"{zero}:MAGNitude", lambda _: STYLE.format(self._zero())),
        ]

    def _measure_commands(self) -> list[Command]:
        return [
            readout(":MEASure[:SCALar]:POWer", lambda _: self._measure("POW")),
            readout(":MEASure[:SCALar]:CURRent", lambda _: self._measure("CURR")),
            readout(":READ", lambda _: self._measure(self._settings.quantity)),
            readout(":CONFigure", lambda _: self._settings.quantity),
            action(":CONFigure[:SCALar]:POWer", lambda _: self._configure("POW")),
            action(":INITiate", lambda _: self._acquire()),
            readout(":FETCh", lambda _: self._fetch()),
            action(":ABORt", lambda _: self._abort_zero()),
        ]

    def _operation_commands(self) -> list[Command]:
        mask = Integer(0, 0x7FFF)
        return [
            readout(":STATus:OPERation", lambda _: self._take_event()),
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

    def _watts_per_ampere(self) -> float:
        responsivity_a_w = self._sensor.responsivity_a_w(self._settings.wavelength_nm * 1e-9)
        return db_to_ratio(self._settings.loss_db) / responsivity_a_w

    def _range_limits(self) -> Number:
        watts_per_ampere = self._watts_per_ampere()
        low_w = CURRENT_RANGES_A[0] * watts_per_ampere
        high_w = CURRENT_RANGES_A[-1] * watts_per_ampere
        return Number("W", low_w, high_w, high_w, STYLE)

    def _put_range(self, _: Suffixes, parameters: Parameters) -> None:
        """Choose the smallest range that holds the power asked for, and leave auto-ranging."""
        low_w = self._range_limits().low
        kind = replace(self._range_limits(), low=0.0)
        text = only(parameters).text()[:3].upper()
        wanted_w = low_w if text == "MIN" else kind.parse(only(parameters))
        wanted_a = wanted_w / self._watts_per_ampere() * (1.0 - 1e-9)
        index = next(i for i, limit_a in enumerate(CURRENT_RANGES_A) if limit_a >= wanted_a)
        self._settings = replace(self._settings, range_index=index, auto_range=False)

    def _ask_range(self, _: Suffixes, parameters: Parameters) -> Reply:
        kind = self._range_limits()
        if parameters:
            return kind.format(kind.limit(only(parameters)))
        return kind.format(CURRENT_RANGES_A[self._settings.range_index] * self._watts_per_ampere())

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

    def _measure(self, quantity: str) -> str:
        self._configure(quantity)
        self._acquire()
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
        elif self._settings.quantity == "CURR":
            self._result = current_a - self._zero()
        else:
            self._result = self._displayed((current_a - self._zero()) * self._watts_per_ampere())

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

    def _take_event(self) -> str:
        self._observe()
        event, self._event = self._event, 0
        return str(event)


def _fitting_range(current_a: float) -> int:
    """Return the smallest range that holds a current, or the largest there is."""
    fitting = (i for i, limit_a in enumerate(CURRENT_RANGES_A) if abs(current_a) <= limit_a)
    return next(fitting, len(CURRENT_RANGES_A) - 1)
