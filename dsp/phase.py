"""Phase tracking: the light's phase over a frame from known symbols, with its residual variance.

One quadrature is read, y = A Re(s exp(-i phi)) + noise, and phi is a Wiener process of variance
q = 2 pi linewidth * time. With information J per slot the best estimate has variance sqrt(q/J)/2;
between pilots that are D slots apart it grows by q D/6.

1. A constant frequency offset is found in the head and taken off the symbols (frequency.py).
2. Symbols are summed over short pieces of slots (symbol_sums.py); all later steps use these sums.
3. Windows, short against the walk, give each a phase by themselves; unwrapped, they are the start.
4. The most likely phase of all blocks at once: the fixed point of an iterated Rauch-Tung-Striebel
   smoother (Bell, SIAM J. Optim. 4, 626 (1994)), in information form a chain of tridiagonal
   systems. Amplitude and noise are learned again after each step.
5. The variance that is left is predicted from walk and noise, and measured from how each block
   scatters about what all others say. Light that is worse than stated is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.dsp.frequency import frequency_offset, refined_offset
from labctl.dsp.layout import Complexes, Floats, Indices
from labctl.dsp.pulses import Doubles
from labctl.dsp.symbol_sums import SymbolSums
from labctl.errors import SignalError

# Beyond this residual the likelihood of a phase is no longer close to a parabola.
LARGEST_RESIDUAL_RAD2 = 0.2
# Over a window the phase may walk by this variance V. Around its mean it then has variance V/6, so
# that the window's amplitude is low by V/12, 2 %.
_WINDOW_WALK_RAD2 = 0.2
# Over the reach of a window's symbols: 5 %. Beyond it a window shows no phase.
_LARGEST_WALK_RAD2 = 0.6
# Pilots alternate, so that four are two on X and two on P: two unknowns, and two values for noise.
_WINDOW_SYMBOLS = 4
# In slots. Fewer are mostly noise; over more than 512, two preambles, a frequency offset that the
# head does not show may turn the phase by more than half a turn.
_SHORTEST_WINDOW, _LONGEST_WINDOW = 16, 512
# A block's share of the smoother's memory, sqrt(1/(q J)): what moves within a block is not seen.
_BLOCK_SHARE = 0.3
# In slots, where the laser is so narrow that its walk sets no limit: drifts of the paths do.
_LONGEST_BLOCK = 256
# Pieces are merged to blocks of whole pieces, so they are shorter than the longest block.
_LONGEST_PIECE = 64
# More information per symbol than this comes from pilots alone, which have their own blocks.
_LARGEST_INFORMATION = 40.0
# Paths drift even if the laser does not: a phase is never assumed constant over a frame.
_LEAST_WALK_RAD2 = 0.01
# Steps until the phases have settled; more mean that they do not.
_ROUNDS = 30
# A phase has settled when it moves by less than this share of its error.
_SETTLED_SHARE = 0.02
# A normal error exceeds 5 standard errors with probability 6e-7.
_SIGMAS = 5.0
# A measured residual this many times the predicted one comes from other light than was stated.
_LARGEST_EXCESS = 4.0
# Below this a residual of any cause does no harm: it takes 1 % off T.
_LEAST_EXCESS_RAD2 = 0.01
# Four windows of the fewest symbols.
_LEAST_SYMBOLS = 16
# From this many slots per known symbol on, windows are long compared with a head's resolution.
_SPARSE = 4
# Of the largest possible: how much of both quadratures a window's symbols must show.
_LEAST_BOTH = 0.02


@dataclass(frozen=True)
class PhaseTrack:
    """The phase of the light against the local oscillator, and how well it is known.

    `amplitude`: V per unit symbol. `slots`, `phase_rad`: middles of the blocks and their unwrapped
    phases. `drift_rad`: mean change per slot. `residual_variance_rad2`: of the phase as `at` gives
    it, as linewidth, noise and symbols predict it. `measured_variance_rad2`: the same from each
    block's scatter about what all others say, with its standard error. `noise_v`: standard
    deviation of the residual per symbol. `freedom`: how many independent phases were fitted. Of n
    symbols that were used here, a residual variance taken over them lacks the share freedom/n.
    """

    amplitude: float
    slots: Doubles
    phase_rad: Doubles
    drift_rad: float
    residual_variance_rad2: float
    measured_variance_rad2: float
    measured_error_rad2: float
    noise_v: float
    freedom: float

    def at(self, slots: npt.NDArray[np.integer] | Doubles) -> Doubles:
        """Return phases in rad at slots of the frame, of their shape."""
        flat = self.phase_rad - self.drift_rad * self.slots
        return np.asarray(np.interp(slots, self.slots, flat) + self.drift_rad * np.asarray(slots))

    def cosine_sine(self, slots: npt.NDArray[np.integer] | Doubles) -> tuple[Floats, Floats]:
        """Return cosine and sine of the phase at slots of the frame, of their shape."""
        phase = self.at(slots).astype(np.float32)
        return np.cos(phase), np.sin(phase)


def track_phase(
    read: Floats,
    symbols: Complexes,
    slots: Indices,
    *,
    symbol_rate_hz: float,
    linewidth_hz: float,
) -> PhaseTrack:
    """Follow the phase through matched-filter values `read` (n,) of known `symbols` (n,).

    `slots` (n,): where they lie in the frame, ascending. `linewidth_hz`: Lorentzian width of the
    light against the local oscillator (their sum if they are two lasers). A constant frequency
    offset of up to half a turn over a preamble at the head is found and followed. Raises
    SignalError when the symbols are too few, too far apart or too weak for this linewidth, or the
    offset is larger.
    """
    if not (len(read) == len(symbols) == len(slots) and len(read) >= _LEAST_SYMBOLS):
        raise SignalError(
            f"{len(read)} values, {len(symbols)} symbols and {len(slots)} slots to track a phase: "
            f"must be equally many, {_LEAST_SYMBOLS} or more"
        )
    if not np.all(np.diff(slots) > 0):
        raise SignalError("slots of known symbols must ascend to track a phase through them")
    if not (np.isfinite(read).all() and 0.0 <= linewidth_hz < math.inf):
        raise SignalError(f"values or linewidth ({linewidth_hz!r} Hz) are not finite numbers")
    length = int(slots[-1]) - int(slots[0]) + 1
    walk = max(2.0 * math.pi * linewidth_hz / symbol_rate_hz, _LEAST_WALK_RAD2 / length)
    reach = _reach(slots, walk)
    offset = frequency_offset(read, symbols, slots, walk, symbol_rate_hz)
    sparse = length > _SPARSE * len(slots)
    turning = refined_offset(read, symbols, slots, 2 * reach, offset) if sparse else offset[0]
    if turning != 0.0:
        symbols = (symbols * np.exp(-1j * turning * slots)).astype(np.complex64)
    piece = int(_BLOCK_SHARE / math.sqrt(walk * _LARGEST_INFORMATION))
    sums = SymbolSums.over(read, symbols, slots, min(max(piece, 1), _LONGEST_PIECE))
    smoother = _Smoother(sums, walk, _windows(sums, walk, reach))
    smoother.settle()
    return smoother.track(turning)


def _reach(slots: Indices, walk: float) -> int:
    """Return the most slots that a window's known symbols reach over; raises SignalError if far."""
    others = _WINDOW_SYMBOLS - 1
    reach = int(np.max(slots[others:] - slots[:-others]))
    if walk * reach > _LARGEST_WALK_RAD2:
        most = int(_LARGEST_WALK_RAD2 / walk / others)
        raise SignalError(
            f"phase walks {walk * reach:.3g} rad^2 over {_WINDOW_SYMBOLS} known symbols, at most "
            f"{_LARGEST_WALK_RAD2} can be followed: a narrower laser, or pilots at most {most} "
            "slots apart"
        )
    return reach


