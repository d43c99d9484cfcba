"""How success of label reading grows with what returns: one measured curve per way of reading.

Where kicks are weak, success depends on the evidence alone: M R spike^2/(1 + spike) for heterodyne
and homodyne, M R spike photons for counting, M R being the rows of all repeats of one image; and
what a mismatched clone shows of the rows adds to it in proportion to its nats (`Reading.evidence`).
So a curve measured once, with kicks alone, answers for every gain, mismatch, network, number of
rows, repeats and loss. It holds for whole rows and images like those it was measured on; it
ships as `label_curve.toml`, and `labctl label-attack --write-curve FILE` measures it again. Values
between points are linear in the logarithm of the evidence, after successes were made monotone by
weighted averages (their noise alone breaks that).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from labctl import checks
from labctl.errors import SettingError
from labctl.protocols.labels.reading import Detection, Reading
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.toml_file import read_toml

# Standard errors added to a measured success; 2.3 % of normal errors are larger.
SIGMAS = 2.0
# As often as that no image is sent: the bound then limits nothing.
_MOST_REPEATS = 1_000_000


class CurvePoint(BaseModel):
    """Success at one evidence, with its binomial standard error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    receiver: Detection
    evidence: float = Field(gt=0.0)
    success: float = Field(ge=0.0, le=1.0)
    standard_error: float = Field(gt=0.0)


class CurveFile(BaseModel):
    """The curves of all ways of reading, and where they come from.

    `chance`: share of the most frequent label, which naming it always gives.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    command: str
    templates: str
    images: str
    seed: int
    dimensions: int
    chance: float = Field(gt=0.0, lt=1.0)
    point: tuple[CurvePoint, ...] = Field(min_length=1)

    def curve(self, receiver: Detection) -> LabelCurve:
        """Return one way's curve; raises SettingError if it was not measured."""
        points = sorted(
            (point for point in self.point if point.receiver is receiver),
            key=lambda point: point.evidence,
        )
        if not points:
            raise SettingError("receiver", str(receiver), "one that the curve file has points of")
        return LabelCurve(
            receiver,
            tuple(point.evidence for point in points),
            tuple(point.success for point in points),
            tuple(point.standard_error for point in points),
            self.chance,
        )

    def toml(self) -> str:
        """Return the file's text."""
        head = [
            f"command = {_quoted(self.command)}",
            f"templates = {_quoted(self.templates)}",
            f"images = {_quoted(self.images)}",
            f"seed = {self.seed}",
            f"dimensions = {self.dimensions}",
            f"chance = {self.chance!r}",
        ]
        tables = [
            f'\n[[point]]\nreceiver = "{point.receiver}"\nevidence = {point.evidence!r}\n'
            f"success = {point.success!r}\nstandard_error = {point.standard_error!r}"
            for point in self.point
        ]
        return "\n".join([*head, *tables]) + "\n"


@dataclass(frozen=True)
class Success:
    """An expected share of labels read, with its standard error."""

    share: float
    standard_error: float


@dataclass(frozen=True)
class LabelCurve:
    """Success against evidence of one way of reading, as measured, evidence increasing."""

    receiver: Detection
    evidence: tuple[float, ...]
    success: tuple[float, ...]
    standard_error: tuple[float, ...]
    chance: float

    def at(self, reading: Reading) -> Success:
        """Return the success expected of a reading of whole rows.

        Raises SettingError for another receiver, for blocks, or for a counter that sees more than
        the kick: none of that was measured (`label_success` does it).
        """
        self._check(reading)
        return self.at_evidence(reading.evidence)

    def at_evidence(self, evidence: float) -> Success:
        """Return the success at an evidence; beyond the last point, that of the last point."""
        places = np.log1p(np.array([0.0, *self.evidence]) / self.evidence[0])
        place = math.log1p(evidence / self.evidence[0])
        share = np.interp(place, places, [self.chance, *self._monotone()])
        error = np.interp(place, places, [self.standard_error[0], *self.standard_error])
        return Success(float(share), float(error))

    def evidence_within(self, bound: float, sigmas: float = SIGMAS) -> float:
        """Return the most evidence whose success, `sigmas` errors added, is at most `bound`.

        0 if the bound is too near to chance to be resolved. A bound above all points gives the
        last point: more was not measured. Raises SettingError for a bound outside 0 to 1.
        """
        checks.inside("bound on label success", bound, 0.0, 1.0)
        checks.not_negative("sigmas", sigmas)

        def within(evidence: float) -> bool:
            found = self.at_evidence(evidence)
            return found.share + sigmas * found.standard_error <= bound

        low, high = 0.0, next((x for x in self.evidence if not within(x)), math.inf)
        if not within(low):
            return 0.0
        if not math.isfinite(high):
            return self.evidence[-1]
        # 60 halvings reach double precision.
        for _ in range(60):
            middle = (low + high) / 2.0
            low, high = (middle, high) if within(middle) else (low, middle)
        return low

    def repeats_within(self, bound: float, reading: Reading, sigmas: float = SIGMAS) -> int:
        """Return how often one image may be sent before its label is read more often than `bound`.

        `reading` is one sending, its repeats are not counted. 0: not even once.
        """
        self._check(reading)
        once = replace(reading, repeats=1).evidence
        return min(int(self.evidence_within(bound, sigmas) / once), _MOST_REPEATS)

    def _monotone(self) -> list[float]:
        """Return the successes, those out of order replaced by their weighted mean."""
        groups = [
            [max(share, self.chance), error**-2.0, 1.0]
            for share, error in zip(self.success, self.standard_error, strict=True)
        ]
        index = 0
        while index + 1 < len(groups):
            one, two = groups[index], groups[index + 1]
            if one[0] <= two[0]:
                index += 1
                continue
            weight = one[1] + two[1]
            mean = (one[0] * one[1] + two[0] * two[1]) / weight
            groups[index : index + 2] = [[mean, weight, one[2] + two[2]]]
            index = max(index - 1, 0)
        return [group[0] for group in groups for _ in range(int(group[2]))]

    def _check(self, reading: Reading) -> None:
        if reading.receiver is not self.receiver:
            raise SettingError("receiver", str(reading.receiver), f"{self.receiver}")
        if reading.block_modes is not None:
            raise SettingError("block_modes", reading.block_modes, "none: measured for whole rows")
        if self.receiver is Detection.COUNTING and reading.background > 0.0:
            raise SettingError(
                "background photons", reading.background, "0: measured without background"
            )


def load_curves(path: Path | None = None) -> CurveFile:
    """Read a curve file, by default the shipped one; raises StationFileError if it is damaged."""
    if path is None:
        import labctl.data

        path = Path(labctl.data.__file__).parent / "label_curve.toml"
    return read_toml(path, CurveFile)


def repeats_within(
    bound: float,
    gain: float,
    rows: int,
    *,
    transmittance: float = 1.0,
    technical_noise: float = 0.0,
    emission_factor: float = 1.0,
    receiver: Detection = Detection.HOMODYNE,
    mismatch: CloneMismatch = MATCHED_CLONE,
    mode_photons: float = 0.0,
    sigmas: float = SIGMAS,
) -> int:
    """Return how often one image may be sent, from the shipped curve; see `LabelCurve`."""
    reading = Reading(
        gain=gain,
        rows=rows,
        transmittance=transmittance,
        technical_noise=technical_noise,
        emission_factor=emission_factor,
        receiver=receiver,
        mismatch=mismatch,
        mode_photons=mode_photons,
    )
    return load_curves().curve(receiver).repeats_within(bound, reading, sigmas)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
