"""Anything in place of a file is refused in one line: no wait, no memory, no traceback."""

from __future__ import annotations

import os
import stat
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from labctl import plain_file
from labctl.calibration.store import Store
from labctl.data.mnist import load_images
from labctl.data.models import load_network
from labctl.data.run_file import read_run
from labctl.errors import LabctlError
from labctl.instruments.simulated.faults.plan import read_plan
from labctl.instruments.transports.wire_replay import read_record, read_state
from labctl.plain_file import open_plain, parsed_json, read_plain, read_plain_text
from labctl.protocols.copies.table import CopyTable
from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.key import read_key
from labctl.protocols.ledger.signing import PublicKey, SigningKey
from labctl.station.file import StationFile
from labctl.studies.planner.curve_file import load_curve
from labctl.studies.sweep.results_file import read_results
from labctl.studies.training.checkpoint import load_checkpoint
from labctl.studies.training.dataset import load_dataset
from labctl.toml_file import read_toml

needs_posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices are POSIX files")


def images_at(path: Path) -> object:
    """Read images of which one file is at the path."""
    (path.parent / "t10k-images-idx3-ubyte").symlink_to(path.name)
    return load_images(path.parent, "test")


# Each reader, and the end of the name of what it reads.
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "station": (".toml", lambda path: read_toml(path, StationFile)),
    "table of copies": (".toml", lambda path: read_toml(path, CopyTable)),
    "fault plan": (".toml", read_plan),
    "network": (".safetensors", load_network),
    "packed network": (".npz", load_network),
    "data set": (".npz", load_dataset),
    "table of images": (".csv", load_dataset),
    "images": (".idx", images_at),
    "checkpoint": (".npz", lambda path: load_checkpoint(path, "{}", "")),
    "accuracy curve": (".json", load_curve),
    "results of a sweep": (".jsonl", read_results),
    "run": (".h5", read_run),
    "wire record": (".jsonl", read_record),
    "replay": (".json", read_state),
    "calibration": ("records.jsonl", lambda path: Store(path.parent).records()),
    "ledger's key": (".key", lambda path: read_key(path, path.parent)),
    "public key": (".pem", PublicKey.read),
    "private key": (".pem", lambda path: SigningKey.read(path, "the")),
    "ledger": ("server.jsonl", lambda path: Ledger(path.parent, Party.SERVER).start()),
}
every_reader = pytest.mark.parametrize("reader", READERS)


def place(folder: Path, reader: str) -> tuple[Path, Callable[[Path], object]]:
    """Return where a reader's file is, and the reader."""
    end, read = READERS[reader]
    return folder / (end if not end.startswith(".") else f"file{end}"), read


def refused(read: Callable[[], object]) -> str:
    """Return in which one line a reader refuses, with less than 4 MB of memory."""
    tracemalloc.start()
    try:
        with pytest.raises(LabctlError) as caught:
            read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert "\n" not in str(caught.value)
    return str(caught.value)


@needs_posix
@pytest.mark.timeout(20)
@every_reader
@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_what_is_no_file_is_told_without_waiting(reader: str, what: str, tmp_path: Path) -> None:
    path, read = place(tmp_path, reader)
    if what == "pipe":
        os.mkfifo(path, 0o600)
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir(0o700)
    assert str(tmp_path) in refused(partial(read, path))


@needs_posix
@pytest.mark.timeout(20)
@every_reader
def test_a_file_larger_than_memory_takes_none(reader: str, tmp_path: Path) -> None:
    """A file of 1 TB, of which the disk holds nothing."""
    path, read = place(tmp_path, reader)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    path.chmod(0o600)
    assert str(tmp_path) in refused(partial(read, path))


NESTED_JSON = '{"a": ' * 5_000
NESTED_TOML = "a = " + "[" * 20_000
TEXTS = {
    "station": (NESTED_TOML, "a = " + "1" * 5_000, "a" + ".a" * 100_000 + " = 1"),
    "table of copies": (NESTED_TOML, "public = 0x" + "f" * 5_000, "[a" + " . 'a'" * 50_000 + "]"),
    "accuracy curve": (NESTED_JSON, '{"points": [{"signal_to_noise": 1e999}]}'),
    "wire record": (NESTED_JSON, "NaN", "1" * 5_000, "[" * 100 + "]" * 100),
    "replay": (NESTED_JSON, "[]", '{"position": NaN}', '{"position": 1.5, "difference": null}'),
    "calibration": (NESTED_JSON + "\n", "NaN\n", "1" * 5_000 + "\n"),
    "ledger": (NESTED_JSON + "\n", "NaN\n", "1" * 5_000 + "\n"),
    "results of a sweep": tuple(
        '{"format": "labctl sweep results", "version": 1, "name": "a", "task": "b"}\n' + line + "\n"
        for line in (
            NESTED_JSON,
            '{"point": "p", "seed": 1, "values": {"x": NaN}, "duration_s": 1, "blas": ""}',
            '{"point": "p", "seed": 1, "values": {"x": 1e999}, "duration_s": 1, "blas": ""}',
            '{"point": "p", "seed": 1, "values": {"x": [1]}, "duration_s": 1, "blas": ""}',
            f'{{"point": "p", "seed": 1, "values": {{"x": 1{"0" * 400}}}, '
            '"duration_s": 1, "blas": ""}',
        )
    ),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("reader", "text"), [(reader, text) for reader, texts in TEXTS.items() for text in texts]
)
def test_nesting_without_end_and_numbers_that_are_none_are_told(
    reader: str, text: str, tmp_path: Path
) -> None:
    path, read = place(tmp_path, reader)
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(LabctlError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


def test_an_ordinary_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("ä\r\n".encode())
    (tmp_path / "b").symlink_to("a")
    assert read_plain(tmp_path / "b", 4) == "ä\r\n".encode()
    assert read_plain_text(tmp_path / "b", 4) == "ä\n"
    with pytest.raises(OSError, match="4 bytes; at most 3 are read"):
        read_plain(tmp_path / "a", 3)


@needs_posix
def test_a_file_that_says_it_is_empty_and_is_not_has_the_same_limit() -> None:
    """The system's own files have size 0."""
    path = Path("/proc/self/status")
    if not path.exists():
        pytest.skip("no such files on this system")
    assert path.stat().st_size == 0
    assert b"Pid" in read_plain(path, 1 << 16)
    with pytest.raises(OSError, match="at most 5 are read"):
        read_plain(path, 5)


@needs_posix
def test_a_socket_is_named_and_nothing_is_left_open(tmp_path: Path) -> None:
    os.mknod(tmp_path / "s", stat.S_IFSOCK | 0o600)
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match=r"a socket, not an ordinary file|No such device"):
        open_plain(tmp_path / "s")
    assert len(os.listdir("/dev/fd")) == before


def test_json_of_a_few_levels_is_read_and_of_more_refused() -> None:
    def nested(levels: int) -> str:
        return '{"a": [' * levels + "]}" * levels

    assert parsed_json('{"a": [1, -2.5e3, null, "NaN", 123456789012345678901]}') == {
        "a": [1, -2500.0, None, "NaN", 123456789012345678901]
    }
    parsed_json(nested(31))
    for levels in (33, 400, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parsed_json(nested(levels))
    for constant in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ValueError, match="no number of JSON"):
            parsed_json(f"[{constant}]")


def test_where_the_system_does_not_say_its_memory_files_have_a_limit_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plain_file, "memory_bytes", lambda: None)
    assert plain_file.within_memory(4) == int(0.4 * (1 << 32) / 4)
