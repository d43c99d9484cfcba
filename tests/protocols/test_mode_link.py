"""The mode-level link against a brute-force simulation of the same optics, mode by mode."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, kstest, norm
from sessions import ideal_session

from labctl.protocols.link import LayerLight
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings

Values = NDArray[np.float64]
Floats = NDArray[np.float32]

SAMPLES = 300_000

IDEAL = ideal_session(
    4.0, 2.0, seed=11, verification=VerificationSettings(calibration_samples=1000)
)
REAL = replace(
    IDEAL,
    receiver=CloneReceiver(1.8, 1.6, Homodyne(efficiency=0.7, electronic_noise=0.12)),
    verifier=Homodyne(efficiency=0.65, electronic_noise=0.2),
    channel=replace(IDEAL.channel, loss_db=2.0, technical_noise=0.3),
)
LOUD = replace(
    REAL,
    receiver=CloneReceiver(6.0, 1.0, Homodyne(0.9, 0.0)),
    channel=replace(REAL.channel, loss_db=0.5),
)

EVEN = np.array([0.5, -0.3, 0.1, 0.6, -0.4, 0.36], np.float32)
ODD = np.array([0.6, 0.2, -0.5, 0.1, 0.57, 0.0], np.float32)
ONE_MODE = np.array([0.6, -0.8, 0.0, 0.0, 0.0, 0.0], np.float32)
DARK = np.zeros(6, np.float32)


def unit(coefficients: Floats) -> Floats:
    length = float(np.linalg.norm(coefficients))
    return coefficients / np.float32(length) if length > 0.0 else coefficients


def light_of(rows: int, mean: Floats) -> LayerLight:
    return LayerLight(0, np.tile(mean, (rows, 1)))


@dataclass(frozen=True)
class Joint:
    """Readings of many identical rows: per mode by the server, one by the client."""

    on_x: NDArray[np.bool_]
    values: Values

    def split(self) -> tuple[Values, Values]:
        """Return the rows whose X was read, and those whose P was."""
        return self.values[self.on_x], self.values[~self.on_x]


def link_draws(settings: SessionSettings, coefficients: Floats, mean: Floats) -> Joint:
    light = light_of(SAMPLES, mean)
    exchange = ModeLink(settings).exchange(light, coefficients[None])
    (returned,) = [
        (item.measured.copy(), item.cosine.copy(), item.sine.copy()) for item in exchange.returned
    ]
    read, cosine, sine = returned
    assert np.array_equal(cosine + sine, np.ones((SAMPLES, 1)))
    assert set(np.unique(cosine)) == {0.0, 1.0}
    client = exchange.measured[0][:, None]
    return Joint(cosine[:, 0] == 1.0, np.concatenate([read, client], axis=1).astype(np.float64))


def optics_draws(settings: SessionSettings, coefficients: Floats, mean: Floats) -> Joint:
    """Carry amplitudes X + iP of three modes through every element, one vacuum at each port."""
    random = np.random.default_rng(123)

    def vacuum(*shape: int) -> NDArray[np.complex128]:
        return random.standard_normal(shape) + 1j * random.standard_normal(shape)

    def lose(field: NDArray[np.complex128], transmittance: float) -> NDArray[np.complex128]:
        kept = math.sqrt(transmittance) * field
        return kept + math.sqrt(1.0 - transmittance) * vacuum(*field.shape)

    rotation = unitary(coefficients[0::2] + 1j * coefficients[1::2])
    leg = 10.0 ** (-settings.channel.loss_db / 20.0)
    receiver, verifier = settings.receiver, settings.verifier
    field = mean[0::2] + 1j * mean[1::2] + vacuum(SAMPLES, 3)
    modes = lose(field, leg) @ rotation.T
    gain = receiver.gain
    idler = math.sqrt(2.0 * receiver.emission_factor - 1.0) * vacuum(SAMPLES)
    bright = math.sqrt(gain) * modes[:, 0] + math.sqrt(gain - 1.0) * idler.conj()
    dark = vacuum(SAMPLES)
    arm = math.sqrt(1.0 - 1.0 / gain) * bright - math.sqrt(1.0 / gain) * dark
    if coefficients.any():
        modes[:, 0] = math.sqrt(1.0 / gain) * bright + math.sqrt(1.0 - 1.0 / gain) * dark
    detected = lose(arm, receiver.homodyne.efficiency).real
    detected += math.sqrt(receiver.homodyne.electronic_noise) * random.standard_normal(SAMPLES)
    back = lose(modes @ rotation.conj(), leg)
    back += math.sqrt(settings.channel.technical_noise) * vacuum(SAMPLES, 3)
    seen = lose(back, verifier.efficiency)
    on_x = random.random(SAMPLES) < 0.5
    read = np.where(on_x[:, None], seen.real, seen.imag)
    read += math.sqrt(verifier.electronic_noise) * random.standard_normal((SAMPLES, 3))
    read /= math.sqrt(1.0 + verifier.electronic_noise)
    return Joint(on_x, np.concatenate([read, detected[:, None]], axis=1))


def unitary(coefficients: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return a unitary whose first output is sum c_k* a_k."""
    if not coefficients.any():
        return np.eye(3, dtype=np.complex128)
    columns = np.eye(3, dtype=np.complex128)
    columns[:, 0] = coefficients
    columns[:, 1:] = np.random.default_rng(5).normal(size=(3, 2))
    rows = np.linalg.qr(columns)[0].conj().T
    rows[0] = coefficients.conj()
    assert np.allclose(rows @ rows.conj().T, np.eye(3), atol=1e-6)
    return rows


