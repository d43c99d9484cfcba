"""Excess noise of the one mode that carries a weight in all queries, as the sums by weight show it.

Each query shows one quadrature, X or P, which the client cannot foresee. Of R queries a weight is
read in m, about half of them. A disturbance n_t of the weight's quadrature in query t has the
collective variance C = (sum n_t)^2/R and the mean variance N = mean n_t^2; over the random choice
of the m queries that were read, the sum over them shows

    seen = N + (m - 1)/(R - 1) (C - N).

So the collective noise is C = seen + (seen - N) (1/f - 1), f = (m - 1)/(R - 1): what was seen has
to be extrapolated from half the queries to all. It is never more than R N, with which Cauchy's
inequality bounds it where nothing adds up yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl.protocols.verification.channel import NoisePower, shot_noise_at_server
from labctl.protocols.verification.collective_record import CollectiveSums
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.protocols.verification.noise_ratio import NoiseRatio

# Seen sums, mean noise from above and from below: each may fail once.
_BOUNDS = 3
# Of the failure probability, that of the shot-noise unit where it is doubtful.
_DOUBTED = 0.1


@dataclass(frozen=True)
class CollectiveNoise:
    """The collective noise of a record. Noise in SNU at the server.

    `seen`: excess noise of the sums over what was read, `seen_error` its standard error; `mean`:
    of the single readings. `estimate`: of the whole mode; `upper`: exceeded by the truth with the
    failure probability at most; `client_upper`: the same with the doubts of noise behind the
    client, where the link's loss is trusted. `queries` R, `reads` m per weight, `degrees` of
    freedom.
    """

    seen: float
    seen_error: float
    mean: float
    estimate: float
    upper: float
    client_upper: float
    queries: int
    reads: float
    degrees: float


@dataclass(frozen=True)
class SumsSeen:
    """The seen power over that of shot noise, and what it is judged by."""

    ratio: float
    degrees: float
    scatter: float
    calibration: float
    unit: float
    white: float
    clone: float
    loud: float

    @classmethod
    def of(cls, sums: CollectiveSums) -> SumsSeen:
        """Return what the sums show, parameters fitted to the readings counted off."""
        weight = math.fsum(part.weight for part in sums.parts)
        units = [shot_noise_at_server(part.pooled.calibration) for part in sums.parts]
        unit = math.fsum(p.weight * u for p, u in zip(sums.parts, units, strict=True)) / weight
        spread = math.fsum(
            (part.weight * own / (weight * unit)) ** 2 / (part.pooled.calibration_samples - 1)
            for part, own in zip(sums.parts, units, strict=True)
        )
        samples = sum(part.pooled.samples for part in sums.parts)
        fitted = math.fsum(part.pooled.fitted for part in sums.parts) / samples
        degrees = max(sums.degrees * (1.0 - fitted), 1.0)
        return cls(
            ratio=sums.power / degrees / unit,
            degrees=degrees,
            scatter=sums.scatter,
            calibration=1.0 / spread,
            unit=unit,
            white=1.0 + math.fsum(part.white for part in sums.parts) / weight / unit,
            clone=math.fsum(part.clone for part in sums.parts) / weight / unit,
            loud=sums.loud,
        )

    def honest(self, doubt: float) -> NoiseRatio:
        """Return the distribution of ratio times degrees; `doubt` of the noise, over the unit."""
        loud = min(self.loud, self.degrees)
        # Fewer degrees of freedom, each with more power: the same mean, more scatter.
        return NoiseRatio(
            ((self.degrees - loud) / self.scatter, loud / self.scatter),
            (self.white * self.scatter, (self.white + self.clone) * self.scatter),
            self.calibration,
            doubt * self.degrees,
        )


def collective_noise(
    sums: CollectiveSums, failure_probability: float, doubts: Doubts = EXACT
) -> CollectiveNoise:
    """Return the collective noise with its bound; the sums hold one query at least.

    `doubts`: of the constants that all sessions have in common; that of the shot-noise unit scales
    all noise, that of sums as that of single readings.
    """
    seen, pooled = SumsSeen.of(sums), sums.pooled
    estimate, calibration = pooled.estimate(), pooled.calibration()
    carried = sums.queries * sums.carriers
    shown = (seen.ratio - 1.0) * seen.unit
    value = whole_mode(shown, estimate.excess_noise, sums.pairs)
    doubted = 0.0 if doubts.none else _DOUBTED * failure_probability
    upper = noise_upper(
        (
            NoisePower(seen.ratio, seen.degrees / seen.scatter, seen.calibration),
            seen.loud,
            seen.unit,
        ),
        (
            NoisePower(estimate.variance_ratio, estimate.samples - 1.0, calibration.samples - 1.0),
            pooled.clones.count,
            shot_noise_at_server(calibration),
        ),
        pairs=sums.pairs,
        carried=carried,
        failure_probability=failure_probability - doubted,
    )
    client_upper = upper
    if upper > 0.0 and doubted:
        client_upper = upper * doubts.client_noise_factor(doubted)
        upper *= doubts.noise_factor(doubted)
    return CollectiveNoise(
        seen=shown,
        seen_error=seen.ratio
        * math.sqrt(2.0 * seen.scatter / seen.degrees + 2.0 / seen.calibration)
        * seen.unit,
        mean=estimate.excess_noise,
        estimate=min(value, carried * max(estimate.excess_noise, 0.0)),
        upper=upper,
        client_upper=client_upper,
        queries=sums.queries,
        reads=estimate.samples / sums.read,
        degrees=seen.degrees,
    )


# What was found, readings on which a clone may be loud, the unit in SNU.
_Found = tuple[NoisePower, float, float]


def noise_upper(
    seen: _Found, single: _Found, *, pairs: float, carried: int, failure_probability: float
) -> float:
    """Return what the collective noise exceeds with this probability at most, in SNU.

    `seen` of the sums, `single` of the single readings; `pairs` of the `carried` quadratures with
    one weight, of which both were read. Each is bounded as the noise of single queries is: exactly
    for white noise, and with all of it on the modes where a clone is loud, if that allows more.
    """
    each = failure_probability / _BOUNDS
    (sums, loud, unit), (power, clones, own_unit) = seen, single
    seen_most = sums.upper(each, loud) * unit
    most, least = power.upper(each, clones) * own_unit, power.lower(each, clones) * own_unit
    return min(whole_mode(seen_most, least, pairs), carried * max(most, 0.0))


def expected_noise_upper(
    excess_noise: float,
    *,
    queries: int,
    rows: int,
    modes: int,
    calibration_samples: int,
    failure_probability: float,
) -> float:
    """Return the bound on the collective noise that an honest client is expected to be held to.

    One layer of `rows` rows of `modes` modes, ideal receiver; X or P is read by chance.
    """
    read = 2.0 * rows * modes * (1.0 - 0.5**queries)
    samples = float(queries * rows * modes)
    pairs = (samples / read - 1.0) / (queries - 1.0) if queries > 1 else 0.0
    ratio, own = 1.0 + excess_noise, calibration_samples - 1.0
    return noise_upper(
        (NoisePower(ratio, max(read - rows, 1.0), own), read / modes, 1.0),
        (NoisePower(ratio, max(samples - 1.0, 1.0), own), float(queries * rows), 1.0),
        pairs=pairs,
        carried=queries,
        failure_probability=failure_probability,
    )


def whole_mode(seen: float, mean: float, share: float) -> float:
    """Return the noise of the whole mode from that of a `share` (m - 1)/(R - 1) of its pairs."""
    return seen + (seen - mean) * (1.0 / share - 1.0) if share > 0.0 else math.inf
