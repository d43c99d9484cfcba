"""Thorlabs MX10B: laser, modulator bias controller and optical attenuator in one box (serial).

Commands: docs/wire/thorlabs_mx10b.md, sections Line, System, Laser, Bias and Attenuator [V]. What
goes beyond the capabilities is in `laser`, `bias`, `amplifier` and `output`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from labctl.errors import ReplyError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import BiasPoint, Identity
from labctl.instruments.driver_rules import require_range, try_all
from labctl.instruments.modulators.thorlabs_mx10b_line import MX10BLine
from labctl.instruments.modulators.thorlabs_mx10b_sections import (
    MX10BAmplifier,
    MX10BBias,
    MX10BLaser,
    MX10BOutput,
)
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa
from labctl.units import dbm_to_w

# Of `MZM:MODE`, as the locks below (docs/wire/thorlabs_mx10b.md).
_OFF, _MANUAL = 0, 7
_LOCKS = {
    BiasPoint.PEAK: 1,
    BiasPoint.NULL: 2,
    BiasPoint.QUADRATURE_PLUS: 3,
    BiasPoint.QUADRATURE_MINUS: 4,
}
# Attenuation is shown to a hundredth of a decibel, and counted in tenths by some boxes [M].
_ATTENUATION_STEP_DB = 0.11
_LARGEST_BIAS_V = 10.0


class MX10BOptions(DriverOptions):
    """Line, waits and the attenuator's range.

    `min_attenuation_db`: 1 dB by the guide [V]; a public driver allows 0.5 dB.
    `settling_timeout_s`: how long a bias lock, the laser or the attenuator may take.
    """

    baud_rate: int = Field(default=115_200, gt=0)
    timeout_s: float = Field(default=2.0, gt=0)
    settling_timeout_s: float = Field(default=60.0, gt=0)
    min_attenuation_db: float = Field(default=1.0, ge=0)
    max_attenuation_db: float = Field(default=20.0, gt=0)
    model: str = "MX10B"


class ThorlabsMX10B:
    """A ModulatorBias and an Attenuator, with the box's own laser to switch."""

    Options = MX10BOptions
    hazard = Hazard.BIAS
    laser: MX10BLaser
    bias: MX10BBias
    amplifier: MX10BAmplifier
    output: MX10BOutput

    def __init__(self, transport: MessageTransport, options: MX10BOptions | None = None) -> None:
        self.name = transport.name
        self._transport = transport
        self._options = options or MX10BOptions()
        self._line = MX10BLine(transport, self._options.settling_timeout_s)
        self.laser = MX10BLaser(self._line)
        self.bias = MX10BBias(self._line)
        self.amplifier = MX10BAmplifier(self._line)
        self.output = MX10BOutput(self._line)

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(MX10BOptions, name, options)
        transport = open_visa(
            name, address, library=library, timeout_s=read.timeout_s, baud_rate=read.baud_rate
        )
        box = cls(transport, read)
        return verified(box, address, box.identify)

    def identify(self) -> Identity:
        """Ask model, serial number and firmware; raises ReplyError if it is another model."""
        model = self._line.model()
        wanted = self._options.model
        if not model.upper().startswith(wanted.upper()):
            raise ReplyError(self.name, f"expected a {wanted}, got {model!r}", "SYS:MODEL?")
        return Identity(
            "Thorlabs", model, self._line.query("SYS:SER?"), self._line.query("SYS:FIRM?")
        )

    def lock(self, point: BiasPoint) -> None:
        """Lock the bias to a point and wait until it is stable; raises InstrumentTimeoutError."""
        self._line.set(f"MZM:MODE: {_LOCKS[point]}")
        self._line.settle(self._is_locked, f"bias did not lock to the {point.value}", "MZM:SET?")

    def hold_voltage(self, voltage_v: float) -> None:
        """Hold a bias in V, -10 to 10 in steps of 1 mV; raises LimitError."""
        require_range(self.name, "voltage_v", voltage_v, -_LARGEST_BIAS_V, _LARGEST_BIAS_V, "V")
        self._line.set(f"MZM:HOLD:V: {round(voltage_v * 1e3)}", f"MZM:MODE: {_MANUAL}")

    def bias_voltage_v(self) -> float:
        """Return the bias voltage in V that is applied now."""
        return self._line.number("MZM:V?")

    def release(self) -> None:
        """Switch the bias controller off."""
        self._line.set(f"MZM:MODE: {_OFF}")

    def set_attenuation(self, attenuation_db: float) -> None:
        """Set the attenuation in dB and wait until it is reached; raises LimitError.

        Switches the attenuator on: off means least attenuation [V].
        """
        lowest, highest = self._options.min_attenuation_db, self._options.max_attenuation_db
        require_range(self.name, "attenuation_db", attenuation_db, lowest, highest, "dB")
        self._attenuate(attenuation_db)
        self._line.settle(
            lambda: self._line.flag("VOA:SET?"), "attenuator did not settle", "VOA:SET?"
        )
        # How much light leaves rests on it: a setting that was lost on its way leaves no error.
        found_db = self.attenuation_db()
        if abs(found_db - attenuation_db) > _ATTENUATION_STEP_DB:
            problem = f"expected {attenuation_db:g} dB after it was set, got {found_db:g} dB"
            raise ReplyError(self.name, problem, "VOA:ATT?")

    def attenuation_db(self) -> float:
        """Return the attenuation that is set, in dB."""
        return self._line.number("VOA:ATT?")

    def set_emission(self, on: bool) -> None:
        """Switch the box's laser, return when it is locked and stable."""
        self._line.set(f"LAS:POW: {on:d}")
        if on:
            self._line.settle(lambda: self._line.flag("LAS:SET?"), "laser did not lock", "LAS:SET?")

    def emission(self) -> bool:
        """Return whether the box's laser is on."""
        return self._line.flag("LAS:POW?")

    def power_w(self) -> float:
        """Return the power in W that the box's laser emits."""
        return dbm_to_w(self._line.number("LAS:OOP?"))

    def safe_state(self) -> None:
        """Switch the laser off, attenuate fully, release the bias; each even if another fails."""
        try_all(
            lambda: self.set_emission(False),
            lambda: self._attenuate(self._options.max_attenuation_db),
            self.release,
        )

    def close(self) -> None:
        """End the session."""
        self._transport.close()

    def _attenuate(self, attenuation_db: float) -> None:
        self._line.set("VOA:MODE: 0", f"VOA:ATT: {attenuation_db:g}", "VOA:POW: 1")

    def _is_locked(self) -> bool:
        return self._line.flag("MZM:SET?") and not self._line.flag("MZM:CAL?")
