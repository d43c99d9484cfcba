"""Which figures there are, and how they are made one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError, UsageError
from labctl.studies.planner.accuracy_curve import digest_of
from labctl.studies.reproduce import accuracy, leakage, noise
from labctl.studies.reproduce.drawing import FORMATS
from labctl.studies.reproduce.figure import Reproduction
from labctl.studies.reproduce.files import PREFIX, page, write_figure, write_whole
from labctl.studies.reproduce.ours import F_GRID, Measured, measured
from labctl.version import __version__

# Lines that can be distinguished in one figure.
MOST_NETWORKS = 4
_MEASURED: dict[str, Callable[[Sequence[Measured]], Reproduction]] = {
    "accuracy": accuracy.against_f,
    "leakage-plane": accuracy.over_leakage,
}
_CLOSED_FORMS: dict[str, Callable[[], Reproduction]] = {
    "width": leakage.against_width,
    "loss": leakage.against_loss,
    "technical-noise": noise.against_noise,
}
FIGURES = (*_MEASURED, *_CLOSED_FORMS)
_PACKAGES = ("numpy", "scipy", "matplotlib")


@dataclass(frozen=True)
class Request:
    """What to reproduce: figures by name, and what their accuracies are measured with.

    `command` is written down as what makes the figures again. Raises SettingError for a figure,
    format or number of networks that there is not.
    """

    figures: tuple[str, ...]
    networks: tuple[Network, ...]
    images: LabelledImages
    runs: int
    seed: int
    formats: tuple[str, ...]
    command: str

    def __post_init__(self) -> None:
        _require_known("figure", self.figures, FIGURES)
        _require_known("format", self.formats, FORMATS)
        checks.within("networks", len(self.networks), 1, MOST_NETWORKS)
        names = [network.name for network in self.networks]
        if len(set(names)) < len(names):
            raise SettingError("networks", ", ".join(names), "of different names")

    @property
    def passes(self) -> int:
        """Passes over the images that the figures need."""
        return len(F_GRID) * self.runs * len(self._measured_networks)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the figures depend on, as plain values."""
        networks = self._measured_networks
        images = {"count": len(self.images.labels), "sha256": digest_of(self.images)}
        return {
            "command": self.command,
            "versions": {"labctl": __version__, **{name: version(name) for name in _PACKAGES}},
            "networks": [
                {"name": one.name, "sha256": one.sha256, "provenance": dict(one.provenance)}
                for one in networks
            ],
            "images": images if networks else None,
            "runs": self.runs if networks else None,
            "seed": self.seed if networks else None,
        }

    @property
    def _measured_networks(self) -> tuple[Network, ...]:
        return self.networks if any(name in _MEASURED for name in self.figures) else ()

    def reproduce(
        self, *, on_pass: Callable[[int], None] = lambda count: None
    ) -> Iterator[Reproduction]:
        """Yield the figures in order; `on_pass` is called with 1 for every pass over the images."""
        found: tuple[Measured, ...] | None = None
        for name in self.figures:
            if name in _CLOSED_FORMS:
                yield _CLOSED_FORMS[name]()
                continue
            if found is None:
                found = measured(
                    self.networks, self.images, runs=self.runs, seed=self.seed, on_run=on_pass
                )
            yield _MEASURED[name](found)


@dataclass(frozen=True)
class Written:
    """The figures made, and the files that show them."""

    reproductions: tuple[Reproduction, ...]
    files: tuple[Path, ...]


def write(
    request: Request,
    folder: Path,
    *,
    on_pass: Callable[[int], None] = lambda count: None,
    on_files: Callable[[list[Path]], None] = lambda files: None,
) -> Written:
    """Write every figure as it is made, then the page of all; `on_files` gets each figure.

    An interruption leaves whole files only. Raises UsageError where one cannot be written.
    """
    _make(folder)
    reproductions: list[Reproduction] = []
    files: list[Path] = []
    provenance = request.provenance
    for reproduction in request.reproduce(on_pass=on_pass):
        new = write_figure(reproduction, folder, provenance, request.formats)
        reproductions.append(reproduction)
        files += new
        on_files(new)
    files.append(write_whole(folder / f"{PREFIX}.md", page(reproductions, provenance).encode()))
    return Written(tuple(reproductions), tuple(files))


def _make(folder: Path) -> None:
    """Make the folder before anything is measured for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(f"{folder}: no folder to write to ({problem.strerror})") from problem


def _require_known(what: str, asked: tuple[str, ...], known: tuple[str, ...]) -> None:
    valid = f"one or more of {', '.join(known)}, each once"
    if not asked or len(set(asked)) < len(asked):
        raise SettingError(f"{what}s", ", ".join(asked), valid)
    for name in asked:
        if name not in known:
            raise SettingError(what, name, valid)
