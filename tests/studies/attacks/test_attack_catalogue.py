"""The catalogue: names are unique, defaults are valid, what is not valid is refused in one line."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.data.mnist import load_test_images
from labctl.errors import SettingError
from labctl.studies.attacks.attack import Attacker
from labctl.studies.attacks.catalogue import ATTACKS, attack_of
from labctl.studies.attacks.heterodyne_resend import HeterodyneResend
from labctl.studies.attacks.label_reading import LabelReading
from labctl.studies.attacks.local_oscillator import LocalOscillator

THIEVES = [name for name, kind in ATTACKS.items() if kind.party is not Attacker.SERVER]


@pytest.mark.parametrize("name", list(ATTACKS))
def test_each_kind_makes_its_attack(name: str) -> None:
    kind = ATTACKS[name]
    attack = kind.make(kind.default)
    assert kind.name == name == attack.name
    assert attack.party is kind.party
    assert attack.strength == kind.default
    assert attack_of(name).strength == attack_of(name, kind.default).strength == kind.default
    assert kind.summary
    assert kind.parameter
    assert kind.valid


@pytest.mark.parametrize("name", THIEVES)
def test_attacks_of_one_strength_are_the_same_value(name: str) -> None:
    assert attack_of(name) == attack_of(name, ATTACKS[name].default)


def test_a_server_compares_with_images_that_are_not_those_usually_attacked() -> None:
    attack = attack_of("label-reading", 2.0)
    assert isinstance(attack, LabelReading)
    assert attack.repeats == 2
    shipped = load_test_images()
    assert np.array_equal(attack.templates.images, shipped.images[5000:])
    assert np.array_equal(attack.templates.labels, shipped.labels[5000:])


def test_clients_and_outsiders_are_all_there() -> None:
    assert set(THIEVES) == {
        "over-gain",
        "clone-more-modes",
        "heterodyne-resend",
        "hidden-tap",
        "own-laser",
        "nothing-returned",
        "chosen-inputs",
        "local-oscillator",
        "quantum-memory",
        "adaptive-tap",
        "tap-and-squeeze",
        "classes-alone",
        "model-copy",
        "chosen-principal-inputs",
        "principal-modes",
        "block-decision",
        "level-decision",
        "tap",
        "tap-return",
        "intercept-resend",
        "intercept-resend-return",
    }


@pytest.mark.parametrize("name", list(ATTACKS))
@pytest.mark.parametrize("strength", [math.nan, math.inf, -math.inf])
def test_no_attack_takes_what_is_no_number(name: str, strength: float) -> None:
    with pytest.raises(SettingError, match="must be"):
        attack_of(name, strength)


@pytest.mark.parametrize(
    ("name", "strength"),
    [
        ("over-gain", 1.0),
        ("over-gain", 1e7),
        ("clone-more-modes", 0.0),
        ("clone-more-modes", 2.5),
        ("heterodyne-resend", 1.01),
        ("heterodyne-resend", -0.01),
        ("hidden-tap", 2.0),
        ("own-laser", -1.0),
        ("nothing-returned", 1.5),
        ("chosen-inputs", 1.5),
        ("local-oscillator", 1.0),
        ("local-oscillator", -11.0),
        ("classes-alone", 0.0),
        ("classes-alone", 1e4),
        ("classes-alone", 1.5),
        ("model-copy", 0.0),
        ("chosen-principal-inputs", 1e4),
        ("principal-modes", 0.0),
        ("tap", 1.0),
        ("tap-return", -0.1),
        ("intercept-resend", 1.1),
        ("intercept-resend-return", -0.1),
        ("label-reading", 0.0),
        ("label-reading", 1.5),
        ("bright-probes", 0.0),
        ("structured-probes", 0.0),
    ],
)
def test_strengths_out_of_range_are_refused(name: str, strength: float) -> None:
    with pytest.raises(SettingError, match="must be"):
        attack_of(name, strength)


def test_a_misspelt_name_gets_a_hint() -> None:
    with pytest.raises(SettingError, match=r"did you mean over-gain\?"):
        attack_of("overgain")
    with pytest.raises(SettingError, match="one of over-gain"):
        attack_of("x")


@pytest.mark.parametrize("rescaling", [-1.0, math.nan, math.inf])
def test_a_rescaling_is_a_finite_amplitude(rescaling: float) -> None:
    with pytest.raises(SettingError, match="rescaling"):
        HeterodyneResend(0.5, rescaling)


def test_a_share_behind_the_oscillator_is_a_share() -> None:
    with pytest.raises(SettingError, match="share"):
        LocalOscillator(0.1, share=1.5)
