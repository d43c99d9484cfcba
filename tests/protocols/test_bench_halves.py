"""Over instruments each half knows its own equipment and secrets; the pairing alone both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest

from labctl.data import shipped_station_path
from labctl.data.models import Network
from labctl.errors import SettingError, SignalError
from labctl.instruments.capabilities import Trace
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.client.bench_receiver import BenchReceiver
from labctl.protocols.disguise import PLAIN
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, LayerShape, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.server.bench_sender import BenchSender
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.station import Station
from labctl.station.equipment import ClientEquipment, Equipment, ServerEquipment, equipment_of
from labctl.units import ratio_to_db

SIZES = (40, 24, 6)
IMAGES = 2


def network() -> Network:
    draw = np.random.default_rng(31)
    layers = [
        draw.uniform(-1.5, 1.5, shape).astype(np.float32)
        for shape in zip(SIZES[1:], SIZES[:-1], strict=True)
    ]
    return Network(tuple(layers), "halves", {})


def images() -> Floats:
    return np.random.default_rng(32).random((IMAGES, SIZES[0]), dtype=np.float32)


def settings_of(equipment: Equipment) -> SessionSettings:
    client, server = equipment.client.constants, equipment.server.constants
    homodyne = Homodyne(client.efficiency, client.electronic_noise)
    return SessionSettings(
        light=Light(4.0, PLAIN),
        channel=Channel(loss_db=-ratio_to_db(server.transmittance)),
        receiver=CloneReceiver(2.0, client.emission_factor, homodyne),
        verifier=Homodyne(server.efficiency, 0.0),
        assumptions=Assumptions(Trust.TRUSTED, Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=5,
    )


def reached(thing: object, seen: set[int]) -> Iterator[object]:
    """Yield all that can be reached but through an instrument or a station, which are one's own."""
    if id(thing) in seen or isinstance(thing, (Station, type)):
        return
    seen.add(id(thing))
    yield thing
    if isinstance(thing, dict):
        inside = list(thing.values())
    elif isinstance(thing, (list, tuple)):
        inside = list(thing)
    elif type(thing).__module__.startswith(("labctl.protocols", "labctl.dsp", "labctl.station.eq")):
        inside = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    else:
        inside = []
    for each in inside:
        yield from reached(each, seen)


def holds(thing: object, secrets: Floats) -> bool:
    """Tell whether an array that can be reached has a row that is along one of these vectors."""
    length = secrets.shape[1]
    wanted = secrets / np.linalg.norm(secrets, axis=1, keepdims=True)
    for array in reached(thing, set()):
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[1] < length:
            continue
        rows = np.ascontiguousarray(array[:, :length]).astype(np.float64)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0.0)
        if np.any(np.abs(rows @ wanted.T) > 0.99):
            return True
    return False


def own(equipment: ServerEquipment | ClientEquipment) -> dict[str, object]:
    """Return a party's instruments and constants by role, numbers left out."""
    found = {each.name: getattr(equipment, each.name) for each in fields(equipment)}
    plain = (int, float, type(None))
    return {name: value for name, value in found.items() if not isinstance(value, plain)}


def test_neither_half_reaches_the_other_s_equipment_or_secrets() -> None:
    net, inputs = network(), images()
    with Station.read(shipped_station_path()) as station:
        equipment = equipment_of(station)
        settings = settings_of(equipment)
        link = BenchLink(equipment, settings)
        session = Session(net, settings, link)
        link.prepare(list(session.server.templates))
        assert len(list(session.run(inputs))) == 1

        in_sender = {id(each) for each in reached(link.sender, set())}
        in_receiver = {id(each) for each in reached(link.receiver, set())}
        for role, part in own(equipment.client).items():
            assert id(part) in in_receiver, role
            assert id(part) not in in_sender, role
        for role, part in own(equipment.server).items():
            assert id(part) in in_sender, role
            assert id(part) not in in_receiver, role

        for weights in net.layers:
            assert not holds(link.receiver, weights)
        assert holds(link.sender, net.layers[0])
        assert not holds(link.sender, inputs)
        servers = ("sender", "_alignment")
        beside = {name: part for name, part in vars(link).items() if name not in servers}
        assert not any(holds(beside, weights) for weights in net.layers)


@pytest.fixture
def halves() -> Iterator[tuple[BenchSender, BenchReceiver]]:
    with Station.read(shipped_station_path()) as station:
        equipment = equipment_of(station)
        link = BenchLink(equipment, settings_of(equipment))
        yield link.sender, link.receiver


def test_what_was_not_found_out_is_not_used(
    halves: tuple[BenchSender, BenchReceiver],
) -> None:
    """A rotation needs the frame's arrival, values need a clock, a record needs shapes."""
    sender, receiver = halves
    with pytest.raises(SettingError, match="shapes have to be said first"):
        sender.longest()
    receiver.expect({0: LayerShape(rows=3, modes=4, inputs=8)})
    with pytest.raises(SettingError, match="found before a rotation is loaded"):
        receiver.load(0, np.ones((1, 8), np.float32))


def test_a_record_that_shows_no_shot_noise_tells_no_power(
    halves: tuple[BenchSender, BenchReceiver],
) -> None:
    """Steps beyond twice the noise that is seen; where nothing is seen, any step is."""
    _, receiver = halves
    with pytest.raises(SettingError, match="learnt before a power is found"):
        receiver.arriving_power_w(1.0)
    receiver.expect({0: LayerShape(rows=3, modes=4, inputs=8)})
    noise = np.random.default_rng(3).normal(0.0, 1e-3, 20_000)
    for step_v in (1e-2, 3e-3):
        coarse = (np.round(noise / step_v) * step_v).astype(np.float32)
        with pytest.raises(SignalError, match="arriving light is too bright to tell its power"):
            receiver.learn_dark(0, Trace(0.0, 1.0 / 160e6, coarse))
    for step_v in (1e-6, 5e-4):
        fine = (np.round(noise / step_v) * step_v).astype(np.float32)
        receiver.learn_dark(0, Trace(0.0, 1.0 / 160e6, fine))


def test_both_halves_lay_out_the_same_frames_by_themselves(
    halves: tuple[BenchSender, BenchReceiver],
) -> None:
    sender, receiver = halves
    shapes = {0: LayerShape(24, 20, 40), 1: LayerShape(6, 12, 24, block_modes=4)}
    for half in halves:
        half.expect(shapes)
    assert sender.layouts == receiver.layouts
    assert (sender.layouts[1].rows, sender.layouts[1].modes) == (18, 4)
    assert sender.longest() == receiver.longest() == 0
