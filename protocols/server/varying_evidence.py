"""Evidence of a layer whose light is another one for each query.

Groups are slots of the light, not neurons: a client that treats some slots differently does so by
their place. Sums by weight follow the weight instead, on any mode: what a client learns of it
over many queries stays with it. What was sent is summed query by query, where fixed light needs it
only once.
"""

from __future__ import annotations

import numpy as np

from labctl.protocols.encoding import Floats
from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.verification.collective import (
    Doubles,
    PlacedSums,
    Placement,
    WeightSums,
)
from labctl.protocols.verification.evidence import LayerEvidence, Sums
from labctl.protocols.verification.read_shares import ReadShares
from labctl.protocols.verification.row_gains import RowGains, SlotTerms
from labctl.protocols.verification.row_moments import unit_scale


class VaryingEvidence(LayerEvidence):
    """Sums over all returned light of one layer, each query compared with its own light."""

    def __init__(self, light: LayerLight, pattern: Floats, carriers: int) -> None:
        """`pattern` (rows, columns): the weights in their own order; see `LayerEvidence`."""
        super().__init__(light)
        self._pattern = pattern
        self._carriers = carriers
        self._placed_sums = PlacedSums(*pattern.shape)
        self._slot_terms = SlotTerms(light.rows, self._unit_products)
        self._unit = unit_scale(pattern)
        self._placed: Placement | None = None
        self._expected = np.zeros((light.rows, light.modes), np.float32)
        self._sent_rows = np.zeros(light.rows)
        self._sent_modes = np.zeros(light.modes)
        self._rows_move = self._columns_move = False

    @property
    def pattern(self) -> Floats:
        """The weights in their own order."""
        return self._pattern

    @property
    def carriers(self) -> int:
        """How many quadratures of a query carry one weight."""
        return self._carriers

    def weight_sums(self) -> WeightSums:
        """Return the sums of each weight, in the weights' own order."""
        return self._placed_sums.sums()

    @property
    def keeps_columns(self) -> bool:
        """Whether each mode carried the same columns in all queries so far."""
        return not self._columns_move

    def row_gains(self) -> RowGains | None:
        """Return them where slots carry the same rows in all queries; see `LayerEvidence`."""
        return None if self._columns_move or self._rows_move else super().row_gains()

    def slot_terms(self) -> Doubles:
        """Return what a bench's distortion may add to each slot's sum of sent times read."""
        return self._slot_terms.sums

    def add_query(self, light: LayerLight, placed: Placement, returned: ReturnedLight) -> None:
        """Add one image, for which `light` was sent; raises as `LayerEvidence.add` does.

        `placed`: which weight each slot of it carries.
        """
        self._turn_to(light)
        self._placed = placed
        self._rows_move |= not np.array_equal(placed.rows, np.arange(len(placed.rows)))
        self._columns_move |= not placed.keeps_columns
        shares = ReadShares.of_light(returned)
        self._add(returned, shares)
        self._add_slot_terms(placed, shares.squares)
        if shares.on_x is None:
            expected = returned.cosine * light.x
            expected += returned.sine * light.p
        else:
            expected = self._expected
            light.by_quadrature.take(light.rows_read(shares.on_x), 0, expected, "clip")
        np.multiply(expected, expected, out=expected)
        self._sent_rows += expected @ np.ones(light.modes, np.float32)
        self._sent_modes += np.ones(light.rows, np.float32) @ expected

    def _add_slot_terms(self, placed: Placement, shares: Doubles) -> None:
        if placed.keeps_columns:
            self._slot_terms.add_rows(placed.rows, placed.changed_signs, shares)
            return
        xx, twice, pp = self._light.row_powers / self._unit**2
        self._slot_terms.add_powers(np.stack([xx, 0.5 * twice, pp]), shares)

    def row_sums(self) -> Sums:
        """Return the sums of each row slot, over its modes and all images."""
        return self._sums(self._light.rows, self._sent_rows, self._row_sums)

    def mode_sums(self) -> Sums:
        """Return the sums of each mode slot, over all rows and images."""
        return self._sums(self._light.modes, self._sent_modes, self._mode_sums)

    def _begin_weights(self, shares: ReadShares) -> None:
        assert self._placed is not None
        self._placed_sums.begin(shares, self._placed)

    def _add_weights(self, first: int, left: Floats) -> None:
        self._placed_sums.add(first, left)

    def _turn_to(self, light: LayerLight) -> None:
        self._light = light
        # The strongest direction is that of the last light.
        self.__dict__.pop("strongest_direction", None)
