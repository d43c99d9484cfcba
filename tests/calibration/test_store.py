"""The store keeps what was measured through crashes, two writers and damage."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from labctl.calibration import store as store_module
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Condition, Outcome
from labctl.calibration.store import About, Store
from labctl.errors import CalibrationError, RecordError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ABOUT = About("gain", "demo", {"server.laser": "Maker L1 7"}, {"channel": 1}, 3600.0, {})


def line(figure: Figure) -> None:
    axes = figure.subplots()
    axes.plot([0.0, 1.0], [0.0, 1.0])
    # Ticks and their labels are most of what a figure costs, and no test's subject here.
    axes.set_axis_off()


def outcome(value: float = 2.0, **changes: Any) -> Outcome:
    given_: dict[str, Any] = {
        "quantities": {"gain": Quantity.of(value, "1", {"noise": 0.1})},
        "raw": {"x": np.arange(5.0)},
        "draw": line,
        **changes,
    }
    return Outcome(**given_)


def later(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def values(store: Store) -> list[float]:
    return [record.quantity("gain").value for record in store.records()]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "deep" / "store")


def test_a_store_that_is_not_there_is_empty_and_reading_it_makes_nothing(store: Store) -> None:
    assert store.records() == []
    assert store.newest("demo") == {}
    assert store.torn() is None
    assert not store.folder.exists()


def test_what_is_appended_is_read_back_with_raw_data_and_figure(store: Store) -> None:
    raw = {"x": np.arange(1000.0), "n": np.array(3), "z": np.array([1 + 2j]), "none": np.empty(0)}
    measured = outcome(
        raw=raw, conditions={"room_c": Condition(21.0, 2.0, "degC")}, remarks=("windy",)
    )
    record = store.append(ABOUT, measured, NOON)
    again = Store(store.folder)
    assert again.records() == [record]
    assert (record.subject, record.settings, record.remarks) == (
        ABOUT.subject,
        ABOUT.settings,
        ("windy",),
    )
    read = again.raw(record)
    assert read.keys() == raw.keys()
    for name, array in raw.items():
        assert np.array_equal(read[name], array)
    assert again.figure(record).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "figures",
        "raw",
        "records.jsonl",
        "records.jsonl.lock",
    ]


def test_a_record_without_raw_data_has_none(store: Store) -> None:
    record = store.append(ABOUT, outcome(raw={}), NOON)
    assert (record.raw, record.digest) == (None, None)
    assert store.raw(record) == {}


def test_settings_may_be_numpy_s_numbers(store: Store) -> None:
    told = {"f_hz": np.float64(1.5), "n": np.int64(3), "on": np.bool_(True)}
    about = About("gain", "demo", {}, told, 60.0, {})  # type: ignore[arg-type] # as routines may
    store.append(about, outcome(), NOON)
    assert store.records()[0].settings == {"f_hz": 1.5, "n": 3, "on": True}


def test_records_are_only_added(store: Store) -> None:
    store.append(ABOUT, outcome(1.0), NOON)
    before = (store.folder / "records.jsonl").read_bytes()
    store.append(ABOUT, outcome(2.0), later(1))
    assert (store.folder / "records.jsonl").read_bytes().startswith(before)
    assert values(store) == [1.0, 2.0]


def test_the_order_is_that_of_writing_also_if_the_clock_was_put_back(store: Store) -> None:
    store.append(ABOUT, outcome(1.0), later(60))
    newer = store.append(ABOUT, outcome(2.0), NOON)
    assert store.newest("demo") == {"gain": newer}


def test_stations_do_not_mix(store: Store) -> None:
    mine = store.append(ABOUT, outcome(), NOON)
    store.append(About("gain", "other", {}, {}, 60.0, {}), outcome(), NOON)
    assert store.newest("demo") == {"gain": mine}


def test_ids_tell_records_apart_also_where_raw_data_alone_differ(store: Store) -> None:
    first = store.append(ABOUT, outcome(), NOON)
    second = store.append(ABOUT, outcome(raw={"x": np.arange(6.0)}), NOON)
    assert first.id != second.id
    assert len(store.raw(first)["x"]) == 5
    assert len(store.raw(second)["x"]) == 6


def test_a_record_is_found_by_how_its_id_begins(store: Store) -> None:
    records = [store.append(ABOUT, outcome(float(n)), later(n)) for n in range(3)]
    for record in records:
        assert store.record(record.id) == record
        assert store.record(record.id[:12]) == record
    with pytest.raises(RecordError, match=f"no record 'xyz'.*{records[2].id}"):
        store.record("xyz")
    with pytest.raises(RecordError, match="no record ''"):
        store.record("")


def test_the_same_record_written_twice_is_one(store: Store) -> None:
    record = store.append(ABOUT, outcome(), NOON)
    store.append(ABOUT, outcome(), NOON)
    assert store.record(record.id) == record


def test_an_id_that_several_records_begin_with_lists_them(store: Store) -> None:
    records = [store.append(ABOUT, outcome(float(n)), NOON) for n in range(17)]
    starts = [record.id[0] for record in records]
    start = next(digit for digit in starts if starts.count(digit) > 1)
    with pytest.raises(RecordError, match=f"{starts.count(start)} records begin with '{start}'"):
        store.record(start)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"quantities": {}}, "quantities"),
        ({"conditions": {"room_c": Condition(math.nan, 1.0, "degC")}}, r"finite"),
        ({"conditions": {"room_c": Condition(20.0, -1.0, "degC")}}, r"tolerance"),
        ({"quantities": {"": Quantity(1.0, 0.1, "V")}}, "quantities"),
    ],
)
def test_an_outcome_that_is_no_record_leaves_nothing(
    store: Store, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CalibrationError, match=f"gain: no valid record: .*{complaint}"):
        store.append(ABOUT, outcome(**changes), NOON)
    assert not store.folder.exists()


def test_a_time_without_a_zone_and_a_setting_that_is_no_number_are_refused(store: Store) -> None:
    with pytest.raises(CalibrationError, match="time zone"):
        store.append(ABOUT, outcome(), NOON.replace(tzinfo=None))
    about = About("gain", "demo", {}, {"f_hz": math.nan}, 60.0, {})
    with pytest.raises(CalibrationError, match="f_hz"):
        store.append(about, outcome(), NOON)
    assert not store.folder.exists()


def break_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Have the power fail at the n-th time that something is synced to disk."""
    calls = iter(range(1000))
    sync = os.fsync

    def fsync(handle: int) -> None:
        if next(calls) == call:
            raise KeyboardInterrupt
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("call", range(6))
def test_whatever_write_is_the_last_the_store_reads_and_takes_the_next(
    store: Store, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.append(ABOUT, outcome(1.0), NOON)
    with monkeypatch.context() as patched:
        break_at(patched, call)
        with pytest.raises(KeyboardInterrupt):
            store.append(ABOUT, outcome(2.0), later(1))
    found = store.records()
    # The line is written before the last two syncs: file, folder.
    assert [record.quantity("gain").value for record in found] == (
        [1.0] if call < 4 else [1.0, 2.0]
    )
    for record in found:
        store.raw(record)
        store.figure(record)
    third = store.append(ABOUT, outcome(3.0), later(2))
    assert store.records()[0] == first
    assert store.records()[-1] == third
    assert not list(store.folder.rglob(".new-*"))


def test_a_figure_that_cannot_be_drawn_leaves_no_record_and_no_file(store: Store) -> None:
    def fail(figure: Figure) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.append(ABOUT, outcome(draw=fail), NOON)
    assert store.records() == []
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


@given(cut=st.integers(1, 10_000))
@settings(deadline=None, max_examples=12)
def test_a_last_line_that_was_cut_anywhere_is_left_out_said_and_mended(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    store.append(ABOUT, outcome(1.0), NOON)
    path = store.folder / "records.jsonl"
    keep = path.stat().st_size
    store.append(ABOUT, outcome(2.0), later(1))
    content = path.read_bytes()
    left = max(keep, len(content) - 1 - cut)
    path.write_bytes(content[:left])
    assert values(store) == [1.0]
    said = store.torn()
    assert (said is None) == (left == keep)
    assert said is None or f"{path}:2" in said
    store.append(ABOUT, outcome(3.0), later(2))
    assert values(store) == [1.0, 3.0]
    assert store.torn() is None


def test_a_block_of_zeros_that_a_power_cut_leaves_is_a_torn_line(store: Store) -> None:
    store.append(ABOUT, outcome(1.0), NOON)
    with (store.folder / "records.jsonl").open("ab") as file:
        file.write(bytes(4096))
    assert values(store) == [1.0]
    store.append(ABOUT, outcome(2.0), later(1))
    assert values(store) == [1.0, 2.0]


def test_a_last_line_that_lacks_its_end_alone_counts(store: Store) -> None:
    store.append(ABOUT, outcome(1.0), NOON)
    path = store.folder / "records.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert (values(store), store.torn()) == ([1.0], None)
    store.append(ABOUT, outcome(2.0), later(1))
    assert values(store) == [1.0, 2.0]


@pytest.mark.parametrize(
    "damage",
    [
        b"{}",
        b"",
        b"not json",
        b"[" * 100_000,
        b"3",
        b"null",
        b'{"id": NaN}',
        b"\xff\xfe",
        b"1" * 5000,
    ],
    ids=["object", "empty", "text", "deep", "number", "null", "nan", "bytes", "digits"],
)
def test_a_damaged_line_among_others_is_an_error_that_names_it(store: Store, damage: bytes) -> None:
    store.append(ABOUT, outcome(1.0), NOON)
    path = store.folder / "records.jsonl"
    good = path.read_bytes()
    path.write_bytes(good + damage + b"\n" + good)
    with pytest.raises(RecordError) as caught:
        store.records()
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_line_that_somebody_changed_is_not_taken_for_a_record(store: Store) -> None:
    record = store.append(ABOUT, outcome(2.0), NOON)
    path = store.folder / "records.jsonl"
    content = json.loads(path.read_bytes())
    content["quantities"]["gain"]["value"] = 2.1
    path.write_text(json.dumps(content) + "\n")
    with pytest.raises(RecordError, match=f"jsonl:1: .*not to {record.id}"):
        store.records()


def test_the_layout_of_a_line_does_not_matter(store: Store) -> None:
    record = store.append(ABOUT, outcome(2.0), NOON)
    path = store.folder / "records.jsonl"
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_bytes()).items()))) + "\r\n")
    assert store.records() == [record]


