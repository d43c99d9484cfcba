"""Stand-ins: what aligns a bench is as bright as the network, and tells nothing of its weights."""

from __future__ import annotations

import numpy as np

from labctl.protocols.encoding import quadratures
from labctl.protocols.link import LayerLight
from labctl.protocols.server.stand_in import stand_in


def layer_light() -> LayerLight:
    weights = np.random.default_rng(1).standard_t(4, (60, 80)).astype(np.float32)
    return LayerLight(1, quadratures(weights, 3.0), 20)


def test_power_largest_value_and_shape_are_those_of_the_layer() -> None:
    light = layer_light()
    other = stand_in(light, seed=4)
    assert (other.layer, other.block_modes) == (1, 20)
    assert other.quadratures.shape == light.quadratures.shape
    assert np.array_equal(
        np.sort(np.abs(other.quadratures), None), np.sort(np.abs(light.quadratures), None)
    )


def test_it_does_not_correlate_with_the_layer() -> None:
    """4,800 values: the correlation of independent ones has standard deviation 0.0144."""
    light = layer_light()
    other = stand_in(light, seed=4)
    for own, theirs in (
        (light.quadratures, other.quadratures),
        (np.abs(light.quadratures), np.abs(other.quadratures)),
    ):
        assert abs(np.corrcoef(own.ravel(), theirs.ravel())[0, 1]) < 4 * 0.0144


def test_it_follows_from_the_seed_and_the_layer() -> None:
    light = layer_light()
    same, another = stand_in(light, seed=4), stand_in(light, seed=5)
    assert np.array_equal(stand_in(light, seed=4).quadratures, same.quadratures)
    assert not np.array_equal(another.quadratures, same.quadratures)
