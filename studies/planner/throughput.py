"""How fast a setting classifies and how much light it takes.

A frame carries one layer: preamble, guards, and for every block of every row a pilot slot and a
readout slot beside its modes. Between frames the client computes; that time is its computer's and
is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labctl import checks
from labctl.dsp.layout import FrameLayout
from labctl.protocols.leakage import LayerShape
from labctl.units import photon_energy_j

# Any multiple will do: it decides how a pulse is drawn, not how many slots there are.
_SAMPLES_PER_SYMBOL = 8
_RECEIVERS = 2


# Above any optical frequency.
_MOST_HZ = 1e16


@dataclass(frozen=True)
class Transmission:
    """How light is sent: slots per second, frame overheads, optical frequency in Hz.

    `local_oscillator_w`: optical power of each of the two local oscillators, None if not counted.
    """

    symbol_rate_hz: float = 20e6
    preamble_symbols: int = 257
    guard_symbols: int = 16
    frequency_hz: float = 193.4e12
    local_oscillator_w: float | None = None

    def __post_init__(self) -> None:
        for name in ("symbol_rate_hz", "frequency_hz"):
            checks.above(name, getattr(self, name), 0.0, _MOST_HZ, note=" Hz")
        odd = self.preamble_symbols >= 1 and self.preamble_symbols % 2 == 1
        checks.require(odd, "preamble_symbols", self.preamble_symbols, "odd, 1 or more")
        if self.local_oscillator_w is not None:
            checks.not_negative("local_oscillator_w", self.local_oscillator_w, ", in W, or none")

    def slots(self, layer: LayerShape) -> int:
        """Return the slots of a layer's frame: a block has a turn for every mode collected."""
        blocks = layer.blocks
        return FrameLayout(
            symbol_rate_hz=self.symbol_rate_hz,
            sample_rate_hz=_SAMPLES_PER_SYMBOL * self.symbol_rate_hz,
            preamble_symbols=self.preamble_symbols,
            guard_symbols=self.guard_symbols,
            rows=layer.rows * blocks.count,
            modes=blocks.size,
            turns=min(layer.clones, blocks.size),
        ).slots


@dataclass(frozen=True)
class Throughput:
    """Rate and light of one inference.

    `payload_share`: of the slots, those that carry weights. Photons and energy are those of the
    weights' light alone, without pilots and preamble: as sent by the server, and as it arrives at
    the client's input. `macs`: real multiply-accumulates, one per weight.
    `local_oscillator_energy_j`: of both local oscillators while the frames last, None if not
    counted.
    """

    seconds_per_inference: float
    payload_share: float
    modes: int
    macs: int
    photons_sent: float
    photons_at_client: float
    energy_at_client_j: float
    local_oscillator_energy_j: float | None

    @property
    def inferences_per_s(self) -> float:
        """Inferences per second while light is sent without a break."""
        return 1.0 / self.seconds_per_inference

    @property
    def photons_per_mac(self) -> float:
        """Photons at the client's input per multiply-accumulate."""
        return self.photons_at_client / self.macs

    @property
    def energy_per_mac_j(self) -> float:
        """Optical energy at the client's input per multiply-accumulate, in J."""
        return self.energy_at_client_j / self.macs


def throughput_of(
    layers: Sequence[LayerShape],
    transmission: Transmission,
    *,
    mean_photons: float,
    leg_transmittance: float,
) -> Throughput:
    """Return rate and light of one inference; `leg_transmittance` is the link's, one way."""
    slots = sum(transmission.slots(layer) for layer in layers)
    modes = sum(layer.rows * layer.modes for layer in layers)
    seconds = slots / transmission.symbol_rate_hz
    sent = mean_photons * modes
    photon_j = photon_energy_j(transmission.frequency_hz)
    power = transmission.local_oscillator_w
    return Throughput(
        seconds_per_inference=seconds,
        payload_share=modes / slots,
        modes=modes,
        macs=sum(layer.rows * layer.inputs for layer in layers),
        photons_sent=sent,
        photons_at_client=sent * leg_transmittance,
        energy_at_client_j=sent * leg_transmittance * photon_j,
        local_oscillator_energy_j=None if power is None else _RECEIVERS * power * seconds,
    )
