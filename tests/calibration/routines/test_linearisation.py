"""Linearisation: the widely linear map, against closed forms and the modulator's own transfer."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from long_tests import long
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Outcome
from labctl.calibration.routines.linearisation import (
    Linearisation,
    ellipse,
    image_rejection_db,
    shared_cubic,
    slopes,
    widely_linear,
)
from labctl.errors import CalibrationError, InstrumentError, SynchronisationError
from labctl.instruments.simulated.bench import LinkBench

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
# The voltages that the sender takes for V_pi are this far from the true ones.
ERROR_Q = 0.003

NO_TRIGGER = {
    "panels.server_generator.trigger": "none",
    "panels.client_generator.trigger": "none",
}


def knowledge_of(world: LinkBench) -> Knowledge:
    v_pi_v = world.truth().v_pi_v
    known = (v_pi_v[0], v_pi_v[1] * (1.0 + ERROR_Q))
    return Knowledge(
        {
            Name(f"server.v_pi_{part}_v"): Quantity.of(value, "V", {"sweep": 1e-4})
            for part, value in zip("iq", known, strict=True)
        }
    )


def truths(world: LinkBench, outcome: Outcome) -> dict[str, float]:
    """Return the map as the modulator's own transfer has it, before and after the correction."""
    modulator = world.optics.modulator
    small, still = np.array([-0.01, 0.01], np.float32), np.zeros(2, np.float32)
    along_i = complex(np.diff(modulator.transfer(small, still))[0])
    along_q = complex(np.diff(modulator.transfer(still, small))[0])
    turn = along_i.conjugate() / abs(along_i)
    loss_db = world.truth().insertion_loss_db
    largest = 0.5 * 10.0 ** (-loss_db / 20.0)
    carrier = complex(modulator.transfer(still, still)[0]) * turn / largest
    found = {name: quantity.value for name, quantity in outcome.quantities.items()}
    gain = 1.0 + ERROR_Q
    quadrature_rad = cmath.phase(along_q / along_i) - math.pi / 2.0
    return {
        "server.iq_gain": gain,
        "server.iq_quadrature_rad": quadrature_rad,
        "server.carrier_i": carrier.real,
        "server.carrier_q": carrier.imag,
        Name("server.iq_gain_left"): gain / found[Name("server.iq_gain")],
        Name("server.iq_quadrature_left_rad"): quadrature_rad
        - found[Name("server.iq_quadrature_rad")],
        Name("server.carrier_i_left"): carrier.real - found[Name("server.carrier_i")],
        Name("server.carrier_q_left"): carrier.imag - found[Name("server.carrier_q")],
    }


def points(gain: float, psi: float, phases: int = 12) -> tuple[np.ndarray, np.ndarray]:
    theta = np.linspace(0.1, 6.0, phases)
    return 0.3 * np.cos(theta), 0.3 * gain * np.sin(theta - psi)


@given(gain=st.floats(0.8, 1.25), psi=st.floats(-0.3, 0.3))
@settings(deadline=None)
def test_ellipse_tells_gain_and_quadrature(gain: float, psi: float) -> None:
    amplitude, found_gain, found_psi, _ = ellipse(*points(gain, psi))
    assert amplitude == pytest.approx(0.3, rel=1e-9)
    assert found_gain == pytest.approx(gain, rel=1e-9)
    assert found_psi == pytest.approx(psi, abs=1e-9)


def test_ellipse_knows_its_uncertainty() -> None:
    """400 draws, seed 2: scatter of gain and quadrature against the stated one, to 15 %."""
    draw = np.random.default_rng(2)
    first, second = points(1.02, 0.03, 40)
    found = []
    for _ in range(400):
        noise = 1e-4 * draw.standard_normal((2, 40))
        _, gain, psi, covariance = ellipse(first + noise[0], second + noise[1])
        found.append((gain, psi, covariance[0, 0], covariance[1, 1]))
    gains, psis, of_gain, of_psi = np.array(found).T
    assert np.var(gains) == pytest.approx(np.mean(of_gain), rel=0.3)
    assert np.var(psis) == pytest.approx(np.mean(of_psi), rel=0.3)


def test_points_on_no_ellipse_are_named() -> None:
    line = np.linspace(-1.0, 1.0, 8)
    with pytest.raises(CalibrationError, match="lie on no ellipse"):
        ellipse(line, 1.0 / (line + 3.0))


