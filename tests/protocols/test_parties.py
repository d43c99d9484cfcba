"""Who holds what: the client never the weights, the server never the images; both do the job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sessions import ideal_session, images_of, network

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.client import Client
from labctl.protocols.client.machine import ClientMachine
from labctl.protocols.leakage import LayerShape
from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.messages import AbortCode, Done, Message
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import BEST_GAIN
from labctl.protocols.server import Server
from labctl.protocols.server.machine import ServerMachine
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings

Floats = NDArray[np.float32]

BRIGHT = ideal_session(1e6, BEST_GAIN, seed=1)


def forward(network: Network, images: Floats) -> NDArray[np.float64]:
    """Return the logits of a plain ReLU network in double precision."""
    values = images.astype(np.float64)
    for weights in network.layers[:-1]:
        values = np.maximum(values @ weights.T.astype(np.float64), 0.0)
    return values @ network.layers[-1].T.astype(np.float64)


# What is in whose memory.


def arrays_in(thing: object, seen: set[int] | None = None) -> Iterator[NDArray[np.generic]]:
    """Yield every array reachable through attributes, slots, containers, and views' bases."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        yield thing
        inside: list[object] = [thing.base]
    elif isinstance(thing, dict):
        inside = [*thing.keys(), *thing.values()]
    elif isinstance(thing, (list, tuple, set, frozenset)):
        inside = list(thing)
    else:
        inside = [getattr(thing, "__dict__", None)]
        slots = getattr(type(thing), "__slots__", ())
        inside += [getattr(thing, name, None) for name in slots if isinstance(name, str)]
    for entry in inside:
        yield from arrays_in(entry, seen)


def holds(thing: object, secrets: Floats) -> bool:
    """Return whether a reachable array has a row (or column) along any of the secret vectors."""
    length = secrets.shape[1]
    wanted = secrets / np.linalg.norm(secrets, axis=1, keepdims=True)
    for array in arrays_in(thing):
        if array.dtype.kind not in "fiu" or array.ndim == 0:
            continue
        for view in (array, array.T):
            rows = np.asarray(view, np.float64).reshape(-1, view.shape[-1])[:, :length]
            if rows.shape[1] < length:
                continue
            norms = np.linalg.norm(rows, axis=1)
            rows = rows[norms > 0.0] / norms[norms > 0.0, None]
            if np.any(np.abs(rows @ wanted.T) > 0.99):
                return True
    return False


@dataclass
class _Locker:
    content: object


def test_the_search_finds_what_is_hidden() -> None:
    """The check of the checks: scaled, padded, transposed, nested or sliced secrets are found."""
    secret = images_of(3, 7)
    padded = np.pad(-2.0 * secret, [(0, 0), (0, 1)])
    assert holds(_Locker({"deep": [(_Locker(padded),)]}), secret)
    assert holds(_Locker(np.ascontiguousarray(secret.T)), secret)
    assert holds(_Locker(np.concatenate([images_of(5, 7, 9), secret])[:2]), secret)
    assert not holds(_Locker(images_of(40, 7, 8) - 0.5), secret - 0.5)


def played(
    settings: SessionSettings,
) -> tuple[ClientMachine, ServerMachine, ModeLink, Network, Floats]:
    """Play a batch by hand, message by message; what the client found is still with it."""
    net, images = network(21, 16, 10), images_of(6, 21)
    server, client = ServerMachine(Server(net, 4.0), settings), ClientMachine()
    link = ModeLink(settings)
    client.receive(answered(server.receive(client.hello())))
    message = answered(server.receive(client.begin(images)))
    while not isinstance(message, Done):
        server.receive(answered(client.receive(message)))
        assert isinstance(server.light, LayerLight)
        exchange = link.exchange(server.light, client.setting)
        client.arrived(exchange.arriving)
        for returned in exchange.returned:
            server.returned(returned)
        in_the_middle(client, server, net, images)
        message = answered(server.receive(client.measured(exchange.measured)))
    client.receive(message)
    return client, server, link, net, images


def answered(message: Message | None) -> Message:
    assert message is not None
    return message


def in_the_middle(
    client: ClientMachine, server: ServerMachine, net: Network, images: Floats
) -> None:
    """Check who holds what while a layer is under way."""
    assert not any(holds(client, weights) for weights in net.layers)
    assert not holds(server, images)


