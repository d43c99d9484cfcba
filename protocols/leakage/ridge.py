"""Coordinates of an attack in which the hill of a bright direction has no curved ridge.

The returned amplitude t = r cos(theta + v), r = sqrt(A), of a direction whose light is far above
vacuum must stay near the pooled amplitude s, or its misfit lambda (t - s)^2 costs much. In r and
the angles that is a thin ridge that bends, along which Newton's steps come forward little by
little: 60 of them end short of the top from 1e3 photons on. In log(t/s) the ridge is straight. A
dim direction has no misfit to speak of, and what holds r is the price of its noise: there
log(r/s) is better. Between the two the coordinate is log(t/s) - dim log cos(theta + v).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.leakage.direction import Doubles

Which = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ridge:
    """The coordinates of attacks of some directions; `dim` (directions,), 0 for t to 1 for r.

    Places (4, places) and slopes by them are those of `multipliers.Best` where they are `true`, and
    begin with the coordinate instead of log(t/s) where they are `straight`. `which` says of which
    direction, counted from 0, each place is.
    """

    dim: Doubles

    @classmethod
    def of(cls, variance: Doubles, pooled_amplitude: float) -> Ridge:
        """Return the coordinates for directions of this variance (SNU): even at lambda s^2 = 1."""
        return cls(1.0 / (1.0 + variance * pooled_amplitude**2))

    def straight(self, place: Doubles, which: Which | slice = slice(None)) -> Doubles:
        """Return true places in these coordinates."""
        return self._moved(place, -self.dim[which])

    def true(self, straight: Doubles, which: Which | slice = slice(None)) -> Doubles:
        """Return the true places of these coordinates."""
        return self._moved(straight, self.dim[which])

    def slopes(
        self, by_true: Doubles, place: Doubles, which: Which | slice = slice(None)
    ) -> Doubles:
        """Return slopes by these coordinates from those by true ones at a `place` of either kind.

        Where the coordinate stays, log t falls by dim tan(theta + v) with theta + v; v follows phi
        and v/phi alike.
        """
        tap, mixing = _angles(place)
        pull = -by_true[0] * self.dim[which] * np.tan(tap + mixing)
        by_mixing = pull * mixing
        return np.asarray(
            [by_true[0], by_true[1] + pull * tap, by_true[2] + by_mixing, by_true[3] + by_mixing]
        )

    @staticmethod
    def _moved(place: Doubles, by: Doubles) -> Doubles:
        tap, mixing = _angles(place)
        moved = place.copy()
        moved[0] += by * np.log(np.cos(tap + mixing))
        return moved


def _angles(place: Doubles) -> tuple[Doubles, Doubles]:
    """Return theta and v."""
    tap, back_action, ratio = np.exp(place[1:])
    return tap, ratio * back_action
