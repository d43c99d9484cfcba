"""What phase tracking by one pilot per row leaves: residual variance, and what it costs.

Two lasers wander as Wiener processes of q_s and q_l (rad^2 per slot, 2 pi linewidth per symbol
rate). The phase that turns a row's value is that of the local oscillator in the readout slot, less
the mean of the signal's over the row's M modes: the rotation adds up light of all of them. Pilots
show the difference of both phases at the begin of each row of N slots. Between two of them the
difference walks by w, of variance Q = (q_s + q_l) N, and the row's phase by u, with

    cov(u, w) = q_l r + q_s (M + 1)/2,  var(u) = q_l r + q_s (M + 1)(2 M + 1)/(6 M),

the readout being r slots after the pilot. So the best estimate from the pilots' phases p is linear,
(1 - f) p_i + f p_(i+1) with f = cov(u, w)/Q; it misses var(u) - f^2 Q. For long rows and equal
lasers f = 3/4.

The pilots' phases are known from all pilots by a Wiener smoother (Rauch, Tung, Striebel, AIAA J. 3,
1445 (1965)). With s the phase variance of one pilot alone, its stationary forward filter knows a
phase to P_f = (sqrt(Q^2 + 4 Q s) - Q)/2; the smoother's gain is K = P_f/(P_f + Q), its variance
P = P_f/(1 + K), and errors of neighbours have the covariance K P.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl import checks

MOST_PREDICTED_RAD2 = 0.25
"""A phase that is known to this variance before its pilot is seen is half a turn off at 6 sigma."""
LARGEST_RESIDUAL_RAD2 = 0.2
"""As for phases of one quadrature (phase.py): beyond, F has lost a fifth and more."""


@dataclass(frozen=True)
class RowPhase:
    """Geometry of a row and both lasers: what the phase of its value is between two pilots.

    row_slots: N. modes: M. readout_slot: r, counted from the pilot. signal_walk_rad2,
    oscillator_walk_rad2: q_s and q_l per slot. Raises SettingError for numbers that are no row.
    """

    row_slots: int
    modes: int
    readout_slot: int
    signal_walk_rad2: float
    oscillator_walk_rad2: float

    def __post_init__(self) -> None:
        checks.at_least("modes", self.modes, 1)
        checks.within("readout_slot", self.readout_slot, self.modes, self.row_slots)
        for name in ("signal_walk_rad2", "oscillator_walk_rad2"):
            checks.require(
                0.0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or more"
            )

    @staticmethod
    def of(
        row_slots: int,
        modes: int,
        *,
        symbol_rate_hz: float,
        signal_linewidth_hz: float,
        oscillator_linewidth_hz: float,
    ) -> RowPhase:
        """Return a row that is read out in its last slot; linewidths are Lorentzian full widths."""
        per_hz = 2.0 * math.pi / symbol_rate_hz
        return RowPhase(
            row_slots,
            modes,
            row_slots - 1,
            per_hz * signal_linewidth_hz,
            per_hz * oscillator_linewidth_hz,
        )

    @property
    def walk_rad2(self) -> float:
        """Variance Q of the difference of both phases from one pilot to the next."""
        return (self.signal_walk_rad2 + self.oscillator_walk_rad2) * self.row_slots

    @property
    def own_walk_rad2(self) -> float:
        """Variance of the row's phase about that of its own pilot, var(u)."""
        modes = self.modes
        mean = self.signal_walk_rad2 * (modes + 1) * (2 * modes + 1) / (6.0 * modes)
        return self.oscillator_walk_rad2 * self.readout_slot + mean

    @property
    def share(self) -> float:
        """Share f of the next pilot in the row's phase."""
        if self.walk_rad2 == 0.0:
            return 0.5
        shared = self.signal_walk_rad2 * (self.modes + 1) / 2.0
        return (self.oscillator_walk_rad2 * self.readout_slot + shared) / self.walk_rad2

    @property
    def unseen_rad2(self) -> float:
        """Variance that pilots of any power leave: var(u) - f^2 Q."""
        return max(self.own_walk_rad2 - self.share**2 * self.walk_rad2, 0.0)

    @property
    def within_rad2(self) -> float:
        """Variance of a mode's phase about the mean of its row, from the signal's laser alone.

        q_s (M^2 - 1)/(6 M), which no pilot can take off: the modes are added up as they came.
        """
        return self.signal_walk_rad2 * (self.modes**2 - 1) / (6.0 * self.modes)

    def between(self, variance: float, next_variance: float, covariance: float) -> float:
        """Return the variance of a row's phase from those of both pilots' phases, in rad^2."""
        f = self.share
        known = (1.0 - f) ** 2 * variance + f**2 * next_variance
        return self.unseen_rad2 + known + 2.0 * f * (1.0 - f) * covariance

    def predicted_rad2(self, pilot_rad2: float) -> float:
        """Return the variance to which a pilot's phase is known from all before it, P_f + Q."""
        return _filtered(self.walk_rad2, pilot_rad2) + self.walk_rad2

    def smoothed_rad2(self, pilot_rad2: float) -> tuple[float, float]:
        """Return variance and neighbours' covariance of phases known from all pilots, P and K P."""
        if pilot_rad2 == 0.0 or self.walk_rad2 == 0.0:
            return 0.0, 0.0
        filtered = _filtered(self.walk_rad2, pilot_rad2)
        gain = filtered / (filtered + self.walk_rad2)
        variance = filtered / (1.0 + gain)
        return variance, gain * variance

    def residual_rad2(self, pilot_rad2: float) -> float:
        """Return the variance to which a row's phase is known, in a long frame.

        pilot_rad2: phase variance of one pilot alone.
        """
        variance, covariance = self.smoothed_rad2(pilot_rad2)
        return self.between(variance, variance, covariance)


def _filtered(walk: float, pilot: float) -> float:
    return 0.5 * (math.sqrt(walk**2 + 4.0 * walk * pilot) - walk)


def pilot_rad2(pilot_photons: float, referred_noise: float) -> float:
    """Return the phase variance of one pilot: D/(4 photons).

    pilot_photons: those that arrive. referred_noise: noise of the receiver, D of the protocol page,
    of a quadrature referred to the arriving mode, in SNU. A pilot's mean field is 2 sqrt(photons)
    in these units.
    """
    checks.positive("pilot_photons", pilot_photons)
    checks.positive("referred_noise", referred_noise)
    return referred_noise / (4.0 * pilot_photons)


def signal_to_noise_left(signal_to_noise: float, phase_rad2: float) -> float:
    """Return what a phase error of normal variance v leaves of F: F e^-v/(1 + F (1 - e^-v)).

    A value X becomes X cos(d) + P sin(d). Its mean falls by e^(-v/2); about it both quadratures,
    which have the same variance over rows, add 1 - e^-v of that variance (docs/bench-physics.md).
    """
    kept = math.exp(-phase_rad2)
    return signal_to_noise * kept / (1.0 + signal_to_noise * (1.0 - kept))
