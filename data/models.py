"""Networks that can run on light: bias-free dense layers, read, checked and named by their hash."""

from __future__ import annotations

import difflib
import hashlib
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from labctl.data.archive_room import opened_npz, require_room
from labctl.errors import ModelError

_FOLDER = Path(__file__).parent / "models"
SHIPPED_NETWORKS = (
    "reference",
    "noise-aware",
    "few-rows",
    "many-rows",
    "deep",
    "stand-in",
    "pruned",
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
SUFFIXES = (".safetensors", ".npz")
_FLOAT_NAMES = {"F16", "F32", "F64"}
_DAMAGE = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, TypeError),
    *(SafetensorError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class PublicModel:
    """What a client knows of a network: its name, the SHA-256 of its weights, and its sizes.

    sizes: inputs, then the outputs of every layer. Raises ModelError.
    """

    name: str
    sha256: str
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if not _SHA256.fullmatch(self.sha256):
            raise ModelError(
                f"{self.name}: sha256 {self.sha256!r}; must be 64 hexadecimal digits, small letters"
            )
        if len(self.sizes) < 2 or not all(type(size) is int and size > 0 for size in self.sizes):
            raise ModelError(
                f"{self.name}: sizes {self.sizes}; must be inputs, then outputs of every layer"
            )


@dataclass(frozen=True, eq=False)
class Network:
    """Bias-free dense layers with ReLU between them; two networks are the same if `sha256` is.

    layers: float32, read-only, shape (outputs, inputs), first layer first. provenance: where the
    weights come from, as words. Raises ModelError if the layers do not chain or cannot be scaled.
    """

    layers: tuple[NDArray[np.float32], ...]
    name: str
    provenance: Mapping[str, str]

    def __post_init__(self) -> None:
        names = [f"layer {number}" for number in range(1, len(self.layers) + 1)]
        object.__setattr__(self, "layers", _checked(self.name, names, self.layers))
        object.__setattr__(self, "provenance", dict(self.provenance))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, then the outputs of every layer, such as (784, 784, 10)."""
        return (self.layers[0].shape[1], *(layer.shape[0] for layer in self.layers))

    @property
    def size_bytes(self) -> int:
        """What all weights take."""
        return sum(layer.nbytes for layer in self.layers)

    @cached_property
    def sha256(self) -> str:
        """Hex digest over each layer's shape (two uint64) and values (float32), little-endian."""
        digest = hashlib.sha256()
        for layer in self.layers:
            digest.update(np.array(layer.shape, dtype="<u8").tobytes())
            digest.update(layer.astype("<f4").tobytes())
        return digest.hexdigest()

    @property
    def public(self) -> PublicModel:
        """What a client knows of it."""
        return PublicModel(self.name, self.sha256, self.sizes)


def load_network(name_or_path: str | Path) -> Network:
    """Read a shipped network by name, or a .safetensors or .npz file of dense layers.

    Layers are taken in the natural order of their tensor names (`layer2` before `layer10`) and
    must be (outputs, inputs) with shapes that chain. float16 and float64 become float32.
    Raises ModelError.
    """
    if name_or_path in SHIPPED_NETWORKS:
        return _read(_FOLDER / f"{name_or_path}.safetensors", str(name_or_path))
    path = Path(name_or_path)
    if not path.exists():
        raise ModelError(f"{name_or_path}: no such file, and {_not_shipped(str(name_or_path))}")
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise ModelError(f"{path}: not a network; must be a file {' or '.join(SUFFIXES)}")
    return _read(path, path.stem)


def save_network(network: Network, path: Path, overwrite: bool = False) -> None:
    """Write a network with its provenance as safetensors; raises ModelError, also if it exists."""
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: a network is written as .safetensors")
    tensors = {f"layers.{k}.weight": layer for k, layer in enumerate(network.layers)}
    content = save(tensors, metadata=dict(network.provenance))
    part = path.with_name(f"{path.name}.part")
    begun = False
    try:
        if not overwrite:
            path.open("xb").close()
            begun = True
        part.write_bytes(content)
        part.replace(path)
    except FileExistsError:
        raise ModelError(f"{path}: exists already; choose another name") from None
    except OSError as problem:
        part.unlink(missing_ok=True)
        if begun:
            path.unlink(missing_ok=True)
        raise ModelError(f"{path}: cannot be written ({problem.strerror})") from problem


def _not_shipped(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), SHIPPED_NETWORKS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"not a shipped network ({', '.join(SHIPPED_NETWORKS)}){hint}"


def _read(path: Path, name: str) -> Network:
    read = _read_safetensors if path.suffix == ".safetensors" else _read_npz
    try:
        tensors, provenance = read(path)
    except ModelError:
        raise
    except _DAMAGE as problem:
        raise ModelError(f"{path}: not a readable {path.suffix} file ({problem})") from problem
    names = sorted(tensors, key=_natural)
    return Network(_checked(str(path), names, [tensors[key] for key in names]), name, provenance)


def _read_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    size = path.stat().st_size
    # It is no archive, but its header may be of values that were never written to the disk.
    require_room(size, size)
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - the reader is no mapping and cannot be iterated
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _FLOAT_NAMES:
                raise _wrong_type(path, name, dtype)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, dict(file.metadata() or {})


def _read_npz(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{path}: not an .npz file (no zip archive)")
    with opened_npz(path) as file:
        return {name: file[name] for name in file.files}, {}


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _checked(
    source: str, names: Sequence[str], tensors: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.float32], ...]:
    if not tensors:
        raise ModelError(f"{source}: holds no layers; must hold at least one (outputs, inputs)")
    pairs = list(zip(names, tensors, strict=True))
    for name, tensor in pairs:
        _check_form(source, name, tensor)
    _check_chain(source, pairs)
    return tuple(_float32(source, name, tensor) for name, tensor in pairs)


def _check_form(source: str, name: str, tensor: NDArray[Any]) -> None:
    if not np.issubdtype(tensor.dtype, np.floating):
        raise _wrong_type(source, name, tensor.dtype)
    if tensor.ndim == 1:
        raise ModelError(
            f"{source}: {name!r} has shape {tensor.shape}, a bias; "
            "only bias-free dense layers run on light, retrain without biases"
        )
    if tensor.ndim != 2 or tensor.size == 0:
        raise ModelError(
            f"{source}: {name!r} has shape {tensor.shape}; must be dense, (outputs, inputs)"
        )


def _check_chain(source: str, pairs: Sequence[tuple[str, NDArray[Any]]]) -> None:
    shapes = [tensor.shape for _, tensor in pairs]
    for depth in range(1, len(shapes)):
        before, here = shapes[depth - 1][0], shapes[depth]
        if here[1] != before:
            hint = "; it would fit transposed" if _chains([s[::-1] for s in shapes]) else ""
            raise ModelError(
                f"{source}: {pairs[depth][0]!r} has shape {here}; must be (outputs, {before}) "
                f"to follow {pairs[depth - 1][0]!r} {shapes[depth - 1]}{hint}"
            )


def _chains(shapes: Sequence[tuple[int, ...]]) -> bool:
    return all(a[0] == b[1] for a, b in pairwise(shapes))


def _float32(source: str, name: str, tensor: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", under="ignore"):
        layer = np.array(tensor, dtype=np.float32, order="C")
    if not np.isfinite(layer).all():
        raise ModelError(f"{source}: {name!r} holds NaN or infinity; must be finite float32")
    if not layer.any():
        raise ModelError(f"{source}: {name!r} is all zero; it cannot be scaled to unit RMS")
    layer.flags.writeable = False
    return layer


def _wrong_type(source: object, name: str, dtype: object) -> ModelError:
    return ModelError(f"{source}: {name!r} is {dtype}; must be float16, float32 or float64")
