"""`--data` takes a folder, a file to learn from, or a task's name, in every command alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.cli.choices import dataset_of, images_of
from labctl.data.breast_cancer import CLASS_NAMES, split
from labctl.errors import DatasetError, SettingError


def test_a_task_gives_its_first_test_inputs_or_all() -> None:
    test = split(0).test
    assert np.array_equal(images_of("breast-cancer", 5).images, test.images[:5])
    assert len(images_of(Path("breast-cancer"), None).labels) == len(test.labels)
    assert images_of(None, 3).images.shape == (3, 784)


@pytest.mark.parametrize("count", [0, 172])
def test_a_number_of_images_that_there_are_not_is_refused(count: int) -> None:
    with pytest.raises(SettingError, match="1 to 171"):
        images_of("breast-cancer", count)


def test_a_task_can_be_learned_from() -> None:
    dataset = dataset_of(Path("breast-cancer:2"), None)
    assert np.array_equal(dataset.train.images, split(2).train.images)
    assert dataset.test is not None
    assert np.array_equal(dataset.test.labels, split(2).test.labels)
    assert (dataset.inputs, dataset.classes, dataset.class_names) == (60, 2, CLASS_NAMES)
    assert not dataset.square_pictures


def test_a_file_can_be_learned_from(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("0,10,20\n1,30,40\n", encoding="utf-8")
    dataset = dataset_of(tmp_path / "own.csv", 40.0)
    assert dataset.train.images.tolist() == [[0.25, 0.5], [0.75, 1.0]]
    assert dataset.test is None


def test_a_scale_is_for_files_of_values() -> None:
    with pytest.raises(SettingError, match="scale"):
        dataset_of("breast-cancer", 2.0)
    with pytest.raises(SettingError, match="scale"):
        dataset_of(None, 2.0)


def test_what_is_neither_file_nor_task_is_named() -> None:
    with pytest.raises(DatasetError, match="did you mean breast-cancer"):
        images_of("breastcancer", 1)
    with pytest.raises(DatasetError, match="did you mean mnist"):
        dataset_of("mnits", None)
