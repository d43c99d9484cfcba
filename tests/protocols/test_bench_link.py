"""The bench link: the protocol over drivers, wire, panels and simulated light.

The engine under test and the physics behind the wire share no code; what the tests expect comes
from closed forms and from the bench's own hidden truth.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labctl.data import shipped_bench_path, shipped_station_path
from labctl.data.mnist import load_test_images
from labctl.data.models import Network, load_network
from labctl.dsp.layout import Complexes, FrameLayout
from labctl.dsp.sender import FrameSender
from labctl.errors import SettingError, StoppedError, SynchronisationError
from labctl.instruments.simulated import bench_file
from labctl.instruments.simulated.bench import LinkBench
from labctl.protocols.bench_link import BenchLink
from labctl.protocols.disguise import FRESH_ORDER, PLAIN, OrderSource, key_of_seed
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.protocols.verification.collective_noise import collective_noise
from labctl.protocols.verification.collective_record import collective_sums
from labctl.station import Station
from labctl.station.arriving import ArrivingLimit
from labctl.station.equipment import equipment_of
from labctl.station.file import StationFile
from labctl.units import photon_energy_j, ratio_to_db

ROWS, INPUTS, IMAGES = 200, 64, 40


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> list[LinkBench]:
    """The benches that are built meanwhile, so that a test can look behind the wire."""
    built: list[LinkBench] = []
    load = bench_file.load_bench

    def remember(path: Path, *, run: int = 0) -> LinkBench:
        built.append(load(path, run=run))
        return built[-1]

    monkeypatch.setattr(bench_file, "load_bench", remember)
    return built


def small_network() -> Network:
    draw = np.random.default_rng(11)
    first = draw.uniform(-1.5, 1.5, (ROWS, INPUTS)).astype(np.float32)
    second = draw.uniform(-1.5, 1.5, (10, ROWS)).astype(np.float32)
    return Network((first, second), "small", {})


def some_images() -> Floats:
    return np.random.default_rng(12).random((IMAGES, INPUTS), dtype=np.float32)


def settings_for(
    table: StationFile, *, mean_photons: float, gain: float, sampling: Sampling = Sampling.ALL
) -> SessionSettings:
    client, server = table.client.constants, table.server.constants
    homodyne = Homodyne(client.efficiency, client.electronic_noise)
    return SessionSettings(
        light=Light(mean_photons, PLAIN),
        channel=Channel(loss_db=-ratio_to_db(server.transmittance)),
        receiver=CloneReceiver(gain, client.emission_factor, homodyne),
        verifier=Homodyne(server.efficiency, 0.0),
        assumptions=Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.UNTRUSTED),
        sampling=sampling,
        seed=5,
    )


def over_instruments(
    network: Network, images: Floats, station_path: Path, *, mean_photons: float, gain: float
) -> tuple[Session, Floats]:
    """Run a session on a station; returns it and the first layer's measured values."""
    with Station.read(station_path) as station:
        settings = settings_for(station.table, mean_photons=mean_photons, gain=gain)
        link = BenchLink(equipment_of(station), settings)
        session = Session(network, settings, link)
        link.prepare(list(session.server.templates))
        batches = list(session.run(images, batch_images=8))
    return session, np.concatenate([batch.measured[0] for batch in batches])


def inner_products(network: Network, images: Floats) -> Floats:
    """Unit-RMS weights times unit-norm images, in double precision."""
    weights = network.layers[0].astype(np.float64)
    weights /= math.sqrt(float(np.mean(weights**2)))
    inputs = images.astype(np.float64)
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    return np.asarray(inputs @ weights.T)


def signal_to_noise(measured: Floats, exact: Floats) -> float:
    """F of measured values: squared slope over residual variance, for inputs of unit variance."""
    x, y = exact.ravel(), measured.astype(np.float64).ravel()
    slope, offset = np.polyfit(x, y, 1)
    return float(slope**2 / np.var(y - slope * x - offset))


def station_with(folder: Path, **changed: str) -> Path:
    """A copy of the shipped station whose bench file has some keys changed."""
    lines = shipped_bench_path().read_text(encoding="utf-8").splitlines()
    for key, value in changed.items():
        lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in lines]
    (folder / "demo_bench.toml").write_text("\n".join(lines), encoding="utf-8")
    copy = folder / "demo.toml"
    copy.write_text(shipped_station_path().read_text(encoding="utf-8"), encoding="utf-8")
    return copy


