"""Accuracy curves as files: a curve is measured once for each network and set of images."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import LabctlError, SettingError, UsageError
from labctl.plain_file import read_plain
from labctl.studies.planner.accuracy_curve import AccuracyCurve, AccuracyPoint, digest_of

# 64 bits of a digest: no two files of a cache have the same by chance.
_SHOWN = 16
# A curve of 100 points by 1000 runs has a tenth of it.
_MOST_BYTES = 1 << 24
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _PointTable(_Table):
    signal_to_noise: float
    times_correct: list[int]


class _CurveFile(_Table):
    """A curve; `times_correct` counts the images that were right in 0, 1, ... of the runs."""

    format: Literal["labctl accuracy curve 1"]
    network_sha256: _Digest
    images_sha256: _Digest
    points: list[_PointTable]


def cache_folder() -> Path:
    """Return where this user's programs keep what can be measured again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "labctl"


def curve_path(folder: Path, network: Network, images: LabelledImages, runs: int) -> Path:
    """Return where in a folder the curve of this network on these images belongs."""
    digests = f"{network.sha256[:_SHOWN]}-{digest_of(images)[:_SHOWN]}"
    return folder / f"accuracy-{digests}-{runs}.json"


def save_curve(curve: AccuracyCurve, path: Path) -> None:
    """Write a curve, the whole of it or nothing; raises UsageError if that cannot be."""
    file = _CurveFile(
        format="labctl accuracy curve 1",
        network_sha256=curve.network_sha256,
        images_sha256=curve.images_sha256,
        points=[
            _PointTable(
                signal_to_noise=point.signal_to_noise, times_correct=list(point.times_correct)
            )
            for point in curve.points
        ],
    )
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(file.model_dump_json(indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as problem:
        if part.is_file():
            part.unlink()
        raise UsageError(f"{path}: cannot be written ({problem.strerror})") from problem


def load_curve(path: Path) -> AccuracyCurve:
    """Read a curve; raises UsageError where the file is no curve."""
    try:
        file = _CurveFile.model_validate_json(read_plain(path, _MOST_BYTES))
        points = tuple(
            AccuracyPoint(point.signal_to_noise, tuple(point.times_correct))
            for point in file.points
        )
        return AccuracyCurve(file.network_sha256, file.images_sha256, points)
    except OSError as problem:
        raise UsageError(f"{path}: cannot be read ({problem.strerror})") from problem
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise UsageError(f"{path}: not an accuracy curve ({where}: {first['msg']})") from problem
    except SettingError as problem:
        raise UsageError(f"{path}: not an accuracy curve ({problem})") from problem


def known_curve(path: Path, network: Network, images: LabelledImages) -> AccuracyCurve | None:
    """Return the curve in a file, None if there is none; raises UsageError if it is another's."""
    if not path.exists():
        return None
    curve = load_curve(path)
    if curve.network_sha256 != network.sha256:
        raise UsageError(
            f"{path}: accuracy of another network (sha256 {curve.network_sha256[:_SHOWN]}...), "
            f"not of {network.name!r} ({network.sha256[:_SHOWN]}...)"
        )
    if curve.images_sha256 != digest_of(images):
        raise UsageError(f"{path}: accuracy on other images than the {len(images.labels)} given")
    return curve


def cached_curve(path: Path, network: Network, images: LabelledImages) -> AccuracyCurve | None:
    """Return the curve in the user's cache, None if it is not there or of no use."""
    try:
        return known_curve(path, network, images)
    except LabctlError:
        return None
