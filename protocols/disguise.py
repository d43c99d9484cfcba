"""Disguise of hidden neurons: a fresh order, and fresh signs, for every query.

Neuron j of a hidden layer is sent in another row, times a sign, and the next layer's columns
follow. A client measures y' = S P y and cannot tell which neuron is which. A sign cannot be taken
back through a rectifier, but ReLU(y) = (y + |y|)/2 and |y'| = P |y|: the next layer, W, is sent as
[W P^T S, W P^T] and acts on [y', |y'|], twice the inputs, so that its rows give 2 W ReLU(y). Light
then serves to cancel negative values: F falls to 2 |ReLU(y)|^2/|y|^2 of itself in these layers,
which is little for networks whose neurons are mostly below zero.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats
from labctl.protocols.keys import require_key


@dataclass(frozen=True)
class Disguise:
    """What of the hidden neurons is drawn again for each query; nothing by default."""

    permute: bool = False
    signs: bool = False

    @property
    def plain(self) -> bool:
        """Whether every query gets the same light."""
        return not (self.permute or self.signs)


PLAIN = Disguise()
# What runs draw unless they are asked not to: it costs neither light nor accuracy.
FRESH_ORDER = Disguise(permute=True)


@dataclass(frozen=True, eq=False)
class HiddenOrder:
    """How one hidden layer is sent: slot i carries neuron `neurons[i]` times `signs[i]`."""

    neurons: npt.NDArray[np.intp]
    signs: Floats

    def rows(self, weights: Floats) -> Floats:
        """Return the layer's rows (m, N) as they are sent."""
        sent: Floats = weights.take(self.neurons, axis=0)
        if self.changed_signs is not None:
            sent *= self.changed_signs[:, None]
        return sent

    @cached_property
    def changed_signs(self) -> Floats | None:
        """The signs, None where all are 1."""
        return None if bool((self.signs == 1.0).all()) else self.signs

    def columns(self, weights: Floats, doubled: bool) -> Floats:
        """Return the next layer's columns (m', m), or (m', 2 m) for inputs y' and |y'|."""
        sent: Floats = weights.take(self.neurons, axis=1)
        return np.concatenate([sent * self.signs, sent], axis=1) if doubled else sent


def new_key() -> bytes:
    """Return a key from the operating system's random numbers."""
    return secrets.token_bytes(32)


def key_of_seed(seed: int) -> bytes:
    """Return a key for simulated runs that repeat: as secret as the seed, so no secret at all."""
    return hashlib.sha256(
        b"hidden order" + seed.to_bytes(math.ceil(seed.bit_length() / 8))
    ).digest()


class OrderSource:
    """Draws the order of every query's hidden layers from SHAKE-256 of a key.

    `key`: 16 bytes or more, the server's secret. An order is that of 64-bit random numbers.
    """

    def __init__(self, disguise: Disguise, key: bytes) -> None:
        require_key(key)
        self._disguise = disguise
        self._key = key

    def draw(self, query: int, layer: int, neurons: int) -> HiddenOrder:
        """Return the order of a hidden layer's neurons for a query."""
        place = query.to_bytes(8) + layer.to_bytes(4)
        stream = hashlib.shake_256(self._key + place).digest(9 * neurons)
        order, signs = np.arange(neurons), np.ones(neurons, np.float32)
        if self._disguise.permute:
            order = np.argsort(np.frombuffer(stream, np.uint64, neurons), kind="stable")
        if self._disguise.signs:
            coins = np.frombuffer(stream, np.uint8, neurons, offset=8 * neurons) & 1
            signs = 1.0 - 2.0 * coins.astype(np.float32)
        return HiddenOrder(order, signs)
