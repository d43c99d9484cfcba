"""How a run file is laid out: its header, network, and datasets that grow together, with checksums.

A *stream* is a set of datasets that grow by blocks of equally many rows. Beside it are
`blocks/<stream>`, one row per block (rows after it, then a CRC-32 of what the block added to
each dataset), and `committed/<stream>`, the number of blocks that were acknowledged, followed by
its bitwise complement. A reader takes no block beyond that number, and no value whose checksum
differs. HDF5 itself guards the tables of the file and the header's text by checksums (its version 3
format), not the values. Files of version 1 have neither checksums nor blocks: `committed/<stream>`
is their number of rows. Before version 3 a file was of both parties and had no document of the
session.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.data.hdf5_structure import first_rows, single_value
from labctl.data.models import Network, PublicModel
from labctl.errors import RunFileError
from labctl.party import Party

FORMAT = "labctl run"
# Counts changes of what a run file holds.
FORMAT_VERSION = 3
READABLE_VERSIONS = (1, 2, FORMAT_VERSION)
_DOCUMENTS = ("verification", "leakage", "ended", "session")
# Documents that files of earlier versions lack.
_SINCE = {"session": 3}
# Least and most bytes of a chunk: small streams take little room, long ones few chunks.
_CHUNK_BYTES = (1 << 14, 1 << 20)
# Blocks per chunk of their table: 16 KiB where a stream has a handful of datasets.
_BLOCKS_PER_CHUNK = 256


def lay_out(
    file: Any, header: Mapping[str, str], model: Network | PublicModel, party: Party | None
) -> None:
    """Write what a new run file holds before its first block."""
    file.attrs["format_version"] = FORMAT_VERSION
    for name, text in header.items():
        _set_text(file, name, text)
    _lay_out_model(file.create_group("model"), model)
    results: dict[str, NDArray[Any]] = {"results/image": np.zeros(1, np.int64)}
    if party is not Party.SERVER:
        results |= {name: np.zeros(1, np.int32) for name in ("results/label", "results/prediction")}
        for depth, outputs in enumerate(model.sizes[1:]):
            results[f"results/measured/{depth}"] = np.zeros((64, outputs), np.float32)
    add_stream(file, "results", results)
    for name in _DOCUMENTS:
        add_stream(file, name, {name: np.zeros(1, np.uint8)})
    file.create_group("raw")


def _lay_out_model(group: Any, model: Network | PublicModel) -> None:
    _set_text(group, "name", as_json("name", model.name))
    if isinstance(model, PublicModel):
        _set_text(group, "sha256", model.sha256)
        _set_text(group, "sizes", as_json("sizes", model.sizes))
        return
    _set_text(group, "provenance", as_json("provenance", model.provenance))
    for depth, layer in enumerate(model.layers):
        group.create_dataset(str(depth), data=layer).attrs["crc32"] = checksum(layer)


def _set_text(where: Any, name: str, text: str) -> None:
    """Store text at fixed length: HDF5 keeps other strings outside its checksums."""
    where.attrs[name] = np.bytes_(text.encode())


def text_of(where: Any, name: str) -> str:
    """Return text that was stored at fixed length."""
    return bytes(where.attrs[name]).decode()


def add_stream(file: Any, stream: str, block: Mapping[str, NDArray[Any]]) -> None:
    """Add datasets that grow together by blocks such as this one, and the table of their blocks."""
    for key, values in block.items():
        row_bytes = max(values[:1].nbytes, values.itemsize)
        low, high = (max(1, size // row_bytes) for size in _CHUNK_BYTES)
        row = values.shape[1:]
        file.create_dataset(
            key,
            shape=(0, *row),
            maxshape=(None, *row),
            chunks=(min(max(len(values), low), high), *row),
            dtype=values.dtype,
        )
    columns = 1 + len(block)
    table = file.create_dataset(
        f"blocks/{stream}",
        shape=(0, columns),
        maxshape=(None, columns),
        chunks=(_BLOCKS_PER_CHUNK, columns),
        dtype=np.int64,
    )
    _set_text(table, "datasets", as_json("datasets", list(block)))
    file.create_dataset(f"committed/{stream}", data=count_with_complement(0))


def count_with_complement(count: int) -> NDArray[np.int64]:
    """Return a count and its bitwise complement: a damaged bit of either shows."""
    return np.array([count, ~count], np.int64)


def checksum(values: NDArray[Any]) -> int:
    """Return the CRC-32 of an array's bytes; it finds each damage of up to 32 bits in a row."""
    return zlib.crc32(np.ascontiguousarray(values).data)


def check_block(key: str, dataset: Any, values: NDArray[Any], rows: int) -> None:
    """Raise RunFileError unless a block fits its dataset, in shape and type."""
    valid = (rows, *dataset.shape[1:])
    if values.shape != valid or values.dtype != dataset.dtype:
        raise RunFileError(
            f"{key}: block has shape {values.shape} and type {values.dtype}; "
            f"must be {valid} and {dataset.dtype}"
        )


