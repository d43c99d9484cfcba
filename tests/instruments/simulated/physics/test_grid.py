"""The time grid: windows as intervals, and vacuum of variance 1 per quadrature."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.physics.grid import Noise, Window, union

SAMPLES = 400_000
WINDOWS = st.builds(
    Window, st.integers(min_value=-(10**12), max_value=10**12), st.integers(0, 10**9)
)


def noise(seed: int) -> Noise:
    return Noise(np.random.SeedSequence(seed))


def test_vacuum_has_variance_one_in_each_quadrature_and_no_correlation() -> None:
    """400,000 samples, seed 1: five standard errors of a variance are 5 sqrt(2/m) = 0.0112."""
    field = noise(1).vacuum(SAMPLES)
    quadratures = np.array([field.real, field.imag], np.float64)
    tolerance = 5.0 * math.sqrt(2.0 / SAMPLES)
    assert field.dtype == np.complex64
    assert np.cov(quadratures) == pytest.approx(np.eye(2), abs=tolerance)
    assert np.mean(quadratures, axis=1) == pytest.approx(np.zeros(2), abs=tolerance)


def test_vacuum_is_gaussian_and_white() -> None:
    """400,000 samples, seed 2: kurtosis 3 +- 5 sqrt(24/m), autocorrelation 0 +- 5/sqrt(m)."""
    values = noise(2).vacuum(SAMPLES).real.astype(np.float64)
    assert np.mean(values**4) == pytest.approx(3.0, abs=5.0 * math.sqrt(96.0 / SAMPLES))
    for lag in (1, 2, 7):
        correlation = np.mean(values[:-lag] * values[lag:])
        assert correlation == pytest.approx(0.0, abs=5.0 / math.sqrt(SAMPLES))


def test_a_stream_is_its_seed() -> None:
    assert np.array_equal(noise(3).normals(1000), noise(3).normals(1000))
    assert not np.array_equal(noise(3).normals(1000), noise(4).normals(1000))


def test_a_stream_does_not_repeat_itself() -> None:
    source = noise(3)
    assert not np.intersect1d(source.normals(100), source.normals(100)).size


@given(WINDOWS, WINDOWS, WINDOWS)
@settings(deadline=None)
def test_a_union_is_the_smallest_window_that_covers_all(a: Window, b: Window, c: Window) -> None:
    whole = union(a, b, c)
    assert whole.start == min(a.start, b.start, c.start)
    assert whole.stop == max(a.stop, b.stop, c.stop)
    assert union(union(a, b), c) == whole == union(c, b, a)


@given(WINDOWS, st.integers(-(10**9), 10**9))
@settings(deadline=None)
def test_a_shift_keeps_the_length_and_can_be_undone(window: Window, by: int) -> None:
    assert window.shifted(by).start - window.start == by
    assert window.shifted(by).samples == window.samples
    assert window.shifted(by).shifted(-by) == window


@given(st.integers(-50, 50), st.integers(0, 60), st.integers(-50, 50), st.integers(0, 60))
@settings(deadline=None)
def test_a_window_finds_its_samples_in_an_array_of_an_outer_one(
    start: int, samples: int, other_start: int, other_samples: int
) -> None:
    inner, other = Window(start, samples), Window(other_start, other_samples)
    outer = union(inner, other)
    times = np.arange(outer.start, outer.stop)
    assert np.array_equal(times[inner.within(outer)], np.arange(inner.start, inner.stop))


@pytest.mark.parametrize("inner", [Window(-1, 5), Window(7, 4), Window(20, 1)])
def test_a_window_that_sticks_out_is_refused_by_name(inner: Window) -> None:
    with pytest.raises(ValueError, match=rf"start={inner.start}.*is not inside.*start=0"):
        inner.within(Window(0, 10))
