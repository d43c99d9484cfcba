"""The monitor, the sensors and the triggers of the simulated link, and the effects in its file."""

import copy
import math
from typing import Any

import numpy as np
import pytest
from quiet_bench import (
    GRID_HZ,
    POWER_W,
    SHIPPED,
    SLOT,
    Floats,
    capture,
    clone,
    in_shot_noise,
    lock,
    noise,
    quiet_bench,
    switch_on,
    turn_oscillators,
)

from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.physics.detection import PowerHead
from labctl.instruments.simulated.ports import (
    BiasMode,
    Capture,
    CaptureWindow,
    ChannelWindow,
    Drive,
)


def sensor(bench: LinkBench) -> PowerHead:
    return bench.monitor_head(noise(9))


@pytest.mark.parametrize("power_w", [1e-3, 0.02])
@pytest.mark.parametrize("frequency_hz", [191.5e12, 196.0e12])
def test_the_monitor_sees_laser_power_times_modulator_times_tap(
    power_w: float, frequency_hz: float
) -> None:
    bench = quiet_bench(monitor={"noise_a": 0.0, "dark_current_a": 3e-9})
    switch_on(bench, power_w, frequency_hz)
    wavelength_m = 299_792_458.0 / frequency_hz
    responsivity = SHIPPED["monitor"]["responsivity_a_w"] * wavelength_m / 1550e-9
    for child, transmission in (
        (BiasMode.PEAK, 10.0**-0.6),
        (BiasMode.NULL, 0.0),
    ):
        lock(bench, child)
        expected = power_w * 0.1 * transmission * 0.05 * responsivity + 3e-9
        assert sensor(bench).photocurrent_a(0.1) == pytest.approx(expected, rel=1e-5)


def test_the_monitor_averages_over_what_drives_the_modulator() -> None:
    """A child at null under a full-swing square of 25 % duty passes a quarter of its peak."""
    bench = quiet_bench(modulator={"extinction_ratio_db": 200.0})
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    square = np.repeat(np.array([3.5, 0.0, 0.0, 0.0], np.float32), 400)
    bench.optics.drive_i.play(Drive(square, GRID_HZ, 0.0, None, 0.0))
    expected = POWER_W * 0.1 * 10.0**-0.6 * 0.25 * 0.25
    assert bench.modulated_power_w() == pytest.approx(expected, rel=5e-3)


def test_the_monitor_sees_a_burst_begin_and_end() -> None:
    bench = quiet_bench(modulator={"extinction_ratio_db": 200.0})
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    bench.optics.drive_i.play(Drive(np.full(1600, 3.5, np.float32), GRID_HZ, 1e-3, 100, 0.0))
    before = bench.modulated_power_w()
    bench.clock.sleep(1.5e-3)
    during = bench.modulated_power_w()
    bench.clock.sleep(1e-3)
    after = bench.modulated_power_w()
    swing = math.sin(math.pi / 2.0 * 1550e-9 * 193.4e12 / 299_792_458.0) ** 2
    assert during == pytest.approx(POWER_W * 0.1 * 10.0**-0.6 * 0.25 * swing, rel=1e-3)
    assert before == pytest.approx(0.0, abs=1e-12)
    assert after == pytest.approx(0.0, abs=1e-12)


def test_the_attenuator_sees_what_the_tap_leaves() -> None:
    bench = quiet_bench()
    switch_on(bench)
    lock(bench, BiasMode.PEAK)
    attenuator = bench.optics.attenuator
    attenuator.set_attenuation(10.0)
    entering = POWER_W * 0.1 * 10.0**-0.6 * 0.95
    assert attenuator.input_power_w() == pytest.approx(entering, rel=1e-5)
    assert attenuator.output_power_w() == pytest.approx(entering * 10.0**-1.07, rel=1e-5)


@pytest.mark.parametrize("averaging_s", [1e-3, 0.1])
def test_a_sensors_noise_falls_with_its_averaging(averaging_s: float) -> None:
    """2,000 readings, seed 9: stated at 1 ms, five standard errors, 8 %."""
    bench = quiet_bench(monitor={"noise_a": 1e-9})
    head = sensor(bench)
    readings = [head.photocurrent_a(averaging_s) for _ in range(2000)]
    expected = 1e-9 * math.sqrt(1e-3 / averaging_s)
    assert np.std(readings) == pytest.approx(expected, rel=5.0 / math.sqrt(4000))
    assert np.mean(readings) == pytest.approx(1e-9, abs=5.0 * expected / math.sqrt(2000))


