"""The channel over real TLS on loopback: sessions, and what becomes of who breaks the rules."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("google.protobuf", reason="needs labctl[parties]")
# Not by importing it: labctl sets what gRPC reads when it starts.
if find_spec("grpc") is None:
    pytest.skip("needs labctl[parties]", allow_module_level=True)

import two_parties
from bank import CLIENT, LIMIT_S, SERVER, Bank, greet, hello, serving, wait_for
from party_folders import PartyFolders
from raw_clients import RawCall, identity
from two_parties import IMAGES, SETTINGS, network

from labctl.errors import AbortedError, BudgetError, ProtocolError
from labctl.parties.certificates import CERTIFICATE, Certificate
from labctl.parties.channel import PartyChannel, Peer
from labctl.parties.conversation import Conversation
from labctl.parties.grpc_client import connect
from labctl.party import Party
from labctl.protocols.client.machine import ClientMachine
from labctl.protocols.messages import AbortCode, Armed, Close, Done, Hello, LayerOpen, Queries
from labctl.protocols.server.disguised import honest_server
from labctl.protocols.server.machine import ServerMachine
from labctl.protocols.states import PartyState


def test_a_whole_session_with_light_over_the_channel(folders: PartyFolders) -> None:
    """Both machines speak through TLS; the simulated link has the light."""
    pair = two_parties.TwoParties()
    found: list[PartyChannel] = []

    def handler(peer: Peer, channel: PartyChannel) -> None:
        found.append(channel)
        channel.bind(pair.server)
        while pair.server.state is not PartyState.CLOSED:
            answer = pair.server.receive(channel.receive())
            if answer is not None:
                channel.send(answer, more=isinstance(answer, Done))
            if isinstance(answer, Done):
                channel.send(pair.server.judge())

    client = pair.client
    with (
        serving(folders, handler) as server,
        connect(f"localhost:{server.port}", folders.hospital) as channel,
    ):
        channel.bind(client)
        channel.send(client.hello())
        client.receive(channel.receive())
        channel.send(client.begin(IMAGES))
        while not isinstance(message := channel.receive(), Done):
            assert isinstance(message, LayerOpen)
            armed = client.receive(message)
            assert isinstance(armed, Armed)
            channel.send(armed)
            wait_for(lambda: pair.server.state is PartyState.SENDING)
            channel.send(pair.light())
        client.receive(message)
        client.receive(channel.receive())
        assert client.verdict is not None
        assert len(client.answers().classes) == len(IMAGES)
        channel.send(client.close())
        channel.close()
        assert channel.seals == found[0].seals
        assert channel.transcript == found[0].transcript
        assert set(channel.seals) == set(Party)
        assert (channel.peer.name, channel.peer.role) == ("bank", SERVER)
    assert pair.server.state is pair.client.state is PartyState.CLOSED


def test_each_side_knows_the_other_by_its_certificate(folders: PartyFolders) -> None:
    bank = Bank()
    with serving(folders, bank.handle) as server:
        seen = greet(server.port, folders.hospital)
        assert bank.wait() == ["closed"]
    hospital = Certificate.read(folders.hospital / CERTIFICATE)
    assert bank.peers[0].name == "hospital"
    assert bank.peers[0].role is CLIENT
    assert bank.peers[0].fingerprint == hospital.fingerprint
    assert seen.fingerprint == Certificate.read(folders.bank / CERTIFICATE).fingerprint
    assert "client hospital at ipv4:127.0.0.1" in str(bank.peers[0])


def test_a_session_goes_on_over_another_connection_between_queries(folders: PartyFolders) -> None:
    machines: dict[bytes, ServerMachine] = {}
    lost = threading.Event()

    def handler(peer: Peer, channel: PartyChannel) -> None:
        machine = machines.get(channel.session)
        if not channel.resumes:
            machine = ServerMachine(honest_server(network(), SETTINGS), SETTINGS)
        assert machine is not None
        channel.bind(machine)
        try:
            while machine.state is not PartyState.CLOSED:
                answer = machine.receive(channel.receive())
                machines[channel.session] = machine
                if answer is not None:
                    channel.send(answer)
        finally:
            lost.set()

    with serving(folders, handler) as server:
        side = Conversation(CLIENT, identity(folders.hospital), lambda der: lambda *said: True)
        with RawCall(server.port, folders.hospital) as call:
            side.receive(call.say(side.send(Hello())))
        ticket = side.ticket()
        assert ticket is not None
        assert lost.wait(LIMIT_S)
        wait_for(lambda: server.sessions == 0)
        address = f"localhost:{server.port}"
        other = folders.party("other", CLIENT)
        with (
            pytest.raises(AbortedError, match="other-session"),
            connect(address, other, ticket=ticket),
        ):
            pass
        with connect(address, folders.hospital, ticket=ticket) as channel:
            assert channel.session == side.session
            channel.send(Queries(2))
            assert isinstance(channel.receive(), LayerOpen)
        # In a query there is nothing to go on with.
        with (
            pytest.raises(AbortedError, match="other-session"),
            connect(address, folders.hospital, ticket=ticket),
        ):
            pass


def test_a_client_that_is_gone_is_a_lost_peer(folders: PartyFolders) -> None:
    bank = Bank()
    with serving(folders, bank.handle) as server:
        with RawCall(server.port, folders.hospital) as call:
            side, data = hello(folders.hospital)
            side.receive(call.say(data))
            side.receive(call.say(side.send(Queries(2))))
        assert bank.wait() == [AbortCode.PEER_LOST]
        assert bank.machines[0].state is PartyState.ABORTED


def test_a_handler_sees_that_its_client_is_gone_without_waiting_for_it(
    folders: PartyFolders,
) -> None:
    greeted, gone = threading.Event(), threading.Event()

    def handler(peer: Peer, channel: PartyChannel) -> None:
        channel.receive()
        greeted.set()
        wait_for(lambda: channel.gone)
        gone.set()

    with serving(folders, handler) as server:
        with RawCall(server.port, folders.hospital) as call:
            call.whisper(hello(folders.hospital)[1])
            assert greeted.wait(LIMIT_S)
        assert gone.wait(LIMIT_S)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (RuntimeError("weights: 0.123"), "operator", "an error of the other party's program"),
        (BudgetError("3.1 bits spent"), "budget", "the budget does not allow it"),
        (ProtocolError("server", "agreed", "layer 7"), "protocol", "server (agreed): layer 7"),
    ],
)
def test_an_error_of_the_servers_program_ends_the_session_and_tells_no_secret(
    folders: PartyFolders, raised: Exception, code: str, said: str
) -> None:
    def handler(peer: Peer, channel: PartyChannel) -> None:
        channel.receive()
        raise raised

    with (
        serving(folders, handler) as server,
        connect(f"localhost:{server.port}", folders.hospital) as channel,
    ):
        channel.send(Hello())
        with pytest.raises(AbortedError) as error:
            channel.receive()
    assert (error.value.by, error.value.code, error.value.reason) == ("server", code, said)


def failing(port: int, folder: Path, client: ClientMachine) -> None:
    """Open a session and fail in it."""
    with connect(f"localhost:{port}", folder) as channel:
        channel.bind(client)
        channel.send(client.hello())
        client.receive(channel.receive())
        raise ValueError("x is secret")


def test_an_error_of_the_clients_program_ends_the_session_on_both_sides(
    folders: PartyFolders,
) -> None:
    bank, client = Bank(), ClientMachine()
    with serving(folders, bank.handle) as server:
        with pytest.raises(ValueError, match="x is secret"):
            failing(server.port, folders.hospital, client)
        assert bank.wait() == [AbortCode.OPERATOR]
    ended = bank.machines[0].ended
    assert ended is not None
    assert "secret" not in ended.reason
    assert client.ended == ended


def test_a_server_stops_within_a_second_and_tells_its_clients(folders: PartyFolders) -> None:
    bank = Bank()
    with serving(folders, bank.handle) as server, ExitStack() as stack:
        channels = [
            stack.enter_context(connect(f"localhost:{server.port}", folders.hospital))
            for _ in range(3)
        ]
        for channel in channels:
            channel.send(Hello())
            channel.receive()
        started = time.perf_counter()
        server.stop("maintenance")
        assert time.perf_counter() - started < 1.0
        for channel in channels:
            with pytest.raises(AbortedError, match="maintenance") as error:
                channel.receive(LIMIT_S)
            assert (error.value.by, error.value.code) == ("server", AbortCode.OPERATOR)


def test_a_message_out_of_place_is_not_sent(folders: PartyFolders) -> None:
    bank = Bank()
    with (
        serving(folders, bank.handle) as server,
        connect(f"localhost:{server.port}", folders.hospital) as channel,
    ):
        with pytest.raises(ProtocolError, match="expected Abort or Hello"):
            channel.send(Close())
        channel.send(Hello())
        channel.receive()
        with pytest.raises(ProtocolError, match="this party speaks"):
            channel.receive()
        channel.abort(AbortCode.SAFETY, "the shutter is stuck")
        with pytest.raises(AbortedError, match="the shutter is stuck"):
            channel.send(Queries(2))
        assert bank.wait() == [AbortCode.SAFETY]
