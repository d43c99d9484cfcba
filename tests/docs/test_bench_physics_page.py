"""The page of bench numbers: what it says is computed, is computed here again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy import constants, stats

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.dsp.pilot_variance import signal_to_noise_left
from labctl.protocols.receiver import emission_factor_of_noise_figure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bench-physics.md"
TEXT = " ".join(PAGE.read_text(encoding="utf-8").split())
Q, C, H = constants.e, constants.c, constants.h


def said(words: str) -> bool:
    return words in TEXT


@pytest.mark.parametrize(
    ("linewidth_hz", "symbol", "row", "words"),
    [
        (100.0, 1.26e-5, 9.9e-3, "1.26e-5 rad² per symbol at 100 MBaud, 9.9e-3 over 784 symbols"),
        (10e3, 1.26e-3, 0.985, "Of 10 kHz: 1.26e-3 and 0.985"),
    ],
)
def test_the_phase_of_two_lasers(
    linewidth_hz: float, symbol: float, row: float, words: str
) -> None:
    variance = 2 * 2 * math.pi * linewidth_hz / 100e6
    assert said(words)
    assert variance == pytest.approx(symbol, rel=5e-3)
    assert 784 * variance == pytest.approx(row, rel=6e-3)


def test_what_a_phase_error_leaves_of_f() -> None:
    assert said("at F = 2 and v = 0.05 it is 1.73")
    assert signal_to_noise_left(2.0, 0.05) == pytest.approx(1.73, abs=0.005)


def test_what_is_left_of_the_local_oscillators_intensity_noise() -> None:
    assert said("0.047, 0.0148 and 0.0015 for 25, 30 and 40 dB")
    whole = 0.95 * 5e-3 * 1e-15 / (2 * Q)
    for rejection_db, left in ((25, 0.047), (30, 0.0148), (40, 0.0015)):
        assert whole * 10 ** (-rejection_db / 10) == pytest.approx(left, rel=0.02)


def test_converters() -> None:
    assert said("1.27e-4, 7.9e-6, 5.0e-7 for 8, 10, 12 effective bits")
    for bits, noise in ((8, 1.27e-4), (10, 7.9e-6), (12, 5.0e-7)):
        assert 100 / (12 * 4**bits) == pytest.approx(noise, rel=0.01)
    assert said("loses 0.58 dB at a fifth of its rate")
    assert -20 * math.log10(math.sin(0.2 * math.pi) / (0.2 * math.pi)) == pytest.approx(
        0.58, abs=0.005
    )
    assert said("64 dB for 1 ps at 100 MHz")
    assert -20 * math.log10(2 * math.pi * 1e8 * 1e-12) == pytest.approx(64, abs=0.1)


def test_fibre() -> None:
    assert said("25 km spread 100 MHz by 0.34 ps")
    width_nm = (1550e-9) ** 2 * 100e6 / C * 1e9
    assert 17 * 25 * width_nm == pytest.approx(0.34, abs=0.005)
    assert said("4.9 µs/km")
    assert pytest.approx(4.9, abs=0.01) == 1.468 * 1e3 / C * 1e6


def test_receiver() -> None:
    assert said("1.2502 A/W; one photon 1.2816e-19 J")
    assert pytest.approx(1.2502, abs=5e-5) == Q * 1550e-9 / (H * C)
    assert pytest.approx(1.2816e-19, rel=5e-5) == H * C / 1550e-9
    noise_a_rthz = math.sqrt(1.1818e-5 / 500e6) / 13e3
    assert said("11.8 pA per root hertz: v_el 0.47, 0.094 and 0.047 at 1, 5 and 10 mW")
    assert noise_a_rthz == pytest.approx(11.8e-12, rel=5e-3)
    assert said("5.0, 10.7 and 13.5 dB of clearance")
    for power_w, noise, clearance_db in (
        (1e-3, 0.47, 5.0),
        (5e-3, 0.094, 10.7),
        (10e-3, 0.047, 13.5),
    ):
        v_el = noise_a_rthz**2 / (2 * Q * 0.93 * power_w)
        assert v_el == pytest.approx(noise, rel=0.01)
        receiver = ReceiverCalibration(1.0, v_el, 1.0 + v_el, 100)
        assert receiver.clearance_db == pytest.approx(clearance_db, abs=0.05)


def test_a_strong_amplifier_adds_its_noise_figure_less_one() -> None:
    assert said("1.0, 1.82 and 2.98 SNU for 3.01, 4.5 and 6 dB")
    gain = 1e5
    for figure_db, added in ((3.0103, 1.0), (4.5, 1.82), (6.0, 2.98)):
        factor = emission_factor_of_noise_figure(figure_db, gain)
        assert (2 * factor - 1) * (gain - 1) / gain == pytest.approx(added, abs=0.005)


def test_samples() -> None:
    assert said("0.056 for 784 samples, 0.0156 for 10,000, 0.0020 for the 622,496")
    for samples, error in ((784, 0.056), (10_000, 0.0156), (622_496, 0.0020), (10**7, 0.0005)):
        assert 1.1 * math.sqrt(2 / samples) == pytest.approx(error, rel=0.03)
    assert said("84 % of cases for m = m_cal, and in 45 % where m is ten times m_cal")
    for ratio, share in ((1.0, 0.84), (10.0, 0.45)):
        held = 1 - 2 * stats.norm.sf(1.96 / math.sqrt(1 + ratio))
        assert held == pytest.approx(share, abs=0.01)
