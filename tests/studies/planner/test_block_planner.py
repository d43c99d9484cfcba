"""The planner: its table is that of the closed forms, its answer the best there is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import SettingError
from labctl.protocols.blocks import (
    BlockLimits,
    BlockQuestion,
    allowed_blocks,
    best_block,
    block_option,
    block_options,
    useful_sizes,
)
from labctl.protocols.leakage import Assumptions, Trust, holevo_bits_per_mode
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne, TapReceiver
from labctl.protocols.rotation import Rotation

TRUSTED = Assumptions(Trust.TRUSTED, Trust.TRUSTED)

QUESTION = BlockQuestion(
    modes=392,
    rows=784,
    rotation=Rotation(loss_db_per_mode=1e-3),
    receiver=CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE),
    loss_db=0.0,
    technical_noise=0.0,
    assumptions=TRUSTED,
    signal_to_noise=0.3,
)
BY_LIGHT = replace(QUESTION, signal_to_noise=None, mean_photons=0.57)


def test_without_loss_a_whole_row_is_best_and_has_the_known_answer() -> None:
    best = best_block(replace(QUESTION, rotation=Rotation()))
    assert (best.block_modes, best.blocks) == (392, 1)
    assert best.mean_photons == pytest.approx(0.57, abs=0.005)
    assert best.weights_bits_per_real == pytest.approx(0.0039, abs=5e-5)
    assert best.transmittance == 1.0


@pytest.mark.parametrize("block_modes", [1, 49, 100, 392])
def test_an_option_is_the_closed_forms(block_modes: int) -> None:
    """Written out: loss each way, mu that makes up for it, noise per mode, bits of both."""
    option = block_option(QUESTION, block_modes)
    leg = 10.0 ** (-block_modes * 1e-3 / 10.0)
    blocks, gain = math.ceil(392 / block_modes), 1.3
    noise = (2 * gain**2 - 3 * gain + 2) / (gain * (gain - 1.0))
    photons = 0.3 * noise / (2.0 * leg)
    excess = (2.0 - 2.0 / gain) * blocks / 392
    assert option.blocks == blocks
    assert option.mean_photons == pytest.approx(photons, rel=1e-9)
    assert option.signal_to_noise == pytest.approx(0.3, rel=1e-9)
    assert option.transmittance == pytest.approx(leg**2, rel=1e-9)
    assert option.excess_noise == pytest.approx(excess, rel=1e-9)
    bits = holevo_bits_per_mode(photons, leg**2, excess)
    assert option.weights_bits_per_mode == pytest.approx(bits, rel=1e-9)
    assert option.weights_bits_per_real == pytest.approx(bits / 2.0, rel=1e-9)


def test_light_given_decides_f() -> None:
    whole, small = block_option(BY_LIGHT, 392), block_option(BY_LIGHT, 28)
    assert whole.mean_photons == small.mean_photons == 0.57
    assert whole.signal_to_noise == pytest.approx(small.signal_to_noise * 10 ** (-0.0364), rel=1e-9)


@pytest.mark.parametrize("loss", [0.0, 1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("question", [QUESTION, BY_LIGHT], ids=["by F", "by light"])
def test_the_best_is_the_best_of_all_sizes(question: BlockQuestion, loss: float) -> None:
    asked = replace(question, rotation=Rotation(loss), modes=60)
    best = best_block(asked)
    every = block_options(asked, range(1, 61))
    assert best.weights_bits_per_real == min(option.weights_bits_per_real for option in every)


def test_the_more_loss_the_smaller_the_block() -> None:
    sizes = [
        best_block(replace(QUESTION, rotation=Rotation(loss))).block_modes
        for loss in (1e-5, 1e-4, 1e-3, 1e-2)
    ]
    assert sizes == [392, 98, 28, 9]


@settings(deadline=None)
@given(st.integers(1, 3000))
def test_useful_sizes_are_the_smallest_of_their_number_of_blocks(modes: int) -> None:
    smallest: dict[int, int] = {}
    for size in range(modes, 0, -1):
        smallest[-(-modes // size)] = size
    assert useful_sizes(modes) == tuple(sorted(smallest.values()))


def test_limits_choose_and_say_why() -> None:
    limits = BlockLimits(weights_bits_per_real=0.08, data_bits_journal=0.9, signal_to_noise=0.297)
    allowed = allowed_blocks(BY_LIGHT, limits)
    assert [option.block_modes for option in allowed] == [49]
    assert best_block(BY_LIGHT, limits) == allowed[0]
    assert limits.broken_by(allowed[0]) == ()
    whole = limits.broken_by(block_option(BY_LIGHT, 392))
    assert any("per weight, above 0.08" in reason for reason in whole)
    assert any("below 0.297" in reason for reason in whole)
    single = limits.broken_by(block_option(BY_LIGHT, 1))
    assert any("per data symbol, above 0.9" in reason for reason in single)


def test_no_block_within_the_limits_is_told_with_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"blocks of 28 modes, which leak least.*0\.0618"):
        best_block(QUESTION, BlockLimits(weights_bits_per_real=1e-3))
    assert allowed_blocks(QUESTION, BlockLimits(weights_bits_per_real=1e-3)) == ()


def test_errors_of_the_elements_can_put_an_f_out_of_reach() -> None:
    """A share of the signal becomes noise, which light cannot make up for."""
    wrong = replace(QUESTION, rotation=Rotation(0.0, 0.0, 0.1), signal_to_noise=3.0)
    whole, small = block_option(wrong, 392), block_option(wrong, 4)
    assert whole.mean_photons == whole.weights_bits_per_real == math.inf
    assert BlockLimits().broken_by(whole) == ("no light reaches the F that is wanted",)
    assert small.signal_to_noise == pytest.approx(3.0, rel=1e-9)
    assert all(option.block_modes < 392 for option in allowed_blocks(wrong, BlockLimits()))


def test_what_no_block_reaches_is_refused() -> None:
    hopeless = replace(QUESTION, rotation=Rotation(0.0, 0.0, 2.0), signal_to_noise=50.0)
    with pytest.raises(SettingError, match="no light reaches"):
        best_block(hopeless)
    dark = replace(QUESTION, rotation=Rotation(100.0), modes=40)
    assert block_option(dark, 40).mean_photons == math.inf


def test_receivers_and_the_link_count() -> None:
    tap = replace(QUESTION, receiver=TapReceiver.of_gain(1.3, Homodyne(0.8, 0.05)))
    assert block_option(tap, 49).excess_noise > block_option(QUESTION, 49).excess_noise
    assert block_option(tap, 49).data_bits_journal > block_option(QUESTION, 49).data_bits_journal
    lossy = replace(QUESTION, loss_db=1.0)
    assert block_option(lossy, 49).mean_photons > block_option(QUESTION, 49).mean_photons
    untrusted = replace(lossy, assumptions=Assumptions(Trust.UNTRUSTED, Trust.TRUSTED))
    trusted, worst = block_option(lossy, 49), block_option(untrusted, 49)
    assert worst.weights_bits_per_real > trusted.weights_bits_per_real
    assert worst.transmittance == trusted.transmittance


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("modes", lambda: replace(QUESTION, modes=0)),
        ("modes", lambda: replace(QUESTION, modes=10**9)),
        ("rows", lambda: replace(QUESTION, rows=0)),
        ("loss_db", lambda: replace(QUESTION, loss_db=-1.0)),
        ("loss_db", lambda: replace(QUESTION, loss_db=math.nan)),
        ("technical_noise", lambda: replace(QUESTION, technical_noise=math.inf)),
        ("signal_to_noise", lambda: replace(QUESTION, signal_to_noise=0.0)),
        ("signal_to_noise", lambda: replace(QUESTION, signal_to_noise=math.inf)),
        ("mean_photons", lambda: replace(BY_LIGHT, mean_photons=math.nan)),
        ("mean_photons", lambda: replace(QUESTION, mean_photons=1.0)),
        ("mean_photons", lambda: replace(BY_LIGHT, mean_photons=None)),
        ("block_modes", lambda: block_option(QUESTION, 0)),
        ("limit of signal_to_noise", lambda: BlockLimits(signal_to_noise=-1.0)),
        ("limit of data_bits_journal", lambda: BlockLimits(data_bits_journal=math.nan)),
    ],
)
def test_wrong_questions_are_named(name: str, call: Callable[[], object]) -> None:
    with pytest.raises(SettingError) as caught:
        call()
    assert caught.value.name == name