def test_one_trigger_captures_both_from_one_realisation() -> None:
    """40,000 samples, seed 10: at G = 2 both arms of an idle clone show correlated noise.

    cov(m, r) = 2 (G - 1)^(3/2) / G = 1 for X, times sqrt(eta eta) = 0.85; by the sample, less
    what the filters take; two triggers give 0 +- 5/sqrt(m) times the deviations.
    """
    bench = quiet_bench(seed=10)
    clone(bench, 2.0)
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    turn_oscillators(bench, client=0.0, server=0.0)
    both = capture(bench, 40_000)
    later = capture(bench, 40_000, "server")
    client = in_shot_noise(bench, "client", both["client"]).reshape(-1, 8).sum(1) / math.sqrt(8)
    for volts, expected in ((both["server"], 0.85), (later["server"], 0.0)):
        server = in_shot_noise(bench, "server", volts).reshape(-1, 8).sum(1) / math.sqrt(8)
        assert np.mean(client * server) == pytest.approx(expected, abs=5.0 * 2.0 / math.sqrt(5000))


@pytest.mark.parametrize("order", [("client", "server"), ("server", "client")])
def test_a_record_depends_on_the_seed_not_on_who_is_armed_or_read_first(
    order: tuple[str, str],
) -> None:
    reference, again = quiet_bench(seed=11), quiet_bench(seed=11)
    for bench in (reference, again):
        switch_on(bench)
    first, second = capture(reference, 4000, "client", "server"), capture(again, 4000, *order)
    for name in order:
        assert np.array_equal(first[name], second[name])


@pytest.mark.parametrize("start_s", [0.0, 1e-4, -1e-5])
def test_a_record_takes_its_time(start_s: float) -> None:
    """The clock stands at the record's end, give or take what filters need to settle."""
    bench = quiet_bench()
    bench.clock.sleep(0.25)
    capture(bench, 16_000, start_s=start_s)
    settling_s = (bench.settling_samples + 1) / GRID_HZ
    assert 0.0 <= bench.clock.now_s() - (0.25 + start_s + 1e-4) <= settling_s + 1e-12


def test_time_never_goes_back_for_a_record_of_the_past() -> None:
    bench = quiet_bench()
    bench.clock.sleep(1.0)
    capture(bench, 16, start_s=-0.5)
    assert bench.clock.now_s() == 1.0


def test_a_digitizer_that_is_not_armed_gets_nothing() -> None:
    bench = quiet_bench()
    window = CaptureWindow(0.0, GRID_HZ, 100, {1: ChannelWindow(1.0, 0.0)})
    got: list[Capture] = []
    digitizer = bench.digitizer_at("client")
    digitizer.arm(window, got.append)
    digitizer.disarm()
    bench.trigger.fire()
    assert (got, bench.clock.now_s()) == ([], 0.0)
    digitizer.arm(window, got.append)
    bench.trigger.fire()
    bench.trigger.fire()
    assert len(got) == 1


def test_a_trigger_reaches_listeners_before_digitizers_acquire() -> None:
    """A generator that starts on the trigger is seen in the record of that trigger."""
    bench = quiet_bench(attenuation={"fixed_db": 30.0}, server={"lo_delay_s": 0.0})
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    turn_oscillators(bench, server=0.0)
    pulse = np.full(160, 3.5, np.float32)
    bench.clock.sleep(0.5)
    bench.trigger.listen(
        lambda time_s: bench.optics.drive_i.play(Drive(pulse, GRID_HZ, time_s, 1, 0.0))
    )
    volts = np.abs(capture(bench, 1000, "server")["server"])
    on = np.flatnonzero(volts > 0.5 * np.max(volts))
    assert (on[0], on[-1]) == (pytest.approx(0, abs=2), pytest.approx(159, abs=2))


def test_a_second_channel_is_not_connected() -> None:
    bench = quiet_bench(client={"digitizer_noise_v": 1e-3})
    switch_on(bench)
    channels = {1: ChannelWindow(400.0, 0.0), 2: ChannelWindow(1.0, 0.0)}
    read = bench.digitizer_at("client").capture_now(CaptureWindow(0.0, GRID_HZ, 20_000, channels))
    assert np.std(read[2]) == pytest.approx(1e-3, rel=5.0 / math.sqrt(40_000))
    assert np.std(read[1]) > 5e-3


def test_a_slow_filter_has_settled_when_the_record_begins() -> None:
    """2,000 records of 4 samples, seed 12: noise of a 1 MHz detector is the same throughout.

    Without settling its first samples would be quieter; five errors of a variance, 16 %.
    """
    bench = quiet_bench(seed=12, client={"bandwidth_hz": 1e6})
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    first = np.array([capture(bench, 4, "client", range_v=1.0)["client"][0] for _ in range(2000)])
    late = capture(bench, 1_000_000, "client", range_v=1.0)["client"][2000:]
    assert np.var(first) == pytest.approx(np.var(late), rel=5.0 * math.sqrt(2.0 / 2000) + 0.03)


