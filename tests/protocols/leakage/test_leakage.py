"""Leakage: the known answers, an independent covariance-matrix computation, and named trust."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.errors import SettingError
from labctl.protocols import leakage
from labctl.protocols.leakage import (
    Assumptions,
    LayerShape,
    Trust,
    data_bits_first,
    data_bits_journal,
    data_bits_quantum,
    holevo_bits_per_mode,
    leakage_of,
    thermal_entropy_bits,
    weights_bits_per_mode,
)

Matrix = NDArray[np.float64]

UNTRUSTED = Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED)
TRUSTED = Assumptions(loss=Trust.TRUSTED, technical_noise=Trust.TRUSTED)
REFERENCE = (
    LayerShape(rows=784, modes=392, inputs=784),
    LayerShape(rows=10, modes=392, inputs=784),
)

photons = st.floats(1e-3, 1e3)
transmittances = st.floats(1e-3, 1.0)
noises = st.floats(0.0, 10.0)


def weights_bits(
    mean_photons: float = 4.0,
    transmittance: float = 1.0,
    excess_noise: float = 1.0 / 392.0,
    technical_noise: float = 0.0,
    assumptions: Assumptions = UNTRUSTED,
) -> float:
    return weights_bits_per_mode(
        mean_photons=mean_photons,
        transmittance=transmittance,
        excess_noise=excess_noise,
        technical_noise=technical_noise,
        assumptions=assumptions,
    )


def reference_leakage(
    layers: tuple[LayerShape, ...] = REFERENCE,
    mean_photons: float = 4.0,
    gain: float = 2.0,
    transmittance: float = 1.0,
    technical_noise: float = 0.0,
    assumptions: Assumptions = UNTRUSTED,
    emission_factor: float = 1.0,
) -> leakage.Leakage:
    return leakage_of(
        layers,
        mean_photons=mean_photons,
        gain=gain,
        transmittance=transmittance,
        technical_noise=technical_noise,
        assumptions=assumptions,
        emission_factor=emission_factor,
    )


# The known answers, to the digits given.


@pytest.mark.parametrize(
    ("mean_photons", "gain", "per_mode", "per_real"),
    [(4.0, 2.0, 0.0874, 0.0437), (6.0, 1.3, 0.0651, 0.0325), (1.0, 1.2, 0.00989, 0.00495)],
)
def test_weights_known_answers(
    mean_photons: float, gain: float, per_mode: float, per_real: float
) -> None:
    found = reference_leakage(mean_photons=mean_photons, gain=gain)
    assert found.weights_bits_per_mode == pytest.approx(per_mode, abs=_half_digit(per_mode))
    assert found.weights_bits_per_real == pytest.approx(per_real, abs=_half_digit(per_real))


def _half_digit(value: float) -> float:
    """Half a unit of the third significant digit, with a tenth of it for the rounding's edge."""
    return 0.55 * float(10.0 ** (math.floor(math.log10(value)) - 2))


@pytest.mark.parametrize(
    ("gain", "first", "journal", "quantum"),
    [(2.0, 0.00725, 0.505, 0.799), (1.3, 0.00156, 0.187, 0.476)],
)
def test_data_known_answers(gain: float, first: float, journal: float, quantum: float) -> None:
    assert data_bits_first(gain, 392) == pytest.approx(first, abs=_half_digit(first))
    assert data_bits_journal(gain, 392, 794) == pytest.approx(journal, abs=_half_digit(journal))
    assert data_bits_quantum(gain, 392, 794) == pytest.approx(quantum, abs=_half_digit(quantum))


def test_technical_noise_of_0_02_alone_gives_0_31_bit_per_weight() -> None:
    excess = (2.0 - 2.0 / 1.3) / 392.0 + 0.02
    bits = weights_bits(mean_photons=6.0, excess_noise=excess, technical_noise=0.02)
    assert bits / 2.0 == pytest.approx(0.31, abs=0.005)


@pytest.mark.parametrize(
    ("mean_photons", "gain", "per_real"), [(0.57, 1.3, 0.0039), (7.5, 1.02, 0.0047)]
)
def test_operating_region_known_answers(mean_photons: float, gain: float, per_real: float) -> None:
    found = reference_leakage(mean_photons=mean_photons, gain=gain)
    assert found.weights_bits_per_real == pytest.approx(per_real, abs=5e-5)


