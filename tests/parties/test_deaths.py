"""Any of the three processes is killed, at every state of a session: dark, booked, said, again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("grpc", reason="needs labctl[parties]")

from three_processes import (
    PATIENCE_S,
    Kills,
    Site,
    dark_within_s,
    results,
    three_processes,
    until,
)

from labctl.party import Party
from labctl.protocols.ledger.accounts import weights_account
from labctl.protocols.ledger.amounts import Meter

pytestmark = pytest.mark.long

# What each says, in the order of a session; light of a query leaves after the client's `Armed`.
OF_CLIENT = ("Hello", "Ready", "AlignArmed", "AlignTaken", "Queries", "Armed", "Taken", "Close")
OF_SERVER = ("Welcome", "AlignOpen", "Aligned", "LayerOpen", "light", "Done", "Verdict")
# With one query: those at which its light has left.
SENT = ("Taken", "Close", "light", "Done", "Verdict")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with three_processes(tmp_path) as opened:
        yield opened


def settle(site: Site, party: Party) -> None:
    """Have the ledger of a killed party settled."""
    command = [sys.executable, "-m", "labctl", "ledger", "settle"]
    folder = str(site.folder / f"{party}-ledger")
    if site.ledger(party).exists:
        subprocess.run(
            [*command, "--ledger", folder], check=True, capture_output=True, timeout=PATIENCE_S
        )


def is_closed(site: Site, party: Party) -> bool:
    """Return whether nothing is open in a party's ledger, if it has begun one."""
    ledger = site.ledger(party)
    return not ledger.exists or ledger.open_queries() == {}


def queries(site: Site) -> float:
    """Return what the server's ledger has booked of the client; nothing may be open."""
    ledger = site.ledger(Party.SERVER)
    assert is_closed(site, Party.SERVER)
    if not ledger.exists:
        return 0.0
    return ledger.balance(weights_account("hospital", site.model)).spent.value(Meter.QUERIES)


def asks_again(site: Site, port: int) -> None:
    """One more query is served and counted, after any death."""
    before = queries(site)
    found, err = results(site.client(port, "--images", "1"))
    assert found.get("accepted") is True, err
    assert queries(site) == before + 1


@pytest.mark.parametrize("at", OF_CLIENT)
def test_a_client_that_is_killed(at: str, site: Site) -> None:
    with site.server() as (server, port):
        client = site.client(port, "--images", "1", kills=Kills(at))
        ended = until(server, "end")
        dark_within_s(site, 3.0)
        client.communicate(timeout=PATIENCE_S)
        assert client.returncode == -signal.SIGKILL
        assert (ended["how"], "peer-lost" in ended["about"]) == ("aborted", True)
        spent = queries(site)
        # At the worst: the server cannot know that an armed client has not measured.
        assert spent >= (at in SENT)
        assert spent <= (at not in OF_CLIENT[:4])
        settle(site, Party.CLIENT)
        assert is_closed(site, Party.CLIENT)
        asks_again(site, port)


@pytest.mark.parametrize("at", OF_SERVER)
def test_a_server_that_is_killed(at: str, site: Site) -> None:
    with site.server(kills=Kills(at)) as (server, port):
        _, err = results(client := site.client(port, "--images", "1"))
        server.wait(PATIENCE_S)
        # The watchdog's: 3 s after the kill.
        dark_within_s(site, 5.0)
        assert server.returncode == -signal.SIGKILL
        assert client.returncode == 1
        assert "peer-lost" in err
    settle(site, Party.SERVER)
    spent = queries(site)
    assert spent >= (at in SENT)
    assert spent <= (at not in OF_SERVER[:3])
    assert is_closed(site, Party.CLIENT)
    with site.server("--end-after", "1") as (server, port):
        asks_again(site, port)


@pytest.mark.parametrize("at", ["Ready", "AlignArmed", "AlignTaken", "Queries", "Armed", "Taken"])
def test_a_bench_that_is_killed(at: str, site: Site) -> None:
    with site.server() as (server, port):
        client = site.client(port, "--images", "2", kills=Kills(at, site.bench.pid))
        _, err = results(client)
        assert client.returncode == 1
        assert "session" in err or "client_" in err
        assert until(server, "end")["how"] == "aborted"
        server.wait(PATIENCE_S)
        # What may be lit nobody can say, for the bench does not answer: exit code 4, unless the
        # watchdog, which tries for itself, has ended the program first.
        assert server.returncode in (4, -signal.SIGKILL)
    for party in Party:
        settle(site, party)
        assert is_closed(site, party)
    assert queries(site) >= (at == "Taken")


def test_a_server_that_nobody_listens_to_ends_and_leaves_the_laser_dark(site: Site) -> None:
    with site.server() as (server, port):
        client = site.client(port, "--images", "50")
        until(server, "batch")
        assert server.stdout is not None
        server.stdout.close()
        _, err = results(client)
        assert server.wait(PATIENCE_S) == 1
        assert not site.emits()
        assert client.returncode == 1
        assert "session" in err
    assert is_closed(site, Party.SERVER)
    assert is_closed(site, Party.CLIENT)
