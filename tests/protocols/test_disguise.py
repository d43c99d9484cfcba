"""Disguised neurons: the same classes, an order per query, evidence of what was really sent."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sessions import ideal_session, images_of, network

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.disguise import (
    PLAIN,
    Disguise,
    OrderSource,
    key_of_seed,
    new_key,
)
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import BEST_GAIN
from labctl.protocols.server import Server
from labctl.protocols.server.disguised import DisguisedServer
from labctl.protocols.session import Session
from labctl.protocols.settings import Light, Sampling, SessionSettings
from labctl.protocols.verification.evidence import LayerEvidence

Floats = NDArray[np.float32]

PERMUTED = Disguise(permute=True)
BOTH = Disguise(permute=True, signs=True)
SETTINGS = ideal_session(1e8, BEST_GAIN, sampling=Sampling.MEASURED, seed=5)


def logits(net: Network, settings: SessionSettings, images: Floats, batch: int = 7) -> Floats:
    session = Session(net, settings, ModeLink(settings))
    return np.concatenate([one.measured[-1] for one in session.run(images, batch_images=batch)])


@pytest.mark.parametrize("block_modes", [None, 3])
@pytest.mark.parametrize("disguise", [PERMUTED, Disguise(signs=True), BOTH])
def test_bright_light_gives_the_plain_network_s_logits(
    disguise: Disguise, block_modes: int | None
) -> None:
    net, images = network(9, 11, 7, 4), images_of(20, 9)
    settings = replace(SETTINGS, channel=replace(SETTINGS.channel, block_modes=block_modes))
    plain = logits(net, settings, images)
    hidden = logits(
        net, replace(settings, light=replace(settings.light, disguise=disguise)), images
    )
    norm = np.linalg.norm(plain, axis=1, keepdims=True)
    # With signs the norm that is divided by is that of [y, |y|], not that of ReLU(y).
    hidden *= norm / np.linalg.norm(hidden, axis=1, keepdims=True)
    np.testing.assert_allclose(hidden, plain, atol=float(3e-3 * norm.max()))


def test_results_do_not_depend_on_batches() -> None:
    net, images = network(9, 11, 4), images_of(20, 9)
    settings = replace(SETTINGS, light=replace(SETTINGS.light, mean_photons=1.0, disguise=BOTH))
    np.testing.assert_allclose(
        logits(net, settings, images, 20), logits(net, settings, images, 3), atol=1e-5
    )


def test_a_session_that_goes_on_keeps_drawing_new_orders() -> None:
    net, image = network(9, 40, 4), images_of(1, 9)
    settings = replace(SETTINGS, light=replace(SETTINGS.light, disguise=PERMUTED))
    session = Session(net, settings, ModeLink(settings))
    first, second = (next(session.run(image)).measured[0][0] for _ in range(2))
    assert not np.allclose(first, second, rtol=0.1)
    np.testing.assert_allclose(np.sort(first), np.sort(second), atol=0.02 * np.abs(first).max())


def test_each_query_gets_light_of_its_own() -> None:
    net = network(9, 40, 4)
    server = DisguisedServer(net, 1.0, None, BOTH)
    lights = [light for _, light in server.sent(0, 3)]
    for one, other in pairwise(lights):
        assert not np.array_equal(one.quadratures, other.quadratures)
    rows = [{tuple(np.abs(row)) for row in light.quadratures} for light in lights]
    assert rows[0] == rows[1] == rows[2]


def test_there_is_no_light_that_could_be_uploaded_once() -> None:
    with pytest.raises(SettingError, match="uploaded only once"):
        DisguisedServer(network(9, 11, 4), 1.0, None, PERMUTED).light(0)


def test_signs_double_the_inputs_of_the_layers_after_the_first() -> None:
    shapes = DisguisedServer(network(9, 11, 7, 4), 1.0, 3, BOTH).shapes
    assert [(s.rows, s.modes, s.inputs, s.block_modes) for s in shapes] == [
        (11, 5, 9, 3),
        (7, 11, 22, 3),
        (4, 7, 14, 3),
    ]


@given(neurons=st.integers(1, 60), query=st.integers(0, 2**40), seed=st.integers(0, 2**70))
@hypothesis_settings(deadline=None)
def test_an_order_names_every_neuron_once_and_repeats_from_its_key(
    neurons: int, query: int, seed: int
) -> None:
    one, again = (OrderSource(BOTH, key_of_seed(seed)).draw(query, 0, neurons) for _ in range(2))
    assert sorted(one.neurons) == list(range(neurons))
    assert set(one.signs) <= {-1.0, 1.0}
    np.testing.assert_array_equal(one.neurons, again.neurons)
    np.testing.assert_array_equal(one.signs, again.signs)


def test_orders_are_uniform() -> None:
    # 3,000 draws of 5 neurons: each place gets each neuron 600 times, standard deviation 22.
    source = OrderSource(BOTH, bytes(16))
    drawn = [source.draw(query, 0, 5) for query in range(3000)]
    counts = np.zeros((5, 5))
    for order in drawn:
        counts[np.arange(5), order.neurons] += 1
    assert np.abs(counts - 600).max() < 5 * 22
    assert abs(np.mean([order.signs for order in drawn])) < 5 / np.sqrt(15000)


def test_keys() -> None:
    assert new_key() != new_key()
    with pytest.raises(SettingError, match="16 bytes or more"):
        OrderSource(BOTH, b"short")
    drawn = OrderSource(PLAIN, bytes(16)).draw(0, 0, 4)
    assert list(drawn.neurons) == [0, 1, 2, 3]
    assert list(drawn.signs) == [1.0] * 4


@pytest.mark.parametrize("disguise", [PERMUTED, BOTH])
def test_an_honest_session_in_disguise_is_accepted(disguise: Disguise) -> None:
    net, images = network(60, 40, 6), images_of(40, 60)
    settings = replace(SETTINGS, light=Light(4.0, disguise), sampling=Sampling.ALL)
    session = Session(net, settings, ModeLink(settings))
    list(session.run(images))
    report, honest = session.verdict(figures=False), session.expectation()
    assert report.accepted
    estimate = session.estimate()
    assert estimate is not None
    samples = 40 * (40 * 30 + 6 * (40 if disguise.signs else 20))
    assert estimate.samples == samples
    # Standard errors: noise sqrt(2/m), transmittance 2/sqrt(m 2 mu).
    assert estimate.excess_noise == pytest.approx(
        honest.excess_noise, abs=5 * np.sqrt(2.0 / samples)
    )
    assert estimate.transmittance == pytest.approx(1.0, abs=5 * 2.0 / np.sqrt(samples * 8.0))


def test_evidence_against_the_plain_light_would_reject() -> None:
    net, images = network(60, 40, 6), images_of(10, 60)
    settings = replace(SETTINGS, light=Light(4.0, PERMUTED), sampling=Sampling.ALL)
    server = DisguisedServer(net, 4.0, None, PERMUTED)
    wrong = LayerEvidence(Server(net, 4.0).light(0))
    link = ModeLink(settings)
    for part, light in server.sent(0, 10):
        for returned in link.exchange(light, images[part]).returned:
            server.check(0, returned)
            wrong.add(returned)
    right = server.evidence[0]
    assert right.cross_power == pytest.approx(right.sent_power, rel=0.05)
    assert abs(wrong.cross_power) < 0.2 * wrong.sent_power


def test_sums_by_row_and_mode_agree_with_fixed_light() -> None:
    net, images = network(12, 8, 3), images_of(5, 12)
    settings = replace(
        SETTINGS, light=replace(SETTINGS.light, mean_photons=4.0), sampling=Sampling.ALL
    )
    server = DisguisedServer(net, 4.0, None, PLAIN)
    fixed = LayerEvidence(Server(net, 4.0).light(0))
    link = ModeLink(settings)
    for part, light in server.sent(0, 5):
        for returned in link.exchange(light, images[part]).returned:
            server.check(0, returned)
            fixed.add(returned)
    varying = server.evidence[0]
    for one, other in (
        (varying.row_sums(), fixed.row_sums()),
        (varying.mode_sums(), fixed.mode_sums()),
    ):
        np.testing.assert_allclose(one.sent, other.sent, rtol=1e-5)
        np.testing.assert_allclose(one.cross, other.cross, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(one.residual, other.residual, rtol=1e-4)
    assert varying.offsets() == fixed.offsets()
    assert varying.strongest_direction == pytest.approx(fixed.strongest_direction)