def test_raw_data_that_changed_or_went_are_not_handed_out(store: Store) -> None:
    record = store.append(ABOUT, outcome(), NOON)
    path = store.folder / str(record.raw)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match=f"{record.id}.*changed"):
        store.raw(record)
    path.unlink()
    with pytest.raises(RecordError, match=f"{record.id}.*gone"):
        store.raw(record)


def test_a_figure_that_went_is_said(store: Store) -> None:
    record = store.append(ABOUT, outcome(), NOON)
    store.figure(record).unlink()
    with pytest.raises(RecordError, match=f"{record.id}.*figure"):
        store.figure(record)


def test_what_the_disk_refuses_is_a_record_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    taken = Store(tmp_path / "file")
    with pytest.raises(RecordError, match="no folder"):
        taken.records()
    with pytest.raises(RecordError, match="cannot be written"):
        taken.append(ABOUT, outcome(), NOON)
    (tmp_path / "odd" / "records.jsonl").mkdir(parents=True)
    with pytest.raises(RecordError, match="cannot be read"):
        Store(tmp_path / "odd").records()


def test_a_lock_that_is_held_for_too_long_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(ABOUT, outcome(1.0), NOON)
    monkeypatch.setattr(store_module, "_LOCK_TIMEOUT_S", 0.01)
    with (
        FileLock(store.folder / "records.jsonl.lock"),
        pytest.raises(RecordError, match=r"another process has held .*records\.jsonl\.lock"),
    ):
        store.append(ABOUT, outcome(2.0), later(1))
    assert values(store) == [1.0]