def assert_same_statistics(found: Values, truth: Values) -> None:
    """Compare means and all covariances within five standard errors of their difference."""
    rate = 1.0 / len(found) + 1.0 / len(truth)
    covariance = np.cov(truth.T)
    variance = np.diag(covariance)
    mean_error = np.sqrt(variance * rate)
    assert np.all(np.abs(found.mean(axis=0) - truth.mean(axis=0)) < 5.0 * mean_error)
    error = np.sqrt((np.outer(variance, variance) + covariance**2) * rate)
    assert np.all(np.abs(np.cov(found.T) - covariance) < 5.0 * error)


def correlations(rows: Values) -> Values:
    return np.asarray(np.corrcoef(rows.T))


MEAN = np.array([1.0, -2.0, 0.5, 3.0, -1.5, 0.7], np.float32)
ODD_MEAN = np.array([1.0, -2.0, 0.5, 3.0, -1.5, 0.0], np.float32)


@pytest.mark.parametrize("settings", [IDEAL, REAL, LOUD], ids=["ideal", "real", "loud"])
@pytest.mark.parametrize(
    ("coefficients", "mean"),
    [(unit(EVEN), MEAN), (unit(ODD), ODD_MEAN), (unit(ONE_MODE), MEAN)],
    ids=["even", "odd", "one mode"],
)
def test_joint_statistics_are_those_of_the_optics(
    settings: SessionSettings, coefficients: Floats, mean: Floats
) -> None:
    """3e5 rows each, half of them read on X, half on P; seeds 11 and 123."""
    found = link_draws(settings, coefficients, mean)
    truth = optics_draws(settings, coefficients, mean)
    for ours, theirs in zip(found.split(), truth.split(), strict=True):
        assert_same_statistics(ours, theirs)


def test_an_all_zero_client_measures_vacuum_and_touches_nothing() -> None:
    """Against optics without an amplifier; the client's value stands by itself."""
    found, truth = link_draws(REAL, DARK, MEAN), optics_draws(REAL, DARK, MEAN)
    for ours, theirs in zip(found.split(), truth.split(), strict=True):
        assert_same_statistics(ours[:, :3], theirs[:, :3])
        assert float(ours[:, 3].var()) == pytest.approx(REAL.receiver.measured_noise, rel=0.02)
        assert abs(float(ours[:, 3].mean())) < 0.02
        assert np.abs(correlations(ours)[3, :3]).max() < 0.015


