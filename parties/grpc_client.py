"""The client's end of the channel: gRPC over mutual TLS 1.3."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from labctl import checks
from labctl.errors import AbortedError, ProtocolError, SettingError
from labctl.parties.certificates import Certificate, Credentials
from labctl.parties.channel import LOG, PartyChannel, Peer
from labctl.parties.conversation import Conversation
from labctl.parties.grpc_server import METHOD, peer_of
from labctl.parties.queue_wire import QueueWire
from labctl.parties.seals import Ticket, Verifier
from labctl.parties.tls import BOTH, grpc
from labctl.party import Party
from labctl.protocols.ledger.signing import PublicKey
from labctl.protocols.messages import AbortCode

CONNECT_S = 10.0
"""How long a server may take to let a client in."""
RETURN_S = 60.0
"""How long to try for a session that was lost, in s: a network that is away for longer is down."""
# Between two tries, in s: a server notices a cut connection within some milliseconds.
_AGAIN_S = 1.0


@contextmanager
def connect(
    address: str, folder: Path, *, ticket: Ticket | None = None, timeout_s: float = CONNECT_S
) -> Iterator[PartyChannel]:
    """Yield a channel to the server at an address (HOST:PORT); its end ends the session.

    folder: the client's, as `labctl keys` fills it. ticket: of a session to go on with. An error
    in the block aborts the session. Raises AbortedError where the server does not let the client
    in: its code and reason; IdentityError for a folder that is not in order.
    """
    checks.positive("timeout_s", timeout_s, " s")
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal():
        raise SettingError("address", address, "HOST:PORT")
    credentials = Credentials.read(folder, Party.CLIENT)
    secure = grpc.ssl_channel_credentials(
        credentials.authorities, credentials.key.pem, credentials.certificate.pem
    )
    with grpc.secure_channel(address, secure, options=[*BOTH, ("grpc.enable_retries", 0)]) as line:
        wire = QueueWire()
        call = _called(line, wire, timeout_s)
        channel = _channel(host.strip("[]"), address, credentials, wire, ticket)
        reader = threading.Thread(target=_read, args=(call, wire), daemon=True)
        reader.start()
        try:
            with channel:
                if ticket is not None:
                    channel.resume(ticket.committed)
                yield channel
        finally:
            wire.close()
            # The last words go out before the line is cut.
            reader.join(1.0)


@contextmanager
def connect_again(
    address: str, folder: Path, ticket: Ticket, *, patience_s: float = RETURN_S
) -> Iterator[PartyChannel]:
    """Yield a channel that goes on with a lost session, tried for `patience_s`; as `connect`."""
    until_s = time.monotonic() + patience_s
    with ExitStack() as stack:
        while True:
            try:
                channel = stack.enter_context(connect(address, folder, ticket=ticket))
                break
            except AbortedError as error:
                # Refused for now: the server has not seen yet that the first connection is gone.
                again = error.code in (AbortCode.PEER_LOST, AbortCode.OTHER_SESSION)
                if not again or time.monotonic() > until_s:
                    raise
                time.sleep(_AGAIN_S)
        yield channel


def _called(line: Any, wire: QueueWire, timeout_s: float) -> Any:
    """Return the call once the server has let it in; raises AbortedError."""
    call = line.stream_stream(METHOD)(wire.outgoing())
    late = threading.Timer(timeout_s, call.cancel)
    late.start()
    try:
        opened = dict(call.initial_metadata())
    finally:
        late.cancel()
    if opened.get("labctl") != "open":
        wire.close()
        raise _refusal(call, timeout_s)
    return call


def _refusal(call: Any, timeout_s: float) -> AbortedError:
    """Return what a server that does not let a client in said, or what is known of it."""
    details = call.details() or ""
    if call.code() is grpc.StatusCode.CANCELLED:
        return AbortedError("client", str(AbortCode.TIMEOUT), f"no answer in {timeout_s:g} s")
    code, _, reason = details.partition(": ")
    if code in set(AbortCode):
        return AbortedError("server", code, reason)
    return AbortedError("client", str(AbortCode.PEER_LOST), details or str(call.code()))


def _read(call: Any, wire: QueueWire) -> None:
    """Hand in what comes, until the server ends the call."""
    reason = "the server left without an end"
    try:
        for data in call:
            if not wire.offer(data):
                break
    except grpc.RpcError as error:
        reason = str(error.details())
    wire.lose(AbortCode.PEER_LOST, reason)


def _channel(
    host: str, address: str, credentials: Credentials, wire: QueueWire, ticket: Ticket | None
) -> PartyChannel:
    def accept(der: bytes) -> Verifier:
        verifies = credentials.trust.accept(der, Party.SERVER)
        certificate = Certificate.of_der(der)
        if host not in certificate.hosts:
            names = ", ".join(certificate.hosts)
            raise ProtocolError("client", "greeting", f"certificate for {names}, not for {host}")
        channel.peer = peer_of(certificate, Party.SERVER, address)
        LOG.info("speaks with %s", channel.peer)
        return verifies

    conversation = Conversation(Party.CLIENT, credentials.identity, accept, ticket=ticket)
    # Who it is shows with its first message.
    channel = PartyChannel(conversation, wire, Peer("?", Party.SERVER, PublicKey(b""), "", address))
    return channel
