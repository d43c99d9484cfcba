"""Pictures to learn from: idx folders, .npz and .csv files of the user's own, checked and split."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl import checks
from labctl.data.archive_room import opened_npz
from labctl.data.mnist import LabelledImages, load_images
from labctl.errors import DatasetError, SettingError
from labctl.plain_file import read_plain_text, within_memory

# Labels of idx files are bytes.
MOST_CLASSES = 256
# A digit and its comma become a float of Python, 32 bytes with its place in a list, and a line.
_CSV_GROWS = 20
_FORMS = "a folder of idx files, a .npz file or a .csv file"
_DAMAGE = (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to learn from, images to test on where there are any, and names of the classes.

    square_pictures: whether the values of an image are known to be the pixels of a square.
    """

    train: LabelledImages
    test: LabelledImages | None
    class_names: tuple[str, ...]
    square_pictures: bool

    @property
    def inputs(self) -> int:
        """Values of one image."""
        return int(self.train.images.shape[1])

    @property
    def classes(self) -> int:
        """Classes: as many as have names, or one more than the highest label."""
        parts = [self.train] if self.test is None else [self.train, self.test]
        highest = max(int(part.labels.max()) for part in parts)
        return max(highest + 1, len(self.class_names), 2)


def load_dataset(path: Path, scale: float | None = None) -> Dataset:
    """Read a user's own data.

    Folder: idx files named as MNIST's, `t10k` may be absent. `.npz`: arrays `images` (n, …) and
    `labels` (n,), optional `test_images`, `test_labels` and `class_names`. `.csv`: one image a
    line, its label first, then its values; a first line of names is skipped.
    scale: values are divided by it. Whole numbers of type uint8 are divided by 255 without it; all
    else must be in [0, 1]. Raises DatasetError, and SettingError for a scale that is not above 0.
    """
    if scale is not None:
        checks.positive("scale", scale)
    if path.is_dir():
        return _of_folder(path, scale)
    readers = {".npz": _of_npz, ".csv": _of_csv}
    if path.suffix.lower() not in readers or not path.exists():
        what = "no such file or folder" if not path.exists() else "not a data set"
        raise DatasetError(f"{path}: {what}; must be {_FORMS}")
    return readers[path.suffix.lower()](path, scale)


