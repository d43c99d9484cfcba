"""What this package says at the same settings: measured accuracies, and leakage with its terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.leakage import (
    Assumptions,
    LayerShape,
    Leakage,
    Trust,
    leakage_of,
)
from labctl.protocols.server import Server
from labctl.studies.planner.accuracy_curve import AccuracyCurve, measure_curve
from labctl.studies.reproduce.authors import INPUTS, MODES, ROWS, Setting, photons_for
from labctl.units import db_to_ratio

# A fifth of a decade apart, from 0.01 to 100: every second one of the authors' means.
F_GRID = tuple(float(f"{10.0 ** (-2.0 + 0.2 * index):.6g}") for index in range(21))
OPERATING_F = 0.3
OPERATING_GAINS = (1.3, 1.02)
WORST = Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED)
BEST = Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.TRUSTED)
PAPER_LAYERS = (
    LayerShape(rows=ROWS, modes=MODES, inputs=INPUTS),
    LayerShape(rows=10, modes=MODES, inputs=INPUTS),
)
_MOST_ADDED = 2.0


@dataclass(frozen=True)
class Measured:
    """A network and its accuracy against F."""

    network: Network
    curve: AccuracyCurve

    @property
    def shapes(self) -> tuple[LayerShape, ...]:
        """What leakage needs to know of its layers."""
        return Server(self.network, 1.0).shapes

    @property
    def label(self) -> str:
        """What a legend calls it."""
        return f"ours, {self.network.name}"


def measured(
    networks: Sequence[Network],
    images: LabelledImages,
    *,
    runs: int,
    seed: int,
    on_run: Callable[[int], None] = lambda count: None,
) -> tuple[Measured, ...]:
    """Return each network's accuracy on the images at every F of the grid, at mode level."""
    return tuple(
        Measured(
            network,
            measure_curve(network, images, grid=F_GRID, runs=runs, seed=seed, on_run=on_run),
        )
        for network in networks
    )


def square_layer(width: int) -> tuple[LayerShape, ...]:
    """Return a layer of as many rows as inputs, an even number."""
    return (LayerShape(rows=width, modes=width // 2, inputs=width),)


def operating_settings() -> tuple[Setting, ...]:
    """Return the settings for a network trained at F = 0.3: bright clones, and dim ones."""
    return tuple(Setting(photons_for(OPERATING_F, gain), gain) for gain in OPERATING_GAINS)


def leakage_at(
    setting: Setting,
    *,
    layers: tuple[LayerShape, ...] = PAPER_LAYERS,
    loss_db: float = 0.0,
    technical_noise: float = 0.0,
    assumptions: Assumptions = WORST,
) -> Leakage:
    """Return what such layers leak to and from an honest party per query."""
    return leakage_of(
        layers,
        mean_photons=setting.mean_photons,
        gain=setting.gain,
        transmittance=db_to_ratio(-loss_db),
        technical_noise=technical_noise,
        assumptions=assumptions,
        emission_factor=1.0,
    )


def most_data_bits(layers: tuple[LayerShape, ...]) -> float:
    """Return the bits per datum (journal form) that the worst layer leaks at unlimited gain."""
    return 0.5 * math.log2(1.0 + _rows_per_mode(layers) * _MOST_ADDED**2 / (1.0 + _MOST_ADDED))


def _rows_per_mode(layers: tuple[LayerShape, ...]) -> float:
    return max(layer.rows / layer.modes for layer in layers)


def gain_of_data_bits(bits: float, layers: tuple[LayerShape, ...] = PAPER_LAYERS) -> float:
    """Return the gain at which a datum of the worst layer leaks `bits` bits (journal form).

    With k = (2^(2 I) - 1) n/M, g^2/(1 + g) = k gives g, and G = 2/(2 - g). Raises SettingError for
    bits that no gain leaks.
    """
    checks.inside("data bits", bits, 0.0, most_data_bits(layers))
    k = math.expm1(2.0 * bits * math.log(2.0)) / _rows_per_mode(layers)
    return 2.0 / (2.0 - 0.5 * (k + math.sqrt(k * k + 4.0 * k)))
