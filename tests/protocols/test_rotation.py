"""The rotation's elements: a line of couplers built one by one, and closed forms against draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.errors import SettingError
from labctl.protocols.encoding import Blocks
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation, made

Floats = NDArray[np.float32]
Values = NDArray[np.float64]
Field = NDArray[np.complex128]


def unit_blocks(random: np.random.Generator, images: int, modes: int, size: int) -> Floats:
    coefficients = random.normal(size=(images, 2 * modes)).astype(np.float32)
    for columns in Blocks.of(modes, size).slices(2):
        coefficients[:, columns] /= np.linalg.norm(coefficients[:, columns], axis=1, keepdims=True)
    return coefficients


def coupler_by_coupler(wanted: Field, errors: Values) -> Field:
    """Return the coefficients c' that a line collects: light in each mode in turn, to the output.

    Element k turns the collected light and mode k into each other by the angle that leaves the
    collected light the norm of c_1 ... c_k, plus its error.
    """
    made_of = np.zeros(len(wanted), np.complex128)
    for lit in range(len(wanted)):
        collected, norm = 0.0 + 0.0j, 0.0
        phase = 0.0
        for place, coefficient in enumerate(wanted):
            phase += errors[place, 1]
            light = np.exp(-1j * (np.angle(coefficient) + phase)) if place == lit else 0.0
            longer = math.hypot(norm, abs(coefficient))
            angle = math.acos(norm / longer) + errors[place, 0] if place and longer else 0.0
            if place == 0:
                angle = math.pi / 2.0
            collected = math.cos(angle) * collected + math.sin(angle) * light
            norm = longer
        made_of[lit] = np.conj(collected)
    return made_of


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.0, 1.0), st.integers(0, 2**32 - 1))
def test_each_block_collects_what_its_line_of_couplers_does(
    modes: int, size: int, spread: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    blocks = Blocks.of(modes, size)
    coefficients = unit_blocks(random, 2, modes, size)
    errors = spread * random.standard_normal((blocks.size, 2))
    found = made(coefficients, blocks, errors)
    for image, row in enumerate(coefficients):
        for columns, length in zip(blocks.slices(2), blocks.sizes, strict=True):
            part = row[columns].astype(np.float64)
            wanted = np.zeros(blocks.size, np.complex128)
            wanted[:length] = part[0::2] + 1j * part[1::2]
            expected = coupler_by_coupler(wanted, errors)[:length]
            got = found[image, columns]
            assert got[0::2] + 1j * got[1::2] == pytest.approx(expected, abs=2e-6)


@settings(deadline=None)
@given(st.integers(1, 30), st.floats(0.0, 2.0), st.integers(0, 2**32 - 1))
def test_a_full_block_keeps_unit_norm_whatever_the_errors(
    modes: int, spread: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    errors = spread * random.standard_normal((modes, 2))
    found = made(unit_blocks(random, 3, modes, modes), Blocks.of(modes, None), errors)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_without_errors_a_line_does_what_it_is_set_to(modes: int, size: int, seed: int) -> None:
    coefficients = unit_blocks(np.random.default_rng(seed), 3, modes, size)
    blocks = Blocks.of(modes, size)
    found = made(coefficients, blocks, np.zeros((blocks.size, 2)))
    assert found == pytest.approx(coefficients, abs=2e-6)


def test_dark_blocks_stay_dark_and_dark_modes_do_no_harm() -> None:
    coefficients = np.zeros((1, 8), np.float32)
    coefficients[0, 6] = 1.0
    errors = 0.1 * np.random.default_rng(1).standard_normal((2, 2))
    found = made(coefficients, Blocks.of(4, 2), errors)
    assert not found[0, :4].any()
    assert float(np.linalg.norm(found[0, 4:])) == pytest.approx(1.0, abs=1e-6)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("modes", [1, 2, 7, 60])
@pytest.mark.parametrize(
    "rotation", [Rotation(0.0, 0.1, 0.0), Rotation(0.0, 0.0, 0.08), Rotation(0.0, 0.05, 0.05)]
)
def test_overlap_is_the_mean_over_units(rotation: Rotation, modes: int) -> None:
    """4000 units, flat settings: mean of Re <c, c'> within four standard errors."""
    random = np.random.default_rng(3)
    flat = np.zeros((1, 2 * modes), np.float32)
    flat[0, 0::2] = 1.0 / math.sqrt(modes)
    blocks = Blocks.of(modes, None)
    drawn = [
        float(made(flat, blocks, rotation.draw_errors(modes, random))[0] @ flat[0])
        for _ in range(4000)
    ]
    error = float(np.std(drawn)) / math.sqrt(4000)
    assert rotation.overlap(modes) == pytest.approx(np.mean(drawn), abs=4.0 * error + 1e-6)


def test_errors_have_the_spread_they_are_given() -> None:
    """20,000 elements: four standard errors of a standard deviation are 2 %."""
    errors = Rotation(0.0, 0.02, 0.5).draw_errors(20_000, np.random.default_rng(4))
    assert errors.std(axis=0) == pytest.approx([0.02, 0.5], rel=0.02)


def test_loss_counts_every_element_each_way() -> None:
    """0.01 dB per mode is 8 dB for a row of 392 modes and 1 dB for a block of 49."""
    rotation = Rotation(0.01)
    assert rotation.loss_db(392) == pytest.approx(3.92)
    assert rotation.transmittance(392) == pytest.approx(10.0 ** (-0.784))
    assert rotation.transmittance(49) == pytest.approx(10.0 ** (-0.098))
    assert IDEAL_ROTATION.transmittance(392) == 1.0


@settings(deadline=None)
@given(st.floats(0.01, 100.0), st.integers(1, 392), st.floats(0.0, 0.3), st.floats(0.0, 0.3))
def test_errors_only_lower_the_signal_and_more_so_in_longer_blocks(
    ideal: float, modes: int, coupler: float, phase: float
) -> None:
    rotation = Rotation(0.0, coupler, phase)
    reached = rotation.signal_to_noise(ideal, modes)
    assert 0.0 <= reached <= ideal * (1.0 + 1e-12)
    assert rotation.signal_to_noise(ideal, modes + 1) <= reached * (1.0 + 1e-9)
    assert IDEAL_ROTATION.signal_to_noise(ideal, modes) == ideal


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, 1000.0])
@pytest.mark.parametrize("name", ["loss_db_per_mode", "coupler_error_rad", "phase_error_rad"])
def test_what_no_element_can_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(SettingError, match=name):
        Rotation(**{name: value})