@pytest.mark.parametrize(("loss_db", "bits"), [(1.0, 1.83223), (3.0, 2.76047)])
def test_untrusted_loss_of_the_first_setting(loss_db: float, bits: float) -> None:
    """Figures of `eve_bits` below, which builds the attack instead of using the formula."""
    transmittance = 10.0 ** (-loss_db / 10.0)
    assert eve_bits(4.0, transmittance, 1.0 / 392.0) == pytest.approx(bits, abs=5e-6)
    assert weights_bits(transmittance=transmittance) == pytest.approx(bits, abs=5e-6)


# The same numbers from the attack itself: an entangling cloner in the channel.


def eve_bits(mean_photons: float, transmittance: float, excess_noise: float) -> float:
    """Return Eve's Holevo information on the weights from the covariance matrices of her modes.

    Modes in order: the server's half of an EPR pair (its heterodyne is the choice of weights),
    the light sent, and the cloner's EPR pair, half of which meets the light on a beam splitter.
    """
    variance = 2.0 * mean_photons + 1.0
    cloner = 1.0 + excess_noise / (1.0 - transmittance)
    state = np.zeros((8, 8))
    state[:4, :4] = epr(variance)
    state[4:, 4:] = epr(cloner)
    through, off = math.sqrt(transmittance), math.sqrt(1.0 - transmittance)
    splitter = np.eye(8)
    splitter[2:6, 2:6] = np.kron([[through, off], [-off, through]], np.eye(2))
    state = splitter @ state @ splitter.T
    eve, shared = state[4:, 4:], state[:2, 4:]
    heterodyne = np.linalg.inv(state[:2, :2] + np.eye(2))
    return entropy(eve) - entropy(eve - shared.T @ heterodyne @ shared)


def epr(variance: float) -> Matrix:
    correlation = math.sqrt(variance**2 - 1.0) * np.diag([1.0, -1.0])
    return np.block([[variance * np.eye(2), correlation], [correlation, variance * np.eye(2)]])


def entropy(covariance: Matrix) -> float:
    """Return the entropy in bits as that of thermal photon numbers, from the symplectic form."""
    modes = len(covariance) // 2
    form = np.kron(np.eye(modes), [[0.0, 1.0], [-1.0, 0.0]])
    eigenvalues = np.sort(np.abs(np.linalg.eigvals(1j * form @ covariance)))[::2]
    mean = np.maximum((eigenvalues - 1.0) / 2.0, 1e-300)
    return float(np.sum((mean + 1.0) * np.log2(mean + 1.0) - mean * np.log2(mean)))


@pytest.mark.parametrize("mean_photons", [0.1, 1.0, 4.0, 60.0])
@pytest.mark.parametrize("transmittance", [0.05, 0.5, 10**-0.1, 0.99])
@pytest.mark.parametrize("excess_noise", [0.0, 0.0026, 0.02, 0.7])
def test_formula_is_the_entangling_cloner(
    mean_photons: float, transmittance: float, excess_noise: float
) -> None:
    formula = holevo_bits_per_mode(mean_photons, transmittance, excess_noise)
    attack = eve_bits(mean_photons, transmittance, excess_noise)
    assert formula == pytest.approx(attack, abs=1e-7)


@pytest.mark.parametrize("excess_noise", [0.0026, 0.02, 0.7])
def test_lossless_formula_is_the_limit_of_the_attack(excess_noise: float) -> None:
    formula = holevo_bits_per_mode(4.0, 1.0, excess_noise)
    assert formula == pytest.approx(eve_bits(4.0, 1.0 - 1e-5, excess_noise), abs=2e-3)


def test_lost_light_alone_is_a_thermal_mode() -> None:
    """Without excess noise Eve holds (1 - T) mu photons of pure coherent states."""
    eve = 0.3 * 5.0
    bits = (eve + 1.0) * math.log2(eve + 1.0) - eve * math.log2(eve)
    assert holevo_bits_per_mode(5.0, 0.7, 0.0) == pytest.approx(bits, rel=1e-12)


def test_perfect_channel_leaks_nothing() -> None:
    assert holevo_bits_per_mode(4.0, 1.0, 0.0) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("excess_noise", [1e3, 1e10, 1e17, 1e20, 1e300])
