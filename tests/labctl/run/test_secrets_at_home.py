"""What a run leaves of each party holds nothing of the other's secrets, also where it fails.

Of the client these are images, classes and measured values; of the server weights and what came
back. Looked for are the bytes of each row as numbers of any type, numbers as text, and rows of
arrays along an image or a row of weights.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import labctl
from labctl.data import shipped_station_path
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.data.run_file import Run, read_run
from labctl.environment import RECORD
from labctl.errors import SettingError
from labctl.party import Party
from labctl.protocols.client.activations import Client
from labctl.protocols.link import Exchange
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.server.disguised import DisguisedServer
from labctl.protocols.settings import Light
from labctl.run.inference import run_inference
from labctl.run.request import LedgerRequest, ModeRun
from labctl.station import Station

Array = NDArray[Any]
DRAW = np.random.default_rng(54)
SIZES = (20, 12, 4)
NETWORK = Network(
    tuple(
        DRAW.standard_normal(shape).astype(np.float32)
        for shape in zip(SIZES[1:], SIZES[:-1], strict=True)
    ),
    "kept at home",
    {"recipe": "drawn"},
)
# A verifying run at mode level takes 32 images a batch, here one frame per image and layer: what
# fails at the 71st frame fails in the second batch, which is the last.
COUNT = 40
IMAGES = LabelledImages(
    DRAW.random((COUNT, SIZES[0])).astype(np.float32), DRAW.integers(0, 4, COUNT).astype(np.uint8)
)


@dataclass(frozen=True)
class Secrets:
    """directions: rows that no array may be along. arrays: whose rows may be nowhere as numbers."""

    directions: tuple[Array, ...]
    arrays: tuple[Array, ...]

    def in_bytes(self, content: bytes) -> bool:
        return any(row in content for array in self.arrays for row in rows_as_bytes(array))

    def in_text(self, text: str) -> bool:
        return any(number in text for array in self.arrays for number in numbers_as_text(array))

    def in_file(self, path: Path) -> bool:
        content = path.read_bytes()
        found = self.in_bytes(content) or self.in_text(content.decode("latin-1"))
        if not found and path.suffix == ".h5":
            found = any(along(kept, rows) for kept in arrays_of(path) for rows in self.directions)
        return found


def rows_as_bytes(array: Array) -> Iterator[bytes]:
    """Yield each row as little-endian numbers of the types that one might write it in."""
    whole = array.dtype.kind in "iu"
    for row in array if array.ndim == 2 else [array]:
        # A row of few bytes is met by chance.
        if len(row) >= 4:
            yield from (row.astype(f"<{kind}").tobytes() for kind in ("f4", "f8"))
            if whole:
                yield from (row.astype(f"<{kind}").tobytes() for kind in ("u1", "i4", "i8"))


def numbers_as_text(array: Array) -> Iterator[str]:
    if array.dtype.kind == "f":
        for value in array.ravel():
            # Numbers of few digits are met by chance.
            said = (repr(float(value)), str(np.float32(value)))
            yield from (each for each in said if len(each) >= 9)


def arrays_of(path: Path) -> list[Array]:
    found: list[Array] = []
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, kept: (
                found.append(kept[()]) if isinstance(kept, h5py.Dataset) and kept.ndim > 1 else None
            )
        )
    return found


def along(kept: Array, directions: Array) -> bool:
    """Tell whether a row of an array begins along one of these vectors; after `holds` of links."""
    length = directions.shape[1]
    if kept.shape[-1] < length:
        return False
    rows = kept.reshape(-1, kept.shape[-1])[:, :length].astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0.0)
    wanted = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return bool(np.any(np.abs(rows @ wanted.T) > 0.99))


def of_client(images: LabelledImages, run: Run) -> Secrets:
    measured = run.measured()
    assert measured is not None
    unit = images.images / np.linalg.norm(images.images, axis=1, keepdims=True)
    secrets = (images.images, unit, images.labels, run.predictions, *measured)
    return Secrets((images.images,), secrets)


def of_server(network: Network, run: Run) -> Secrets:
    raw = [run.raw(*name.split("/")) for name in run.raw_names]
    returned = [array.reshape(-1, array.shape[-1]) for array in raw]
    return Secrets(network.layers, (*network.layers, *returned))


@contextmanager
def all_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, logger="labctl"):
        yield


def files_of(folder: Path, party: Party) -> list[Path]:
    """Return a party's run file and all of its ledger: the server's is what is not the client's."""
    every = {path: "client" in path.name for path in folder.rglob("*") if path.is_file()}
    return [path for path, of_client in every.items() if of_client == (party is Party.CLIENT)]


def mode_run(folder: Path) -> ModeRun:
    return ModeRun(
        network=NETWORK,
        images=IMAGES,
        runs=folder,
        light=Light(20.0),
        receiver=CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE),
        ledger=LedgerRequest(folder / "ledger", "alice", None),
        seed=7,
    )


def require_at_home(
    folder: Path, network: Network, images: LabelledImages, log: str
) -> tuple[Secrets, Secrets]:
    """Look for each party's secrets in the other's files and both in the log; return them."""
    found = {run.party: run for run in map(read_run, folder.glob("*.h5"))}
    client = of_client(images, found[Party.CLIENT])
    server = of_server(network, found[Party.SERVER])
    for path in files_of(folder, Party.SERVER):
        assert not client.in_file(path), path
    for path in files_of(folder, Party.CLIENT):
        assert not server.in_file(path), path
    for secrets in (client, server):
        assert not secrets.in_text(log)
        assert not secrets.in_bytes(log.encode())
    # The search finds what is there.
    assert server.in_file(found[Party.SERVER].path)
    assert client.in_file(found[Party.CLIENT].path)
    return client, server


