"""A run file of one party has what that party knows; what is the other's is refused by name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from labctl.data.models import Network, PublicModel
from labctl.data.run_file import read_run, repair_run, verify_run
from labctl.data.run_writer import RunFileWriter
from labctl.data.session_record import SessionRecord, new_session_id
from labctl.errors import ModelError, RunFileError
from labctl.party import Party

DRAWN = np.random.default_rng(11)
NETWORK = Network(
    (DRAWN.random((4, 6), np.float32), DRAWN.random((3, 4), np.float32)), "small", {"by": "test"}
)
PLAIN: dict[str, Any] = {"settings": {}, "station_text": None, "versions": {}, "seed": 1}
MODELS: dict[Party | None, Network | PublicModel] = {
    Party.SERVER: NETWORK,
    Party.CLIENT: NETWORK.public,
    None: NETWORK,
}
SESSION = SessionRecord(
    id=new_session_id(),
    kind="two-party",
    client="hospital",
    client_identity="certificate",
    client_fingerprint="a" * 64,
    server_fingerprint="b" * 64,
    server_ledger_head="c" * 64,
    transcript_sha256="d" * 64,
)


def started(folder: Path, party: Party | None) -> RunFileWriter:
    return RunFileWriter.start(folder, "infer", model=MODELS[party], party=party, **PLAIN)


def test_sessions_that_begin_at_once_have_a_file_each(tmp_path: Path) -> None:
    """Threads of one process, as a server's sessions are."""

    def begin(_: int) -> Path:
        with started(tmp_path, Party.SERVER) as run:
            run.append_queries(0, 1)
        return run.path

    with ThreadPoolExecutor(8) as sessions:
        paths = list(sessions.map(begin, range(64)))
    assert len({*paths}) == 64
    assert all(read_run(path).complete for path in paths)


def test_a_server_s_file_has_the_network_and_the_light_and_counts_queries(tmp_path: Path) -> None:
    with started(tmp_path, Party.SERVER) as run:
        run.append_queries(0, 3)
        run.append_raw("evidence", "layer0", np.ones((2, 5)))
        run.append_raw("bench", "returned-layer0", np.ones((1, 4, 3)))
        run.append_queries(3, 2)
        run.set_verification({"accepted": True})
    read = read_run(run.path)
    assert (read.party, read.complete) == (Party.SERVER, True)
    assert isinstance(read.model, Network)
    assert read.model.sha256 == NETWORK.sha256
    assert list(read.images) == [0, 1, 2, 3, 4]
    assert len(read.labels) == len(read.predictions) == 0
    assert read.measured() is None
    assert read.raw_names == ("bench/returned-layer0", "evidence/layer0")
    with h5py.File(run.path, "r") as file:
        assert list(file["results"]) == ["image"]


def test_a_client_s_file_has_results_and_names_the_network_alone(tmp_path: Path) -> None:
    measured = [np.ones((2, 4), np.float32), np.zeros((2, 3), np.float32)]
    with started(tmp_path, Party.CLIENT) as run:
        run.append_results(0, [1, 2], [1, 1], measured)
    read = read_run(run.path)
    assert (read.party, read.raw_names) == (Party.CLIENT, ())
    assert read.model == NETWORK.public == PublicModel("small", NETWORK.sha256, (6, 4, 3))
    assert (list(read.labels), list(read.predictions)) == ([1, 2], [1, 1])
    found = read.measured()
    assert found is not None
    assert all(np.array_equal(one, other) for one, other in zip(found, measured, strict=True))
    content = run.path.read_bytes()
    for row in np.vstack([layer.reshape(-1, 2) for layer in NETWORK.layers]):
        assert row.tobytes() not in content


WRONG: dict[str, tuple[Party | None, Callable[[RunFileWriter], None]]] = {
    "labels, predictions, measured: the client's": (
        Party.SERVER,
        lambda run: run.append_results(0, [1], [1]),
    ),
    "raw/receiver/x: not the server's, whose file holds raw/evidence/…, raw/bench/…": (
        Party.SERVER,
        lambda run: run.append_raw("receiver", "x", [1.0]),
    ),
    "raw/evidence/layer0: not the client's, whose file holds no raw data": (
        Party.CLIENT,
        lambda run: run.append_raw("evidence", "layer0", [1.0]),
    ),
    "raw/bench/returned-layer0: not the client's": (
        Party.CLIENT,
        lambda run: run.append_raw("bench", "returned-layer0", [1.0]),
    ),
    "queries are counted in a server's file alone": (
        Party.CLIENT,
        lambda run: run.append_queries(0, 1),
    ),
    "h5: queries are counted in a server's file alone": (
        None,
        lambda run: run.append_queries(0, 1),
    ),
}


