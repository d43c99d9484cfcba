"""How a run file is laid out: its header, network, and datasets that grow together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.data.models import Network
from labctl.errors import RunFileError

FORMAT = "labctl run"
FORMAT_VERSION = 1
_DOCUMENTS = ("verification", "leakage", "ended")
_CHUNK_BYTES = (1 << 14, 1 << 20)


def lay_out(file: Any, header: Mapping[str, str], model: Network) -> None:
    """Write what a new run file holds before its first block."""
    file.attrs["format_version"] = FORMAT_VERSION
    for name, text in header.items():
        _set_text(file, name, text)
    group = file.create_group("model")
    _set_text(group, "name", as_json("name", model.name))
    _set_text(group, "provenance", as_json("provenance", model.provenance))
    for depth, layer in enumerate(model.layers):
        group.create_dataset(str(depth), data=layer)
    results: dict[str, NDArray[Any]] = {
        "results/image": np.zeros(1, np.int64),
        "results/label": np.zeros(1, np.int32),
        "results/prediction": np.zeros(1, np.int32),
    }
    for depth, layer in enumerate(model.layers):
        results[f"results/measured/{depth}"] = np.zeros((64, len(layer)), np.float32)
    add_stream(file, "results", results)
    for name in _DOCUMENTS:
        add_stream(file, name, {name: np.zeros(1, np.uint8)})
    file.create_group("raw")


def _set_text(where: Any, name: str, text: str) -> None:
    """Store text at fixed length: HDF5 keeps other strings outside its checksums."""
    where.attrs[name] = np.bytes_(text.encode())


def text_of(where: Any, name: str) -> str:
    """Return text that was stored at fixed length."""
    return bytes(where.attrs[name]).decode()


def add_stream(file: Any, stream: str, block: Mapping[str, NDArray[Any]]) -> None:
    """Add datasets that grow together by blocks such as this one, and their count of rows."""
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
    file.create_dataset(f"committed/{stream}", data=np.int64(0))


def check_block(key: str, dataset: Any, values: NDArray[Any], rows: int) -> None:
    """Raise RunFileError unless a block fits its dataset, in shape and type."""
    valid = (rows, *dataset.shape[1:])
    if values.shape != valid or values.dtype != dataset.dtype:
        raise RunFileError(
            f"{key}: block has shape {values.shape} and type {values.dtype}; "
            f"must be {valid} and {dataset.dtype}"
        )


def committed_rows(file: Any, stream: str, key: str) -> int:
    """Return how many rows of a dataset the writer had acknowledged."""
    rows, held = int(file[f"committed/{stream}"][()]), len(file[key])
    if not 0 <= rows <= held:
        raise ValueError(f"{key} holds {held} rows, {rows} were acknowledged")
    return rows


def last_document(file: Any, name: str) -> dict[str, Any] | None:
    """Return the last of the documents that were recorded under a name, if any."""
    text = file[name][: committed_rows(file, name, name)].tobytes().decode()
    return dict(json.loads(text.splitlines()[-1])) if text else None


def network_of(file: Any) -> Network:
    """Return the network that a run file holds."""
    group = file["model"]
    layers = tuple(group[str(depth)][()] for depth in range(len(group)))
    name, provenance = (json.loads(text_of(group, key)) for key in ("name", "provenance"))
    return Network(layers, name, provenance)


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
