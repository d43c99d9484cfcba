"""Phases of rows from pilots, held against two lasers that the test draws itself."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.dsp.pilot_phase import RowPhases, track_rows
from labctl.dsp.pilot_variance import RowPhase
from labctl.dsp.pulses import Doubles
from labctl.errors import SettingError, SignalError

HEAD, GUARD, ROWS = 257, 16, 200


def row(linewidth_hz: float, slots: int) -> RowPhase:
    """Two lasers of the same linewidth, at 20 MBd."""
    return RowPhase.of(
        slots,
        slots - 2,
        symbol_rate_hz=20e6,
        signal_linewidth_hz=linewidth_hz,
        oscillator_linewidth_hz=linewidth_hz,
    )


class Frame:
    """One frame's known symbols as a heterodyne receiver reads them, and the true phases."""

    def __init__(
        self, drawn: RowPhase, pilot_rad2: float, *, seed: int, turning: float = 0.0
    ) -> None:
        draw = np.random.default_rng(seed)
        total = HEAD + GUARD + ROWS * drawn.row_slots
        signal, oscillator = (
            np.cumsum(draw.normal(0.0, np.sqrt(walk), total))
            for walk in (drawn.signal_walk_rad2, drawn.oscillator_walk_rad2)
        )
        oscillator += draw.uniform(-np.pi, np.pi) + turning * np.arange(total)
        self.row = drawn
        starts = HEAD + GUARD + np.arange(ROWS) * drawn.row_slots
        self.slots = np.concatenate([np.arange(HEAD), starts])
        self.symbols = np.exp(2j * np.pi * draw.random(len(self.slots))).astype(np.complex64)
        noise = draw.standard_normal((2, len(self.slots))) * np.sqrt(pilot_rad2)
        clean = self.symbols * np.exp(1j * (signal - oscillator)[self.slots])
        self.read = (0.3 * (clean + noise[0] + 1j * noise[1])).astype(np.complex64)
        self.true = np.array(
            [
                oscillator[first + drawn.readout_slot]
                - signal[first + 1 : first + 1 + drawn.modes].mean()
                for first in starts
            ]
        )

    def tracked(self, assumed: RowPhase | None = None) -> RowPhases:
        return track_rows(self.read, self.symbols, self.slots, head=HEAD, row=assumed or self.row)

    def errors(self, found: RowPhases) -> Doubles:
        """Errors of all rows in rad, less whole turns that all have."""
        off = found.phase_rad - self.true
        return np.asarray(off - 2.0 * np.pi * np.round(np.median(off) / (2.0 * np.pi)))


@pytest.mark.parametrize(
    ("linewidth_hz", "slots", "pilot_rad2"),
    [
        pytest.param(100.0, 34, 0.1, id="narrow lasers, short rows"),
        pytest.param(100.0, 394, 0.1, id="narrow lasers, long rows"),
        pytest.param(1000.0, 34, 0.1, id="wider lasers, short rows"),
        pytest.param(300.0, 394, 0.01, id="bright pilots"),
        pytest.param(100.0, 394, 0.3, id="dim pilots"),
    ],
)
def test_rows_are_off_by_what_the_closed_form_says(
    linewidth_hz: float, slots: int, pilot_rad2: float
) -> None:
    """60 frames of 200 rows, seeds 0 to 59.

    A smoother's errors are alike over some 2 sqrt(s/Q) rows each way, at most 20 here, so that the
    mean square has 600 independent values: five of its errors are 29 %.
    """
    drawn = row(linewidth_hz, slots)
    squares, said = [], []
    for seed in range(60):
        frame = Frame(drawn, pilot_rad2, seed=seed, turning=1e-4)
        found = frame.tracked()
        squares.append(np.mean(frame.errors(found)[:-1] ** 2))
        said.append(np.mean(found.variance_rad2[:-1]))
        assert found.amplitude == pytest.approx(0.3, rel=0.2)
    closed = drawn.residual_rad2(pilot_rad2)
    assert np.mean(said) == pytest.approx(closed, rel=0.06)
    assert np.mean(squares) == pytest.approx(closed, rel=0.29)


def test_the_last_row_has_no_pilot_behind_it_and_says_so() -> None:
    """200 frames, seeds 0 to 199: a mean square of 200 values is known to 50 % at five errors."""
    drawn = row(100.0, 394)
    last = []
    for seed in range(200):
        frame = Frame(drawn, 0.02, seed=seed)
        found = frame.tracked()
        last.append(frame.errors(found)[-1])
    assert found.variance_rad2[-1] > 2.0 * found.variance_rad2[-2]
    assert np.mean(np.square(last)) == pytest.approx(found.variance_rad2[-1], rel=0.5)


def test_readouts_are_turned_back() -> None:
    frame = Frame(row(10.0, 34), 1e-4, seed=3)
    found = frame.tracked()
    readouts = (2.0 * np.exp(-1j * frame.true)).astype(np.complex64)[:, None]
    turned = found.turned(readouts)
    assert turned.shape == (ROWS, 1)
    assert np.max(np.abs(turned - 2.0)) < 0.3


def test_lasers_too_wide_for_the_rows_are_refused_with_what_would_do() -> None:
    frame = Frame(row(5000.0, 394), 0.05, seed=1)
    with pytest.raises(SignalError, match=r"at the next pilot.*shorter rows"):
        frame.tracked()


def test_a_laser_wider_than_stated_is_noticed() -> None:
    frame = Frame(row(3000.0, 34), 0.01, seed=1)
    with pytest.raises(SignalError, match=r"linewidth larger than stated"):
        frame.tracked(row(100.0, 34))


def test_a_laser_as_stated_is_not_accused() -> None:
    """200 frames, seeds 0 to 199, at five standard errors and 30 %."""
    for seed in range(200):
        assert Frame(row(300.0, 34), 0.05, seed=seed).tracked().scatter < 1.6


def test_dark_pilots_are_refused() -> None:
    frame = Frame(row(100.0, 34), 0.05, seed=1)
    frame.read[:] = 0.0
    with pytest.raises(SignalError, match="blocked"):
        frame.tracked()


@pytest.mark.parametrize("part", ["read", "symbols", "slots"])
def test_lists_of_unlike_length_are_refused(part: str) -> None:
    frame = Frame(row(100.0, 34), 0.05, seed=1)
    setattr(frame, part, getattr(frame, part)[:-1])
    with pytest.raises(SettingError, match="equally many"):
        frame.tracked()


def test_slots_out_of_order_are_refused() -> None:
    frame = Frame(row(100.0, 34), 0.05, seed=1)
    frame.slots[[-1, -2]] = frame.slots[[-2, -1]]
    with pytest.raises(SettingError, match="ascending"):
        frame.tracked()
