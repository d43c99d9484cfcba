"""A damaged, forged or endangered run file gives an error that names it, never a wrong value."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data import run_file
from labctl.data.models import Network, PublicModel
from labctl.data.run_file import Run, is_written_now, read_run, repair_run, verify_run
from labctl.data.run_layout import model_of
from labctl.data.run_writer import RunFileWriter
from labctl.data.runs_folder import remove_leftovers, require_runs_folder
from labctl.errors import RunFileError

NETWORK = Network(
    (np.full((4, 6), 0.5, np.float32), np.full((3, 4), -1, np.float32)), "small", {"recipe": "test"}
)


def created(path: Path) -> RunFileWriter:
    return RunFileWriter.create(
        path, settings={"mu": 1.5}, station_text="[x]", model=NETWORK, versions={"a": "1"}, seed=3
    )


def written(path: Path) -> Path:
    """Write a run with every kind of block."""
    with created(path) as run:
        for first in (0, 3, 6):
            labels = [1, 2, first]
            values = [np.full((3, 4), first, np.float32), np.full((3, 3), -first, np.float32)]
            run.append_results(first, labels, labels, values)
            run.append_raw("bench", "trace", np.full((2, 5), first + 0.5))
        run.set_verification({"accepted": True})
        run.set_leakage({"bits": 0.25})
    return path


def content(run: Run) -> list[object]:
    arrays: list[NDArray[Any]] = [run.images, run.labels, run.predictions, *(run.measured() or ())]
    arrays += [run.raw(*name.split("/")) for name in run.raw_names]
    words: list[object] = [
        run.status,
        run.reason,
        run.started_utc,
        run.finished_utc,
        run.settings,
        run.seed,
    ]
    words += [run.station_text, run.versions, run.verification, run.leakage, run.raw_names]
    return [*words, run.model.sha256, run.model.name, *(array.tolist() for array in arrays)]


def test_no_flipped_bit_is_read_as_right(tmp_path: Path) -> None:
    """Of 50 single bits, drawn over the bytes that are used (seed 1), none changes what is read.

    Each ends in an error or in the very same content; of 400 none did otherwise. Without checksums
    most would.
    """
    path = written(tmp_path / "run.h5")
    original, right = path.read_bytes(), content(read_run(path))
    used = np.flatnonzero(np.frombuffer(original, np.uint8))
    generator = np.random.default_rng(1)
    refused = 0
    for place, bit in zip(generator.choice(used, 50), generator.integers(0, 8, 50), strict=True):
        damaged = bytearray(original)
        damaged[place] ^= 1 << int(bit)
        path.write_bytes(damaged)
        try:
            assert content(read_run(path)) == right
        except RunFileError:
            refused += 1
            assert verify_run(path).damage
    assert refused > 25


def test_verification_names_each_damaged_block(tmp_path: Path) -> None:
    path = written(tmp_path / "run.h5")
    health = verify_run(path)
    assert (health.status, health.damage, health.checksums) == ("complete", (), True)
    with h5py.File(path, "r+") as file:
        file["results/measured/0"][4, 1] += 1
        file["raw/bench/trace"][0, 0] = 7
    assert verify_run(path).damage == (
        "results/measured/0: rows 3 to 5 are damaged, their checksum differs",
        "raw/bench/trace: rows 0 to 1 are damaged, their checksum differs",
    )
    run = read_run(path)
    with pytest.raises(RunFileError, match=r"results/measured/0: rows 3 to 5 are damaged"):
        run.measured()
    with pytest.raises(RunFileError, match=r"raw/bench/trace: rows 0 to 1 are damaged"):
        run.raw("bench", "trace")


def test_files_of_version_1_are_read_and_said_to_have_no_checksums(tmp_path: Path) -> None:
    path = written(tmp_path / "run.h5")
    right = content(read_run(path))
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 1
        rows: dict[str, int] = {}
        for name in ("results", "verification", "leakage", "ended", "raw/bench/trace"):
            rows[name] = int(file[f"blocks/{name}"][-1, 0])
        del file["blocks"], file["committed"]
        for name, count in rows.items():
            file.create_dataset(f"committed/{name}", data=np.int64(count))
    assert content(read_run(path)) == right
    assert not verify_run(path).checksums


def elsewhere(file: Any, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(80))
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_external(os.fsencode(folder / "secret"), 0, 80)
    space = h5py.h5s.create_simple((10,))
    h5py.h5d.create(file.id, b"outside", h5py.h5t.NATIVE_INT64, space, plan)


def virtual(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((10,), "i8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (10,))
    file.create_virtual_dataset("virtual", layout)


def deep(file: Any, folder: Path) -> None:
    file["circle"] = file["raw"]
    file["raw/circle"] = file["raw"]


FORGED: dict[str, Callable[[Any, Path], None]] = {
    "/linked is a link to elsewhere": lambda file, folder: file.__setitem__(
        "linked", h5py.ExternalLink("other.h5", "/x")
    ),
    "/soft is a link to elsewhere": lambda file, folder: file.__setitem__(
        "soft", h5py.SoftLink("/raw")
    ),
    "/outside keeps its values in other files": elsewhere,
    "/virtual keeps its values in other files": virtual,
    "/packed is compressed": lambda file, folder: file.create_dataset(
        "packed", data=np.zeros(1 << 20), compression="gzip"
    ),
    "/empty: 8000000000000 bytes of values, 0 are in the file": lambda file, folder: (
        file.create_dataset("empty", shape=(10**12,), dtype="f8")
    ),
    "/text: type object": lambda file, folder: file.create_dataset("text", data=["words"]),
    "more than 4 levels": deep,
    "attribute note has type": lambda file, folder: file.attrs.__setitem__("note", "any length"),
}


@pytest.mark.parametrize("problem", FORGED)
def test_a_forged_file_is_refused_before_its_values_are_read(tmp_path: Path, problem: str) -> None:
    path = written(tmp_path / "run.h5")
    with h5py.File(path, "r+", libver="latest") as file:
        FORGED[problem](file, tmp_path)
    with pytest.raises(RunFileError, match=re.escape(problem)):
        read_run(path)


def test_unwritten_rows_take_no_memory(tmp_path: Path) -> None:
    """A count that asks for terabytes of rows that were never written is refused by its size."""
    path = written(tmp_path / "run.h5")
    rows = 10**12
    with h5py.File(path, "r+") as file:
        for name in ("image", "label", "prediction"):
            file[f"results/{name}"].resize(rows, axis=0)
        file["blocks/results"][-1, 0] = rows
    with pytest.raises(RunFileError, match=r"8000000000000 bytes of values"):
        read_run(path)


def test_a_run_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "run.h5")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("then", ["append", "finish"])
def test_a_file_that_is_removed_under_its_writer_is_missed(tmp_path: Path, then: str) -> None:
    path = tmp_path / "runs" / "run.h5"
    path.parent.mkdir()
    writer = created(path)
    writer.append_results(0, [1], [1])
    shutil.rmtree(path.parent)
    with pytest.raises(RunFileError, match="was removed while it was written"):
        writer.append_results(1, [1], [1]) if then == "append" else writer.finish("complete")
    with suppress(RunFileError):
        writer.finish("failed")


def test_a_file_that_is_replaced_under_its_writer_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    writer = created(path)
    path.unlink()
    path.write_text("another")
    with pytest.raises(RunFileError, match="another file took its place"), writer:
        writer.append_results(0, [1], [1])
    assert path.read_text() == "another"


def test_what_killed_writers_left_is_removed_and_live_files_stay(tmp_path: Path) -> None:
    long_ago = time.time() - 3600
    for name in ("dead.h5.part", "empty.h5", "text.part", "whole.h5"):
        (tmp_path / name).write_bytes(b"x" if name in ("whole.h5", "dead.h5.part") else b"")
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / "just-created.h5").touch()
    with created(tmp_path / "live.h5"):
        removed = remove_leftovers(tmp_path)
    assert [path.name for path in removed] == ["dead.h5.part", "empty.h5"]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"just-created.h5", "live.h5", "text.part", "whole.h5"}


def test_a_run_that_is_written_is_not_repaired_under_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with created(path) as run:
        run.append_results(0, [1, 2], [1, 2])
        with pytest.raises(RunFileError, match="is being written"):
            repair_run(path)
        assert verify_run(path).written_now
        with h5py.File(path, "r", swmr=True) as file:
            assert list(file["results/label"]) == [1, 2]
    repair_run(path)
    assert not verify_run(path).written_now


def test_a_run_is_known_to_be_written_also_after_a_new_dataset(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with created(path) as run:
        for name in ("first", "second"):
            run.append_raw("bench", name, np.ones(3))
            assert is_written_now(path)
    assert not is_written_now(path)


def test_a_folder_that_cannot_be_written_is_found_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFileError, match="cannot be created"):
        require_runs_folder(tmp_path / "file")
    with pytest.raises(RunFileError, match="cannot be written to"):
        require_runs_folder(Path("/proc/self"))


FILLING = """
import sys
from pathlib import Path
import numpy as np
from labctl.data import run_file
from labctl.data.models import Network
from labctl.data.run_layout import model_of
from labctl.data.run_writer import RunFileWriter
folder, when = Path(sys.argv[1]), int(sys.argv[2])
network = Network((np.ones((4, 6), np.float32), np.ones((3, 4), np.float32)), "small", {})
try:
    with RunFileWriter.create(folder / "run.h5", settings={}, station_text=None,
                              model=network, versions={}, seed=1) as run:
        for block in range(100_000):
            if block == when:
                with open(folder / "filler", "wb", buffering=0) as filler:
                    try:
                        while True:
                            filler.write(bytes(4096))
                    except OSError:
                        print("full")
            run.append_raw("a", "b", np.full((1, 20_000), block))
            acknowledged = block + 1
