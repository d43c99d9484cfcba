"""A network is bias-free dense layers that chain; all else is refused with one clear line."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from labctl.data.models import Network, load_network, save_network
from labctl.errors import ModelError

Tensors = dict[str, NDArray[np.generic]]


def ones(*shape: int, kind: str = "f4") -> NDArray[np.generic]:
    return np.ones(shape, kind)


def write(path: Path, tensors: Tensors) -> Path:
    if path.suffix == ".npz":
        # Through a buffer: savez takes the arrays' names as its own keywords.
        with zipfile.ZipFile(path, "w") as archive:
            for name, tensor in tensors.items():
                buffer = io.BytesIO()
                np.save(buffer, tensor, allow_pickle=True)
                archive.writestr(f"{name}.npy", buffer.getvalue())
    else:
        save_file(tensors, path)
    return path


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.integers(0, 2**32 - 1))
def test_save_and_load_keep_every_bit(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    shapes = zip(sizes[1:], sizes[:-1], strict=True)
    layers = tuple(random.normal(size=shape).astype(np.float32) for shape in shapes)
    network = Network(layers, "any", {"recipe": "µ", "seed": str(seed)})
    path = tmp_path_factory.mktemp("network") / "any.safetensors"
    save_network(network, path)
    read = load_network(path)
    assert read.sizes == tuple(sizes)
    assert (read.name, read.provenance) == (network.name, network.provenance)
    assert read.sha256 == network.sha256
    assert all(np.array_equal(a, b) for a, b in zip(read.layers, layers, strict=True))


def test_the_hash_is_over_shapes_and_little_endian_values() -> None:
    network = Network((np.array([[1, 2]], ">f4"),), "one", {})
    expected = struct.pack("<QQ", 1, 2) + struct.pack("<ff", 1, 2)
    assert network.sha256 == hashlib.sha256(expected).hexdigest()
    reshaped = Network((np.array([[1], [2]], np.float32),), "two", {})
    assert reshaped.sha256 != network.sha256


def test_layers_cannot_be_changed_behind_the_hash() -> None:
    weights = np.ones((2, 3), np.float32)
    network = Network((weights,), "fixed", {})
    weights[:] = 5
    assert network.layers[0].max() == 1
    with pytest.raises(ValueError, match="read-only"):
        network.layers[0][0, 0] = 5


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_layers_are_taken_in_natural_order_as_float32(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    tensors = {f"layer{k}.weight": ones(k, k + 1, kind=kind) for k in range(11, 0, -1)}
    order = [tensors[f"layer{k}.weight"] for k in range(11, 0, -1)]
    renamed = {f"layer{k}.weight": tensor for k, tensor in enumerate(order)}
    network = load_network(write(tmp_path / f"deep{suffix}", renamed))
    assert network.sizes == tuple(range(12, 0, -1))
    assert all(layer.dtype == np.float32 for layer in network.layers)
    assert network.name == "deep"


REFUSED: dict[str, Tensors] = {
    "'fc.bias' has shape (2,), a bias": {"fc.bias": ones(2), "fc.weight": ones(2, 3)},
    "'conv' has shape (2, 3, 5, 5); must be dense": {"conv": ones(2, 3, 5, 5)},
    "'scale' has shape (); must be dense": {"scale": ones()},
    "'w' has shape (0, 3)": {"w": ones(0, 3)},
    "'b' has shape (4, 3); must be (outputs, 2) to follow 'a' (2, 5)": {
        "a": ones(2, 5),
        "b": ones(4, 3),
    },
    "'b' has shape (6, 4); must be (outputs, 5) to follow 'a' (5, 6); it would fit transposed": {
        "a": ones(5, 6),
        "b": ones(6, 4),
    },
    "'w' holds NaN or infinity": {"w": np.array([[1, np.nan]], np.float32)},
    "'big' holds NaN or infinity": {"big": np.array([[1e300]])},
    "'w' is all zero": {"v": ones(2, 2), "w": np.zeros((2, 2), np.float32)},
    "'tiny' is all zero": {"tiny": np.full((1, 1), 1e-300)},
    "'w' is": {"w": ones(2, 2, kind="i4")},
    "'flag' is": {"flag": ones(2, 2, kind="?")},
    "holds no layers": {},
}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("problem", REFUSED)
def test_what_cannot_run_on_light_is_refused(tmp_path: Path, problem: str, suffix: str) -> None:
    path = write(tmp_path / f"net{suffix}", REFUSED[problem])
    with pytest.raises(ModelError, match=re.escape(problem)) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_types_that_only_one_format_knows_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.npz", {"w": ones(2, 2, kind="c8")})
    with pytest.raises(ModelError, match="'w' is complex64; must be float16, float32 or float64"):
        load_network(path)
    header = b'{"w":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}}'
    path = tmp_path / "half.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\x80\x3f")
    with pytest.raises(ModelError, match="'w' is BF16"):
        load_network(path)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was executed",))


def test_pickles_are_never_executed(tmp_path: Path) -> None:
    trap = np.empty((1, 1), object)
    trap[0, 0] = Trap()
    inside = write(tmp_path / "inside.npz", {"w": trap})
    plain = tmp_path / "plain.npz"
    plain.write_bytes(pickle.dumps(Trap()))
    for path in (inside, plain):
        with pytest.raises(ModelError, match=re.escape(f"{path}: not a")):
            load_network(path)


@settings(deadline=None, max_examples=60)
@given(
    suffix=st.sampled_from([".npz", ".safetensors"]),
    cut=st.floats(0, 1),
    place=st.floats(0, 1, exclude_max=True),
    flip=st.integers(0, 255),
)
def test_a_damaged_file_gives_a_network_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, cut: float, place: float, flip: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"net{suffix}"
    write(path, {"a": ones(3, 4), "b": ones(2, 3)})
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= flip
    path.write_bytes(content[: round(cut * len(content))])
    try:
        network = load_network(path)
    except ModelError:
        return
    assert network.layers[0].size > 0


def test_a_name_that_is_not_shipped_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'noise-aware'"):
        load_network("noise_aware")
    names = "reference, noise-aware, few-rows, many-rows, deep, stand-in, pruned"
    with pytest.raises(ModelError, match=rf"not a shipped network \({names}\)$"):
        load_network("zebra")


def test_paths_that_hold_no_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_network(tmp_path / "absent.npz")
    (tmp_path / "net.pt").touch()
    with pytest.raises(ModelError, match=r"must be a file \.safetensors or \.npz"):
        load_network(tmp_path / "net.pt")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ModelError, match="not a network"):
        load_network(tmp_path / "folder.npz")
    for name in ("empty.npz", "empty.safetensors"):
        (tmp_path / name).touch()
        with pytest.raises(ModelError, match="not a"):
            load_network(tmp_path / name)


def test_saving_never_overwrites_unasked(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    first, second = (Network((np.full((1, 2), k, np.float32),), "n", {}) for k in (1, 2))
    save_network(first, path)
    with pytest.raises(ModelError, match="exists already"):
        save_network(second, path)
    assert load_network(path).sha256 == first.sha256
    save_network(second, path, overwrite=True)
    assert load_network(path).sha256 == second.sha256
    assert list(tmp_path.iterdir()) == [path]


def test_saving_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    network = Network((np.ones((1, 2), np.float32),), "n", {})
    with pytest.raises(ModelError, match="cannot be written"):
        save_network(network, tmp_path / "absent" / "net.safetensors")
    with pytest.raises(ModelError, match=r"written as \.safetensors"):
        save_network(network, tmp_path / "net.npz")