@pytest.mark.parametrize("sampling", Sampling)
def test_each_party_holds_its_own_and_not_the_other_s(sampling: Sampling) -> None:
    client, server, link, net, images = played(replace(BRIGHT, sampling=sampling))
    assert holds(server, net.layers[0])
    for weights in net.layers:
        assert not holds(client, weights)
        assert not holds(link, weights)
    assert not holds(server, images)
    assert not holds(link, images)


def test_the_server_s_memory_does_not_grow_with_the_images() -> None:
    net = network(9, 8, 3)
    session = Session(net, BRIGHT, ModeLink(BRIGHT))
    sizes = []
    for _ in session.run(images_of(20, 9), batch_images=2):
        for part in session.server.evidence:
            part.take_sums()
        sizes.append(sum(array.nbytes for array in arrays_in(session.server)))
    assert len(set(sizes)) == 1


def test_a_session_keeps_no_image_after_its_run() -> None:
    net, images = network(21, 16, 10), images_of(6, 21)
    session = Session(net, BRIGHT, ModeLink(BRIGHT))
    assert len(list(session.run(images))) == 1
    session.verdict(figures=False)
    assert not holds(session, images)
    beside = {name: value for name, value in vars(session).items() if name != "server_half"}
    assert not any(holds(beside, weights) for weights in net.layers)
    assert not any(holds(session.client_half, weights) for weights in net.layers)
    assert holds(session.server_half, net.layers[0])


def test_the_client_s_memory_is_what_it_measured_and_nothing_once_that_is_handed_out() -> None:
    client, _, _, _, images = played(BRIGHT)
    # 16 and 10 measured values of each of 6 images, and its class.
    assert sum(array.size for array in arrays_in(client)) == 6 * (16 + 10 + 1)
    assert not holds(client, images)
    client.answers()
    assert not list(arrays_in(client))


def test_an_aborted_client_holds_nothing_of_its_images() -> None:
    client = ClientMachine()
    server = ServerMachine(Server(network(21, 16, 10), 4.0), BRIGHT)
    client.receive(answered(server.receive(client.hello())))
    images = images_of(6, 21)
    client.receive(answered(server.receive(client.begin(images))))
    assert holds(client, images)
    client.abort(AbortCode.OPERATOR, "enough")
    assert not holds(client, images)


def test_the_client_is_told_sizes_alone() -> None:
    client = Client((3, 2), images_of(4, 3))
    assert set(map(type, vars(client)["_sizes"])) == {int}


# Doing the job.


@pytest.mark.parametrize("sampling", Sampling)
@pytest.mark.parametrize(
    "sizes", [(784, 100, 10), (7, 5, 3), (9, 8, 7, 6, 5), (1, 3, 2), (5, 2, 4), (12, 4)]
)
def test_bright_light_gives_the_classes_of_the_plain_network(
    sizes: tuple[int, ...], sampling: Sampling
) -> None:
    """F is 1e6: only images whose two best logits are within 2 % of their spread may differ."""
    net, images = network(*sizes), images_of(60, sizes[0])
    logits = forward(net, images)
    best = np.sort(logits, axis=1)
    decided = best[:, -1] - best[:, -2] > 0.02 * np.abs(logits).max(axis=1)
    assert np.count_nonzero(decided) >= 30
    settings = replace(BRIGHT, sampling=sampling)
    batches = list(Session(net, settings, ModeLink(settings)).run(images))
    classes = np.concatenate([batch.classes for batch in batches])
    assert np.array_equal(classes[decided], logits.argmax(axis=1)[decided])


def test_measured_values_are_the_scaled_inner_products() -> None:
    """Layer 1 at mu = 1e6: sqrt((G - 1) 2 mu) w.x of unit-RMS weights and unit-norm images."""
    net, images = network(7, 5, 3), images_of(4, 7)
    (batch,) = Session(net, BRIGHT, ModeLink(BRIGHT)).run(images)
    weights = net.layers[0] / np.sqrt(np.mean(net.layers[0].astype(float) ** 2))
    inputs = images / np.linalg.norm(images, axis=1, keepdims=True)
    expected = np.sqrt((BEST_GAIN - 1.0) * 2e6) * inputs @ weights.T
    # Ten standard deviations of the receiver's noise, 2.1 SNU at this gain.
    noise = np.sqrt((2 * BEST_GAIN**2 - 3 * BEST_GAIN + 2) / BEST_GAIN)
    assert np.abs(batch.measured[0] - expected).max() < 10.0 * noise
    assert np.abs(expected).max() > 500.0 * noise


