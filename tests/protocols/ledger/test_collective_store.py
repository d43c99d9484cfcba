"""Sums by weight on disk: pooled over sessions and processes, never half, never another's."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.errors import RecordError
from labctl.protocols.disguise import FRESH_ORDER
from labctl.protocols.ledger.collective_store import CollectiveStore, KeptSums, LightTerms
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.session import Session
from labctl.protocols.verification.collective_record import CollectiveRecord, collective_sums
from labctl.studies.attacks.false_alarms import HONEST, _network

ACCOUNT = f"alice/{'0' * 64}"
NETWORK = _network((16, 12, 4), 1)
KEY = b"k" * 32
Array = np.ndarray[Any, Any]
TERMS = LightTerms(HONEST.light.mean_photons, 1, HONEST.assumptions)


def session_of(seed: int, images: int = 4) -> Session:
    settings = replace(HONEST, seed=seed)
    session = Session(NETWORK, settings, ModeLink(settings))
    for _ in session.run(np.random.default_rng(seed).random((images, 16)).astype(np.float32)):
        pass
    return session


def add_sessions(folder: Path, seeds: list[int]) -> None:
    store = CollectiveStore(folder, KEY)
    for seed in seeds:
        session = session_of(seed)
        store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)


@pytest.fixture
def store(tmp_path: Path) -> CollectiveStore:
    return CollectiveStore(tmp_path, KEY)


def test_sessions_with_calibrations_of_their_own_are_pooled(store: CollectiveStore) -> None:
    sessions = [session_of(seed) for seed in (1, 2)]
    records = [session.record() for session in sessions]
    for session, record in zip(sessions, records, strict=True):
        store.add(ACCOUNT, TERMS, record, session.server.evidence)
    kept = store.load(ACCOUNT, TERMS)
    assert (kept.queries, len(kept.parts)) == (8, 2)
    expected = collective_sums(sessions[0].server.evidence, records[0].merged(records[1]))
    assert expected is not None
    assert store.kept(ACCOUNT) == (KeptSums(TERMS, expected),)
    np.testing.assert_allclose(
        kept.layers[0].sums, records[0].layers[0].sums + records[1].layers[0].sums, rtol=1e-6
    )


def test_a_run_that_adds_batch_by_batch_adds_each_query_once(store: CollectiveStore) -> None:
    settings = replace(HONEST, seed=9)
    session = Session(NETWORK, settings, ModeLink(settings))
    before = CollectiveRecord()
    for _ in range(3):
        for _ in session.run(np.ones((2, 16), np.float32)):
            pass
        record = session.record()
        store.add(ACCOUNT, TERMS, record.beyond(before), session.server.evidence)
        before = record
    whole, kept = session.record(), store.load(ACCOUNT, TERMS)
    assert kept.queries == whole.queries == 6
    for one, two in zip(kept.layers, whole.layers, strict=True):
        np.testing.assert_allclose(one.sums, two.sums, atol=1e-4)
        np.testing.assert_allclose(one.shares, two.shares)
    assert asdict(kept.parts[0]) == {
        name: pytest.approx(value) for name, value in asdict(whole.parts[0]).items()
    }


def test_nothing_is_kept_of_an_account_that_was_never_looked_at(store: CollectiveStore) -> None:
    assert store.kept(ACCOUNT) == ()
    assert store.load(ACCOUNT, TERMS).queries == 0


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_changed_byte_is_refused(store: CollectiveStore, place: float) -> None:
    session = session_of(1)
    store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)
    path = store.path(ACCOUNT, TERMS)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(RecordError, match="not the sums by weight of this account"):
        store.load(ACCOUNT, TERMS)


@pytest.mark.parametrize("left", [0, 1, 1000])
def test_a_file_cut_short_is_refused(store: CollectiveStore, left: int) -> None:
    session = session_of(1)
    store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)
    path = store.path(ACCOUNT, TERMS)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(RecordError, match="not the sums by weight"):
        store.kept(ACCOUNT)


def test_the_file_of_another_account_or_of_another_key_is_refused(
    store: CollectiveStore, tmp_path: Path
) -> None:
    session = session_of(1)
    store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)
    other = ACCOUNT.replace("alice", "bob")
    store.path(other, TERMS).write_bytes(store.path(ACCOUNT, TERMS).read_bytes())
    with pytest.raises(RecordError, match="of another account"):
        store.kept(other)
    with pytest.raises(RecordError, match="key of this ledger"):
        CollectiveStore(tmp_path, b"x" * 32).kept(ACCOUNT)


def test_a_draft_that_a_killed_process_left_is_no_record(store: CollectiveStore) -> None:
    session = session_of(1)
    store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)
    path = store.path(ACCOUNT, TERMS)
    path.with_name(f"{path.name}.new").write_bytes(b"half")
    assert store.load(ACCOUNT, TERMS).queries == 4
    store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)
    assert store.load(ACCOUNT, TERMS).queries == 8


def test_processes_at_the_same_time_lose_nothing(store: CollectiveStore, tmp_path: Path) -> None:
    # Each its own interpreter: neither forked beside threads nor with this module's name to import.
    script = (
        "import runpy, sys; from pathlib import Path\n"
        f"module = runpy.run_path({str(Path(__file__))!r})\n"
        "module['add_sessions'](Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]])\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), *seeds])
        for seeds in (("1", "2"), ("3", "4"))
    ]
    assert [worker.wait(60.0) for worker in workers] == [0, 0]
    assert store.load(ACCOUNT, TERMS).queries == 16


def test_light_of_other_terms_is_kept_apart(store: CollectiveStore) -> None:
    session = session_of(1)
    brighter = replace(TERMS, mean_photons=2.0 * TERMS.mean_photons)
    for terms in (TERMS, brighter):
        store.add(ACCOUNT, terms, session.record(), session.server.evidence)
    assert {each.terms for each in store.kept(ACCOUNT)} == {TERMS, brighter}
    assert store.load(ACCOUNT, brighter).queries == 4


def test_trusted_noise_of_several_runs_is_its_mean_over_their_light(store: CollectiveStore) -> None:
    for queries, noise in ((2, 0.0), (6, 0.4)):
        session = session_of(1, queries)
        terms = replace(TERMS, technical_noise=noise)
        store.add(ACCOUNT, terms, session.record(), session.server.evidence)
    (kept,) = store.kept(ACCOUNT)
    assert kept.terms.technical_noise == pytest.approx(0.3)


def test_a_file_under_the_name_of_other_terms_is_refused(store: CollectiveStore) -> None:
    """Else the same light would count twice as looked at."""
    session = session_of(1)
    store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)
    other = replace(TERMS, mean_photons=9.0)
    store.path(ACCOUNT, other).write_bytes(store.path(ACCOUNT, TERMS).read_bytes())
    with pytest.raises(RecordError, match="of light of other terms"):
        store.kept(ACCOUNT)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a file again with its arrays changed, as somebody without the key can."""
    with np.load(path) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    change(arrays)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        # The same bytes as whole numbers: weights would seem read a billion times, and quiet.
        # Columns of the second layer move with the hidden neurons: each weight is counted there.
        ("entries1", lambda array: array.view("<i4")),
        ("sums0", lambda array: array.view(">f4")),
        ("shares0", lambda array: array.view("<i8")),
        ("sums0", lambda array: array.reshape(-1, 2)),
        ("sums1", lambda array: array.reshape(1, -1)),
        ("sums0", np.asfortranarray),
        ("entries1", lambda array: array[:, :-2]),
    ],
)
def test_the_same_bytes_read_as_something_else_are_refused(
    store: CollectiveStore, name: str, change: Callable[[Array], Array]
) -> None:
    settings = replace(HONEST, light=replace(HONEST.light, disguise=FRESH_ORDER))
    session = Session(NETWORK, settings, ModeLink(settings))
    list(session.run(np.ones((4, 16), np.float32)))
    store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)
    path = store.path(ACCOUNT, TERMS)
    rewritten(path, lambda arrays: arrays.update({name: change(arrays[name])}))
    with pytest.raises(RecordError, match=f"of layer {int(name[-1]) + 1} w"):
        store.load(ACCOUNT, TERMS)


def test_no_bytes_whatever_raise_anything_but_that_the_file_is_damaged(
    store: CollectiveStore,
) -> None:
    session = session_of(1)
    store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)
    path = store.path(ACCOUNT, TERMS)
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        file.writestr("header.npy", b"no array")
        file.writestr("mac.npy", b"no array")
    changed: list[bytes] = [
        array.getvalue(),
        raw.getvalue(),
        b"\x80\x04N.",
        b"PK\x05\x06" + bytes(18),
    ]
    for place in range(directory, directory + 60):
        for flipped in (0x01, 0x80, 0xFF):
            content = bytearray(whole)
            content[place] ^= flipped
            changed.append(bytes(content))
    refused = 0
    for each in changed:
        path.write_bytes(each)
        try:
            store.load(ACCOUNT, TERMS)
        except RecordError:
            refused += 1
    assert refused > len(changed) / 2


def test_no_room_leaves_no_draft_behind(
    store: CollectiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    session = session_of(1)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RecordError, match="No space left on device"):
        store.add(ACCOUNT, TERMS, session.record(), session.server.evidence)
    assert not list(store.path(ACCOUNT, TERMS).parent.glob("*.n*"))
