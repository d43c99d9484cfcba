"""Splitting the light never helps; a quota keeps within bits and extraction."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from labctl.errors import SettingError
from labctl.protocols.leakage import Assumptions, Trust, holevo_bits_per_mode
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.studies.attacks.chosen_inputs import ChosenInputs
from labctl.studies.countermeasures.quota import queries_for_correlation, quota
from labctl.studies.countermeasures.splitting import SplitOption, split_option


def split(sends: int, mean_photons: float = 0.57, gain: float = 1.3) -> SplitOption:
    return split_option(
        sends,
        mean_photons=mean_photons,
        receiver=CloneReceiver(gain, 1.0, IDEAL_HOMODYNE),
        modes=392,
        rows=784,
        transmittance=1.0,
        technical_noise=0.0,
        assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    )


@given(photons=st.floats(0.01, 100.0), gain=st.floats(1.001, 10.0), sends=st.integers(2, 500))
@hypothesis_settings(deadline=None)
def test_splitting_keeps_f_and_never_lowers_a_bound(
    photons: float, gain: float, sends: int
) -> None:
    whole, parts = split(1, photons, gain), split(sends, photons, gain)
    assert parts.signal_to_noise == pytest.approx(whole.signal_to_noise)
    assert parts.bound_bits >= whole.bound_bits * (1.0 - 1e-6)
    assert parts.honest_bits == whole.honest_bits
    assert parts.rows == sends * whole.rows
    assert parts.data_bits_journal > whole.data_bits_journal


def test_known_bits_at_the_design_point() -> None:
    assert split(1).bound_bits == pytest.approx(0.0039, abs=5e-5)
    bounds = [split(sends).bound_bits for sends in (1, 2, 10, 100)]
    assert all(one < other for one, other in pairwise(bounds))
    assert bounds[-1] < 1.3 * bounds[0]


def test_r_noisy_copies_hold_what_one_bright_copy_holds() -> None:
    # chi of R copies with one weight on all of them, from symplectic eigenvalues of all modes.
    photons, noise, copies = 2.0, 0.05, 3
    joint = _holevo_of_copies(photons / copies, noise, copies)
    assert joint == pytest.approx(holevo_bits_per_mode(photons, 1.0, noise), rel=1e-6)


def _holevo_of_copies(photons: float, noise: float, copies: int) -> float:
    """Return S(E) - S(E|w): each copy passes a two-mode squeezer with its own environment.

    Unit transmittance with noise: amplifier of gain g after a loss 1/g; the client holds both
    environments. Copies share their mean, of variance 2 mu per quadrature each.
    """
    gain = 1.0 + noise / 2.0
    root = math.sqrt(1.0 / gain)
    # One quadrature: signal, loss port, idler (sign of P differs) -> what the client holds.
    held_x = np.array([[-math.sqrt(1 - root**2), root, 0.0]])
    amplified = math.sqrt(gain - 1.0) * np.array([[root, math.sqrt(1 - root**2), 0.0]])
    entropy = []
    for spread in (2.0 * photons, 0.0):
        blocks = []
        for sign in (1.0, -1.0):
            idler = sign * amplified + np.array([[0.0, 0.0, math.sqrt(gain)]])
            each = np.concatenate([held_x, idler])
            white = np.kron(np.eye(copies), each @ each.T)
            bright = np.kron(np.ones((copies, copies)), spread * each[:, :1] @ each[:, :1].T)
            blocks.append(white + bright)
        values = np.sqrt(np.linalg.eigvals(blocks[0] @ blocks[1]).real)
        entropy.append(sum(_entropy(max(value, 1.0)) for value in values))
    return entropy[0] - entropy[1]


def _entropy(value: float) -> float:
    up, down = (value + 1.0) / 2.0, (value - 1.0) / 2.0
    return up * math.log2(up) - (down * math.log2(down) if down > 1e-12 else 0.0)


@pytest.mark.parametrize("sends", [0, -1, 10**9])
def test_sends_out_of_range(sends: int) -> None:
    with pytest.raises(SettingError, match="sends"):
        split(sends)


@given(target=st.floats(0.01, 0.99), inputs=st.integers(1, 2000), ratio=st.floats(1e-3, 1e3))
@hypothesis_settings(deadline=None)
def test_the_fewest_queries_reach_a_correlation(target: float, inputs: int, ratio: float) -> None:
    attack = ChosenInputs(1.0)
    queries = queries_for_correlation(target, inputs, ratio)
    assert attack.correlation(queries, inputs, ratio) >= target
    assert attack.correlation(queries - 1, inputs, ratio) < target


def test_a_quota_is_the_smaller_of_two_limits() -> None:
    found = quota(
        bits_limit=1.0,
        bits_per_query=0.0039,
        correlation_limit=0.5,
        inputs=784,
        signal_to_noise=0.3,
    )
    assert found.by_bits == 256
    assert found.by_extraction == queries_for_correlation(0.5, 784, 0.3) - 1
    assert found.queries == 256
    assert found.bits_per_weight == pytest.approx(256 * 0.0039)


def test_wrong_limits() -> None:
    for correlation in (0.0, 1.0, math.nan):
        with pytest.raises(SettingError, match="correlation"):
            queries_for_correlation(correlation, 784, 0.3)
    with pytest.raises(SettingError, match="inputs"):
        queries_for_correlation(0.5, 0, 0.3)
    with pytest.raises(SettingError, match="signal_to_noise"):
        queries_for_correlation(0.5, 784, 0.0)
    with pytest.raises(SettingError, match="within reach"):
        queries_for_correlation(0.5, 784, 1e-15)
    for bits in ((0.0, 1.0), (1.0, 0.0), (math.inf, 1.0)):
        with pytest.raises(SettingError, match="bits"):
            quota(
                bits_limit=bits[0],
                bits_per_query=bits[1],
                correlation_limit=0.5,
                inputs=784,
                signal_to_noise=1.0,
            )
