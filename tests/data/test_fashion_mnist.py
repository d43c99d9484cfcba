"""Fashion-MNIST is fetched part by part, and nothing but its own files is taken for it."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from labctl.data import fashion_mnist
from labctl.errors import DatasetError, SettingError

PIXELS = np.arange(2 * 28 * 28, dtype=np.uint32).reshape(2, 28, 28).astype(np.uint8)
STEMS = {"train": "train", "test": "t10k"}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the requests out of the test's output."""


def packed(values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve two pictures per part on loopback and make their checksums the expected ones."""
    folder = tmp_path / "served"
    folder.mkdir()
    sums: dict[str, dict[str, str]] = {}
    for label, (part, stem) in enumerate(STEMS.items()):
        contents = {
            f"{stem}-images-idx3-ubyte.gz": packed(PIXELS),
            f"{stem}-labels-idx1-ubyte.gz": packed(np.full(2, label, np.uint8)),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        sums[part] = {name: hashlib.sha256(c).hexdigest() for name, c in contents.items()}
    monkeypatch.setattr(fashion_mnist, "FILES_SHA256", sums)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_each_part_is_fetched_once_from_the_first_mirror_that_has_it(
    tmp_path: Path, mirror: str
) -> None:
    cache = tmp_path / "cache"
    mirrors = [f"{mirror}gone/", mirror]
    train = fashion_mnist.fetch_fashion_mnist("train", cache, mirrors)
    assert train.labels.tolist() == [0, 0]
    assert np.array_equal(np.rint(train.images * 255), PIXELS.reshape(2, 784))
    assert sorted(path.name for path in cache.iterdir()) == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]
    assert fashion_mnist.fetch_fashion_mnist("test", cache, mirrors).labels.tolist() == [1, 1]
    again = fashion_mnist.fetch_fashion_mnist("train", cache, ["http://127.0.0.1:1/"])
    assert np.array_equal(again.images, train.images)


def test_what_has_another_checksum_is_refused_and_not_kept(tmp_path: Path, mirror: str) -> None:
    forged = tmp_path / "served" / "t10k-images-idx3-ubyte.gz"
    forged.write_bytes(packed(PIXELS[::-1]))
    with pytest.raises(DatasetError, match=r"t10k-images-idx3-ubyte\.gz .*could not be fetched"):
        fashion_mnist.fetch_fashion_mnist("test", tmp_path / "cache", [mirror])
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_part_that_is_none_is_refused() -> None:
    with pytest.raises(SettingError, match="one of train, test"):
        fashion_mnist.fetch_fashion_mnist("validation")  # type: ignore[arg-type] # what is tested


def test_the_mirrors_serve_the_files_under_their_checksums() -> None:
    for part, stem in STEMS.items():
        sums = fashion_mnist.FILES_SHA256[part]
        assert list(sums) == [f"{stem}-images-idx3-ubyte.gz", f"{stem}-labels-idx1-ubyte.gz"]
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in sums.values())
    assert all(
        re.fullmatch(r"https?://[\w.-]+/[\w/-]*", mirror)
        for mirror in fashion_mnist.FASHION_MNIST_MIRRORS
    )
    assert len(fashion_mnist.CLASS_NAMES) == 10
