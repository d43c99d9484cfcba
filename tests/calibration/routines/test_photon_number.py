"""Mean photon number: against the bench's own light, and what makes it impossible."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from long_tests import long
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Outcome
from labctl.calibration.routines.attenuator import AttenuatorCurve
from labctl.calibration.routines.photon_number import PhotonNumber, photons_per_mode
from labctl.dsp.layout import FrameLayout
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench
from labctl.units import photon_energy_j

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
SPREAD = {
    "insertion_loss": 0.03,
    "attenuator_scale": 0.01,
    "splitters": 0.02,
    "responsivity": 0.02,
    "offset_rad": 0.3,
    "v_pi": 0.01,
}
FREQUENCY_HZ = 193.4e12


def measured(bench: CalibrationBench) -> Outcome:
    slope = AttenuatorCurve().run(bench).quantities[Name("server.attenuator_slope")]
    bench.learn(Knowledge({Name("server.attenuator_slope"): slope}))
    return PhotonNumber().run(bench)


def truths(bench: CalibrationBench, world: LinkBench, outcome: Outcome) -> dict[str, float]:
    """Return what is in the fibre with the attenuator at 0 dB, by the bench's own components."""
    truth, optics, sender = world.truth(), world.optics, bench.sender
    optics.attenuator.set_attenuation(0.0)
    fibre = optics.launch_transmittance()
    layout = sender.layout(rows=8, modes=256)
    sender.rest()
    rest_w = world.modulated_power_w()
    sender.upload("AGAIN", layout, np.asarray(outcome.raw["payload_symbols"], np.complex64))
    sender.play("AGAIN")
    payload_w = world.modulated_power_w() - rest_w
    energy_j = payload_w * fibre * layout.duration_s
    monitor = truth.tap_fraction * truth.responsivity_a_w
    nominal = bench.equipment.server.constants.monitor_ratio
    return {
        "server.mean_photons_0_db": energy_j / 2048 / photon_energy_j(optics.laser.frequency_hz),
        "server.fixed_attenuation_db": 10.0 * math.log10(nominal * monitor / fibre),
        "server.attenuator_slope_homodyne": truth.attenuator_scale,
    }


def test_photons_are_energy_over_that_of_one() -> None:
    layout = FrameLayout(20e6, 160e6, 257, 16, 4, 100)
    monitor_w = 400 * 3.0 * photon_energy_j(FREQUENCY_HZ) / layout.duration_s / 0.01
    assert photons_per_mode(monitor_w, 0.01, layout, FREQUENCY_HZ) == pytest.approx(3.0)


@pytest.mark.parametrize("seed", [1, *long(2, 3, 4)])
def test_finds_the_photons_in_the_fibre(open_bench: OpenBench, seed: int) -> None:
    with open_bench(seed=seed, spread=SPREAD) as (bench, world):
        outcome = measured(bench)
        for name, true in truths(bench, world, outcome).items():
            quantity = outcome.quantities[Name(name)]
            assert abs(quantity.value - true) < 4.0 * quantity.standard_uncertainty, name
        mean_photons = outcome.quantities[Name("server.mean_photons_0_db")]
        assert mean_photons.budget.keys() == {"readings", "launch meter", "attenuator", "monitor"}
        assert mean_photons.budget["launch meter"] == pytest.approx(0.03 * mean_photons.value)
        assert mean_photons.standard_uncertainty < 0.032 * mean_photons.value


@pytest.mark.timeout(300)
@pytest.mark.long
def test_intervals_cover_the_truth(open_bench: OpenBench) -> None:
    """5 benches, seeds 100 to 104: of each 95 % intervals at least 4 hold the truth."""
    hits: dict[str, int] = {}
    for seed in range(100, 105):
        with open_bench(seed=seed, effort=0.05, spread=SPREAD) as (bench, world):
            outcome = measured(bench)
            for name, true in truths(bench, world, outcome).items():
                low, high = outcome.quantities[Name(name)].interval()
                hits[name] = hits.get(name, 0) + (low <= true <= high)
    assert min(hits.values()) >= 4, hits


def test_blocked_return_leaves_out_the_homodyne_check(open_bench: OpenBench) -> None:
    changes = {"back.connector_loss_db": 90.0}
    with open_bench(seed=5, bench_changes=changes) as (bench, _):
        outcome = measured(bench)
    assert "server.attenuator_slope_homodyne" not in outcome.quantities
    assert "no homodyne check" in outcome.remarks[-1]


def test_slope_that_homodyne_contradicts_is_remarked(open_bench: OpenBench) -> None:
    with open_bench(seed=6, spread=False) as (bench, _):
        bench.learn(Knowledge({Name("server.attenuator_slope"): Quantity(1.05, 1e-4, "1")}))
        outcome = PhotonNumber().run(bench)
    assert "homodyne amplitude falls by" in outcome.remarks[-1]


def test_figure_shows_photons_over_attenuation(open_bench: OpenBench) -> None:
    with open_bench(seed=7) as (bench, _):
        outcome = measured(bench)
    figure = Figure()
    outcome.draw(figure)
    (axes,) = figure.axes
    assert axes.get_ylabel() == "mean photons per mode"
    assert axes.get_yscale() == "log"
    assert np.isrealobj(outcome.raw["ratio"])


def test_slope_must_be_known(open_bench: OpenBench) -> None:
    with (
        open_bench(seed=8) as (bench, _),
        pytest.raises(CalibrationError, match="attenuator_slope has not been measured"),
    ):
        PhotonNumber().run(bench)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"laser.signal_fraction": 1e-9}, "monitor reads .* is the laser on"),
        ({"attenuation.fixed_db": 150.0}, "launch meter sees .* blocked"),
    ],
)
def test_bad_benches_are_named(
    open_bench: OpenBench, changes: dict[str, object], complaint: str
) -> None:
    with open_bench(seed=9, bench_changes=changes) as (bench, _):
        bench.learn(Knowledge({Name("server.attenuator_slope"): Quantity(1.0, 1e-3, "1")}))
        with pytest.raises(CalibrationError, match=complaint):
            PhotonNumber().run(bench)


def test_missing_meter_is_named_with_its_key(open_bench: OpenBench) -> None:
    with (
        open_bench(seed=10, station_changes={"server.launch_meter": None}) as (bench, _),
        pytest.raises(CalibrationError, match=r"launch_meter = .* under \[server\]"),
    ):
        PhotonNumber().run(bench)