def test_two_front_ends_at_one_receiver_read_the_same_light() -> None:
    """10,000 samples of shot noise through two converters: only their own noise differs."""
    bench = quiet_bench()
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    window = CaptureWindow(0.0, GRID_HZ, 10_000, {1: ChannelWindow(0.5, 0.0)})
    got: list[Capture] = []
    for _ in range(2):
        bench.digitizer_at("server").arm(window, got.append)
    bench.trigger.fire()
    first, second = got[0][1], got[1][1]
    assert float(np.std(first)) > 1e-3
    assert float(np.corrcoef(first, second)[0, 1]) > 0.99


EFFECTS = [
    ("laser", "linewidth_hz", 1e4),
    ("laser", "rin_db_hz", -110.0),
    ("generators", "noise_v", 1e-2),
    ("generators", "bits", 6),
    ("modulator", "lock_error_rad", 0.1),
    ("modulator", "bias_drift_v_pi_rth", 0.5),
    ("forward", "connector_loss_db", 3.0),
    ("forward", "dispersion_ps_nm_km", 1e6),
    ("back", "connector_loss_db", 3.0),
    ("back", "dispersion_ps_nm_km", 1e6),
    ("rotation", "emission_factor", 2.0),
    ("rotation", "loss_db_per_mode", 0.5),
    ("rotation", "coupler_error_rad", 0.3),
    ("rotation", "phase_error_rad", 0.3),
    ("server", "efficiency", 0.5),
    ("server", "electronic_noise_a_rthz", 12e-12),
    ("server", "phase_drift_rad2_s", 1.0),
    ("server", "polarisation_drift_rad2_s", 0.1),
    ("server", "saturation_power_w", 5e-3),
    ("server", "swing_v", 0.02),
    ("server", "digitizer_bits", 6),
    ("server", "digitizer_noise_v", 1e-2),
    ("server", "digitizer_jitter_s", 1e-9),
]


def rows_at_the_server(tables: dict[str, dict[str, Any]]) -> Floats:
    """Return the server's record of 20 rows of four modes, a second after switching on."""
    tables = copy.deepcopy(tables)
    for name, length_km in (("forward", 100.0), ("back", 100.0)):
        tables.setdefault(name, {}).update(length_km=length_km, loss_db_km=0.0)
    tables.setdefault("attenuation", {}).update(fixed_db=60.0)
    bench = quiet_bench(seed=13, **tables)
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    modulator = bench.optics.modulator
    for electrode in (modulator.child_i, modulator.child_q, modulator.parent):
        electrode.set_bias(BiasMode.MANUAL, electrode.voltage_v())
    turn_oscillators(bench, server=0.7)
    bench.clock.sleep(1.0)
    pulses = np.repeat(np.array([0.0, 1.0, -2.0, 3.0, 0.5, 0.0], np.float32), SLOT)
    levels = np.repeat(np.array([0.0, 0.4, 0.1, -0.7, 0.2, 0.0], np.float32), SLOT)
    delay_s = 100.0 * 4.9e-6
    bench.optics.drive_i.play(Drive(pulses, GRID_HZ, 1.0, 20, 0.0))
    real, _ = clone(bench, 2.0)
    real.play(Drive(levels, GRID_HZ, 1.0 + delay_s, 20, 0.0))
    return capture(bench, 20 * len(pulses), "server", start_s=2.0 * delay_s, range_v=100.0)[
        "server"
    ]


@pytest.fixture(scope="module")
def quiet_rows() -> Floats:
    return rows_at_the_server({})


@pytest.mark.parametrize(("table", "key", "value"), EFFECTS)
def test_every_effect_has_a_switch_in_the_bench_file(
    table: str, key: str, value: float, quiet_rows: Floats
) -> None:
    """One seed: what is switched on is seen in the record, beyond the rounding of its 24 bits."""
    changed = rows_at_the_server({table: {key: value}})
    assert np.max(np.abs(changed - quiet_rows)) > 1e-3 * np.max(np.abs(quiet_rows))


OPTIONAL = [
    ("modulator", "bias_drift_v_pi_rth"),
    ("forward", "dispersion_ps_nm_km"),
    ("rotation", "loss_db_per_mode"),
    ("rotation", "coupler_error_rad"),
    ("rotation", "phase_error_rad"),
    ("server", "polarisation_drift_rad2_s"),
    ("server", "saturation_power_w"),
    ("server", "digitizer_jitter_s"),
]


@pytest.mark.parametrize(("table", "key"), OPTIONAL)
def test_an_effect_is_off_unless_the_file_names_it(
    table: str, key: str, quiet_rows: Floats
) -> None:
    assert np.array_equal(rows_at_the_server({table: {key: 0.0}}), quiet_rows)
    part = BenchFile.model_fields[table].annotation
    assert part is not None
    assert part.model_fields[key].default == 0.0
