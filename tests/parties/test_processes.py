"""Three processes: a bench, a server and a client, by the commands that people type."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

pytest.importorskip("grpc", reason="needs labctl[parties]")

from three_processes import PATIENCE_S, Site, results, three_processes

from labctl.data.run_file import read_run
from labctl.parties.authority import Authority, request
from labctl.party import Party
from labctl.protocols.ledger.accounts import weights_account
from labctl.protocols.ledger.amounts import Meter

IMAGES = 3


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with three_processes(tmp_path) as opened:
        yield opened


@contextmanager
def notices(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[bytes]]:
    """Be the service manager of what is started; yields how often it was sent each notice."""
    found: Counter[bytes] = Counter()
    name = f"labctl-{uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")

        def read() -> None:
            while notice := manager.recv(64):
                found[notice] += 1

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        try:
            yield found
        finally:
            monkeypatch.delenv("NOTIFY_SOCKET")
            # An empty notice ends the reader, which has read all before it then.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", f"\0{name}")
            reader.join(PATIENCE_S)


def test_three_processes_do_a_whole_secure_inference(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # The client is there first, and waits for its server.
    client = site.client(port, "--images", str(IMAGES), "--batch", "2", "--server-wait-s", "100")
    assert client.stderr is not None
    said = f"no server at 127.0.0.1:{port} yet (connection refused)"
    assert any(said in line for line in client.stderr)
    with (
        notices(monkeypatch) as said_to_manager,
        site.server("--end-after", "1", "--listen", f"127.0.0.1:{port}") as (server, _),
    ):
        found, err = results(client)
        out, _ = server.communicate(timeout=PATIENCE_S)
    events = [json.loads(line) for line in out.splitlines()]
    assert [each["event"] for each in events] == ["session", "batch", "batch", "end"], err
    assert (found["accepted"], len(found["classes"]), server.returncode) == (True, IMAGES, 0)
    assert found["model_sha256"] == site.model
    assert not site.emits()
    # What systemd's WatchdogSec waits for: the work took longer than a beat of 0.2 s.
    assert said_to_manager[b"READY=1"] == 1
    assert said_to_manager[b"WATCHDOG=1"] > 2

    ours, theirs = (next((site.folder / f"{each}-runs").iterdir()) for each in Party)
    server_run, client_run = read_run(ours), read_run(theirs)
    assert server_run.session is not None
    assert client_run.session is not None
    assert server_run.session.id == client_run.session.id
    assert server_run.session.transcript_sha256 == client_run.session.transcript_sha256
    assert server_run.session.transcript_sha256 == found["transcript_sha256"]
    account = site.ledger(Party.SERVER).balance(weights_account("hospital", site.model))
    assert account.spent.value(Meter.QUERIES) == IMAGES


@pytest.mark.long
def test_a_client_without_a_valid_certificate_is_not_served(site: Site) -> None:
    stranger = Authority.make(site.folder / "stranger", "stranger")
    with site.server() as (server, port):
        other = stranger.issue(request(site.folder / "other", Party.CLIENT, "hospital"))
        stranger.hand_over(other, site.folder / "other")
        command = site.command("client", "--server", f"127.0.0.1:{port}", "--images", "1")
        command[command.index("--identity") + 1] = str(site.folder / "other")
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert found.returncode == 1
        assert found.stderr.count("\n") < 10
        assert server.poll() is None
        assert not site.emits()
