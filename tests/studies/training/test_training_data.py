"""A user's own images: read from idx, .npz and .csv, or refused with what is wrong with them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import DatasetError, SettingError
from labctl.studies.training.dataset import held_out_split, load_dataset

IMAGES = np.arange(24, dtype=np.uint8).reshape(6, 2, 2) * 10
LABELS = np.array([0, 1, 2, 0, 1, 2])


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "own.npz"
    np.savez(path, allow_pickle=True, **{"images": IMAGES, "labels": LABELS, **arrays})
    return path


def csv(folder: Path, text: str) -> Path:
    path = folder / "own.csv"
    path.write_text(text, encoding="utf-8")
    return path


def idx(folder: Path, stem: str, count: int) -> None:
    pixels = IMAGES[:count].tobytes()
    (folder / f"{stem}-images-idx3-ubyte").write_bytes(
        struct.pack(">4I", 0x0803, count, 2, 2) + pixels
    )
    (folder / f"{stem}-labels-idx1-ubyte").write_bytes(
        struct.pack(">2I", 0x0801, count) + LABELS[:count].astype(np.uint8).tobytes()
    )


def test_bytes_of_an_npz_file_become_values_up_to_one(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "eel"])
    found = load_dataset(npz(tmp_path, class_names=names))
    assert (found.inputs, found.classes, found.square_pictures) == (4, 3, True)
    assert found.class_names == ("cat", "dog", "eel")
    assert found.test is None
    np.testing.assert_allclose(found.train.images, IMAGES.reshape(6, 4) / 255, rtol=1e-6)
    np.testing.assert_array_equal(found.train.labels, LABELS)
    assert found.train.images.dtype == np.float32
    assert found.train.labels.dtype == np.uint8


def test_an_npz_file_may_hold_images_to_test_on(tmp_path: Path) -> None:
    flat = IMAGES.reshape(6, 4) / 255.0
    found = load_dataset(
        npz(tmp_path, images=flat, test_images=flat[:2], test_labels=np.array([3.0, 1.0]))
    )
    assert found.test is not None
    assert found.test.labels.tolist() == [3, 1]
    assert (found.classes, found.square_pictures) == (4, False)


def test_a_folder_may_lack_images_to_test_on(tmp_path: Path) -> None:
    idx(tmp_path, "train", 6)
    assert load_dataset(tmp_path).test is None
    idx(tmp_path, "t10k", 3)
    found = load_dataset(tmp_path)
    assert found.test is not None
    assert len(found.test.labels) == 3
    assert found.square_pictures
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DatasetError, match="no labels file"):
        load_dataset(tmp_path)


def test_a_csv_file_has_a_label_and_values_in_each_line(tmp_path: Path) -> None:
    found = load_dataset(csv(tmp_path, "label,a,b,c\n0,1,2,3\n\n2,4,0,1e0\n"), scale=4)
    assert found.train.labels.tolist() == [0, 2]
    np.testing.assert_allclose(found.train.images, [[0.25, 0.5, 0.75], [1, 0, 0.25]])
    assert (found.inputs, found.classes, found.square_pictures) == (3, 3, False)
    assert load_dataset(csv(tmp_path, "\ufeff0,1\n1,0\n")).train.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no images"),
        ("label,a\n", "holds no images"),
        ("0\n1\n", "one column"),
        ("0,1\n1,0,1\n", "line 2 has 3 columns; must have 2"),
        ("0,1\n1,x\n", "line 2: could not convert"),
        ("0,1\n1,2\n", r"values run from 1 to 2; must be in \[0, 1\], or a scale"),
        ("0,1\n1,nan\n", "image 1 holds NaN or infinity"),
        ("0,1\n1,inf\n", "image 1 holds NaN or infinity"),
        ("0,1\n1,-0.5\n", "values run from -0.5 to 1"),
        ("0,1\n-1,1\n", "label -1.0 of image 1"),
        ("0,1\n0.5,1\n", "label 0.5 of image 1"),
        ("0,1\n256,1\n", "label 256.0 of image 1; must be a whole number from 0 to 255"),
        ("0,1\nnan,1\n", "labels must be whole numbers"),
        ("3,1\n3,0\n", "all labels are 3; must be of two classes or more"),
    ],
)
def test_a_csv_file_that_cannot_be_learned_from_is_refused(
    text: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=told):
        load_dataset(csv(tmp_path, text))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"labels": LABELS[:5]}, r"labels have shape \(5,\); must be \(6,\)"),
        ({"labels": LABELS.reshape(2, 3)}, r"labels have shape \(2, 3\)"),
        ({"labels": np.array(["a"] * 6)}, "labels must be whole numbers"),
        ({"labels": LABELS + 0.5}, "label 0.5 of image 0"),
        ({"labels": LABELS * 200}, "label 400 of image 2"),
        ({"images": IMAGES.astype(float)}, "values run from 0 to 230"),
        ({"images": np.full((6, 4), np.nan)}, r"image 0 holds NaN or infinity \(6 images do\)"),
        ({"images": np.zeros(6)}, r"shape \(6,\); must be numbers"),
        ({"images": np.zeros((0, 4))}, r"shape \(0, 4\)"),
        ({"images": np.array([["a"] * 4] * 6)}, "must be numbers"),
        ({"images": np.array([[None] * 4] * 6)}, "not a readable .npz file"),
        ({"pictures": IMAGES}, "holds images, labels, pictures; must hold images and labels"),
        ({"test_images": IMAGES}, "must come together"),
        (
            {"test_images": IMAGES[:, :1], "test_labels": LABELS},
            "test images have 2 values, those to learn from 4",
        ),
        ({"class_names": np.array(["cat", "dog"])}, "2 class names for 3 classes"),
    ],
)
def test_an_npz_file_that_cannot_be_learned_from_is_refused(
    arrays: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=told):
        load_dataset(npz(tmp_path, **arrays))


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder; must be a folder of idx files"):
        load_dataset(tmp_path / "absent.npz")
    (tmp_path / "own.txt").write_text("0,1\n")
    with pytest.raises(DatasetError, match=r"own.txt: not a data set; must be"):
        load_dataset(tmp_path / "own.txt")
    (tmp_path / "own.npz").write_bytes(b"no archive")
    with pytest.raises(DatasetError, match=r"not a readable \.npz file"):
        load_dataset(tmp_path / "own.npz")
    (tmp_path / "own.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="cannot be read as text"):
        load_dataset(tmp_path / "own.csv")
    with pytest.raises(DatasetError, match="no images file"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_cannot_divide_is_refused(scale: float, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="scale = "):
        load_dataset(npz(tmp_path), scale)


def test_idx_files_have_their_own_scale(tmp_path: Path) -> None:
    idx(tmp_path, "train", 6)
    with pytest.raises(SettingError, match=r"scale = 2\.0: must be None for idx files"):
        load_dataset(tmp_path, 2.0)


@settings(deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(0.0, 0.5), st.integers(2, 400))
def test_a_split_takes_every_image_once(seed: int, share: float, count: int) -> None:
    if share > 0 and round(share * count) == 0:
        with pytest.raises(SettingError, match=r"held_out = .* at least one of"):
            held_out_split(seed, share, count)
        return
    learned, held_out = held_out_split(seed, share, count)
    assert sorted([*learned, *held_out]) == list(range(count))
    assert len(held_out) == round(share * count)
    again = held_out_split(seed, share, count)
    np.testing.assert_array_equal(again[1], held_out)
