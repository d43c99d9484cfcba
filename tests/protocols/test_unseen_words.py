"""How often words are mistaken of which not all were seen: against decisions among all."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.protocols.unseen_words import mistaken, mistaken_lines, unseen


@pytest.mark.parametrize(("length", "mean_photons"), [(8, 8.0), (8, 21.0), (4, 60.0)])
def test_the_bound_is_above_what_the_nearest_word_mistakes_and_near(
    length: int, mean_photons: float
) -> None:
    """4,096 random words, all compared; 2,000 decisions know 5 % to 0.5 %."""
    random = np.random.default_rng(1)
    words = random.standard_normal((4096, length))
    true = random.integers(0, len(words), 2000)
    read = words[true] + random.standard_normal((2000, length)) / np.sqrt(mean_photons)
    nearest = np.argmax(read @ words.T - 0.5 * np.square(words).sum(axis=1), axis=1)
    wrong = float(np.mean(nearest != true))
    bound = mistaken(words[true], np.ones(2000), np.full(2000, 12.0), mean_photons, 0)
    assert 0.005 < wrong < bound.share + 0.01 < 4.0 * wrong + 0.02


def test_scales_count_as_light_does() -> None:
    words = np.random.default_rng(2).standard_normal((1000, 8))
    twice = mistaken(words, np.full(1000, 2.0), np.full(1000, 16.0), 5.0, 0)
    bright = mistaken(words, np.ones(1000), np.full(1000, 16.0), 20.0, 0)
    assert twice.share == pytest.approx(bright.share)
    assert twice.off == pytest.approx(4.0 * bright.off)


def test_lines_are_known_up_to_what_light_carries() -> None:
    """0.5 log2(1 + mu) bit per weight is 2 at mu = 15: below it lines are known, above not."""
    lines = np.random.default_rng(3).standard_normal((300, 800), dtype=np.float32)
    assert mistaken_lines(lines, 1.8 * 800, 15.0).share < 0.01
    assert mistaken_lines(lines, 2.2 * 800, 15.0).share > 0.99


def test_words_not_seen_follow_from_those_seen_once_and_twice() -> None:
    """20,000 draws from 50,000 words; the spread of ten drawings is 2 %."""
    counts = np.bincount(np.random.default_rng(4).integers(0, 50_000, 20_000))
    once, twice = (int(np.count_nonzero(counts == times)) for times in (1, 2))
    seen = int(np.count_nonzero(counts))
    assert seen + unseen(once, twice) == pytest.approx(50_000, rel=0.06)
