"""Tasks by name; a folder that is there comes first, and a wrong name gets a suggestion."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from labctl.data.breast_cancer import split
from labctl.data.mnist import load_test_images
from labctl.data.tasks import TASKS, is_task, part_to_classify, part_to_learn_from, task_of
from labctl.errors import DatasetError, SettingError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder called `mnist` with three dark pictures per part the place to look in."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "mnist"
    made.mkdir()
    for stem in ("train", "t10k"):
        images = bytes([0, 0, 8, 3]) + struct.pack(">3I", 3, 2, 2) + bytes(12)
        (made / f"{stem}-images-idx3-ubyte").write_bytes(images)
        labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 3) + bytes(3)
        (made / f"{stem}-labels-idx1-ubyte").write_bytes(labels)
    return made


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_is_before_anything_is_read(name: str) -> None:
    task = task_of(name)
    assert task.name == name
    assert task.square_pictures == (name != "breast-cancer")
    assert len(set(task.class_names)) == (2 if name == "breast-cancer" else 10)


def test_nothing_and_mnist_are_the_shipped_test_set() -> None:
    shipped = load_test_images()
    for data in (None, "mnist", Path("mnist")):
        assert np.array_equal(part_to_classify(data).labels, shipped.labels)


def test_a_table_has_divisions() -> None:
    for data, number in (("breast-cancer", 0), (Path("breast-cancer:7"), 7)):
        assert np.array_equal(part_to_classify(data).images, split(number).test.images)
        assert np.array_equal(part_to_learn_from(data).labels, split(number).train.labels)


@pytest.mark.usefixtures("folder")
def test_a_folder_that_is_there_comes_before_a_task() -> None:
    assert not is_task("mnist")
    assert is_task("fashion-mnist")
    assert part_to_classify("mnist").images.shape == (3, 4)
    assert part_to_learn_from(Path("mnist")).images.shape == (3, 4)


def test_a_relative_folder_may_start_elsewhere(folder: Path, tmp_path: Path) -> None:
    assert not is_task("mnist", tmp_path)
    assert is_task("mnist", folder)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("fashionmnist", "fashion-mnist"),
        ("Fashion_MNIST", "fashion-mnist"),
        ("breast_cancer", "breast-cancer"),
        ("brest-cancer:3", "breast-cancer"),
        ("minst", "mnist"),
    ],
)
def test_a_wrong_name_gets_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(SettingError, match=rf"did you mean {meant}\?"):
        task_of(name)
    for part in (part_to_classify, part_to_learn_from):
        with pytest.raises(DatasetError, match=rf"no such folder, nor a task.* mean {meant}\?"):
            part(name)


@pytest.mark.parametrize("name", ["", "cifar", "a/b", "7"])
def test_what_is_like_no_task_gets_the_list(name: str) -> None:
    with pytest.raises(SettingError) as caught:
        task_of(name)
    assert str(caught.value).endswith("one of mnist, fashion-mnist, breast-cancer")


@pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "٣", "1" * 12])
def test_a_division_is_a_whole_number(number: str) -> None:
    with pytest.raises(SettingError, match="with a whole number N"):
        part_to_classify(f"breast-cancer:{number}")


def test_only_the_table_has_divisions() -> None:
    with pytest.raises(SettingError, match="did you mean mnist"):
        part_to_classify("mnist:2")
