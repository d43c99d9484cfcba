"""Decoys over instruments: a rotation unit of several turns, one mode collected in each.

What the tests expect comes from closed forms and from the mode level, which share no code with the
light behind the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.dsp.layout import FrameLayout
from labctl.errors import SettingError
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.client.bench_receiver import BenchReceiver
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import Hiding
from labctl.protocols.hiding.turns import check_storage, check_turns
from labctl.protocols.link import Exchange, LayerLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.verdict import VerificationReport
from labctl.station import Station
from labctl.station.equipment import equipment_of

Floats = NDArray[np.float32]

ROWS, INPUTS, CLASSES, IMAGES = 120, 48, 6, 20
TURNS = 4


def network() -> Network:
    draw = np.random.default_rng(11)
    first = draw.uniform(-1.5, 1.5, (ROWS, INPUTS)).astype(np.float32)
    second = draw.uniform(-1.5, 1.5, (CLASSES, ROWS)).astype(np.float32)
    return Network((first, second), "small", {})


def pictures(count: int, seed: int) -> LabelledImages:
    """Return pictures of six classes, each around a different one, not negative."""
    own = np.random.default_rng(1).random((CLASSES, INPUTS), dtype=np.float32)
    draw = np.random.default_rng(seed)
    # In pairs: of a store every other one teaches, the rest serve.
    labels = (np.arange(count) // 2 % CLASSES).astype(np.uint8)
    scatter = draw.random((count, INPUTS), dtype=np.float32)
    return LabelledImages(own[labels] + np.float32(0.6) * scatter, labels)


def collection_of(decoys: int) -> Decoys:
    return Decoys(pictures(240, seed=2), decoys, decoy_key_of_seed(0))


def watched_places(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect, frame by frame, the turn in which the first mode of those asked for is collected."""
    places: list[int] = []
    asked: list[Floats] = []
    exchange, load = BenchLink.exchange, BenchReceiver.load

    def exchanged(link: BenchLink, light: LayerLight, coefficients: Floats) -> Exchange:
        asked.extend(coefficients)
        return exchange(link, light, coefficients)

    def loaded(receiver: BenchReceiver, layer: int, modes: Floats) -> None:
        first = asked[len(places)][0]
        places.append(int(np.flatnonzero((modes == first).all(axis=1))[0]))
        load(receiver, layer, modes)

    monkeypatch.setattr(BenchLink, "exchange", exchanged)
    monkeypatch.setattr(BenchReceiver, "load", loaded)
    return places


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("decoys", "rotation", "block"),
    [
        pytest.param(3, IDEAL_ROTATION, None, id="three in whole rows", marks=pytest.mark.long),
        pytest.param(
            1, Rotation(0.02, 0.02, 0.02), 12, id="one in blocks, lossy unit of four turns"
        ),
    ],
)
def test_mode_level_predicts_decoys_over_instruments(
    decoys: int,
    rotation: Rotation,
    block: int | None,
    monkeypatch: pytest.MonkeyPatch,
    unit_station: Callable[..., Path],
    unit_settings: Callable[..., SessionSettings],
    run_on_unit: Callable[..., tuple[Floats, VerificationReport]],
    first_layer_f: Callable[[Network, Floats, Floats], float],
) -> None:
    """2,400 values: F to 4 % from sampling, 5 % for mode matching and phase noise; T and epsilon.

    Returned: 20 images of 120 rows of 24 modes and 6 of 60.
    """
    places = watched_places(monkeypatch)
    images, collection = pictures(IMAGES, seed=3).images, collection_of(decoys)
    with Station.read(unit_station(rotation, block=block, turns=TURNS)) as station:
        whole = unit_settings(station, 1.0, 2.0, rotation)
        channel = replace(whole.channel, block_modes=block)
        settings = replace(whole, channel=channel, hiding=Hiding(decoys))
        measured, report = run_on_unit(station, network(), settings, images, collection=collection)
    # Both layers of each image: a place that is drawn again each time misses none of 40 frames.
    assert len(places) == 2 * IMAGES
    assert set(places) == set(range(decoys + 1))
    by_modes = Session(network(), settings, ModeLink(settings), collection=collection)
    modes = np.concatenate([batch.measured[0] for batch in by_modes.run(images, batch_images=8)])
    wanted = first_layer_f(network(), images, modes)
    assert first_layer_f(network(), images, measured) == pytest.approx(wanted, rel=0.15)

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


def test_a_unit_of_fewer_turns_is_refused_by_both_numbers(
    unit_station: Callable[..., Path], unit_settings: Callable[..., SessionSettings]
) -> None:
    with Station.read(unit_station(IDEAL_ROTATION, turns=2)) as station:
        settings = replace(
            unit_settings(station, 1.0, 2.0, IDEAL_ROTATION), hiding=Hiding(decoys=3)
        )
        with pytest.raises(SettingError, match=r"unit of 4 turns, the station's makes 2"):
            BenchLink(equipment_of(station), settings)


def test_a_unit_that_lets_go_too_soon_is_refused_before_any_light(
    unit_station: Callable[..., Path], unit_settings: Callable[..., SessionSettings]
) -> None:
    """Four turns of 392 modes, pilot and readout last 78.8 us; the unit delays by 20 us."""
    with Station.read(unit_station(IDEAL_ROTATION, turns=TURNS)) as station:
        settings = replace(
            unit_settings(station, 1.0, 2.0, IDEAL_ROTATION), hiding=Hiding(decoys=3)
        )
        steps: list[str] = []
        link = BenchLink(equipment_of(station), settings, on_step=steps.append)
        rows = np.ones((2, 784), np.float32)
        with pytest.raises(SettingError, match=r"storage_s = 2e-05: must be 7\.88e-05 s or more"):
            link.prepare([LayerLight(0, rows, None, 4)])
    assert steps == []


@pytest.mark.parametrize(
    ("turns", "storage_s", "held"),
    [
        (1, None, True),
        (4, None, False),
        (1, 1.3e-6, True),
        (1, 1.29e-6, False),
        (4, 5.2e-6, True),
        (4, 5.19e-6, False),
    ],
)
def test_all_turns_of_a_block_fit_into_the_storage(
    turns: int, storage_s: float | None, held: bool
) -> None:
    """24 modes with pilot and readout at 20 MBaud last 1.3 us."""
    layout = FrameLayout(20e6, 80e6, 31, 2, rows=3, modes=24, turns=turns)
    if held:
        check_storage(layout, storage_s)
        return
    with pytest.raises(SettingError, match="storage_s"):
        check_storage(layout, storage_s)


def test_a_public_subspace_is_refused_whatever_the_turns() -> None:
    with pytest.raises(SettingError, match="return_modes"):
        check_turns(Hiding(return_modes=3), 8)
