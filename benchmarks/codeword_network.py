"""Networks whose weights are words of a codebook, and what is found of them.

    python benchmarks/codeword_network.py write e8.safetensors --words e8
    python benchmarks/codeword_network.py look --mu 21
    python benchmarks/codeword_network.py hard --mu 21

`write` makes a network of the size of `noise-aware`. `e8`: each block of 8 weights of a row is
drawn from the 2,160 vectors of norm 4 of the lattice E8, turned at random; it classifies nothing.
`k-means`: each block of 4 weights of `noise-aware` becomes the nearest of 256 words found in it.
`large`: each block of 16 is one of 65,536 normal words.
`look` prints what the look at the weights says of the first two, as they are, behind scales of rows
and of inputs, beginning at an offset, and blurred; `hard` what it says of layers of 784 x 784 of
large codebooks, of a trellis code, of levels behind offsets and of low rank, and how long it takes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import combinations, product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labctl.data.models import Network, load_network, save_network
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.weight_search import look_at

Reals = npt.NDArray[np.float64]

SEED = 0
KMEANS_WORDS, KMEANS_LENGTH, KMEANS_ROUNDS = 256, 4, 20
SIDE, LARGE_WORDS, LARGE_LENGTH = 784, 65536, 16
BLURS = (0.02, 0.05, 0.1, 0.2)


def e8_words() -> Reals:
    """Return the vectors (2160, 8) of norm 4 of the lattice E8, turned at random, of unit RMS."""
    axes = [sign * 2.0 * row for row in np.eye(8) for sign in (1, -1)]
    fours = [
        np.bincount(places, signs, 8)
        for places in combinations(range(8), 4)
        for signs in product((1.0, -1.0), repeat=4)
    ]
    halves = [
        0.5 * np.array(signs) * np.where(np.arange(8) == place, 3.0, 1.0)
        for place in range(8)
        for signs in product((1.0, -1.0), repeat=8)
    ]
    words = np.stack([*axes, *fours, *(each for each in halves if each.sum() % 2 == 0)])
    turn = np.linalg.qr(np.random.default_rng(SEED).standard_normal((8, 8)))[0]
    turned: Reals = words @ turn / np.sqrt(0.5)
    return turned


def nearest(blocks: Reals, words: Reals) -> npt.NDArray[np.intp]:
    """Return the number of the word nearest each block."""
    squares = 0.5 * np.square(words).sum(axis=1)
    parts = np.array_split(blocks, max(len(blocks) // 4096, 1))
    return np.concatenate([np.argmax(part @ words.T - squares, axis=1) for part in parts])


def k_means(blocks: Reals, count: int) -> Reals:
    """Return words by Lloyd's rounds from blocks drawn at random."""
    random = np.random.default_rng(SEED)
    words = blocks[random.choice(len(blocks), count, replace=False)].copy()
    for _ in range(KMEANS_ROUNDS):
        number = nearest(blocks, words)
        counts = np.bincount(number, minlength=count)
        sums = np.stack([np.bincount(number, axis, count) for axis in blocks.T], axis=1)
        words = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], words)
    return words


def worded(weights: Floats, kind: str, offset: int = 0) -> Reals:
    """Return a layer (rows, columns) in RMS with blocks along rows, from `offset` on, made words.

    What lies before and behind whole blocks stays.
    """
    unit = unit_rms(weights).astype(np.float64)
    length = 8 if kind == "e8" else KMEANS_LENGTH
    count = (unit.shape[1] - offset) // length
    inside = slice(offset, offset + count * length)
    blocks = unit[:, inside].reshape(-1, length)
    if kind == "e8":
        words = e8_words()
        number = np.random.default_rng(SEED + 1).integers(0, len(words), len(blocks))
    else:
        words = k_means(blocks, KMEANS_WORDS)
        number = nearest(blocks, words)
    unit[:, inside] = words[number].reshape(len(unit), -1)
    return unit


def variants(network: Network, kind: str) -> Iterator[tuple[str, Network]]:
    """Yield the network in words, plain and hidden in the ways named."""
    random = np.random.default_rng(SEED)

    def scales(shape: tuple[int, int]) -> Reals:
        return np.exp(0.4 * random.standard_normal(shape))

    def of(layers: list[Reals]) -> Network:
        return Network(tuple(each.astype(np.float32) for each in layers), kind, {})

    plain = [worded(layer, kind) for layer in network.layers]
    yield "words", of(plain)
    yield "scaled by row", of([each * scales((len(each), 1)) for each in plain])
    yield "scaled by input", of([each * scales((1, each.shape[1])) for each in plain])
    yield (
        "scaled by both",
        of([each * scales((len(each), 1)) * scales((1, each.shape[1])) for each in plain]),
    )
    yield "offset 3", of([worded(each, kind, 3) for each in network.layers])
    for blur in BLURS:
        yield (
            f"blur {blur:g} RMS",
            of([each + blur * random.standard_normal(each.shape) for each in plain]),
        )
    yield (
        "blur 0.05 RMS, scaled by both",
        of(
            [
                (each + 0.05 * random.standard_normal(each.shape))
                * scales((len(each), 1))
                * scales((1, each.shape[1]))
                for each in plain
            ]
        ),
    )