except Exception as error:
    print(type(error).__name__, error)
from labctl.data.run_file import read_run
read = read_run(folder / "run.h5")
assert read.raw("a", "b")[:, 0].tolist() == list(range(acknowledged))
print(read.status)
"""


def filled(folder: Path, when: int, *space: str, first: str) -> subprocess.CompletedProcess[str]:
    """Run that program in a shell, after a command that makes room scarce in `$SMALL`."""
    small = folder / "small"
    small.mkdir(exist_ok=True)
    program = folder / "filling.py"
    program.write_text(FILLING)
    command = f'{first} && exec "{sys.executable}" "{program}" "$SMALL" {when}'
    return subprocess.run(
        [*space, "sh", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "SMALL": str(small)},
        check=False,
    )


def can_mount() -> bool:
    """Return whether this system lets a user mount a file system that only they see."""
    command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("when", [3, 10**6], ids=["by another program", "by the run"])
def test_a_disk_that_fills_in_mid_run_ends_it_with_its_blocks_safe(
    tmp_path: Path, when: int
) -> None:
    """On a real full file system; HDF5 alone ends the process there with a segmentation fault."""
    if not can_mount():
        pytest.skip("this system lets no user mount a file system of their own")
    mount = 'mount -t tmpfs -o size=12m none "$SMALL"'
    done = filled(tmp_path, when, "unshare", "-Urm", first=mount)
    assert (done.returncode, done.stderr) == (0, "")
    *_, problem, status = done.stdout.splitlines()
    assert status == "failed"
    assert re.fullmatch(r"RunFileError .*raw/a/b cannot be written .No space left.*", problem)


def test_a_limit_on_the_length_of_files_ends_the_run_with_its_blocks_safe(tmp_path: Path) -> None:
    done = filled(tmp_path, 10**6, first="ulimit -f 20000")
    assert (done.returncode, done.stderr) == (0, "")
    *_, problem, status = done.stdout.splitlines()
    assert status == "failed"
    assert "files may be" in problem
    assert "ulimit -f" in problem


@pytest.mark.parametrize("blocks", [0, 1, 2, 20, 40, 1000])
def test_a_limit_that_a_new_run_file_meets_is_one_error_and_leaves_nothing(
    tmp_path: Path, blocks: int
) -> None:
    """In blocks of 512 bytes: from none to less than the end of a run needs."""
    program = """
