"""Arrays in an HDF5 file from elsewhere: plain or packed, in the file, and of its proportions."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from labctl.data import archive_room
from labctl.data.hdf5_structure import read_arrays

Fill = Callable[[Any], object]


def held(fill: Fill) -> bytes:
    """Return the bytes of a file that was filled so."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


def read(content: bytes) -> dict[str, Any]:
    with h5py.File(io.BytesIO(content), "r") as file:
        return read_arrays(file, len(content))


def test_arrays_of_any_form_are_read() -> None:
    rng = np.random.default_rng(1)
    arrays = {
        "noise": rng.normal(size=(300, 500)),
        "complex": np.exp(1j * np.arange(7.0)),
        "counts": np.arange(3, dtype=np.uint8),
        "flags": np.array([True, False]),
        "one": np.float64(3.5),
        "none": np.zeros(0),
    }

    def fill(file: Any) -> None:
        for name, values in arrays.items():
            packed = "gzip" if np.size(values) > 1 else None
            file.create_dataset(name, data=values, compression=packed)
        file["noise alike"] = arrays["noise"]

    found = read(held(fill))
    assert set(found) == {*arrays, "noise alike"}
    for name, values in arrays.items():
        assert np.array_equal(found[name], values), name


def claims(file: Any) -> None:
    file.create_dataset("a", (1 << 20, 1 << 20), "f4", chunks=(64, 64))


def claims_as_a_whole(file: Any) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    space = h5py.h5s.create_simple((1 << 21,))
    h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_FLOAT, space, plan)


def part_that_unpacks_to_more(file: Any) -> None:
    made = file.create_dataset("a", (16,), "u1", chunks=(16,), compression="gzip")
    made.id.write_direct_chunk((0,), zlib.compress(bytes(64 << 20)))


def large_part_of_a_small_array(file: Any) -> None:
    made = file.create_dataset(
        "a", (1,), "u1", maxshape=(None,), chunks=(64 << 20,), compression="gzip"
    )
    made[0] = 1


FORGED: dict[str, tuple[Fill, str]] = {
    "a link to another file": (
        lambda file: file.__setitem__("a", h5py.ExternalLink("other.h5", "/a")),
        "a is no array in this file",
    ),
    "a link to nowhere": (
        lambda file: file.__setitem__("a", h5py.SoftLink("/b")),
        "a is no array in this file",
    ),
    "a group": (lambda file: file.create_group("a"), "a is no array in this file"),
    "values of another file": (
        lambda file: file.create_dataset("a", (8,), "u1", external=[("/etc/passwd", 0, 8)]),
        "in other files",
    ),
    "text": (lambda file: file.create_dataset("a", data=["text"]), "must be numbers"),
    "another filter": (
        lambda file: file.create_dataset("a", data=np.arange(9), compression="lzf"),
        "at most by deflate",
    ),
    "parts never written": (claims, "that become"),
    "values never written": (claims_as_a_whole, "are in the file"),
    "a part that unpacks to more": (part_that_unpacks_to_more, "a part of 17 bytes or more"),
    "a large part of a small array": (large_part_of_a_small_array, "that become"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_is_forged_is_named_and_takes_no_memory(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_room, "_ALWAYS_BYTES", 32 << 20)
    fill, told = FORGED[what]
    content = held(fill)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=told):
            read(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_a_part_that_is_damaged_is_no_array(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("a", data=rng.normal(size=100), compression="gzip")
        place, size = (getattr(made.id.get_chunk_info(0), name) for name in ("byte_offset", "size"))
    content = bytearray(path.read_bytes())
    content[place + size // 2] ^= 0xFF
    with pytest.raises((ValueError, zlib.error, OSError)):
        read(bytes(content))