@pytest.mark.parametrize("seed", range(20))
def test_a_single_lit_pixel_is_no_trouble(seed: int) -> None:
    """A row read on that quadrature then shows all of b: nothing of it is left to draw."""
    lit = np.zeros(6, np.float32)
    lit[2 * (seed % 3)] = np.random.default_rng(seed).random(dtype=np.float32)
    lit[2 * (seed % 3)] /= np.sqrt(lit @ lit)
    nearly = lit * np.float32(1.0 + 2e-7)
    for coefficients in (lit, nearly):
        for rows in (client_values(IDEAL, 50, coefficients), client_values(REAL, 50, coefficients)):
            assert np.isfinite(rows).all()


def test_modes_the_client_does_not_use_return_as_vacuum() -> None:
    """Four standard errors of 1.5e5 rows."""
    for rows in link_draws(IDEAL, unit(ONE_MODE), MEAN).split():
        assert rows[:, 1:3].var(axis=0) == pytest.approx([1.0, 1.0], rel=0.015)
        assert np.abs(correlations(rows)[1:3, [0, 3]]).max() < 0.011


def test_clone_shows_as_g_over_n_on_average() -> None:
    """G = 2 adds g = 1 to one of three modes; the pooled X or P variance rises by 1/3."""
    values = link_draws(IDEAL, unit(EVEN), MEAN)
    residuals = np.concatenate([rows - rows.mean(axis=0) for rows in values.split()])
    assert float(residuals[:, :3].var()) == pytest.approx(4.0 / 3.0, rel=0.01)


def test_basis_is_a_fair_coin_per_row_and_new_for_each_image() -> None:
    """4000 rows: four standard errors are 3.2 %."""
    light = light_of(4000, MEAN)
    exchange = ModeLink(IDEAL).exchange(light, np.stack([unit(EVEN), unit(EVEN)]))
    first, second = (item.cosine[:, 0].copy() for item in exchange.returned)
    assert float(first.mean()) == pytest.approx(0.5, abs=0.032)
    assert float(np.mean(first == second)) == pytest.approx(0.5, abs=0.032)
    assert float(np.mean(first[1:] == first[:-1])) == pytest.approx(0.5, abs=0.032)


# The client's values alone.


def client_values(settings: SessionSettings, rows: int, coefficients: Floats) -> Floats:
    exchange = ModeLink(settings).exchange(light_of(rows, MEAN), coefficients[None])
    for _ in exchange.returned:
        pass
    values: Floats = exchange.measured[0]
    return values


@pytest.mark.parametrize("settings", [IDEAL, REAL, LOUD], ids=["ideal", "real", "loud"])
@pytest.mark.parametrize("sampling", Sampling)
def test_measured_values_follow_the_formula_however_they_are_drawn(
    settings: SessionSettings, sampling: Sampling
) -> None:
    """Kolmogorov-Smirnov against the Gaussian of the closed form: 2e5 rows, seed 11."""
    values = client_values(replace(settings, sampling=sampling), 200_000, unit(EVEN))
    receiver, gain = settings.receiver, settings.receiver.gain
    efficiency = receiver.homodyne.efficiency
    leg = 10.0 ** (-settings.channel.loss_db / 20.0)
    mean = math.sqrt(leg * efficiency * (gain - 1.0)) * float(unit(EVEN) @ MEAN)
    heat = 2.0 * receiver.emission_factor - 1.0
    arm = (gain - 1.0) + (gain - 1.0) ** 2 / gain * heat + 1.0 / gain
    noise = efficiency * arm + 1.0 - efficiency + receiver.homodyne.electronic_noise
    test = kstest(values, norm(loc=mean, scale=math.sqrt(noise)).cdf)
    assert test.pvalue > 1e-3


