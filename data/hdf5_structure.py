"""What an HDF5 file from elsewhere must be like before its values are read.

A file can point outside itself (external links, external storage, virtual datasets), hold
compressed blocks or unwritten ones that take a million times the memory of their bytes, or types
that are references and text of any length. A run file has none of these; one that does is refused.
"""

from __future__ import annotations

import math
from typing import Any

# A run file's deepest dataset is results/measured/0; more levels are another file, or a circle.
_MAX_DEPTH = 4
# Raw arrays are named by a program, not by data: tens at most.
_MAX_MEMBERS = 10_000


def check_structure(file: Any, size: int) -> None:
    """Raise ValueError unless what a file of `size` bytes holds is plain and inside it."""
    _check_group(file, "", size, _MAX_DEPTH)


def _check_group(group: Any, path: str, size: int, levels: int) -> None:
    import h5py

    if levels == 0:
        raise ValueError(f"{path}: more than {_MAX_DEPTH} levels of groups")
    if len(group) > _MAX_MEMBERS:
        raise ValueError(f"{path or '/'}: {len(group)} members; at most {_MAX_MEMBERS}")
    _check_attributes(group, path or "/", size)
    for name in group:
        where = f"{path}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{where} is a link to elsewhere; must be in this file")
        found = group[name]
        if isinstance(found, h5py.Group):
            _check_group(found, where, size, levels - 1)
        elif isinstance(found, h5py.Dataset):
            _check_dataset(found, where, size)
        else:
            raise ValueError(f"{where} is neither a group nor an array")


def _check_dataset(dataset: Any, where: str, size: int) -> None:
    _check_attributes(dataset, where, size)
    if dataset.external is not None or dataset.is_virtual:
        raise ValueError(f"{where} keeps its values in other files; must keep them in this one")
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{where} is compressed or filtered; must be plain")
    if dataset.dtype.kind not in "biufc" or dataset.dtype.subdtype is not None:
        raise ValueError(f"{where}: type {dataset.dtype}; must be numbers")
    if dataset.chunks is None:
        _require_stored(dataset, dataset.nbytes)


def first_rows(dataset: Any, rows: int) -> Any:
    """Read the first rows of a dataset, after a look whether the file holds as many bytes at all.

    Raises ValueError where it does not: what was never written takes memory but no room on the
    disk.
    """
    held = len(dataset)
    if rows > held:
        raise ValueError(f"{dataset.name} holds {held} rows, {rows} were acknowledged")
    _require_stored(dataset, rows * dataset.dtype.itemsize * math.prod(dataset.shape[1:]))
    return dataset[:rows]


def single_value(dataset: Any) -> Any:
    """Read a dataset of one value; raises ValueError for any other."""
    if dataset.shape != ():
        raise ValueError(f"{dataset.name} has shape {dataset.shape}; must be one value")
    return dataset[()]


def _require_stored(dataset: Any, size: int) -> None:
    stored = dataset.id.get_storage_size()
    if size > stored:
        raise ValueError(f"{dataset.name}: {size} bytes of values, {stored} are in the file")


def _check_attributes(where: Any, name: str, size: int) -> None:
    for attribute in where.attrs:
        identifier = where.attrs.get_id(attribute)
        if identifier.get_storage_size() > size:
            raise ValueError(f"{name}: attribute {attribute} is longer than the file")
        # Text of any length and references are kept outside HDF5's own checksums.
        if identifier.dtype.kind not in "biufS":
            raise ValueError(f"{name}: attribute {attribute} has type {identifier.dtype}")
