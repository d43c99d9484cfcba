"""A client whose local oscillator is its own laser, on the simulated bench.

What is expected comes from closed forms of the protocol page and of pilot_variance.py; the bench
draws both lasers' phases by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from own_laser import BEAT_HZ, found_signal_to_noise, own_laser_station

from labctl.calibration.calibrator import Calibrator
from labctl.calibration.store import Store
from labctl.data.models import Network
from labctl.dsp.layout import PEAK
from labctl.dsp.pilot_variance import signal_to_noise_left
from labctl.errors import LabctlError, SettingError, SignalError, SynchronisationError
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.client.own_laser_receiver import OwnLaserReceiver
from labctl.protocols.disguise import PLAIN
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.station import Station
from labctl.station.equipment import ClientLaser, equipment_of
from labctl.units import ratio_to_db

ROWS, INPUTS, GAIN = 200, 64, 1.3


def network() -> Network:
    draw = np.random.default_rng(11)
    first = draw.uniform(-1.5, 1.5, (ROWS, INPUTS)).astype(np.float32)
    second = draw.uniform(-1.5, 1.5, (10, ROWS)).astype(np.float32)
    return Network((first, second), "small", {})


def images(count: int) -> Floats:
    return np.random.default_rng(12).random((count, INPUTS), dtype=np.float32)


@dataclass
class Run:
    """A session over a station whose client has its own laser."""

    session: Session
    link: BenchLink
    settings: SessionSettings
    own: ClientLaser
    transmittance: float

    @property
    def receiver(self) -> OwnLaserReceiver:
        receiver = self.link.receiver
        assert isinstance(receiver, OwnLaserReceiver)
        return receiver

    def measured(self, pictures: Floats) -> Floats:
        """Values of the first layer."""
        batches = list(self.session.run(pictures, batch_images=8))
        return np.concatenate([batch.measured[0] for batch in batches])

    def leg_signal_to_noise(self) -> float:
        """F at phases that are known, each quadrature having half of the efficiency."""
        receiver = self.settings.receiver
        return receiver.signal_to_noise(
            self.settings.light.mean_photons, float(np.sqrt(self.transmittance))
        )


@contextmanager
def opened(path: Path, *, mean_photons: float, net: Network | None = None) -> Iterator[Run]:
    with Station.read(path) as station:
        client = station.table.client.receiver_constants
        server = station.table.server.constants
        settings = SessionSettings(
            light=Light(mean_photons, PLAIN),
            channel=Channel(loss_db=-ratio_to_db(server.transmittance)),
            receiver=CloneReceiver(
                GAIN, client.emission_factor, Homodyne(client.efficiency, client.electronic_noise)
            ),
            verifier=Homodyne(server.efficiency, 0.0),
            assumptions=Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.UNTRUSTED),
            sampling=Sampling.ALL,
            seed=5,
        )
        equipment = equipment_of(station)
        link = BenchLink(equipment, settings)
        session = Session(net or network(), settings, link)
        link.prepare(list(session.server.templates))
        own = equipment.client.local_oscillator
        assert own is not None
        yield Run(session, link, settings, own, server.transmittance)


@pytest.mark.parametrize(
    ("mean_photons", "linewidth_hz"), [(8.9, 100.0), (8.9, 3000.0), (15.0, 3500.0)]
)
def test_values_are_as_good_as_linewidth_and_light_say(
    tmp_path: Path, mean_photons: float, linewidth_hz: float
) -> None:
    """F to 20 %: 2,400 values scatter by 5 % at five errors of F above 1, the bench's own
    imperfections (8 bits, band, balance) cost up to 10 %.
    """
    path = own_laser_station(tmp_path, linewidth_hz=linewidth_hz, signal_linewidth_hz=linewidth_hz)
    pictures = images(12)
    with opened(path, mean_photons=mean_photons) as run:
        found = found_signal_to_noise(network(), pictures, run.measured(pictures))
        tracked = run.receiver.tracked[0]
        row = run.receiver.row(run.link.sender.layouts[0])
        report = run.session.verdict()
        assert report.accepted
    closed = row.residual_rad2(tracked.pilot_rad2 / PEAK**2)
    assert tracked.residual_variance_rad2 == pytest.approx(closed, rel=0.1)
    expected = signal_to_noise_left(run.leg_signal_to_noise(), closed + row.within_rad2)
    assert found == pytest.approx(expected, rel=0.2)
    assert found < run.leg_signal_to_noise()


def test_classes_are_right_with_bright_light(tmp_path: Path) -> None:
    """Rows of a class sum up its own half of the inputs; each image has one half bright."""
    own = np.kron(np.eye(2), np.ones((10, 16))).astype(np.float32)
    draw = np.random.default_rng(3)
    first = own * draw.uniform(1.0, 2.0, own.shape).astype(np.float32)
    last = np.kron(np.eye(2), np.ones((1, 10))).astype(np.float32)
    net = Network((first.astype(np.float32), last), "halves", {})
    classes = [0, 1, 1, 0]
    pictures = np.kron(np.eye(2), np.ones(16)).astype(np.float32)[classes]
    with opened(own_laser_station(tmp_path), mean_photons=15.0, net=net) as run:
        batches = list(run.session.run(pictures, batch_images=4))
    assert np.concatenate([batch.classes for batch in batches]).tolist() == classes


def test_the_server_sees_no_more_than_with_its_own_light(tmp_path: Path) -> None:
    """Excess noise at the server is the clone's: T n_sp g/n for n modes, as for any client."""
    with opened(own_laser_station(tmp_path), mean_photons=8.9) as run:
        run.measured(images(8))
        report = run.session.verdict()
    found, expected = report.excess_noise, report.excess_noise_expected
    error = report.excess_noise_standard_error
    assert found is not None
    assert expected is not None
    assert error is not None
    # The shipped bench itself adds 0.003 SNU, as a homodyne client's session shows too.
    assert found == pytest.approx(expected, abs=5.0 * error + 0.003)