def test_boundless_noise_gives_the_whole_state_away(excess_noise: float) -> None:
    """A channel that returns noise alone may have kept all light: h(V), 3.6096 bit at V = 9."""
    whole = 5.0 * math.log2(5.0) - 4.0 * math.log2(4.0)
    assert holevo_bits_per_mode(4.0, 1.0, excess_noise) == pytest.approx(whole, abs=0.002)
    assert holevo_bits_per_mode(4.0, 1.0, excess_noise) <= whole + 1e-9


@pytest.mark.parametrize("mean_photons", [1e6, 1e9, 1e12, 1e15])
def test_bright_light_keeps_its_digits(mean_photons: float) -> None:
    """At T = 1 and large V: nu = sqrt(2 eps V) in both modes, h(nu) = log2(e nu/2)."""
    excess = 1e-3
    nu = math.sqrt(2.0 * excess * mean_photons)
    conditional = 1.0005 * math.log2(1.0005) - 0.0005 * math.log2(0.0005)
    bits = 2.0 * math.log2(math.e * nu / 2.0) - conditional
    assert holevo_bits_per_mode(mean_photons, 1.0, excess) == pytest.approx(bits, abs=1e-3)


# h(nu).


def test_vacuum_has_no_entropy() -> None:
    assert thermal_entropy_bits(1.0) == 0.0
    assert thermal_entropy_bits(1.0 - 1e-12) == 0.0


def test_entropy_takes_the_symplectic_eigenvalue_not_the_photon_number() -> None:
    """One photon, nu = 3, is 2 bit; nu put for the photon number would give 3.245."""
    assert thermal_entropy_bits(3.0) == pytest.approx(2.0, rel=1e-14)
    assert thermal_entropy_bits(3.0) < 4.0 * math.log2(4.0) - 3.0 * math.log2(3.0)


@settings(deadline=None)
@given(st.floats(1e-3, 1e3))
def test_entropy_is_that_of_the_geometric_distribution(mean: float) -> None:
    ratio = mean / (1.0 + mean)
    terms = math.ceil(-40.0 / math.log(ratio))
    probability = (1.0 - ratio) * ratio ** np.arange(min(terms, 100_000))
    probability = probability[probability > 0.0]
    bits = -float(np.sum(probability * np.log2(probability)))
    assert thermal_entropy_bits(2.0 * mean + 1.0) == pytest.approx(bits, rel=1e-6)


@pytest.mark.parametrize("eigenvalue", [1e3, 1e8, 1e15, 1e17, 1e300])
def test_entropy_of_hot_modes(eigenvalue: float) -> None:
    limit = math.log2(eigenvalue) + math.log2(math.e / 2.0)
    assert thermal_entropy_bits(eigenvalue) == pytest.approx(limit, abs=1e-6)


# Trust.


def test_assumptions_have_no_defaults() -> None:
    parameters = inspect.signature(Assumptions).parameters
    assert set(parameters) == {"loss", "technical_noise"}
    assert all(entry.default is inspect.Parameter.empty for entry in parameters.values())


@pytest.mark.parametrize("function", [weights_bits_per_mode, leakage_of])
def test_no_figure_without_naming_what_it_assumes(function: Callable[..., object]) -> None:
    for name in ("assumptions", "transmittance", "technical_noise"):
        parameter = inspect.signature(function).parameters[name]
        assert parameter.default is inspect.Parameter.empty
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY


def test_every_assumption_is_said_in_words() -> None:
    said = {
        Assumptions(loss, noise).sentences()[:2]: (loss, noise) for loss in Trust for noise in Trust
    }
    assert len(said) == 4
    for sentences, (loss, noise) in said.items():
        assert sentences[0].startswith(f"loss {loss}")
        assert sentences[1].startswith(f"technical noise {noise}")
    text = " ".join(UNTRUSTED.sentences())
    assert "Holevo" in text
    assert "does not protect a label" in text
    assert "unconditional" not in text


