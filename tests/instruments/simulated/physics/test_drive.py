"""A generator's output stage: what its converter holds, filters, rounds and adds."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.grid import Noise, Window
from labctl.instruments.simulated.ports import Drive

GRID_HZ = 160e6
WIDE_HZ = 0.499 * GRID_HZ


def output(
    bandwidth_hz: float = WIDE_HZ, bits: int = 24, noise_v: float = 0.0, seed: int = 1
) -> DriveOutput:
    parameters = DriveParameters(bits, 10.0, bandwidth_hz, noise_v)
    return DriveOutput(parameters, GRID_HZ, Noise(np.random.SeedSequence(seed)))


def levels(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


def held_exactly(
    drive: Drive, start: int, samples: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return what an ideal hold gives, and where no step is within five grid samples.

    Written with exact integers for a start on the grid: sample k of the drive holds from
    k / rate to (k + 1) / rate; a grid sample covers the interval around its middle.
    """
    rate, grid = int(drive.sample_rate_hz), int(GRID_HZ)
    begin = round(drive.start_s * GRID_HZ)
    values = np.full(samples, drive.idle_v)
    total = None if drive.cycles is None else drive.cycles * len(drive.samples_v)
    for place in range(samples):
        index = (2 * (start + place - begin) + 1) * rate // (2 * grid)
        if index >= 0 and (total is None or index < total):
            values[place] = drive.samples_v[index % len(drive.samples_v)]
    step = np.flatnonzero(np.diff(values)) + 1
    distance = np.min(
        np.abs(np.arange(samples)[:, None] - np.append(step, -(10**6))[None, :] + 0.5), axis=1
    )
    return values, distance > 5.0


@given(
    values=st.lists(st.integers(-40, 40).map(lambda k: k / 10.0), min_size=2, max_size=12),
    rate_hz=st.sampled_from([1_000_000, 3_000_000, 7_000_001, 9_999_999, 10_000_000, 12_345_678]),
    cycles=st.sampled_from([None, 1, 3]),
    idle_v=st.sampled_from([0.0, -1.5, 2.0]),
    begin=st.integers(-300, 600),
    start=st.integers(-400, 5000),
)
@settings(deadline=None, max_examples=60)
def test_each_sample_is_held_for_its_time_whatever_the_rate(
    values: list[float],
    rate_hz: int,
    cycles: int | None,
    idle_v: float,
    begin: int,
    start: int,
) -> None:
    drive = Drive(levels(*values), float(rate_hz), begin / GRID_HZ, cycles, idle_v)
    connector = output()
    connector.play(drive)
    expected, settled = held_exactly(drive, start, 600)
    actual = connector.voltage(Window(start, 600))
    assert actual[5:-5][settled[5:-5]] == pytest.approx(expected[5:-5][settled[5:-5]], abs=2e-6)


@pytest.mark.parametrize("cycles", [1, 4])
def test_a_burst_plays_its_cycles_between_idle_levels(cycles: int) -> None:
    connector = output()
    connector.play(Drive(levels(*[1.0] * 20, *[2.0] * 20), GRID_HZ, 100 / GRID_HZ, cycles, -0.5))
    volts = connector.voltage(Window(0, 100 + 40 * cycles + 100))
    played = volts[100 : 100 + 40 * cycles].reshape(cycles, 2, 20)
    middle = played[:, :, 5:15]
    assert volts[:95] == pytest.approx(-0.5, abs=1e-6)
    assert middle[:, 0] == pytest.approx(1.0, abs=1e-6)
    assert middle[:, 1] == pytest.approx(2.0, abs=1e-6)
    assert volts[105 + 40 * cycles :] == pytest.approx(-0.5, abs=1e-6)


def test_without_cycles_it_repeats_for_ever() -> None:
    connector = output()
    connector.play(Drive(levels(1.0, 3.0), 1e6, 0.0, None, 0.0))
    late = 160 * 10**9
    volts = connector.voltage(Window(late, 320))
    assert volts[10:150] == pytest.approx(1.0, abs=1e-6)
    assert volts[170:310] == pytest.approx(3.0, abs=1e-6)


def test_one_endless_sample_is_a_steady_voltage() -> None:
    connector = output()
    connector.play(Drive(levels(1.25), 1.0, 0.0, None, 0.0))
    assert connector.voltage(Window(-1000, 3000)) == pytest.approx(1.25, abs=1e-6)
    assert connector.steady_voltage() == 1.25


