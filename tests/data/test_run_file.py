"""A run file keeps what was acknowledged, says how the run ended, and never replaces another."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.data.models import Network
from labctl.data.run_file import read_run, repair_run
from labctl.data.run_writer import RunFileWriter
from labctl.data.runs_folder import new_run_path, new_run_paths
from labctl.data.session_record import SessionRecord, new_session_id
from labctl.errors import RunFileError, SettingError
from labctl.party import Party

ROWS = 50
NETWORK = Network(
    (np.full((4, 6), 0.5, np.float32), np.full((3, 4), -1, np.float32)), "small", {"recipe": "test"}
)
# The child numbers its blocks, fills each with its number, and prints it once acknowledged.
WRITER = f"""
import os, sys
from pathlib import Path
import numpy as np
from labctl.data.models import Network
from labctl.data.run_writer import RunFileWriter
from labctl.safety import interruptible
network = Network((np.ones((4, 6), np.float32), np.ones((3, 4), np.float32)), "small", {{}})
with interruptible() as check, RunFileWriter.create(
    Path(sys.argv[1]), settings={{"blocks": "endless"}}, station_text=None,
    model=network, versions={{}}, seed=1) as run:
    block = 0
    while True:
        labels = np.full({ROWS}, block)
        measured = [np.full(({ROWS}, outputs), block, np.float32) for outputs in (4, 3)]
        check()
        run.append_results(block * {ROWS}, labels, labels, measured)
        run.append_raw("bench", f"trace{{block % 40 // 20}}", np.full((7, 300), block))
        run.set_leakage({{"block": block}})
        os.write(1, b"%d\\n" % block)
        block += 1
"""


def create(path: Path, **changes: Any) -> RunFileWriter:
    given: dict[str, Any] = {"settings": {}, "station_text": None, "versions": {}, "seed": 1}
    return RunFileWriter.create(path, model=NETWORK, **{**given, **changes})


def start(folder: Path) -> RunFileWriter:
    return RunFileWriter.start(
        folder, "run", settings={}, station_text=None, model=NETWORK, versions={}, seed=1
    )


def stopped_after(blocks: int, path: Path, signal_number: int) -> int:
    """Let the child write, stop it in the middle and return how many blocks it acknowledged."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline() for _ in range(blocks)]
        child.send_signal(signal_number)
        seen += child.stdout.readlines()
    return len(seen)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    station = "[laser]\naddress = 'µ'\n" + "# long\n" * 20_000
    changes = {"settings": {"mu": np.float64(6.0), "gains": np.array([1.3])}, "seed": 2**70}
    measured = [np.arange(8, dtype=np.float32).reshape(2, 4), np.ones((2, 3), np.float32)]
    with create(path, station_text=station, versions={"labctl": "0.1"}, **changes) as run:
        run.append_results(5, [7, 1], np.array([7, 2], np.uint8), measured)
        run.append_raw("bench", "trace", np.array([1 + 2j, 3]))
        run.append_raw("bench", "trace", np.array([4j]))
        run.append_raw("server", "seen", True)
        run.set_verification({"accepted": False})
        run.set_verification({"accepted": True, "epsilon": np.float32(0.5)})
        run.set_leakage({"weights_bits": 0.04})
        record = SessionRecord(id=new_session_id(), client="alice", client_identity="name alone")
        run.set_session(record)
        run.finish("aborted", "excess noise")
    read = read_run(path)
    assert (read.status, read.reason, read.complete) == ("aborted", "excess noise", False)
    assert read.finished_utc is not None
    assert read.started_utc <= read.finished_utc
    assert read.settings == {"mu": 6.0, "gains": [1.3]}
    assert (read.station_text, read.versions, read.seed) == (station, {"labctl": "0.1"}, 2**70)
    assert read.session == record
    assert isinstance(read.model, Network)
    assert read.model.sha256 == NETWORK.sha256
    assert (read.model.name, read.model.provenance) == ("small", {"recipe": "test"})
    assert [list(rows) for rows in (read.images, read.labels, read.predictions)] == [
        [5, 6],
        [7, 1],
        [7, 2],
    ]
    layers = read.measured()
    assert layers is not None
    assert all(np.array_equal(a, b) for a, b in zip(layers, measured, strict=True))
    assert read.raw_names == ("bench/trace", "server/seen")
    assert np.array_equal(read.raw("bench", "trace"), [1 + 2j, 3, 4j])
    assert np.array_equal(read.raw("server", "seen"), [True])
    assert read.verification == {"accepted": True, "epsilon": 0.5}
    assert read.leakage == {"weights_bits": 0.04}


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 70), max_size=6))
def test_blocks_of_any_size_join_in_order(sizes: list[int]) -> None:
    path = new_run_path(Path(os.environ["PYTEST_RUNS"]), "blocks")
    expected = np.arange(sum(sizes))
    with create(path) as run:
        first = 0
        for size in sizes:
            part = expected[first : first + size]
            run.append_results(first, part, part)
            run.append_raw("all", "numbers", part)
            first += size
    read = read_run(path)
    assert read.complete
    assert np.array_equal(read.images, expected)
    assert np.array_equal(read.predictions, expected)
    assert read.measured() is None
    if sizes:
        assert np.array_equal(read.raw("all", "numbers"), expected)


