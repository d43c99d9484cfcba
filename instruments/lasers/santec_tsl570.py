"""Santec TSL-570 tunable laser, and the TSL-550 with its shutter (SCPI).

Commands: docs/wire/santec_tsl570.md, sections Line, Command sets, Light and Alerts [2+]. Of the two
command sets the older takes wavelengths in nm ("legacy"), the newer in m ("scpi"); sweep speeds are
nm/s in both [1]. Powers travel in dBm, which both sets share. Alert texts come from one source [1]:
only the code of the warm-up is looked at. The power range is [M]: options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field

from labctl.errors import LimitError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity
from labctl.instruments.driver_rules import require_range
from labctl.instruments.lasers.santec_tsl570_sweep import TSL570Sweep
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa
from labctl.units import (
    dbm_to_w,
    frequency_to_wavelength_m,
    w_to_dbm,
    wavelength_to_frequency_hz,
)

# `:POW:UNIT` of dBm, and the step that a power is read back to (docs/wire/santec_tsl570.md).
_IN_DBM = 0
_STEP_DB = 0.01
_WARMING_UP = "NO23"


class TSL570Options(DriverOptions):
    """Line, command set, waits and limits.

    `terminator` of commands and replies: a carriage return on RS-232 and LAN; GPIB has CR LF [1].
    `command_set`: asked for unless given (a TSL-550 knows only "legacy"). `shutter`: open and
    close it with the light. `sweep_speeds_nm_s`: those of the TSL-570; an empty list leaves the
    choice to the laser. `settling_timeout_s`: how long switching on or tuning may take.
    """

    baud_rate: int = Field(default=9600, gt=0)
    timeout_s: float = Field(default=5.0, gt=0)
    settling_timeout_s: float = Field(default=60.0, gt=0)
    terminator: Literal["\r", "\n", "\r\n"] = "\r"
    command_set: Literal["legacy", "scpi"] | None = None
    model: str = Field(default="TSL-570", min_length=1)
    shutter: bool = False
    min_power_dbm: float = -15.0
    max_power_dbm: float = 13.0
    sweep_speeds_nm_s: list[float] = Field(default=[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0])


class SantecTSL570(TSL570Sweep):
    """A TunableLaser and a SweptLaser."""

    Options = TSL570Options
    hazard = Hazard.EMISSION
    reads_back = frozenset({"set_power"})

    def __init__(self, transport: MessageTransport, options: TSL570Options | None = None) -> None:
        self.name = transport.name
        self._options = options or TSL570Options()
        command_set, speeds_nm_s = self._options.command_set, self._options.sweep_speeds_nm_s
        super().__init__(ScpiSession(transport), command_set, speeds_nm_s)

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(TSL570Options, name, options)
        transport = open_visa(
            name,
            address,
            library=library,
            timeout_s=read.timeout_s,
            terminator=read.terminator,
            baud_rate=read.baud_rate,
        )
        laser = cls(transport, read)
        return verified(laser, address, laser._scpi.forget_errors, laser.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`; raises ReplyError if it is another model."""
        return self._scpi.identify(self._options.model.upper())

    def set_power(self, power_w: float) -> None:
        """Set the power in W (0.01 dB steps), within the options' range (else LimitError)."""
        power_dbm = w_to_dbm(power_w) if power_w > 0 else -math.inf
        lowest, highest = self._options.min_power_dbm, self._options.max_power_dbm
        # Half a step of grace: a limit converted to W and back must still be inside.
        if not lowest - 0.005 <= power_dbm <= highest + 0.005:
            valid = f"{dbm_to_w(lowest):.4g} to {dbm_to_w(highest):.4g} W"
            raise LimitError(self.name, "power_w", power_w, valid)
        self._use_dbm()
        self._scpi.set_and_see(f":POW {power_dbm:.2f}", ":POW?", power_dbm, resolution=_STEP_DB)

    def power_w(self) -> float:
        """Return the power in W that the laser measures at its output."""
        self._use_dbm()
        return dbm_to_w(self._scpi.number(":POW:ACT?"))

    def set_emission(self, on: bool) -> None:
        """Switch the light and wait until it is, and warm; raises InstrumentTimeoutError."""
        command = f":POW:STAT {on:d}"
        if not self._options.shutter:
            self._scpi.set(command)
        elif on:
            self._scpi.set(":POW:SHUT 0")
            self._scpi.set(command)
        else:
            self._darken(command)
        timeout_s = self._options.settling_timeout_s
        problem = f"did not switch {'on' if on else 'off'}"
        self._scpi.wait(lambda: self.emission() is on, timeout_s, problem, command)
        if on:
            self._scpi.wait(self._is_warm, timeout_s, "did not warm up", ":SYST:ALER?")

    def emission(self) -> bool:
        """Return whether light is emitted: diode on and, where there is one, shutter open."""
        is_open = not self._options.shutter or not self._scpi.flag(":POW:SHUT?")
        return is_open and self._scpi.flag(":POW:STAT?")

    def set_frequency(self, frequency_hz: float) -> None:
        """Tune to a frequency in Hz (0.1 pm steps) within `frequency_limits_hz`, and wait.

        Raises LimitError.
        """
        limits_hz = self.frequency_limits_hz()
        require_range(self.name, "frequency_hz", frequency_hz, *limits_hz, unit="Hz")
        command = f":WAV {self._wavelength(frequency_to_wavelength_m(frequency_hz))}"
        self._scpi.set(command)
        self._scpi.settle(self._options.settling_timeout_s, command)

    def frequency_hz(self) -> float:
        """Return the frequency in Hz that is set."""
        return wavelength_to_frequency_hz(self._wavelength_m(":WAV?"))

    def frequency_limits_hz(self) -> tuple[float, float]:
        """Return the lowest and the highest frequency in Hz that the laser states."""
        shortest_m, longest_m = self.wavelength_limits_m()
        return wavelength_to_frequency_hz(longest_m), wavelength_to_frequency_hz(shortest_m)

    def set_fine_tuning(self, share: float | None) -> None:
        """Shift the frequency finely, by -100 to 100 (per cent); None ends fine tuning.

        Raises LimitError.
        """
        if share is None:
            self._scpi.set(":WAV:FIN:DIS")
            return
        require_range(self.name, "share", share, -100, 100)
        self._scpi.set(f":WAV:FIN {share:.2f}")

    def fine_tuning(self) -> float:
        """Return how far fine tuning shifts, -100 to 100."""
        return self._scpi.number(":WAV:FIN?")

    def set_automatic_attenuation(self, on: bool) -> None:
        """Let the laser choose between its current and its attenuator to reach a power, or not."""
        self._scpi.set(f":POW:ATT:AUT {on:d}")

    def set_coherence_control(self, on: bool) -> None:
        """Broaden the line on purpose, or leave it as narrow as it is."""
        self._scpi.set(f":COHC {on:d}")

    def coherence_control(self) -> bool:
        """Return whether the line is broadened on purpose."""
        return self._scpi.flag(":COHC?")

    def alerts(self) -> str:
        """Return the laser's alerts, as it spells them."""
        return self._scpi.query(":SYST:ALER?")

    def restarted(self) -> bool:
        """Return whether it was switched off and on since it was opened, or since last asked."""
        return self._scpi.restarted()

    def safe_state(self) -> None:
        """Switch the light off."""
        self.set_emission(False)

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def _darken(self, command: str) -> None:
        try:
            self._scpi.set(command)
        finally:
            self._scpi.set(":POW:SHUT 1")

    def _use_dbm(self) -> None:
        # The front panel can change the unit at any time.
        if self._scpi.one_of(":POW:UNIT?", (0, 1)) != _IN_DBM:
            self._scpi.set(f":POW:UNIT {_IN_DBM}")

    def _is_warm(self) -> bool:
        return not self.alerts().upper().startswith(_WARMING_UP)