import resource, sys
from pathlib import Path
import numpy as np
from labctl.data.models import Network
from labctl.data.run_writer import RunFileWriter
from labctl.data.runs_folder import require_runs_folder
network = Network((np.ones((8, 784), np.float32), np.ones((10, 8), np.float32)), "small", {})
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for begin in (lambda: require_runs_folder(folder, 25_408), lambda: RunFileWriter.create(
        folder / "run.h5", settings={}, station_text=None, model=network, versions={}, seed=1)):
    try:
        begin()
    except Exception as error:
        print(type(error).__name__, error)
"""
    command = [sys.executable, "-c", program, str(tmp_path), str(512 * blocks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("RunFileError")
    assert "no room for a run file (files may be" in first
    assert second.startswith("RunFileError")
    assert "ulimit -f" in second
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_that_nobody_writes_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "run.h5")
    with h5py.File(path, "r+") as file:
        file["results/image"][0] += 1
    long_ago = path.stat().st_mtime - 60.0
    os.utime(path, (long_ago, long_ago))
    reads: list[Path] = []
    once = run_file._read_once

    def counted(path: Path, take: Callable[[Any], Any]) -> Any:
        reads.append(path)
        return once(path, take)

    monkeypatch.setattr(run_file, "_read_once", counted)
    with pytest.raises(RunFileError, match="results/image"):
        read_run(path)
    assert len(reads) == 1
    monkeypatch.setattr(run_file, "in_use", lambda path: True)
    with pytest.raises(RunFileError, match="results/image"):
        read_run(path)
    assert len(reads) == 1 + run_file._READ_ATTEMPTS


def test_verification_reads_the_network_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "run.h5")
    read: list[object] = []

    def counted(file: Any) -> Network | PublicModel:
        read.append(file)
        return model_of(file)

    monkeypatch.setattr(run_file, "model_of", counted)
    assert verify_run(path).status == "complete"
    assert len(read) == 1
