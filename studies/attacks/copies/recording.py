"""An honest client's light, with all that its receiver was set to and read written down.

A thief with honest optics may still set its receiver as it likes: `chosen` gives the directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.errors import SettingError
from labctl.protocols.encoding import Floats
from labctl.protocols.link import Exchange, LayerLight, MonitorReading
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.copies.neighbours import Doubles
from labctl.studies.attacks.demands import require_whole_rows

# Layer, queries of it so far, coefficients of the honest client (B, 2n); returns those used.
Choice = Callable[[int, int, Floats], Floats]


@dataclass(eq=False)
class LayerRecord:
    """All coefficients (queries, 2n) and measured values (queries, rows) of a layer, in parts."""

    coefficients: list[Floats] = field(default_factory=list)
    measured: list[Floats] = field(default_factory=list)

    @property
    def queries(self) -> int:
        """Queries so far."""
        return sum(map(len, self.coefficients))


class RecordingLink:
    """`ModeLink` with a notebook; raises SettingError for rows sent in blocks."""

    def __init__(self, settings: SessionSettings, chosen: Choice | None = None) -> None:
        require_whole_rows(settings, "whole rows are read")
        self._link = ModeLink(settings)
        self._settings = settings
        self._chosen = chosen
        self.records: dict[int, LayerRecord] = {}

    def calibrate(self) -> ReceiverCalibration:
        """Calibrate the verifier."""
        return self._link.calibrate()

    def monitor(self) -> MonitorReading | None:
        """Read the blocked receiver."""
        return self._link.monitor()

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        """Send a layer; see `Link.exchange`."""
        record = self.records.setdefault(light.layer, LayerRecord())
        if self._chosen is not None:
            coefficients = self._chosen(light.layer, record.queries, coefficients)
        exchange = self._link.exchange(light, coefficients)
        record.coefficients.append(coefficients)
        # Final once all returned light was taken, which it is before anybody reads the record.
        record.measured.append(exchange.measured)
        return exchange

    def values_of_last_layer(self) -> Doubles:
        """Return the values (queries, classes) of all queries so far; raises SettingError if 0."""
        if not self.records:
            raise SettingError("queries", 0, "1 or more before a copy is asked for")
        return np.concatenate(self.records[max(self.records)].measured).astype(np.float64)

    def amplitude(self, modes: int) -> float:
        """Return the measured value per unit of (w . d), w in units of the layer's RMS."""
        settings = self._settings
        leg = settings.leg_transmittance_of(modes)
        return math.sqrt(2.0 * settings.light.mean_photons * leg) * settings.receiver.amplitude_gain

    @property
    def noise(self) -> float:
        """Variance of a measured value's noise."""
        return self._settings.receiver.measured_noise