@pytest.mark.parametrize("off_hz", [-25e6, 12e6, -60e6])
def test_a_laser_that_is_off_is_tuned_until_it_beats_as_wanted(
    tmp_path: Path, off_hz: float
) -> None:
    with opened(own_laser_station(tmp_path, frequency_error_hz=off_hz), mean_photons=8.9) as run:
        own = run.own
        moved = own.laser.frequency_hz() - own.signal_frequency_hz
        assert moved == pytest.approx(BEAT_HZ - off_hz, abs=1.5e6)
        run.measured(images(1))


def test_a_drifting_laser_is_followed(tmp_path: Path) -> None:
    """1 MHz a second: each frame has its own beat, found from its preamble."""
    with opened(own_laser_station(tmp_path, drift_hz_s=1e6), mean_photons=8.9) as run:
        run.measured(images(2))
        assert run.receiver.tracked[0].scatter < 1.6


def refusal(path: Path, *, mean_photons: float = 8.9) -> LabctlError:
    with (
        pytest.raises(LabctlError) as caught,
        opened(path, mean_photons=mean_photons) as run,
    ):
        run.measured(images(1))
    return caught.value


@pytest.mark.parametrize("off_hz", [300e6, -2e9])
def test_a_laser_beyond_the_band_is_no_beat(tmp_path: Path, off_hz: float) -> None:
    error = refusal(own_laser_station(tmp_path, frequency_error_hz=off_hz))
    assert isinstance(error, SynchronisationError)
    assert "own laser's frequency" in str(error)


def test_pilots_that_do_not_reach_the_detector_are_missed(tmp_path: Path) -> None:
    error = refusal(own_laser_station(tmp_path, pilots_measured=False))
    assert isinstance(error, SignalError)
    assert "passes its pilots to the detector" in str(error)


def test_a_laser_wider_than_stated_is_refused(tmp_path: Path) -> None:
    error = refusal(own_laser_station(tmp_path, linewidth_hz=5000.0, stated_hz=100.0))
    assert "linewidth larger than stated" in str(error)


def test_lasers_too_wide_for_the_rows_are_refused(tmp_path: Path) -> None:
    error = refusal(own_laser_station(tmp_path, linewidth_hz=50_000.0))
    assert "shorter rows (blocks of modes)" in str(error)


def test_rows_that_are_not_rotated_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnLaserReceiver, "load", lambda receiver, layer, modes: receiver.rest())
    error = refusal(own_laser_station(tmp_path))
    assert "arrive unrotated" in str(error)


def test_a_station_with_an_own_laser_is_not_calibrated_as_a_homodyne_one(tmp_path: Path) -> None:
    with (
        Station.read(own_laser_station(tmp_path)) as station,
        pytest.raises(SettingError, match=r"local_oscillator.*homodyne"),
    ):
        Calibrator(station, equipment_of(station), Store(tmp_path / "records"), [])
