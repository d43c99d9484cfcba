"""The equaliser undoes what a chain mixes, and leaves alone what is clean."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from labctl.dsp.dsp import synchronise
from labctl.dsp.equaliser import Equaliser, train_equaliser
from labctl.dsp.layout import FrameLayout
from labctl.dsp.timing import SampleClock, recover_clock
from labctl.errors import SettingError, SynchronisationError
from labctl.instruments.capabilities import Trace

LAYOUT = FrameLayout(
    symbol_rate_hz=20e6,
    sample_rate_hz=160e6,
    preamble_symbols=257,
    guard_symbols=16,
    rows=60,
    modes=60,
)
CLEAN = np.array([1.0])
ECHO = np.array([1.0] + [0.0] * 9 + [0.35])
# A single pole at 5.7 MHz: tails of a pulse reach into the next two slots.
SLOW = 0.2 * 0.8 ** np.arange(60)
NOISE_V = 0.06


def symbols() -> NDArray[np.complex64]:
    quadratures = np.random.default_rng(1).normal(size=(60, 120)).astype(np.float32)
    return LAYOUT.server_symbols(quadratures, 0.1)


def record(response: NDArray[np.float64]) -> Trace:
    """Return a frame 200 samples late, seen through a chain's response."""
    light = np.real(symbols() * np.exp(-0.7j)).astype(np.float32)
    voltage = np.concatenate([np.zeros(200), LAYOUT.pulses(light), np.zeros(400)])
    voltage = np.convolve(voltage, response)[: len(voltage)]
    voltage += NOISE_V * np.random.default_rng(2).standard_normal(len(voltage))
    return Trace(0.0, 1.0 / 160e6, voltage.astype(np.float32))


def synchronised(trace: Trace) -> SampleClock:
    return recover_clock(trace, LAYOUT, synchronise(trace, LAYOUT, 1e-5))


def payload_residual(read: NDArray[np.float32], first: int) -> float:
    """Return the residual's variance over the light's, of all slots behind the preamble."""
    sent = symbols()[first : first + len(read)]
    design = np.stack([sent.real, sent.imag], axis=1).astype(np.float64)
    solution, *_ = np.linalg.lstsq(design, read.astype(np.float64), rcond=None)
    return float(np.var(read - design @ solution) / (solution @ solution))


@pytest.mark.parametrize(
    ("response", "preamble_db", "payload_db"), [(ECHO, 6.0, 0.8), (SLOW, 4.0, 0.6)]
)
def test_residual_falls_on_payload_that_was_not_trained_on(
    response: NDArray[np.float64], preamble_db: float, payload_db: float
) -> None:
    trace = record(response)
    clock = synchronised(trace)
    equaliser = train_equaliser(trace, LAYOUT, clock)
    count = 60 * 62
    plain = payload_residual(clock.read(trace, LAYOUT, 273, count), 273)
    better = payload_residual(equaliser.read(trace, LAYOUT, clock, 273, count), 273)
    assert equaliser.gain_db > preamble_db
    assert 10.0 * math.log10(plain / better) > payload_db


def test_a_clean_chain_needs_none() -> None:
    trace = record(CLEAN)
    equaliser = train_equaliser(trace, LAYOUT, synchronised(trace))
    assert equaliser.gain_db == pytest.approx(0.0, abs=0.4)
    assert equaliser.weights[3] == pytest.approx(1.0, abs=0.05)
    assert np.all(np.abs(np.delete(equaliser.weights, 3)) < 0.2)


@pytest.mark.parametrize("response", [CLEAN, ECHO, SLOW])
def test_white_noise_keeps_its_variance(response: NDArray[np.float64]) -> None:
    """20,000 slots, seed 5: four standard errors of a variance are 4 %."""
    trained_on = record(response)
    equaliser = train_equaliser(trained_on, LAYOUT, synchronised(trained_on))
    voltage = np.random.default_rng(5).normal(0.0, 0.2, 160_300).astype(np.float32)
    noise = Trace(0.0, 1.0 / 160e6, voltage)
    clock = SampleClock(1e-6, 1.0, 0.0, 0.0, 0.0)
    read = equaliser.read(noise, replace(LAYOUT, rows=400), clock, 0, 20_000)
    assert float(np.var(read)) == pytest.approx(0.04, rel=0.05)


def test_one_weight_alone_reads_as_the_clock_does() -> None:
    trace = record(CLEAN)
    clock = synchronised(trace)
    alone = Equaliser(np.array([0.0, 1.0, 0.0]), 0.0)
    plain = clock.read(trace, LAYOUT, 5, 300)
    assert np.array_equal(alone.read(trace, LAYOUT, clock, 5, 300), plain)


@pytest.mark.parametrize("taps", [-3, 0, 1, 4, 33, 1001])
def test_impossible_lengths_are_refused(taps: int) -> None:
    trace = record(CLEAN)
    with pytest.raises(SettingError, match="odd, from 3 to 32"):
        train_equaliser(trace, LAYOUT, SampleClock(1.25e-6, 1.0, 0.0, 0.0, 0.0), taps=taps)


def test_a_record_without_the_preamble_is_told() -> None:
    """Noise alone, seeds 0 to 9: 7 weights on 249 symbols correlate by 0.3 at most."""
    clock = SampleClock(1.25e-6, 1.0, 0.0, 0.0, 0.0)
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(size=40_000).astype(np.float32)
        with pytest.raises(SynchronisationError, match="finds no preamble"):
            train_equaliser(Trace(0.0, 1.0 / 160e6, noise), LAYOUT, clock)


def test_the_slow_chain_is_a_single_pole() -> None:
    """The response used above is that of a detector with one pole."""
    impulse = np.eye(1, 60)[0]
    assert np.allclose(SLOW, signal.lfilter([0.2], [1.0, -0.8], impulse))
