"""Rows and inputs that carry nothing get no light; what is left gives the same function."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sessions import ideal_session

from labctl.data.models import Network
from labctl.errors import ModelError, SettingError
from labctl.protocols.carried import Inputs, carried
from labctl.protocols.client import Client
from labctl.protocols.disguise import PLAIN, Disguise
from labctl.protocols.encoding import Blocks, Floats
from labctl.protocols.hiding.collection import Collected
from labctl.protocols.hiding.orthogonal import collected_together
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.server import Server
from labctl.protocols.session import Session
from labctl.protocols.settings import (
    Sampling,
    VerificationSettings,
)
from labctl.studies.training.evaluation import noisy_classes

SETTINGS = ideal_session(
    2e4, 1.3, seed=5, verification=VerificationSettings(calibration_samples=10_000_000)
)


def drawn(*sizes: int, seed: int = 1) -> list[Floats]:
    random = np.random.default_rng(seed)
    return [
        random.standard_normal((rows, columns), dtype=np.float32)
        for columns, rows in pairwise(sizes)
    ]


def of(layers: list[Floats]) -> Network:
    return Network(tuple(layers), "drawn", {})


def plain_values(network: Network, images: Floats) -> Floats:
    """Return the outputs without noise, by plain matrix products."""
    values = images
    for depth, layer in enumerate(network.layers):
        values = (np.maximum(values, 0) if depth else values) @ layer.T
    return values


@pytest.fixture
def sparse() -> Network:
    """784-like 9-6-4: input 2 and 5 dark, row 1 of zeros, neuron 3 never used."""
    first, second = drawn(9, 6, 4)
    first[:, [2, 5]] = 0.0
    first[1] = 0.0
    second[:, 3] = 0.0
    return of([first, second])


def test_a_network_that_carries_everything_is_sent_as_it_is() -> None:
    network = of(drawn(9, 6, 4))
    sent = carried(network)
    assert sent.network is network
    assert sent.inputs.fed is None
    images = np.ones((2, 9), np.float32)
    assert sent.inputs.taken(images) is images


def test_dark_inputs_empty_rows_and_unused_neurons_are_left_out(sparse: Network) -> None:
    sent = carried(sparse)
    assert sent.network.sizes == (7, 4, 4)
    assert sent.inputs.fed is not None
    assert sent.inputs.fed.tolist() == [0, 1, 3, 4, 6, 7, 8]


def test_what_is_left_computes_the_same_function(sparse: Network) -> None:
    images = np.random.default_rng(3).random((20, 9), dtype=np.float32)
    sent = carried(sparse)
    found = plain_values(sent.network, sent.inputs.taken(images))
    np.testing.assert_allclose(found, plain_values(sparse, images), rtol=1e-5, atol=1e-5)


def test_leaving_out_goes_on_until_nothing_is_empty() -> None:
    """Input 0 feeds neuron 0 alone, which feeds a neuron alone that is never used: all three go."""
    first, second, third = drawn(4, 3, 3, 2)
    first[1:, 0] = 0.0
    second[:, 0] = 0.0
    second[2] = [1.0, 0.0, 0.0]
    third[:, 2] = 0.0
    sent = carried(of([first, second, third]))
    assert sent.network.sizes == (3, 2, 2, 2)
    assert sent.inputs.fed is not None
    assert sent.inputs.fed.tolist() == [1, 2, 3]


def test_all_classes_are_sent_even_one_of_zeros() -> None:
    first, second = drawn(5, 4, 3)
    second[1] = 0.0
    network = of([first, second])
    assert carried(network).network is network


def test_a_network_whose_layers_never_meet_is_refused() -> None:
    first, second = drawn(3, 2, 2)
    first[0], second[:, 1] = 0.0, 0.0
    with pytest.raises(ModelError, match="no path of weights other than 0"):
        carried(of([first, second]))


def test_light_is_per_mode_that_is_sent(sparse: Network) -> None:
    server = Server(sparse, mean_photons=0.7)
    assert [(shape.rows, shape.inputs) for shape in server.shapes] == [(4, 7), (4, 4)]
    for layer, shape in enumerate(server.shapes):
        light = server.light(layer).quadratures
        # X and P have variance 2 mu each over the weights sent: half the photons of a mode each.
        assert np.mean(light[:, : shape.inputs] ** 2) == pytest.approx(2 * 0.7, rel=1e-5)


def test_the_client_spends_no_light_on_inputs_that_are_not_fed(sparse: Network) -> None:
    sent = carried(sparse)
    image = np.arange(1.0, 10.0, dtype=np.float32)[None]
    client = Client(sent.network.sizes, image, inputs=sent.inputs)
    coefficients = client.coefficients()
    assert coefficients.shape == (1, 8)
    fed = image[0, [0, 1, 3, 4, 6, 7, 8]]
    np.testing.assert_allclose(coefficients[0, :7], fed / np.linalg.norm(fed), rtol=1e-6)


@pytest.mark.parametrize("disguise", [PLAIN, Disguise(permute=True)])
def test_a_session_classifies_and_verifies_what_is_sent(
    sparse: Network, disguise: Disguise
) -> None:
    """At 20,000 photons per mode noise decides nothing: the plain network's classes come out."""
    images = np.random.default_rng(4).random((40, 9), dtype=np.float32)
    settings = replace(SETTINGS, light=replace(SETTINGS.light, disguise=disguise))
    session = Session(sparse, settings, ModeLink(settings))
    found = np.concatenate([batch.classes for batch in session.run(images)])
    expected = np.argmax(plain_values(sparse, images), axis=1)
    assert np.mean(found == expected) > 0.95
    assert session.verdict(figures=False).samples == 40 * (4 * 4 + 4 * 2)


