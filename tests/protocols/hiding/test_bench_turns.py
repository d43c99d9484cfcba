"""Decoys over instruments: a rotation unit of several turns, one mode collected in each.

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
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.instruments.equipment import equipment_of
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.hiding.turns import check_turns
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.link import Exchange, LayerLight, Link
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.station import Station
from labctl.units import ratio_to_db

Floats = NDArray[np.float32]

ROWS, INPUTS, CLASSES, IMAGES = 120, 48, 6, 20
TURNS = 4


def network() -> Network:
    draw = np.random.default_rng(11)
    first = draw.uniform(-1.5, 1.5, (ROWS, INPUTS)).astype(np.float32)
    second = draw.uniform(-1.5, 1.5, (CLASSES, ROWS)).astype(np.float32)
    return Network((first, second), "small", {})


def pictures(count: int, seed: int) -> LabelledImages:
    """Return pictures of six classes, each around one of its own, not negative."""
    own = np.random.default_rng(1).random((CLASSES, INPUTS), dtype=np.float32)
    draw = np.random.default_rng(seed)
    # In pairs: of a store every other one teaches, the rest serve.
    labels = (np.arange(count) // 2 % CLASSES).astype(np.uint8)
    scatter = draw.random((count, INPUTS), dtype=np.float32)
    return LabelledImages(own[labels] + np.float32(0.6) * scatter, labels)


def station_of_turns(folder: Path, turns: int, rotation: Rotation, block: int | None) -> Path:
    """A copy of the shipped station whose rotation unit makes so many turns."""
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


def settings_for(
    station: Station, decoys: int, rotation: Rotation, block: int | None
) -> SessionSettings:
    client, server = station.table.client.constants, station.table.server.constants
    homodyne = Homodyne(client.efficiency, client.electronic_noise)
    return SessionSettings(
        mean_photons=1.0,
        receiver=CloneReceiver(2.0, client.emission_factor, homodyne),
        verifier=Homodyne(server.efficiency, 0.0),
        loss_db=-ratio_to_db(server.transmittance),
        technical_noise=0.0,
        assumptions=Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=5,
        verification=VerificationSettings(),
        block_modes=block,
        rotation=rotation,
        hiding=Hiding(decoys),
    )


def session_of(settings: SessionSettings, link: Link) -> Session:
    collection = Decoys(pictures(240, seed=2), settings.hiding.decoys, decoy_key_of_seed(0))
    return Session(network(), settings, link, collection=collection)


def values_of(session: Session) -> Floats:
    images = pictures(IMAGES, seed=3).images
    return np.concatenate([batch.measured[0] for batch in session.run(images, batch_images=8)])


def signal_to_noise(measured: Floats) -> float:
    """F of the own input's values: squared slope over residual variance, unit-RMS weights."""
    weights = network().layers[0].astype(np.float64)
    weights /= math.sqrt(float(np.mean(weights**2)))
    inputs = pictures(IMAGES, seed=3).images.astype(np.float64)
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    x, y = (inputs @ weights.T).ravel(), measured.astype(np.float64).ravel()
    slope, offset = np.polyfit(x, y, 1)
    return float(slope**2 / np.var(y - slope * x - offset))


def watched_places(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect, frame by frame, the turn in which the first mode of those asked for is collected."""
    places: list[int] = []
    asked: list[Floats] = []
    exchange, load = BenchLink.exchange, BenchLink._load_rotation

    def exchanged(link: BenchLink, light: LayerLight, coefficients: Floats) -> Exchange:
        asked.extend(coefficients)
        return exchange(link, light, coefficients)

    def loaded(link: BenchLink, light: LayerLight, modes: Floats) -> None:
        first = asked[len(places)][0]
        places.append(int(np.flatnonzero((modes == first).all(axis=1))[0]))
        load(link, light, modes)

    monkeypatch.setattr(BenchLink, "exchange", exchanged)
    monkeypatch.setattr(BenchLink, "_load_rotation", loaded)
    return places


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("decoys", "rotation", "block"),
    [(3, IDEAL_ROTATION, None), (1, Rotation(0.02, 0.02, 0.02), 12)],
    ids=["three in whole rows", "one in blocks, lossy unit of four turns"],
)
def test_mode_level_predicts_decoys_over_instruments(
    tmp_path: Path,
    decoys: int,
    rotation: Rotation,
    block: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2,400 values: F to 4 % from sampling, 5 % for mode matching and phase noise; T and epsilon.

    Returned: 20 images of 120 rows of 24 modes and 6 of 60.
    """
    places = watched_places(monkeypatch)
    with Station.read(station_of_turns(tmp_path, TURNS, rotation, block)) as station:
        settings = settings_for(station, decoys, rotation, block)
        constants = station.table.server.constants
        link = BenchLink(equipment_of(station), settings)
        session = session_of(settings, link)
        link.prepare(list(session.server.templates))
        measured = values_of(session)
        expected = replace(
            session.expectation(),
            transmittance_uncertainty=constants.transmittance_uncertainty,
            excess_noise_uncertainty=constants.excess_noise_uncertainty,
        )
    report = session.verdict(expected)
    # Both layers of each image: a place that is drawn anew each time misses none of 40 frames.
    assert len(places) == 2 * IMAGES
    assert set(places) == set(range(decoys + 1))
    by_modes = session_of(settings, ModeLink(settings))
    wanted = signal_to_noise(values_of(by_modes))
    assert signal_to_noise(measured) == pytest.approx(wanted, rel=0.15)

    assert report.accepted is True, report.reason
    assert report.samples == IMAGES * (ROWS * 24 + CLASSES * 60)
    once_db = (decoys + 1) * (block or 24) * rotation.loss_db_per_mode
    assert report.transmittance == pytest.approx(10.0 ** (-(0.4 + 2 * once_db) / 10.0), abs=0.05)
    # J + 1 clones in each block of either layer, g = 1 at G = 2.
    loud = (decoys + 1) * (ROWS * 24 / (block or 24) + CLASSES * 60 / (block or 60))
    noise = loud / (ROWS * 24 + CLASSES * 60) * 10.0 ** (-(0.2 + once_db) / 10.0)
    assert report.excess_noise_expected == pytest.approx(noise, rel=0.02)
    assert report.excess_noise is not None
    assert report.excess_noise_standard_error is not None
    assert abs(report.excess_noise - noise) < 5.0 * report.excess_noise_standard_error


def test_a_unit_of_fewer_turns_is_refused_by_both_numbers(tmp_path: Path) -> None:
    with Station.read(station_of_turns(tmp_path, 2, IDEAL_ROTATION, None)) as station:
        settings = settings_for(station, 3, IDEAL_ROTATION, None)
        with pytest.raises(SettingError, match=r"unit of 4 turns, the station's makes 2"):
            BenchLink(equipment_of(station), settings)


def test_a_public_subspace_is_refused_whatever_the_turns() -> None:
    with pytest.raises(SettingError, match="return_modes"):
        check_turns(Hiding(return_modes=3), 8)
