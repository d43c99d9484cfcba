"""What several commands ask the same way: data, assumptions, where runs go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.data.tasks import is_task, part_to_classify, require_there, task_of
from labctl.errors import SettingError
from labctl.protocols.leakage import Assumptions, Trust
from labctl.studies.training.dataset import Dataset, load_dataset


def images_of(data: str | Path | None, count: int | None) -> LabelledImages:
    """Return the first `count` test images, or all for None.

    data: a folder of idx files, a task's name, or None for the shipped MNIST set.
    """
    available = part_to_classify(data)
    if count is None:
        return available
    checks.within("images", count, 1, len(available.labels))
    return LabelledImages(available.images[:count], available.labels[:count])


def pictures_besides(data: str | Path | None, count: int, source: str | None) -> LabelledImages:
    """Return pictures for decoys or a public subspace beside the first `count` of `data`.

    source: a folder or a task's name (its pictures to classify); None for those of `data` that are
    not sent. They have to be like those that are: halves of the shipped set have other writers, so
    runs of up to a quarter of a set get the second quarter. Longer ones get the half, or all of it,
    that they are from: there a decoy may be the input of another query, never of the same.
    """
    available = part_to_classify(data if source is None else source)
    total = len(available.labels)
    half = total // 2
    if source is not None or count > half:
        part = slice(0, total)
    else:
        part = slice(half // 2 if count <= half // 2 else 0, half)
    return LabelledImages(available.images[part], available.labels[part])


def dataset_of(data: str | Path | None, scale: float | None) -> Dataset:
    """Return what to learn from and to test on.

    data: a file or folder (see `load_dataset`), a task's name, or None for MNIST. scale: for files
    of values alone.
    """
    if data is not None and not is_task(data):
        require_there(data)
        return load_dataset(Path(data), scale)
    if scale is not None:
        raise SettingError("scale", scale, "given with --data, a file of values")
    task = task_of("mnist" if data is None else str(data))
    return Dataset(task.train(), task.test(), task.class_names, task.square_pictures)


def assumptions(loss: Trust, noise: Trust) -> Assumptions:
    """Return the assumptions that the options name."""
    return Assumptions(loss=loss, technical_noise=noise)


def names_of(option: str, text: str) -> list[str]:
    """Return the networks that an option names, with commas between."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise SettingError(option, text, "names or files with single commas between")
    return names


def refuse_given(options: Mapping[str, object], where: str) -> None:
    """Refuse options that would be ignored; 0 says nothing about a link."""
    for name, value in options.items():
        if value is not None and value != 0.0:
            raise SettingError(name, value, f"left out for {where}")