@pytest.fixture(autouse=True)
def _runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_RUNS", str(tmp_path))


@pytest.mark.parametrize("blocks", [1, 25, 60])
def test_a_killed_run_holds_every_acknowledged_block(tmp_path: Path, blocks: int) -> None:
    path = tmp_path / "run.h5"
    acknowledged = stopped_after(blocks, path, signal.SIGKILL)
    run = read_run(path)
    assert (run.status, run.complete, run.finished_utc) == ("interrupted", False, None)
    found = len(run.images) // ROWS
    assert acknowledged <= found <= acknowledged + 1
    assert np.array_equal(run.images, np.arange(found * ROWS))
    assert np.array_equal(run.labels, np.repeat(np.arange(found), ROWS))
    for layer in run.measured() or ():
        assert np.array_equal(layer[:, 0], run.labels)
    traces = np.concatenate([run.raw(*name.split("/")) for name in run.raw_names])
    assert acknowledged <= len(traces) // 7 <= found
    assert set(range(acknowledged)) <= set(traces[::7, 0].tolist())
    assert run.leakage is not None
    assert run.leakage["block"] in (acknowledged - 1, acknowledged)


def test_a_killed_run_can_be_repaired_for_other_tools(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    stopped_after(3, path, signal.SIGKILL)
    before = read_run(path)
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(path, "r")
    repair_run(path)
    with h5py.File(path, "r") as file:
        assert json.loads(file.attrs["settings"]) == {"blocks": "endless"}
    after = read_run(path)
    assert np.array_equal(after.images, before.images)
    assert after.leakage == before.leakage
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


def test_ctrl_c_is_recorded_and_leaves_a_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    acknowledged = stopped_after(5, path, signal.SIGINT)
    run = read_run(path)
    assert (run.status, run.reason) == ("interrupted", "Ctrl-C")
    assert acknowledged <= len(run.images) // ROWS <= acknowledged + 1
    with h5py.File(path, "r") as file:
        assert file.attrs["format"] == b"labctl run"


def test_a_run_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with create(path) as run:
        run.append_results(0, [1, 2], [1, 2])
        assert len(read_run(path).images) == 2
        run.append_raw("late", "comer", np.zeros(3))
        run.append_results(2, [3], [3])
        assert list(read_run(path).labels) == [1, 2, 3]
        assert read_run(path).status == "interrupted"


def test_an_error_in_the_run_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"

    def fail() -> None:
        with create(path) as run:
            run.append_results(0, [1], [1])
            raise ZeroDivisionError("by accident")

    with pytest.raises(ZeroDivisionError):
        fail()
    read = read_run(path)
    assert (read.status, read.reason) == ("failed", "ZeroDivisionError: by accident")
    assert list(read.labels) == [1]


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_text("precious")
    with pytest.raises(RunFileError, match="exists already"):
        create(path)
    assert path.read_text() == "precious"


def test_nothing_is_left_of_a_run_that_could_not_start(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="settings: cannot be written as JSON"):
        create(tmp_path / "run.h5", settings={"clock": object()})
    with pytest.raises(RunFileError, match="cannot be created"):
        create(tmp_path / "absent" / "run.h5")
    assert list(tmp_path.iterdir()) == []


ONE = np.ones(1)
REFUSED = {
    "labels: float64": lambda run: run.append_results(0, [0.5], [1]),
    "predictions: int64 (1, 1)": lambda run: run.append_results(0, [1], [[1]]),
    "predictions: from 4294967296": lambda run: run.append_results(0, [1], [2**32]),
    "results/prediction: block has shape (2,)": lambda run: run.append_results(0, [1], [1, 2]),
    "measured: 1 layers; must be 2": lambda run: run.append_results(0, [1], [1], [ONE]),
    "in every block or in none": lambda run: run.append_results(
        0, [1], [1], [np.ones((1, 4)), np.ones((1, 3))]
    ),
    "names must be letters": lambda run: run.append_raw("..", "x", ONE),
    "raw/a/b/c: names": lambda run: run.append_raw("a", "b/c", ONE),
    "must be numbers or booleans": lambda run: run.append_raw("a", "text", ["words"]),
    "only the first length may be 0": lambda run: run.append_raw("a", "none", np.ones((2, 0))),
    "must be (1,) and int64": lambda run: run.append_raw("a", "whole", ONE),
    "must be (2, 3)": lambda run: run.append_raw("a", "table", np.ones((2, 4))),
    "leakage: cannot be written as JSON": lambda run: run.set_leakage({"bits": {1, 2}}),
    "status 'fine'": lambda run: run.finish("fine"),
}


@pytest.mark.parametrize("problem", REFUSED)
def test_a_wrong_block_is_refused_and_changes_nothing(tmp_path: Path, problem: str) -> None:
    path = tmp_path / "run.h5"
    with create(path) as run:
        run.append_results(0, [1], [2])
        run.append_raw("a", "whole", [3])
        run.append_raw("a", "table", np.zeros((1, 3)))
        with pytest.raises(RunFileError, match=re.escape(problem)):
            REFUSED[problem](run)
        run.append_results(1, [4], [5])
    read = read_run(path)
    assert read.complete
    assert (list(read.labels), list(read.predictions)) == ([1, 4], [2, 5])
    assert list(read.raw("a", "whole")) == [3]
    assert read.raw_names == ("a/table", "a/whole")


def test_measured_values_must_fit_the_layers(tmp_path: Path) -> None:
    with create(tmp_path / "run.h5") as run:
        for shapes in ([(2, 4), (2, 4)], [(1, 4), (1, 3)], [(2, 4), (2,)]):
            with pytest.raises(RunFileError, match=r"results/measured/.: block has"):
                run.append_results(0, [1, 2], [1, 2], [np.ones(shape) for shape in shapes])
        run.append_results(0, [1, 2], [1, 2], [np.ones((2, 4)), np.ones((2, 3))])
        with pytest.raises(RunFileError, match="in every block or in none"):
            run.append_results(2, [1], [1])
    assert len(read_run(tmp_path / "run.h5").labels) == 2


def test_nothing_can_be_appended_to_a_finished_run(tmp_path: Path) -> None:
    run = create(tmp_path / "run.h5")
    run.finish("complete")
    late: list[Callable[[], None]] = [
        lambda: run.append_results(0, [1], [1]),
        lambda: run.append_raw("a", "b", [1]),
        lambda: run.set_leakage({}),
        lambda: run.finish("complete"),
    ]
    for call in late:
        with pytest.raises(RunFileError, match="the run is finished"):
            call()


def test_raw_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    create(path).finish("complete")
    with pytest.raises(RunFileError, match="no raw data bench/trace; it holds: none"):
        read_run(path).raw("bench", "trace")


def test_files_that_are_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="no such run file"):
        read_run(tmp_path / "absent.h5")
    for name, content in (("empty.h5", b""), ("text.h5", b"x" * 4096)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunFileError, match="not a readable run file"):
            read_run(tmp_path / name)
    h5py.File(tmp_path / "strange.h5", "w", libver="latest").close()
    with pytest.raises(RunFileError, match="not a readable run file"):
        read_run(tmp_path / "strange.h5")
    with h5py.File(tmp_path / "other.h5", "w", libver="latest") as file:
        file.attrs["format"] = np.bytes_("something else")
    with pytest.raises(RunFileError, match="not a labctl run file"):
        read_run(tmp_path / "other.h5")


