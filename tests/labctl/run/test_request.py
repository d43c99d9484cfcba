"""What is asked of a run: each kind has the fields that it uses, and settings follow from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.data import shipped_station_path
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.leakage import Trust
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.rotation import Rotation
from labctl.protocols.settings import Channel, Light
from labctl.run.inference import run_inference
from labctl.run.request import BenchRun, LinkLevel, ModeRun
from labctl.station import Station
from labctl.units import db_to_ratio

NETWORK = Network((np.eye(3, 8, dtype=np.float32) + np.float32(0.1),), "request", {})
IMAGES = LabelledImages(np.ones((2, 8), np.float32), np.zeros(2, np.uint8))
COMMON: dict[str, Any] = {"network": NETWORK, "images": IMAGES, "runs": Path("runs")}
OF_A_BENCH = {"station", "calibrations", "gain", "stale", "effort"}
OF_A_MODE_LINK = {"channel", "receiver", "verifier", "oscillator"}


def test_a_run_needs_no_argument_that_it_does_not_use() -> None:
    assert ModeRun(**COMMON).link is LinkLevel.MODE
    bench = BenchRun(**COMMON, station=Path("s.toml"), calibrations=Path("c"))
    assert bench.link is LinkLevel.BENCH
    of_mode = {field.name for field in fields(ModeRun)}
    of_bench = {field.name for field in fields(BenchRun)}
    assert of_mode - of_bench == OF_A_MODE_LINK
    assert of_bench - of_mode == OF_A_BENCH


@pytest.mark.parametrize("name", sorted(OF_A_BENCH))
def test_a_mode_level_run_takes_nothing_of_a_bench(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        ModeRun(**{**COMMON, name: 1})


@pytest.mark.parametrize("name", sorted(OF_A_MODE_LINK))
def test_a_run_on_a_bench_takes_nothing_of_a_mode_level_link(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        BenchRun(**{**COMMON, "station": Path("s"), "calibrations": Path("c"), name: 1})


def test_nothing_is_trusted_unless_it_is_said() -> None:
    assumed = ModeRun(**COMMON).settings.assumptions
    assert (assumed.loss, assumed.technical_noise) == (Trust.UNTRUSTED, Trust.UNTRUSTED)


def test_a_mode_level_run_s_settings_are_its_own() -> None:
    channel = Channel(0.5, 0.01, Rotation(0.001), 4, CloneMismatch(0.01, 0.02))
    receiver = CloneReceiver(2.0, 1.2, Homodyne(0.8, 0.1))
    run = ModeRun(
        **COMMON,
        light=Light(3.0),
        channel=channel,
        receiver=receiver,
        verifier=Homodyne(0.7, 0.2),
        seed=5,
    )
    found = run.settings
    assert (found.light.mean_photons, found.receiver, found.seed) == (3.0, receiver, 5)
    assert (found.channel.loss_db, found.channel.technical_noise, found.channel.block_modes) == (
        0.5,
        0.01,
        4,
    )
    assert (found.channel.rotation, found.channel.clone_mismatch) == (
        channel.rotation,
        channel.mismatch,
    )
    assert found.verifier == Homodyne(0.7, 0.2)
    assert ModeRun(**COMMON).settings.channel.clone_mismatch == MATCHED_CLONE


def test_a_bench_s_settings_are_those_of_its_hardware() -> None:
    table = Station.read(shipped_station_path()).table
    server, client = table.server.constants, table.client.constants
    run = BenchRun(**COMMON, station=Path("s"), calibrations=Path("c"), gain=1.7, light=Light(2.0))
    found = run.settings(server, client)
    assert db_to_ratio(-found.channel.loss_db) == pytest.approx(server.transmittance)
    assert found.receiver == CloneReceiver(
        1.7, client.emission_factor, Homodyne(client.efficiency, client.electronic_noise)
    )
    assert found.verifier == Homodyne(server.efficiency, 0.0)
    assert found.channel.block_modes == client.block_modes
    assert (found.light.mean_photons, found.channel.technical_noise) == (2.0, 0.0)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (lambda: {"light": Light(0.0)}, "mean_photons = 0.0"),
        (lambda: {"channel": Channel(loss_db=-1.0)}, "loss_db = -1.0"),
        (lambda: {"channel": Channel(technical_noise=-1.0)}, "technical_noise = -1.0"),
        (lambda: {"channel": Channel(block_modes=0)}, "block_modes = 0"),
        (lambda: {"seed": -1}, "seed = -1"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_sent(
    changed: Callable[[], dict[str, Any]], told: str, tmp_path: Path
) -> None:
    run = ModeRun(**{**COMMON, "runs": tmp_path / "runs"})
    with pytest.raises(SettingError, match=told):
        run_inference(replace(run, **changed()))
    assert not (tmp_path / "runs").exists()


def test_a_gain_that_does_not_amplify_is_refused_on_a_bench_before_it_is_opened() -> None:
    run = BenchRun(**COMMON, station=shipped_station_path(), calibrations=Path("c"), gain=1.0)
    with pytest.raises(SettingError, match=r"gain = 1\.0: must be above 1"):
        run_inference(run)
