"""Archives that claim more than they hold, or unpack to far more than they are, are not read."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.data import archive_room
from labctl.data.archive_room import plain_npz
from labctl.data.mnist import load_images
from labctl.data.models import Network, load_network
from labctl.data.run_file import read_run
from labctl.data.run_writer import RunFileWriter
from labctl.errors import DatasetError, LabctlError, ModelError, RunFileError
from labctl.studies.training.checkpoint import load_checkpoint
from labctl.studies.training.dataset import load_dataset


def claiming(path: Path, shape: tuple[int, ...], values: bytes = b"") -> Path:
    """Write an .npz whose array claims a shape, and holds few values of it or none."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue() + values)
    return path


def packed(path: Path, megabytes: int) -> Path:
    """Write an .npz of zeros, which unpacks to 1000 times its size."""
    shape = (megabytes, 1 << 18)
    np.savez_compressed(path, images=np.zeros(shape, np.float32))
    return path


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a computer of which 1 MiB may always be used, in place of 256."""
    monkeypatch.setattr(archive_room, "_ALWAYS_BYTES", 1 << 20)


def test_plain_archives_are_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez_compressed(tmp_path / "a.npz", a=values, b=np.asfortranarray(values), c=np.array("x"))
    with (tmp_path / "a.npz").open("rb") as content, plain_npz(content) as file:
        assert all((file[name] == values).all() for name in "ab")
        assert str(file["c"]) == "x"


READERS: list[Callable[[Path], object]] = [
    lambda path: load_network(str(path)),
    load_dataset,
    lambda path: load_checkpoint(path, "{}", ""),
]


@pytest.mark.parametrize("load", READERS)
@pytest.mark.parametrize("bomb", ["claims", "unpacks"])
def test_bombs_take_no_memory_wherever_a_file_is_given(
    load: Callable[[Path], object], bomb: str, tmp_path: Path, little_memory: None
) -> None:
    path = tmp_path / "bomb.npz"
    if bomb == "claims":
        claiming(path, (1 << 40,))
    else:
        packed(path, 32)
    tracemalloc.start()
    try:
        with pytest.raises(LabctlError, match=r"by its header|when unpacked"):
            load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_a_computers_memory_is_a_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.npz"
    np.savez(path, a=np.ones((100, 100), np.float32))
    assert load_network(str(path)).layers[0].shape == (100, 100)
    monkeypatch.setattr(archive_room, "memory_bytes", lambda: 50_000)
    with pytest.raises(ModelError, match="at most 20000 are read"):
        load_network(str(path))


def test_objects_are_refused_before_they_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ModelError, match="holds objects"):
        load_network(str(tmp_path / "o.npz"))


def test_pictures_that_unpack_to_too_much_are_refused(tmp_path: Path, little_memory: None) -> None:
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        with gzip.open(tmp_path / name, "wb") as file:
            file.write(bytes(8 << 20))
    with pytest.raises(DatasetError, match="unpacks to more than"):
        load_images(tmp_path, "test")


@pytest.mark.parametrize("name", ["model/0", "committed/results"])
def test_what_a_run_file_claims_and_never_wrote_takes_no_memory(tmp_path: Path, name: str) -> None:
    network = Network((np.ones((2, 3), np.float32),), "n", {})
    with RunFileWriter.start(
        tmp_path, "t", settings={}, station_text=None, model=network, versions={}, seed=0
    ) as writer:
        path = writer.path
    with h5py.File(path, "r+") as file:
        old = file[name]
        kept, dtype = dict(old.attrs), old.dtype
        del file[name]
        new = file.create_dataset(name, (1 << 20, 1 << 20), dtype, chunks=(64, 64))
        new.attrs.update(kept)
    with pytest.raises(RunFileError, match="are in the file"):
        read_run(path)


def with_header(path: Path, header: str, version: int) -> Path:
    """Write an .npz whose array has this text for a header."""
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    array = b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + bytes(4)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("images.npy", "labels.npy", "about.npy"):
            archive.writestr(name, array)
    return path


HEADERS = {
    "open brackets": "(" * 5000,
    "open lists": "{'descr':" + "[" * 900,
    "open text": "'''",
    "a line that goes on": "\\\n",
    "a size of thousands of digits": "{'descr': '<f4', 'shape': (" + "9" * 5000 + ",)}",
    "a type of thousands of digits": f"{{'descr': '{'9' * 4000}', 'shape': (1,)}}",
    "a size beyond all memory": (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0,99999999999999999999999), }"
    ),
    "a size below 0": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "text beyond all memory": "{'descr': '<U999999999', 'fortran_order': False, 'shape': (1,), }",
}


@pytest.mark.parametrize("load", READERS)
@pytest.mark.parametrize("what", HEADERS)
@pytest.mark.parametrize("version", [1, 2])
def test_a_header_that_is_none_is_refused_in_one_line(
    load: Callable[[Path], object], what: str, version: int, tmp_path: Path
) -> None:
    with pytest.raises(LabctlError) as caught:
        load(with_header(tmp_path / "a.npz", HEADERS[what], version))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", READERS)
def test_any_byte_of_an_archive_may_be_wrong(
    load: Callable[[Path], object], tmp_path: Path
) -> None:
    """300 single bytes, drawn over the archive (seed 7): an error of labctl's, or no effect."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.zeros((2, 3), np.float32), labels=np.array([0, 1]))
    whole, draw = path.read_bytes(), np.random.default_rng(7)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        content[draw.integers(len(content))] ^= int(draw.integers(1, 256))
        path.write_bytes(content)
        try:
            load(path)
        except LabctlError:
            refused += 1
    assert refused > 100
