"""One way of reading the light that returns, and how much evidence of the input it contains.

1. The client's clone adds noise g n_sp to the mode of its input alone. The server reads each row of
   that mode as one of slightly larger variance: the "spike", g n_sp over the vacuum of the reading.
2. M rows with the same input, in R repeats, tell the spike's direction with an evidence of
   M R spike^2/(1 + spike) for homodyne and heterodyne, M R spike photons for counting.
3. A clone whose net gain or phase is off also changes the mean of that mode. The nats that the mean
   tells count as evidence by `EVIDENCE_PER_NAT`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labctl import checks
from labctl.errors import SettingError
from labctl.protocols.encoding import Blocks
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.receiver import GAIN_RANGE, MOST_GAIN, MOST_NOISE, added_noise

# Five hours of light at 392 modes a row and 20 MBd: a slip beyond.
MOST_ROWS = 1_000_000_000


class Detection(StrEnum):
    """How the server reads what returns."""

    HETERODYNE = "heterodyne"
    HOMODYNE = "homodyne"
    COUNTING = "photon-counting"


# Evidence of a kick that reads as many labels as a nat of the mean does. A kick along a c of one
# phase gives M spike^2/4 nats to homodyne and M spike^2/2 to heterodyne, of which some only say
# that there is a kick; measured, see tests/studies/attacks/test_label_evidence.py.
EVIDENCE_PER_NAT = {Detection.HOMODYNE: 5.0, Detection.HETERODYNE: 2.5, Detection.COUNTING: 1.0}


@dataclass(frozen=True)
class Reading:
    """What returns and how it is read.

    gain: the client's G. rows: M that carry the same input, `repeats` times. transmittance: from
    the clone to the detector, its efficiency included. technical_noise: in SNU as detected.
    emission_factor: n_sp, or its equal for a tap's detectors. background_photons: per mode and
    row, dark counts and light not nulled, for photon counting alone. vacuum_variance: what is left
    of a homodyne reading's vacuum noise, below 1 where the server sent squeezed light. mismatch:
    of the clone, known to the server: a constant of the hardware is learned over images.
    mode_photons: photons of a row in mode b at the clone on average, mu Q/2 with Q the mean of
    |c^dagger w|^2 for weights of unit RMS; only `evidence` asks for it. Raises SettingError.
    """

    gain: float
    rows: int
    repeats: int = 1
    transmittance: float = 1.0
    technical_noise: float = 0.0
    block_modes: int | None = None
    emission_factor: float = 1.0
    receiver: Detection = Detection.HOMODYNE
    background_photons: float = 0.0
    vacuum_variance: float = 1.0
    mismatch: CloneMismatch = MATCHED_CLONE
    mode_photons: float = 0.0

    def __post_init__(self) -> None:
        Blocks.of(1, self.block_modes)
        checks.require(1.0 < self.gain <= MOST_GAIN, "gain", self.gain, GAIN_RANGE)
        checks.at_least("rows", self.rows, 1)
        checks.require(
            self.repeats >= 1 and self.samples <= MOST_ROWS,
            "repeats",
            self.repeats,
            f"1 or more, {MOST_ROWS} rows in all at most",
        )
        checks.above("transmittance", self.transmittance, 0.0, 1.0)
        checks.within("technical_noise", self.technical_noise, 0.0, MOST_NOISE)
        checks.within("emission_factor", self.emission_factor, 1.0, MOST_NOISE)
        checks.above("vacuum_variance", self.vacuum_variance, 0.0, 1.0)
        checks.within("background_photons", self.background_photons, 0.0, MOST_NOISE)
        checks.not_negative("mode_photons", self.mode_photons)
        if self.vacuum_variance != 1.0 and self.receiver is not Detection.HOMODYNE:
            raise SettingError("vacuum_variance", self.vacuum_variance, "1 unless homodyne reads")

    @property
    def samples(self) -> int:
        """Rows in all, M R."""
        return self.rows * self.repeats

    @property
    def spike(self) -> float:
        """Variance of the kick over that of the white noise; for counting, its photons per row."""
        kick = self.mismatch.returned_noise(self.emission_factor * added_noise(self.gain))
        kick *= self.transmittance
        if self.receiver is Detection.COUNTING:
            return kick / 2.0
        vacuum = 2.0 if self.receiver is Detection.HETERODYNE else self.vacuum_variance
        return kick / (vacuum + self.technical_noise)

    @property
    def background(self) -> float:
        """White thermal photons per mode and row that a counter sees besides."""
        return self.background_photons + self.technical_noise / 2.0

    @property
    def kick_evidence(self) -> float:
        """What the kick tells: M R spike^2/(1 + spike), for counting the photons M R spike."""
        if self.receiver is Detection.COUNTING:
            return self.samples * self.spike
        return self.samples * self.spike**2 / (1.0 + self.spike)

    @property
    def mismatch_nats(self) -> float:
        """What the mean tells of an image by homodyne or heterodyne, in nats; photons for counting.

        Half the mean's square over the noise of a reading: |kappa|^2 N M R with N photons in mode
        b, over the noise in vacuum units; heterodyne sees both quadratures, each with half the
        light.
        """
        photons = abs(self.mismatch.kappa) ** 2 * self.mode_photons
        shown = self.samples * self.transmittance * photons
        if self.receiver is Detection.COUNTING:
            return shown
        if self.receiver is Detection.HETERODYNE:
            return shown / (1.0 + 0.5 * self.technical_noise)
        return shown / (self.vacuum_variance + self.technical_noise)

    @property
    def evidence(self) -> float:
        """What success depends on, kick and mismatch together, in units of the kick's evidence."""
        return self.kick_evidence + EVIDENCE_PER_NAT[self.receiver] * self.mismatch_nats
