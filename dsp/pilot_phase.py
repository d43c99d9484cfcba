"""The phase of two lasers' beat along a frame, from preamble and pilots seen in X and P.

z = A s exp(-i phi) + noise, and phi is a constant turning plus a Wiener process.

1. A Kalman filter of phase and turning goes through preamble and pilots once: the turning is known
   well enough to follow, not to unwrap all pilots at once.
2. The most likely phases of all known symbols: Gauss-Newton steps of a Rauch-Tung-Striebel
   smoother, in information form a tridiagonal system. Amplitude and noise are learned in between.
   The noise is that along the symbols, which an error of the phase does not reach.
3. A row's phase is linear in those of its own pilot and the next one (pilot_variance.py), with the
   variance that this smoother and the lasers' linewidths leave.
4. What each pilot scatters across its symbol, about what all others say, is held against what
   linewidths and noise predict. Light that wanders more is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labctl.dsp.heterodyne import amplitude_and_noise
from labctl.dsp.layout import Complexes, Indices
from labctl.dsp.pilot_variance import LARGEST_RESIDUAL_RAD2, MOST_PREDICTED_RAD2, RowPhase
from labctl.dsp.pulses import Doubles
from labctl.errors import SettingError, SignalError

# Steps until the phases have settled; more mean that they do not.
_ROUNDS = 30
# A phase has settled when it moves by less than this share of its error.
_SETTLED_SHARE = 0.02
# A normal error exceeds 5 standard errors with probability 6e-7.
_SIGMAS = 5.0
# Scatter that is this share more than predicted is beyond what a linewidth of a data sheet says.
_MOST_EXCESS = 0.3
# A preamble begins with as many, whose mean is where its phase is looked for.
_FIRST_SYMBOLS = 16


@dataclass(frozen=True)
class RowPhases:
    """The phase of each row's value, and how well it is known.

    `phase_rad` and `variance_rad2` (rows,): those that turn the readouts. `amplitude`: V per unit
    symbol. `noise_v`: standard deviation of one quadrature. `turning_rad`: per slot, beside the
    beat that the record was taken to. `scatter`: mean square of the pilots' scatter about all
    others, over what is predicted, with its standard error.
    """

    phase_rad: Doubles
    variance_rad2: Doubles
    amplitude: float
    noise_v: float
    turning_rad: float
    scatter: float
    scatter_error: float

    @property
    def residual_variance_rad2(self) -> float:
        """Mean of the rows' variances."""
        return float(np.mean(self.variance_rad2))

    @property
    def pilot_rad2(self) -> float:
        """Phase variance of a symbol of modulus 1 alone."""
        return (self.noise_v / self.amplitude) ** 2

    def turned(self, readouts: Complexes) -> Complexes:
        """Return readouts (rows, ...) with the phase of their row taken off."""
        turn = np.exp(1j * self.phase_rad).astype(np.complex64)
        return np.asarray(readouts * turn.reshape(-1, *[1] * (readouts.ndim - 1)), np.complex64)


def track_rows(
    read: Complexes, symbols: Complexes, slots: Indices, *, head: int, row: RowPhase
) -> RowPhases:
    """Follow the phase through values `read` (n,) of known `symbols` (n,), and return each row's.

    `slots` (n,): where they lie in the frame, ascending; the first `head` are the preamble, all
    others a pilot at the begin of each row. Raises SignalError when the pilots are too weak or too
    far apart for these linewidths, or the light wanders more than they say.
    """
    rows = len(slots) - head
    if not (len(read) == len(symbols) == len(slots) and head > 0 and rows > 0):
        raise SettingError(
            "known symbols",
            f"{len(read)} values, {len(symbols)} symbols, {len(slots)} slots, {head} of a preamble",
            "equally many, a preamble and a row or more",
        )
    if not np.all(np.diff(slots) > 0):
        raise SettingError("slots of known symbols", "not in order", "ascending")
    if not (np.isfinite(read).all() and np.all(np.abs(symbols) > 0.0)):
        raise SignalError("values of pilots are not finite numbers, or a pilot is dark")
    smoother = _Smoother(read, symbols, slots, head, row)
    _check_followed(row, smoother.pilot_rad2())
    smoother.follow()
    smoother.settle()
    return smoother.rows()


def _check_followed(row: RowPhase, pilot_rad2: float) -> None:
    """Raise SignalError where a phase is not known well enough to see the next pilot by."""
    predicted = row.predicted_rad2(pilot_rad2)
    if not predicted <= MOST_PREDICTED_RAD2:
        raise SignalError(
            f"phase is known to {predicted:.2g} rad^2 at the next pilot, {MOST_PREDICTED_RAD2} at "
            f"most: both lasers walk {row.walk_rad2:.2g} rad^2 over a row of {row.row_slots} slots "
            f"and one pilot has {pilot_rad2:.2g} rad^2: narrower lasers, shorter rows (blocks of "
            "modes), or more light"
        )


