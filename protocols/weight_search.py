"""Are the weights of a network few levels, or spiked? Looked at before anything is sent.

Every figure in bits per weight is for Gaussian weights. Of weights that take few values it says
nothing: a client that heterodynes, decides on the level and sends it again returns light without
noise if it decides rightly, and has read the network. What is bounded for such weights is only what
they and the light can carry: no more than their entropy, over all queries together, and no more
than the entropy of the light, (1/2) h(2 mu + 1) per real weight and query.

Weights count as levels where they lie in few clusters, each much narrower than the gaps around it,
over a layer or within each of its rows (rows scaled by themselves). They count as spiked where one
value alone has more than a hundredth of them and stands out from its neighbours to somebody who
averages a thousand readings; training without light for some pixels leaves weights that only come
close to zero, more of them the closer, and these are one continuous distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.clumped_blocks import clumps_of
from labctl.protocols.codewords import chain_of, codebook_of
from labctl.protocols.encoding import MOST_PHOTONS, PHOTON_RANGE, Floats, unit_rms
from labctl.protocols.levels import MOST_LEVELS, Decision, Levels
from labctl.protocols.offset_levels import levels_behind_offsets, without_offsets
from labctl.protocols.repeated_blocks import FAINT
from labctl.protocols.scaled_levels import (
    LEAST_PER_LEVEL,
    SAME,
    balanced_levels,
    blurred_levels,
    levels_of_blocks,
    levels_of_lines,
)
from labctl.protocols.weight_distribution import (
    TOLD_APART,
    LayerDistribution,
    WeightDistribution,
    WeightsKind,
)

Doubles = npt.NDArray[np.float64]

# Widths of gaps to look for: after rounding to float16, and with more and more dither.
_GAPS = (SAME, 2e-3, 1e-2, 5e-2, 0.2, 0.5, 1.0)
# Clusters must be that much narrower (standard deviation) than their distances: of weights spread
# evenly over their level's whole cell it is 0.29, and there are no gaps.
_NARROW = 0.25
# Gaps between levels must be that many times the widest one within a level. The largest weights of
# a row lie apart by chance: cut at their widest gaps, the rows of shipped networks have a median
# of 1.5 times there, and no more than a tenth of a layer's rows have 3.
_DISTINCT = 3.0
# More levels than that many times those of a row: rows have different scales.
_SCALED = 3
# A spike below this share, or so few outliers beside one broad level, tell less than
# h2(0.01) = 0.08 bit, and clipping at a peak limit makes such spikes.
_LEAST_SPIKE = 0.01
# A spike stands out where this many readings, averaged, spare a tenth of the errors of guessing.
_READINGS = 1000
_SEEN = 0.9
_STEPS_PER_NOISE = 8


# How many numbers, of its weights, a layer may be to be called few: at 1/2 the client's noise is
# half of one reading's. Rounding to half precision leaves a mean square of 1e-7 beside the rank.
# Behind the rank comes a step: spectra of trained layers fall smoothly below any cut, by a tenth
# from one to the next, and are what Gaussian figures count as covariance.
_RANK_CUT = 1e-6
_RANK_STEP = 1e-2
_FEW_NUMBERS = 0.5


def resend_noise(unit: Floats, mean_photons: float) -> float:
    """Return the noise in SNU that heterodyning unit-RMS weights and resending them leaves.

    The client knows how the weights are distributed and resends E(w | reading), which is off by
    the least mean square; 2 mu of it return in each quadrature. Weights with levels far apart leave
    none, Gaussian ones 2 mu/(1 + mu), continuous ones towards 2 SNU the brighter the light.
    """
    noise = 1.0 / math.sqrt(mean_photons)
    step = noise / _STEPS_PER_NOISE
    cells = np.round(unit.astype(np.float64).ravel() / step).astype(np.int64)
    # A normal density is 1e-14 of its peak at 8 standard deviations.
    lowest, reach = int(cells.min()), 8 * _STEPS_PER_NOISE
    shares = np.bincount(cells - lowest) / cells.size
    values = step * (lowest + np.arange(len(shares)))
    kernel = _density(step * np.arange(-reach, reach + 1), noise)
    read, mean = np.convolve(shares, kernel), np.convolve(shares * values, kernel)
    explained = np.sum(np.divide(mean**2, read, out=np.zeros_like(read), where=read > 0.0)) * step
    return max(2.0 * mean_photons * float(shares @ values**2 - explained), 0.0)


def look_at(network: Network, mean_photons: float) -> WeightDistribution:
    """Look at the weights that are sent; mu is where they leave the server, before any loss.

    Raises SettingError for light outside the range of mu.
    """
    checks.require(0.0 < mean_photons <= MOST_PHOTONS, "mean_photons", mean_photons, PHOTON_RANGE)
    layers = carried(network).network.layers
    return WeightDistribution(
        tuple(
            _layer(unit_rms(weights), unit_rms(whole), mean_photons)
            for weights, whole in zip(layers, network.layers, strict=True)
        ),
        mean_photons,
    )


def require_not_told_apart(found: WeightDistribution, *, accepted: bool) -> None:
    """Raise SettingError where levels can be distinguished, unless that is `accepted`."""
    if found.told_apart and not accepted:
        raise SettingError(
            "weights",
            found.statement(),
            "trained with --weight-dither, sent with fewer photons, or accepted with "
            "--accept-discrete-weights",
        )


def levels_of(weights: Floats) -> Levels | None:
    """Return the levels of unit-RMS weights (any shape), None where they are continuous.

    Gaps are looked for from narrow to wide. Levels' values are means of their weights; their spread
    is the RMS around these.
    """
    rising = np.sort(weights.astype(np.float64), axis=None)
    for tolerance in _GAPS:
        levels = _clusters(rising, tolerance)
        if levels is not None:
            return levels
    return None


def _clusters(rising: Doubles, tolerance: float) -> Levels | None:
    gaps = np.diff(rising, prepend=-math.inf)
    starts = np.flatnonzero(gaps > tolerance)
    most = min(MOST_LEVELS, rising.size // LEAST_PER_LEVEL)
    if not 2 <= len(starts) <= most:
        return None
    if gaps[starts].min() < _DISTINCT * gaps[gaps <= tolerance].max():
        return None
    counts = np.diff(starts, append=rising.size)
    values = np.add.reduceat(rising, starts) / counts
    spread = float(np.sqrt(np.mean((rising - np.repeat(values, counts)) ** 2)))
    lone = rising.size - counts.max() < _LEAST_SPIKE * rising.size
    # One heap and outliers, each alone, are no levels: nothing shows that an outlier comes again.
    lone |= np.count_nonzero(counts > 1) < 2
    if lone or spread > _NARROW * float(np.diff(values).min()):
        return None
    return Levels(values, counts / rising.size, spread if spread > SAME else 0.0)


def _layer(unit: Floats, whole: Floats, mean_photons: float) -> LayerDistribution:
    """Return what one layer looks like; `whole` with what carries nothing, where words begin."""
    noise = resend_noise(unit, mean_photons)
    repeated = _low_rank(unit, mean_photons, noise)
    if repeated is not None:
        return repeated
    found = _levelled(unit, mean_photons, noise)
    if found.told_apart:
        return found
    whole = whole * np.float32(math.sqrt(whole.size / unit.size))
    worded = _worded(unit, whole, mean_photons, noise)
    if worded is not None and worded.told_apart:
        return worded
    clumps = clumps_of(whole, mean_photons, TOLD_APART)
    centred = None if clumps is not None else without_offsets(unit)
    if centred is not None:
        clumps = clumps_of(centred, mean_photons, TOLD_APART)
    if clumps is not None:
        return LayerDistribution(
            WeightsKind.CLUMPS,
            unit.size,
            min(noise, clumps.noise),
            length=clumps.length,
            order=clumps.order,
            resent=True,
        )
    return worded if worded is not None and found.kind is WeightsKind.CONTINUOUS else found


def _worded(
    unit: Floats, whole: Floats, mean_photons: float, noise: float
) -> LayerDistribution | None:
    """Return what exact words of a codebook look like; None where there are none."""
    words = codebook_of(whole)
    if words is None:
        return None
    mistaken, off = words.decided(mean_photons)
    chain = chain_of(unit, mean_photons)
    if chain is not None and chain.off < off:
        return LayerDistribution(
            WeightsKind.CHAIN,
            unit.size,
            min(noise, 2.0 * mean_photons * chain.off),
            2,
            chain.error_rate,
            1.0,
            chain.bits,
            order=chain.order,
            resent=2.0 * mean_photons * chain.off <= TOLD_APART * noise,
        )
    return LayerDistribution(
        WeightsKind.CODEBOOK,
        unit.size,
        min(noise, 2.0 * mean_photons * off),
        words.count,
        mistaken,
        1.0 - float(words.shares.max()),
        words.entropy_bits,
        exact=words.exact,
        length=words.length,
        order=words.order,
        resent=2.0 * mean_photons * off <= TOLD_APART * noise,
    )


def _low_rank(unit: Floats, mean_photons: float, noise: float) -> LayerDistribution | None:
    """Return what rows that are all combinations of few look like; None where they are many.

    M rows of n weights and rank r are r(M + n - r) numbers. All M n readings together give each
    weight to within that share of the noise of one reading, 2 SNU where it is resent.
    """
    # Rows and columns without light are no numbers to learn.
    squares = np.square(unit)
    lit = unit[squares.mean(axis=1) > FAINT**2][:, squares.mean(axis=0) > FAINT**2]
    rows, columns = lit.shape
    # r (M + n - r) is a share f of M n at 2 r = M + n - sqrt((M + n)^2 - 4 f M n).
    both = rows + columns
    most = math.floor(0.5 * (both - math.sqrt(both**2 - 4.0 * _FEW_NUMBERS * lit.size)))
    if most < 1 or lit.max() - lit.min() <= SAME:
        return None
    # As many random mixtures of the columns as the largest rank, and one more.
    mixers = np.random.default_rng(0).standard_normal((columns, most + 1), np.float32)
    mixed = (lit @ mixers).astype(np.float64)
    spectrum = np.linalg.eigvalsh(mixed.T @ mixed)[::-1]
    ends = spectrum[1:] <= np.minimum(_RANK_STEP * spectrum[:-1], _RANK_CUT * spectrum[0])
    if not ends.any():
        return None
    rank = int(np.argmax(ends)) + 1
    share = rank * (both - rank) / lit.size
    # Resent Gaussian weights leave 2 mu/(1 + mu).
    resent = share <= TOLD_APART * mean_photons / (1.0 + mean_photons)
    return LayerDistribution(
        WeightsKind.LOW_RANK, unit.size, min(noise, 2.0 * share), rank, resent=resent
    )


def _levelled(unit: Floats, mean_photons: float, noise: float) -> LayerDistribution:
    """Return what levels or spikes single weights show."""
    levels = levels_of(unit)
    per_row = _per_row(unit, mean_photons, noise)
    # Rows scaled by themselves may make few values in all: what a client uses is the fewest.
    found = per_row or _spiked(unit, mean_photons, noise)
    if levels is not None and (per_row is None or len(levels.values) <= _SCALED * per_row.levels):
        exact = levels.spread == 0.0
        found = _described(
            WeightsKind.LEVELS, [levels], unit.size, mean_photons, noise, exact=exact
        )
    if found.told_apart:
        return found
    for kind, behind in _behind_scales(unit):
        # Combs of exact levels have peaks and valleys too.
        peaks = kind in {WeightsKind.LEVELS_BLURRED, WeightsKind.LEVELS_OFFSET}
        if peaks and found.kind is not WeightsKind.CONTINUOUS:
            continue
        other = _described(kind, behind, unit.size, mean_photons, noise)
        if other.told_apart or found.kind is WeightsKind.CONTINUOUS:
            return other
    return found


def _behind_scales(unit: Floats) -> Iterator[tuple[WeightsKind, list[Levels]]]:
    """Yield what levels there are once scales are taken out, or blur is looked through."""
    for kind, lines in (
        (WeightsKind.LEVELS_PER_ROW, unit),
        (WeightsKind.LEVELS_PER_COLUMN, unit.T),
    ):
        found = levels_of_lines(lines, levels_of)
        if found:
            yield kind, found
    balanced = balanced_levels(unit, levels_of)
    if balanced is not None:
        yield WeightsKind.LEVELS_SCALED, [balanced]
    blocks = levels_of_blocks(unit)
    if blocks:
        yield WeightsKind.LEVELS_PER_BLOCK, blocks
    blurred = blurred_levels(unit)
    if blurred is not None:
        yield WeightsKind.LEVELS_BLURRED, [blurred]
    behind_offsets = levels_behind_offsets(unit, levels_of, blurred_levels)
    if behind_offsets is not None:
        yield WeightsKind.LEVELS_OFFSET, [behind_offsets]


def _described(
    kind: WeightsKind,
    levels: Sequence[Levels],
    weights: int,
    mean_photons: float,
    noise: float,
    *,
    exact: bool = False,
) -> LayerDistribution:
    """Return a client's decision errors for such levels, averaged over rows, columns or blocks."""
    errors = [Decision.at(each, mean_photons=mean_photons).error_probability for each in levels]
    return LayerDistribution(
        kind,
        weights,
        noise,
        max(len(each.values) for each in levels),
        float(np.mean(errors)),
        float(np.mean([1.0 - each.shares.max() for each in levels])),
        float(np.mean([each.entropy_bits for each in levels])),
        exact=exact,
    )


