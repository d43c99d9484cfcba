"""What the authors published, and their formulas the way they evaluate them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import SettingError
from labctl.protocols.leakage import thermal_entropy_bits
from labctl.protocols.receiver import BEST_GAIN
from labctl.studies.reproduce import authors
from labctl.studies.reproduce.authors import BRIGHT, DIM, Logistic, Setting


def symplectic_eigenvalues(photons: float, eta: float, noise: float) -> tuple[float, float, float]:
    """Return the pair's eigenvalues and that of what is left when the weights are known.

    From covariance matrices: eigenvalues of i Omega sigma, and the heterodyne Schur complement.
    """
    v = 2.0 * photons + 1.0
    b, c = eta * (v - 1.0) + 1.0 + noise, math.sqrt(eta * (v * v - 1.0))
    identity, flip = np.eye(2), np.diag([1.0, -1.0])
    sigma = np.block([[v * identity, c * flip], [c * flip, b * identity]])
    form = np.kron(identity, np.array([[0.0, 1.0], [-1.0, 0.0]]))
    values = sorted(abs(np.linalg.eigvals(1j * form @ sigma)))
    left = b * identity - c * c / (v + 1.0) * identity
    return float(values[-1]), float(values[0]), float(left[0, 0])


@pytest.mark.parametrize(
    ("f", "percent"),
    [(0.22, 50.0), (0.57, 80.0), (0.99, 90.0), (1.9, 95.0), (2.43, 96.0), (4.0, 97.0)],
)
def test_means_of_their_values_give_what_is_read_off_their_figure(f: float, percent: float) -> None:
    # Noise of 10,000 images, a mean of ten values beside single ones: one point of percent.
    assert 100.0 * authors.published_accuracy(f) == pytest.approx(percent, abs=1.0)


@settings(deadline=None)
@given(st.floats(0.12, 0.979))
def test_published_f_is_where_the_published_accuracy_is_reached(accuracy: float) -> None:
    f = authors.published_f(accuracy)
    assert authors.published_accuracy(f) == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize("accuracy", [0.05, 0.99, math.nan])
def test_published_f_refuses_what_their_simulation_does_not_reach(accuracy: float) -> None:
    with pytest.raises(SettingError, match=r"0\.11 to 0\.98"):
        authors.published_f(accuracy)


def test_logistic_is_a_least_squares_fit_of_their_values_over_f() -> None:
    fit = authors.fitted_logistic()
    x = 10.0 ** np.array(authors.PUBLISHED_LOG_F)

    def misfit(changed: Logistic) -> float:
        found = np.array([100.0 * changed.accuracy(value) for value in x])
        squares = (found - np.array(authors.PUBLISHED_PERCENT)) ** 2
        return float(np.sum(squares[1:-1]) + 0.5 * (squares[0] + squares[-1]))

    best = misfit(fit)
    assert math.sqrt(best / 50.0) == pytest.approx(1.1, abs=0.05)
    for change in (0.99, 1.01):
        assert misfit(Logistic(fit.height, fit.slope * change, fit.centre, fit.floor)) > best
        assert misfit(Logistic(fit.height, fit.slope, fit.centre * change, fit.floor)) > best


@settings(deadline=None)
@given(st.floats(0.11, 0.97))
def test_inverse_of_the_logistic(accuracy: float) -> None:
    fit = authors.fitted_logistic()
    assert fit.accuracy(fit.inverse(accuracy)) == pytest.approx(accuracy, abs=1e-9)


def test_logistic_has_no_inverse_above_its_plateau() -> None:
    with pytest.raises(SettingError, match="range of the logistic fit"):
        authors.fitted_logistic().inverse(0.975)


def test_signal_to_noise_of_their_settings() -> None:
    assert BRIGHT.signal_to_noise == pytest.approx(4.0)
    assert DIM.signal_to_noise == pytest.approx(3.162, abs=5e-4)
    assert authors.signal_to_noise(0.5, BEST_GAIN) == pytest.approx(1.0 / 1.828, abs=2e-4)


def test_maps_evaluate_the_logistic_at_the_root_of_half_of_f() -> None:
    assert authors.map_accuracy(BRIGHT) == authors.fitted_logistic().accuracy(math.sqrt(2.0))
    # They fit it to 512 values: 95.878 %, 95.085 %; to means over a tenth of a decade as here.
    assert 100.0 * authors.map_accuracy(BRIGHT) == pytest.approx(95.878, abs=0.02)
    assert 100.0 * authors.map_accuracy(DIM) == pytest.approx(95.085, abs=0.03)


@settings(deadline=None)
@given(st.floats(0.2, 0.96), st.floats(1.01, 3.0))
def test_map_photons_are_those_at_which_the_map_shows_the_accuracy(
    accuracy: float, gain: float
) -> None:
    setting = Setting(authors.map_photons(accuracy, gain), gain)
    assert authors.map_accuracy(setting) == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize("loss_db", [0.0, 1.0, 3.0, 8.0])
def test_their_loss_figure_gives_the_bound_the_root_of_the_transmittance(loss_db: float) -> None:
    eta = 10.0 ** (-loss_db / 10.0)
    large, small, left = symplectic_eigenvalues(2.0 / eta, math.sqrt(eta), (1.0 / 3.0) / 374.0)
    bits = sum(map(thermal_entropy_bits, (large, small))) - thermal_entropy_bits(left)
    assert authors.weights_bits_with_loss(loss_db) == pytest.approx(bits / 2.0, rel=1e-6)


@pytest.mark.parametrize("loss_db", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_the_journals_bound_halves_the_bits_of_a_mode(loss_db: float, noise: float) -> None:
    eta, added = 10.0 ** (-loss_db / 10.0), (2.0 - 2.0 / 1.3) / 374.0 + noise
    photons = 6.0 * (1.0 + noise) / eta
    for power in (0.5, 1.0):
        large, small, left = symplectic_eigenvalues(photons, eta**power, added)
        bits = sum(map(thermal_entropy_bits, (large, small))) - thermal_entropy_bits(left)
        found = authors.journal_weights_bits(loss_db, noise, power=power)
        assert found == pytest.approx(bits / 2.0, rel=1e-6)


def test_the_journals_data_leakage_divides_784_rows_by_the_neurons() -> None:
    # 4 (G - 1)^2/(G (3 G - 2)) = g^2/(1 + g) at G = 1.3.
    information = 4.0 * 0.3**2 / (1.3 * 1.9)
    assert authors.journal_data_bits(784) == pytest.approx(0.5 * math.log2(1.0 + information))
    assert authors.journal_data_bits(1568) == pytest.approx(
        0.5 * math.log2(1.0 + information / 2.0)
    )


def test_entropy_at_the_eigenvalues_counts_photons_that_are_not_there() -> None:
    values = symplectic_eigenvalues(4.0, 1.0, 1.0 / 392.0)
    # The entropy of nu photons is h(2 nu + 1).
    large, small, left = (thermal_entropy_bits(2.0 * value + 1.0) for value in values)
    found = authors.entropy_of_eigenvalues(BRIGHT)
    assert found == pytest.approx(large + small - left, abs=1e-6)
    assert found == pytest.approx(2.0202, abs=5e-5)