@dataclass(frozen=True)
class _Rough:
    """A first idea: phases at window middles, amplitude, noise variance."""

    middle: Doubles
    phase: Doubles
    amplitude: float
    noise: float

    def drift(self) -> float:
        """Return the slope of a straight line through the windows, in rad per slot."""
        if len(self.middle) < 2:
            return 0.0
        return float(np.polyfit(self.middle, self.phase, 1)[0])

    def at(self, slots: Doubles) -> Doubles:
        """Return phases at slots, with the drift continued beyond the windows' middles."""
        drift = self.drift()
        flat = self.phase - drift * self.middle
        return np.asarray(np.interp(slots, self.middle, flat) + drift * slots)


def _windows(pieces: SymbolSums, walk: float, reach: int) -> _Rough:
    """Fit windows that are short against the phase's walk, and long against noise and `reach`."""
    window = min(max(_WINDOW_WALK_RAD2 / walk, _SHORTEST_WINDOW), _LONGEST_WINDOW)
    # Four symbols reach over three gaps; a window of four gaps holds them at any start.
    sums = pieces.merged(max(window, 4.0 / 3.0 * reach + pieces.length))
    filled = (sums.count >= _WINDOW_SYMBOLS) & (sums.xx + sums.pp > 0.0)
    both = 4.0 * (sums.xx * sums.pp - sums.xp**2) > _LEAST_BOTH * (sums.xx + sums.pp) ** 2
    bright = filled & both
    if 2 * np.count_nonzero(bright) <= np.count_nonzero(filled):
        raise SignalError(
            "known symbols do not show both X and P: the phase is not determined (a frequency "
            "offset can turn alternate pilots onto one axis: track known data, or change it)"
        )
    a, b = sums.fit()
    power, with_values = sums.projected(a, b)
    freedom = max(int(np.sum(sums.count)) - 2 * len(a), 1)
    noise = max(sums.yy - float(np.sum(2.0 * with_values - power)), 1e-9 * sums.yy) / freedom
    # The variance of a plus that of b, the trace of the inverse information: it is in a^2 + b^2.
    spread = noise * (sums.xx + sums.pp) / np.maximum(sums.xx * sums.pp - sums.xp**2, 1e-300)
    squared = float(np.median((a**2 + b**2 - spread)[bright]))
    if not squared > 0.0 or noise == 0.0:
        raise SignalError("known symbols do not show in the record: is the light blocked?")
    middle = sums.middle[bright]
    phase = _unwrapped(middle, np.arctan2(b[bright], a[bright]))
    return _Rough(middle, phase, math.sqrt(squared), noise)


