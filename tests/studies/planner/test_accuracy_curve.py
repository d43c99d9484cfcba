"""Accuracy against F: depends on F alone; interpolation and its inverse hold what they state."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from sessions import ideal_session

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import load_network
from labctl.errors import SettingError, UsageError
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne, TapReceiver
from labctl.protocols.rotation import Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.studies.planner.accuracy_curve import (
    DEFAULT_GRID,
    AccuracyCurve,
    AccuracyPoint,
    digest_of,
    measure_curve,
)
from labctl.studies.planner.curve_file import (
    cache_folder,
    cached_curve,
    curve_path,
    known_curve,
    load_curve,
    save_curve,
)

SOME = LabelledImages(load_test_images().images[:1000], load_test_images().labels[:1000])
BASE = ideal_session(1.0, 1.3, sampling=Sampling.MEASURED, seed=11)


def synthetic(
    random: np.random.Generator, images: int, runs: int, grid: tuple[float, ...] = DEFAULT_GRID
) -> AccuracyCurve:
    """Draw a curve whose images are right with probability ndtr(2 + 2 ln F + difficulty)."""
    difficulty = random.standard_normal(images)
    points = []
    for f in grid:
        share = ndtr(2.0 + 2.0 * math.log(f) + difficulty)
        counts = np.bincount(random.binomial(runs, share), minlength=runs + 1)
        points.append(AccuracyPoint(f, tuple(int(count) for count in counts)))
    return AccuracyCurve("0" * 64, "1" * 64, tuple(points))


def true_accuracy(signal_to_noise: float) -> float:
    """Averaged over a normal difficulty, the curve drawn by `synthetic` is a normal one again."""
    return float(ndtr((2.0 + 2.0 * math.log(signal_to_noise)) / math.sqrt(2.0)))


def true_f(accuracy: float) -> float:
    from scipy.special import ndtri

    return math.exp((math.sqrt(2.0) * float(ndtri(accuracy)) - 2.0) / 2.0)


def classes(changed: SessionSettings, wanted_f: float) -> np.ndarray:
    """Classify at that F, in any setting."""
    photons = wanted_f / changed.signal_to_noise_of(392)
    if not changed.channel.rotation.exact:
        kept = changed.channel.rotation.overlap(changed.block_of(392)) ** 2
        inner = wanted_f / (kept - (1.0 - kept) * wanted_f)
        leg = changed.leg_transmittance_of(392)
        photons = inner / changed.receiver.signal_to_noise(1.0, leg)
    at = replace(changed, light=replace(changed.light, mean_photons=photons))
    assert at.signal_to_noise_of(392) == pytest.approx(wanted_f, rel=1e-9)
    session = Session(load_network("noise-aware"), at, ModeLink(at))
    return np.concatenate([batch.classes for batch in session.run(SOME.images)])


@pytest.mark.parametrize(
    "changed",
    [
        replace(BASE, receiver=CloneReceiver(1.02, 1.0, IDEAL_HOMODYNE)),
        replace(BASE, channel=replace(BASE.channel, loss_db=3.0)),
        replace(
            BASE,
            receiver=CloneReceiver(2.0, 1.4, Homodyne(0.6, 0.1)),
            channel=replace(BASE.channel, technical_noise=0.1),
        ),
        replace(BASE, receiver=TapReceiver.of_gain(1.3, IDEAL_HOMODYNE)),
        replace(BASE, channel=replace(BASE.channel, rotation=Rotation(loss_db_per_mode=1e-3))),
    ],
    ids=["gain", "loss", "noisy", "tap", "lossy rotation"],
)
def test_accuracy_depends_on_f_alone(changed: SessionSettings) -> None:
    """The very same noise, scaled: the classes are the same except for rounding."""
    same = classes(changed, 0.25) == classes(BASE, 0.25)
    assert np.mean(same) > 0.995


@pytest.mark.parametrize(
    "changed",
    [
        replace(BASE, channel=replace(BASE.channel, block_modes=98)),
        replace(BASE, channel=replace(BASE.channel, rotation=Rotation(0.0, 0.004, 0.004))),
    ],
    ids=["blocks", "rotation errors"],
)
def test_other_ways_to_the_same_f_agree_within_statistics(changed: SessionSettings) -> None:
    """1,000 images, seed 11: both see the same images, so noise alone differs: 3 sigma of 1 %."""
    found, whole = (np.mean(classes(one, 0.25) == SOME.labels) for one in (changed, BASE))
    assert abs(found - whole) < 0.03


def test_a_measured_curve_rises_and_counts_every_image() -> None:
    heard: list[int] = []
    curve = measure_curve(
        load_network("noise-aware"),
        LabelledImages(SOME.images[:200], SOME.labels[:200]),
        grid=(0.03, 0.1, 0.3, 1.0),
        runs=2,
        on_run=heard.append,
    )
    assert heard == [1] * 8
    assert [(point.images, point.runs) for point in curve.points] == [(200, 2)] * 4
    assert curve.accuracy(0.03) < 0.5
    assert curve.accuracy(1.0) > 0.9


@pytest.mark.parametrize("runs", [0, -1, 10**9])
def test_a_number_of_runs_that_makes_no_sense_is_refused(runs: int) -> None:
    with pytest.raises(SettingError, match="runs"):
        measure_curve(load_network("noise-aware"), SOME, runs=runs)


def test_uncertainties_are_those_of_images_and_noise() -> None:
    """Scatter over 400 draws of a point of 500 images and 3 runs (seed 3): stated within 10 %."""
    random = np.random.default_rng(3)
    points = [synthetic(random, 500, 3, (0.3, 0.4, 0.5, 0.6)).points[1] for _ in range(400)]
    scatter = np.std([point.accuracy for point in points])
    assert np.mean([point.standard_uncertainty for point in points]) == pytest.approx(
        scatter, rel=0.1
    )
    assert points[0].standard_uncertainty == pytest.approx(
        math.hypot(points[0].image_uncertainty, points[0].noise_uncertainty)
    )


def test_images_that_never_waver_leave_their_number_as_the_only_doubt() -> None:
    point = AccuracyPoint(1.0, (100, 0, 0, 900))
    assert (point.accuracy, point.noise_uncertainty) == (0.9, 0.0)
    assert point.image_uncertainty == pytest.approx(math.sqrt(0.09 / 1000), rel=5e-3)


@pytest.fixture(scope="module")
def many() -> list[AccuracyCurve]:
    """Draw 300 curves of 2,000 images (seed 7)."""
    random = np.random.default_rng(7)
    grid = tuple(float(f) for f in np.geomspace(0.1, 2.0, 12))
    return [synthetic(random, 2000, 3, grid) for _ in range(300)]


@pytest.mark.parametrize("accuracy", [0.6, 0.9, 0.96])
def test_the_interval_of_f_holds_the_truth_as_often_as_it_says(
    accuracy: float, many: list[AccuracyCurve]
) -> None:
    """300 curves: 5 % outside on each side, of which 3 sigma are 3.8 %."""
    found = [curve.needed(accuracy, 0.95) for curve in many]
    truth = true_f(accuracy)
    assert np.mean([one.upper < truth for one in found]) < 0.05 + 0.038
    assert np.mean([one.lower > truth for one in found]) < 0.05 + 0.038
    outside = np.mean([not one.lower <= truth <= one.upper for one in found])
    assert 0.02 < outside < 0.10 + 0.052
    spread = np.std([one.value for one in found])
    assert np.mean([one.standard_uncertainty for one in found]) == pytest.approx(spread, rel=0.25)


def test_between_points_the_curve_is_the_truth() -> None:
    """200,000 images: what is left is the interpolation."""
    curve = synthetic(np.random.default_rng(1), 200_000, 2)
    for f in np.geomspace(0.03, 1.5, 23):
        assert curve.accuracy(float(f)) == pytest.approx(true_accuracy(float(f)), abs=0.003)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(20, 300),
    st.floats(0.2, 0.999),
    st.floats(0.2, 0.999),
    st.floats(0.5, 0.999),
)
def test_more_accuracy_needs_more_f(
    seed: int, images: int, one: float, other: float, confidence: float
) -> None:
    curve = synthetic(np.random.default_rng(seed), images, 2, tuple(np.geomspace(0.02, 20, 7)))
    low, high = (curve.needed(level, confidence) for level in sorted((one, other)))
    assert low.value <= high.value
    assert low.upper <= high.upper
    assert low.lower <= low.value <= low.upper
    if curve.least_f < low.value < math.inf:
        assert curve.accuracy(low.value) == pytest.approx(min(one, other), abs=2e-3)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.02, 20.0), st.floats(0.02, 20.0))
def test_more_f_is_never_less_accuracy(seed: int, one: float, other: float) -> None:
    curve = synthetic(np.random.default_rng(seed), 40, 2, tuple(np.geomspace(0.02, 20, 9)))
    low, high = sorted((one, other))
    assert curve.accuracy(low) <= curve.accuracy(high) + 1e-12


def test_what_was_not_measured_is_said() -> None:
    curve = synthetic(np.random.default_rng(2), 1000, 3)
    assert curve.accuracy(1e6) == curve.accuracy(curve.most_f)
    assert curve.needed(0.9999999).upper == math.inf
    with pytest.raises(SettingError, match=r"0\.02 or more"):
        curve.accuracy(0.001)
    for wrong in (0.0, 1.0, math.nan):
        with pytest.raises(SettingError, match="accuracy"):
            curve.needed(wrong)
    with pytest.raises(SettingError, match="confidence"):
        curve.needed(0.9, 1.0)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [AccuracyPoint(f, (1, 2)) for f in (1.0, 2.0, 3.0)],
        [AccuracyPoint(f, (1, 2)) for f in (1.0, 3.0, 2.0, 4.0)],
        [AccuracyPoint(f, (1, 2 + int(f))) for f in (1.0, 2.0, 3.0, 4.0)],
    ],
    ids=["none", "few", "not rising", "unequal"],
)
def test_points_that_make_no_curve_are_refused(points: list[AccuracyPoint]) -> None:
    with pytest.raises(SettingError, match="points"):
        AccuracyCurve("0" * 64, "0" * 64, tuple(points))


@pytest.mark.parametrize(
    ("f", "counts"), [(0.0, (1, 2)), (1.0, (3,)), (1.0, (0, 0)), (1.0, (-1, 2))]
)
def test_a_point_of_nothing_is_refused(f: float, counts: tuple[int, ...]) -> None:
    with pytest.raises(SettingError):
        AccuracyPoint(f, counts)


def test_a_curve_comes_back_from_its_file(tmp_path: Path) -> None:
    network = load_network("reference")
    drawn = synthetic(np.random.default_rng(4), 100, 3)
    curve = replace(drawn, network_sha256=network.sha256, images_sha256=digest_of(SOME))
    path = curve_path(tmp_path / "new", network, SOME, 3)
    assert known_curve(path, network, SOME) is None
    save_curve(curve, path)
    assert load_curve(path) == known_curve(path, network, SOME) == curve
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_curve_of_something_else_is_refused_and_not_taken_from_the_cache(tmp_path: Path) -> None:
    network = load_network("reference")
    drawn = synthetic(np.random.default_rng(4), 100, 3)
    curve = replace(drawn, network_sha256=network.sha256, images_sha256=digest_of(SOME))
    save_curve(curve, tmp_path / "curve.json")
    fewer = LabelledImages(SOME.images[:10], SOME.labels[:10])
    for other, images, words in (
        (load_network("noise-aware"), SOME, "another network"),
        (network, fewer, "other images"),
    ):
        with pytest.raises(UsageError, match=words):
            known_curve(tmp_path / "curve.json", other, images)
        assert cached_curve(tmp_path / "curve.json", other, images) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-10],
        lambda text: text.replace("curve 1", "curve 9"),
        lambda text: text.replace('"times_correct":', '"times":'),
        lambda text: text.replace("0.02,", "30.0,", 1),
        lambda text: "\x00" + text,
        lambda text: "",
    ],
)
def test_a_damaged_file_is_said_to_be_no_curve(
    damage: Callable[[str], str], tmp_path: Path
) -> None:
    path = tmp_path / "curve.json"
    save_curve(synthetic(np.random.default_rng(4), 100, 3), path)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UsageError, match="not an accuracy curve"):
        load_curve(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        save_curve(synthetic(np.random.default_rng(4), 100, 3), tmp_path / "file" / "curve.json")


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "labctl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder().parts[-2:] == (".cache", "labctl")