def test_f_is_kept_over_the_inputs_that_are_fed() -> None:
    """Signal over noise of a first layer with dark inputs is F, as it is without them.

    4,000 images x 50 rows of noise: the noise variance is known to 0.5 %.
    """
    (weights,) = drawn(40, 50, seed=8)
    weights[:, 20:] = 0.0
    network = of([weights])
    images = np.random.default_rng(9).standard_normal((4000, 40), dtype=np.float32)
    settings = replace(
        SETTINGS, light=replace(SETTINGS.light, mean_photons=0.57), sampling=Sampling.MEASURED
    )
    (batch,) = Session(network, settings, ModeLink(settings)).run(images, batch_images=4000)
    fed = images[:, :20] / np.linalg.norm(images[:, :20], axis=1, keepdims=True)
    unit = weights[:, :20] / np.sqrt(np.mean(weights[:, :20] ** 2))
    signal = (fed @ unit.T).ravel()
    measured = batch.measured[0].ravel()
    slope = float(signal @ measured / (signal @ signal))
    noise = float(np.var(measured - slope * signal))
    assert slope**2 / noise == pytest.approx(settings.signal_to_noise, rel=0.02)


def test_images_of_another_width_are_refused() -> None:
    inputs = Inputs(9, np.array([1, 2]))
    with pytest.raises(SettingError, match="the network has 9 inputs"):
        inputs.taken(np.ones((1, 8), np.float32))


def test_inputs_are_the_same_where_the_same_values_are_fed() -> None:
    some = Inputs(9, np.array([1, 2]))
    assert some.same(Inputs(9, np.array([1, 2])))
    assert not some.same(Inputs(9, np.array([1, 3])))
    assert not some.same(Inputs(9))
    assert Inputs(9).same(Inputs(9))
    assert not Inputs(9).same(Inputs(8))


def test_plain_evaluation_leaves_out_the_same(sparse: Network) -> None:
    images = np.random.default_rng(6).random((30, 9), dtype=np.float32)
    sent = carried(sparse)
    found = noisy_classes(sparse, images, 0.5, seed=2)
    np.testing.assert_array_equal(
        found, noisy_classes(sent.network, sent.inputs.taken(images), 0.5, seed=2)
    )


def test_what_travels_beside_an_input_is_fed_as_it_is(sparse: Network) -> None:
    """Decoys of the pixels that are fed go with an image of all of them."""
    part = carried(sparse)
    images = np.random.default_rng(2).random((3, sparse.sizes[0]), np.float32)

    class Doubled:
        """Collects an input and its mirror image."""

        def inputs(self, images: Floats) -> Floats:
            return np.stack([images, images[:, ::-1]], axis=1)

        def collected(self, layer: int, inputs: Floats, blocks: Blocks) -> Collected:
            return collected_together(inputs, blocks)

    sizes = part.network.sizes
    client = Client(sizes, images, inputs=part.inputs, collection=Doubled())
    own = Client(sizes, images, inputs=part.inputs).coefficients()
    modes = client.coefficients()
    assert modes.shape == (3, 2, own.shape[1])
    # The own input lies in the span of the two modes but for what P of them would add.
    inside = np.einsum("bkn,bn->bk", modes, own)
    assert np.sum(inside**2, axis=1) == pytest.approx(np.ones(3), abs=0.05)
