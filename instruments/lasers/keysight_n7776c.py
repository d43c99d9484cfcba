"""Keysight N7776C swept laser, and 81960A-style modules in a slot of a mainframe (SCPI).

Commands: docs/wire/keysight_n7776c.md, sections Numbers, Index and Light [V][2+]. Numbers are sent
without a unit: they are metres, metres per second and, once `POW:UNIT` is 1, watts. The sweep
speeds that exist come from one source [1]: an option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

from pydantic import Field

from labctl.errors import LimitError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity
from labctl.instruments.driver_rules import require_range
from labctl.instruments.lasers.keysight_n7776c_sweep import N7776CSweep
from labctl.instruments.transports.masking import conceal
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa
from labctl.units import frequency_to_wavelength_m, wavelength_to_frequency_hz

_ENDS = ("MIN", "MAX")
# A hundredth of a decibel, in which powers are shown.
_RESOLUTION = 2.3e-3


class N7776COptions(DriverOptions):
    """Where the laser sits, its lock, and waits.

    `slot`: source index, 0 for an N777xC and the back slot of an 8164B. `mainframe`: the laser is
    a module, identified by `SLOT<n>:IDN?`. `model`: how its model starts; unless given N7776C, or
    81960A in a mainframe. `pin`: opens the lock when light is wanted (1234 as delivered); without
    it a locked laser refuses. `sweep_speeds_nm_s`: those of the N7776C [1]; an empty list leaves
    the choice to the laser. `max_attenuation_db`: of the attenuator that some lasers have [M].
    `settling_timeout_s`: how long switching on or tuning may take.
    """

    timeout_s: float = Field(default=10.0, gt=0)
    settling_timeout_s: float = Field(default=60.0, gt=0)
    slot: int = Field(default=0, ge=0, le=17)
    mainframe: bool = False
    model: str | None = Field(default=None, min_length=1)
    pin: str | None = Field(default=None, pattern=r"^[0-9]{4}$")
    max_attenuation_db: float = Field(default=60.0, ge=0)
    sweep_speeds_nm_s: list[float] = Field(default=[0.5, 1.0, 50.0, 80.0, 200.0])


class KeysightN7776C(N7776CSweep):
    """A TunableLaser and a SweptLaser (a set-and-hold module refuses sweeps itself)."""

    Options = N7776COptions
    hazard = Hazard.EMISSION
    reads_back = frozenset({"set_power"})

    def __init__(self, transport: MessageTransport, options: N7776COptions | None = None) -> None:
        self.name = transport.name
        self._options = options or N7776COptions()
        speeds_nm_s = self._options.sweep_speeds_nm_s
        super().__init__(ScpiSession(transport), self._options.slot, speeds_nm_s)

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(N7776COptions, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        laser = cls(transport, read)
        return verified(laser, address, laser._scpi.forget_errors, laser.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`, or the module in its slot; raises ReplyError if it is another model."""
        if not self._options.mainframe:
            return self._scpi.identify((self._options.model or "N7776C").upper())
        model = (self._options.model or "81960A").upper()
        return self._scpi.identify(model, query=f"SLOT{self._options.slot}:IDN?")

    def set_power(self, power_w: float) -> None:
        """Set the power in W, within the laser's own limits (else LimitError)."""
        self._use_watts()
        lowest, highest = (self._scpi.number(f"{self._source}:POW? {end}") for end in _ENDS)
        require_range(self.name, "power_w", power_w, lowest, highest, "W")
        query = f"{self._source}:POW?"
        resolution_w = _RESOLUTION * power_w
        self._scpi.set_and_see(
            f"{self._source}:POW {power_w:.8E}", query, power_w, resolution=resolution_w
        )

    def power_w(self) -> float:
        """Return the power in W that the laser reports, 0 while the light is off."""
        if not self.emission():
            return 0.0
        self._use_watts()
        return self._scpi.number(f"{self._source}:POW?")

    def set_emission(self, on: bool) -> None:
        """Switch the light and wait until it is; raises InstrumentTimeoutError.

        Opens the lock first if the option `pin` is given and light is wanted.
        """
        if on and self._options.pin is not None:
            self.set_lock(False, self._options.pin)
        command = f"{self._source}:POW:STAT {on:d}"
        timeout_s = self._options.settling_timeout_s
        problem = f"did not switch {'on' if on else 'off'}"
        self._scpi.set(command)
        self._scpi.wait(lambda: self.emission() is on, timeout_s, problem, command)
        self._scpi.settle(timeout_s, command)

    def emission(self) -> bool:
        """Return whether the light is on."""
        return self._scpi.flag(f"{self._source}:POW:STAT?")

    def locked(self) -> bool:
        """Return whether the laser's PIN lock keeps the light off."""
        return self._scpi.flag(":LOCK?")

    def set_lock(self, locked: bool, pin: str) -> None:
        """Close the PIN lock, which keeps the light off, or open it; raises LimitError."""
        conceal({"pin": pin})
        if re.fullmatch(r"[0-9]{4}", pin, re.ASCII) is None:
            raise LimitError(self.name, "pin", "<pin>", "four digits")
        self._scpi.transport.write(f":LOCK {locked:d},{pin}")
        self._scpi.check(f":LOCK {locked:d},<pin>")

    def set_frequency(self, frequency_hz: float) -> None:
        """Tune to a frequency in Hz within `frequency_limits_hz` (else LimitError), and wait."""
        limits_hz = self.frequency_limits_hz()
        require_range(self.name, "frequency_hz", frequency_hz, *limits_hz, unit="Hz")
        command = f"{self._source}:WAV {frequency_to_wavelength_m(frequency_hz):.10E}"
        self._scpi.set(command)
        self._scpi.settle(self._options.settling_timeout_s, command)

    def frequency_hz(self) -> float:
        """Return the frequency in Hz that is set."""
        return wavelength_to_frequency_hz(self._wavelength_m("WAV?"))

    def frequency_limits_hz(self) -> tuple[float, float]:
        """Return the lowest and the highest frequency in Hz that the laser states."""
        shortest_m, longest_m = self.wavelength_limits_m()
        return wavelength_to_frequency_hz(longest_m), wavelength_to_frequency_hz(shortest_m)

    def set_built_in_attenuation(self, attenuation_db: float | None) -> None:
        """Set the attenuator that some lasers have, in dB, or let the laser do it (None).

        A laser without one refuses. Raises LimitError.
        """
        if attenuation_db is None:
            self._scpi.set(f"{self._source}:POW:ATT:AUTO 1")
            return
        highest = self._options.max_attenuation_db
        require_range(self.name, "attenuation_db", attenuation_db, 0, highest, "dB")
        self._scpi.set(f"{self._source}:POW:ATT:AUTO 0")
        self._scpi.set(f"{self._source}:POW:ATT {attenuation_db:.4f}DB")

    def built_in_attenuation_db(self) -> float:
        """Return what the built-in attenuator is set to, in dB."""
        return self._scpi.number(f"{self._source}:POW:ATT?")

    def reset(self) -> None:
        """Return to the instrument's own defaults (`*RST`); the light goes off."""
        self.set_emission(False)
        self._scpi.set("*RST")

    def restarted(self) -> bool:
        """Return whether it was switched off and on since it was opened, or since last asked."""
        return self._scpi.restarted()

    def safe_state(self) -> None:
        """Switch the light off."""
        self.set_emission(False)

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def _use_watts(self) -> None:
        # The front panel can change the unit at any time. After a change the first reading may
        # still be in the old one (a public driver reads twice), so one is thrown away.
        if not self._scpi.flag(f"{self._source}:POW:UNIT?"):
            self._scpi.set(f"{self._source}:POW:UNIT 1")
            self._scpi.query(f"{self._source}:POW?")
