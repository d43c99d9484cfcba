"""What a server tells a client before light goes: model, settings, assumptions, what is left.

All of it is public. In one process both halves are made from the same settings and no terms are
said; over a channel `Welcome` has them, so that the client's record names what it agreed to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labctl import checks
from labctl.protocols.disguise import Disguise
from labctl.protocols.encoding import MOST_PHOTONS
from labctl.protocols.leakage import Assumptions
from labctl.protocols.settings import MOST_SAMPLES, Sampling, VerificationSettings

# A name for people; the digest says which network it is.
MOST_NAME = 200
# What photons at most give: F = 2 mu T/D, D being 1 or more.
MOST_SIGNAL_TO_NOISE = 2.0 * MOST_PHOTONS
# A day: a session that nobody goes on with ends.
MOST_DEADLINE_S = 86_400.0
# More bits than a weight has.
MOST_BITS = 64.0
# Of one batch, in any session: a number of 31 bits, as in the schema.
MOST_QUERIES = 2**31 - 1
BATCH_QUERIES = 100
"""What a batch may have unless a server says otherwise: nobody else gets the light within one, and
who waits for it is refused after 10 minutes (`parties/lease.py`), for 6 s a query."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Terms:
    """What server and client agree on.

    model: the network's name, with the SHA-256 of its weights. signal_to_noise: F of one inner
    product. disguise: what is drawn again for each query. sampling: how much of the returned light
    is verified. queries_left, bits_per_weight_left: of the client's budget on this network, None
    without a limit. deadline_s: how long a session may be idle. batch_queries: at most, of
    one batch.

    Raises SettingError for values out of range.
    """

    model: str
    model_sha256: str
    signal_to_noise: float
    disguise: Disguise
    sampling: Sampling
    verification: VerificationSettings
    assumptions: Assumptions
    queries_left: int | None
    bits_per_weight_left: float | None
    deadline_s: float
    batch_queries: int

    def __post_init__(self) -> None:
        checks.require(
            0 < len(self.model) <= MOST_NAME, "model", self.model, f"1 to {MOST_NAME} characters"
        )
        valid = "a SHA-256, 64 hexadecimal digits"
        holds = _SHA256.fullmatch(self.model_sha256) is not None
        checks.require(holds, "model_sha256", self.model_sha256, valid)
        checks.above("signal_to_noise", self.signal_to_noise, 0.0, MOST_SIGNAL_TO_NOISE)
        if self.queries_left is not None:
            checks.within("queries_left", self.queries_left, 0, MOST_SAMPLES)
        if self.bits_per_weight_left is not None:
            checks.within("bits_per_weight_left", self.bits_per_weight_left, 0.0, MOST_BITS)
        checks.above("deadline_s", self.deadline_s, 0.0, MOST_DEADLINE_S)
        checks.within("batch_queries", self.batch_queries, 1, MOST_QUERIES)
