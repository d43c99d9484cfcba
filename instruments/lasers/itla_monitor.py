"""What an OIF ITLA module reports of itself: strings, alarms, temperatures and currents.

Source: OIF-ITLA-MSA-01.3 table 9.2-1, docs/wire/purephotonics_ppcl550.md, sections Registers and
Strings and lists [2+]; the bits of StatusF and StatusW are those of pytla's table [1], section
Status bits.
"""

from __future__ import annotations

from enum import IntFlag

from labctl.instruments.lasers.itla_registers import ItlaRegisters, Register

# What is written to StatusF and StatusW (docs/wire/purephotonics_ppcl550.md, section Registers).
_CLEAR_LATCHED = 0x00FF
# By the definition of the degree Celsius.
_KELVIN_AT_0_C = 273.15


class Alarm(IntFlag):
    """Bits of a status register; names that end in `_LATCHED` stay until they are cleared."""

    POWER_LATCHED = 1 << 0
    THERMAL_LATCHED = 1 << 1
    FREQUENCY_LATCHED = 1 << 2
    VENDOR_LATCHED = 1 << 3
    SOFT_RESET_LATCHED = 1 << 4
    MODULE_RESET_LATCHED = 1 << 5
    CHECKSUM_LATCHED = 1 << 6
    EXECUTION_LATCHED = 1 << 7
    POWER = 1 << 8
    THERMAL = 1 << 9
    FREQUENCY = 1 << 10
    VENDOR = 1 << 11
    DISABLE = 1 << 12
    FATAL = 1 << 13
    ALARM = 1 << 14
    SERVICE_REQUEST = 1 << 15


class ItlaMonitor:
    """Reads what a module reports of itself."""

    def __init__(self, registers: ItlaRegisters) -> None:
        self._registers = registers

    def device_type(self) -> str:
        """Return the device type, as the module spells it."""
        return self._registers.text(Register.DEV_TYP)

    def manufacturing_date(self) -> str:
        """Return the date of manufacture, as the module spells it."""
        return self._registers.text(Register.MFG_DATE)

    def backward_compatibility(self) -> str:
        """Return with which release the firmware is compatible, as the module spells it."""
        return self._registers.text(Register.REL_BACK)

    def fatal_status(self) -> Alarm:
        """Return the register StatusF."""
        return Alarm(self._registers.read(Register.STATUS_F))

    def warning_status(self) -> Alarm:
        """Return the register StatusW."""
        return Alarm(self._registers.read(Register.STATUS_W))

    def clear_status(self) -> None:
        """Clear the latched bits of both status registers."""
        self._registers.write(Register.STATUS_F, _CLEAR_LATCHED)
        self._registers.write(Register.STATUS_W, _CLEAR_LATCHED)

    def temperature_k(self) -> float:
        """Return the laser's temperature (CTemp) in K."""
        return self._registers.read_signed(Register.C_TEMP) / 100 + _KELVIN_AT_0_C

    def temperatures_k(self) -> tuple[float, ...]:
        """Return the temperatures of laser diode and case, in K."""
        values = self._registers.numbers(Register.TEMPS)
        return tuple(value / 100 + _KELVIN_AT_0_C for value in values)

    def currents_a(self) -> tuple[float, ...]:
        """Return the currents in A that the module lists (0.1 mA steps)."""
        return tuple(value * 1e-4 for value in self._registers.numbers(Register.CURRENTS))