def test_at_mode_level_nothing_leaves_its_party(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with all_logged(caplog):
        report = run_inference(mode_run(tmp_path))
    assert report.verification.samples > 0
    assert len(files_of(tmp_path, Party.CLIENT)) > 1
    assert len(files_of(tmp_path, Party.SERVER)) > 1
    require_at_home(tmp_path, NETWORK, IMAGES, caplog.text)


@pytest.mark.long
def test_on_the_bench_nothing_leaves_its_party(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = LabelledImages(IMAGES.images[:5], IMAGES.labels[:5])
    with all_logged(caplog):
        labctl.infer(
            images,
            model=NETWORK,
            mean_photons=10.0,
            station=shipped_station_path(),
            ledger=tmp_path / "runs" / "ledger",
            client="alice",
            calibrations=tmp_path / "records",
            stale="accept",
            runs=tmp_path / "runs",
        )
    assert "DEBUG" in caplog.text
    _, server = require_at_home(tmp_path / "runs", NETWORK, images, caplog.text)
    assert any(len(array) >= SIZES[1] for array in server.arrays[len(NETWORK.layers) :])


Patch = Callable[[pytest.MonkeyPatch], None]


def after(calls: int, act: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """Return what does as before for that number of calls, and then something else."""
    made = 0

    def called(*given: Any, **named: Any) -> Any:
        nonlocal made
        made += 1
        return (act if made <= calls else then)(*given, **named)

    return called


def client_tells(patch: pytest.MonkeyPatch) -> None:
    """Have the client's code fail in the second batch with its measured values in the error."""

    def fails(self: Client, measured: Array) -> Array:
        raise ValueError(f"cannot use {[float(value) for value in measured.ravel()]}")

    patch.setattr(Client, "receive", after(2, Client.receive, fails))


def server_tells(patch: pytest.MonkeyPatch) -> None:
    """Have the server's code fail in the second batch with its weights in the error."""

    def fails(*given: object) -> None:
        raise ValueError(f"cannot use {[float(value) for value in NETWORK.layers[0].ravel()]}")

    patch.setattr(DisguisedServer, "check", after(70, DisguisedServer.check, fails))


@pytest.mark.parametrize(("whose", "patch"), [("client", client_tells), ("server", server_tells)])
def test_an_error_that_tells_secrets_is_kept_by_its_party(
    whose: str, patch: Patch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)
    with pytest.raises(ValueError, match="cannot use") as failure:
        run_inference(mode_run(tmp_path))
    found = {str(run.party): run for run in map(read_run, tmp_path.glob("*.h5"))}
    for party, run in found.items():
        own = f"ValueError: {failure.value}"
        assert (run.status, len(run.images)) == ("failed", 32)
        assert run.reason == (own if party == whose else f"ValueError at the {whose}")
        other = "server" if party == "client" else "client"
        assert party == whose or str(failure.value) not in run.path.read_bytes().decode("latin-1")
        assert run.peer_file == found[other].path.name
    require_at_home(tmp_path, NETWORK, IMAGES, "")


def cut_values(exchange: Exchange) -> Exchange:
    return replace(exchange, measured=exchange.measured[:, :-1])


def cut_light(exchange: Exchange) -> Exchange:
    def cut(each: Any) -> Any:
        return replace(each, measured=each.measured[:-1])

    return replace(exchange, returned=map(cut, exchange.returned))


@pytest.mark.parametrize("cut", [cut_values, cut_light])
def test_a_failure_on_either_side_tells_no_secret_in_its_traceback_or_log(
    cut: Callable[[Exchange], Exchange],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = ModeLink.exchange
    spoilt = after(70, plain, lambda *given: cut(plain(*given)))
    monkeypatch.setattr(ModeLink, "exchange", spoilt)
    with all_logged(caplog), pytest.raises((SettingError, ValueError)) as failure:
        run_inference(mode_run(tmp_path))
    told = "".join(traceback.format_exception(failure.value)) + caplog.text
    require_at_home(tmp_path, NETWORK, IMAGES, told)


def test_wire_records_of_stations_of_one_party_are_of_their_own_instruments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("google.protobuf", reason="needs labctl[parties]")
    from two_sites import station_text

    seen = {}
    for party in Party:
        path, record = tmp_path / f"{party}.toml", tmp_path / f"{party}.jsonl"
        path.write_text(station_text(party), encoding="utf-8")
        monkeypatch.setenv(RECORD, str(record))
        with Station.read(path) as station:
            own = set(station.identities)
        _, *entries = map(json.loads, record.read_text(encoding="utf-8").splitlines())
        # Beside them a record has the station's clock.
        seen[party] = {entry["instrument"] for entry in entries if entry["event"] != "time"}
        assert own <= seen[party]
    assert seen[Party.SERVER].isdisjoint(seen[Party.CLIENT])


def test_the_search_finds_secrets_of_each_kind(tmp_path: Path) -> None:
    secrets = Secrets((IMAGES.images,), (IMAGES.images, IMAGES.labels))
    kept: Iterable[bytes] = (
        b"x" + IMAGES.images[3].astype(np.float64).tobytes(),
        b"x" + IMAGES.labels.astype(np.int32).tobytes(),
        f"value {float(IMAGES.images[2, 5])}".encode(),
    )
    for number, content in enumerate(kept):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(content)
        assert secrets.in_file(path), number
    with h5py.File(tmp_path / "scaled.h5", "w") as file:
        file["a"] = np.pad(-3.0 * IMAGES.images[:2], ((0, 0), (0, 4)))
    assert secrets.in_file(tmp_path / "scaled.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = NETWORK.layers[0]
    assert not secrets.in_file(tmp_path / "other.h5")
