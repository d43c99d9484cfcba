"""Phase tracking: Wiener phases of any linewidth are followed as well as predicted, or refused.

Values are made from the definition, y = A Re(s exp(-i phi)) + noise, in units of the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.dsp.layout import PEAK, Complexes, Floats, FrameLayout
from labctl.dsp.phase import PhaseTrack, track_phase
from labctl.errors import SignalError

SYMBOL_RATE_HZ = 20e6
LAYOUT = FrameLayout(
    symbol_rate_hz=SYMBOL_RATE_HZ,
    sample_rate_hz=160e6,
    preamble_symbols=257,
    guard_symbols=16,
    rows=100,
    modes=392,
)
TRANSMISSION = 0.5
# Field of pilots over the payload's standard deviation per quadrature.
PILOT_RATIO = 9.5


@dataclass(frozen=True)
class Received:
    """A frame's symbols in SNU, its phases and what is read of them."""

    layout: FrameLayout
    symbols: Complexes
    phase_rad: NDArray[np.float64]
    read: Floats

    @property
    def known(self) -> NDArray[np.int64]:
        """Slots whose symbol the sender knows: all but the readouts."""
        readout = self.layout.row_starts + self.layout.row_slots - 1
        last = self.layout.slots - self.layout.guard_symbols
        return np.setdiff1d(np.arange(last), readout)

    @property
    def pilots(self) -> NDArray[np.int64]:
        """Slots whose symbol everybody knows."""
        return self.layout.reference[0]

    def track(self, slots: NDArray[np.int64], linewidth: float) -> PhaseTrack:
        """Track through `slots`, given a linewidth times symbol time."""
        return track_phase(
            self.read[slots],
            self.symbols[slots],
            slots,
            symbol_rate_hz=SYMBOL_RATE_HZ,
            linewidth_hz=linewidth * SYMBOL_RATE_HZ,
        )

    def error_rad2(self, track: PhaseTrack, slots: NDArray[np.int64]) -> float:
        """Return the mean squared error of the tracked phase."""
        difference = np.exp(1j * (track.at(slots) - self.phase_rad[slots]))
        return float(np.mean(np.angle(difference) ** 2))


def receive(
    linewidth: float,
    *,
    layout: FrameLayout = LAYOUT,
    photons: float = 4.0,
    offset_hz: float = 0.0,
    first_rad: float = 0.7,
    seed: int = 1,
) -> Received:
    """Return a frame of `photons` per mode that suffered a linewidth (times symbol time)."""
    random = np.random.default_rng(seed)
    deviation = math.sqrt(2.0 * photons)
    quadratures = deviation * random.standard_normal((layout.rows, 2 * layout.modes))
    symbols = layout.server_symbols(quadratures.astype(np.float32), 1.0)
    pilots, fields = layout.reference
    symbols[pilots] = fields * np.float32(PILOT_RATIO * deviation / PEAK)
    walk = math.sqrt(2.0 * math.pi * linewidth) * random.standard_normal(layout.slots)
    turning = 2.0 * math.pi * offset_hz / SYMBOL_RATE_HZ * np.arange(layout.slots)
    phase_rad = first_rad + np.cumsum(walk) + turning
    read = math.sqrt(TRANSMISSION) * np.real(symbols * np.exp(-1j * phase_rad))
    read += random.standard_normal(layout.slots)
    return Received(layout, symbols, phase_rad, read.astype(np.float32))


@pytest.mark.parametrize("photons", [4.0, 0.57])
@pytest.mark.parametrize("linewidth", [1e-7, 5e-6, 1e-4, 1e-3])
def test_known_data_follow_the_phase_as_well_as_predicted(linewidth: float, photons: float) -> None:
    """39,000 symbols, seed 1; slow phases have few independent errors, so the bounds are wide."""
    received = receive(linewidth, photons=photons)
    track = received.track(received.known, linewidth)
    error = received.error_rad2(track, received.known)
    slack = 1.0 + 4.0 * math.sqrt(2.0 / track.freedom)
    assert 0.55 / slack < error / track.residual_variance_rad2 < 1.15 * slack
    assert abs(track.measured_variance_rad2 - error) < 5.0 * track.measured_error_rad2
    assert track.amplitude == pytest.approx(math.sqrt(TRANSMISSION), rel=0.02 + 0.6 * error)
    assert track.noise_v == pytest.approx(1.0, abs=0.025)