@settings(deadline=None)
@given(photons, transmittances, noises, st.floats(0.0, 1.0))
def test_trust_never_adds_leakage(
    mean_photons: float, transmittance: float, excess_noise: float, share: float
) -> None:
    technical = share * excess_noise
    bits = {
        (loss, noise): weights_bits(
            mean_photons, transmittance, excess_noise, technical, Assumptions(loss, noise)
        )
        for loss in Trust
        for noise in Trust
    }
    for other in Trust:
        assert bits[Trust.TRUSTED, other] <= bits[Trust.UNTRUSTED, other] + 1e-9
        assert bits[other, Trust.TRUSTED] <= bits[other, Trust.UNTRUSTED] + 1e-9
    assert min(bits.values()) >= -1e-9


def test_trusted_technical_noise_is_taken_off() -> None:
    clean = weights_bits(excess_noise=0.0026, assumptions=TRUSTED)
    noisy = weights_bits(excess_noise=0.0226, technical_noise=0.02, assumptions=TRUSTED)
    assert noisy == pytest.approx(clean, rel=1e-9)


def test_noise_below_the_trusted_share_counts_as_none() -> None:
    less = weights_bits(excess_noise=0.01, technical_noise=0.02, assumptions=TRUSTED)
    assert less == pytest.approx(0.0, abs=1e-12)
    assert weights_bits(excess_noise=-0.01) == pytest.approx(0.0, abs=1e-12)


def test_trusted_loss_hides_the_client_s_noise_not_its_light() -> None:
    """Loss after the client: it held undimmed light, its noise came back dimmed by T."""
    found = weights_bits(transmittance=0.5, excess_noise=0.01, assumptions=TRUSTED)
    assert found == pytest.approx(eve_bits(4.0, 1.0 - 1e-6, 0.02), abs=3e-4)


# Monotonicity.


@settings(deadline=None)
@given(photons, transmittances, noises, noises)
def test_more_noise_leaks_more(
    mean_photons: float, transmittance: float, one: float, other: float
) -> None:
    less, more = sorted((one, other))
    for trust in (TRUSTED, UNTRUSTED):
        low = weights_bits(mean_photons, transmittance, less, 0.0, trust)
        assert low <= weights_bits(mean_photons, transmittance, more, 0.0, trust) + 1e-9


@settings(deadline=None)
@given(photons, transmittances, transmittances, noises)
def test_less_transmittance_leaks_more(
    mean_photons: float, one: float, other: float, excess_noise: float
) -> None:
    less, more = sorted((one, other))
    for trust in (TRUSTED, UNTRUSTED):
        high = weights_bits(mean_photons, less, excess_noise, 0.0, trust)
        assert weights_bits(mean_photons, more, excess_noise, 0.0, trust) <= high + 1e-9


@settings(deadline=None)
@given(photons, photons, transmittances, noises)
def test_brighter_light_leaks_more(
    one: float, other: float, transmittance: float, excess_noise: float
) -> None:
    less, more = sorted((one, other))
    low = weights_bits(less, transmittance, excess_noise)
    assert low <= weights_bits(more, transmittance, excess_noise) + 1e-9
    assert weights_bits(more, transmittance, excess_noise) <= thermal(more) + 1e-9


def thermal(mean: float) -> float:
    return (mean + 1.0) * math.log2(mean + 1.0) - mean * math.log2(mean)


@settings(deadline=None)
@given(st.floats(1.001, 100.0), st.floats(1.001, 100.0), st.integers(1, 500), st.integers(1, 1000))
def test_more_gain_leaks_more_data_and_quantum_bounds_homodyne(
    one: float, other: float, modes: int, rows: int
) -> None:
    less, more = sorted((one, other))
    assert data_bits_journal(less, modes, rows) <= data_bits_journal(more, modes, rows)
    assert data_bits_quantum(less, modes, rows) <= data_bits_quantum(more, modes, rows)
    assert data_bits_journal(more, modes, rows) <= data_bits_quantum(more, modes, rows)


# Totals.


def test_totals_count_symbols_modes_and_queries() -> None:
    found = reference_leakage()
    assert found.weights_bits_prior_free == pytest.approx(0.47833, rel=1e-4)
    assert found.weights_bits_per_query == pytest.approx(2 * 0.47833 * 311_248, rel=1e-4)
    assert found.data_bits_first_per_input == pytest.approx(2 * 784 * 0.00725, rel=1e-3)
    journal = 784 * (0.5 * math.log2(1.0 + 2.0 / 2.0) + 0.5 * math.log2(1.0 + 10 / 392 / 2.0))
    assert found.data_bits_journal_per_input == pytest.approx(journal, rel=1e-12)
    quantum = 784 * (0.5 * math.log2(1.0 + 2.0) + 0.5 * math.log2(1.0 + 10 / 392))
    assert found.data_bits_quantum_per_input == pytest.approx(quantum, rel=1e-12)