def _unwrapped(middle: Doubles, wrapped: Doubles) -> Doubles:
    """Return phases of windows without jumps of a turn, by the turn that the windows share.

    A frequency offset too small for the head to show turns each window against the one before by
    the same angle. Unwrapped as they are, angle and noise together pass half a turn here and there,
    and everything behind is a turn off. So the shared angle, the circular mean over neighbours, is
    taken off before and put back after.
    """
    plain = np.unwrap(wrapped)
    if len(middle) < 3:
        return plain
    gaps = np.diff(middle)
    usual = float(np.median(gaps))
    neighbours = np.abs(gaps - usual) < 0.5 * usual
    shared = float(np.angle(np.sum(np.exp(1j * np.diff(wrapped)[neighbours])))) / usual
    trend = shared * (middle - middle[0])
    level = np.unwrap(wrapped - trend) + trend
    # Where both agree the plain one is kept, so that rounding changes no result.
    return plain if np.max(np.abs(level - plain)) < math.pi else level


class _Smoother:
    """The most likely phases of all blocks, found by Gauss-Newton steps."""

    def __init__(self, pieces: SymbolSums, walk: float, rough: _Rough) -> None:
        self._amplitude, self._noise = rough.amplitude, rough.noise
        self._symbols = int(np.sum(pieces.count))
        light = float(np.sum(pieces.xx + pieces.pp)) / 2.0 / self._symbols
        information = self._amplitude**2 * light / self._noise
        block = _BLOCK_SHARE / math.sqrt(walk * information)
        self._sums = pieces.merged(min(block, _LONGEST_BLOCK))
        self._middle = self._sums.middle
        self._gaps = np.diff(self._middle)
        self._walk = walk
        self._drift = rough.drift()
        self._phase = rough.at(self._middle)
        self._variance = np.zeros_like(self._phase)

    def settle(self) -> None:
        """Iterate to the most likely phases; raises SignalError if they do not settle."""
        for _ in range(_ROUNDS):
            step = self._step()
            # A longer step would leave where the likelihood is close to a parabola.
            self._phase += np.clip(step, -0.5, 0.5)
            self._learn()
            moved = float(np.mean(step**2))
            if moved < _SETTLED_SHARE**2 * float(np.mean(self._variance)):
                return
        raise SignalError(
            f"phase does not settle (still moves {math.sqrt(moved):.2g} rad): is the light too "
            "weak, or its linewidth larger than stated?"
        )

    def track(self, turning: float) -> PhaseTrack:
        """Return what was found; raises SignalError where the residual is beyond what holds."""
        information, gradient, _ = self._likelihood()
        self._factorise(information)
        share = np.minimum(information * self._variance, 1.0 - 1e-9)
        gaps = self._gaps if len(self._gaps) else np.ones(1)
        # Between middles that are D apart a Wiener process strays from the straight line by
        # q t (D - t)/D, in the mean q D/6; each gap counts by its length.
        wander = self._walk * float(np.sum(gaps**2)) / (6.0 * float(np.sum(gaps)))
        predicted = float(np.mean(self._variance)) + wander
        # A block's slope vanishes where its own symbols and all others balance. Over 1 - share it
        # is the slope at the phase that the others alone give. Its variance is then that of the
        # block's own noise, `information`, plus that of the others' error, `others`.
        others = information * share / (1.0 - share)
        scatter = (gradient / (1.0 - share)) ** 2 - information
        total = max(float(np.sum(others)), 1e-300)
        measured = float(np.sum(scatter)) / total * predicted
        spread = math.sqrt(2.0 * float(np.sum((information + others) ** 2)))
        error = spread / total * predicted
        _check_residual(predicted, measured, error)
        return PhaseTrack(
            amplitude=self._amplitude,
            slots=self._middle,
            phase_rad=self._phase + turning * self._middle,
            drift_rad=turning + self._drift,
            residual_variance_rad2=predicted,
            measured_variance_rad2=measured,
            measured_error_rad2=error,
            noise_v=math.sqrt(self._noise),
            freedom=float(np.sum(share)),
        )

    def _likelihood(self) -> tuple[Doubles, Doubles, Doubles]:
        """Return each block's Fisher information, slope and curvature of its log-likelihood."""
        cosine, sine = np.cos(self._phase), np.sin(self._phase)
        sums, amplitude = self._sums, self._amplitude
        across, with_values = sums.projected(-sine, cosine)
        along, in_phase = sums.projected(cosine, sine)
        cross = (sums.pp - sums.xx) * cosine * sine + sums.xp * (cosine**2 - sine**2)
        information = amplitude**2 * across / self._noise
        curvature = information + amplitude * (in_phase - amplitude * along) / self._noise
        return information, amplitude * (with_values - amplitude * cross) / self._noise, curvature

    def _step(self) -> Doubles:
        """Return the next step: Newton's where it is shorter than the scoring step, both safe."""
        information, gradient, curvature = self._likelihood()
        tension = (np.diff(self._phase) / self._gaps - self._drift) / self._walk
        gradient[:-1] += tension
        gradient[1:] -= tension
        self._factorise(information)
        return self._solve(np.maximum(information, curvature), gradient)

    def _system(self, information: Doubles) -> tuple[Doubles, Doubles]:
        """Return diagonal and off-diagonal of the smoother's equations."""
        link = 1.0 / (self._walk * self._gaps)
        diagonal = information.copy()
        diagonal[:-1] += link
        diagonal[1:] += link
        # Blocks without light at either end would leave the equations without a solution.
        diagonal += 1e-9
        return diagonal, -link

    def _solve(self, information: Doubles, gradient: Doubles) -> Doubles:
        diagonal, link = self._system(information)
        if len(diagonal) == 1:
            return gradient / diagonal
        from scipy.linalg import lapack

        _, _, solution, failed = lapack.dptsv(diagonal, link, gradient)
        if failed:
            raise SignalError("known symbols do not determine the phase: is there any light?")
        return np.asarray(solution, np.float64)

    def _factorise(self, information: Doubles) -> None:
        """Keep the phases' variances.

        The pivots of the factorisation from either end are the forward and the backward filter's
        information: their sum, less what both counted, is the smoother's.
        """
        diagonal, link = self._system(information)
        if len(diagonal) == 1:
            self._variance = 1.0 / diagonal
            return
        from scipy.linalg import lapack

        forward, _, failed = lapack.dpttrf(diagonal, link)
        backward, _, failed_too = lapack.dpttrf(diagonal[::-1], link[::-1])
        if failed or failed_too:
            raise SignalError("known symbols do not determine the phase: is there any light?")
        self._variance = 1.0 / (forward + backward[::-1] - diagonal)

    def _learn(self) -> None:
        """Take amplitude and noise from the present phases."""
        power, with_values = self._sums.projected(np.cos(self._phase), np.sin(self._phase))
        total = float(np.sum(with_values))
        if total <= 0.0:
            raise SignalError("known symbols do not show in the record: is the light blocked?")
        self._amplitude = total / float(np.sum(power))
        left = max(self._sums.yy - self._amplitude * total, 1e-9 * self._sums.yy)
        information = self._amplitude**2 * (self._sums.xx + self._sums.pp) / 2.0 / self._noise
        freedom = float(np.sum(np.minimum(information * self._variance, self._sums.count)))
        # Degrees of freedom left: symbols less the amplitude less the phases. A tenth of the
        # symbols at least, since `freedom` rests on the noise of the round before.
        self._noise = left / max(self._symbols - 1.0 - freedom, 0.1 * self._symbols)


def _check_residual(predicted: float, measured: float, error: float) -> None:
    seen = f"(predicted {predicted:.2g} rad^2, measured {measured:.2g} +- {error:.2g})"
    certain = measured - _SIGMAS * error
    if not max(predicted, certain) <= LARGEST_RESIDUAL_RAD2:
        raise SignalError(
            f"phase variance {seen} is above the maximum of {LARGEST_RESIDUAL_RAD2} rad^2: use a "
            "narrower laser, more light or more pilots"
        )
    if certain > max(_LARGEST_EXCESS * predicted, _LEAST_EXCESS_RAD2):
        raise SignalError(
            f"phase moves more than the linewidth allows {seen}: is the linewidth larger than "
            "stated, does a path vibrate?"
        )