@pytest.mark.parametrize("offset_hz", [12_248.0, -12_248.0])
def test_no_turn_is_lost_where_the_head_cannot_show_the_offset(offset_hz: float) -> None:
    """8,133 symbols at 1 photon; seeds of which every fifth was a turn off behind some window."""
    linewidth = 1e-8 * 10.0**3.75
    layout = replace(LAYOUT, rows=20)
    for seed in (1, 3, 5, 8, 16, 68, 99, 100, 121, *range(20, 40)):
        received = receive(
            linewidth,
            layout=layout,
            photons=1.0,
            offset_hz=offset_hz,
            first_rad=1.0,
            seed=seed,
        )
        track = received.track(received.known, linewidth)
        assert received.error_rad2(track, received.known) < 2.0 * track.residual_variance_rad2


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0.0, 1.0),
    st.floats(0.3, 6.0),
    st.floats(-30e3, 30e3),
    st.floats(-math.pi, math.pi),
    st.integers(0, 2**32 - 1),
)
def test_whatever_the_light_the_phase_is_right_or_refused(
    size: float, photons: float, offset_hz: float, first_rad: float, seed: int
) -> None:
    """Linewidth times symbol time from 1e-8 to 1e-2; the worst of 40 is below 5 predictions."""
    linewidth = 1e-8 * 10.0 ** (6.0 * size)
    layout = replace(LAYOUT, rows=20)
    received = receive(
        linewidth,
        layout=layout,
        photons=photons,
        offset_hz=offset_hz,
        first_rad=first_rad,
        seed=seed,
    )
    try:
        track = received.track(received.known, linewidth)
    except SignalError:
        assert linewidth > 1e-3
        return
    error = received.error_rad2(track, received.known)
    assert error < 5.0 * track.residual_variance_rad2
    assert track.residual_variance_rad2 <= 0.2


@pytest.mark.parametrize(("linewidth", "spacing"), [(1e-7, 0), (1e-5, 96), (1e-4, 32), (1e-3, 8)])
def test_pilots_alone_follow_the_phase_where_they_are_dense_enough(
    linewidth: float, spacing: int
) -> None:
    received = receive(linewidth, layout=replace(LAYOUT, rows=60, pilot_spacing=spacing))
    track = received.track(received.pilots, linewidth)
    error = received.error_rad2(track, received.known)
    assert 0.3 < error / track.residual_variance_rad2 < 2.0


@pytest.mark.parametrize(("linewidth", "spacing"), [(1e-3, 0), (1e-3, 64), (1e-4, 0), (1e-2, 8)])
def test_pilots_too_far_apart_are_told_with_what_would_do(linewidth: float, spacing: int) -> None:
    received = receive(linewidth, layout=replace(LAYOUT, rows=20, pilot_spacing=spacing))
    with pytest.raises(SignalError, match=r"pilots at most \d+ slots apart") as expected:
        received.track(received.pilots, linewidth)
    most = int(str(expected.value).split("at most ")[-1].split(" ")[0])
    assert 2.0 * math.pi * linewidth * 3 * most <= 0.6


def test_residual_phase_costs_transmission_and_adds_noise() -> None:
    """T exp(-v) and (V_A + xi0)(exp(v) - 1), with the v that the track reports.

    Pilots alone are tracked, the payload is regressed on what was sent: 60 frames' worth of 23,500
    modes, seeds 10 to 15, with V_A = 8 and xi0 = 0; 4 sigma of T and xi, and 15 % of v, are
    allowed.
    """
    photons, linewidth = 4.0, 1e-3
    layout = replace(LAYOUT, rows=60, pilot_spacing=8)
    slopes, residuals, predicted = [], [], []
    for seed in range(10, 16):
        received = receive(linewidth, layout=layout, photons=photons, seed=seed)
        track = received.track(received.pilots, linewidth)
        modes = (layout.row_starts[:, None] + layout.mode_offsets).ravel()
        cosine, sine = track.cosine_sine(modes)
        sent = received.symbols[modes]
        expected = (cosine * sent.real + sine * sent.imag).astype(np.float64)
        read = received.read[modes].astype(np.float64)
        slope = float(expected @ read) / float(expected @ expected)
        slopes.append(slope)
        residuals.append(float(np.mean((read - slope * expected) ** 2)))
        predicted.append(track.residual_variance_rad2)
    count, v = 6 * 60 * 392, float(np.mean(predicted))
    assert v > 0.01
    transmission = float(np.mean(slopes)) ** 2
    assert -math.log(transmission / TRANSMISSION) == pytest.approx(
        v, rel=0.15, abs=4.0 * 2.0 / math.sqrt(count * TRANSMISSION * 8.0)
    )
    excess = (float(np.mean(residuals)) - 1.0) / transmission
    assert excess == pytest.approx(
        8.0 * math.expm1(v), rel=0.15, abs=4.0 * math.sqrt(2.0 / count) / transmission
    )


