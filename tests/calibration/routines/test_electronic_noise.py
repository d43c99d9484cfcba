"""Electronic noise: the truth within its uncertainty, and benches that have none to tell."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.calibrator import Calibrator
from labctl.calibration.names import Name
from labctl.calibration.routines import receiver_noise
from labctl.calibration.routines.electronic_noise import ElectronicNoise
from labctl.calibration.store import Store
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench
from labctl.station import Station
from labctl.station.equipment import equipment_of

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
OpenStation = Callable[..., AbstractContextManager[tuple[Station, LinkBench]]]
PARTIES = ("server", "client")

SWAPPED = {
    "panels.server_scope.receiver": "client",
    "panels.client_scope.receiver": "server",
}
NO_TRIGGER = {
    "panels.server_generator.trigger": "none",
    "panels.client_generator.trigger": "none",
}
BAD_BENCHES = {
    "shutter stuck": ({"shutter.isolation_db": 0.1}, "server: a frame comes through.*shutter"),
    "shutter leaks": ({"shutter.isolation_db": 30.0}, "server: a frame comes through.*shutter"),
    "digitizers swapped": (SWAPPED, "swapped"),
    "light blocked": ({"forward.connector_loss_db": 90.0}, "client: no preamble.*blocked"),
    "modulator dark": ({"laser.signal_fraction": 1e-9}, "client: no preamble.*laser on"),
    "amplifier not connected": (
        {"panels.client_phase.outputs": {"1": "client_lo_phase", "2": "spare_1"}},
        "client: no preamble",
    ),
    "server's oscillator off": (
        {"server.lo_fraction": 1e-9},
        "server: noise with light .* not above .*local oscillator's fibre",
    ),
    "client's oscillator off": ({"client.lo_fraction": 1e-9}, "client: "),
    "detector dead": ({"server.transimpedance_v_a": 1.0}, "server: noise with light .* detector"),
    "server saturated": ({"server.swing_v": 0.008}, "server: record is cut off.*saturated"),
    "client saturated": ({"client.swing_v": 0.008}, "client: record is cut off.*saturated"),
    "trigger missing": (NO_TRIGGER, "no record came.*trigger cable"),
}


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_finds_the_hidden_noise(
    open_bench: OpenBench, noise_truth: Callable[..., dict[str, float]], seed: int
) -> None:
    """Within four standard uncertainties, which are 0.9 % at this effort."""
    with open_bench(seed=seed) as (bench, world):
        found = ElectronicNoise().run(bench).quantities
        for party in PARTIES:
            range_v = found[Name(f"{party}.noise_range_v")].value
            true = noise_truth(world, party, range_v=range_v)["electronic"]
            noise = found[Name(f"{party}.electronic_noise_v2")]
            assert abs(noise.value - true) < 4.0 * noise.standard_uncertainty
            assert noise.standard_uncertainty < 0.01 * true
            assert noise.unit == "V^2"


def test_raw_data_tell_the_result_and_the_figure_shows_it(open_bench: OpenBench) -> None:
    with open_bench(seed=5, effort=0.02) as (bench, _):
        outcome = ElectronicNoise().run(bench)
    for party in PARTIES:
        variances = outcome.raw[f"{party}_dark_variances_v2"].astype(np.float64)
        samples = outcome.raw[f"{party}_dark_samples"].astype(np.float64)
        variance = float(variances @ samples / samples.sum())
        noise = outcome.quantities[Name(f"{party}.electronic_noise_v2")]
        assert noise.value == pytest.approx(variance, rel=1e-5)
    figure = Figure()
    outcome.draw(figure)
    assert [axes.get_xlabel() for axes in figure.axes] == ["matched-filter value / mV"] * 2
    assert figure.axes[0].get_ylabel() == "density / mV⁻¹"


def test_leaves_the_bench_lit_and_open(open_bench: OpenBench) -> None:
    with open_bench(seed=6, effort=0.02) as (bench, world):
        ElectronicNoise().run(bench)
        assert world.optics.laser.emitted_power_w() == pytest.approx(10.0**1.3 * 1e-3, rel=1e-6)
        assert world.optics.shutter.transmittance() == 1.0
        assert world.optics.rotation.gain() == 1.0


@pytest.mark.parametrize("case", BAD_BENCHES)
def test_a_bad_bench_is_told_and_left_lit(open_bench: OpenBench, case: str) -> None:
    changes, complaint = BAD_BENCHES[case]
    with open_bench(seed=7, effort=0.02, bench_changes=changes) as (bench, world):
        with pytest.raises(CalibrationError, match=complaint) as caught:
            ElectronicNoise().run(bench)
        assert "\n" not in str(caught.value)
        assert world.optics.laser.emitted_power_w() > 0.0
        assert world.optics.shutter.transmittance() == 1.0


def test_a_closing_voltage_that_does_not_close_is_told(open_bench: OpenBench) -> None:
    with (
        open_bench(
            seed=7, effort=0.02, station_changes={"server.constants.shutter_closed_v": 1.0}
        ) as (bench, _),
        pytest.raises(CalibrationError, match="shutter_closed_v right"),
    ):
        ElectronicNoise().run(bench)


def test_a_range_that_is_too_small_is_told(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_noise, "_HEADROOM", 0.25)
    with (
        open_bench(seed=7, effort=0.02) as (bench, _),
        pytest.raises(CalibrationError, match=r"oscilloscope's range .* is too small"),
    ):
        ElectronicNoise().run(bench)


def test_nothing_is_kept_of_a_bad_bench(open_station: OpenStation, tmp_path: Path) -> None:
    store = Store(tmp_path / "records")
    with open_station(seed=7, bench_changes={"shutter.isolation_db": 0.1}) as (station, _):
        calibrator = Calibrator(
            station, equipment_of(station), store, (ElectronicNoise(),), effort=0.02
        )
        with pytest.raises(CalibrationError):
            calibrator.run(["electronic_noise"])
        assert list(store.records()) == []


def test_a_good_bench_leaves_a_record(open_station: OpenStation, tmp_path: Path) -> None:
    store = Store(tmp_path / "records")
    with open_station(seed=7) as (station, _):
        calibrator = Calibrator(
            station, equipment_of(station), store, (ElectronicNoise(),), effort=0.02
        )
        (record,) = calibrator.run(["electronic_noise"])
    assert store.figure(record).stat().st_size > 10_000
    assert "server_dark_slots_v" in store.raw(record)
