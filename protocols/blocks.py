"""How many modes to collect at a time: what a block size costs in light lost, and what in noise.

A block of b modes loses b times the loss of one element of the rotation, on the way in and on the
way out; the first lowers F, both leak weights, since a dishonest client may have a better rotation
and keep that light. But each block's clone adds its noise g to b modes only, so that small blocks
leak weights through eps = g/b, and data through M/b. In between lies the best block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from labctl import checks
from labctl.errors import SettingError
from labctl.protocols.encoding import LEAST_PHOTONS, MOST_PHOTONS, PHOTON_RANGE, Blocks
from labctl.protocols.leakage import Assumptions, LayerShape, leakage_of
from labctl.protocols.receiver import Receiver
from labctl.protocols.rotation import MOST_LOSS_DB, Rotation
from labctl.units import db_to_ratio

# Rows of a million modes are beyond any network that is sent here.
_MOST_MODES = 1_000_000


@dataclass(frozen=True)
class BlockQuestion:
    """A row of `modes` modes, `rows` of which carry the same input, and what it passes.

    Give either `mean_photons` (mu per mode) or `signal_to_noise`, the F that the client needs:
    then each block size gets the mu that reaches it. `loss_db`: of the link's round trip, the
    rotation left out. `technical_noise` in SNU at the server.
    """

    modes: int
    rows: int
    rotation: Rotation
    receiver: Receiver
    loss_db: float
    technical_noise: float
    assumptions: Assumptions
    mean_photons: float | None = None
    signal_to_noise: float | None = None

    def __post_init__(self) -> None:
        for name in ("modes", "rows"):
            checks.within(name, getattr(self, name), 1, _MOST_MODES)
        checks.within("loss_db", self.loss_db, 0.0, MOST_LOSS_DB, note=" dB")
        checks.not_negative("technical_noise", self.technical_noise, ", in SNU")
        if self.mean_photons is None and self.signal_to_noise is None:
            raise SettingError("mean_photons", None, "given, or F in its place")
        if self.mean_photons is not None and self.signal_to_noise is not None:
            valid = f"left out where F is given ({self.signal_to_noise:g})"
            raise SettingError("mean_photons", self.mean_photons, valid)
        if self.mean_photons is not None and (
            not LEAST_PHOTONS <= self.mean_photons <= MOST_PHOTONS
        ):
            raise SettingError("mean_photons", self.mean_photons, PHOTON_RANGE)
        if self.signal_to_noise is not None:
            checks.positive("signal_to_noise", self.signal_to_noise, " (F)")


@dataclass(frozen=True)
class BlockOption:
    """What one block size gives.

    `transmittance`: of the round trip, rotation included. `excess_noise`: that an honest client's
    clone causes per mode, in SNU, with the technical noise. `mean_photons` and the weight bits are
    infinite where no light reaches the wanted F. Data bits are per symbol.
    """

    block_modes: int
    blocks: int
    mean_photons: float
    signal_to_noise: float
    transmittance: float
    excess_noise: float
    weights_bits_per_mode: float
    weights_bits_per_real: float
    data_bits_first: float
    data_bits_journal: float
    data_bits_quantum: float


@dataclass(frozen=True)
class BlockLimits:
    """Limits: maximum bits per real weight, maximum bits per data symbol (journal), minimum F."""

    weights_bits_per_real: float | None = None
    data_bits_journal: float | None = None
    signal_to_noise: float | None = None

    def __post_init__(self) -> None:
        for name in ("weights_bits_per_real", "data_bits_journal", "signal_to_noise"):
            value = getattr(self, name)
            if value is not None:
                checks.positive(f"limit of {name}", value, ", or none")

    def broken_by(self, option: BlockOption) -> tuple[str, ...]:
        """Return in words which limits an option breaks; none if it is allowed."""
        reasons = []
        if not math.isfinite(option.mean_photons):
            reasons.append("no light reaches the F that is wanted")
        most = self.weights_bits_per_real
        if most is not None and option.weights_bits_per_real > most:
            reasons.append(f"{option.weights_bits_per_real:.3g} bit per weight, above {most:g}")
        most = self.data_bits_journal
        if most is not None and option.data_bits_journal > most:
            reasons.append(f"{option.data_bits_journal:.3g} bit per data symbol, above {most:g}")
        least = self.signal_to_noise
        if least is not None and option.signal_to_noise < least * (1.0 - 1e-9):
            reasons.append(f"F = {option.signal_to_noise:.3g}, below {least:g}")
        return tuple(reasons)


def useful_sizes(modes: int) -> tuple[int, ...]:
    """Return the block sizes worth asking about, rising: the smallest for each number of blocks.

    A larger block that makes as many of them adds the same noise and loses more light.
    """
    few = range(1, min(math.isqrt(modes) + 1, modes) + 1)
    counts = {Blocks.of(modes, size).count for size in few}.union(few)
    return tuple(sorted({-(-modes // count) for count in counts}))


def block_option(question: BlockQuestion, block_modes: int) -> BlockOption:
    """Return what blocks of `block_modes` modes give (a whole row, if it has no more)."""
    blocks = Blocks.of(question.modes, block_modes)
    rotation, receiver = question.rotation, question.receiver
    leg = db_to_ratio(-question.loss_db / 2.0 - rotation.loss_db(blocks.size))
    photons = question.mean_photons or _photons_for(question, blocks.size, leg)
    reached = photons <= MOST_PHOTONS
    found = leakage_of(
        (LayerShape(question.rows, question.modes, 2 * question.modes, blocks.size),),
        mean_photons=photons if reached else MOST_PHOTONS,
        gain=receiver.gain,
        transmittance=db_to_ratio(-question.loss_db),
        technical_noise=question.technical_noise,
        assumptions=question.assumptions,
        emission_factor=receiver.emission_factor,
        rotation=rotation,
    )
    ideal = receiver.signal_to_noise(min(photons, MOST_PHOTONS), leg)
    return BlockOption(
        block_modes=blocks.size,
        blocks=blocks.count,
        mean_photons=photons if reached else math.inf,
        signal_to_noise=rotation.signal_to_noise(ideal, blocks.size),
        transmittance=leg**2,
        excess_noise=found.excess_noise,
        weights_bits_per_mode=found.weights_bits_per_mode if reached else math.inf,
        weights_bits_per_real=found.weights_bits_per_real if reached else math.inf,
        data_bits_first=found.data_bits_first,
        data_bits_journal=found.data_bits_journal,
        data_bits_quantum=found.data_bits_quantum,
    )


def block_options(
    question: BlockQuestion, sizes: Iterable[int] | None = None
) -> tuple[BlockOption, ...]:
    """Return the table of block sizes, rising; by default those of `useful_sizes`."""
    chosen = useful_sizes(question.modes) if sizes is None else sorted(set(sizes))
    return tuple(block_option(question, size) for size in chosen)


def allowed_blocks(question: BlockQuestion, limits: BlockLimits) -> tuple[BlockOption, ...]:
    """Return the options that keep within the limits, by rising size; may be none."""
    return tuple(option for option in block_options(question) if not limits.broken_by(option))


def best_block(question: BlockQuestion, limits: BlockLimits | None = None) -> BlockOption:
    """Return the option within the limits that leaks least of the weights.

    Raises SettingError when there is none, naming the option that leaks least and what is wrong
    with it.
    """
    limits = limits or BlockLimits()
    allowed = allowed_blocks(question, limits)
    if allowed:
        return min(allowed, key=_leak)
    least = min(block_options(question), key=_leak)
    reasons = ", ".join(limits.broken_by(least))
    raise SettingError(
        "block limits",
        limits,
        f"within reach of some block size; blocks of {least.block_modes} modes, which leak least, "
        f"give {reasons}",
    )


def _leak(option: BlockOption) -> float:
    return option.weights_bits_per_real


def _photons_for(question: BlockQuestion, block_modes: int, leg: float) -> float:
    """Return the mu that reaches the wanted F, infinite where the rotation's errors forbid it."""
    wanted = question.signal_to_noise
    assert wanted is not None
    kept = question.rotation.overlap(block_modes) ** 2
    signal = kept - (1.0 - kept) * wanted
    if not (signal > 0.0 and leg > 0.0):
        return math.inf
    return wanted / signal * question.receiver.referred_noise / (2.0 * leg)
