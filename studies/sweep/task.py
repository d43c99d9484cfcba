"""What a sweep can run: a named, pure function of flat, JSON-able settings and a seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

Scalar = str | int | float | bool | None


class Settings(BaseModel):
    """Base of a task's settings: flat, strict, finite."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class SweepTask(Protocol):
    """One kind of point.

    All of it must hold in any process: a point is sent as the task's name and plain settings.
    """

    @property
    def name(self) -> str:
        """Its name in a sweep file."""
        ...

    @property
    def settings(self) -> type[Settings]:
        """The settings that it takes, with their defaults."""
        ...

    @property
    def seeded(self) -> bool:
        """Whether its values depend on the seed."""
        ...

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values that it returns."""
        ...

    @property
    def headline(self) -> tuple[str, ...]:
        """Those of its values that a table for people shows."""
        ...

    def resolved(self, settings: Any, folder: Path) -> Any:
        """Return the settings with files named from `folder` on, absolute."""
        ...

    def check(self, settings: Any) -> None:
        """Raise LabctlError if the settings cannot be run; no more than reads files."""
        ...

    def identity(self, settings: Any) -> dict[str, Scalar]:
        """Return what the values depend on: settings, files by their content's hash."""
        ...

    def probe(self, settings: Any) -> tuple[Any, float]:
        """Return quick settings to time, and how many times longer the given ones take."""
        ...

    def assumptions(self, settings: Any) -> tuple[str, ...]:
        """Return what its security figures assume, in words."""
        ...

    def run(self, settings: Any, seed: int) -> Mapping[str, Scalar]:
        """Return the point's values: plain and finite, or None."""
        ...
