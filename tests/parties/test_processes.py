"""Three processes: a bench, a server and a client, by the commands that people type."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_bench import offers_of
from two_sites import station_text

pytest.importorskip("grpc", reason="needs labctl[parties]")

from labctl.data import shipped_bench_path
from labctl.data.models import Network, load_network, save_network
from labctl.data.run_file import read_run
from labctl.instruments.codecs.itla import FRAME_BYTES
from labctl.instruments.lasers.itla_registers import ItlaRegisters, Register
from labctl.instruments.transports.visa_transport import open_visa_frames
from labctl.parties.authority import Authority, request
from labctl.party import Party
from labctl.protocols.ledger.accounts import weights_account
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger

# Three processes on two processors, which start Python and open instruments first.
PATIENCE_S = 120.0
# Few rows: a frame lasts 0.2 ms.
SIZES = (784, 8, 10)
IMAGES = 3


@dataclass
class Site:
    """A folder of both parties' files, and a served bench."""

    folder: Path
    offers: dict[str, dict[str, str]]
    bench: subprocess.Popen[str]

    def command(self, party: str, *arguments: str) -> list[str]:
        """Return a command line of a party; its ledger and run files are in the folder."""
        own = self.folder / party
        return [
            *(sys.executable, "-m", "labctl", party, str(self.folder / f"{party}.toml")),
            *("--identity", str(own), "--json"),
            *("--ledger", str(self.folder / f"{party}-ledger")),
            *("--runs", str(self.folder / f"{party}-runs"), *arguments),
        ]

    @contextmanager
    def server(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """Run a server; yields its process and the port that it listens at."""
        command = self.command("server", "--listen", "127.0.0.1:0", *arguments)
        command += ["--model", str(self.folder / "small.safetensors"), "--mu", "8.91"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                first = json.loads(process.stdout.readline())
                assert first["event"] == "listening"
                yield process, first["port"]
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)

    def client(self, port: int, *arguments: str) -> subprocess.Popen[str]:
        """Start a client."""
        command = self.command("client", "--server", f"127.0.0.1:{port}", *arguments)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ledger(self, party: Party) -> Ledger:
        """Return a party's ledger."""
        return Ledger(self.folder / f"{party}-ledger", party)

    @property
    def model(self) -> str:
        """SHA-256 of the network that is served."""
        return load_network(self.folder / "small.safetensors").sha256

    def emits(self) -> bool:
        """Ask the laser, on a separate connection."""
        frames = open_visa_frames(
            "asked",
            self.offers["server_laser"]["socket"],
            library="@py",
            timeout_s=2.0,
            frame_bytes=FRAME_BYTES,
            filler=b"\0",
            baud_rate=9600,
        )
        try:
            # SENA, the bit that enables the output.
            return bool(ItlaRegisters(frames, 2.0).read(Register.RES_ENA) & 0x0008)
        finally:
            frames.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    authority = Authority.make(tmp_path / "authority", "test")
    for party, name in ((Party.SERVER, "company"), (Party.CLIENT, "hospital")):
        hosts = ("127.0.0.1",) if party is Party.SERVER else ()
        certificate = authority.issue(request(tmp_path / party, party, name, hosts))
        authority.hand_over(certificate, tmp_path / party)
    draw = np.random.default_rng(4)
    layers = [
        draw.normal(size=shape).astype(np.float32)
        for shape in zip(SIZES[1:], SIZES[:-1], strict=True)
    ]
    save_network(Network(tuple(layers), "small", {}), tmp_path / "small.safetensors")
    command = [sys.executable, "-m", "labctl", "sim", "serve", str(shipped_bench_path()), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bench:
        try:
            offers = offers_of(bench)
            for party in Party:
                text = station_text(party, offers)
                (tmp_path / f"{party}.toml").write_text(text, encoding="utf-8")
            yield Site(tmp_path, offers, bench)
        finally:
            bench.terminate()


def results(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """Return what a client printed, and what it said beside."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return (json.loads(out) if out else {}), err


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
