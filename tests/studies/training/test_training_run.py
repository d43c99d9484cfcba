"""A training run: ends when nothing is gained, can be left and gone on with, learns its channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labctl.data.mnist import LabelledImages
from labctl.errors import SettingError, UsageError
from labctl.studies.training.channel import TrainingChannel
from labctl.studies.training.dataset import held_out_split
from labctl.studies.training.evaluation import noisy_accuracy
from labctl.studies.training.loop import EpochReport, Training, TrainingSettings

pytest.importorskip("jax", reason="JAX is not installed (extra test-full)")
pytest.importorskip("optax", reason="Optax is not installed (extra test-full)")

INPUTS, CLASSES = 16, 4
SETTINGS = TrainingSettings(
    sizes=(INPUTS, 12, CLASSES),
    epochs=6,
    batch_size=20,
    signal_to_noise=1.0,
    learning_rate=0.01,
)


@pytest.fixture(scope="module")
def stripes() -> LabelledImages:
    """400 images of 4 x 4 noise with one bright row that tells the class."""
    random = np.random.default_rng(3)
    labels = random.integers(0, CLASSES, 400).astype(np.uint8)
    images = random.uniform(0, 0.5, (400, 4, 4)).astype(np.float32)
    images[np.arange(400), labels] += 0.5
    return LabelledImages(images.reshape(400, INPUTS), labels)


def started(settings: TrainingSettings, data: LabelledImages) -> Training:
    return Training(settings, data.images, data.labels)


def finished(settings: TrainingSettings, data: LabelledImages) -> Training:
    training = started(settings, data)
    list(training.run())
    return training


def share_correct(
    training: Training, data: LabelledImages, channel: TrainingChannel, ratio: float
) -> float:
    found = [
        noisy_accuracy(training.network("n"), data.images, data.labels, ratio, seed, channel)
        for seed in range(5)
    ]
    return float(np.mean(found))


VARIANTS = {
    "plain": SETTINGS,
    "a range of F, running mean": replace(
        SETTINGS, signal_to_noise=(0.5, 2.0), averaging=0.9, peak_limit=2.0
    ),
    "held out, moved, coarse": replace(
        SETTINGS,
        held_out=0.25,
        patience=5,
        max_shift_px=0.5,
        channel=TrainingChannel(technical_noise=0.5, weight_bits=4, value_bits=5),
    ),
}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            settings, id=name, marks=[] if name.startswith("held out") else pytest.mark.long
        )
        for name, settings in VARIANTS.items()
    ],
)
def test_a_run_that_was_left_ends_at_the_same_bits(
    settings: TrainingSettings, stripes: LabelledImages, tmp_path: Path
) -> None:
    through = started(settings, stripes)
    run = through.run()
    first = [next(run), next(run)]
    through.save(tmp_path / "run.checkpoint")
    list(run)
    again = started(settings, stripes)
    again.resume(tmp_path / "run.checkpoint")
    assert list(again.reports) == first
    rest = list(again.run())
    assert [report.epoch for report in rest] == [3, 4, 5, 6]
    assert again.network("n").sha256 == through.network("n").sha256
    assert again.reports == through.reports
    # Chance is 0.25; the classes are easy to tell.
    assert through.reports[-1].accuracy > 0.4


def test_the_running_mean_keeps_to_the_peak_limit(stripes: LabelledImages) -> None:
    training = finished(VARIANTS["a range of F, running mean"], stripes)
    for layer in training.network("n").layers:
        # Cutting lowers the RMS a little, so that the peak is a little above the limit.
        assert np.abs(layer).max() <= 2.0 * 1.02


def test_held_out_images_are_not_learned_from(stripes: LabelledImages) -> None:
    settings = VARIANTS["held out, moved, coarse"]
    _, held_out = held_out_split(settings.seed, settings.held_out, len(stripes.labels))
    other = stripes.labels.copy()
    other[held_out] = (other[held_out] + 1) % CLASSES
    right = list(started(settings, stripes).run())
    wrong = list(Training(replace(settings, patience=5), stripes.images, other).run())
    assert [report.loss for report in wrong] == [report.loss for report in right][: len(wrong)]
    assert (wrong[-1].held_out_accuracy or 0) < 0.25 < (right[-1].held_out_accuracy or 0)


def test_a_run_ends_when_held_out_images_gain_nothing_and_keeps_the_best(
    stripes: LabelledImages,
) -> None:
    random = np.random.default_rng(5)
    meaningless = random.integers(0, CLASSES, 400).astype(np.uint8)
    settings = replace(
        SETTINGS, held_out=0.25, patience=3, epochs=200, signal_to_noise=None, learning_rate=0.03
    )
    training = Training(settings, stripes.images, meaningless)
    reports = list(training.run())
    assert training.finished
    assert len(training.reports) < settings.epochs
    assert len(reports) == training.best_epoch + 3 < 200
    losses = [report.held_out_loss or math.nan for report in reports]
    assert int(np.argmin(losses)) + 1 == training.best_epoch
    kept = training.network("n")
    assert kept.provenance["epochs done"] == (
        f"{len(reports)}, weights of epoch {training.best_epoch}"
    )
    short = Training(settings, stripes.images, meaningless)
    run = short.run()
    for _ in range(training.best_epoch):
        next(run)
    assert short.network("n").sha256 == kept.sha256


def test_there_is_no_network_before_the_first_epoch(stripes: LabelledImages) -> None:
    training = started(SETTINGS, stripes)
    assert (training.finished, training.best_epoch) == (False, 0)
    with pytest.raises(UsageError, match="no epoch is done yet"):
        training.network("n")


def test_a_loss_that_is_not_finite_is_said(stripes: LabelledImages, tmp_path: Path) -> None:
    training = started(SETTINGS, stripes)
    training.save(tmp_path / "run.checkpoint")
    with np.load(tmp_path / "run.checkpoint") as file:
        arrays = {name: file[name] for name in file.files}
    broken = {
        name: np.full_like(values, np.nan) if values.dtype == np.float32 else values
        for name, values in arrays.items()
    }
    with (tmp_path / "run.checkpoint").open("wb") as file:
        np.savez(file, allow_pickle=False, **broken)
    training.resume(tmp_path / "run.checkpoint")
    with pytest.raises(SettingError, match=r"learning_rate = 0\.01: must be lower"):
        next(training.run())


Damage = Callable[[Path], None]


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut_short, _empty, Path.unlink])
def test_a_damaged_checkpoint_is_refused(
    damage: Damage, stripes: LabelledImages, tmp_path: Path
) -> None:
    training = started(SETTINGS, stripes)
    next(training.run())
    path = tmp_path / "run.checkpoint"
    training.save(path)
    damage(path)
    with pytest.raises(UsageError, match=r"run\.checkpoint: (no such|not a readable) checkpoint"):
        training.resume(path)


def test_a_checkpoint_of_something_else_is_refused(stripes: LabelledImages, tmp_path: Path) -> None:
    training = started(SETTINGS, stripes)
    next(training.run())
    path = tmp_path / "run.checkpoint"
    training.save(path)
    with pytest.raises(UsageError, match=r"other settings \(seed 0 there, 1 here\)"):
        started(replace(SETTINGS, seed=1), stripes).resume(path)
    with pytest.raises(UsageError, match="other images or labels"):
        Training(SETTINGS, stripes.images[::-1], stripes.labels).resume(path)
    with pytest.raises(UsageError, match="checkpoint cannot be written"):
        training.save(tmp_path / "absent" / "run.checkpoint")


def test_reports_say_whether_a_network_is_the_best_so_far(stripes: LabelledImages) -> None:
    without: Sequence[EpochReport] = finished(SETTINGS, stripes).reports
    assert all(report.best and report.held_out_loss is None for report in without)


@pytest.mark.long
def test_training_with_the_hardware_in_the_loop_pays_on_that_hardware(
    stripes: LabelledImages,
) -> None:
    coarse = TrainingChannel(technical_noise=1.0, weight_bits=2, value_bits=3, value_range=2.0)
    long = replace(SETTINGS, epochs=30, signal_to_noise=2.0)
    aware, unaware = finished(replace(long, channel=coarse), stripes), finished(long, stripes)
    # 400 images and 5 noise seeds: the standard error of either is below 0.012.
    gain = share_correct(aware, stripes, coarse, 2.0) - share_correct(unaware, stripes, coarse, 2.0)
    assert gain > 0.04
