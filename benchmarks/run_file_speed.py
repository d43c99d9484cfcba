"""How fast run files take values, each block flushed: against plain h5py, which flushes alone.

    python benchmarks/run_file_speed.py [--megabytes 64] [--rows 10000] [--repeats 5] [--folder DIR]

Both append the same blocks of 16-value float32 rows to a growing dataset and flush after each; a
run file also writes its checksums and its count of blocks. What was written is read back and
compared. Prints the best of the repeats, in MB/s by the wall and by processor time, and the
ratio of both; opening and closing the files counts. `--folder`: where they are.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from labctl.data.models import Network
from labctl.data.run_writer import RunFileWriter

_VALUES_PER_ROW = 16


def run_file(folder: Path, blocks: list[NDArray[np.float32]]) -> Callable[[], Path]:
    """Return what writes all blocks into a run file."""
    network = Network((np.ones((2, 3), np.float32),), "n", {})

    def write() -> Path:
        with RunFileWriter.start(
            folder, "speed", settings={}, station_text=None, model=network, versions={}, seed=0
        ) as writer:
            for block in blocks:
                writer.append_raw("bench", "values", block)
        return writer.path

    return write


def plain(folder: Path, blocks: list[NDArray[np.float32]]) -> Callable[[], Path]:
    """Return what writes all blocks by h5py alone, in chunks of the same size."""
    path = folder / "plain.h5"

    def write() -> Path:
        with h5py.File(path, "w", libver="latest") as file:
            rows = min(len(blocks[0]), (1 << 20) // (4 * _VALUES_PER_ROW))
            shape = (0, _VALUES_PER_ROW)
            values = file.create_dataset(
                "values", shape, "f4", maxshape=(None, _VALUES_PER_ROW), chunks=(rows, shape[1])
            )
            for block in blocks:
                values.resize(len(values) + len(block), axis=0)
                values[-len(block) :] = block
                file.flush()
        return path

    return write


def timed(
    write: Callable[[], Path], name: str, expected: NDArray[np.float32], repeats: int
) -> tuple[float, float]:
    """Return the shortest time to write by the wall and by the processor, in s."""
    walls, processors = [], []
    for _ in range(repeats):
        wall_s, processor_s = time.perf_counter(), time.process_time()
        path = write()
        walls.append(time.perf_counter() - wall_s)
        processors.append(time.process_time() - processor_s)
        with h5py.File(path, "r") as file:
            assert np.array_equal(file[name][:], expected)
        path.unlink()
    return min(walls), min(processors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    row_bytes = 4 * _VALUES_PER_ROW
    count = max(options.megabytes * 1_000_000 // (options.rows * row_bytes), 1)
    drawn = np.random.default_rng(1)
    shape = (options.rows, _VALUES_PER_ROW)
    blocks = [drawn.random(shape, dtype=np.float32) for _ in range(count)]
    megabytes = count * options.rows * row_bytes / 1e6
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        whole = np.concatenate(blocks)
        ours = timed(run_file(folder, blocks), "raw/bench/values", whole, options.repeats)
        theirs = timed(plain(folder, blocks), "values", whole, options.repeats)
    print(f"{megabytes:.0f} MB in {count} flushed blocks of {options.rows} rows")
    for what, one, other in zip(("wall", "processor"), ours, theirs, strict=True):
        print(
            f"{what} time: run file {megabytes / one:.0f} MB/s, plain h5py "
            f"{megabytes / other:.0f} MB/s, ratio {other / one:.2f}"
        )


if __name__ == "__main__":
    main()