@pytest.mark.parametrize("problem", WRONG)
def test_what_is_the_other_party_s_is_refused_and_changes_nothing(
    tmp_path: Path, problem: str
) -> None:
    party, write = WRONG[problem]
    with started(tmp_path, party) as run:
        before = run.path.read_bytes()
        with pytest.raises(RunFileError, match=re.escape(problem)):
            write(run)
        assert run.path.read_bytes() == before
    assert read_run(run.path).complete


@pytest.mark.parametrize(
    ("party", "model", "problem"),
    [
        (Party.CLIENT, NETWORK, "small: a Network with weights; a client's file"),
        (Party.SERVER, NETWORK.public, "small: names without weights; a server's file"),
        (None, NETWORK.public, "small: names without weights; a file of both parties"),
    ],
)
def test_the_network_comes_with_weights_to_a_server_and_without_to_a_client(
    tmp_path: Path, party: Party | None, model: Network | PublicModel, problem: str
) -> None:
    with pytest.raises(RunFileError, match=problem):
        RunFileWriter.create(tmp_path / "run.h5", model=model, party=party, **PLAIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sha256", "sizes"),
    [("a" * 63, (2, 1)), ("A" * 64, (2, 1)), ("a" * 64, (2,)), ("a" * 64, (2, 0))],
)
def test_a_model_without_weights_has_a_digest_and_sizes(sha256: str, sizes: tuple[int]) -> None:
    with pytest.raises(ModelError, match=r"^net: (sha256|sizes) .* must be"):
        PublicModel("net", sha256, sizes)


def test_a_file_names_the_other_party_s_file(tmp_path: Path) -> None:
    path = tmp_path / "client.h5"
    given = {"model": NETWORK.public, "peer_file": "server.h5", **PLAIN}
    RunFileWriter.create(path, party=Party.CLIENT, **given).finish("complete")
    assert read_run(path).peer_file == "server.h5"
    with pytest.raises(RunFileError, match=r"peer_file 'server.h5': a file of both .* has none"):
        RunFileWriter.create(tmp_path / "both.h5", **{**given, "model": NETWORK})


@pytest.mark.parametrize("party", [Party.SERVER, Party.CLIENT, None])
def test_files_of_each_kind_are_verified_repaired_and_tell_damage(
    tmp_path: Path, party: Party | None
) -> None:
    with started(tmp_path, party) as run:
        if party is Party.SERVER:
            run.append_queries(0, 2)
        else:
            run.append_results(0, [3, 4], [3, 4])
        run.set_session(SessionRecord(id="0" * 32))
        run.set_session(SESSION)
        killed = run.path.with_name("killed.h5")
        shutil.copyfile(run.path, killed)
    assert (verify_run(killed).damage, verify_run(killed).status) == ((), "interrupted")
    with pytest.raises(OSError, match="already open"):
        h5py.File(killed, "r")
    repair_run(killed)
    with h5py.File(killed, "r+") as file:
        assert read_run(run.path).session == read_run(killed).session == SESSION
        place = file["results/image"].id.get_chunk_info(0).byte_offset
    content = bytearray(killed.read_bytes())
    content[place] ^= 1
    killed.write_bytes(content)
    assert verify_run(killed).damage == (
        "results/image: rows 0 to 1 are damaged, their checksum differs",
    )
    assert verify_run(run.path).damage == ()


def test_a_file_of_version_2_is_of_both_and_says_nothing_of_a_session(tmp_path: Path) -> None:
    with started(tmp_path, None) as run:
        run.append_results(0, [1, 2], [1, 2])
        run.set_leakage({"bits": 0.5})
    with h5py.File(run.path, "r+") as file:
        file.attrs["format_version"] = 2
        for name in ("session", "blocks/session", "committed/session"):
            del file[name]
    read = read_run(run.path)
    assert (read.party, read.peer_file, read.session) == (None, None, None)
    assert (list(read.labels), read.leakage) == ([1, 2], {"bits": 0.5})
    assert verify_run(run.path).damage == ()


def test_a_file_of_a_party_that_is_none_is_refused(tmp_path: Path) -> None:
    with started(tmp_path, Party.SERVER) as run:
        run.append_queries(0, 1)
    with h5py.File(run.path, "r+") as file:
        file.attrs["party"] = np.bytes_("stranger")
    with pytest.raises(RunFileError, match="'stranger' is not a valid Party"):
        read_run(run.path)
