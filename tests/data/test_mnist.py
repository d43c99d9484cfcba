"""Images come from the shipped test set, a user's folder or a checked download."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from labctl.data import mnist
from labctl.errors import DatasetError, SettingError, UsageError

IMAGES = "t10k-images-idx3-ubyte"
LABELS = "t10k-labels-idx1-ubyte"
PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) * 10


def idx(values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


GOOD_IMAGES = idx(PIXELS)
GOOD_LABELS = idx(np.array([7, 1], np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / IMAGES).write_bytes(GOOD_IMAGES)
    (tmp_path / LABELS).write_bytes(GOOD_LABELS)
    return tmp_path


def test_the_shipped_test_set_is_mnist() -> None:
    data = mnist.load_test_images()
    assert (data.images.shape, data.labels.shape) == ((10_000, 784), (10_000,))
    assert (data.images.dtype.name, data.labels.dtype.name) == ("float32", "uint8")
    assert (data.images.min(), data.images.max()) == (0, 1)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.labels).tolist() == counts
    # sha256 of the original idx files, which the gzip packing does not change.
    pixels = np.rint(data.images * 255).astype(np.uint8).reshape(-1, 28, 28)
    assert hashlib.sha256(idx(pixels)).hexdigest() == (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    )
    assert hashlib.sha256(idx(data.labels)).hexdigest() == (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
def test_a_folder_may_hold_plain_or_packed_files_of_any_size(
    tmp_path: Path, mark: str, packed: bool
) -> None:
    for name, content in (
        (f"train-images{mark}idx3-ubyte", GOOD_IMAGES),
        (f"train-labels{mark}idx1-ubyte", GOOD_LABELS),
    ):
        path = tmp_path / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(content) if packed else content)
    data = mnist.load_images(tmp_path, "train")
    assert data.images.dtype == np.float32
    assert np.array_equal(np.rint(data.images * 255), PIXELS.reshape(2, 12))
    assert data.labels.tolist() == [7, 1]


DAMAGED = {
    "7 bytes, truncated in its header of 16": GOOD_IMAGES[:7],
    "0 bytes, truncated": b"",
    "magic number 0x00000801; must be 0x00000803": GOOD_LABELS + bytes(16),
    "23 bytes of data; its header asks for 24 (2 x 3 x 4)": GOOD_IMAGES[:-1],
    "25 bytes of data": GOOD_IMAGES + b"x",
    "sizes (0, 3, 4); must be above 0": idx(PIXELS[:0]),
    "asks for 79228162458924105385300197375": (
        GOOD_IMAGES[:4] + struct.pack(">3I", *(2**32 - 1,) * 3) + bytes(9)
    ),
}


@pytest.mark.parametrize("problem", DAMAGED)
def test_a_damaged_file_is_named_with_what_was_found(folder: Path, problem: str) -> None:
    (folder / IMAGES).write_bytes(DAMAGED[problem])
    with pytest.raises(DatasetError, match=re.escape(problem)) as caught:
        mnist.load_images(folder, "test")
    assert str(folder / IMAGES) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 5, 20, -8])
def test_a_damaged_gzip_file_is_named(folder: Path, keep: int) -> None:
    (folder / IMAGES).unlink()
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(gzip.compress(GOOD_IMAGES)[:keep])
    with pytest.raises(DatasetError, match=r"damaged gzip|truncated in its header"):
        mnist.load_images(folder, "test")
    path.write_bytes(GOOD_IMAGES)
    with pytest.raises(DatasetError, match="damaged gzip"):
        mnist.load_images(folder, "test")


def test_images_and_labels_must_be_as_many(folder: Path) -> None:
    (folder / LABELS).write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(DatasetError, match=f"holds 3 labels, {IMAGES} 2 images"):
        mnist.load_images(folder, "test")


def test_what_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match="no images file; must hold one of train-images-idx3"):
        mnist.load_images(folder, "train")
    (folder / LABELS).unlink()
    with pytest.raises(DatasetError, match=r"no labels file; .*t10k-labels\.idx1-ubyte\.gz"):
        mnist.load_images(folder, "test")
    with pytest.raises(DatasetError, match="no such folder"):
        mnist.load_images(folder / "absent", "test")
    with pytest.raises(SettingError, match="one of test, train"):
        mnist.load_images(folder, "validation")  # type: ignore[arg-type] # what is tested


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the requests out of the test's output."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a two-image training set on loopback and make its checksums the expected ones."""
    folder = tmp_path / "served"
    folder.mkdir()
    sums = {}
    for name, content in (
        ("train-images-idx3-ubyte.gz", GOOD_IMAGES),
        ("train-labels-idx1-ubyte.gz", GOOD_LABELS),
    ):
        (folder / name).write_bytes(gzip.compress(content))
        sums[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(mnist, "TRAINING_FILES_SHA256", sums)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_training_images_are_fetched_once_from_the_first_mirror_that_has_them(
    tmp_path: Path, mirror: str
) -> None:
    cache = tmp_path / "cache"
    fetched = mnist.fetch_training_images(cache, mirrors=[f"{mirror}gone/", mirror])
    assert fetched.labels.tolist() == [7, 1]
    again = mnist.fetch_training_images(cache, mirrors=["http://127.0.0.1:1/"])
    assert np.array_equal(again.images, fetched.images)


def test_a_download_with_another_checksum_is_refused(tmp_path: Path, mirror: str) -> None:
    (tmp_path / "served" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"forged"))
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte\.gz .*could not be fetched"):
        mnist.fetch_training_images(tmp_path / "cache", mirrors=[mirror])
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetching_without_pooch_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(UsageError, match=r"pip install 'labctl\[train\]'"):
        mnist.fetch_training_images(tmp_path)


def test_the_mirrors_serve_the_files_under_their_checksums() -> None:
    assert all(re.fullmatch(r"https://[\w.-]+/[\w/-]+/", mirror) for mirror in mnist.MNIST_MIRRORS)
    assert list(mnist.TRAINING_FILES_SHA256) == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", sha) for sha in mnist.TRAINING_FILES_SHA256.values())
