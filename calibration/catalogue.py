"""All calibration routines, in the order in which a full calibration runs them."""

from __future__ import annotations

from labctl.calibration.routine import Routine
from labctl.calibration.routines.half_wave_voltage import HalfWaveVoltage

ROUTINES: tuple[Routine, ...] = (HalfWaveVoltage(),)