class _Smoother:
    """The most likely phases of all known symbols."""

    def __init__(
        self, read: Complexes, symbols: Complexes, slots: Indices, head: int, row: RowPhase
    ) -> None:
        self._symbols, self._slots, self._head, self._row = symbols, slots, head, row
        # A |s| exp(-i phi), noise as it was.
        self._along = read * symbols.conj() / np.abs(symbols)
        self._size = np.abs(symbols).astype(np.float64)
        self._gaps = np.diff(slots).astype(np.float64)
        per_slot = row.signal_walk_rad2 + row.oscillator_walk_rad2
        # Paths drift even if no laser does: 1e-9 rad^2 per slot is 0.02 rad^2 per s at 20 MBd.
        self._walk = max(per_slot, 1e-9)
        self._turning = 0.0
        self._phase = np.zeros(len(slots))
        self._variance = np.zeros(len(slots))
        self._amplitude, self._noise = self._of_head()

    def pilot_rad2(self) -> float:
        """Return the phase variance of one pilot alone, by the preamble's amplitude and noise."""
        size = float(np.mean(self._size[self._head :]))
        return self._noise / (self._amplitude * size) ** 2

    def follow(self) -> None:
        """Go through all symbols once; a phase is unwrapped by what was seen before it."""
        state, covariance = self._start()
        place = float(self._slots[0])
        for index in range(len(self._slots)):
            gap = float(self._slots[index]) - place
            place += gap
            step = np.array([[1.0, gap], [0.0, 1.0]])
            state = step @ state
            covariance = step @ covariance @ step.T
            covariance[0, 0] += self._walk * gap
            seen = -math.atan2(self._along[index].imag, self._along[index].real)
            error = math.remainder(seen - state[0], 2.0 * math.pi)
            noise = self._noise / (self._amplitude * self._size[index]) ** 2
            gain = covariance[:, 0] / (covariance[0, 0] + noise)
            state = state + gain * error
            covariance = covariance - np.outer(gain, covariance[0])
            self._phase[index] = state[0]
        self._turning = self._slope()

    def settle(self) -> None:
        """Iterate to the most likely phases; raises SignalError if they do not settle."""
        for _ in range(_ROUNDS):
            step = self._step()
            self._phase += np.clip(step, -0.5, 0.5)
            self._turning = self._slope()
            self._learn()
            moved = float(np.mean(step**2))
            if moved < _SETTLED_SHARE**2 * float(np.mean(self._variance)):
                return
        raise SignalError(
            f"phase of the beat does not settle (still moves {math.sqrt(moved):.2g} rad): is the "
            "light too weak, a laser's linewidth larger than stated?"
        )

    def rows(self) -> RowPhases:
        """Return what was found; raises SignalError where the residual is beyond what holds."""
        from scipy.linalg import lapack

        information, across, _ = self._likelihood()
        diagonal, link = self._system(information)
        forward, _, failed = lapack.dpttrf(diagonal, link)
        if failed:
            raise SignalError("pilots do not determine the phase: is there any light?")
        neighbours = -link / forward[:-1] * self._variance[1:]
        row, head = self._row, self._head
        flat = self._phase - self._turning * self._slots
        own, following = flat[head:], np.append(flat[head + 1 :], flat[-1])
        share = np.full(len(own), row.share)
        # Behind the last row there is no pilot.
        share[-1] = 0.0
        readout = self._slots[head:] + row.readout_slot
        phase = (1.0 - share) * own + share * following + self._turning * readout
        variance = self._variance[head:]
        between = [
            row.between(*each)
            for each in zip(variance[:-1], variance[1:], neighbours[head:], strict=True)
        ]
        found = RowPhases(
            phase_rad=phase,
            variance_rad2=np.array([*between, float(variance[-1]) + row.own_walk_rad2]),
            amplitude=self._amplitude,
            noise_v=math.sqrt(self._noise),
            turning_rad=self._turning,
            **self._scatter(information, across),
        )
        _check_residual(found)
        return found

    def _scatter(self, information: Doubles, across: Doubles) -> dict[str, float]:
        """Return how the pilots' own phases scatter about those that all others give.

        A pilot's slope at the smoothed phase has the variance J (1 - J P), J being its information
        and P its phase's variance.
        """
        pilots = slice(self._head, None)
        left = 1.0 - np.minimum(information[pilots] * self._variance[pilots], 1.0 - 1e-9)
        squares = across[pilots] ** 2 / (information[pilots] * left)
        count = len(squares)
        # The noise itself is learned from as many symbols along their axis.
        error = math.sqrt(2.0 / count + 2.0 / len(self._slots))
        return {"scatter": float(np.mean(squares)), "scatter_error": error}

    def _of_head(self) -> tuple[float, float]:
        """Return amplitude and noise in V^2 of one quadrature, from the preamble alone."""
        amplitude, noise = amplitude_and_noise(self._along[: self._head])
        if not (amplitude > 0.0 and noise > 0.0):
            raise SignalError("preamble does not show in the record: is the light blocked?")
        return amplitude, noise

    def _start(self) -> tuple[Doubles, Doubles]:
        """Return phase and turning in the first symbol's slot, and their covariance.

        The record was taken to a beat found in the same preamble: a turning is left by the noise,
        12 r/n^3, and by a walk of q per slot, 6 q/(5 n).
        """
        count = min(self._head, _FIRST_SYMBOLS)
        phase = -float(np.angle(np.sum(self._along[:count].astype(np.complex128))))
        noise = self._noise / self._amplitude**2
        error = 12.0 * noise / self._head**3 + 1.2 * self._walk / self._head
        return np.array([phase, 0.0]), np.diag([noise / count + self._walk * count, error])

    def _slope(self) -> float:
        """Return the most likely turning of a Wiener process: from its first place to its last."""
        return float(self._phase[-1] - self._phase[0]) / float(self._slots[-1] - self._slots[0])

    def _likelihood(self) -> tuple[Doubles, Doubles, Doubles]:
        """Return each symbol's Fisher information, and its values across and along the symbol.

        Those across are slopes of the log-likelihood by the phase.
        """
        turned = self._along * np.exp(1j * self._phase)
        scale = self._amplitude * self._size / self._noise
        information = self._amplitude * self._size * scale
        return information, -scale * turned.imag, turned.real

    def _step(self) -> Doubles:
        from scipy.linalg import lapack

        information, gradient, along = self._likelihood()
        tension = (np.diff(self._phase) / self._gaps - self._turning) / self._walk
        gradient[:-1] += tension
        gradient[1:] -= tension
        curvature = self._amplitude * self._size * along / self._noise
        self._factorise(information)
        diagonal, link = self._system(np.maximum(information, curvature))
        _, _, solution, failed = lapack.dptsv(diagonal, link, gradient)
        if failed:
            raise SignalError("pilots do not determine the phase: is there any light?")
        return np.asarray(solution, np.float64)

    def _system(self, information: Doubles) -> tuple[Doubles, Doubles]:
        link = 1.0 / (self._walk * self._gaps)
        diagonal = information.copy()
        diagonal[:-1] += link
        diagonal[1:] += link
        return diagonal, -link

    def _factorise(self, information: Doubles) -> None:
        """Keep the phases' variances: pivots from either end, less what both counted."""
        from scipy.linalg import lapack

        diagonal, link = self._system(information)
        forward, _, failed = lapack.dpttrf(diagonal, link)
        backward, _, failed_too = lapack.dpttrf(diagonal[::-1], link[::-1])
        if failed or failed_too:
            raise SignalError("pilots do not determine the phase: is there any light?")
        self._variance = 1.0 / (forward + backward[::-1] - diagonal)

    def _learn(self) -> None:
        """Take amplitude and noise from what the symbols show along their axis."""
        along = self._likelihood()[2]
        total = float(self._size @ along)
        if total <= 0.0:
            raise SignalError("pilots do not show in the record: is the light blocked?")
        self._amplitude = total / float(self._size @ self._size)
        left = along - self._amplitude * self._size
        # Where the phase is off by d, cos d takes d^2/2 of the amplitude: of second order.
        least = 1e-9 * self._amplitude**2
        self._noise = max(float(left @ left) / (len(left) - 1), least)


def _check_residual(found: RowPhases) -> None:
    certain = found.scatter - _SIGMAS * found.scatter_error
    if certain > 1.0 + _MOST_EXCESS:
        raise SignalError(
            f"pilots scatter by {found.scatter:.2g} +- {found.scatter_error:.1g} of what "
            "linewidths and noise predict, 1 expected: is a laser's linewidth larger than stated, "
            "does a path vibrate?"
        )
    residual = found.residual_variance_rad2
    if not residual <= LARGEST_RESIDUAL_RAD2:
        raise SignalError(
            f"rows' phases are known to {residual:.2g} rad^2, at most {LARGEST_RESIDUAL_RAD2} "
            "hold: narrower lasers, shorter rows (blocks of modes), or more light"
        )
