"""Two clocks: a frame is read where it is, to a fraction of a sample, or not at all.

Records are made from the pulses' formula at any delay, clock offset, sampling rate and phase.
Preamble and pilots lie 20 dB above shot noise unless said otherwise, the payload 20 dB below them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.dsp.dsp import Sync, read_slots, synchronise
from labctl.dsp.layout import Complexes, FrameLayout
from labctl.dsp.timing import SampleClock, pooled_clock, recover_clock
from labctl.errors import SynchronisationError
from labctl.instruments.capabilities import Trace

# 7/8 slot long, and the mean of sin^4 is 3/8.
HANN_ENERGY_SLOTS = 0.375 * 7.0 / 8.0
LAYOUT = FrameLayout(
    symbol_rate_hz=20e6,
    sample_rate_hz=160e6,
    preamble_symbols=257,
    guard_symbols=16,
    rows=300,
    modes=20,
)
LONGEST_DELAY_S = 1100 / 160e6
PAYLOAD = 0.1


def frame(layout: FrameLayout, seed: int = 1) -> Complexes:
    """Return a frame whose payload is Gaussian, at 1/10 of the pilots' field."""
    quadratures = np.random.default_rng(seed).normal(size=(layout.rows, 2 * layout.modes))
    return layout.server_symbols(np.clip(quadratures, -4.0, 4.0).astype(np.float32), PAYLOAD)


def unit(layout: FrameLayout, ratio: float) -> float:
    """Return what a matched filter reads of a unit symbol, in V."""
    return math.sqrt(HANN_ENERGY_SLOTS * ratio)


def record(
    layout: FrameLayout,
    symbols: Complexes,
    delay_samples: float,
    *,
    ppm: float = 0.0,
    ratio: float = 8.0,
    phase_rad: float | NDArray[np.float64] = 0.7,
    noise: float = 0.1,
    seed: int = 2,
) -> Trace:
    """Return what a homodyne receiver records; `noise` is that of a unit symbol's reading."""
    step = ratio * (1.0 + 1e-6 * ppm)
    time = (np.arange(math.ceil(delay_samples + layout.slots * step) + 200) - delay_samples) / step
    read = np.real(symbols * np.exp(-1j * np.asarray(phase_rad)))
    padded = np.concatenate([read, [0.0]])
    slot, shape = np.floor(time).astype(np.int64), layout.pulse_shape
    voltage = noise * unit(layout, ratio) * np.random.default_rng(seed).standard_normal(len(time))
    for neighbour in range(-math.ceil(shape.late_slots), math.ceil(shape.early_slots) + 1):
        index = slot + neighbour
        known = np.where((index >= 0) & (index < layout.slots), index, layout.slots)
        voltage += padded[known] * shape.field(time - index)
    return Trace(-1e-6, 1.0 / (layout.symbol_rate_hz * ratio), voltage.astype(np.float32))


def recover(trace: Trace, layout: FrameLayout) -> tuple[Sync, SampleClock]:
    sync = synchronise(trace, layout, LONGEST_DELAY_S)
    return sync, recover_clock(trace, layout, sync)


def last_slot_error(
    clock: SampleClock, layout: FrameLayout, delay: float, ppm: float, ratio: float
) -> float:
    """Return by how many samples the clock misses the frame's last slot."""
    start = (clock.start_s + 1e-6) * layout.symbol_rate_hz * ratio
    return start - delay + layout.slots * ratio * (clock.stretch - 1.0 - 1e-6 * ppm)


def check_reading(trace: Trace, layout: FrameLayout, clock: SampleClock, ratio: float) -> None:
    """Assert that every slot reads as the symbol it carries, with the noise it has.

    The slope's standard error is 0.6 % for 6,900 slots.
    """
    symbols = frame(layout)
    expected = np.real(symbols * np.exp(-0.7j)) * unit(layout, ratio)
    read = clock.read(trace, layout, 0, layout.slots)
    slope = float(expected @ read) / float(expected @ expected)
    assert slope == pytest.approx(1.0, abs=0.03)
    residual = float(np.var(read - slope * expected)) / unit(layout, ratio) ** 2
    assert residual == pytest.approx(0.1**2, rel=0.12)


