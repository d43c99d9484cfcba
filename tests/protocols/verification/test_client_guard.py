"""The client's power monitor: agreed light passes, brighter light is refused by name."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data.models import SHIPPED_NETWORKS, Network, load_network
from labctl.errors import SettingError, VerificationError
from labctl.protocols.encoding import Blocks
from labctl.protocols.link import Exchange
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.server import Server
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling
from labctl.protocols.verification.client_guard import ClientGuard, PowerLimit, PowerMonitor
from labctl.studies.attacks.false_alarms import HONEST

BLOCKS = Blocks.of(20, 8)
LIMIT = PowerLimit(4.0, peak_ratio=10.0)


def flat(photons: float, rows: int = 50) -> NDArray[np.float64]:
    return np.tile(photons * np.array(BLOCKS.sizes, np.float64), (rows, 1))


def guard(limit: PowerLimit = LIMIT, monitor: PowerMonitor | None = None) -> ClientGuard:
    return ClientGuard(limit, monitor or PowerMonitor(), seed=1)


def look_often(watching: ClientGuard, arriving: NDArray[np.float64]) -> None:
    for _ in range(100):
        watching.check(0, BLOCKS, arriving, frames=10)


def test_agreed_light_passes_and_brighter_light_is_refused_with_its_power() -> None:
    guard().check(0, BLOCKS, flat(4.0), frames=100)
    with pytest.raises(
        VerificationError, match=r"layer 1 .* 4\.[3-6]\d* photons per mode, 4 are allowed"
    ):
        guard().check(0, BLOCKS, flat(4.5), frames=1000)


def test_one_bright_block_is_refused_while_the_mean_is_kept() -> None:
    """A probe: the photons of fifty rows on one block of one row."""
    arriving = flat(3.0)
    arriving[7, 1] += 700.0
    with pytest.raises(VerificationError, match=r"row 8, block 2 of layer 1"):
        guard(monitor=PowerMonitor(share=0.1)).check(0, BLOCKS, arriving, frames=10)
    generous = PowerLimit(4.0, peak_ratio=50.0)
    guard(generous, PowerMonitor(share=0.1)).check(0, BLOCKS, arriving, frames=10)


def test_a_little_too_much_light_is_refused_in_the_end() -> None:
    """12 % more: no single frame shows it, a hundred do."""
    watching = guard()
    watching.check(0, BLOCKS, flat(4.5))
    with pytest.raises(VerificationError, match="4 are allowed"):
        look_often(watching, flat(4.5))


@pytest.mark.parametrize("uncertainty", [0.0, 0.05])
def test_light_at_the_limit_is_refused_no_more_often_than_stated(uncertainty: float) -> None:
    """600 sessions of three looks at two layers at 5 %; the monitor's error drawn for each."""
    random = np.random.default_rng(2)
    limit = PowerLimit(4.0, false_alarm_probability=0.05)
    monitor = PowerMonitor(0.05, 0.8, 0.1, uncertainty)
    refused = 0
    for seed in range(600):
        true = replace(monitor, share=monitor.share * (1.0 + uncertainty * random.normal()))
        watching = ClientGuard(limit, monitor, seed=seed)
        try:
            for layer in (0, 1, 0, 1, 0, 1):
                dark = monitor.dark_counts_per_mode * np.array(BLOCKS.sizes)
                counts = random.poisson(true.sensitivity * flat(4.0, 20) + dark)
                watching.judge(layer, BLOCKS, counts)
        except VerificationError:
            refused += 1
    assert refused / 600 <= 0.05 + 4.0 * math.sqrt(0.05 * 0.95 / 600)
    assert refused > 0 or uncertainty > 0.0


@pytest.mark.parametrize("photons", [math.nan, math.inf, -1.0])
def test_powers_that_cannot_be_are_refused(photons: float) -> None:
    with pytest.raises(VerificationError, match="finite"):
        guard().check(0, BLOCKS, flat(photons))


def test_blinding_light_is_refused() -> None:
    with pytest.raises(VerificationError):
        guard().check(0, BLOCKS, flat(1e30))


def test_a_link_without_power_monitor_is_named() -> None:
    with pytest.raises(SettingError, match="power monitor"):
        guard().check(0, BLOCKS, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("mean_photons", 0.0), ("peak_ratio", 0.5), ("false_alarm_probability", 1.0)],
)
def test_limits_out_of_range_are_refused(name: str, value: float) -> None:
    values = {"mean_photons": 4.0, "peak_ratio": 2.0, "false_alarm_probability": 0.1, name: value}
    with pytest.raises(SettingError, match=name):
        PowerLimit(**values)


@pytest.mark.parametrize("name", ["share", "efficiency"])
def test_monitors_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        replace(PowerMonitor(), **{name: 0.0})
    with pytest.raises(SettingError, match="dark_counts_per_mode"):
        PowerMonitor(dark_counts_per_mode=-1.0)


def test_no_shipped_network_has_a_brighter_mode_than_the_limit_allows() -> None:
    """A mode carries two weights, in any order: it is at most as bright as the brighter one."""
    brightest: dict[str, float] = {}
    for name in SHIPPED_NETWORKS:
        for layer in load_network(name).layers:
            power = layer.astype(np.float64) ** 2
            brightest[name] = max(brightest.get(name, 0.0), power.max() / power.mean())
    assert max(brightest.values()) < PowerLimit(4.0).peak_ratio
    assert brightest["noise-aware"] == pytest.approx(64.0, rel=0.01)
    assert brightest["pruned"] == pytest.approx(109.0, rel=0.01)


# In a session.


def session(mean_photons: float, watching: ClientGuard) -> Session:
    random = np.random.default_rng(3)
    layers = [random.normal(size=shape).astype(np.float32) for shape in ((16, 30), (10, 16))]
    network = Network(tuple(layers), "random", {})
    settings = replace(
        HONEST, sampling=Sampling.MEASURED, channel=replace(HONEST.channel, block_modes=8)
    )
    server = Server(network, mean_photons, 8)
    return Session(network, settings, ModeLink(settings), server=server, guard=watching)


def test_a_session_with_agreed_light_runs_and_one_with_bright_light_stops() -> None:
    images = np.random.default_rng(4).random((20, 30), dtype=np.float32)
    limit = PowerLimit(HONEST.light.mean_photons * HONEST.leg_transmittance)
    assert len(list(session(HONEST.light.mean_photons, guard(limit)).run(images))) == 1
    with pytest.raises(VerificationError, match="refused"):
        list(session(2.0 * HONEST.light.mean_photons, guard(limit)).run(images))


def test_the_link_tells_what_arrives() -> None:
    """Mean photons behind half of the loss, to float32 precision, over all modes of a layer."""
    link = ModeLink(replace(HONEST, sampling=Sampling.MEASURED))
    random = np.random.default_rng(5)
    layers = (random.normal(size=(16, 30)).astype(np.float32),)
    light = Server(Network(layers, "random", {}), 4.0, 8).light(0)
    arriving = link.exchange(light, np.zeros((1, 30), np.float32)).arriving
    assert arriving is not None
    assert arriving.shape == (16, 2)
    expected = 4.0 * 16 * 15 * 10.0 ** (-HONEST.channel.loss_db / 20.0)
    assert float(arriving.sum()) == pytest.approx(expected, rel=1e-5)


def test_links_need_not_measure_what_arrives() -> None:
    assert Exchange(np.zeros((1, 1), np.float32), ()).arriving is None
