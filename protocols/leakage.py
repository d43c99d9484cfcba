"""How much leaks: weights to the client, data to the server, and under which assumptions.

Entropies in bits, variances in shot-noise units (vacuum = 1). `mean_photons` is the mean photon
number per mode, `gain` the client's amplifier gain G, `modes` the modes n that carry one row,
`rows` the rows M that carry the same normalised input, `block_modes` the modes b that the client's
receiver collects at a time (None: a whole row).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from labctl.errors import SettingError
from labctl.protocols.encoding import MOST_PHOTONS, PHOTON_RANGE, Blocks
from labctl.protocols.receiver import GAIN_RANGE, MOST_GAIN, added_noise
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation

WEIGHTS_PER_MODE = 2


class Trust(StrEnum):
    """Whether an imperfection is out of the adversary's hands."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True)
class Assumptions:
    """What a weight-leakage figure assumes; there is no default on purpose.

    `loss`: untrusted gives the light lost between client and server to the client. Loss in the
    client's own rotation is never trusted: a dishonest client has a better one.
    `technical_noise`: untrusted counts the link's technical noise as the client's doing; trusted
    means that it arises in the server's own, calibrated receiver.
    """

    loss: Trust
    technical_noise: Trust

    def sentences(self) -> tuple[str, ...]:
        """Return the assumptions in words, for reports."""
        loss = (
            "loss untrusted: the client may hold all light that is lost"
            if self.loss is Trust.UNTRUSTED
            else "loss trusted: lost light is out of the client's reach, taken after the client"
        )
        noise = (
            "technical noise untrusted: all excess noise is taken as the client's doing"
            if self.technical_noise is Trust.UNTRUSTED
            else "technical noise trusted: it arises in the server's calibrated receiver"
        )
        return (
            loss,
            noise,
            "loss in the client's rotation untrusted always: a dishonest client has a better one",
            "weights: Holevo bound of Gaussian collective attacks; Gaussian weights, independent "
            "of each other: of rows that are known to be alike more is known",
            "data: Cramer-Rao bound on one symbol; a per-symbol bound does not protect a label",
        )


def thermal_entropy_bits(symplectic_eigenvalue: float) -> float:
    """Return the von Neumann entropy h(nu) in bits of a thermal mode; 0 at nu = 1.

    Weedbrook et al., Rev. Mod. Phys. 84, 621 (2012), eq. 46. Values below 1 by rounding count
    as 1.
    """
    photons = max(symplectic_eigenvalue - 1.0, 0.0) / 2.0
    if photons == 0.0:
        return 0.0
    # (n + 1) log(n + 1) - n log n, without the difference of two large numbers at large n.
    growth = math.log1p(photons)
    step = math.log1p(1.0 / photons) if photons > 1.0 else growth - math.log(photons)
    return (growth + photons * step) / math.log(2.0)


def holevo_bits_per_mode(mean_photons: float, transmittance: float, excess_noise: float) -> float:
    """Return what an adversary who holds the channel's purification learns of one mode, in bits.

    Direct reconciliation with modulation variance 2 mu per quadrature: entropy of the two-mode
    state (a = V, b = T(V - 1) + 1 + eps, c^2 = T(V^2 - 1)) less that of the mode conditioned on
    the weights. `transmittance` is 0 to 1, `excess_noise` is at the server's end, in SNU.
    """
    variance = 2.0 * mean_photons + 1.0
    # b - a, a b - c^2 and b - c^2/(a + 1) with V's large powers cancelled by hand: rounding would
    # otherwise swallow the leakage of bright light, or of a channel known from few samples.
    difference = excess_noise - (1.0 - transmittance) * (variance - 1.0)
    product = variance * (1.0 - transmittance + excess_noise) + transmittance
    larger = 0.5 * (math.hypot(difference, 2.0 * math.sqrt(product)) + abs(difference))
    bits = thermal_entropy_bits(larger) + thermal_entropy_bits(product / larger)
    return bits - thermal_entropy_bits(1.0 + excess_noise)


