"""Labelled images in idx files: the shipped MNIST test set, a user's folder, or a download."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labctl import checks
from labctl.data.archive_room import unpacked_limit
from labctl.errors import DatasetError, UsageError
from labctl.plain_file import open_plain, read_plain, within_memory

_SHIPPED = Path(__file__).parent / "mnist"
_STEMS = {"test": "t10k", "train": "train"}
_IMAGES, _LABELS = "images", "labels"
_RANKS = {_IMAGES: 3, _LABELS: 1}
# The type of an idx file's values, its third byte.
_IDX_UNSIGNED_BYTE = 0x08
# The bytes of a file, and its values as float32.
_COPIES = 5

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TRAINING_FILES_SHA256: Mapping[str, str] = MappingProxyType(
    {
        "train-images-idx3-ubyte.gz": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        "train-labels-idx1-ubyte.gz": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
    }
)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Pictures and what they show.

    images: (n, pixels) float32 in [0, 1], row by row; labels: (n,) uint8.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]


@cache
def load_test_images() -> LabelledImages:
    """Return the 10,000 MNIST test images that ship with the package: (10000, 784).

    They are read once and kept (31 MB), the same arrays for every caller: not to be written to.
    """
    found = load_images(_SHIPPED, "test")
    for array in (found.images, found.labels):
        array.flags.writeable = False
    return found


def load_images(folder: Path, part: Literal["test", "train"]) -> LabelledImages:
    """Read a folder's `t10k` (test) or `train` files in idx format, plain or .gz.

    Any count and picture size is valid; names are those of MNIST, `<part>-images-idx3-ubyte` or
    `<part>-images.idx3-ubyte`. Raises DatasetError when a file is missing or damaged.
    """
    checks.one_of("part", part, _STEMS)
    image_path = _find(folder, _STEMS[part], _IMAGES)
    label_path = _find(folder, _STEMS[part], _LABELS)
    pixels = _read_idx(image_path, _RANKS[_IMAGES])
    labels = _read_idx(label_path, _RANKS[_LABELS])
    if len(pixels) != len(labels):
        raise DatasetError(
            f"{label_path} holds {len(labels)} labels, {image_path.name} {len(pixels)} images; "
            "must be as many"
        )
    images = pixels.reshape(len(pixels), -1).astype(np.float32)
    images /= np.float32(255)
    return LabelledImages(images, labels)


def fetch_training_images(
    folder: Path | None = None, mirrors: Sequence[str] = MNIST_MIRRORS
) -> LabelledImages:
    """Return the 60,000 MNIST training images, downloaded once and checked by their sha256.

    folder: where to keep them; default is the user's cache folder. mirrors: base addresses, tried
    in turn. Raises UsageError when pooch is not installed, DatasetError when no mirror delivers.
    """
    return load_images(fetch_files("mnist", TRAINING_FILES_SHA256, mirrors, folder), "train")


def fetch_files(
    name: str, files: Mapping[str, str], mirrors: Sequence[str], folder: Path | None = None
) -> Path:
    """Download what is not there yet, each file checked by its sha256; return the folder.

    name: of the folder in the user's cache, unless `folder` is given. files: sha256 by file name.
    mirrors: base addresses, tried in turn. Raises UsageError when pooch is not installed,
    DatasetError when no mirror delivers.
    """
    pooch = _pooch()
    target = folder if folder is not None else Path(pooch.os_cache("labctl")) / name
    for file, sha256 in files.items():
        _download(pooch, target, file, sha256, mirrors)
    return target


def _pooch() -> Any:
    try:
        return import_module("pooch")
    except ImportError as problem:
        raise UsageError(
            "downloading images needs pooch, which is not installed: pip install 'labctl[train]', "
            "or give a folder with the files"
        ) from problem


def _download(pooch: Any, folder: Path, name: str, sha256: str, mirrors: Sequence[str]) -> None:
    problems = []
    for mirror in mirrors:
        try:
            pooch.retrieve(
                url=mirror.rstrip("/") + "/" + name,
                known_hash=f"sha256:{sha256}",
                fname=name,
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=30),
            )
        except (OSError, ValueError) as problem:
            problems.append(f"{mirror}: {problem}")
        else:
            return
    raise DatasetError(
        f"{name} (sha256 {sha256}) could not be fetched into {folder}; {'; '.join(problems)}. "
        "Without a network, put the file there by hand or give a folder with the images"
    )


def _find(folder: Path, stem: str, kind: str) -> Path:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; must hold MNIST files in idx format")
    base = f"idx{_RANKS[kind]}-ubyte"
    names = [f"{stem}-{kind}{mark}{base}{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(f"{folder}: no {kind} file; must hold one of {', '.join(names)}")


def _read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """Read unsigned bytes of a known rank: magic, big-endian sizes, values (idx format)."""
    content = _content(path)
    start = 4 + 4 * rank
    if len(content) < start:
        raise DatasetError(f"{path}: {len(content)} bytes, truncated in its header of {start}")
    magic, *shape = struct.unpack(f">{1 + rank}I", content[:start])
    expected = _IDX_UNSIGNED_BYTE << 8 | rank
    if magic != expected:
        raise DatasetError(f"{path}: magic number 0x{magic:08x}; must be 0x{expected:08x} (idx)")
    if 0 in shape:
        raise DatasetError(f"{path}: header gives sizes {tuple(shape)}; must be above 0")
    size = int(np.prod([int(length) for length in shape], dtype=object))
    if len(content) - start != size:
        raise DatasetError(
            f"{path}: {len(content) - start} bytes of data; its header asks for {size} "
            f"({' x '.join(map(str, shape))})"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            return read_plain(path, within_memory(_COPIES))
        limit = unpacked_limit(path.stat().st_size)
        with open_plain(path) as packed, gzip.open(packed) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise DatasetError(f"{path}: unpacks to more than {limit} bytes")
        return content
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise DatasetError(f"{path}: damaged gzip file ({problem})") from problem
    except OSError as problem:
        raise DatasetError(f"{path}: cannot be read ({problem.strerror})") from problem