@given(
    gain=st.floats(0.9, 1.1),
    psi=st.floats(-0.1, 0.1),
    carrier=st.complex_numbers(max_magnitude=0.1),
    offset_v=st.floats(-0.01, 0.01),
    cubic=st.floats(-0.1, 0.1),
)
@settings(deadline=None, max_examples=40)
def test_map_is_recovered_from_records_of_any_phase(
    gain: float, psi: float, carrier: complex, offset_v: float, cubic: float
) -> None:
    draw = np.random.default_rng(5)
    symbols = (draw.uniform(-0.7, 0.7, 600) + 1j * draw.uniform(-0.7, 0.7, 600)).astype(
        np.complex64
    )
    i, q = symbols.real.astype(float), symbols.imag.astype(float)
    bent_i, bent_q = i + cubic * i**3, q + cubic * q**3
    field = bent_i + 1j * gain * np.exp(1j * psi) * bent_q + carrier
    theta = np.linspace(0.0, 5.5, 9)
    reads = [(0.3 * np.exp(-1j * each) * field).real + offset_v for each in theta]
    coefficients = np.array([slopes(read, symbols)[0] for read in reads])
    for taken in (coefficients, shared_cubic(coefficients, symbols)):
        found = widely_linear(taken)
        assert found.gain == pytest.approx(gain, rel=1e-6)
        assert found.quadrature_rad == pytest.approx(psi, abs=1e-6)
        assert abs(found.carrier - carrier) < 1e-6
        assert found.cubic == pytest.approx((cubic, cubic), abs=1e-6)


def test_image_rejection() -> None:
    assert image_rejection_db(1.02, 0.0) == pytest.approx(20.0 * math.log10(2.02 / 0.02))
    assert image_rejection_db(1.0, 0.01) == pytest.approx(46.02, abs=0.01)


@pytest.mark.parametrize("seed", [1, *long(2, 3)])
def test_finds_the_modulators_map(open_bench: OpenBench, seed: int) -> None:
    with open_bench(seed=seed) as (bench, world):
        bench.learn(knowledge_of(world))
        outcome = Linearisation().run(bench)
        for name, true in truths(world, outcome).items():
            quantity = outcome.quantities[Name(name)]
            assert abs(quantity.value - true) < 5.0 * quantity.standard_uncertainty, name
            assert quantity.standard_uncertainty < 4e-3, name


@pytest.mark.timeout(300)
@pytest.mark.long
def test_intervals_cover_the_truth(open_bench: OpenBench) -> None:
    """5 benches, seeds 100 to 104: of each 95 % intervals at least 4 hold the truth."""
    hits: dict[str, int] = {}
    for seed in range(100, 105):
        with open_bench(seed=seed, effort=0.05) as (bench, world):
            bench.learn(knowledge_of(world))
            outcome = Linearisation().run(bench)
            for name, true in truths(world, outcome).items():
                low, high = outcome.quantities[Name(name)].interval()
                hits[name] = hits.get(name, 0) + (low <= true <= high)
    assert min(hits.values()) >= 4, hits


def test_remarks_tell_what_is_achieved(open_bench: OpenBench) -> None:
    with open_bench(seed=4) as (bench, world):
        bench.learn(knowledge_of(world))
        outcome = Linearisation().run(bench)
        sender = bench.sender
        assert bench.equipment.server.attenuator.attenuation_db() >= 0.0
    assert outcome.remarks[0].startswith("as it is: carrier at least ")
    assert outcome.remarks[1].startswith("corrected: carrier at least ")
    assert sender.layout(rows=1, modes=1).modes == 1
    figure = Figure()
    outcome.draw(figure)
    assert len(figure.axes) == 2


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"laser.signal_fraction": 1e-9}, "no preamble .* laser on"),
        ({"back.connector_loss_db": 90.0}, "no preamble .* light not blocked"),
        ({"server.swing_v": 0.08}, "does not follow the symbols .* clip"),
        (NO_TRIGGER, "no trigger within"),
    ],
)
def test_bad_benches_are_named(
    open_bench: OpenBench, changes: dict[str, object], complaint: str
) -> None:
    with (
        open_bench(seed=6, spread=False, bench_changes=changes) as (bench, _),
        pytest.raises((CalibrationError, SynchronisationError, InstrumentError), match=complaint),
    ):
        Linearisation().run(bench)