def drawn(words: int, length: int, offset: int = 0) -> Reals:
    """Return a layer (784, 784) of normal words drawn at random, from `offset` on in each row."""
    random = np.random.default_rng(SEED)
    book = random.standard_normal((words, length))
    count = (SIDE - offset) // length
    weights = random.standard_normal((SIDE, SIDE))
    numbers = random.integers(0, words, (SIDE, count))
    weights[:, offset : offset + count * length] = book[numbers].reshape(SIDE, -1)
    return weights


def trellis(bits: int, named: int = 16) -> Reals:
    """Return weights each named by the last `named` bits of its row, `bits` new ones for each."""
    random = np.random.default_rng(SEED)
    table, state = random.standard_normal(1 << named), random.integers(0, 1 << named, SIDE)
    weights = np.empty((SIDE, SIDE))
    for column in range(SIDE):
        fresh = random.integers(0, 1 << bits, SIDE)
        state = (state << bits | fresh) & ((1 << named) - 1)
        weights[:, column] = table[state]
    return weights


def hard() -> dict[str, Callable[[], Reals]]:
    """Return layers whose weights take many values and are little to tell, by name."""

    def normal(rows: int, columns: int, seed: int) -> Reals:
        return np.random.default_rng(seed).standard_normal((rows, columns))

    offsets = normal(SIDE, 1, 1) + normal(1, SIDE, 2)
    scales = np.exp(0.4 * offsets)
    signs = np.sign(normal(SIDE, SIDE, 3))
    return {
        "normal": lambda: normal(SIDE, SIDE, 3),
        "65,536 words of 16": lambda: drawn(LARGE_WORDS, LARGE_LENGTH),
        "the same, scales of both": lambda: drawn(LARGE_WORDS, LARGE_LENGTH) * scales,
        "4,194,304 words of 16": lambda: drawn(1 << 22, LARGE_LENGTH),
        "4,096 words of 12, offset 5": lambda: drawn(4096, 12, 5),
        "trellis, 1 bit per weight": lambda: trellis(1),
        "trellis, 2 bit per weight": lambda: trellis(2),
        "signs, offsets of both": lambda: signs + offsets,
        "signs, offsets, blur 0.2": lambda: signs + offsets + 0.2 * normal(SIDE, SIDE, 4),
        "7 levels, offsets of both": lambda: (
            np.clip(np.round(2.0 * normal(SIDE, SIDE, 3)), -3.0, 3.0) + offsets
        ),
        "rank 70": lambda: normal(SIDE, 70, 1) @ normal(70, SIDE, 2),
        "rank 150": lambda: normal(SIDE, 150, 1) @ normal(150, SIDE, 2),
    }


def main() -> None:
    """Write a network, or print what is found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write")
    write.add_argument("path", type=Path)
    write.add_argument("--words", choices=("e8", "k-means", "large"), default="e8")
    look = commands.add_parser("look")
    look.add_argument("--mu", type=float, default=21.0)
    others = commands.add_parser("hard")
    others.add_argument("--mu", type=float, default=21.0)
    asked = parser.parse_args()
    network = load_network("noise-aware")
    if asked.command == "write":
        layers = tuple(
            worded(layer, asked.words).astype(np.float32)
            if asked.words != "large"
            else drawn(LARGE_WORDS, LARGE_LENGTH)[: len(layer)].astype(np.float32)
            for layer in network.layers
        )
        made = Network(layers, asked.words, {"words": asked.words})
        save_network(made, asked.path)
        return
    if asked.command == "hard":
        for name, make in hard().items():
            weights = make().astype(np.float32)
            start = time.process_time()
            found = look_at(Network((weights,), name, {}), asked.mu)
            taken = time.process_time() - start
            print(f"{name}: distinguished {found.told_apart}, {taken:.1f} s; {found.statement()}")
        return
    for kind in ("e8", "k-means"):
        for name, each in variants(network, kind):
            found = look_at(each, asked.mu)
            print(f"{kind}, {name}: distinguished {found.told_apart}; {found.statement()}")


if __name__ == "__main__":
    main()
