"""Decoys: which are chosen, what any reader may make of them, and what undoes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.errors import DatasetError, SettingError
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import Hiding, reading_cap

Floats = NDArray[np.float32]
Labels = NDArray[np.uint8]

KEY = decoy_key_of_seed(1)


@pytest.fixture(scope="module")
def pictures() -> LabelledImages:
    found = load_test_images()
    return LabelledImages(found.images[0::2], found.labels[0::2])


@pytest.fixture(scope="module")
def store() -> LabelledImages:
    # Of the same writers as the inputs: the halves of the set differ.
    found = load_test_images()
    return LabelledImages(found.images[1::2], found.labels[1::2])


@pytest.fixture(scope="module")
def decoys(store: LabelledImages) -> Decoys:
    return Decoys(store, 3, KEY)


def test_decoys_are_of_other_classes_than_the_own_and_each_other(
    decoys: Decoys, pictures: LabelledImages
) -> None:
    images = pictures.images[:500]
    guess = decoys.guess
    classes = guess.of(decoys.store.images)[decoys.chosen(images)]
    own = guess.of(images)
    together = np.concatenate([own[:, None], classes], axis=1)
    assert all(len(set(row)) == 4 for row in together)
    # Each other class equally often: 1500 decoys of ten classes, within 4 standard deviations.
    counts = np.bincount(classes.ravel(), minlength=10)
    assert np.abs(counts - 150).max() < 4 * np.sqrt(150) + 20


def test_a_repeat_brings_the_same_decoys_and_another_key_others(
    decoys: Decoys, store: LabelledImages, pictures: LabelledImages
) -> None:
    images = pictures.images[:50]
    chosen = decoys.chosen(images)
    assert np.array_equal(decoys.chosen(images[::-1])[::-1], chosen)
    other = Decoys(store, 3, decoy_key_of_seed(2)).chosen(images)
    assert np.mean(other == chosen) < 0.1


def test_the_guess_is_public_and_good_enough(decoys: Decoys) -> None:
    assert 0.01 < decoys.guess_error < 0.08
    assert decoys.cap == pytest.approx(0.25 + 3 * decoys.guess_error / 9)


def best_of_looks(hidden: Decoys, images: Floats, labels: Labels) -> dict[str, float]:
    """Return how often a reader that knows all candidates names the label, by rule.

    It has the J + 1 inputs in the clear, their true labels and how decoys are drawn; they come in
    no order, so ties are broken at random.
    """
    chosen = hidden.chosen(images)
    inputs = np.concatenate([images[:, None], hidden.store.images[chosen]], axis=1)
    truth = np.concatenate([labels[:, None], hidden.store.labels[chosen]], axis=1)
    right = hidden.guess.of(inputs.reshape(-1, 784)).reshape(truth.shape) == truth
    bright = inputs.sum(axis=2) / inputs.sum(axis=2).max()
    looks = {
        "brightest": bright,
        "darkest": -bright,
        "guess is right": right * 1.0,
        "guess is wrong": ~right * 1.0,
        "votes": np.sum(truth[:, :, None] == truth[:, None, :], axis=2) * 1.0,
    }
    ties = np.random.default_rng(0).random(truth.shape) * 1e-3
    found = {}
    for name, look in looks.items():
        named = np.take_along_axis(truth, np.argmax(look + ties, axis=1)[:, None], 1)[:, 0]
        found[name] = float(np.mean(named == labels))
    return found


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_reader_that_knows_all_candidates_keeps_the_cap(
    store: LabelledImages, pictures: LabelledImages, count: int
) -> None:
    hidden = Decoys(store, count, KEY)
    found = best_of_looks(hidden, pictures.images[::2], pictures.labels[::2])
    scatter = 4.0 * np.sqrt(hidden.cap * (1.0 - hidden.cap) / 2500)
    assert max(found.values()) < hidden.cap + scatter
    # That cap is no idle one: who knows the candidates comes as far as 1/(J + 1).
    assert found["votes"] > 1.0 / (count + 1) - scatter


def test_decoys_unlike_the_inputs_betray_themselves(pictures: LabelledImages) -> None:
    # The halves of the set have other writers; of the second's pictures the guess is seldom wrong.
    found = load_test_images()
    hidden = Decoys(LabelledImages(found.images[5000:], found.labels[5000:]), 3, KEY)
    seen = best_of_looks(hidden, found.images[:5000:2], found.labels[:5000:2])
    assert seen["guess is wrong"] > hidden.cap + 0.04


@pytest.mark.parametrize(("count", "cap"), [(1, 0.55), (3, 0.38), (9, 0.27)])
def test_classes_drawn_blindly_repeat_and_the_cap_is_worse(count: int, cap: float) -> None:
    # Ten classes drawn with the own: the label that most candidates share is named.
    drawn = np.random.default_rng(0).integers(0, 10, (40_000, count + 1))
    votes = np.stack([np.sum(drawn == label, axis=1) for label in range(10)], axis=1)
    assert np.mean(votes.max(axis=1) / (count + 1)) == pytest.approx(cap, abs=0.008)


def test_decoys_that_the_server_holds_are_struck_out(
    decoys: Decoys, store: LabelledImages, pictures: LabelledImages
) -> None:
    # A server that has the store finds its pictures in the span: what is left is the input.
    images = pictures.images[:20]
    inputs = decoys.inputs(images)
    for own, candidates in zip(images, inputs, strict=True):
        held = [bool((store.images[:, ::9] == one[::9]).all(axis=1).any()) for one in candidates]
        assert held == [False, True, True, True]
        assert np.array_equal(candidates[np.argmin(held)], own)


def test_fresh_decoys_would_average_away(store: LabelledImages, pictures: LabelledImages) -> None:
    # Mean projector over many repeats: with fresh decoys the input alone is in all of them.
    own = pictures.images[0]

    def strength(keys: range) -> float:
        spans = []
        for key in keys:
            inputs = Decoys(store, 3, decoy_key_of_seed(key)).inputs(own[None])[0]
            field = np.ascontiguousarray(inputs).view(np.complex64)
            basis = np.linalg.qr(field.T)[0]
            spans.append(basis @ basis.conj().T)
        values = np.linalg.eigvalsh(np.mean(spans, axis=0))
        return float(values[-1] - values[-2])

    assert strength(range(1)) < 1e-3
    assert strength(range(5)) > 0.15


def test_the_cap_and_what_it_takes() -> None:
    assert reading_cap(0, 10, 0.05) == 1.0
    assert reading_cap(3, 10, 0.0) == 0.25
    assert reading_cap(9, 10, 0.04) == pytest.approx(0.14)
    for decoys, error in ((10, 0.0), (-1, 0.0), (3, 1.5), (3, -0.1)):
        with pytest.raises(SettingError):
            reading_cap(decoys, 10, error)


def test_what_cannot_hide_is_refused(store: LabelledImages) -> None:
    with pytest.raises(SettingError, match="decoys"):
        Decoys(store, 10, KEY)
    with pytest.raises(SettingError, match="key"):
        Decoys(store, 3, b"short")
    dark = replace(store, images=np.zeros_like(store.images))
    with pytest.raises(DatasetError, match="dark"):
        Decoys(dark, 3, KEY)
    with pytest.raises(DatasetError, match="classes"):
        Decoys(LabelledImages(store.images[:5], np.zeros(5, np.uint8)), 1, KEY)
    with pytest.raises(DatasetError, match="pixels"):
        Decoys(store, 1, KEY).inputs(np.ones((1, 10), np.float32))
    for hiding in ({"decoys": -1}, {"return_modes": 0}, {"hidden_return_modes": 5}):
        with pytest.raises(SettingError):
            Hiding(**hiding)
    with pytest.raises(SettingError, match="decoys"):
        Hiding(decoys=1, return_modes=5)
