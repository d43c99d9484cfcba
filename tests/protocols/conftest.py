"""A session over the shipped bench, whose rotation unit is made another: for blocks, or for turns.

Its first weights are compared with what is measured by the closed form of a straight line.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data import shipped_bench_path, shipped_station_path
from labctl.data.models import Network
from labctl.instruments.equipment import equipment_of
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.hiding.collection import Collection
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.rotation import Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.protocols.verification.verdict import VerificationReport
from labctl.station import Station
from labctl.units import ratio_to_db

Floats = NDArray[np.float32]


def _station(folder: Path, rotation: Rotation, *, block: int | None = None, turns: int = 1) -> Path:
    elements = {
        "turns": turns,
        "loss_db_per_mode": rotation.loss_db_per_mode,
        "coupler_error_rad": rotation.coupler_error_rad,
        "phase_error_rad": rotation.phase_error_rad,
        **({} if block is None else {"block_modes": block}),
    }
    lines = []
    for line in shipped_bench_path().read_text(encoding="utf-8").splitlines():
        if line.partition("=")[0].strip() not in elements:
            lines.append(line)
        if line == "[rotation]":
            lines.extend(f"{key} = {value}" for key, value in elements.items())
    (folder / "demo_bench.toml").write_text("\n".join(lines), encoding="utf-8")
    station = shipped_station_path().read_text(encoding="utf-8")
    copy = folder / "demo.toml"
    copy.write_text(station.replace("[frame]", f"[frame]\nturns = {turns}"), encoding="utf-8")
    return copy


def _settings(
    station: Station, mean_photons: float, gain: float, rotation: Rotation
) -> SessionSettings:
    """Return settings of the station's constants, loss and noise untrusted."""
    client, server = station.table.client.constants, station.table.server.constants
    homodyne = Homodyne(client.efficiency, client.electronic_noise)
    return SessionSettings(
        mean_photons=mean_photons,
        receiver=CloneReceiver(gain, client.emission_factor, homodyne),
        verifier=Homodyne(server.efficiency, 0.0),
        loss_db=-ratio_to_db(server.transmittance),
        technical_noise=0.0,
        assumptions=Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=5,
        verification=VerificationSettings(),
        rotation=rotation,
    )


def _run(
    station: Station,
    network: Network,
    agreed: SessionSettings,
    images: Floats,
    *,
    used: SessionSettings | None = None,
    collection: Collection | None = None,
) -> tuple[Floats, VerificationReport]:
    """Return the first layer's values of a session, and its verdict; a client may use others.

    Expected is what the station's constants say, with their uncertainty.
    """
    constants = station.table.server.constants
    link = BenchLink(equipment_of(station), agreed if used is None else used)
    session = Session(network, agreed, link, collection=collection)
    link.prepare(list(session.server.templates))
    measured = [batch.measured[0] for batch in session.run(images, batch_images=8)]
    expected = replace(
        session.expectation(),
        transmittance_uncertainty=constants.transmittance_uncertainty,
        excess_noise_uncertainty=constants.excess_noise_uncertainty,
    )
    return np.concatenate(measured), session.verdict(expected)


def _signal_to_noise(network: Network, images: Floats, measured: Floats) -> float:
    """F of measured values: squared slope over residual variance, for weights of unit RMS."""
    weights = network.layers[0].astype(np.float64)
    weights /= math.sqrt(float(np.mean(weights**2)))
    inputs = images.astype(np.float64)
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    x, y = (inputs @ weights.T).ravel(), measured.astype(np.float64).ravel()
    slope, offset = np.polyfit(x, y, 1)
    return float(slope**2 / np.var(y - slope * x - offset))


@pytest.fixture
def unit_station(tmp_path: Path) -> Callable[..., Path]:
    """`unit_station(rotation, block=None, turns=1)`: a copy of the shipped station with this unit.

    Returns the station file, beside which the bench file lies.
    """
    return partial(_station, tmp_path)


@pytest.fixture
def unit_settings() -> Callable[..., SessionSettings]:
    """`unit_settings(station, mean_photons, gain, rotation)`, of the station's constants."""
    return _settings


@pytest.fixture
def run_on_unit() -> Callable[..., tuple[Floats, VerificationReport]]:
    """`run_on_unit(station, network, agreed, images, used=None, collection=None)`: a session.

    Returns the first layer's values and the verdict. A client may use other settings than agreed.
    """
    return _run


@pytest.fixture
def first_layer_f() -> Callable[[Network, Floats, Floats], float]:
    """F of the first layer's values, given network and images."""
    return _signal_to_noise