def _per_row(unit: Floats, mean_photons: float, noise: float) -> LayerDistribution | None:
    """Return the levels of rows that each have different ones; None unless most of them do."""
    rows = [row for row in unit if row.any()]
    found = [levels_of(row) for row in rows]
    levels = [each for each in found if each is not None]
    if 2 * len(levels) < len(rows):
        return None
    exact = len(levels) == len(rows) and all(each.spread == 0.0 for each in levels)
    return _described(
        WeightsKind.LEVELS_PER_ROW, levels, unit.size, mean_photons, noise, exact=exact
    )


def _spiked(unit: Floats, mean_photons: float, noise: float) -> LayerDistribution:
    """Return what a spike in a continuous distribution looks like, or that there is none."""
    # On a grid: linked neighbours would run through any dense distribution.
    cells = np.round(unit.astype(np.float64).ravel() / SAME)
    places, counts = np.unique(cells, return_counts=True)
    at = int(np.argmax(counts))
    share = float(counts[at]) / cells.size
    if len(places) == 1:
        return LayerDistribution(
            WeightsKind.LEVELS, unit.size, noise, 1, entropy_bits=0.0, exact=True
        )
    if share < _LEAST_SPIKE or counts[at] < LEAST_PER_LEVEL:
        return LayerDistribution(WeightsKind.CONTINUOUS, unit.size, noise)
    value, rest = SAME * float(places[at]), SAME * cells[cells != places[at]]
    guessed = min(share, 1.0 - share)
    seen = _spike_error(value, share, rest, 1.0 / math.sqrt(_READINGS * mean_photons))
    if seen > _SEEN * guessed:
        return LayerDistribution(WeightsKind.CONTINUOUS, unit.size, noise)
    return LayerDistribution(
        WeightsKind.SPIKE,
        unit.size,
        noise,
        2,
        _spike_error(value, share, rest, 1.0 / math.sqrt(mean_photons)),
        guessed,
        -share * math.log2(share) - (1.0 - share) * math.log2(1.0 - share),
    )


def _spike_error(value: float, share: float, rest: Doubles, noise: float) -> float:
    """Return the least share of mistakes between the spike and the rest, read with this noise.

    The integral of the smaller of the two densities of what is read, the rest as a histogram of
    cells much narrower than the noise.
    """
    step = noise / _STEPS_PER_NOISE
    cells = np.round((rest - value) / step)
    # Weights that are 200 standard deviations away add nothing to readings within 8 of the spike.
    places, counts = np.unique(cells[np.abs(cells) <= 200 * _STEPS_PER_NOISE], return_counts=True)
    read = step * np.arange(-8 * _STEPS_PER_NOISE, 8 * _STEPS_PER_NOISE + 1)
    spike = share * _density(read, noise)
    others = _density(read[:, None] - step * places, noise) @ counts * (1.0 - share) / rest.size
    # Beyond 8 standard deviations from the spike all is taken for the rest, correctly.
    return float(np.minimum(spike, others).sum() * step)


def _density(away: npt.NDArray[np.floating[Any]], noise: float) -> Doubles:
    density = np.exp(-0.5 * (away / noise) ** 2) / (noise * math.sqrt(2.0 * math.pi))
    return np.asarray(density, np.float64)
