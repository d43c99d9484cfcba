"""Three processes: a bench, a server and a client, by the commands that people type."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def test_three_processes_do_a_whole_secure_inference(site: Site) -> None:
    with site.server("--end-after", "1") as (server, port):
        found, err = results(site.client(port, "--images", str(IMAGES), "--batch", "2"))
        out, _ = server.communicate(timeout=PATIENCE_S)
    events = [json.loads(line) for line in out.splitlines()]
    assert [each["event"] for each in events] == ["session", "batch", "batch", "end"], err
    assert (found["accepted"], len(found["classes"]), server.returncode) == (True, IMAGES, 0)
    assert found["model_sha256"] == site.model
    assert not site.emits()

    ours, theirs = (next((site.folder / f"{each}-runs").iterdir()) for each in Party)
    server_run, client_run = read_run(ours), read_run(theirs)
    assert server_run.session is not None
    assert client_run.session is not None
    assert server_run.session.id == client_run.session.id
    assert server_run.session.transcript_sha256 == client_run.session.transcript_sha256
    assert server_run.session.transcript_sha256 == found["transcript_sha256"]
    account = site.ledger(Party.SERVER).balance(weights_account("hospital", site.model))
    assert account.spent.value(Meter.QUERIES) == IMAGES


def dark_within_s(site: Site, limit_s: float) -> float:
    """Return after how many seconds the laser was seen dark; fails after `limit_s`."""
    began_s = time.monotonic()
    while site.emits():
        passed_s = time.monotonic() - began_s
        assert passed_s < limit_s, f"lit after {passed_s:.1f} s"
        time.sleep(0.1)
    return time.monotonic() - began_s


def until(server: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """Read what a server says until an event; return it."""
    assert server.stdout is not None
    for line in server.stdout:
        found: dict[str, Any] = json.loads(line)
        if found["event"] == event:
            return found
    pytest.fail(f"the server ended without {event!r}")


@pytest.mark.long
@pytest.mark.parametrize("at", ["session", "batch"])
def test_a_client_that_is_killed_leaves_the_laser_dark_and_all_it_was_sent_booked(
    at: str, site: Site
) -> None:
    account = weights_account("hospital", site.model)
    with site.server() as (server, port):
        client = site.client(port, "--images", "50")
        until(server, at)
        client.kill()
        client.communicate(timeout=PATIENCE_S)
        ended = until(server, "end")
        assert (ended["how"], "peer-lost" in ended["about"]) == ("aborted", True)
        dark_within_s(site, 3.0)
        ledger = site.ledger(Party.SERVER)
        assert ledger.open_queries() == {}
        before = ledger.balance(account).spent.value(Meter.QUERIES)
        assert before >= (1 if at == "batch" else 0)
        found, err = results(site.client(port, "--images", "1"))
        assert found.get("accepted") is True, err
        assert ledger.balance(account).spent.value(Meter.QUERIES) == before + 1


@pytest.mark.long
@pytest.mark.parametrize("at", ["session", "batch"])
def test_a_server_that_is_killed_leaves_the_laser_dark_and_its_client_told(
    at: str, site: Site
) -> None:
    with site.server() as (server, port):
        client = site.client(port, "--images", "50")
        until(server, at)
        server.kill()
        _, err = results(client)
        assert client.returncode == 1
        assert "peer-lost" in err
        # The watchdog's: 3 s after the kill.
        dark_within_s(site, 5.0)
    with site.server("--end-after", "1") as (server, port):
        found, err = results(site.client(port, "--images", "1"))
        assert found.get("accepted") is True, err


@pytest.mark.long
def test_a_bench_that_is_killed_ends_the_session_on_both_sides(site: Site) -> None:
    with site.server() as (server, port):
        client = site.client(port, "--images", "50")
        until(server, "batch")
        site.bench.kill()
        _, err = results(client)
        assert client.returncode == 1
        assert "session" in err or "client_scope" in err
        assert until(server, "end")["how"] == "aborted"
        server.wait(PATIENCE_S)
        # What may be lit nobody can say, for the bench does not answer: exit code 4, unless the
        # watchdog, which tries for itself, has ended the program first.
        assert server.returncode in (4, -signal.SIGKILL)


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
