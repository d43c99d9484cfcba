"""Blocks over instruments: a rotation unit built for blocks of eight modes, lossy and imperfect.

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

from labctl.data import shipped_station_path
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import TapReceiver
from labctl.protocols.rotation import Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.verdict import VerificationReport
from labctl.station import Station
from labctl.station.equipment import equipment_of

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


def agreed_on(settings: SessionSettings) -> SessionSettings:
    trusted = Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.UNTRUSTED)
    return replace(
        settings, assumptions=trusted, channel=replace(settings.channel, block_modes=BLOCK)
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "rotation",
    [
        pytest.param(Rotation(), marks=pytest.mark.long, id="ideal"),
        pytest.param(ELEMENTS, id="imperfect"),
    ],
)
def test_mode_level_predicts_blocks_over_instruments(
    rotation: Rotation,
    unit_station: Callable[..., Path],
    unit_settings: Callable[..., SessionSettings],
    run_on_unit: Callable[..., tuple[Floats, VerificationReport]],
    first_layer_f: Callable[[Network, Floats, Floats], float],
) -> None:
    """3,600 sums: F to 2.5 % from sampling, 4 % for mode matching and phase noise; then T and eps.

    Returned: 30 images of 120 rows of 23 modes and 10 of 60.
    """
    with Station.read(unit_station(rotation, block=BLOCK)) as station:
        settings = agreed_on(unit_settings(station, 4.0, 2.0, rotation))
        measured, report = run_on_unit(station, network(), settings, some_images())
    assert measured.shape == (IMAGES, ROWS)
    by_modes = Session(network(), settings, ModeLink(settings))
    modes = np.concatenate([batch.measured[0] for batch in by_modes.run(some_images())])
    expected = first_layer_f(network(), some_images(), modes)
    assert expected == pytest.approx(settings.signal_to_noise_of(23), rel=0.10)
    assert first_layer_f(network(), some_images(), measured) == pytest.approx(expected, rel=0.12)

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
def test_a_client_with_too_much_gain_is_caught_over_instruments(
    unit_station: Callable[..., Path],
    unit_settings: Callable[..., SessionSettings],
    run_on_unit: Callable[..., tuple[Floats, VerificationReport]],
) -> None:
    with Station.read(unit_station(Rotation(), block=BLOCK)) as station:
        agreed, used = (
            agreed_on(unit_settings(station, 4.0, gain, Rotation())) for gain in (1.3, 2.2)
        )
        _, report = run_on_unit(station, network(), agreed, some_images(), used=used)
    assert report.accepted is False
    assert "excess noise" in report.reason


def test_a_station_has_an_amplifier_and_no_tap(
    unit_settings: Callable[..., SessionSettings],
) -> None:
    with Station.read(shipped_station_path()) as station:
        settings = unit_settings(station, 4.0, 2.0, Rotation())
        tapped = replace(settings, receiver=TapReceiver.of_gain(2.0, settings.receiver.homodyne))
        with pytest.raises(SettingError, match="amplifier"):
            BenchLink(equipment_of(station), tapped)