def test_rectified_values_and_no_others_go_on_to_the_next_layer() -> None:
    client = Client((2, 3, 2), images_of(1, 2))
    client.receive(np.array([[3.0, -5.0, 4.0]], np.float32))
    assert np.allclose(client.coefficients(), [[0.6, 0.0, 0.8, 0.0]])
    client.receive(np.array([[-7.0, -2.0]], np.float32))
    assert client.classes().tolist() == [1]


def test_the_norm_of_an_image_does_not_matter() -> None:
    images = images_of(3, 5)
    dim, bright = Client((5, 2), images * np.float32(1e-20)), Client((5, 2), images)
    assert np.allclose(dim.coefficients(), bright.coefficients(), atol=1e-6)


@pytest.mark.parametrize("sampling", Sampling)
def test_an_all_zero_image_is_classified_and_spoils_no_other(sampling: Sampling) -> None:
    net, images = network(7, 5, 3), images_of(3, 7)
    images[1] = 0.0
    settings = replace(BRIGHT, sampling=sampling)
    (batch,) = Session(net, settings, ModeLink(settings)).run(images)
    assert batch.classes[1] in range(3)
    assert np.isfinite(batch.measured[0]).all()
    assert np.abs(batch.measured[0][1]).max() < 10.0
    expected = forward(net, images).argmax(axis=1)
    assert batch.classes[[0, 2]].tolist() == expected[[0, 2]].tolist()


def test_activations_that_all_vanish_do_not_stop_a_session() -> None:
    client = Client((2, 2, 2), np.ones((1, 2), np.float32))
    client.receive(np.array([[-1.0, -2.0]], np.float32))
    assert not client.coefficients().any()


# The server's public face.


def test_shapes_are_public() -> None:
    assert Server(network(7, 5, 3), 1.0).shapes == (
        LayerShape(rows=5, modes=4, inputs=7),
        LayerShape(rows=3, modes=3, inputs=5),
    )


def test_every_query_gets_the_same_light() -> None:
    server = Server(network(7, 5, 3), 1.0)
    assert server.light(0) is server.light(0)
    assert float(np.mean(server.light(0).quadratures[:, :7].astype(float) ** 2)) == pytest.approx(
        2.0
    )


# Refusals.


@pytest.mark.parametrize("shape", [(2, 6), (2, 8), (7,), (2, 7, 1)])
def test_images_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match="the network has 7 inputs"):
        Client((7, 3), np.ones(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(SettingError, match="finite"):
        Client((2, 3), np.array([[1.0, value]], np.float32))


def test_more_classes_than_a_byte_counts_are_refused() -> None:
    """Class 300 must not come out as 44."""
    assert Client((2, 256), images_of(1, 2)).coefficients().shape == (1, 2)
    with pytest.raises(SettingError, match="at most 256"):
        Client((2, 257), images_of(1, 2))


@pytest.mark.parametrize("shape", [(2, 3), (1, 4), (2,)])
def test_values_of_another_shape_are_refused_and_change_nothing(shape: tuple[int, ...]) -> None:
    client = Client((3, 4, 2), images_of(2, 3))
    before = client.coefficients()
    with pytest.raises(SettingError, match="4 rows"):
        client.receive(np.zeros(shape, np.float32))
    assert np.array_equal(client.coefficients(), before)
    client.receive(np.ones((2, 4), np.float32))


def test_no_values_are_taken_after_the_last_layer() -> None:
    client = Client((3, 2), images_of(1, 3))
    client.receive(np.ones((1, 2), np.float32))
    with pytest.raises(SettingError, match="last layer"):
        client.receive(np.ones((1, 2), np.float32))


def test_returned_light_of_another_shape_is_refused() -> None:
    server = Server(network(7, 5, 3), 1.0)
    ones = np.ones((5, 1), np.float32)
    with pytest.raises(SettingError, match=r"\(5, 4\)"):
        server.check(0, ReturnedLight(np.zeros((5, 3), np.float32), ones, ones))


def test_a_batch_holds_at_least_one_image() -> None:
    session = Session(network(3, 2), BRIGHT, ModeLink(BRIGHT))
    with pytest.raises(SettingError, match="batch_images"):
        list(session.run(images_of(1, 3), batch_images=0))