def test_per_symbol_figures_are_those_of_the_worst_layer() -> None:
    small = LayerShape(rows=3, modes=2, inputs=3)
    found = reference_leakage((*REFERENCE, small))
    assert found.weights_bits_per_mode == reference_leakage((small,)).weights_bits_per_mode
    assert found.weights_bits_per_mode > reference_leakage().weights_bits_per_mode
    assert found.data_bits_first == data_bits_first(2.0, 2)
    assert found.data_bits_journal == data_bits_journal(2.0, 392, 784)
    assert found.excess_noise == pytest.approx(0.5)


def test_leakage_adds_up_over_queries() -> None:
    found = reference_leakage()
    assert found.queries_per_bit_per_weight == pytest.approx(1 / 0.47833, rel=1e-4)
    assert found.after(0) == 0.0
    assert found.after(23) == pytest.approx(23 * 0.47833, rel=1e-4)
    assert found.after(3) > 1.0 > found.after(2)


def test_noisy_amplifier_leaks_more_weights_and_more_data() -> None:
    """The more noise rides on the client's direction, the sooner the server sees it."""
    ideal, noisy = reference_leakage(), reference_leakage(emission_factor=1.6)
    assert noisy.excess_noise == pytest.approx(1.6 / 392)
    assert noisy.weights_bits_per_mode == pytest.approx(
        eve_bits(4.0, 1 - 1e-6, 1.6 / 392), abs=3e-4
    )
    assert noisy.weights_bits_per_mode > ideal.weights_bits_per_mode
    for name in (entry.name for entry in fields(ideal) if entry.name.startswith("data")):
        assert getattr(noisy, name) > getattr(ideal, name)
    louder = 0.5 * math.log2(1.0 + 784 / 392 * 1.6**2 / (1.0 + 1.6))
    assert noisy.data_bits_journal == pytest.approx(louder, rel=1e-12)


def test_figures_carry_their_assumptions() -> None:
    assert reference_leakage(assumptions=TRUSTED).assumptions is TRUSTED


def test_loss_and_noise_only_raise_the_figure() -> None:
    clean = reference_leakage().weights_bits_per_mode
    assert reference_leakage(transmittance=0.9).weights_bits_per_mode > 10 * clean
    assert reference_leakage(technical_noise=0.02).weights_bits_per_mode > 4 * clean


# Refusals.


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("mean_photons", lambda: weights_bits(mean_photons=0.0)),
        ("mean_photons", lambda: weights_bits(mean_photons=math.inf)),
        ("mean_photons", lambda: weights_bits(mean_photons=math.nan)),
        ("transmittance", lambda: weights_bits(transmittance=0.0)),
        ("transmittance", lambda: weights_bits(transmittance=1.0 + 1e-9)),
        ("transmittance", lambda: weights_bits(transmittance=math.nan)),
        ("excess_noise", lambda: weights_bits(excess_noise=math.nan)),
        ("excess_noise", lambda: weights_bits(excess_noise=math.inf)),
        ("technical_noise", lambda: weights_bits(technical_noise=-0.1)),
        ("gain", lambda: reference_leakage(gain=1.0)),
        ("gain", lambda: reference_leakage(gain=math.nan)),
        ("gain", lambda: reference_leakage(gain=math.inf)),
        ("technical_noise", lambda: reference_leakage(technical_noise=-1e-9)),
        ("technical_noise", lambda: reference_leakage(technical_noise=math.nan)),
        ("emission_factor", lambda: reference_leakage(emission_factor=0.99)),
        ("transmittance", lambda: reference_leakage(transmittance=0.0)),
        ("mean_photons", lambda: reference_leakage(mean_photons=-1.0)),
    ],
)
def test_wrong_settings_are_named(name: str, call: Callable[[], object]) -> None:
    with pytest.raises(SettingError) as caught:
        call()
    assert caught.value.name == name