def weights_bits_per_mode(
    *,
    mean_photons: float,
    transmittance: float,
    excess_noise: float,
    technical_noise: float,
    assumptions: Assumptions,
    client_transmittance: float = 1.0,
) -> float:
    """Return the bits of weight information per mode that reach the client, at most.

    `excess_noise` is all that the server sees above vacuum at its end of the link, in SNU;
    `technical_noise` is the part of it that the link makes by itself, taken off if it is trusted.
    `client_transmittance` is the share of `transmittance` that is the client's own rotation's, in
    and out: that loss is untrusted always.
    Trusted loss is taken wholly after the client, which is the worst place: the client then
    holds undimmed light and its noise reaches the server dimmed.
    """
    _require("mean_photons", mean_photons, 0.0 < mean_photons <= MOST_PHOTONS, PHOTON_RANGE)
    _require("transmittance", transmittance, 0.0 < transmittance <= 1.0, "above 0, at most 1")
    _require(
        "technical_noise", technical_noise, 0.0 <= technical_noise < math.inf, "0 or more, in SNU"
    )
    _require("excess_noise", excess_noise, math.isfinite(excess_noise), "finite, in SNU")
    _require(
        "client_transmittance",
        client_transmittance,
        0.0 < client_transmittance <= 1.0,
        "above 0, at most 1",
    )
    adversarial = excess_noise
    if assumptions.technical_noise is Trust.TRUSTED:
        adversarial -= technical_noise
    adversarial = max(adversarial, 0.0)
    if assumptions.loss is Trust.TRUSTED:
        of_the_link = min(transmittance / client_transmittance, 1.0)
        return holevo_bits_per_mode(mean_photons, client_transmittance, adversarial / of_the_link)
    return holevo_bits_per_mode(mean_photons, transmittance, adversarial)


def weights_bits_shown(
    transmittance: float,
    excess_noise: float,
    *,
    mean_photons: float,
    technical_noise: float,
    assumptions: Assumptions,
    client_transmittance: float,
) -> float:
    """Return the bits per real weight that returned light of this T and excess noise means.

    T and noise are estimates or bounds: a T above 1 counts as 1, and light that shows no T above 0,
    or no finite noise, bounds nothing (infinite). The rest is as in `weights_bits_per_mode`.
    """
    if transmittance <= 0.0 or not math.isfinite(excess_noise):
        return math.inf
    bits = weights_bits_per_mode(
        mean_photons=mean_photons,
        transmittance=min(transmittance, 1.0),
        excess_noise=excess_noise,
        technical_noise=technical_noise,
        assumptions=assumptions,
        client_transmittance=client_transmittance,
    )
    return bits / WEIGHTS_PER_MODE


def data_bits_first(
    gain: float, modes: int, *, block_modes: int | None = None, emission_factor: float = 1.0
) -> float:
    """Return bits per data symbol to an honest server, the authors' first version.

    The symbol's power is 1/b; the n that stands for repetitions is that of the row.
    """
    symbol_power = 1.0 / (block_modes or modes)
    added = emission_factor * added_noise(gain)
    noise = 1.0 + added * symbol_power
    information = modes * 2.0 * added**2 * symbol_power / noise**4
    return 0.5 * math.log2(1.0 + 2.0 * symbol_power * information)


def data_bits_journal(
    gain: float,
    modes: int,
    rows: int,
    *,
    block_modes: int | None = None,
    emission_factor: float = 1.0,
) -> float:
    """Return bits per data symbol to an honest server that homodynes, PRX 15, 041056 (2025).

    M rows of covariance 1 + g c c^T tell each coefficient of the unit vector c with Fisher
    information M g^2/(1 + g); its prior variance is 1/b.
    """
    noise = emission_factor * added_noise(gain)
    return 0.5 * math.log2(1.0 + rows / (block_modes or modes) * noise**2 / (1.0 + noise))


def data_bits_quantum(
    gain: float,
    modes: int,
    rows: int,
    *,
    block_modes: int | None = None,
    emission_factor: float = 1.0,
) -> float:
    """Return bits per data symbol to an honest server with any receiver (quantum limit)."""
    noise = emission_factor * added_noise(gain)
    return 0.5 * math.log2(1.0 + rows / (block_modes or modes) * noise)


@dataclass(frozen=True)
class LayerShape:
    """What leakage needs to know of a layer: rows, modes per row, real inputs, modes per block."""

    rows: int
    modes: int
    inputs: int
    block_modes: int | None = None

    @property
    def blocks(self) -> Blocks:
        """The blocks of each row."""
        return Blocks.of(self.modes, self.block_modes)

    @property
    def inputs_by_block_size(self) -> dict[int, int]:
        """Real inputs that ride in full blocks and, if it is short, in the last one, by size."""
        blocks, counts = self.blocks, {self.blocks.size: self.inputs}
        last = blocks.modes - (blocks.count - 1) * blocks.size
        if last < blocks.size:
            counts[blocks.size] = WEIGHTS_PER_MODE * (blocks.modes - last)
            counts[last] = self.inputs - counts[blocks.size]
        return counts


