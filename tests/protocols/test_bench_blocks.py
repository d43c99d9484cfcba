"""Blocks over instruments: a rotation unit built for blocks of eight modes, lossy and imperfect.

What the tests expect comes from closed forms and from the mode level, which share no code with the
light behind the wire.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data import shipped_bench_path, shipped_station_path
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.instruments.equipment import equipment_of
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne, TapReceiver
from labctl.protocols.rotation import Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.protocols.verification.verdict import VerificationReport
from labctl.station import Station
from labctl.units import ratio_to_db

Floats = NDArray[np.float32]

BLOCK = 8
ELEMENTS = Rotation(loss_db_per_mode=0.05, coupler_error_rad=0.02, phase_error_rad=0.02)
# 23 modes are blocks of 8, 8 and 7; 60 modes end with one of 4.
ROWS, INPUTS, IMAGES = 120, 45, 30


def network() -> Network:
    draw = np.random.default_rng(11)
    first = draw.uniform(-1.5, 1.5, (ROWS, INPUTS)).astype(np.float32)
    second = draw.uniform(-1.5, 1.5, (10, ROWS)).astype(np.float32)
    return Network((first, second), "small", {})


def some_images() -> Floats:
    """Some images, the last ten pixels of which are dark."""
    images = np.random.default_rng(12).random((IMAGES, INPUTS), dtype=np.float32)
    images[:, -10:] = 0.0
    return images


def station_for_blocks(folder: Path, rotation: Rotation) -> Path:
    """A copy of the shipped station whose rotation unit has these elements, in blocks of eight."""
    elements = {
        "block_modes": BLOCK,
        "loss_db_per_mode": rotation.loss_db_per_mode,
        "coupler_error_rad": rotation.coupler_error_rad,
        "phase_error_rad": rotation.phase_error_rad,
    }
    lines = []
    for line in shipped_bench_path().read_text(encoding="utf-8").splitlines():
        if line.partition("=")[0].strip() not in elements:
            lines.append(line)
        if line == "[rotation]":
            lines.extend(f"{key} = {value}" for key, value in elements.items())
    (folder / "demo_bench.toml").write_text("\n".join(lines), encoding="utf-8")
    copy = folder / "demo.toml"
    copy.write_text(shipped_station_path().read_text(encoding="utf-8"), encoding="utf-8")
    return copy


def settings_for(station: Station, rotation: Rotation, gain: float = 2.0) -> SessionSettings:
    client, server = station.table.client.constants, station.table.server.constants
    homodyne = Homodyne(client.efficiency, client.electronic_noise)
    return SessionSettings(
        mean_photons=4.0,
        receiver=CloneReceiver(gain, client.emission_factor, homodyne),
        verifier=Homodyne(server.efficiency, 0.0),
        loss_db=-ratio_to_db(server.transmittance),
        technical_noise=0.0,
        assumptions=Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=5,
        verification=VerificationSettings(),
        block_modes=BLOCK,
        rotation=rotation,
    )


def over_instruments(
    folder: Path, rotation: Rotation, *, agreed_gain: float = 2.0, gain: float = 2.0
) -> tuple[SessionSettings, Floats, VerificationReport]:
    """Run a session whose client uses `gain` instead of `agreed_gain`."""
    net = network()
    with Station.read(station_for_blocks(folder, rotation)) as station:
        settings = settings_for(station, rotation, agreed_gain)
        constants = station.table.server.constants
        link = BenchLink(equipment_of(station), settings_for(station, rotation, gain))
        session = Session(net, settings, link)
        link.prepare(list(session.server.templates))
        measured = [batch.measured[0] for batch in session.run(some_images(), batch_images=8)]
        expected = replace(
            session.expectation(),
            transmittance_uncertainty=constants.transmittance_uncertainty,
            excess_noise_uncertainty=constants.excess_noise_uncertainty,
        )
    return settings, np.concatenate(measured), session.verdict(expected)


def signal_to_noise(measured: Floats) -> float:
    """F of measured values: squared slope over residual variance, for weights of unit RMS."""
    weights = network().layers[0].astype(np.float64)
    weights /= math.sqrt(float(np.mean(weights**2)))
    inputs = some_images().astype(np.float64)
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    x, y = (inputs @ weights.T).ravel(), measured.astype(np.float64).ravel()
    slope, offset = np.polyfit(x, y, 1)
    return float(slope**2 / np.var(y - slope * x - offset))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rotation", [Rotation(), ELEMENTS], ids=["ideal", "imperfect"])
def test_mode_level_predicts_blocks_over_instruments(tmp_path: Path, rotation: Rotation) -> None:
    """3,600 sums: F to 2.5 % from sampling, 4 % for mode matching and phase noise; then T and eps.

    Returned: 30 images of 120 rows of 23 modes and 10 of 60.
    """
    settings, measured, report = over_instruments(tmp_path, rotation)
    assert measured.shape == (IMAGES, ROWS)
    by_modes = Session(network(), settings, ModeLink(settings))
    modes = np.concatenate([batch.measured[0] for batch in by_modes.run(some_images())])
    expected = signal_to_noise(modes)
    assert expected == pytest.approx(settings.signal_to_noise_of(23), rel=0.10)
    assert signal_to_noise(measured) == pytest.approx(expected, rel=0.12)

    assert report.accepted is True, report.reason
    assert report.samples == IMAGES * (ROWS * 23 + 10 * 60)
    lost_db = 0.4 + 2.0 * BLOCK * rotation.loss_db_per_mode
    assert report.transmittance == pytest.approx(10.0 ** (-lost_db / 10.0), abs=0.05)
    # One unit of clone noise per block, dark ones included, over the modes of each layer.
    noisy = (ROWS * 3 + 10 * 8) / (ROWS * 23 + 10 * 60) * 10.0 ** (-lost_db / 20.0)
    assert report.excess_noise_expected == pytest.approx(noisy, rel=0.01)
    assert report.excess_noise is not None
    assert report.excess_noise_standard_error is not None
    assert abs(report.excess_noise - noisy) < 5.0 * report.excess_noise_standard_error


@pytest.mark.timeout(300)
def test_a_client_with_too_much_gain_is_caught_over_instruments(tmp_path: Path) -> None:
    _, _, report = over_instruments(tmp_path, Rotation(), agreed_gain=1.3, gain=2.2)
    assert report.accepted is False
    assert "excess noise" in report.reason


def test_a_station_has_an_amplifier_and_no_tap() -> None:
    with Station.read(shipped_station_path()) as station:
        settings = settings_for(station, Rotation())
        tapped = replace(settings, receiver=TapReceiver.of_gain(2.0, settings.receiver.homodyne))
        with pytest.raises(SettingError, match="amplifier"):
            BenchLink(equipment_of(station), tapped)