def test_a_waveform_rests_at_its_idle_level() -> None:
    connector = output()
    connector.play(Drive(levels(1.0, 2.0), 1e6, 0.0, 1, 0.75))
    assert connector.steady_voltage() == 0.75


@pytest.mark.parametrize(("offset", "sample"), [(0.4, 1000), (-0.4, 1000), (0.6, 1001)])
def test_a_start_between_grid_samples_goes_to_the_nearest(offset: float, sample: int) -> None:
    connector = output()
    connector.play(Drive(np.ones(100, np.float32), GRID_HZ, (1000 + offset) / GRID_HZ, 1, 0.0))
    volts = connector.voltage(Window(900, 200))
    assert connector.start_sample() == sample
    assert np.flatnonzero(volts > 0.5)[0] == sample - 900


@pytest.mark.parametrize(("rate_hz", "edge"), [(70e6, 2), (60e6, 3), (30e6, 5), (40e6, 4)])
def test_a_step_between_grid_samples_goes_to_the_nearest(rate_hz: float, edge: int) -> None:
    """The second sample begins after grid/rate: 2.29, 2.67, 5.33 and 4 grid samples."""
    connector = output()
    connector.play(Drive(levels(0.0, 1.0), rate_hz, 100 / GRID_HZ, 1, 0.0))
    volts = connector.voltage(Window(0, 200))
    assert np.flatnonzero(volts > 0.5)[0] == 100 + edge


@pytest.mark.parametrize("bandwidth_hz", [1e6, 5e6, 20e6, 40e6, 60e6, 75e6])
def test_a_sine_at_the_bandwidth_loses_three_db(bandwidth_hz: float) -> None:
    """Amplitude by projection on the sine over whole periods; rounding of float32 only."""
    connector = output(bandwidth_hz, bits=24)
    samples = 3200
    time_s = np.arange(samples) / GRID_HZ
    wave = np.exp(2j * np.pi * bandwidth_hz * time_s)
    connector.play(Drive(wave.real.astype(np.float32), GRID_HZ, 0.0, None, 0.0))
    volts = connector.voltage(Window(0, 3 * samples))[samples : 2 * samples]
    amplitude = abs(2.0 * np.mean(volts * wave.conj()))
    assert amplitude == pytest.approx(math.sqrt(0.5), rel=1e-4)


@pytest.mark.parametrize("bandwidth_hz", [2e6, 10e6])
def test_far_below_half_the_grid_the_low_pass_is_gaussian(bandwidth_hz: float) -> None:
    """|H(f)| = 2^(-f^2 / (2 bandwidth^2)), within 1e-3 of the passband."""
    connector = output(bandwidth_hz)
    impulse = np.zeros(4096, np.float32)
    impulse[2048] = 5.0
    connector.play(Drive(impulse, GRID_HZ, 0.0, 1, 0.0))
    response = np.abs(np.fft.rfft(connector.voltage(Window(0, 4096)) / 5.0))
    frequency = np.fft.rfftfreq(4096, 1.0 / GRID_HZ)
    expected = 2.0 ** (-0.5 * (frequency / bandwidth_hz) ** 2)
    assert response == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("bits", [4, 8, 14])
def test_levels_are_multiples_of_the_converter_step(bits: int) -> None:
    """Ramp over the scale: nearest of 2^bits levels, error uniform: step^2/12 within 2 %."""
    step = 10.0 / 2**bits
    ramp = np.linspace(-4.9, 4.9, 20_001)
    connector = output(bits=bits)
    held = np.repeat(ramp, 7).astype(np.float32)
    connector.play(Drive(held, GRID_HZ, 0.0, 1, 0.0))
    middle = connector.voltage(Window(0, len(held)))[3::7].astype(np.float64)
    error = middle - held[3::7]
    # Neighbours two samples away are levels of the same value: the filter leaves the middle.
    assert middle[1:-1] / step == pytest.approx(np.rint(middle[1:-1] / step), abs=1e-2)
    assert np.max(np.abs(error[1:-1])) <= step / 2.0 * 1.01
    assert np.var(error[1:-1]) == pytest.approx(step**2 / 12.0, rel=0.02)


