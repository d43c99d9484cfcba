"""The most light that may arrive at a client, in W in its fibre, and what happens beyond it.

`maximum_arriving_power_w` of [client] is held in two ways. The watch of an open station reads the
arrival meter, which sees all light but not light as weak as a session's (`watched`). The client's
receiver finds the power of each frame's preamble against its own shot noise (`BenchReceiver`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from labctl.errors import StoppedError
from labctl.station.limits import Allowed, Limits

CLIENT, QUANTITY = "client", "arriving_power_w"
KEY = "maximum_arriving_power_w"


def arriving_within(maximum_w: float, where: str) -> Allowed:
    """Return what may arrive, by the key at `where`, a file and its line."""
    return Allowed(-math.inf, maximum_w, where, f"{CLIENT}.{KEY}")


@dataclass(frozen=True)
class ArrivingLimit:
    """What may arrive. stop: stops a station's emission for a reason."""

    allowed: Allowed
    stop: Callable[[str], None]

    def check(self, power_w: float) -> None:
        """Stop all emission and raise StoppedError if this power in W is beyond, or NaN."""
        if not power_w <= self.allowed.high:
            self._refuse(power_w)

    def _refuse(self, power_w: float) -> NoReturn:
        valid = Limits(CLIENT, {QUANTITY: self.allowed}).valid(QUANTITY)
        reason = f"{CLIENT}.{QUANTITY} = {power_w:.6g} in a frame's preamble, must be {valid}"
        self.stop(reason)
        raise StoppedError(CLIENT, reason)
