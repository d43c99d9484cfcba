"""The optical frequency of an OIF ITLA module: a plan of channels, and fine tuning around one.

Source: docs/wire/purephotonics_ppcl550.md, sections Registers and Behaviour [2+]. Modules exist
that take frequencies outside their range without an error [1], so all are checked here against the
limits that the module reports.
"""

from __future__ import annotations

from labctl.errors import InstrumentReportedError, LimitError
from labctl.instruments.driver_rules import require_range
from labctl.instruments.lasers.itla_registers import NOT_IMPLEMENTED, ItlaRegisters, Register

# Registers count frequency in 0.1 GHz, fine tuning in MHz (docs/wire/purephotonics_ppcl550.md).
_STEP_HZ = 1e8
_FINE_STEP_HZ = 1e6
_WIDEST_GRID_HZ = 0x7FFF * _STEP_HZ


class ItlaTuning:
    """Tunes a module; raises LimitError before anything is sent that moves the frequency."""

    def __init__(self, name: str, registers: ItlaRegisters) -> None:
        self._name = name
        self._registers = registers

    def limits_hz(self) -> tuple[float, float]:
        """Return the lowest and the highest frequency in Hz that the module states."""
        return (
            self._terahertz(Register.LFL1, Register.LFL2),
            self._terahertz(Register.LFH1, Register.LFH2),
        )

    def frequency_hz(self) -> float:
        """Return the frequency in Hz that channel, grid and fine tuning set."""
        return self.centre_hz() + self._registers.read_signed(Register.FTF) * _FINE_STEP_HZ

    def reported_hz(self) -> float:
        """Return the frequency in Hz that the module reports (LF1, LF2; 0.1 GHz steps)."""
        return self._terahertz(Register.LF1, Register.LF2)

    def centre_hz(self, channel: int | None = None) -> float:
        """Return the frequency in Hz of a channel, by default the one that is set."""
        first_hz = self._terahertz(Register.FCF1, Register.FCF2)
        if channel is None:
            channel = self._registers.read(Register.CHANNEL)
        if channel == 1:
            return first_hz
        return first_hz + (channel - 1) * self._registers.read_signed(Register.GRID) * _STEP_HZ

    def planned_hz(self, first_hz: float, grid_hz: float) -> float:
        """Return where another plan (both in Hz) would put the channel that is set, in Hz."""
        return first_hz + (self._registers.read(Register.CHANNEL) - 1) * grid_hz

    def set_dark(self, frequency_hz: float) -> None:
        """Tune to a frequency in Hz, as channel 1 and its fine tuning, while the light is off."""
        steps = self._set_first_channel(frequency_hz)
        self._registers.write(Register.CHANNEL, 1)
        fine_hz = frequency_hz - steps * _STEP_HZ
        self._registers.write(Register.FTF, round(fine_hz / _FINE_STEP_HZ))

    def set_fine(self, frequency_hz: float) -> None:
        """Tune around the channel as far as the module can (FTFR), also while the light is on."""
        centre_hz = self.centre_hz()
        reach = self._fine_reach()
        steps = round((frequency_hz - centre_hz) / _FINE_STEP_HZ)
        if abs(steps) > reach:
            valid = (
                f"within {reach} MHz of {centre_hz:.7g} Hz while the light is on "
                "(switch it off to tune further)"
            )
            raise LimitError(self._name, "frequency_hz", frequency_hz, valid)
        self._registers.write(Register.FTF, steps)

    def require_within(self, name: str, frequency_hz: float) -> None:
        """Raise LimitError unless the module can tune to a frequency in Hz."""
        require_range(self._name, name, frequency_hz, *self.limits_hz(), unit="Hz")

    def set_plan(self, first_hz: float, grid_hz: float) -> None:
        """Put channel 1 at `first_hz` and the others `grid_hz` apart (Hz, 0.1 GHz steps)."""
        self.require_within("first_hz", first_hz)
        finest_hz = self._registers.read_signed(Register.LGRID) * _STEP_HZ
        require_range(self._name, "|grid_hz|", abs(grid_hz), finest_hz, _WIDEST_GRID_HZ, "Hz")
        self._registers.write(Register.GRID, round(grid_hz / _STEP_HZ))
        self._set_first_channel(first_hz)

    def set_channel(self, channel: int) -> None:
        """Tune to a channel of the plan, from 1, without fine tuning."""
        require_range(self._name, "channel", channel, 1, 0xFFFF)
        self.require_within(f"frequency of channel {channel}", self.centre_hz(channel))
        self._registers.write(Register.FTF, 0)
        self._registers.write(Register.CHANNEL, channel)

    def _set_first_channel(self, frequency_hz: float) -> int:
        steps = round(frequency_hz / _STEP_HZ)
        self._registers.write(Register.FCF1, steps // 10_000)
        self._registers.write(Register.FCF2, steps % 10_000)
        return steps

    def _fine_reach(self) -> int:
        try:
            return self._registers.read(Register.FTFR)
        except InstrumentReportedError as error:
            if error.code == NOT_IMPLEMENTED:
                return 0
            raise

    def _terahertz(self, whole: Register, fraction: Register) -> float:
        return self._registers.read(whole) * 1e12 + self._registers.read(fraction) * _STEP_HZ
