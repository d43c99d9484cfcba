"""PurePhotonics PPCL550 tunable laser (OIF micro-ITLA: binary frames on a serial line).

Registers: docs/wire/purephotonics_ppcl550.md, sections Registers, Behaviour and PurePhotonics
registers [2+]. The laser takes frequencies outside its range without an error [1], so they are
checked here against the limits that it reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Self

from pydantic import Field

from labctl.errors import LimitError, ReplyError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity
from labctl.instruments.codecs.itla import FRAME_BYTES
from labctl.instruments.lasers.itla_monitor import ItlaMonitor
from labctl.instruments.lasers.itla_registers import ItlaRegisters, Register
from labctl.instruments.lasers.itla_tuning import ItlaTuning
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.transport import FrameTransport
from labctl.instruments.transports.visa_transport import open_visa_frames
from labctl.quantities import sets
from labctl.units import dbm_to_w, w_to_dbm

# Bits of ResEna (docs/wire/purephotonics_ppcl550.md, section Registers).
_SOFT_RESET = 0x0002
_SENA = 0x0008
# 1 dB in hundredths: power changes by less between two readings, except when it is switched. Of two
# bits that the checksum misses one is in the upper byte, so that they change a reading by 2.4 dB.
_SCATTER = 100


class ControlMode(IntEnum):
    """How the control loops work: whisper switches them, and their 888 Hz tone, off."""

    DITHER = 0
    NO_DITHER = 1
    WHISPER = 2


class PPCL550Options(DriverOptions):
    """Line, waits and the model expected.

    `baud_rate`: 9600 unless the module was set to another. `tuning_timeout_s`: how long switching
    on or tuning may take. `model`: how the model string starts [M].
    """

    baud_rate: int = Field(default=9600, gt=0)
    timeout_s: float = Field(default=0.5, gt=0)
    tuning_timeout_s: float = Field(default=60.0, gt=0)
    model: str = "PPCL"


class PurePhotonicsPPCL550:
    """A TunableLaser; `monitor` reads what the module reports of itself."""

    Options = PPCL550Options
    hazard = Hazard.EMISSION
    reads_back = frozenset({"set_power"})

    def __init__(self, transport: FrameTransport, options: PPCL550Options | None = None) -> None:
        self.name = transport.name
        self._transport = transport
        self._options = options or PPCL550Options()
        self._registers = ItlaRegisters(transport, self._options.tuning_timeout_s)
        self._tuning = ItlaTuning(self.name, self._registers)
        self.monitor = ItlaMonitor(self._registers)

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(PPCL550Options, name, options)
        transport = open_visa_frames(
            name,
            address,
            library=library,
            timeout_s=read.timeout_s,
            frame_bytes=FRAME_BYTES,
            filler=b"\0",
            baud_rate=read.baud_rate,
        )
        laser = cls(transport, read)
        return verified(laser, address, laser.identify)

    def identify(self) -> Identity:
        """Read the identification strings; raises ReplyError if the model is another one."""
        registers = (Register.MFGR, Register.MODEL, Register.SERIAL, Register.RELEASE)
        identity = Identity(*(self._registers.text(register) for register in registers))
        wanted = self._options.model
        if not identity.model.upper().startswith(wanted.upper()):
            problem = f"expected a {wanted}, got {identity.maker} {identity.model!r}"
            raise ReplyError(self.name, problem, "read MODEL")
        return identity

    def set_power(self, power_w: float) -> None:
        """Set the power in W (0.01 dB steps), within the module's own limits (else LimitError)."""
        lowest = self._registers.read_signed(Register.OPSL)
        highest = self._registers.read_signed(Register.OPSH)
        code = w_to_dbm(power_w) * 100 if power_w > 0 else -math.inf
        # Half a step of grace: a limit converted to W and back must still be inside.
        if not lowest - 0.5 <= code <= highest + 0.5:
            valid = f"{dbm_to_w(lowest / 100):.4g} to {dbm_to_w(highest / 100):.4g} W"
            raise LimitError(self.name, "power_w", power_w, valid)
        self._registers.write_and_see(Register.PWR, round(code))

    def power_w(self) -> float:
        """Return the measured output power in W."""
        return dbm_to_w(self._registers.read_signed(Register.OOP, scatter=_SCATTER) / 100)

    def set_emission(self, on: bool) -> None:
        """Switch the light and wait until nothing is pending; raises InstrumentTimeoutError."""
        if on and not self.emission():
            self._registers.wait_until_ready()
        self._registers.write(Register.RES_ENA, _SENA if on else 0)
        if self.emission() is not on:
            raise ReplyError(self.name, f"emission did not go {'on' if on else 'off'}", "ResEna")

    def emission(self) -> bool:
        """Return whether the output is enabled."""
        return bool(self._registers.read(Register.RES_ENA) & _SENA)

    def set_frequency(self, frequency_hz: float) -> None:
        """Tune to a frequency in Hz (1 MHz steps).

        While the light is off: anywhere within `frequency_limits_hz`, as channel 1. While it is
        on: as fine tuning around that channel, as far as the module can. Raises LimitError.
        """
        self._tuning.require_within("frequency_hz", frequency_hz)
        if self.emission():
            self._tuning.set_fine(frequency_hz)
        else:
            self._tuning.set_dark(frequency_hz)

    def frequency_hz(self) -> float:
        """Return the frequency in Hz that channel, grid and fine tuning set."""
        return self._tuning.frequency_hz()

    def reported_frequency_hz(self) -> float:
        """Return the frequency in Hz that the module reports for its channel (0.1 GHz steps)."""
        return self._tuning.reported_hz()

    def frequency_limits_hz(self) -> tuple[float, float]:
        """Return the lowest and the highest frequency in Hz that the module states."""
        return self._tuning.limits_hz()

    # The channel that is set stays set, and so moves with the plan.
    @sets(frequency_hz=lambda self, first_hz, grid_hz: self._tuning.planned_hz(first_hz, grid_hz))
    def set_channel_plan(self, first_hz: float, grid_hz: float) -> None:
        """Set channel 1 and the spacing of channels, in Hz (0.1 GHz steps), while the light is off.

        `grid_hz` may be negative. Raises LimitError, or InstrumentReportedError (CIE) while the
        light is on.
        """
        self._tuning.set_plan(first_hz, grid_hz)

    @sets(frequency_hz=lambda self, channel: self._tuning.centre_hz(channel))
    def set_channel(self, channel: int) -> None:
        """Tune to a channel of the plan, from 1; raises LimitError beyond the module's range."""
        self._tuning.set_channel(channel)

    def abort(self) -> None:
        """End what is under way (soft reset); the light stays as it is."""
        enabled = self._registers.read(Register.RES_ENA) & _SENA
        self._registers.write(Register.RES_ENA, _SOFT_RESET | enabled)

    def reset(self) -> None:
        """Reboot the module, which switches the light off, and wait until it is ready."""
        self._registers.reboot()

    def set_mode(self, mode: ControlMode) -> None:
        """Choose how the control loops work (register 0x90, PurePhotonics only)."""
        self._registers.write(Register.MODE, mode)

    def mode(self) -> ControlMode:
        """Return how the control loops work; raises ReplyError on an unknown mode."""
        value = self._registers.read(Register.MODE)
        try:
            return ControlMode(value)
        except ValueError as error:
            raise ReplyError(self.name, f"mode {value} is unknown", "read MODE") from error

    def safe_state(self) -> None:
        """Switch the light off."""
        self.set_emission(False)

    def close(self) -> None:
        """End the session."""
        self._transport.close()
