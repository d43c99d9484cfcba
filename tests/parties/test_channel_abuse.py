"""Who breaks the rules of the channel is cut off, and others are not disturbed."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("google.protobuf", reason="needs labctl[parties]")
# Not by importing it: labctl sets what gRPC reads when it starts.
if find_spec("grpc") is None:
    pytest.skip("needs labctl[parties]", allow_module_level=True)

import two_parties
from bank import CLIENT, LIMIT_S, Bank, greet, hello, serving, wait_for
from party_folders import PartyFolders
from raw_clients import RawCall, http2_request, tls, until_closed

from labctl.errors import AbortedError
from labctl.parties.codec import MOST_BYTES
from labctl.parties.conversation import DEADLINES_S
from labctl.parties.grpc_client import connect
from labctl.parties.limits import Pace, ServerLimits
from labctl.protocols.client.machine import ClientMachine
from labctl.protocols.messages import AbortCode, Queries
from labctl.protocols.states import PartyState


def test_garbage_in_a_session_is_answered_with_an_abort(folders: PartyFolders) -> None:
    bank = Bank()
    noise = os.urandom(900_000)
    with serving(folders, bank.handle) as server:
        for number, (data, code) in enumerate(
            [(noise, "malformed"), (b"", "malformed"), (bytes(MOST_BYTES + 1), "oversized")], 1
        ):
            with RawCall(server.port, folders.hospital) as call:
                answer = two_parties.decoded(call.say(data))
                assert code in str(answer)
            assert bank.wait(number)[-1] == code
        greet(server.port, folders.hospital)


def test_a_replayed_envelope_ends_the_session(folders: PartyFolders) -> None:
    bank = Bank()
    with serving(folders, bank.handle) as server, RawCall(server.port, folders.hospital) as call:
        side, data = hello(folders.hospital)
        side.receive(call.say(data))
        begun = side.send(Queries(2))
        side.receive(call.say(begun))
        assert "old-sequence" in str(two_parties.decoded(call.say(begun)))
        assert bank.wait() == [AbortCode.OLD_SEQUENCE]
        assert bank.machines[0].state is PartyState.ABORTED


def test_what_was_said_in_one_session_says_nothing_in_another(folders: PartyFolders) -> None:
    bank = Bank()
    with serving(folders, bank.handle) as server:
        side, data = hello(folders.hospital)
        with RawCall(server.port, folders.hospital) as call:
            side.receive(call.say(data))
        begun = side.send(Queries(2))
        with RawCall(server.port, folders.hospital) as call:
            call.say(data)
            assert "other-session" in str(two_parties.decoded(call.say(begun)))


QUICK = {**DEADLINES_S, PartyState.NEW: 1.0, PartyState.AGREED: 1.0}


def test_a_silent_client_is_cut_off_by_name_and_others_are_not(folders: PartyFolders) -> None:
    bank = Bank()
    limits = ServerLimits(deadlines_s=QUICK)
    with serving(folders, bank.handle, limits) as server:
        with RawCall(server.port, folders.hospital) as silent:
            assert "timeout" in str(two_parties.decoded(next(silent.call)))
        with connect(f"localhost:{server.port}", folders.hospital) as channel:
            channel.send(ClientMachine().hello())
            channel.receive()
            with pytest.raises(AbortedError, match="server ended the session") as error:
                channel.receive(LIMIT_S)
            assert error.value.code == AbortCode.TIMEOUT
        assert bank.wait(2) == [AbortCode.TIMEOUT] * 2
        greet(server.port, folders.hospital)


def test_calls_that_say_nothing_hold_no_place_for_long(folders: PartyFolders) -> None:
    bank = Bank()
    limits = ServerLimits(deadlines_s=QUICK, sessions=8, sessions_per_client=8)
    with serving(folders, bank.handle, limits) as server, ExitStack() as stack:
        slow = [stack.enter_context(RawCall(server.port, folders.hospital)) for _ in range(8)]
        for call in slow:
            assert "timeout" in str(two_parties.decoded(next(call.call)))
        wait_for(lambda: server.sessions == 0)
        greet(server.port, folders.hospital)
        assert bank.wait(9).count(AbortCode.TIMEOUT) == 8


@pytest.mark.parametrize("said", [0, 24, 33])
def test_who_says_a_byte_at_a_time_is_cut_off(folders: PartyFolders, said: int) -> None:
    """After the handshake; after that many bytes of what opens a call at once."""
    request = http2_request()
    limits = ServerLimits(handshake_s=0.5, idle_s=0.5)
    with (
        serving(folders, Bank().handle, limits) as server,
        tls(server.port, folders.hospital) as slow,
    ):
        slow.sendall(request[:said])
        closed = threading.Event()

        def listen() -> None:
            until_closed(slow)
            closed.set()

        watch = threading.Thread(target=listen)
        watch.start()
        greeted = False
        # All but the last byte, however long the server listens.
        for byte in request[said:-1]:
            if closed.wait(0.01):
                break
            with suppress(ConnectionError, ssl.SSLError):
                slow.sendall(bytes([byte]))
            if not greeted:
                greet(server.port, folders.hospital)
                greeted = True
        assert closed.wait(LIMIT_S)
        watch.join()


def rss_bytes() -> int:
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("memory is read as on Linux")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_two_hundred_connections_a_million_random_bytes_and_half_a_handshake_disturb_nobody(
    folders: PartyFolders,
) -> None:
    bank = Bank()
    limits = ServerLimits(handshake_s=1.0)
    with serving(folders, bank.handle, limits) as server, ExitStack() as stack:
        greet(server.port, folders.hospital)
        before = rss_bytes()
        idle = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_S)
            )
            for _ in range(200)
        ]
        for connection in idle[::2]:
            # The start of a TLS record whose rest never comes.
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        noise = os.urandom(1_000_000)
        with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_S) as garbage:
            with suppress(ConnectionError):
                garbage.sendall(noise)
            until_closed(garbage)
        with tls(server.port, folders.hospital) as secured:
            with suppress(ConnectionError, ssl.SSLError):
                secured.sendall(noise)
            until_closed(secured)
        started = time.perf_counter()
        greet(server.port, folders.hospital)
        assert time.perf_counter() - started < 2.0
        for connection in idle:
            until_closed(connection)
        assert rss_bytes() - before < 64_000_000
    assert bank.ends == ["closed", "closed"]


def open_two(stack: ExitStack, address: str, folders: PartyFolders) -> None:
    """Have the hospital begin two sessions that last as long as the stack."""
    for _ in range(2):
        channel = stack.enter_context(connect(address, folders.hospital))
        channel.send(ClientMachine().hello())
        channel.receive()


def assert_too_many(address: str, folders: PartyFolders, words: str) -> None:
    """Have the hospital refused one session more, in these words."""
    with (
        pytest.raises(AbortedError, match=words) as error,
        connect(address, folders.hospital),
    ):
        pass
    assert error.value.code == AbortCode.TOO_MANY


def test_more_sessions_than_the_limit_are_refused_by_name(
    folders: PartyFolders, warnings: Callable[[], str]
) -> None:
    bank = Bank()
    limits = ServerLimits(sessions=2)
    with serving(folders, bank.handle, limits) as server, ExitStack() as stack:
        address = f"localhost:{server.port}"
        open_two(stack, address, folders)
        assert_too_many(address, folders, "2 sessions are open, the maximum")
        assert "(too-many): 2 sessions are open" in warnings()
        stack.close()
        wait_for(lambda: server.sessions == 0)
        greet(server.port, folders.hospital)


def test_one_client_cannot_take_the_places_of_all(
    folders: PartyFolders, warnings: Callable[[], str]
) -> None:
    bank, other = Bank(), folders.party("clinic", CLIENT)
    limits = ServerLimits(sessions=4, sessions_per_client=2)
    with serving(folders, bank.handle, limits) as server, ExitStack() as stack:
        address = f"localhost:{server.port}"
        open_two(stack, address, folders)
        assert_too_many(address, folders, "2 sessions of this client are open")
        assert "(too-many): 2 sessions of this client are open" in warnings()
        assert greet(server.port, other).name == "bank"
        stack.close()
        wait_for(lambda: server.sessions == 0)
        greet(server.port, folders.hospital)


def test_a_client_that_says_too_much_is_read_no_faster_and_then_refused(
    folders: PartyFolders,
) -> None:
    bank = Bank()
    with (
        serving(folders, bank.handle, ServerLimits(messages_per_s=0.5)) as server,
        ExitStack() as stack,
    ):
        # Opening counts as a message; the second one was not said, so that nothing waits.
        stack.enter_context(connect(f"localhost:{server.port}", folders.hospital))
        with pytest.raises(AbortedError, match=r"more than 0\.5 messages per second") as error:
            stack.enter_context(connect(f"localhost:{server.port}", folders.hospital))
        assert error.value.code == AbortCode.TOO_MANY


def test_the_pace_of_each_client_is_its_own() -> None:
    now = [0.0]
    pace = Pace(100.0, lambda: now[0])
    assert [pace.wait_s("a") for _ in range(200)] == [0.0] * 200
    assert pace.wait_s("a") == pytest.approx(0.01)
    assert pace.wait_s("a") == pytest.approx(0.02)
    assert pace.wait_s("b") == 0.0
    now[0] = 0.5
    assert pace.wait_s("a") == 0.0
    # In the long run as many a second as the limit says.
    said = 0
    while now[0] < 20.5:
        wait = pace.wait_s("c")
        now[0] += max(wait, 0.001)
        said += 1
    assert 2000 <= said <= 2250
