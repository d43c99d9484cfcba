"""Several clients at one server, whose receiver a switch gives to who has the light."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc", reason="needs labctl[parties]")

from three_processes import PATIENCE_S, Site, three_processes

from labctl.data.mnist import LabelledImages
from labctl.data.run_file import read_run
from labctl.parties.authority import Authority, request
from labctl.parties.client_run import ClientResult, ClientRun
from labctl.parties.grpc_client import connect
from labctl.party import Party
from labctl.protocols.ledger.accounts import weights_account
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.station import Station
from labctl.station.equipment import client_equipment_of

CLIENTS, QUERIES = 8, 20


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with three_processes(tmp_path) as opened:
        yield opened


@dataclass
class Asking:
    """One client with its key, ledger and files."""

    name: str
    run: ClientRun
    identity: Path
    steps: list[str] = field(default_factory=list)
    result: ClientResult | None = None

    def ask(self, port: int) -> None:
        """Have all its images classified, one by one."""
        # Images differ from client to client: each has its own accounts of inputs.
        draw = np.random.default_rng(len(self.name) + sum(map(ord, self.name)))
        images = draw.uniform(size=(QUERIES, 784)).astype(np.float32)
        wanted = LabelledImages(images, np.zeros(QUERIES, np.uint8))
        with connect(f"127.0.0.1:{port}", self.identity) as channel:
            self.result = self.run.classify(channel, wanted)


def asking(site: Site, station: Station, number: int) -> Asking:
    name = f"hospital-{number}"
    folder = site.folder / name
    authority = Authority.read(site.folder / "authority")
    authority.hand_over(authority.issue(request(folder, Party.CLIENT, name, ())), folder)
    steps: list[str] = []
    run = ClientRun(
        client_equipment_of(station),
        station.table.frame,
        Ledger(site.folder / f"{name}-ledger", Party.CLIENT),
        site.folder / f"{name}-runs",
        on_step=steps.append,
    )
    return Asking(name, run, folder, steps)


@pytest.mark.long
def test_eight_clients_of_twenty_queries_each_have_ledgers_of_their_own_that_are_exact(
    site: Site,
) -> None:
    with (
        Station.read(site.folder / "client.toml") as station,
        site.server("--turn", "20", "--end-after", str(CLIENTS)) as (server, port),
    ):
        clients = [asking(site, station, number) for number in range(CLIENTS)]
        threads = [threading.Thread(target=each.ask, args=(port,)) for each in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(4 * PATIENCE_S)
            assert not thread.is_alive()
        out, _ = server.communicate(timeout=PATIENCE_S)
    assert server.returncode == 0
    events = [json.loads(line) for line in out.splitlines()]
    batches = [each["client"] for each in events if each["event"] == "batch"]
    ledger = site.ledger(Party.SERVER)
    assert ledger.open_queries() == {}
    for each in clients:
        assert each.result is not None
        assert each.result.verdict is not None
        assert each.result.verdict.accepted is True
        assert len(each.result.classes) == batches.count(each.name) == QUERIES
        account = ledger.balance(weights_account(each.name, site.model))
        assert account.spent.value(Meter.QUERIES) == QUERIES
        inputs = each.run.ledger.balances().values()
        assert [round(one.spent.value(Meter.QUERIES)) for one in inputs] == [1] * QUERIES
        assert each.run.ledger.open_queries() == {}
        assert any("others have the light" in step for step in each.steps)
    spent = [
        ledger.balance(weights_account(each.name, site.model)).spent.value(Meter.WEIGHT_BITS)
        for each in clients
    ]
    assert min(spent) > 0.0
    runs = [read_run(path) for path in sorted((site.folder / "server-runs").iterdir())]
    kept = {run.session.client for run in runs if run.session is not None}
    assert kept == {each.name for each in clients}
    assert not site.emits()