@settings(deadline=None, max_examples=40)
@given(
    st.floats(1.0, 1000.0),
    st.floats(-20.0, 20.0),
    st.floats(-math.pi, math.pi),
    st.integers(0, 2**32 - 1),
)
def test_hann_frames_are_followed_at_any_delay_and_offset(
    delay: float, ppm: float, phase_rad: float, seed: int
) -> None:
    trace = record(LAYOUT, frame(LAYOUT), delay, ppm=ppm, phase_rad=phase_rad, seed=seed)
    _, clock = recover(trace, LAYOUT)
    miss = last_slot_error(clock, LAYOUT, delay, ppm, 8.0)
    assert abs(miss) < 5.0 * clock.error_samples + 0.02
    assert abs(miss) < 0.25
    assert abs(clock.offset_ppm - ppm) < 5.0 * clock.offset_error_ppm + 0.3


@pytest.mark.parametrize("ratio", [4.0, 6.25, 8.0, 10.0 * math.pi / 2.0])
@pytest.mark.parametrize("ppm", [-20.0, 0.0, 0.3, 20.0])
def test_slots_read_what_they_carry_at_any_sampling_rate(ratio: float, ppm: float) -> None:
    """6,900 slots: the residual variance's standard error is 1.7 %, pulses are 3.5 samples up."""
    layout = LAYOUT
    trace = record(layout, frame(layout), 137.3, ppm=ppm, ratio=ratio)
    _, clock = recover(trace, layout)
    check_reading(trace, layout, clock, ratio)


@pytest.mark.parametrize("ppm", [-20.0, 7.0, 20.0])
def test_a_rate_learnt_from_one_record_reads_another_without_pilots(ppm: float) -> None:
    _, learnt = recover(record(LAYOUT, frame(LAYOUT), 137.3, ppm=ppm), LAYOUT)
    hidden = frame(LAYOUT)
    hidden[LAYOUT.row_starts] = 0.0
    trace = record(LAYOUT, hidden, 642.8, ppm=ppm, seed=9)
    sync = synchronise(trace, LAYOUT, LONGEST_DELAY_S)
    with pytest.raises(SynchronisationError, match="pilots are not where"):
        recover_clock(trace, LAYOUT, sync)
    clock = learnt.moved(sync)
    assert abs(last_slot_error(clock, LAYOUT, 642.8, ppm, 8.0)) < 0.5
    read = clock.read(trace, LAYOUT, 0, LAYOUT.slots)
    expected = np.real(hidden * np.exp(-0.7j)) * unit(LAYOUT, 8.0)
    assert float(np.var(read - expected)) / unit(LAYOUT, 8.0) ** 2 == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("ppm", [-20.0, 20.0])
def test_a_slip_of_six_slots_by_the_frame_s_end_is_followed(ppm: float) -> None:
    """784 rows of 392 modes: 2.5 million samples, 50 of them too many or too few."""
    layout = replace(LAYOUT, rows=784, modes=392)
    trace = record(layout, frame(layout), 700.4, ppm=ppm)
    _, clock = recover(trace, layout)
    assert abs(last_slot_error(clock, layout, 700.4, ppm, 8.0)) < 0.1
    assert clock.offset_ppm == pytest.approx(ppm, abs=0.1)
    check_reading(trace, layout, clock, 8.0)


def test_offset_s_error_bar_covers_the_truth() -> None:
    """60 records, seeds 0 to 59: 95 % intervals hold in 51 or more (3.4 sigma below 57)."""
    inside = 0
    for seed in range(60):
        ppm = 20.0 * math.sin(seed)
        trace = record(LAYOUT, frame(LAYOUT, seed), 50.0 + seed / 7.0, ppm=ppm, seed=seed)
        _, clock = recover(trace, LAYOUT)
        inside += abs(clock.offset_ppm - ppm) < 1.96 * clock.offset_error_ppm
    assert inside >= 51


@pytest.mark.parametrize("linewidth", [1e-6, 1e-4, 1e-3])
def test_the_light_s_phase_does_not_move_the_clock(linewidth: float) -> None:
    """Linewidth times symbol time; at 1e-3 the preamble's own phase walks 1.6 rad^2."""
    walk = math.sqrt(2.0 * math.pi * linewidth)
    for seed in range(10):
        phase = walk * np.cumsum(np.random.default_rng(seed).standard_normal(LAYOUT.slots))
        trace = record(LAYOUT, frame(LAYOUT), 411.8, ppm=-15.0, phase_rad=phase, seed=seed)
        _, clock = recover(trace, LAYOUT)
        assert abs(last_slot_error(clock, LAYOUT, 411.8, -15.0, 8.0)) < 0.25


