"""Frames: which symbol lies in which slot, and the waveforms that carry it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.dsp.layout import PEAK, FrameLayout, modulator_drive, zadoff_chu
from labctl.dsp.pulses import HANN
from labctl.errors import SettingError

odd_lengths = st.integers(1, 300).map(lambda half: 2 * half + 1)


def layout(
    rows: int = 3, modes: int = 4, sample_rate_hz: float = 160e6, preamble_symbols: int = 31
) -> FrameLayout:
    return FrameLayout(
        symbol_rate_hz=20e6,
        sample_rate_hz=sample_rate_hz,
        preamble_symbols=preamble_symbols,
        guard_symbols=5,
        rows=rows,
        modes=modes,
    )


@settings(deadline=None)
@given(odd_lengths)
def test_preamble_has_unit_modulus_and_no_cyclic_sidelobes(symbols: int) -> None:
    sequence = zadoff_chu(symbols).astype(np.complex128)
    assert np.allclose(np.abs(sequence), 1.0, atol=1e-5)
    sidelobes = [abs(np.vdot(np.roll(sequence, shift), sequence)) for shift in range(1, symbols)]
    assert max(sidelobes) < 1e-4 * symbols


@pytest.mark.parametrize("symbols", [2, 64])
def test_preamble_of_even_length_is_refused(symbols: int) -> None:
    with pytest.raises(SettingError, match="odd"):
        zadoff_chu(symbols)


def test_pulse_is_a_hann_of_7_8_slot_from_1_8_slot_early() -> None:
    times = np.linspace(-0.5, 1.5, 2001)
    expected = 0.5 - 0.5 * np.cos(2.0 * math.pi * (times + 0.125) / 0.875)
    expected[(times < -0.125) | (times > 0.75)] = 0.0
    assert np.allclose(HANN.field(times), expected, atol=1e-12)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20))
def test_slots_are_counted(rows: int, modes: int) -> None:
    """Preamble, guard, then per row pilot, modes and readout; a guard ends the frame."""
    frame = layout(rows, modes)
    assert frame.samples_per_symbol == 8
    assert frame.row_slots == 1 + modes + 1
    assert frame.first_row_slot == 31 + 5
    assert frame.slots == 31 + 5 + rows * (modes + 2) + 5
    assert frame.duration_s == pytest.approx(frame.slots * 50e-9, rel=1e-12)
    assert frame.rows_start_s == pytest.approx(36 * 50e-9, rel=1e-12)
    assert len(frame.pulses(np.zeros(frame.slots, np.float32))) == 8 * frame.slots


def test_every_symbol_lies_in_its_slot() -> None:
    frame = layout()
    quadratures = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    symbols = frame.server_symbols(quadratures, 0.2)
    assert symbols.shape == (frame.slots,)
    assert np.allclose(symbols[:31], PEAK * zadoff_chu(31), atol=1e-6)
    assert not symbols[31:36].any()
    assert not symbols[-5:].any()
    for row in range(3):
        first = 36 + 6 * row
        assert symbols[first] == pytest.approx(PEAK * (1j if row % 2 else 1.0), rel=1e-6)
        for mode in range(4):
            x, p = quadratures[row, 2 * mode], quadratures[row, 2 * mode + 1]
            assert symbols[first + 1 + mode] == pytest.approx(0.2 * (x + 1j * p), rel=1e-5)
        assert symbols[first + 5] == 0.0


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e6))
def test_no_field_exceeds_the_modulator_on_either_axis(seed: int, size: float) -> None:
    quadratures = (size * np.random.default_rng(seed).normal(size=(3, 8))).astype(np.float32)
    scale = PEAK / float(np.abs(quadratures).max())
    symbols = layout().server_symbols(quadratures, scale)
    for fields in (symbols.real, symbols.imag):
        assert np.abs(fields).max() <= PEAK * (1 + 1e-6)


def test_without_pilots_only_the_payload_is_lit() -> None:
    frame = layout()
    quadratures = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    whole = frame.server_symbols(quadratures, 0.2)
    payload = frame.server_symbols(quadratures, 0.2, pilots=False)
    assert not payload[:36].any()
    rows, kept = whole[36:-5].reshape(3, 6), payload[36:-5].reshape(3, 6)
    assert np.array_equal(rows[:, 1:-1], kept[:, 1:-1])
    assert not kept[:, [0, 5]].any()


def test_pilots_alternate_so_that_one_quadrature_sees_both() -> None:
    assert np.array_equal(layout(rows=4).pilots, np.array([1.0, 1j, 1.0, 1j]))


def test_pulses_scale_with_their_symbol_and_keep_to_their_slot() -> None:
    frame = layout()
    values = np.arange(frame.slots, dtype=np.float32)
    shaped = frame.pulses(values).reshape(frame.slots, 8)
    samples = HANN.field(np.arange(8) / 8.0)
    assert np.allclose(shaped, np.outer(values, samples), rtol=1e-6)
    assert not shaped[:, 6:].any()


def test_rotation_holds_each_coefficient_over_its_mode_s_slot() -> None:
    coefficients = np.array([0.1, -0.2, 0.4, 0.0, -0.8, 0.3, 0.0, 0.2], np.float32)
    real, imaginary = layout().rotation_levels(coefficients)
    assert real.shape == imaginary.shape == (6 * 8,)
    for levels, part in ((real, coefficients[0::2]), (imaginary, coefficients[1::2])):
        slots = levels.reshape(6, 8)
        assert np.all(slots == slots[:, :1])
        assert np.allclose(slots[1:5, 0], part / 0.8, rtol=1e-6)
        assert not slots[[0, 5]].any()


def test_rotation_of_an_empty_image_stays_at_rest() -> None:
    real, imaginary = layout().rotation_levels(np.zeros(8, np.float32))
    assert not real.any()
    assert not imaginary.any()


@settings(deadline=None)
@given(st.floats(-1.0, 1.0))
def test_modulator_drive_makes_the_field_linear(field: float) -> None:
    """A Mach-Zehnder biased at null passes sin(pi v / (2 V_pi)) of the field."""
    drive = modulator_drive(np.array([field], np.float32))
    assert np.all(np.abs(drive) <= 1.0)
    assert np.sin(math.pi / 2.0 * float(drive[0])) == pytest.approx(field, abs=1e-6)


@pytest.mark.parametrize("sample_rate_hz", [60e6, 90e6, 20e6, 0.0])
def test_samples_must_divide_the_slot_into_4_or_more(sample_rate_hz: float) -> None:
    with pytest.raises(SettingError, match="whole multiple"):
        layout(sample_rate_hz=sample_rate_hz)


# Rows with further pilots.


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 50))
def test_pilots_lie_at_most_their_spacing_of_modes_apart(
    rows: int, modes: int, spacing: int
) -> None:
    frame = replace(layout(rows, modes), pilot_spacing=spacing)
    offsets, carried = frame.pilot_offsets, frame.mode_offsets
    assert offsets[0] == 0
    assert len(carried) == modes
    assert sorted([*offsets, *carried]) == list(range(frame.row_slots - 1))
    if spacing:
        assert all(np.diff([*offsets, frame.row_slots - 1]) <= spacing + 1)
    else:
        assert len(offsets) == 1


def test_a_row_with_further_pilots_carries_all_its_modes_and_leaves_pilots_unrotated() -> None:
    frame = replace(layout(rows=2, modes=4), pilot_spacing=2)
    quadratures = np.arange(16, dtype=np.float32).reshape(2, 8) + 1.0
    rows = frame.server_symbols(quadratures, 0.01)[36:-5].reshape(2, 7)
    expected = 0.01 * (quadratures[:, 0::2] + 1j * quadratures[:, 1::2])
    assert np.allclose(rows[:, [1, 2, 4, 5]], expected)
    assert np.allclose(rows[:, [0, 3]], PEAK * np.array([[1.0, 1j], [1.0, 1j]]))
    real, _ = frame.rotation_levels(np.ones(8, np.float32))
    assert np.array_equal(real[::8], [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0])


def test_reference_is_what_a_frame_without_payload_shows() -> None:
    frame = replace(layout(rows=3, modes=5), pilot_spacing=2)
    slots, symbols = frame.reference
    whole = frame.server_symbols(np.zeros((3, 10), np.float32), 1.0)
    assert np.array_equal(np.flatnonzero(whole), slots)
    assert np.allclose(whole[slots], symbols)


def test_a_negative_pilot_spacing_is_refused() -> None:
    with pytest.raises(SettingError, match="pilot_spacing"):
        replace(layout(), pilot_spacing=-1)


def test_a_row_of_several_turns_carries_its_modes_in_the_first_and_is_dark_in_the_others() -> None:
    once, frame = layout(rows=3, modes=4), replace(layout(rows=3, modes=4), turns=3)
    assert frame.row_slots == 3 * once.row_slots
    assert frame.readout_offsets.tolist() == [5, 11, 17]
    assert once.readout_offsets.tolist() == [5]
    quadratures = np.random.default_rng(1).uniform(-1.0, 1.0, (3, 8)).astype(np.float32)
    sent = [one.server_symbols(quadratures, 0.5) for one in (once, frame)]
    rows = [
        symbols[one.first_row_slot : -one.guard_symbols].reshape(3, -1)
        for one, symbols in zip((once, frame), sent, strict=True)
    ]
    assert np.array_equal(rows[1][:, 1:6], rows[0][:, 1:6])
    assert np.allclose(np.abs(rows[1][:, [0, 6, 12]]), PEAK)
    lit = rows[1].copy()
    lit[:, [0, 6, 12]] = 0.0
    assert not lit[:, 6:].any()
    slots, symbols = frame.reference
    assert np.allclose(sent[1][slots], symbols)


def test_each_turn_gets_its_own_coefficients_at_full_scale() -> None:
    frame = replace(layout(modes=4), turns=3)
    modes = np.random.default_rng(2).uniform(-0.1, 0.1, (2, 8)).astype(np.float32)
    real, imaginary = (
        part.reshape(3, 6, frame.samples_per_symbol)[:, :, 3]
        for part in frame.rotation_levels(modes)
    )
    for turn, mode in enumerate(modes):
        largest = np.max(np.abs(mode))
        assert real[turn, 1:5] == pytest.approx(mode[0::2] / largest)
        assert imaginary[turn, 1:5] == pytest.approx(mode[1::2] / largest)
    assert not real[2].any()
    assert not imaginary[2].any()
    assert not real[:, [0, 5]].any()


def test_more_modes_than_turns_are_refused() -> None:
    with pytest.raises(SettingError, match="one per turn"):
        layout(modes=4).rotation_levels(np.ones((2, 8), np.float32))
    with pytest.raises(SettingError, match="turns"):
        replace(layout(), turns=0)
