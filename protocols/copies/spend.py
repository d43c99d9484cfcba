"""What a client can spend on a copy of the network: photons times the noise that a server accepts.

An honest client's clones add noise to the light that returns. A thief that adds no more than that,
and what a pooled check of few queries cannot tell from it, passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import Blocks, modes_of
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.checks import SHARES
from labctl.protocols.verification.noise_ratio import normal_isf


def sent_sizes(network: Network) -> tuple[int, ...]:
    """Return the sizes of the layers that are sent: without what carries nothing."""
    return carried(network).network.sizes


def modes_of_layers(sizes: Sequence[int]) -> list[int]:
    """Return the modes of light of each layer, its rows times the modes of a row.

    >>> modes_of_layers((784, 100, 10))
    [39200, 500]
    """
    return [rows * modes_of(inputs) for inputs, rows in pairwise(sizes)]


def row_modes(sizes: Sequence[int]) -> float:
    """Return the modes per row, averaged over all rows of a network of these layer sizes.

    >>> round(row_modes((784, 100, 10)), 1)
    360.9
    """
    return sum(modes_of_layers(sizes)) / sum(sizes[1:])


def honest_noise(sizes: Sequence[int], settings: SessionSettings) -> float:
    """Return the excess noise of honest clones at the server in SNU, pooled over all modes.

    With decoys each block has as many clones more, and the server has to accept their noise.
    """
    added = 0.0
    for layer, (inputs, rows) in enumerate(pairwise(sizes)):
        modes = modes_of(inputs)
        clones = Blocks.of(modes, settings.channel.block_modes).collected(settings.clones_of(layer))
        added += rows * clones * settings.leg_transmittance_of(modes)
    return settings.receiver.returned_noise * added / sum(modes_of_layers(sizes))


def hidden_noise(
    queries: int, sizes: Sequence[int], settings: SessionSettings, acceptance: float
) -> float:
    """Return how many times honest noise passes the pooled check of `queries` queries.

    With probability `acceptance` (normal approximation), if the calibration is exact; 1 or
    more. What hides per query falls with the root of the queries, its sum grows with it.
    """
    modes = queries * sum(modes_of_layers(sizes))
    alarm = settings.verification.false_alarm_probability
    slack = normal_isf(SHARES["pooled noise"] * alarm) + normal_isf(acceptance)
    hidden = max(slack, 0.0) * math.sqrt(2.0 / modes)
    return 1.0 + hidden / honest_noise(sizes, settings)