@pytest.mark.parametrize("ppm", [-1000.0, -300.0, -40.0, 30.0, 100.0, 500.0, 3000.0, 20000.0])
def test_larger_offsets_are_told_never_read(ppm: float) -> None:
    layout = LAYOUT
    trace = record(layout, frame(layout), 137.3, ppm=ppm, noise=0.03)
    with pytest.raises(SynchronisationError):
        recover(trace, layout)


@pytest.mark.parametrize("ppm", [-60.0, 45.0, 200.0])
def test_the_error_names_the_measured_offset(ppm: float) -> None:
    trace = record(LAYOUT, frame(LAYOUT), 137.3, ppm=ppm)
    with pytest.raises(SynchronisationError, match=rf"runs {ppm:+.0f}\.|10 MHz") as told:
        recover(trace, LAYOUT)
    measured = float(str(told.value).split("runs ")[1].split(" ppm")[0])
    assert measured == pytest.approx(ppm, abs=3.0)


def test_a_record_that_ends_before_the_last_pilot_is_told() -> None:
    trace = record(LAYOUT, frame(LAYOUT), 137.3)
    short = replace(trace, voltage_v=trace.voltage_v[:40_000])
    with pytest.raises(SynchronisationError, match="the record has 40000"):
        recover(short, LAYOUT)


def test_light_that_fails_within_the_frame_is_told() -> None:
    trace = record(LAYOUT, frame(LAYOUT), 137.3)
    voltage = trace.voltage_v.copy()
    voltage[30_000:] = voltage[-len(voltage[30_000:]) :] * 0.01
    with pytest.raises(SynchronisationError, match="pilots are not where"):
        recover(replace(trace, voltage_v=voltage), LAYOUT)


def test_another_frame_s_layout_is_told() -> None:
    trace = record(LAYOUT, frame(LAYOUT), 137.3)
    with pytest.raises(SynchronisationError):
        recover(trace, replace(LAYOUT, modes=21, rows=280))


@pytest.mark.parametrize("noise", [0.3, 0.6, 1.0, 2.0])
def test_weak_light_is_read_right_or_refused(noise: float) -> None:
    """10 records for each noise, seeds 0 to 9."""
    for seed in range(10):
        trace = record(LAYOUT, frame(LAYOUT), 300.6, ppm=12.0, noise=noise, seed=seed)
        try:
            _, clock = recover(trace, LAYOUT)
        except SynchronisationError:
            continue
        miss = last_slot_error(clock, LAYOUT, 300.6, 12.0, 8.0)
        assert abs(miss) < 5.0 * clock.error_samples + 0.05
        assert clock.error_samples < 0.26


@pytest.mark.parametrize("stretch", [1.0, 1.0 + 4e-7, 1.0 + 2e-5])
def test_white_noise_keeps_its_variance_whatever_the_clock(stretch: float) -> None:
    """20,000 slots, seed 5: four standard errors of a variance are 4 %."""
    layout = LAYOUT
    voltage = np.random.default_rng(5).normal(0.0, 0.2, 160_300).astype(np.float32)
    trace = Trace(0.0, 1.0 / 160e6, voltage)
    read = read_slots(trace, layout, 1.3e-7, 0, 20_000, stretch=stretch)
    assert float(np.var(read)) == pytest.approx(0.04, rel=0.04)


def test_dim_records_are_pooled_with_the_error_that_they_have() -> None:
    """40 groups of 6 records, seeds 0 to 239: the pooled rate's pulls scatter by 1 within 35 %."""
    pulls = []
    for group in range(40):
        clocks = []
        for seed in range(6 * group, 6 * group + 6):
            trace = record(LAYOUT, frame(LAYOUT, seed), 137.3, ppm=12.0, seed=seed, noise=0.2)
            sync = synchronise(trace, LAYOUT, LONGEST_DELAY_S)
            clocks.append(recover_clock(trace, LAYOUT, sync, largest_error_slots=0.25))
        pooled = pooled_clock(clocks)
        assert pooled.error_samples < min(clock.error_samples for clock in clocks)
        pulls.append((pooled.offset_ppm - 12.0) / pooled.offset_error_ppm)
    assert 0.65 < float(np.std(pulls)) < 1.35
