"""A session whose connection is cut between two queries goes on; in a query it is over."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc", reason="needs labctl[parties]")

from three_processes import PATIENCE_S, Site, three_processes

from labctl.data.mnist import LabelledImages
from labctl.data.run_file import read_run
from labctl.parties.channel import PartyChannel
from labctl.parties.client_run import ClientRun
from labctl.parties.grpc_client import connect, connect_again
from labctl.party import Party
from labctl.protocols.ledger.accounts import weights_account
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.messages import Verdict
from labctl.station import Station
from labctl.station.equipment import client_equipment_of

IMAGES = 3


class Fibre:
    """A connection between a client and a server's port that can be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        with source, suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Cut what is connected; new connections are let through."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        """Cut all, for good."""
        self._listener.close()
        self.cut()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with three_processes(tmp_path) as opened:
        yield opened


@pytest.mark.long
def test_a_session_that_is_cut_between_two_queries_goes_on(site: Site) -> None:
    verdicts: list[Verdict] = []
    channels: list[PartyChannel] = []
    steps: list[str] = []
    with (
        Station.read(site.folder / "client.toml") as station,
        site.server("--end-after", "1") as (server, port),
    ):
        fibre = Fibre(port)
        address, identity = f"127.0.0.1:{fibre.port}", site.folder / "client"

        def cut(images: int, verdict: Verdict) -> None:
            verdicts.append(verdict)
            if len(verdicts) == 2:
                fibre.cut()
                while not channels[0].gone:
                    threading.Event().wait(0.01)

        run = ClientRun(
            client_equipment_of(station),
            station.table.frame,
            site.ledger(Party.CLIENT),
            site.folder / "client-runs",
            on_step=steps.append,
            on_batch=cut,
        )
        run = replace(run, again=lambda ticket: connect_again(address, identity, ticket))
        draw = np.random.default_rng(3)
        images = draw.uniform(size=(IMAGES, 784)).astype(np.float32)
        with connect(address, identity) as channel:
            channels.append(channel)
            result = run.classify(channel, LabelledImages(images, np.zeros(IMAGES, np.uint8)))
        out, _ = server.communicate(timeout=PATIENCE_S)
        fibre.close()
    assert [verdict.accepted for verdict in verdicts] == [True] * IMAGES
    assert len(result.classes) == IMAGES
    assert any("connect again" in step for step in steps)
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events.count("batch") == IMAGES
    account = site.ledger(Party.SERVER).balance(weights_account("hospital", site.model))
    assert account.spent.value(Meter.QUERIES) == IMAGES
    for party in Party:
        assert site.ledger(party).open_queries() == {}
    # One session, one file of each party, and both agree on all that was said.
    (ours,), (theirs,) = (list((site.folder / f"{each}-runs").iterdir()) for each in Party)
    server_run, client_run = read_run(ours), read_run(theirs)
    assert server_run.session is not None
    assert client_run.session is not None
    assert server_run.session.transcript_sha256 == client_run.session.transcript_sha256
    assert server_run.session.id == client_run.session.id
    assert not site.emits()
