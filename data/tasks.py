"""Tasks by name: what there is to classify, where its parts come from, what its classes are."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from labctl.data import breast_cancer, fashion_mnist
from labctl.data.mnist import LabelledImages, fetch_training_images, load_images, load_test_images
from labctl.errors import DatasetError, SettingError

_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Task:
    """Something to classify.

    train, test: give its parts when called, by reading or downloading; they raise UsageError for
    a missing extra and DatasetError for missing data. square_pictures: whether an input is the
    pixels of a square, row by row.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    square_pictures: bool
    train: Callable[[], LabelledImages]
    test: Callable[[], LabelledImages]


TASKS: Mapping[str, str] = MappingProxyType(
    {
        "mnist": "digits, 784 pixels; the test part ships, the training part is fetched",
        "fashion-mnist": "clothes, 784 pixels; fetched",
        "breast-cancer": "569 patients, 60 inputs; breast-cancer:7 is division 7 (extra `tasks`)",
    }
)


def task_of(name: str) -> Task:
    """Return a task by its name; `breast-cancer:7` is that task with division 7 of its patients.

    Nothing is read or downloaded yet. Raises SettingError with what the name may have meant.
    """
    base, colon, number = name.partition(":")
    if base not in TASKS or (colon and base != "breast-cancer"):
        raise SettingError("task", name, _suggestion(base))
    if base == "mnist":
        return Task(name, "MNIST", _DIGITS, True, fetch_training_images, load_test_images)
    if base == "fashion-mnist":
        fetch = fashion_mnist.fetch_fashion_mnist
        parts = partial(fetch, "train"), partial(fetch, "test")
        return Task(name, "Fashion-MNIST", fashion_mnist.CLASS_NAMES, True, *parts)
    return _breast_cancer(name, _division(name, number) if colon else 0)


def is_task(data: str | Path, folder: Path | None = None) -> bool:
    """Whether `data` names a task; a file or folder that is there comes first.

    folder: where a relative path starts, by default the current one.
    """
    there = (Path(data) if folder is None else folder / data).exists()
    return str(data).partition(":")[0] in TASKS and not there


def part_to_classify(data: str | Path | None) -> LabelledImages:
    """Return what to test on: of a folder of idx files, of a task by name, or MNIST's for None.

    A folder that is there comes before a task of the same name. Raises DatasetError, SettingError,
    UsageError.
    """
    if data is None:
        return load_test_images()
    if is_task(data):
        return task_of(str(data)).test()
    require_there(data)
    return load_images(Path(data), "test")


def part_to_learn_from(data: str | Path | None) -> LabelledImages:
    """Return what to learn from, or what a curious server has as templates.

    data: as for `part_to_classify`.
    """
    if data is None:
        return fetch_training_images()
    if is_task(data):
        return task_of(str(data)).train()
    require_there(data)
    return load_images(Path(data), "train")


def require_there(data: str | Path) -> None:
    """Raise DatasetError for what is neither there nor a task, with what it may have meant."""
    if not Path(data).exists():
        raise DatasetError(
            f"{data}: no such folder, nor a task; must be your own data, or "
            + _suggestion(str(data))
        )


def _suggestion(name: str) -> str:
    """Say which tasks there are, the likeliest first if one is close."""
    folded = {known.replace("-", ""): known for known in TASKS}
    plain = name.partition(":")[0].lower().replace("_", "").replace("-", "").replace(" ", "")
    close = difflib.get_close_matches(plain, folded, n=1)
    listed = "one of " + ", ".join(TASKS)
    return f"{listed} (did you mean {folded[close[0]]}?)" if close else listed


def _division(name: str, number: str) -> int:
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise SettingError("task", name, "breast-cancer, or breast-cancer:N with a whole number N")
    return int(number)


def _breast_cancer(name: str, division: int) -> Task:
    return Task(
        name,
        f"Breast cancer Wisconsin (diagnostic), division {division}",
        breast_cancer.CLASS_NAMES,
        False,
        lambda: breast_cancer.split(division).train,
        lambda: breast_cancer.split(division).test,
    )
