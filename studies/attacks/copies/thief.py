"""What all thieves of copies have in common: a protocol, and how weights are scored."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import unit_rms
from labctl.studies.attacks.attack import Learned, Mounted
from labctl.studies.attacks.copies.stolen import Copy, PublicImages, StolenNetwork


@runtime_checkable
class CopyThief(Mounted, Protocol):
    """A mounted attack that is after a working copy of the network."""

    @property
    def public(self) -> PublicImages:
        """The images that it has without their labels."""
        ...

    def copy(self) -> Copy:
        """Return the copy built from all queries so far; at least one was made."""
        ...


def correlation_of(stolen: StolenNetwork, network: Network) -> Learned:
    """Score stolen layers: correlation with all weights sent, each layer in its own RMS."""
    sent = carried(network).network.layers
    truth = [unit_rms(one).astype(np.float64).ravel() for one in sent]
    both = np.stack([np.concatenate(truth), np.concatenate([one.ravel() for one in stolen.layers])])
    both -= both.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(both, axis=1)
    found = float(both[0] @ both[1] / (norms[0] * norms[1])) if norms.all() else 0.0
    return Learned(both.shape[1], min(max(found, -1.0), 1.0))
