"""What a leakage figure assumes: loss and technical noise trusted or not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# The checks pool the light of a session, so that what one query may hide is all that all may.
MEAN_OVER_SESSION = "mean over the session; all of it may be in one query"


class Trust(StrEnum):
    """Whether an imperfection is out of the adversary's hands."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True)
class Assumptions:
    """What a weight-leakage figure assumes; there is no default on purpose.

    `loss`: untrusted gives the light lost between client and server to the client. Loss in the
    client's own rotation is never trusted: a dishonest client has a better one.
    `technical_noise`: untrusted counts the link's technical noise as the client's doing; trusted
    means that it arises in the server's own, calibrated receiver.
    """

    loss: Trust
    technical_noise: Trust

    def sentences(self) -> tuple[str, ...]:
        """Return the assumptions in words, for reports."""
        loss = (
            "loss untrusted: the client may hold all light that is lost"
            if self.loss is Trust.UNTRUSTED
            else "loss trusted: lost light is out of the client's reach, taken after the client"
        )
        noise = (
            "technical noise untrusted: all excess noise is taken as the client's doing"
            if self.technical_noise is Trust.UNTRUSTED
            else "technical noise trusted: it arises in the server's calibrated receiver"
        )
        return (
            loss,
            noise,
            "loss in the client's rotation untrusted always: a dishonest client has a better one",
            "weights: Holevo information of Gaussian collective attacks on Gaussian weights, rows "
            "independent: prior-free for the worst of this mean power, this network's for its "
            "own, honest for weights that are alike and noise spread evenly, which bounds "
            "nothing else",
            f"weights, per query: {MEAN_OVER_SESSION}",
            "data: Cramer-Rao bound on one symbol; a per-symbol bound does not protect a label",
        )
