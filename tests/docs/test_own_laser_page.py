"""The page of the client's local oscillator: its table of linewidths and rows, computed again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from labctl.data import shipped_station_path
from labctl.dsp.pilot_variance import signal_to_noise_left
from labctl.errors import SettingError
from labctl.protocols.own_oscillator import SYMBOL_RATE_HZ, OwnOscillator
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.station.file import read_station_file

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "own-laser.md").read_text(encoding="utf-8")
DEMO = read_station_file(shipped_station_path())
DETECTOR = Homodyne(DEMO.client.constants.efficiency, DEMO.client.constants.electronic_noise)
RECEIVER = CloneReceiver(1.3, 1.0, DETECTOR.heterodyne())
LEG = math.sqrt(DEMO.server.constants.transmittance)
LIGHT = (0.57, 8.9)


def lines(table: str) -> list[list[str]]:
    """Cells of the rows of the table whose head begins so."""
    block = TEXT[TEXT.index(table) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block]


def phase_rad2(linewidth_hz: float, modes: int, mu: float) -> float:
    own = OwnOscillator(linewidth_hz, linewidth_hz)
    return own.phase_rad2(modes, arriving_photons=mu * LEG, referred_noise=RECEIVER.referred_noise)


def is_refused(linewidth_hz: float, modes: int, mu: float) -> bool:
    try:
        phase_rad2(linewidth_hz, modes, mu)
    except SettingError:
        return True
    return False


def share(linewidth_hz: float, modes: int, mu: float) -> float:
    before = RECEIVER.signal_to_noise(mu, LEG)
    return signal_to_noise_left(before, phase_rad2(linewidth_hz, modes, mu)) / before


@pytest.mark.parametrize("line", lines("| modes of a row"), ids=lambda line: line[0])
def test_widest_lasers_and_what_is_left_of_f(line: list[str]) -> None:
    modes, row_s = int(line[0]), float(line[1].split()[0]) * 1e-6
    assert row_s == pytest.approx((modes + 2) / SYMBOL_RATE_HZ, rel=1e-9)
    for mu, widest, left in zip(LIGHT, line[2:4], line[4:6], strict=True):
        hz = float(widest.split()[0]) * 1e3
        assert not is_refused(0.995 * hz, modes, mu)
        assert is_refused(1.005 * hz, modes, mu)
        assert share(100.0, modes, mu) == pytest.approx(float(left), abs=6e-4)


def test_linewidth_times_row_is_one_number() -> None:
    assert "below 0.0145 at μ = 0.57, and below 0.0194 at μ = 8.9" in TEXT
    for mu, most in zip(LIGHT, (0.0145, 0.0194), strict=True):
        for modes in (8, 98, 392):
            row_s = (modes + 2) / SYMBOL_RATE_HZ
            assert is_refused(1.01 * most / row_s, modes, mu)
            assert not is_refused(0.99 * most / row_s, modes, mu)
    assert "0.92 and 0.87 of F are left" in TEXT
    for mu, most, left in zip(LIGHT, (0.0144, 0.0193), (0.92, 0.87), strict=True):
        assert share(most * SYMBOL_RATE_HZ / 394, 392, mu) == pytest.approx(left, abs=0.006)


def test_half_of_the_efficiency_costs_what_is_said() -> None:
    assert "the half of the efficiency: 0.525 of F" in TEXT
    homodyne = CloneReceiver(1.3, 1.0, DETECTOR)
    assert homodyne.referred_noise / RECEIVER.referred_noise == pytest.approx(0.525, abs=5e-4)


def test_the_benchs_table_is_within_chance_and_the_bench_of_the_closed_form() -> None:
    """Five errors of 3 %, and 5 % of the bench."""
    table = [line for line in lines("| linewidth, Hz") if "refused" not in line]
    assert len(table) == 8
    for line in table:
        closed_v, stated_v, closed, found = (float(line[at]) for at in (3, 4, 6, 7))
        assert stated_v == pytest.approx(closed_v, rel=0.1)
        assert 0.8 * closed < found < 1.15 * closed
