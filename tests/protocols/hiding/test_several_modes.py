"""Receivers that collect several modes: the joint draw, the checks, and the way through a network.

The joint draw is compared with covariances worked out here from the optics, port by port.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import Network, load_network
from labctl.errors import DatasetError, SettingError
from labctl.protocols.client import Client
from labctl.protocols.disguise import PLAIN
from labctl.protocols.encoding import unit_norm, unit_rms
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.hiding.public_return import PublicReturn, projected
from labctl.protocols.leakage import Assumptions, LayerShape, Trust
from labctl.protocols.link import LayerLight, Link
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne
from labctl.protocols.rotation import Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.studies.attacks.more_modes import CloneMoreModes
from labctl.studies.attacks.tampered_link import Path, TamperedLink
from labctl.studies.planner.option import Conditions

Reals = NDArray[np.float64]

ROWS = 100_000
MODES = 4
SETTINGS = SessionSettings(
    light=Light(4.0, PLAIN),
    channel=Channel(loss_db=1.0, technical_noise=0.1),
    receiver=CloneReceiver(3.0, 1.4, Homodyne(0.8, 0.1)),
    verifier=Homodyne(0.7, 0.2),
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.ALL,
    seed=3,
    verification=VerificationSettings(calibration_samples=10_000_000),
)
MISMATCHED = replace(SETTINGS, channel=replace(SETTINGS.channel, mismatch=CloneMismatch(0.3, 0.4)))


def orthonormal(seed: int, count: int) -> NDArray[np.complex64]:
    drawn = np.random.default_rng(seed).standard_normal((MODES, 2 * count))
    columns = np.linalg.qr(drawn[:, :count] + 1j * drawn[:, count:])[0]
    return np.ascontiguousarray(columns.T, np.complex64)


def expected(settings: SessionSettings, modes: NDArray[np.complex64], on_x: bool) -> Reals:
    """Return the covariance of what the server reads of each mode and the client of each of its.

    Ports, X and P each: the modes' vacuum behind the first leg, each clone's idler and splitter
    vacuum, each mismatch' vacuum; what is independent of the rest is added at the end.
    """
    count, receiver = len(modes), settings.receiver
    assert isinstance(receiver, CloneReceiver)
    gain, leg = receiver.gain, settings.leg_transmittance
    eta, seen = settings.verifier.efficiency, leg * settings.verifier.efficiency

    def of(matrix: NDArray[np.complexfloating]) -> Reals:
        """Return what multiplying a by a complex matrix does to (X, P)."""
        return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])

    collect, put_back = of(modes.conj()), of(modes.T)
    kappa = settings.channel.clone_mismatch.kappa * np.eye(count)
    whole = of(np.eye(count) + kappa)
    flip = np.diag([1.0] * count + [-1.0] * count)
    idler = math.sqrt(2.0 * receiver.emission_factor - 1.0) * flip
    split = math.sqrt(1.0 - 1.0 / gain)
    at_server = [
        np.eye(2 * MODES) + put_back @ of(kappa) @ collect,
        put_back @ whole @ (split * idler),
        put_back @ whole * split,
        put_back * math.sqrt(settings.channel.clone_mismatch.added_noise),
    ]
    at_client = [
        math.sqrt(gain - 1.0) * collect,
        (gain - 1.0) / math.sqrt(gain) * idler,
        -np.eye(2 * count) / math.sqrt(gain),
        np.zeros((2 * count, 2 * count)),
    ]
    server = np.concatenate(at_server, axis=1) * math.sqrt(seen)
    client = np.concatenate(at_client, axis=1) * math.sqrt(receiver.homodyne.efficiency)
    read = slice(0, MODES) if on_x else slice(MODES, 2 * MODES)
    both = np.concatenate([server[read], client[:count]])
    covariance: Reals = both @ both.T
    white = 1.0 - seen + eta * settings.channel.technical_noise + settings.verifier.electronic_noise
    covariance[:MODES, :MODES] += white * np.eye(MODES)
    own = 1.0 - receiver.homodyne.efficiency + receiver.homodyne.electronic_noise
    covariance[MODES:, MODES:] += own * np.eye(count)
    scale = np.ones(MODES + count)
    scale[:MODES] = 1.0 / math.sqrt(1.0 + settings.verifier.electronic_noise)
    return np.asarray(scale[:, None] * covariance * scale)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("settings", [SETTINGS, MISMATCHED], ids=["matched", "mismatched"])
@pytest.mark.parametrize("tampered", [False, True], ids=["mode link", "tampered link"])
def test_server_and_client_read_what_the_optics_say(
    settings: SessionSettings, count: int, tampered: bool
) -> None:
    modes = orthonormal(count, count)
    light = LayerLight(0, np.zeros((ROWS, 2 * MODES), np.float32), None, count)
    link: Link = ModeLink(settings)
    if tampered:
        link = TamperedLink(settings, Path.honest(settings))
    exchange = link.exchange(light, modes.view(np.float32)[None])
    ((read, cosine),) = [(one.measured.copy(), one.cosine.copy()) for one in exchange.returned]
    assert exchange.measured.shape == (1, count, ROWS)
    for on_x in (True, False):
        rows = (cosine[:, 0] == 1.0) == on_x
        both = np.concatenate([read[rows], exchange.measured[0].T[rows]], axis=1)
        wanted = expected(settings, modes, on_x)
        # A sample covariance scatters by at most sqrt(2 v v'/m); 5 standard deviations, seed 3.
        scatter = np.sqrt(2.0 * np.outer(np.diag(wanted), np.diag(wanted)) / rows.sum())
        assert (np.abs(np.cov(both.T) - wanted) < 5.0 * scatter).all()


def test_the_returned_noise_depends_on_the_span_alone() -> None:
    modes = orthonormal(1, 2)
    turn = orthonormal(9, 2)[:, :2]
    turn = np.linalg.qr(turn)[0].astype(np.complex64)
    for on_x in (True, False):
        one, other = (expected(MISMATCHED, each, on_x) for each in (modes, turn @ modes))
        assert np.allclose(one[:MODES, :MODES], other[:MODES, :MODES], atol=1e-6)


def test_one_mode_asked_for_in_either_shape_is_the_same() -> None:
    light = LayerLight(0, np.ones((50, 2 * MODES), np.float32))
    row = orthonormal(1, 1).view(np.float32)
    for settings in (SETTINGS, MISMATCHED, replace(SETTINGS, sampling=Sampling.MEASURED)):
        results = []
        for asked in (row, row[None]):
            exchange = ModeLink(settings).exchange(light, asked)
            returned = [one.measured.copy() for one in exchange.returned]
            results.append((exchange.measured.ravel(), returned))
        assert np.array_equal(results[0][0], results[1][0])
        assert np.array_equal(results[0][1], results[1][1])


def test_lines_after_each_other_collect_orthogonal_modes_and_lose_more() -> None:
    rotation = Rotation(0.01, 0.05, 0.05)
    light = LayerLight(0, np.ones((1, 2 * MODES), np.float32), None, 3)
    set_to = np.stack([orthonormal(seed, 3).view(np.float32) for seed in range(5)])
    found = rotation.collected(set_to, light.blocks, 1).view(np.complex64)
    gram = np.einsum("ikm,ijm->ikj", found.conj(), found)
    assert np.allclose(gram, np.eye(3), atol=1e-5)
    assert 1e-3 < np.abs(found - set_to.view(np.complex64)).max() < 0.5
    hidden = replace(
        SETTINGS, channel=replace(SETTINGS.channel, rotation=rotation), hiding=Hiding(decoys=2)
    )
    plain = replace(hidden, hiding=Hiding())
    ratio = hidden.transmittance_of(MODES) / SETTINGS.transmittance_of(MODES)
    once = plain.transmittance_of(MODES) / SETTINGS.transmittance_of(MODES)
    assert ratio == pytest.approx(once**3)


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network("few-rows")


@pytest.fixture(scope="module")
def parts() -> tuple[LabelledImages, LabelledImages]:
    found = load_test_images()
    inputs, store = slice(0, 4000, 40), slice(1, 10000, 5)
    return (
        LabelledImages(found.images[inputs], found.labels[inputs]),
        LabelledImages(found.images[store], found.labels[store]),
    )


OPTICS = replace(
    SETTINGS,
    light=replace(SETTINGS.light, mean_photons=4.0),
    receiver=CloneReceiver(2.0, 1.0, IDEAL_HOMODYNE),
    verifier=IDEAL_HOMODYNE,
    channel=replace(SETTINGS.channel, loss_db=0.0, technical_noise=0.0),
)


def session_of(
    network: Network, settings: SessionSettings, store: LabelledImages, link: Link | None = None
) -> Session:
    collection: Decoys | PublicReturn
    if settings.hiding.decoys:
        collection = Decoys(store, settings.hiding.decoys, decoy_key_of_seed(0))
    else:
        collection = PublicReturn(store.images, network.sizes, None, settings.hiding)
    return Session(network, settings, link or ModeLink(settings), collection=collection)


@pytest.mark.parametrize("hiding", [Hiding(decoys=3), Hiding(return_modes=50)])
def test_an_honest_client_that_hides_is_accepted(
    network: Network, parts: tuple[LabelledImages, LabelledImages], hiding: Hiding
) -> None:
    images, store = parts
    settings = replace(OPTICS, hiding=hiding)
    session = session_of(network, settings, store)
    few = images.images[:30] if hiding.decoys else images.images[:4]
    for _ in session.run(few):
        pass
    verdict = session.verdict(figures=False)
    assert verdict.accepted, verdict.reason
    shapes = session.server.shapes
    loud = sum(shape.rows * shape.loud_modes for shape in shapes)
    noise = loud / sum(shape.rows * shape.modes for shape in shapes)
    assert verdict.excess_noise is not None
    assert verdict.excess_noise_standard_error is not None
    off = verdict.excess_noise - settings.receiver.returned_noise * noise
    assert abs(off) < 4.0 * verdict.excess_noise_standard_error


def test_the_server_has_to_accept_as_much_from_a_client_that_spends_it_on_weights(
    network: Network, parts: tuple[LabelledImages, LabelledImages]
) -> None:
    # Four modes cloned per row for weights look like one input and three decoys: that is the price.
    images, store = parts
    settings = replace(OPTICS, hiding=Hiding(decoys=3))
    plain = replace(settings, hiding=Hiding())
    mounted = CloneMoreModes(4).mount(network, plain)
    thief = session_of(network, settings, store, mounted.link)
    for _ in thief.run(images.images[:10]):
        pass
    assert thief.verdict(figures=False).accepted
    watched = Session(network, plain, mounted.link)
    for _ in watched.run(images.images[:10]):
        pass
    assert not watched.verdict(figures=False).accepted


def test_accuracy_is_that_of_a_client_without_decoys(
    network: Network, parts: tuple[LabelledImages, LabelledImages]
) -> None:
    images, store = parts
    measured = replace(OPTICS, sampling=Sampling.MEASURED)
    values = []
    for hiding in (Hiding(), Hiding(decoys=3)):
        settings = replace(measured, hiding=hiding)
        session = (
            session_of(network, settings, store)
            if hiding.decoys
            else Session(network, settings, ModeLink(settings))
        )
        (batch,) = session.run(images.images, batch_images=4096)
        values.append(batch)
    right = [np.mean(batch.classes == images.labels) for batch in values]
    assert min(right) > 0.9
    # First layer: the same signal to noise, up to what Im S leaves out.
    exact = (unit_norm(images.images) @ unit_rms(network.layers[0]).T).astype(np.float64)
    quality = []
    for batch in values:
        slope = np.vdot(exact, batch.measured[0]) / np.vdot(exact, exact)
        quality.append(slope**2 / np.var(batch.measured[0] - slope * exact))
    assert quality[1] == pytest.approx(quality[0], rel=0.03)


def test_decoys_travel_as_the_input_does(network: Network) -> None:
    # With next to no noise a decoy's activations are those that the network makes of the picture.
    found = load_test_images()
    store = LabelledImages(found.images[1::5], found.labels[1::5])
    images = found.images[:40]
    decoys = Decoys(store, 3, decoy_key_of_seed(0))
    bright = replace(OPTICS, sampling=Sampling.MEASURED, hiding=Hiding(3))
    client = Client(network.sizes, images, collection=decoys)
    weights = 1e3 * unit_rms(network.layers[0])
    light = LayerLight(0, weights, None, 4)
    client.receive(ModeLink(bright).exchange(light, client.coefficients()).measured)
    travelling = client._activations
    exact = np.maximum(unit_norm(decoys.inputs(images).reshape(-1, 784)) @ weights.T, 0.0)
    exact = exact.reshape(travelling.shape)
    for place in range(4):
        for ours, theirs in zip(travelling[:, place], exact[:, place], strict=True):
            overlap = np.vdot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs)
            assert overlap > 0.97


@pytest.mark.parametrize("settings", [SETTINGS, MISMATCHED], ids=["matched", "mismatched"])
def test_what_returns_of_a_public_subspace_does_not_depend_on_the_input(
    settings: SessionSettings,
) -> None:
    # All that returns is a channel built from the projector; it is the same for any two inputs, so
    # for any state that is sent. A clone of the input's own mode is another for each.
    found = load_test_images()
    public = PublicReturn(found.images[1000:2000], (784, 10), None, Hiding(return_modes=50))
    clients = [Client((784, 10), image[None], collection=public) for image in found.images[:2]]
    modes = [client.coefficients()[0].view(np.complex64) for client in clients]
    one, other = (each.T @ each.conj() for each in modes)
    assert np.abs(one - other).max() < 1e-5
    assert np.abs(modes[0] - modes[1]).max() > 0.1
    plain = [Client((784, 10), image[None]).coefficients()[0] for image in found.images[:2]]
    assert np.abs(plain[0] - plain[1]).max() > 0.1


@pytest.mark.parametrize("bright", [0.0, 30.0], ids=["vacuum", "coherent"])
def test_drawn_light_has_one_law_for_two_inputs(bright: float) -> None:
    # Three public modes of four, mismatched: light along one input or the other returns alike.
    pictures = np.random.default_rng(0).random((50, 2 * MODES)).astype(np.float32)
    public = PublicReturn(pictures, (2 * MODES, 10), None, Hiding(return_modes=3))
    inputs = np.eye(2 * MODES, dtype=np.float32)[[0, 3]]
    sent = np.tile(np.float32(bright) * pictures[0], (ROWS // 2, 1))
    light = LayerLight(0, sent, None, 3)
    seen = []
    for row in inputs:
        client = Client((2 * MODES, 10), row[None], collection=public)
        exchange = ModeLink(MISMATCHED).exchange(light, client.coefficients())
        ((read, cosine),) = [(one.measured.copy(), one.cosine[:, 0]) for one in exchange.returned]
        seen.append((read[cosine == 1.0], read[cosine == 0.0]))
    for one, other in zip(*seen, strict=True):
        count = min(len(one), len(other))
        deviation = (one.mean(axis=0) - other.mean(axis=0)) / np.sqrt(2.0 * one.var(axis=0) / count)
        assert np.abs(deviation).max() < 5.0
        wanted = np.cov(one.T)
        scatter = np.sqrt(4.0 * np.outer(np.diag(wanted), np.diag(wanted)) / count)
        assert (np.abs(np.cov(other.T) - wanted) < 5.0 * scatter).all()


def test_values_are_those_of_the_projected_input_with_the_noise_of_one_mode() -> None:
    found = load_test_images()
    hiding, sizes = Hiding(return_modes=50, hidden_return_modes=2), (784, 4000, 10)
    public = PublicReturn(found.images[1000:2000], sizes, None, hiding)
    image = found.images[:1]
    weights = np.random.default_rng(1).standard_normal((4000, 784)).astype(np.float32)
    settings = replace(OPTICS, sampling=Sampling.MEASURED, hiding=hiding)
    client = Client(sizes, image, collection=public)
    exchange = ModeLink(settings).exchange(LayerLight(0, weights, None, 50), client.coefficients())
    values = client.receive(exchange.measured)[0]
    seen = projected(image, public.basis(0)[0])[0]
    wanted = settings.receiver.amplitude_gain * (weights @ seen)
    power = float(seen @ seen)
    assert 0.85 < power < 1.0
    left = values - wanted
    assert np.mean(left) == pytest.approx(0.0, abs=5.0 * np.std(left) / np.sqrt(4000))
    # Relative scatter of a variance of 4000 values: 2.2 %.
    noise = settings.receiver.measured_noise * power
    assert np.var(left) == pytest.approx(noise, rel=0.11)
    with pytest.raises(DatasetError, match="pictures"):
        PublicReturn(found.images[:5, :10], sizes, None, hiding)


def test_hidden_layers_return_all_modes_or_flat_and_random_ones() -> None:
    pictures = np.random.default_rng(0).random((50, 16)).astype(np.float32)
    whole = PublicReturn(pictures, (16, 12, 10), None, Hiding(return_modes=3))
    assert [len(whole.basis(layer)[0]) for layer in (0, 1)] == [3, 6]
    few = PublicReturn(pictures, (16, 12, 10), None, Hiding(return_modes=3, hidden_return_modes=4))
    (basis,) = few.basis(1)
    assert np.allclose(basis @ basis.conj().T, np.eye(4), atol=1e-5)
    flat = np.ones(12, np.float32).view(np.complex64) / np.sqrt(12.0)
    assert np.linalg.norm(basis.conj() @ flat) == pytest.approx(1.0, abs=1e-5)


def test_several_modes_are_refused_where_nothing_collects_them(network: Network) -> None:
    with pytest.raises(SettingError, match="collection"):
        Session(network, replace(OPTICS, hiding=Hiding(3)), ModeLink(OPTICS))
    with pytest.raises(SettingError, match="rotation"):
        replace(
            OPTICS,
            hiding=Hiding(return_modes=5),
            channel=replace(OPTICS.channel, rotation=Rotation(0.1)),
        )


def test_the_planner_counts_the_noise_of_decoys() -> None:
    layers = tuple(LayerShape(rows, 392, 784, clones=4) for rows in (784, 10))
    conditions = Conditions(layers, OPTICS.assumptions, 0.0, 0.0, IDEAL_HOMODYNE, IDEAL_HOMODYNE)
    found = conditions.leakage(1.0128, 392, 8.91)
    assert found.excess_noise == pytest.approx(4.0 * (2.0 - 2.0 / 1.0128) / 392.0)
    assert found.weights_bits_per_real == pytest.approx(0.0126, abs=5e-5)
    with pytest.raises(SettingError, match="decoys"):
        replace(conditions, rotation=Rotation(0.1))