def test_output_noise_is_white_and_added_after_the_low_pass() -> None:
    """200,000 samples, seed 3: standard deviation within five errors, 5/sqrt(2 m) = 0.8 %."""
    connector = output(bandwidth_hz=2e6, noise_v=2e-3, seed=3)
    connector.play(Drive(levels(1.0), 1.0, 0.0, None, 0.0))
    volts = connector.voltage(Window(0, 200_000)).astype(np.float64)
    assert np.std(volts) == pytest.approx(2e-3, rel=5.0 / math.sqrt(400_000))
    assert np.mean(volts) == pytest.approx(1.0, abs=5 * 2e-3 / math.sqrt(200_000) + 1e-6)
    deviation = volts - 1.0
    assert np.mean(deviation[1:] * deviation[:-1]) == pytest.approx(0.0, abs=5e-6 * 0.02)


def test_an_open_relay_gives_nothing_not_even_noise() -> None:
    connector = output(noise_v=1.0)
    connector.play(Drive(levels(1.0), 1.0, 0.0, None, 0.0))
    connector.play(None)
    assert not np.any(connector.voltage(Window(0, 1000)))
    assert (connector.steady_voltage(), connector.period_samples()) == (0.0, 1)


@pytest.mark.parametrize(
    ("length", "rate_hz", "period"), [(10, 160e6, 10), (10, 40e6, 40), (7, 30e6, 37), (1, 1e9, 1)]
)
def test_a_period_is_the_cycle_on_the_grid(length: int, rate_hz: float, period: int) -> None:
    connector = output()
    connector.play(Drive(np.zeros(length, np.float32), rate_hz, 0.0, 1, 0.0))
    assert connector.period_samples() == period


@pytest.mark.parametrize(
    ("cycles", "time_us", "playing"),
    [
        (2, 9.9, False),
        (2, 10.1, True),
        (2, 29.9, True),
        (2, 30.1, False),
        (None, 9.9, False),
        (None, 1e6, True),
    ],
)
def test_it_tells_whether_it_plays(cycles: int | None, time_us: float, playing: bool) -> None:
    connector = output()
    connector.play(Drive(np.zeros(10, np.float32), 1e6, 10e-6, cycles, 0.0))
    assert connector.playing(time_us * 1e-6) is playing
    connector.play(None)
    assert not connector.playing(time_us * 1e-6)


@given(
    values=st.lists(st.floats(-5.0, 5.0, width=32), min_size=1, max_size=9),
    ratio=st.sampled_from([1.0, 0.5, 0.37]),
    cycles=st.sampled_from([None, 1, 3]),
    start=st.integers(-20, 20),
    bandwidth_hz=st.sampled_from([WIDE_HZ, 40e6, 5e6]),
)
@settings(deadline=None, max_examples=60)
def test_the_voltage_at_instants_is_that_of_the_window(
    values: list[float], ratio: float, cycles: int | None, start: int, bandwidth_hz: float
) -> None:
    """Filters of up to 16 taps a side to float32; those are the wider ones here, 5 MHz 2 %."""
    source = output(bandwidth_hz)
    source.play(Drive(levels(*values), ratio * GRID_HZ, start / GRID_HZ, cycles, 0.5))
    whole = source.voltage(Window(-150, 400))[100:300]
    tolerance = 2e-5 if bandwidth_hz > 5e6 else 0.2
    assert source.voltage_at(np.arange(-50, 150)) == pytest.approx(whole, abs=tolerance)
    some = np.array([-50, -49, 0, 7, 149])
    assert np.array_equal(
        source.voltage_at(some), source.voltage_at(np.arange(-50, 150))[some + 50]
    )


def test_an_output_is_off_by_its_gain_and_offset_once_it_is_on() -> None:
    parameters = DriveParameters(24, 10.0, WIDE_HZ, 0.0, 1.02, -0.1)
    source = DriveOutput(parameters, GRID_HZ, Noise(np.random.SeedSequence(1)))
    assert not np.any(source.voltage(Window(0, 10)))
    assert source.steady_voltage() == 0.0
    source.play(Drive(levels(2.0), 1.0, 0.0, None, 0.0))
    for volts in (source.voltage(Window(0, 10)), source.voltage_at(np.arange(10))):
        assert volts == pytest.approx(1.94, abs=1e-5)
    assert source.steady_voltage() == pytest.approx(1.94)