@dataclass(frozen=True)
class Leakage:
    """Leakage of one setting: per symbol (of the worst layer), per input, per query."""

    weights_bits_per_mode: float
    weights_bits_per_real: float
    data_bits_first: float
    data_bits_journal: float
    data_bits_quantum: float
    data_bits_first_per_input: float
    data_bits_journal_per_input: float
    data_bits_quantum_per_input: float
    weights_bits_per_query: float
    queries_per_bit_per_weight: float
    excess_noise: float
    assumptions: Assumptions

    def after(self, queries: int) -> float:
        """Return the bits per real weight leaked by `queries` queries; leakage adds up."""
        return queries * self.weights_bits_per_real


def leakage_of(
    layers: tuple[LayerShape, ...],
    *,
    mean_photons: float,
    gain: float,
    transmittance: float,
    technical_noise: float,
    assumptions: Assumptions,
    emission_factor: float,
    rotation: Rotation = IDEAL_ROTATION,
) -> Leakage:
    """Return the leakage of an honest client's run at these settings.

    `emission_factor` n_sp (1: quantum limit) is the amplifier's spontaneous-emission factor, or
    what a tap's detectors make of it. The honest client adds n_sp g to the collected mode of each
    block, hence n_sp g B/n to each of n modes in B blocks; the leakage is concave in the noise, so
    that of the mean noise is no less than the mean over modes and blocks. The same noise shows the
    server the data. It is counted undimmed by the way back, which is more than the server sees of
    it. `transmittance` is that of the round trip without the client's `rotation`,
    `technical_noise` the link's own in SNU at the server.
    """
    _require("gain", gain, 1.0 < gain <= MOST_GAIN, GAIN_RANGE)
    _require("emission_factor", emission_factor, 1.0 <= emission_factor < math.inf, "1 or more")
    _require("transmittance", transmittance, 0.0 < transmittance <= 1.0, "above 0, at most 1")
    honest = emission_factor * added_noise(gain)
    shares = [honest * layer.blocks.count / layer.modes for layer in layers]
    per_mode = []
    for layer, share in zip(layers, shares, strict=True):
        own = rotation.transmittance(layer.blocks.size)
        bits = weights_bits_per_mode(
            mean_photons=mean_photons,
            transmittance=transmittance * own,
            excess_noise=share + technical_noise,
            technical_noise=technical_noise,
            assumptions=assumptions,
            client_transmittance=own,
        )
        per_mode.append(bits)
    data = [_DataBits.of(layer, gain, emission_factor) for layer in layers]
    worst = max(per_mode)
    return Leakage(
        weights_bits_per_mode=worst,
        weights_bits_per_real=worst / WEIGHTS_PER_MODE,
        data_bits_first=max(max(bits.first) for bits in data),
        data_bits_journal=max(max(bits.journal) for bits in data),
        data_bits_quantum=max(max(bits.quantum) for bits in data),
        data_bits_first_per_input=sum(_weighted_sum(bits.first, bits.inputs) for bits in data),
        data_bits_journal_per_input=sum(_weighted_sum(bits.journal, bits.inputs) for bits in data),
        data_bits_quantum_per_input=sum(_weighted_sum(bits.quantum, bits.inputs) for bits in data),
        weights_bits_per_query=_weighted_sum(
            per_mode, [layer.rows * layer.modes for layer in layers]
        ),
        queries_per_bit_per_weight=WEIGHTS_PER_MODE / worst if worst > 0.0 else math.inf,
        excess_noise=max(shares) + technical_noise,
        assumptions=assumptions,
    )


@dataclass(frozen=True)
class _DataBits:
    """Bits per data symbol of one layer for each size of block, and the symbols of each."""

    inputs: list[int]
    first: list[float]
    journal: list[float]
    quantum: list[float]

    @classmethod
    def of(cls, layer: LayerShape, gain: float, factor: float) -> _DataBits:
        modes, rows, counts = layer.modes, layer.rows, layer.inputs_by_block_size
        return cls(
            list(counts.values()),
            [data_bits_first(gain, modes, block_modes=b, emission_factor=factor) for b in counts],
            [
                data_bits_journal(gain, modes, rows, block_modes=b, emission_factor=factor)
                for b in counts
            ],
            [
                data_bits_quantum(gain, modes, rows, block_modes=b, emission_factor=factor)
                for b in counts
            ],
        )


def _weighted_sum(bits: list[float], counts: list[int]) -> float:
    return sum(bit * count for bit, count in zip(bits, counts, strict=True))


def _require(name: str, value: float, holds: bool, valid: str) -> None:
    if not holds:
        raise SettingError(name, value, valid)