@settings(deadline=None, max_examples=30)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_gives_a_run_or_a_clear_error(cut: float) -> None:
    folder = Path(os.environ["PYTEST_RUNS"])
    path = new_run_path(folder, "cut")
    with create(path) as run:
        run.append_results(0, [1, 2], [1, 2])
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with suppress(RunFileError):
        assert list(read_run(path).labels) == [1, 2]


@settings(deadline=None, max_examples=50)
@given(place=st.integers(0, 2**31), flip=st.integers(1, 255))
def test_a_file_with_a_damaged_byte_gives_a_run_or_a_clear_error(place: int, flip: int) -> None:
    path = new_run_path(Path(os.environ["PYTEST_RUNS"]), "damaged")
    with create(path) as run:
        run.append_results(0, [1, 2], [1, 2])
    content = bytearray(path.read_bytes())
    used = np.flatnonzero(np.frombuffer(content, np.uint8))
    content[used[place % len(used)]] ^= flip
    path.write_bytes(content)
    with suppress(RunFileError):
        assert len(read_run(path).labels) <= 2


def test_new_paths_are_free_and_sort_by_time(tmp_path: Path) -> None:
    paths = []
    for _ in range(3):
        paths.append(new_run_path(tmp_path / "new" / "runs", "accuracy"))
        paths[-1].touch()
    assert len(set(paths)) == 3
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-accuracy(-\d)?\.h5", path.name) for path in paths)
    with pytest.raises(SettingError, match="stem"):
        new_run_path(tmp_path, "../elsewhere")
    (tmp_path / "file").touch()
    with pytest.raises(RunFileError, match="cannot be created"):
        new_run_path(tmp_path / "file", "run")


def test_importing_the_module_does_not_load_hdf5() -> None:
    code = "import sys, labctl.data.run_file; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_processes_that_start_at_the_same_moment_write_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []

    def late(folder: Path, stem: str, parties: Sequence[Party | None]) -> tuple[Path, ...]:
        paths = new_run_paths(folder, stem, parties)
        if not taken:
            paths[-1].touch()
            taken.append(paths[-1])
        return paths

    monkeypatch.setattr("labctl.data.runs_folder.new_run_paths", late)
    with start(tmp_path) as run:
        run.append_results(0, [1], [1])
    assert run.path not in taken
    assert list(read_run(run.path).labels) == [1]
