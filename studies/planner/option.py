"""Conditions that a planner weighs, limits that it keeps to, and one option that keeps to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labctl import checks
from labctl.errors import SettingError
from labctl.protocols.blocks import BlockQuestion
from labctl.protocols.leakage import (
    Assumptions,
    LayerShape,
    Leakage,
    Spectrum,
    WeightsFigure,
    leakage_of,
)
from labctl.protocols.receiver import MOST_NOISE, Homodyne, Receiver, ReceiverKind, receiver_of
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation
from labctl.units import db_to_ratio

# A noise figure of some 60 dB; a slip beyond.
MOST_EMISSION = 1e6


@dataclass(frozen=True)
class Conditions:
    """What cannot be chosen: the network's shape, the hardware, and what is assumed of it.

    `layers`: rows, modes, inputs and clones of each; their block size is ignored. `loss_db`: of the
    link's round trip. `technical_noise` in SNU at the server. `emission_factor` as in
    `CloneReceiver`. `weights_figure`: which figure limits, bounds and choices of the weights go by.
    """

    layers: tuple[LayerShape, ...]
    assumptions: Assumptions
    loss_db: float
    technical_noise: float
    client: Homodyne
    verifier: Homodyne
    rotation: Rotation = IDEAL_ROTATION
    kind: ReceiverKind = ReceiverKind.AMPLIFIER
    emission_factor: float = 1.0
    weights_figure: WeightsFigure = WeightsFigure.PRIOR_FREE

    def __post_init__(self) -> None:
        if not self.layers:
            raise SettingError("layers", self.layers, "one or more")
        if not 1.0 <= self.emission_factor <= MOST_EMISSION:
            valid = f"1 (quantum limit) to {MOST_EMISSION:g}"
            raise SettingError("emission_factor", self.emission_factor, valid)
        checks.within("technical_noise", self.technical_noise, 0.0, MOST_NOISE, note=", in SNU")
        for layer in self.layers:
            self.question(layer, 2.0, 1.0)
            if layer.clones > 1 and self.rotation != IDEAL_ROTATION:
                raise SettingError(
                    "decoys", layer.clones - 1, "0 with a rotation that is not ideal"
                )

    def receiver(self, gain: float) -> Receiver:
        """Return the client's receiver at a gain."""
        return receiver_of(self.kind, gain, self.emission_factor, self.client)

    def question(self, layer: LayerShape, gain: float, signal_to_noise: float) -> BlockQuestion:
        """Return what is asked about the blocks of one layer."""
        return BlockQuestion(
            modes=layer.modes,
            rows=layer.rows,
            rotation=self.rotation,
            receiver=self.receiver(gain),
            loss_db=self.loss_db,
            technical_noise=self.technical_noise,
            assumptions=self.assumptions,
            signal_to_noise=signal_to_noise,
        )

    def in_blocks(self, block_modes: int) -> tuple[LayerShape, ...]:
        """Return the layers, sent in blocks."""
        return tuple(
            replace(layer, block_modes=min(block_modes, layer.modes)) for layer in self.layers
        )

    def leakage(
        self, gain: float, block_modes: int, mean_photons: float, spectrum: Spectrum | None = None
    ) -> Leakage:
        """Return what an honest client's query at such a setting leaks.

        `spectrum`: of the network sent, for its own bound, which takes as long as all the rest.
        """
        receiver = self.receiver(gain)
        return leakage_of(
            self.in_blocks(block_modes),
            mean_photons=mean_photons,
            gain=receiver.gain,
            transmittance=db_to_ratio(-self.loss_db),
            technical_noise=self.technical_noise,
            assumptions=self.assumptions,
            emission_factor=receiver.emission_factor,
            rotation=self.rotation,
            spectrum=spectrum,
        )


# A float of 64 bits tells no more.
_MOST_BITS = 64.0


@dataclass(frozen=True)
class PlanLimits:
    """Maximum leakage: bits per real weight and query, bits per data symbol (journal version)
    and input, success of label reading (0 to 1); None is no limit."""

    weights_bits: float | None = None
    data_bits: float | None = None
    label_success: float | None = None

    def __post_init__(self) -> None:
        for name in ("weights_bits", "data_bits"):
            value = getattr(self, name)
            if value is not None:
                checks.above(f"limit of {name}", value, 0.0, _MOST_BITS, note=" bit, or none")
        share = self.label_success
        if share is not None:
            checks.above("limit of label_success", share, 0.0, 1.0, note=", or none")

    @property
    def on_weights(self) -> PlanLimits:
        """The limit on the weights alone."""
        return PlanLimits(weights_bits=self.weights_bits)

    @property
    def on_data(self) -> PlanLimits:
        """The limits on what the server learns alone."""
        return replace(self, weights_bits=None)


@dataclass(frozen=True)
class Option:
    """A setting and what it leaks. `label_evidence`: of label reading from one query."""

    signal_to_noise: float
    gain: float
    block_modes: int
    mean_photons: float
    leakage: Leakage
    label_evidence: float
    weights_figure: WeightsFigure = WeightsFigure.PRIOR_FREE

    @property
    def weights_bits(self) -> float:
        """Bits per real weight and query at the noise of an honest client, by the figure wanted."""
        return self.leakage.weights_bits(self.weights_figure)

    @property
    def data_bits(self) -> float:
        """Bits per data symbol and input, journal version, worst layer."""
        return self.leakage.data_bits_journal
