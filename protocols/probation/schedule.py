"""Which queries are real: drawn in secret, so that nobody can behave in those alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from labctl import checks
from labctl.protocols.keys import require_key

# A session of more queries than that before the first real one, or for each, never comes to it.
_MOST_QUERIES = 10**6
# One real query in ten thousand.
_LEAST_SHARE = 1e-4
_PURPOSE = b"real queries"


@dataclass(frozen=True)
class Probation:
    """How many queries go before the first that may be real, and the share of real ones after.

    `queries`: 0 to 1e6, all with worthless weights. `real_share`: 1e-4 to 1; at 1 a
    client that knows `queries` knows which queries are real. Raises SettingError.
    """

    queries: int = 0
    real_share: float = 1.0

    def __post_init__(self) -> None:
        checks.within("probation queries", self.queries, 0, _MOST_QUERIES)
        checks.within("real_share", self.real_share, _LEAST_SHARE, 1.0)

    @property
    def none(self) -> bool:
        """Whether every query is real."""
        return self.queries == 0 and self.real_share == 1.0


NO_PROBATION = Probation()


class Schedule:
    """Says of each query whether it is real: SHAKE-256 of a key and the query's number.

    `key`: 16 bytes or more, the server's secret.
    """

    def __init__(self, probation: Probation, key: bytes) -> None:
        require_key(key)
        self._probation = probation
        self._key = key

    def real(self, query: int) -> bool:
        """Return whether the query, counted from 0, carries the network's own weights."""
        if query < self._probation.queries:
            return False
        drawn = hashlib.shake_256(_PURPOSE + self._key + query.to_bytes(8)).digest(8)
        # Uniform in [0, 1) to 2^-64: a share of 1 is above all of them.
        return int.from_bytes(drawn) / 2**64 < self._probation.real_share