def test_ctrl_c_while_a_record_is_written_waits_until_it_is_kept(store: Store) -> None:
    def interrupted(figure: Figure) -> None:
        signal.raise_signal(signal.SIGINT)
        line(figure)

    with pytest.raises(KeyboardInterrupt):
        store.append(ABOUT, outcome(draw=interrupted), NOON)
    assert values(store) == [2.0]


def test_threads_may_append_at_a_time(store: Store) -> None:
    def append(first: int) -> None:
        for number in range(first, first + 4):
            store.append(ABOUT, outcome(float(number), raw={}), later(number))

    threads = [threading.Thread(target=append, args=(start,)) for start in (0, 4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values(store)) == [float(number) for number in range(12)]


WRITER = """
import itertools, sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Outcome
from labctl.calibration.store import About, Store

store, name, count = Store(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
about = About(name, "demo", {}, {}, 60.0, {})
for number in range(count) if count else itertools.count():
    found = {"gain": Quantity(float(number), 0.1, "1")}
    outcome = Outcome(found, {"x": np.arange(9.0)}, lambda figure: figure.subplots().set_axis_off())
    print(store.append(about, outcome, datetime.now(UTC)).id, flush=True)
"""

Writers = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def writer(store: Store) -> Writers:
    def start(name: str, count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, str(store.folder), name, str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start


def test_two_processes_may_append_at_a_time(store: Store, writer: Writers) -> None:
    count = 8
    running = [writer(name, count) for name in ("first", "second")]
    said = [run.communicate(timeout=100)[0].split() for run in running]
    assert [run.returncode for run in running] == [0, 0]
    for name, ids in zip(("first", "second"), said, strict=True):
        found = [record for record in store.records() if record.routine == name]
        assert [record.id for record in found] == ids
        assert [record.quantity("gain").value for record in found] == [*map(float, range(count))]


def test_a_process_that_is_killed_leaves_what_it_had_finished(
    store: Store, writer: Writers
) -> None:
    with writer("killed", 0) as run:
        assert run.stdout is not None
        said = [run.stdout.readline().strip() for _ in range(3)]
        run.kill()
        said += run.stdout.read().split()
    found = store.records()
    assert [record.id for record in found][: len(said)] == said
    assert len(found) <= len(said) + 1
    for record in found:
        store.raw(record)
        store.figure(record)
    after = store.append(ABOUT, outcome(), NOON)
    assert store.records()[-1] == after


def test_raw_data_that_are_none_are_told_with_their_record(store: Store) -> None:
    """A record that was written around raw data from elsewhere: its digest is right."""
    record = store.append(ABOUT, outcome(), NOON)
    assert record.raw is not None
    for content in (b"no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(90)):
        (store.folder / record.raw).write_bytes(content)
        forged = record.model_copy(update={"digest": hashlib.sha256(content).hexdigest()})
        with pytest.raises(RecordError, match=rf"record {record.id}: raw data .* are no arrays"):
            store.raw(forged)


@pytest.mark.timeout(20)
@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX files")
@pytest.mark.parametrize("name", ["records.jsonl", "raw", "figure"])
def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(store: Store, name: str) -> None:
    record = store.append(ABOUT, outcome(), NOON)
    part = {"records.jsonl": name, "raw": record.raw, "figure": record.figure}[name]
    assert part is not None
    (store.folder / part).unlink()
    os.mkfifo(store.folder / part)
    tries: dict[str, Callable[[], object]] = {
        "records.jsonl": lambda: store.append(ABOUT, outcome(3.0), NOON),
        "raw": lambda: store.raw(record),
        "figure": lambda: store.figure(record),
    }
    with pytest.raises(RecordError, match=r"not an ordinary file|is gone"):
        tries[name]()
