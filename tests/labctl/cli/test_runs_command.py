"""`labctl runs`: what runs hold, whether they are whole, and what a killed writer left."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.data.models import Network
from labctl.data.run_writer import RunFileWriter
from labctl.data.session_record import SessionRecord
from labctl.party import Party

Result = subprocess.CompletedProcess[str]
NETWORK = Network((np.ones((3, 4), np.float32),), "small", {"recipe": "test"})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder with a complete run of accuracy 3/4 and one without an end."""
    folder = tmp_path / "kept"
    folder.mkdir()
    for name in ("done.h5", "killed.h5"):
        writer = RunFileWriter.create(
            folder / name, settings={"mu": 2}, station_text=None, model=NETWORK, versions={}, seed=1
        )
        writer.append_results(0, [1, 2, 3, 4], [1, 2, 3, 5])
        if name == "done.h5":
            writer.set_verification({"accepted": True})
            writer.finish("complete")
        else:
            writer.finish("interrupted", "Ctrl-C")
    return folder


def test_list_shows_when_how_and_how_well(runs: Path, run_here: Callable[..., Result]) -> None:
    (runs / "broken.h5").write_text("no run")
    done = run_here("runs", "list", str(runs), "--json")
    found = {Path(run["file"]).name: run for run in json.loads(done.stdout)["runs"]}
    assert done.returncode == 0
    assert (found["done.h5"]["status"], found["done.h5"]["accuracy"]) == ("complete", 0.75)
    assert (found["killed.h5"]["status"], found["killed.h5"]["reason"]) == ("interrupted", "Ctrl-C")
    assert "not a readable run file" in found["broken.h5"]["problem"]
    table = run_here("runs", "list", str(runs)).stdout
    assert "75.0%" in table
    assert "interrupted" in table


def test_show_says_what_was_asked_and_found(runs: Path, run_here: Callable[..., Result]) -> None:
    done = run_here("runs", "show", str(runs / "done.h5"), "--json")
    shown = json.loads(done.stdout)
    assert shown["settings"] == {"mu": 2}
    assert (shown["images"], shown["verification"]) == (4, {"accepted": True})
    text = run_here("runs", "show", str(runs / "killed.h5")).stdout
    assert "interrupted: Ctrl-C" in text
    assert "75.0%" in text


def test_a_file_of_one_party_says_whose_it_is_and_of_which_session(
    tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    path, session = tmp_path / "server.h5", SessionRecord(id="1f" * 16, client="hospital")
    with RunFileWriter.create(
        path,
        settings={},
        station_text=None,
        model=NETWORK,
        versions={},
        seed=1,
        party=Party.SERVER,
        peer_file="client.h5",
    ) as writer:
        writer.append_queries(0, 7)
        writer.set_session(session)
    shown = json.loads(run_here("runs", "show", str(path), "--json").stdout)
    assert (shown["party"], shown["peer_file"]) == ("server", "client.h5")
    assert (shown["images"], shown["accuracy"]) == (7, None)
    assert shown["session"] == session.model_dump(mode="json")
    text = run_here("runs", "show", str(path)).stdout
    for line in (r"party\W+server", r"other party.s file\W+client.h5", r"client\W+hospital"):
        assert re.search(line, text)
    assert "transcript" not in text
    (listed,) = json.loads(run_here("runs", "list", str(tmp_path), "--json").stdout)["runs"]
    assert (listed["party"], listed["accuracy"]) == ("server", None)


def test_verify_ends_with_an_error_where_a_block_is_damaged(
    runs: Path, run_here: Callable[..., Result]
) -> None:
    assert run_here("runs", "verify", str(runs)).returncode == 0
    with h5py.File(runs / "done.h5", "r+") as file:
        file["results/label"][1] = 9
    done = run_here("runs", "verify", str(runs), "--json")
    assert done.returncode == 1
    assert "1 of 2 run files are damaged" in done.stderr
    damage = [each["damage"] for each in json.loads(done.stdout)["files"]]
    assert damage == [["results/label: rows 0 to 3 are damaged, their checksum differs"], []]
    assert "DAMAGED: results/label" in run_here("runs", "verify", str(runs)).stdout


def test_repair_removes_leftovers_and_opens_runs_to_other_tools(
    runs: Path, run_here: Callable[..., Result]
) -> None:
    (runs / "dead.h5.part").write_bytes(b"x")
    os.utime(runs / "dead.h5.part", (time.time() - 60,) * 2)
    done = run_here("runs", "repair", str(runs), "--json")
    said = json.loads(done.stdout)
    assert [Path(path).name for path in said["removed"]] == ["dead.h5.part"]
    assert [Path(path).name for path in said["repaired"]] == ["done.h5", "killed.h5"]


def test_what_is_not_there_is_said(
    tmp_path: Path, run_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("list", "verify", "repair"):
        assert run_here("runs", command).returncode == 0
        missing = run_here("runs", command, "absent.h5")
        assert (missing.returncode, missing.stdout) == (2, "")
        assert "absent.h5: no such file or folder" in missing.stderr
    assert "no such run file" in run_here("runs", "show", "absent.h5").stderr