def held_out_split(
    seed: int, share: float, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose at random which of `count` images are learned from and which are held out.

    Both keep the order of the images. Raises SettingError where a share above 0 holds out none.
    """
    if share == 0:
        return np.arange(count), np.arange(0)
    number = round(share * count)
    if number == 0:
        raise SettingError("held_out", share, f"at least one of the {count} images")
    order = np.random.default_rng([seed, count]).permutation(count)
    return np.sort(order[number:]), np.sort(order[:number])


def _of_folder(folder: Path, scale: float | None) -> Dataset:
    if scale is not None:
        raise SettingError("scale", scale, "None for idx files, whose bytes are divided by 255")
    train = _checked(str(folder), load_images(folder, "train"))
    has_test = any(folder.glob("t10k-images*")) or any(folder.glob("t10k-labels*"))
    test = _checked(str(folder), load_images(folder, "test")) if has_test else None
    return _matching(str(folder), Dataset(train, test, (), _is_square(train.images.shape[1])))


def _is_square(pixels: int) -> bool:
    return math.isqrt(pixels) ** 2 == pixels


def _of_npz(path: Path, scale: float | None) -> Dataset:
    try:
        with opened_npz(path) as file:
            arrays = {name: file[name] for name in file.files}
    except _DAMAGE as problem:
        raise DatasetError(f"{path}: not a readable .npz file ({problem})") from problem
    known = {"images", "labels", "test_images", "test_labels", "class_names"}
    if not {"images", "labels"} <= set(arrays) or not set(arrays) <= known:
        raise DatasetError(
            f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; must hold images and labels, "
            "and may hold test_images, test_labels and class_names"
        )
    if ("test_images" in arrays) != ("test_labels" in arrays):
        raise DatasetError(f"{path}: test_images and test_labels must come together")
    train = _of_arrays(str(path), arrays["images"], arrays["labels"], scale)
    test = None
    if "test_images" in arrays:
        test = _of_arrays(str(path), arrays["test_images"], arrays["test_labels"], scale)
    names = tuple(str(name) for name in np.atleast_1d(arrays.get("class_names", np.array([]))))
    shape = arrays["images"].shape
    square = len(shape) == 3 and shape[1] == shape[2]
    return _matching(str(path), Dataset(train, test, names, square))


def _of_csv(path: Path, scale: float | None) -> Dataset:
    try:
        text = read_plain_text(path, within_memory(_CSV_GROWS), encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise DatasetError(f"{path}: cannot be read as text ({problem})") from problem
    lines = text.splitlines()
    numbered = [(at, line) for at, line in enumerate(lines, 1) if line.strip()]
    if numbered and not _is_number(numbered[0][1].split(",")[0]):
        del numbered[0]
    if not numbered:
        raise DatasetError(f"{path}: holds no images; must hold one a line, its label first")
    columns = len(numbered[0][1].split(","))
    if columns < 2:
        raise DatasetError(f"{path}: one column; must be a label, then the values of the image")
    rows = np.array([_csv_row(path, at, line, columns) for at, line in numbered])
    train = _of_arrays(str(path), rows[:, 1:], rows[:, 0], scale)
    return _matching(str(path), Dataset(train, None, (), square_pictures=False))


def _csv_row(path: Path, at: int, line: str, columns: int) -> list[float]:
    cells = line.split(",")
    if len(cells) != columns:
        raise DatasetError(f"{path}: line {at} has {len(cells)} columns; must have {columns}")
    try:
        return [float(cell) for cell in cells]
    except ValueError as problem:
        raise DatasetError(f"{path}: line {at}: {problem}") from problem


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _of_arrays(
    source: str, images: NDArray[Any], labels: NDArray[Any], scale: float | None
) -> LabelledImages:
    """Return flat images in [0, 1] and labels in one byte; all else is refused."""
    if images.ndim < 2 or images.size == 0 or images.dtype.kind not in "buif":
        raise DatasetError(
            f"{source}: images are {images.dtype} of shape {images.shape}; must be numbers, (n, …)"
        )
    divisor = scale if scale is not None else (255.0 if images.dtype == np.uint8 else 1.0)
    flat = (images.reshape(len(images), -1) / divisor).astype(np.float32)
    return _checked(source, LabelledImages(flat, _labels(source, labels, len(images))))


def _labels(source: str, labels: NDArray[Any], count: int) -> NDArray[np.uint8]:
    if labels.shape != (count,):
        raise DatasetError(f"{source}: labels have shape {labels.shape}; must be ({count},)")
    if labels.dtype.kind not in "buif" or not np.isfinite(labels).all():
        raise DatasetError(f"{source}: labels must be whole numbers from 0 to {MOST_CLASSES - 1}")
    wrong = np.flatnonzero((labels < 0) | (labels >= MOST_CLASSES) | (labels != np.floor(labels)))
    if wrong.size:
        raise DatasetError(
            f"{source}: label {labels[wrong[0]]} of image {wrong[0]}; "
            f"must be a whole number from 0 to {MOST_CLASSES - 1}"
        )
    return labels.astype(np.uint8)


def _checked(source: str, data: LabelledImages) -> LabelledImages:
    """Return the data if its values are finite and in [0, 1]."""
    broken = np.flatnonzero(~np.isfinite(data.images).all(axis=1))
    if broken.size:
        raise DatasetError(
            f"{source}: image {broken[0]} holds NaN or infinity ({broken.size} images do)"
        )
    low, high = float(data.images.min()), float(data.images.max())
    if low < 0 or high > 1:
        raise DatasetError(
            f"{source}: values run from {low:g} to {high:g}; must be in [0, 1], "
            "or a scale must divide them into it"
        )
    return data


def _matching(source: str, data: Dataset) -> Dataset:
    """Return the data if its parts fit each other and there are classes to distinguish."""
    if data.train.labels.min() == data.train.labels.max():
        raise DatasetError(
            f"{source}: all labels are {data.train.labels.max()}; must be of two classes or more"
        )
    if data.test is not None and data.test.images.shape[1] != data.inputs:
        raise DatasetError(
            f"{source}: test images have {data.test.images.shape[1]} values, "
            f"those to learn from {data.inputs}; must be as many"
        )
    if data.class_names and len(data.class_names) < data.classes:
        raise DatasetError(
            f"{source}: {len(data.class_names)} class names for {data.classes} classes"
        )
    return data