def test_both_samplings_measure_the_same_distribution() -> None:
    measured = client_values(replace(REAL, sampling=Sampling.MEASURED), 200_000, unit(ODD))
    joint = client_values(REAL, 200_000, unit(ODD))
    assert kstest(measured, joint).pvalue > 1e-3


def test_measured_only_reads_no_returned_light() -> None:
    link = ModeLink(replace(REAL, sampling=Sampling.MEASURED))
    assert list(link.exchange(light_of(5, MEAN), unit(EVEN)[None]).returned) == []


# Streams of random numbers.


def run(
    settings: SessionSettings, groups: tuple[int, ...], *, calibrate: bool = False
) -> tuple[Floats, Floats]:
    """Send two layers to seven images in groups; return all values, client's and server's."""
    random = np.random.default_rng(9)
    lights = [
        LayerLight(layer, random.normal(size=(rows, 6)).astype(np.float32))
        for layer, rows in enumerate((250, 4))
    ]
    coefficients = np.stack(
        [unit(random.normal(size=6).astype(np.float32)) for _ in range(sum(groups))]
    )
    link = ModeLink(settings)
    if calibrate:
        link.calibrate()
    measured: list[Floats] = []
    returned: list[tuple[int, Floats]] = []
    first = 0
    for size in groups:
        part = coefficients[first : first + size]
        first += size
        row: list[Floats] = []
        for light in lights:
            exchange = link.exchange(light, part)
            seen = [item.measured.ravel().copy() for item in exchange.returned]
            row.append(exchange.measured)
            returned.extend(zip([light.layer] * size, seen, strict=False))
        measured.append(np.concatenate(row, axis=1))
    ordered = [seen for layer in range(2) for number, seen in returned if number == layer]
    return np.concatenate(measured), np.concatenate([*ordered, np.zeros(0, np.float32)])


@pytest.mark.parametrize("sampling", Sampling)
@pytest.mark.parametrize("groups", [(1, 1, 1, 1, 1, 1, 1), (3, 4), (6, 1)])
def test_grouping_of_images_changes_nothing(sampling: Sampling, groups: tuple[int, ...]) -> None:
    """Up to the last bits of a matrix product, whose order of sums is the library's."""
    settings = replace(REAL, sampling=sampling)
    for ours, whole in zip(run(settings, groups), run(settings, (7,)), strict=True):
        assert np.allclose(ours, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampling", Sampling)
def test_the_seed_decides_every_value(sampling: Sampling) -> None:
    settings = replace(REAL, sampling=sampling)
    first, again = run(settings, (7,)), run(settings, (7,))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    other = run(replace(settings, seed=12), (7,))
    assert not np.isclose(first[0], other[0]).all(axis=1).any()


def test_calibrating_shifts_no_other_random_number() -> None:
    plain, calibrated = run(REAL, (7,)), run(REAL, (7,), calibrate=True)
    assert all(np.array_equal(a, b) for a, b in zip(plain, calibrated, strict=True))


def test_layers_and_images_have_noise_of_their_own() -> None:
    settings = replace(IDEAL, sampling=Sampling.MEASURED)
    link = ModeLink(settings)
    quadratures = np.tile(MEAN, (500, 1))
    images = np.stack([unit(EVEN), unit(EVEN)])
    noise = np.concatenate(
        [link.exchange(LayerLight(layer, quadratures), images).measured for layer in range(3)]
    )
    correlation = np.corrcoef(noise) - np.eye(6)
    assert float(np.abs(correlation).max()) < 0.2


def test_calibration_is_as_uncertain_as_its_samples_make_it() -> None:
    """2000 seeds against chi-squared of 999 degrees of freedom over 999."""
    drawn = [
        ModeLink(replace(REAL, seed=seed)).calibrate().blocked_variance * 999.0
        for seed in range(2000)
    ]
    assert kstest(drawn, chi2(999).cdf).pvalue > 1e-3
    calibration = ModeLink(REAL).calibrate()
    assert calibration.efficiency == 0.65
    assert calibration.electronic_noise == 0.2
    assert calibration.samples == 1000
