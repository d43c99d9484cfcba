"""What a calibration routine is: what it asks for, when it applies, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import SettingValue

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Units of time in which routines say how long a record holds.
HOUR_S = 3600.0
DAY_S = 24.0 * HOUR_S


@dataclass(frozen=True)
class Condition:
    """A circumstance in its unit, and by how much it may change before the record is in doubt."""

    value: float
    tolerance: float
    unit: str


@dataclass(frozen=True)
class Outcome:
    """What a routine found.

    `quantities` go by name, `server.v_pi_i_v` being what the station file calls `v_pi_i_v` in
    `[server.constants]`; other names are the routine's own. `raw`: arrays from which the
    quantities follow. `draw` fills a figure that shows data and fit.
    """

    quantities: Mapping[Name, Quantity]
    raw: Mapping[str, npt.NDArray[np.generic]]
    draw: Callable[[Figure], None]
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


class Routine(Protocol):
    """A calibration routine.

    `needs`: routines whose records must apply first; the bench knows their quantities, those of
    what they need in turn, and no others. `roles`: station roles whose instruments the
    record is about (`server.laser`). `valid_for_s`: how long the record holds.
    """

    @property
    def name(self) -> str:
        """Short name, as on the command line."""
        ...

    @property
    def title(self) -> str:
        """What it measures, in a few words."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Routines that come before."""
        ...

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles whose instruments are calibrated or calibrated with."""
        ...

    @property
    def valid_for_s(self) -> float:
        """Validity in s."""
        ...

    def settings(self, bench: CalibrationBench) -> Mapping[str, SettingValue]:
        """Return the settings that must be the same for the record to apply.

        Asked once, before anything is learnt: they come from the station file.
        """
        ...

    def run(self, bench: CalibrationBench) -> Outcome:
        """Measure; raises CalibrationError, naming the likely cause, where there is no result.

        Leaves the bench with the light on and every output as `CalibrationBench.rest` says.
        """
        ...