@dataclass(frozen=True)
class BlockTable:
    """The acknowledged blocks of a stream: rows after each, and the checksums of each dataset.

    checksums has one tuple per dataset; it is None in a file of version 1, which has none.
    """

    stream: str
    ends: tuple[int, ...]
    checksums: Mapping[str, tuple[int, ...]] | None

    @property
    def rows(self) -> int:
        """Number of rows that were acknowledged."""
        return self.ends[-1] if self.ends else 0

    def values(self, file: Any, key: str) -> NDArray[Any]:
        """Read the acknowledged rows of a dataset; raises ValueError where they are damaged."""
        values: NDArray[Any] = first_rows(file[key], self.rows)
        for problem in self.damage(key, values):
            raise ValueError(problem)
        return values

    def damage(self, key: str, values: Any) -> Iterator[str]:
        """Yield what is wrong with each block of a dataset, in words; one block at a time is read.

        values: the acknowledged rows, or the dataset itself.
        """
        for number, (first, end) in enumerate(pairwise((0, *self.ends))):
            if self.checksums is None or checksum(values[first:end]) == self.checksums[key][number]:
                continue
            yield f"{key}: rows {first} to {end - 1} are damaged, their checksum differs"


def blocks_of(file: Any, stream: str) -> BlockTable:
    """Return the acknowledged blocks of a stream; raises ValueError where the table is damaged."""
    if file.attrs["format_version"] == 1:
        rows = int(single_value(file[f"committed/{stream}"]))
        if rows < 0:
            raise ValueError(f"committed/{stream}: {rows} rows; must be 0 or more")
        return BlockTable(stream, (rows,), None)
    count, complement = (int(value) for value in first_rows(file[f"committed/{stream}"], 2))
    table = file[f"blocks/{stream}"]
    if complement != ~count or not 0 <= count <= len(table):
        raise ValueError(f"committed/{stream}: damaged, or being written just now")
    rows = first_rows(table, count)
    ends = tuple(rows[:, 0].tolist())
    if any(later < earlier for earlier, later in pairwise((0, *ends))):
        raise ValueError(f"blocks/{stream}: damaged, numbers of rows go down")
    names = json.loads(text_of(table, "datasets"))
    checksums = {name: tuple(rows[:, k + 1].tolist()) for k, name in enumerate(names)}
    return BlockTable(stream, ends, checksums)


def streams_of(file: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each stream with the datasets that it holds rows of; version 2."""
    for stream in _stream_names(file):
        names = json.loads(text_of(file[f"blocks/{stream}"], "datasets"))
        rows = blocks_of(file, stream).rows
        yield stream, tuple(name for name in names if rows == 0 or len(file[name]))


def _stream_names(file: Any) -> list[str]:
    raw = [f"raw/{group}/{name}" for group, held in file["raw"].items() for name in held]
    return ["results", *(name for name in _DOCUMENTS if _has(file, name)), *raw]


def _has(file: Any, document: str) -> bool:
    """Return whether files of this version have a document's stream."""
    return bool(file.attrs["format_version"] >= _SINCE.get(document, 1))


def last_document(file: Any, name: str) -> dict[str, Any] | None:
    """Return the last of the documents that were recorded under a name, if any."""
    if not _has(file, name):
        return None
    text = blocks_of(file, name).values(file, name).tobytes().decode()
    return dict(json.loads(text.splitlines()[-1])) if text else None


def party_of(file: Any) -> Party | None:
    """Return whose file it is, None for both; raises ValueError for anybody else's."""
    return Party(text_of(file, "party")) if "party" in file.attrs else None


def peer_file_of(file: Any) -> str | None:
    """Return the name of the other party's file, if it is known."""
    return json.loads(text_of(file, "peer_file")) if "peer_file" in file.attrs else None


def model_of(file: Any) -> Network | PublicModel:
    """Return the network of a run file, without weights from a client's file.

    Raises ValueError where a layer is damaged.
    """
    group = file["model"]
    name = json.loads(text_of(group, "name"))
    if party_of(file) is Party.CLIENT:
        return PublicModel(name, text_of(group, "sha256"), json.loads(text_of(group, "sizes")))
    layers = []
    for depth in range(len(group)):
        held = group[str(depth)]
        layer = first_rows(held, len(held))
        if file.attrs["format_version"] > 1 and checksum(layer) != held.attrs["crc32"]:
            raise ValueError(f"model/{depth} is damaged, its checksum differs")
        layers.append(layer)
    return Network(tuple(layers), name, json.loads(text_of(group, "provenance")))


def whole_numbers(name: str, values: ArrayLike) -> NDArray[np.int32]:
    """Return whole numbers as 32 bits; raises RunFileError for all else."""
    found = np.asarray(values)
    limits = np.iinfo(np.int32)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise RunFileError(f"{name}: {found.dtype} {found.shape}; must be whole numbers, (rows,)")
    if found.size and (found.min() < limits.min or found.max() > limits.max):
        raise RunFileError(f"{name}: from {found.min()} to {found.max()}; must fit 32 bits")
    return found.astype(np.int32)


def as_json(name: str, value: object) -> str:
    """Return a value as JSON text; raises RunFileError where it has none."""
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError) as problem:
        raise RunFileError(f"{name}: cannot be written as JSON ({problem})") from problem


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r}")
