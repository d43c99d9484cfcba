"""The running estimate: evidence of many sessions pooled as sums, one entry per calibration.

One session cannot certify: its samples are too few. Sums of sessions that share a shot-noise
calibration add up and share its error; other calibrations have separate errors. The pool
behaves like one session whose calibration has as many samples as give the same variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.errors import SettingError
from labctl.protocols.verification.bounds import Bounds, Clones, bounds_of
from labctl.protocols.verification.channel import (
    Estimate,
    Expectation,
    estimate_of_sums,
    excess_noise_upper,
    shot_noise_at_server,
    transmittance_lower,
)
from labctl.protocols.verification.evidence import LayerEvidence

# What sums of the same calibration have in common.
_CALIBRATION = (
    "efficiency",
    "electronic_noise",
    "blocked_variance",
    "calibration_samples",
    "lo_excess_noise",
)


@dataclass(frozen=True)
class CalibratedSums:
    """Sums over all light that was judged by one calibration of the receiver.

    `sent` in SNU, `cross` and `received` in the receiver's units; `fitted` parameters besides the
    slope; `clones`: blocks of rows that were read, each of which may hold one clone.
    """

    efficiency: float
    electronic_noise: float
    blocked_variance: float
    calibration_samples: int
    sessions: int
    samples: int
    clones: float
    fitted: float
    sent: float
    cross: float
    received: float
    # Sums kept before it was taken off have none.
    lo_excess_noise: float = 0.0

    @property
    def calibration(self) -> ReceiverCalibration:
        """The calibration; raises SettingError where it cannot be one."""
        return ReceiverCalibration(
            efficiency=self.efficiency,
            electronic_noise=self.electronic_noise,
            blocked_variance=self.blocked_variance,
            samples=self.calibration_samples,
            lo_excess_noise=self.lo_excess_noise,
        )

    def merged(self, other: CalibratedSums) -> CalibratedSums:
        """Return both as one; they have the same calibration."""
        own, theirs = asdict(self), asdict(other)
        kept = _CALIBRATION
        return CalibratedSums(
            **{name: value if name in kept else value + theirs[name] for name, value in own.items()}
        )


@dataclass(frozen=True)
class PooledEvidence:
    """What all sessions so far have shown, as sums alone; grows by one entry per calibration."""

    parts: tuple[CalibratedSums, ...] = ()

    @property
    def samples(self) -> int:
        """Modes pooled."""
        return sum(part.samples for part in self.parts)

    @property
    def sessions(self) -> int:
        """Sessions pooled."""
        return sum(part.sessions for part in self.parts)

    def with_session(
        self, evidence: Sequence[LayerEvidence], calibration: ReceiverCalibration
    ) -> PooledEvidence:
        """Return the pool with one more session; one that read nothing changes nothing."""
        if not any(part.samples for part in evidence):
            return self
        one = CalibratedSums(
            efficiency=calibration.efficiency,
            electronic_noise=calibration.electronic_noise,
            blocked_variance=calibration.blocked_variance,
            calibration_samples=calibration.samples,
            sessions=1,
            samples=sum(part.samples for part in evidence),
            clones=Clones.of(evidence).count,
            fitted=sum(part.fitted for part in evidence),
            sent=sum(part.sent_power for part in evidence),
            cross=sum(part.cross_power for part in evidence),
            received=sum(part.received_power for part in evidence),
            lo_excess_noise=calibration.lo_excess_noise,
        )
        return self.with_sums(one)

    def with_sums(self, one: CalibratedSums) -> PooledEvidence:
        """Return the pool with more sums, added to those of the same calibration."""
        for index, part in enumerate(self.parts):
            if part.calibration == one.calibration:
                merged = part.merged(one)
                return PooledEvidence((*self.parts[:index], merged, *self.parts[index + 1 :]))
        return PooledEvidence((*self.parts, one))

    def calibration(self) -> ReceiverCalibration:
        """Return one calibration in place of all: units averaged, errors added by weight.

        Its units are those of light in front of the receiver. Raises SettingError if nothing was
        pooled.
        """
        if not self.samples:
            raise SettingError("pooled samples", 0, "1 or more")
        weights = [part.samples / self.samples for part in self.parts]
        units = [shot_noise_at_server(part.calibration) for part in self.parts]
        unit = math.fsum(w * u for w, u in zip(weights, units, strict=True))
        spread = math.fsum(
            (w * u / unit) ** 2 / (part.calibration_samples - 1)
            for w, u, part in zip(weights, units, self.parts, strict=True)
        )
        return ReceiverCalibration(
            efficiency=1.0,
            electronic_noise=max(unit - 1.0, 0.0),
            blocked_variance=unit,
            samples=max(int(1.0 / spread) + 1, 2),
        )

    def estimate(self) -> Estimate:
        """Return transmittance and excess noise over all sessions.

        Raises SettingError if fewer than two samples were pooled or nothing was sent.
        """
        calibration = self.calibration()
        scales = [
            shot_noise_at_server(part.calibration) / part.blocked_variance for part in self.parts
        ]
        pairs = list(zip(scales, self.parts, strict=True))
        return estimate_of_sums(
            calibration,
            samples=self.samples,
            fitted=sum(part.fitted for part in self.parts),
            sent=math.fsum(part.sent for part in self.parts),
            cross=math.fsum(math.sqrt(scale) * part.cross for scale, part in pairs),
            received=math.fsum(scale * part.received for scale, part in pairs),
        )

    @property
    def clones(self) -> Clones:
        """The clones pooled; which share of theirs gets into the slope was not kept: all of it."""
        return Clones(math.fsum(part.clones for part in self.parts))

    def bounds(
        self, expectation: Expectation, failure_probability: float, *, mean_photons: float
    ) -> Bounds:
        """Return what holds together except with this probability, doubts of `expectation` and all.

        Those are of the constants that all calibrations have in common: they do not average out.
        """
        return bounds_of(
            self.estimate(),
            self.calibration(),
            expectation,
            failure_probability,
            mean_photons=mean_photons,
            clones=self.clones,
        )

    def excess_noise_upper(self, failure_probability: float) -> float:
        """Return the excess noise that the truth exceeds with this probability at most."""
        return excess_noise_upper(
            self.estimate(), self.calibration(), failure_probability, clones=self.clones.count
        )

    def transmittance_lower(self, failure_probability: float) -> float:
        """Return the transmittance that the truth falls below with this probability at most."""
        half, clones = 0.5 * failure_probability, self.clones
        estimate, calibration = self.estimate(), self.calibration()
        upper = self.excess_noise_upper(half) if clones.count > 0.0 else 0.0
        return transmittance_lower(
            estimate,
            calibration,
            half if clones.count > 0.0 else failure_probability,
            slope_noise=clones.slope_noise(upper, estimate, calibration),
        )
