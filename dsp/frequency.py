"""The light's frequency offset from a preamble: the turning at which its symbols explain most.

1. Turn the known symbols by a trial offset w (rad per slot), and fit y = a Re s + b Im s. The
   energy that the fit explains falls as sinc^2 of the turns by which w is off over the head.
2. Take the best w of a coarse grid, then of a fine one around it. One unit is one turn over the
   head of L slots, 2 pi/L.
3. Its variance is the sum of three: the phase's own random walk of variance q per slot, 6 q/(5 L);
   the noise of n symbols, 12 r/(n L^2), r being the phase variance of one symbol; the fine grid's
   step squared. The first two are those of a straight line fitted to a random walk and to white
   noise.
4. An offset below 4 of these standard errors counts as none.
"""

from __future__ import annotations

import math

import numpy as np

from labctl.dsp.layout import Complexes, Floats, Indices
from labctl.dsp.pulses import Doubles
from labctl.dsp.symbol_sums import SymbolSums
from labctl.errors import SignalError

# The shipped preamble's symbols; a head needs no more.
_HEAD_SYMBOLS = 257
# Maximum offset in turns over the head. The trials reach 1.2 turns, so that a larger offset is
# recognised and refused.
_LARGEST_TURNS = 0.5
# A normal error exceeds 4 standard errors with probability 6e-5.
_SIGMAS = 4.0
# Steps in turns over the head. Half a coarse step off the truth, 0.075 turn, the fit still explains
# sinc^2(0.075) = 98 % of the energy, so the coarse maximum is on the main lobe; 10 fine steps to
# either side, 0.078 turn, cover that half step.
_COARSE, _FINE = 0.15, 1.0 / 128.0
# Noise explains 1 % of a head of 257 symbols; what explains less than this is no symbol.
_LEAST_EXPLAINED = 0.15
# Between two trials a window turns by at most this. Half of it off the truth, windows lose
# 0.125^2/12 = 0.13 % of the energy.
_WINDOW_TURN_RAD = 0.25
# A limit on time alone: each trial reads through the whole frame.
_MOST_TRIALS = 128


def frequency_offset(
    read: Floats, symbols: Complexes, slots: Indices, walk: float, symbol_rate_hz: float
) -> tuple[float, float]:
    """Return the frequency offset that the head's symbols show, and its error, in rad per slot.

    An offset that is not significant is 0, and so is one that the head is too sparse to show.
    Raises SignalError when the phase turns by more than half a turn over the head.
    """
    count = min(len(read), _HEAD_SYMBOLS)
    length = float(slots[count - 1] - slots[0]) + 1.0
    if length > 2.0 * count:
        return 0.0, 0.0
    time = slots[:count] - float(slots[0])
    unit = 2.0 * math.pi / length
    trial = np.arange(-8, 9) * _COARSE * unit
    head = np.asarray(read[:count], np.float64)
    best = trial[int(np.argmax(_explained(head, symbols[:count], time, trial)))]
    fine = best + np.arange(-10, 11) * _FINE * unit
    found = _explained(head, symbols[:count], time, fine)
    best = float(fine[int(np.argmax(found))])
    if not float(np.max(found)) > _LEAST_EXPLAINED * float(head @ head):
        return 0.0, 0.0
    left = max(float(head @ head) - float(np.max(found)), 0.0)
    # Noise energy over explained energy: (n N)/(n A^2/2) = 2 N/A^2, the phase variance of a symbol.
    ratio = left / max(float(np.max(found)), 1e-300)
    # The three variances of step 3: 6/5 of the walk, the white noise, the grid.
    error = math.sqrt(
        1.2 * walk / length + 12.0 * ratio / (count * length**2) + (_FINE * unit) ** 2
    )
    if abs(best) < _SIGMAS * error:
        return 0.0, error
    if abs(best) > _LARGEST_TURNS * unit + _SIGMAS * error:
        raise SignalError(
            f"light is {best * symbol_rate_hz / (2.0 * math.pi):+.3g} Hz off the local oscillator, "
            f"at most {_LARGEST_TURNS * symbol_rate_hz / length:.3g} Hz can be followed"
        )
    return best, error


def refined_offset(
    read: Floats, symbols: Complexes, slots: Indices, reach: int, first: tuple[float, float]
) -> float:
    """Return the offset near `first` (with its error) at which windows of `reach` explain most.

    For symbols so far apart that a head's estimate is not precise enough to fit a window of them.
    """
    turning, error = first
    count = min(math.ceil(2.0 * _SIGMAS * error * reach / _WINDOW_TURN_RAD), _MOST_TRIALS)
    trials = turning + np.linspace(-_SIGMAS, _SIGMAS, 2 * (count // 2) + 1) * error
    explained = [_explained_in_windows(read, symbols, slots, reach, trial) for trial in trials]
    return float(trials[int(np.argmax(explained))])


def _explained_in_windows(
    read: Floats, symbols: Complexes, slots: Indices, window: int, turning: float
) -> float:
    turned = (symbols * np.exp(-1j * turning * slots)).astype(np.complex64)
    sums = SymbolSums.over(read, turned, slots, window)
    a, b = sums.fit()
    return float(a @ sums.xy + b @ sums.py)


def _explained(read: Doubles, symbols: Complexes, time: Doubles, turning: Doubles) -> Doubles:
    """Return the energy in V^2 that symbols explain, for each turning in rad per slot."""
    turned = symbols * np.exp(-1j * np.outer(turning, time))
    x, p = turned.real, turned.imag
    xx, xp, pp = (x * x).sum(axis=1), (x * p).sum(axis=1), (p * p).sum(axis=1)
    xy, py = x @ read, p @ read
    # Kept above 0 by rounding's measure, where all turned symbols lie on one axis or are zero.
    determinant = np.maximum(xx * pp - xp**2, 1e-12 * (xx + pp) ** 2 + 1e-300)
    return np.asarray((pp * xy**2 - 2.0 * xp * xy * py + xx * py**2) / determinant)
