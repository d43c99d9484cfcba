"""Doors of panels with a side: where they are, who is let in, who is cut off and logged."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import TypeVar

import pytest
from shipped_sites import ShippedSites

from labctl.errors import ConnectionFailedError
from labctl.instruments.simulated.bench_file import load_bench
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.doors import entrance
from labctl.instruments.simulated.doors.entrance import Entrance, RefusalLog, user_of_connection
from labctl.instruments.simulated.doors.serving import Doors, Offer
from labctl.instruments.simulated.doors.tcp import Listener

LOOPBACK = IPv4Network("127.0.0.0/8")
NOBODY = 65534
Result = TypeVar("Result")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="users are known on Linux alone")


def with_doors(path: Path, look: Callable[[dict[str, Offer]], Result]) -> Result:
    """Open the doors of a bench, look at them from another thread, close them."""

    async def opened() -> Result:
        async with Doors(load_bench(path)) as doors:
            return await asyncio.to_thread(look, {offer.name: offer for offer in doors.offers})

    return asyncio.run(opened())


def answer(resource: str | None, *, source: str = "127.0.0.1") -> bytes:
    """Ask at a raw socket who is there; empty if the connection was cut."""
    assert resource is not None
    _, host, port, _ = resource.split("::")
    with socket.create_connection((host, int(port)), timeout=20.0, source_address=(source, 0)) as s:
        try:
            s.sendall(b"*IDN?\n")
            return s.makefile("rb").readline()
        except ConnectionError:
            return b""


def test_they_are_at_the_hosts_and_ports_of_the_bench_file(shipped_sites: ShippedSites) -> None:
    offers = with_doors(shipped_sites.bench, lambda found: found)
    assert {offer.side for offer in offers.values()} == {"server", "client"}
    assert offers["server_laser"].socket == f"TCPIP::{shipped_sites.server_host}::24801::SOCKET"
    assert offers["server_laser"].hislip is None
    generator = offers["server_generator"]
    assert generator.hislip == f"TCPIP::{shipped_sites.server_host}::hislip0,24802::INSTR"
    assert offers["client_scope"].socket == f"TCPIP::{shipped_sites.client_host}::24905::SOCKET"


def test_who_comes_from_another_network_is_cut_off_and_logged(
    shipped_sites: ShippedSites, caplog: pytest.LogCaptureFixture
) -> None:
    host = shipped_sites.client_host
    bench = shipped_sites.with_bench(
        f'host = "{host}"\nfirst_port = 24900\nfrom = ["127.0.0.0/8"]',
        f'host = "{host}"\nfirst_port = 24900\nfrom = ["{host}/32"]',
    )

    def look(offers: dict[str, Offer]) -> tuple[bytes, bytes, bytes]:
        door = offers["client_scope"].socket
        other = answer(offers["server_scope"].socket, source="127.0.0.9")
        return answer(door, source=host), answer(door, source="127.0.0.9"), other

    with caplog.at_level(logging.WARNING, "labctl.doors"):
        let_in, refused, other = with_doors(bench, look)
    assert let_in.startswith(b"KEYSIGHT")
    assert refused == b""
    assert other.startswith(b"KEYSIGHT")
    (record,) = [record.getMessage() for record in caplog.records if record.name == "labctl.doors"]
    assert record.startswith("refused 127.0.0.9:")
    assert record.endswith(f" at the socket door of client_scope: it is not from {host}/32")


def test_no_byte_of_who_is_refused_is_read() -> None:
    served: list[bytes] = []
    faults: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(await reader.read(1))

    async def connect() -> bytes:
        door = Entrance("127.0.0.1", 0, (IPv4Network("127.0.0.7/32"),))
        listener = Listener(serve, door, lambda peer, fault: faults.append(fault))
        port = await listener.open()
        with socket.create_connection(("127.0.0.1", port), timeout=20.0) as there:
            there.sendall(b"never read")
            there.setblocking(False)
            try:
                return await asyncio.get_running_loop().sock_recv(there, 1)
            finally:
                await listener.close()

    # What lay unread in the socket makes the kernel reset the connection, rather than close it.
    with pytest.raises(ConnectionResetError):
        asyncio.run(connect())
    assert (served, faults) == ([], ["it is not from 127.0.0.7/32"])


@on_linux
def test_the_user_at_the_other_end_decides(shipped_sites: ShippedSites) -> None:
    ours, other = os.getuid(), os.getuid() + 1
    shipped_sites.with_bench("first_port = 24800", f'first_port = 24800\nusers = ["{ours}"]')
    bench = shipped_sites.with_bench(
        "first_port = 24900", f'first_port = 24900\nusers = ["{other}"]'
    )

    def look(offers: dict[str, Offer]) -> tuple[bytes, bytes]:
        return answer(offers["server_scope"].socket), answer(offers["client_scope"].socket)

    server, client = with_doors(bench, look)
    assert server.startswith(b"KEYSIGHT")
    assert client == b""


@on_linux
@pytest.mark.skipif(os.getuid() != 0, reason="only root can start another user's program")
def test_another_users_program_is_known_as_that_users() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # It changes its user itself: that user may be unable to read this interpreter.
        script = (
            "import os, socket\n"
            f"os.setuid({NOBODY})\n"
            "here = socket.socket()\n"
            f"here.connect(('127.0.0.1', {port}))\n"
            "here.recv(1)"
        )
        server.settimeout(20.0)
        with subprocess.Popen([sys.executable, "-IS", "-c", script]):
            connection, peer = server.accept()
            with connection:
                found = user_of_connection(peer, connection.getsockname())
    assert found == NOBODY


@on_linux
def test_a_connection_whose_other_end_is_closed_or_elsewhere_has_no_user() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        connection, peer = server.accept()
        with connection:
            own = connection.getsockname()
            assert user_of_connection(peer, own) == os.getuid()
            assert user_of_connection(("192.0.2.1", peer[1]), own) is None
            # Nobody holds it any more; the system shows such an end as root's.
            here.close()
            assert user_of_connection(peer, own) is None
            door = Entrance("127.0.0.1", 0, (LOOPBACK,), frozenset({0, os.getuid()}))
            assert door.fault(peer, own) == "no user of this machine is known to hold it"


@pytest.mark.parametrize("peer", [None, "/run/socket", ("::1", 1, 0, 0)])
def test_what_has_no_ipv4_address_is_refused(peer: object) -> None:
    door = Entrance("127.0.0.1", 0, (LOOPBACK,))
    assert door.fault(peer, ("127.0.0.1", 1)) == "it has no IPv4 address"


def test_the_log_has_ten_lines_a_second_and_how_many_it_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = BenchClock()
    log = RefusalLog(clock)
    with caplog.at_level(logging.WARNING, "labctl.doors"):
        for _ in range(25):
            log.say("the socket door of a", ("192.0.2.1", 1), "it is not from 192.0.2.8/32")
        clock.sleep(1.0)
        log.say("the socket door of b", None, "it has no IPv4 address")
        log.close()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 12
    assert said[10:] == [
        "refused 15 more",
        "refused somebody at the socket door of b: it has no IPv4 address",
    ]


@on_linux
def test_its_pseudo_terminals_are_the_owners_alone(shipped_sites: ShippedSites) -> None:
    modes = with_doors(
        shipped_sites.bench,
        lambda offers: {stat.S_IMODE(os.stat(o.pty).st_mode) for o in offers.values() if o.pty},
    )
    assert modes == {0o600}


def test_a_port_that_is_taken_is_named_with_its_panel(shipped_sites: ShippedSites) -> None:
    with (
        socket.create_server((shipped_sites.client_host, 24903)),
        pytest.raises(ConnectionFailedError) as caught,
    ):
        with_doors(shipped_sites.bench, lambda offers: None)
    assert str(caught.value) == (
        f"client_phase: no socket door at port 24903 of {shipped_sites.client_host}: "
        "another program listens there"
    )


def test_a_host_of_another_machine_is_named_with_the_panel(shipped_sites: ShippedSites) -> None:
    bench = shipped_sites.with_bench(
        f'host = "{shipped_sites.client_host}"\nfirst_port = 24900\nfrom = ["127.0.0.0/8"]',
        'host = "203.0.113.77"\nfirst_port = 24900\nfrom = ["203.0.113.0/24"]',
    )
    with pytest.raises(ConnectionFailedError, match=r"client_generator: .* no such address"):
        with_doors(bench, lambda offers: None)


@on_linux
def test_a_user_that_is_not_there_is_named(shipped_sites: ShippedSites) -> None:
    bench = shipped_sites.with_bench(
        "first_port = 24900\n", 'first_port = 24900\nusers = ["no-one9"]\n'
    )
    with pytest.raises(ConnectionFailedError, match=r"doors.client.users: .* no user 'no-one9'"):
        with_doors(bench, lambda offers: None)


def test_users_need_a_system_that_tells_whose_a_connection_is(
    shipped_sites: ShippedSites, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(entrance, "_CONNECTIONS", tmp_path / "tcp")
    bench = shipped_sites.with_bench("first_port = 24900\n", 'first_port = 24900\nusers = ["0"]\n')
    with pytest.raises(ConnectionFailedError, match="which is not here"):
        with_doors(bench, lambda offers: None)
