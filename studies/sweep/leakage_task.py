"""The task `leakage`: the closed forms alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from labctl.protocols.leakage import (
    LEAKAGE_FIGURES,
    Assumptions,
    LayerShape,
    Leakage,
    Trust,
    leakage_of,
)
from labctl.protocols.rotation import Rotation
from labctl.run.report import finite
from labctl.studies.sweep.task import Scalar, Settings
from labctl.units import db_to_ratio

TrustName = Literal["trusted", "untrusted"]
Count = Annotated[int, Field(ge=1)]
LossDb = Annotated[float, Field(ge=0.0, lt=200.0)]
LEAKAGE_VALUES = tuple(
    name for name in LEAKAGE_FIGURES if name not in ("excess_noise", "weights_bits_network")
)


class LeakageSettings(Settings):
    """What the options of `labctl leakage` set, under their names; `mean_photons` is its `mu`."""

    mean_photons: float
    gain: float
    modes: Count = 392
    rows: Count = 784
    loss_db: LossDb = 0.0
    loss: TrustName = "untrusted"
    technical_noise: float = 0.0
    noise: TrustName = "untrusted"
    block_modes: Count | None = None
    rotation_loss_db_per_mode: float = 0.0
    emission_factor: float = 1.0
    queries: Count = 1


class LeakageTask:
    """Closed forms of one layer; nothing is drawn."""

    name = "leakage"
    settings = LeakageSettings
    seeded = False
    values = (*LEAKAGE_VALUES, "honest_excess_noise", "weights_bits_prior_free_all_queries")
    headline = ("weights_bits_prior_free", "data_bits_journal", "data_bits_quantum")

    def resolved(self, settings: LeakageSettings, folder: Path) -> LeakageSettings:
        """Return the settings: they name no files."""
        return settings

    def check(self, settings: LeakageSettings) -> None:
        """Raise SettingError for what has no leakage."""
        self._leakage(settings)

    def identity(self, settings: LeakageSettings) -> dict[str, Scalar]:
        """Return the settings: there are no files."""
        return settings.model_dump()

    def probe(self, settings: LeakageSettings) -> tuple[LeakageSettings, float]:
        """Return the settings themselves, which are quick."""
        return settings, 1.0

    def assumptions(self, settings: LeakageSettings) -> tuple[str, ...]:
        """Return what the figures assume."""
        return assumptions_of(settings.loss, settings.noise).sentences()

    def run(self, settings: LeakageSettings, seed: int) -> dict[str, Scalar]:
        """Return the leakage."""
        found = self._leakage(settings)
        return {
            **leakage_values(found),
            "weights_bits_prior_free_all_queries": found.after(settings.queries),
        }

    def _leakage(self, settings: LeakageSettings) -> Leakage:
        shape = LayerShape(
            rows=settings.rows,
            modes=settings.modes,
            inputs=2 * settings.modes,
            block_modes=settings.block_modes,
        )
        return leakage_of(
            (shape,),
            mean_photons=settings.mean_photons,
            gain=settings.gain,
            transmittance=db_to_ratio(-settings.loss_db),
            technical_noise=settings.technical_noise,
            assumptions=assumptions_of(settings.loss, settings.noise),
            emission_factor=settings.emission_factor,
            rotation=Rotation(settings.rotation_loss_db_per_mode),
        )


def assumptions_of(loss: TrustName, noise: TrustName) -> Assumptions:
    """Return the assumptions that two settings name."""
    return Assumptions(loss=Trust(loss), technical_noise=Trust(noise))


def leakage_values(found: Leakage) -> dict[str, Any]:
    """Return a leakage as plain values; what is infinite becomes None."""
    values = {name: getattr(found, name) for name in LEAKAGE_VALUES}
    return finite({**values, "honest_excess_noise": found.excess_noise})
