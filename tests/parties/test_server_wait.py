"""A client waits for a server that is just starting, and for nothing else."""

from __future__ import annotations

import re
import socket
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

from bank import CLIENT, Bank, serving
from party_folders import PartyFolders

from labctl.errors import AbortedError, IdentityError, SettingError
from labctl.parties.grpc_server import ChannelServer
from labctl.parties.server_wait import connect_when_there
from labctl.protocols.messages import AbortCode

# Longer than anything here takes, so that a test that waits for nothing is seen.
PATIENCE_S = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.fixture
def folders(tmp_path: Path) -> PartyFolders:
    return PartyFolders(tmp_path)


def test_a_server_that_starts_meanwhile_is_reached(folders: PartyFolders) -> None:
    port, bank = free_port(), Bank()
    waited: list[tuple[str, float]] = []
    with ExitStack() as servers:

        def start(why: str, left_s: float) -> None:
            waited.append((why, left_s))
            if len(waited) == 2:
                server = ChannelServer(f"127.0.0.1:{port}", folders.bank, bank.handle)
                servers.enter_context(server)

        with connect_when_there(
            f"localhost:{port}", folders.hospital, patience_s=PATIENCE_S, on_wait=start
        ) as channel:
            channel.abort(AbortCode.OPERATOR, "that is all")
        assert len(waited) == 2
    assert [why for why, _ in waited] == ["connection refused"] * 2
    assert PATIENCE_S > waited[0][1] > waited[1][1] > 0.0


def test_waiting_has_an_end_that_names_the_address(folders: PartyFolders) -> None:
    address = f"127.0.0.1:{free_port()}"
    with (
        pytest.raises(AbortedError, match=f"no server at {address} in 1 s: connection ref") as end,
        connect_when_there(address, folders.hospital, patience_s=1.0),
    ):
        pass
    assert (end.value.by, end.value.code) == ("client", AbortCode.PEER_LOST)


def test_patience_of_zero_is_one_try(folders: PartyFolders) -> None:
    waited: list[str] = []
    with (
        pytest.raises(AbortedError, match="in 0 s"),
        connect_when_there(
            f"127.0.0.1:{free_port()}",
            folders.hospital,
            patience_s=0.0,
            on_wait=lambda why, left_s: waited.append(why),
        ),
    ):
        pass
    assert waited == []


def refused_at_once(address: str, folder: Path) -> Exception:
    """Return the error, which has to come without a wait."""
    waited: list[str] = []
    began_s = time.monotonic()
    with (
        pytest.raises((AbortedError, IdentityError, SettingError)) as error,
        connect_when_there(
            address,
            folder,
            patience_s=PATIENCE_S,
            on_wait=lambda why, left_s: waited.append(why),
        ),
    ):
        pass
    assert waited == []
    assert time.monotonic() - began_s < PATIENCE_S / 2
    return error.value


def test_a_certificate_that_is_not_accepted_is_final(folders: PartyFolders) -> None:
    with serving(folders, Bank().handle) as server:
        stranger = folders.foreign("stranger", CLIENT)
        found = refused_at_once(f"localhost:{server.port}", stranger)
    assert "foreign" in str(found)


def test_a_server_of_another_authority_is_final(tmp_path: Path, folders: PartyFolders) -> None:
    other = PartyFolders(tmp_path / "other")
    with serving(other, Bank().handle) as server:
        found = refused_at_once(f"localhost:{server.port}", folders.hospital)
    assert re.search("SSL_ERROR_SSL.*certificate", str(found), re.IGNORECASE)


def test_a_refusal_by_name_is_final(folders: PartyFolders) -> None:
    with serving(folders, Bank().handle) as server:
        folders.revoke(folders.hospital, folders.bank)
        found = refused_at_once(f"localhost:{server.port}", folders.hospital)
    assert "revoked" in str(found)


def test_something_else_that_listens_is_final(folders: PartyFolders) -> None:
    def hang_up() -> None:
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, daemon=True).start()
        refused_at_once(f"localhost:{listener.getsockname()[1]}", folders.hospital)
        listener.shutdown(socket.SHUT_RDWR)


def test_a_name_of_no_machine_and_files_that_are_not_there_are_final(
    folders: PartyFolders, tmp_path: Path
) -> None:
    refused_at_once("no-such-host.invalid:4750", folders.hospital)
    refused_at_once("localhost", folders.hospital)
    refused_at_once(f"localhost:{free_port()}", tmp_path / "nothing")