@pytest.mark.timeout(300)
def test_bench_and_mode_level_agree_on_the_same_images() -> None:
    """8,000 values each; F: 2 % from sampling and 4 % for mode matching and phase noise."""
    network, images = small_network(), some_images()
    session, measured = over_instruments(
        network, images, shipped_station_path(), mean_photons=4.0, gain=2.0
    )
    table = Station.read(shipped_station_path()).table
    settings = settings_for(table, mean_photons=4.0, gain=2.0, sampling=Sampling.MEASURED)
    by_modes = Session(network, settings, ModeLink(settings))
    modes = np.concatenate([batch.measured[0] for batch in by_modes.run(images)])

    exact = inner_products(network, images)
    expected = signal_to_noise(modes, exact)
    assert expected == pytest.approx(settings.signal_to_noise, rel=0.08)
    assert signal_to_noise(measured, exact) == pytest.approx(expected, rel=0.10)

    verdict = session.verdict(session.expectation())
    assert verdict.samples == IMAGES * (ROWS * INPUTS // 2 + 10 * ROWS // 2)
    assert verdict.transmittance is not None
    assert verdict.transmittance == pytest.approx(10.0 ** (-0.04), abs=3 * 0.02)
    assert verdict.excess_noise is not None
    assert verdict.excess_noise_expected is not None
    assert verdict.excess_noise_standard_error is not None
    excess = verdict.excess_noise - verdict.excess_noise_expected
    assert abs(excess) < 5.0 * verdict.excess_noise_standard_error
    assert_repeats_nothing_but_what_is_put_in(session)


def assert_repeats_nothing_but_what_is_put_in(session: Session) -> None:
    """40 honest queries pass the check of the sums; 5 % of each neighbour in time do not."""
    verdict, record = session.verdict(), session.record()
    honest = verdict.collective
    assert honest is not None
    assert next(c for c in verdict.checks if c.name == "collective noise").passed is True
    layers = []
    for sums, part in zip(record.layers, session.server.evidence, strict=True):
        unit = part.pattern / np.sqrt(np.mean(part.pattern**2))
        crosstalk = np.float32(0.05) * sums.by_entry() * np.roll(unit, 2, axis=1)
        layers.append(replace(sums, sums=sums.sums + crosstalk))
    disturbed = collective_sums(session.server.evidence, replace(record, layers=tuple(layers)))
    assert disturbed is not None
    found = collective_noise(disturbed, 1e-10)
    assert found.seen - honest.seen > 10.0 * honest.seen_error
    # Half of 2 mu 0.05^2 40 SNU: X or P is read by chance.
    assert found.seen - honest.seen == pytest.approx(0.4, rel=0.4)


@pytest.mark.timeout(300)
@pytest.mark.long
def test_full_size_network_runs_over_instruments_and_leaves_them_safe(
    tmp_path: Path, benches: list[LinkBench]
) -> None:
    """2 images, 1,568 first-layer values: correlation with the exact ones, 4 sigma = 0.08."""
    network, data = load_network("noise-aware"), load_test_images()
    session, measured = over_instruments(
        network, data.images[:2], station_with(tmp_path), mean_photons=4.0, gain=2.0
    )
    exact = inner_products(network, data.images[:2])
    table = Station.read(shipped_station_path()).table
    ratio = settings_for(table, mean_photons=4.0, gain=2.0).signal_to_noise * np.var(exact)
    correlation = float(np.corrcoef(measured.ravel(), exact.ravel())[0, 1])
    assert correlation == pytest.approx(math.sqrt(ratio / (1.0 + ratio)), abs=0.08)
    assert session.verdict(session.expectation()).samples == 2 * 311_248

    optics = benches[0].optics
    assert optics.laser.emitted_power_w() == 0.0
    assert optics.drive_i.drive is None
    assert optics.drive_q.drive is None
    assert optics.rotation.gain() == 1.0


def test_blocked_light_is_named(tmp_path: Path, benches: list[LinkBench]) -> None:
    station = station_with(tmp_path, length_km="400.0", lo_delay_s="0.0")
    with pytest.raises(SynchronisationError, match="light not blocked"):
        over_instruments(small_network(), some_images(), station, mean_photons=4.0, gain=2.0)
    assert benches[0].optics.laser.emitted_power_w() == 0.0


def test_light_brighter_than_the_station_allows_stops_emission_by_its_own_noise(
    tmp_path: Path, benches: list[LinkBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 dB of the fixed attenuation are missing: bright from the first frame, and steadily so.

    What the receiver finds against its own shot noise is the server's figure and 12 dB, to 10 %:
    mode matching of the pulse, 257 symbols. The preamble has 9.5 times the modes' RMS field.
    """
    seen: list[float] = []
    check = ArrivingLimit.check

    def noted(limit: ArrivingLimit, power_w: float) -> None:
        seen.append(power_w)
        check(limit, power_w)

    monkeypatch.setattr(ArrivingLimit, "check", noted)
    station = station_with(tmp_path, fixed_db="28.0")
    text = station.read_text(encoding="utf-8")
    station.write_text(text.replace("power_w = 1e-7 ", "power_w = 5e-9 "), encoding="utf-8")
    with Station.read(station) as opened:
        settings = settings_for(opened.table, mean_photons=4.0, gain=2.0)
        link = BenchLink(equipment_of(opened), settings)
        session = Session(small_network(), settings, link)
        with pytest.raises(StoppedError) as stopped:
            link.prepare(list(session.server.templates))
        assert benches[0].optics.laser.emitted_power_w() == 0.0
    assert stopped.value.reason == (
        f"client.arriving_power_w = {seen[0]:.6g} in a frame's preamble, must be at most 5e-09 W "
        f"by client.maximum_arriving_power_w at {station}:103"
    )
    photons = 4.0 * 9.5**2 / 2.0 * 10.0**1.2
    photons *= math.sqrt(opened.table.server.constants.transmittance)
    power_w = photons * photon_energy_j(193.4e12) * opened.table.frame.symbol_rate_hz
    assert seen == [pytest.approx(power_w, rel=0.10)]


def test_light_that_saturates_the_receiver_is_more_than_the_shipped_station_allows(
    tmp_path: Path,
) -> None:
    """A thousand times as bright as it is said to be: 0.45 uW, of which half shows."""
    station = station_with(tmp_path, fixed_db="10.0")
    with pytest.raises(StoppedError, match=r"client\.arriving_power_w = .* at most 1e-07 W by"):
        over_instruments(small_network(), some_images(), station, mean_photons=4.0, gain=2.0)


def test_mean_photon_number_out_of_the_attenuators_reach_is_refused(tmp_path: Path) -> None:
    station = station_with(tmp_path, fixed_db="80.0")
    with pytest.raises(SettingError, match="in reach of the attenuator"):
        over_instruments(small_network(), some_images(), station, mean_photons=400_000.0, gain=2.0)


def test_what_aligns_the_bench_carries_no_weights_and_queries_come_in_fresh_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every frame that the generator stores is looked at; F of 40 images, 2 % from sampling."""
    uploaded: list[tuple[bool, Complexes]] = []
    preparing = True
    upload = FrameSender.upload

    def watched(sender: FrameSender, name: str, layout: FrameLayout, symbols: Complexes) -> None:
        uploaded.append((preparing, symbols[layout.row_starts[:, None] + layout.mode_offsets]))
        upload(sender, name, layout, symbols)

    monkeypatch.setattr(FrameSender, "upload", watched)
    network, images = small_network(), some_images()
    with Station.read(shipped_station_path()) as station:
        settings = settings_for(station.table, mean_photons=4.0, gain=2.0)
        settings = replace(settings, light=replace(settings.light, disguise=FRESH_ORDER))
        link = BenchLink(equipment_of(station), settings)
        session = Session(network, settings, link)
        link.prepare(list(session.server.templates))
        session.calibrate()
        preparing = False
        batches = list(session.run(images, batch_images=8))
    assert session.verdict(session.expectation()).accepted is True

    # The first layer's rows as they stand in the network, X + iP of each mode.
    rows = network.layers[0][:, 0::2] + 1j * network.layers[0][:, 1::2]
    while_aligning = [frame for early, frame in uploaded if early and frame.shape == rows.shape]
    sent = [frame for early, frame in uploaded if not early and frame.shape == rows.shape]
    assert len(while_aligning) >= 1
    assert len(sent) == IMAGES
    assert max(_likeness(frame, rows) for frame in while_aligning) < 0.6
    assert min(_likeness(frame, rows) for frame in sent) > 0.99
    found = {tuple(_best_rows(frame, rows)) for frame in sent}
    assert len(found) == IMAGES

    # Each image's values in the order of the network's rows: F is that of plain light.
    orders = OrderSource(FRESH_ORDER, key_of_seed(settings.seed))
    values = np.concatenate([batch.measured[0] for batch in batches])
    in_place = np.empty_like(values)
    for query, row in enumerate(values):
        in_place[query, orders.draw(query, 0, ROWS).neurons] = row
    ratio = signal_to_noise(in_place, inner_products(network, images))
    assert ratio == pytest.approx(settings.signal_to_noise, rel=0.12)


def _alike(frame: Complexes, rows: Complexes) -> Floats:
    """Moduli of the correlations of all rows of a frame with all rows of a network."""
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (frame, rows)]
    return np.asarray(np.abs(unit[0] @ unit[1].conj().T), np.float32)


def _best_rows(frame: Complexes, rows: Complexes) -> list[int]:
    return [int(best) for best in _alike(frame, rows).argmax(axis=1)]


def _likeness(frame: Complexes, rows: Complexes) -> float:
    """Mean over a frame's rows of their correlation with the row of the network most like them.

    Of unrelated rows of 32 modes the best of 200 is near sqrt(ln 200/32) = 0.41.
    """
    return float(_alike(frame, rows).max(axis=1).mean())


def test_raw_light_is_handed_out_per_frame() -> None:
    network, images = small_network(), some_images()[:2]
    taken: list[tuple[str, tuple[int, ...]]] = []
    with Station.read(shipped_station_path()) as station:
        settings = settings_for(station.table, mean_photons=4.0, gain=2.0)
        link = BenchLink(
            equipment_of(station),
            settings,
            on_raw=lambda name, values: taken.append((name, values.shape)),
        )
        session = Session(network, settings, link)
        link.prepare(list(session.server.templates))
        list(session.run(images, batch_images=1))
    assert taken.count(("returned-layer0", (ROWS, INPUTS // 2))) == 2
    assert taken.count(("phase-layer1", (10, 2))) == 2
