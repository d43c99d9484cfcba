"""What an HDF5 file from elsewhere must be like before its values are read.

A file can point outside itself (external links, external storage, virtual datasets), hold
compressed blocks or unwritten ones that take a million times the memory of their bytes, or types
that are references and text of any length. A run file has none of these; one that does is refused.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

from labctl.data.archive_room import require_room

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
    _check_values(dataset, where)
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{where} is compressed or filtered; must be plain")
    if dataset.chunks is None:
        _require_stored(dataset, dataset.nbytes)


def read_arrays(file: Any, size: int) -> dict[str, Any]:
    """Read a file of `size` bytes that holds arrays of numbers alone, plain or packed by deflate.

    Raises ValueError for any other, and where they would take more memory than the file's size
    warrants (`archive_room`).
    """
    import h5py

    if len(file) > _MAX_MEMBERS:
        raise ValueError(f"{len(file)} members; at most {_MAX_MEMBERS}")
    for name in file:
        plain = isinstance(file.get(name, getlink=True), h5py.HardLink)
        if not plain or not isinstance(file[name], h5py.Dataset):
            raise ValueError(f"{name} is no array in this file")
        _check_values(file[name], name)
    require_room(size, sum(file[name].nbytes for name in file))
    for name in file:
        _check_chunks(file[name], name, size)
    return {name: file[name][()] for name in file}


def _check_values(dataset: Any, where: str) -> None:
    if dataset.external is not None or dataset.is_virtual:
        raise ValueError(f"{where} keeps its values in other files; must keep them in this one")
    if dataset.dtype.kind not in "biufc" or dataset.dtype.subdtype is not None:
        raise ValueError(f"{where}: type {dataset.dtype}; must be numbers")


def _check_chunks(dataset: Any, name: str, size: int) -> None:
    """Raise ValueError unless every part of an array unpacks to what it must be, and no more.

    HDF5 unpacks a part as far as it goes, also beyond the size that the array says.
    """
    import h5py

    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    if not filters:
        if dataset.size:
            _require_stored(dataset, dataset.nbytes)
        return
    if filters != [h5py.h5z.FILTER_DEFLATE]:
        raise ValueError(f"{name} is filtered by {filters}; at most by deflate")
    whole = math.prod(dataset.chunks) * dataset.dtype.itemsize
    require_room(size, whole)
    for index in range(dataset.id.get_num_chunks()):
        where = dataset.id.get_chunk_info(index).chunk_offset
        mask, packed = dataset.id.read_direct_chunk(where)
        unpacking = zlib.decompressobj()
        found = len(packed) if mask else len(unpacking.decompress(packed, whole + 1))
        if found != whole:
            raise ValueError(f"{name}: a part of {found} bytes or more; must be {whole}")


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