def test_freedom_is_what_a_residual_over_the_same_symbols_lacks() -> None:
    """20 frames of 39,000 symbols, seeds 0 to 19: a mean variance is known to 0.16 %."""
    found, corrected = [], []
    for seed in range(20):
        received = receive(2e-5, seed=seed)
        slots = received.known
        track = received.track(slots, 2e-5)
        cosine, sine = track.cosine_sine(slots)
        sent = received.symbols[slots]
        model = track.amplitude * (cosine * sent.real + sine * sent.imag)
        found.append(float(np.var(received.read[slots] - model)))
        corrected.append(found[-1] / (1.0 - track.freedom / len(slots)))
    assert float(np.mean(found)) < 0.994
    assert float(np.mean(corrected)) == pytest.approx(1.0, abs=0.0065)


@pytest.mark.parametrize("offset_hz", [-38e3, -5e3, 100.0, 20e3, 38e3])
@pytest.mark.parametrize("linewidth", [0.0, 5e-6])
def test_a_slow_frequency_offset_is_followed(offset_hz: float, linewidth: float) -> None:
    received = receive(linewidth, offset_hz=offset_hz)
    both = [received.known, received.pilots] if abs(offset_hz) < 30e3 else [received.known]
    for slots in both:
        track = received.track(slots, linewidth)
        error = received.error_rad2(track, received.known)
        assert error < 4.0 * track.residual_variance_rad2
        turned = track.drift_rad * SYMBOL_RATE_HZ / (2.0 * math.pi)
        assert turned == pytest.approx(offset_hz, abs=1500.0 if linewidth else 60.0)


@pytest.mark.parametrize("offset_hz", [-38e3, 38e3])
def test_an_offset_that_turns_all_pilots_onto_one_axis_is_told(offset_hz: float) -> None:
    """3/4 of a turn per row, one pilot each: alternate pilots come to lie on one quadrature."""
    received = receive(1e-7, offset_hz=offset_hz)
    with pytest.raises(SignalError, match="both X and P"):
        received.track(received.pilots, 1e-7)


@pytest.mark.parametrize("offset_hz", [-90e3, 60e3])
def test_a_large_frequency_offset_is_told(offset_hz: float) -> None:
    received = receive(1e-7, offset_hz=offset_hz)
    with pytest.raises(SignalError, match="Hz off the local oscillator"):
        received.track(received.known, 1e-7)


@pytest.mark.parametrize(("truth", "expected"), [(3e-3, 1e-7), (1e-3, 1e-6), (1e-2, 1e-5)])
def test_light_much_wider_than_told_is_told(truth: float, expected: float) -> None:
    received = receive(truth)
    with pytest.raises(SignalError):
        received.track(received.known, expected)


def test_light_somewhat_wider_than_told_shows_in_what_is_measured() -> None:
    """Stated 1e-6, true 1e-5: the measured residual is far above the predicted one."""
    received = receive(1e-5)
    track = received.track(received.known, 1e-6)
    excess = track.measured_variance_rad2 - track.residual_variance_rad2
    assert excess > 5.0 * track.measured_error_rad2


@pytest.mark.parametrize("linewidth", [0.0, 1e-6, 1e-3])
@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_has_no_phase(linewidth: float, seed: int) -> None:
    received = receive(0.0)
    noise = np.random.default_rng(seed).standard_normal(len(received.read)).astype(np.float32)
    with pytest.raises(SignalError):
        replace(received, read=noise).track(received.known, linewidth)


def test_a_dead_receiver_has_no_phase() -> None:
    received = receive(0.0)
    with pytest.raises(SignalError, match="blocked"):
        replace(received, read=np.zeros_like(received.read)).track(received.known, 0.0)


def test_symbols_on_one_axis_cannot_tell_a_phase() -> None:
    received = receive(0.0)
    real = replace(received, symbols=received.symbols.real.astype(np.complex64))
    with pytest.raises(SignalError, match="both X and P"):
        real.track(received.known, 0.0)


def test_values_that_are_not_numbers_are_refused() -> None:
    received = receive(0.0)
    received.read[500] = np.nan
    with pytest.raises(SignalError, match="finite"):
        received.track(received.known, 0.0)


@pytest.mark.parametrize("linewidth", [-1.0, math.inf, math.nan])
def test_impossible_linewidths_are_refused(linewidth: float) -> None:
    received = receive(0.0)
    with pytest.raises(SignalError, match="finite"):
        received.track(received.known, linewidth)


def test_slots_out_of_order_are_refused() -> None:
    received = receive(0.0)
    with pytest.raises(SignalError, match="ascend"):
        received.track(received.known[::-1].copy(), 0.0)


@pytest.mark.parametrize("count", [0, 1, 15])
def test_too_few_symbols_are_refused(count: int) -> None:
    received = receive(0.0)
    with pytest.raises(SignalError, match="16 or more"):
        received.track(received.known[:count], 0.0)
