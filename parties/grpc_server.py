"""The server's end of the channel: gRPC over mutual TLS 1.3, a thread for each session.

Before a message is acted on, every call is looked at: TLS, key exchange, certificate, revocation,
number of sessions. A refusal is logged with its reason, and said to who is refused.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

from cryptography import x509

from labctl.errors import AbortedError, IdentityError, ProtocolError, SettingError
from labctl.parties.certificates import Certificate, Credentials
from labctl.parties.channel import LOG, PartyChannel, Peer, WireLostError
from labctl.parties.conversation import Conversation
from labctl.parties.envelope import session_in
from labctl.parties.limits import Pace, ServerLimits
from labctl.parties.queue_wire import QueueWire
from labctl.parties.seals import Verifier, fingerprint
from labctl.parties.tickets import Tickets
from labctl.parties.tls import BOTH, grpc, transport_refusal
from labctl.party import Party
from labctl.protocols.messages import AbortCode
from labctl.protocols.states import PartyState

Handler = Callable[[Peer, PartyChannel], None]

SERVICE, METHOD = "labctl.v1.Parties", "/labctl.v1.Parties/Converse"
# Calls that are refused need a thread too, for as long as a refusal takes.
_SPARE_THREADS = 8
# Of a stop within a second: what is left for the last words of sessions.
_LAST_WORDS_S = 0.5
# A client that has used up its messages by this much is refused a further session.
_MOST_WAIT_S = 1.0


class _RefusedError(Exception):
    """A call that is not answered with a session: the status, the code and the reason."""

    def __init__(self, status: Any, code: AbortCode, reason: str) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason = status, code, reason


class ChannelServer:
    """Accepts clients and calls `handler(peer, channel)` for each session, in its own thread.

    credentials: the server's folder, as `labctl keys` fills it; a renewed certificate and a new
    list of revoked ones count from the next connection on. address: host and port, port 0 for a
    free one. A handler that returns ends its session; an error that it raises aborts it.

    Used in `with`; what is open is aborted at the end, within a second.
    """

    def __init__(
        self, address: str, folder: Path, handler: Handler, *, limits: ServerLimits | None = None
    ) -> None:
        self._folder, self._handler = folder, handler
        self._limits = limits or ServerLimits()
        self._credentials = Credentials.read(folder, Party.SERVER)
        self._pace = Pace(self._limits.messages_per_s)
        self._tickets = Tickets(self._limits.deadlines_s[PartyState.AGREED])
        self._lock = threading.Lock()
        self._open: set[PartyChannel] = set()
        self._taken: Counter[str] = Counter()
        self._stopping = False
        limit = self._limits
        threads = limit.sessions + _SPARE_THREADS
        self._server = grpc.server(
            futures.ThreadPoolExecutor(threads, "labctl-parties"),
            # What is beyond these gRPC refuses by itself: no thread is left to say why.
            maximum_concurrent_rpcs=4 * threads,
            options=[
                *BOTH,
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", 4),
                ("grpc.server_handshake_timeout_ms", round(1e3 * limit.handshake_s)),
                ("grpc.max_connection_idle_ms", round(1e3 * limit.idle_s)),
                ("grpc.max_allowed_incoming_connections", limit.connections),
                # Clients ask every 10 s whether the server is there.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        handlers: dict[str, Any] = {
            "Converse": grpc.stream_stream_rpc_method_handler(self._converse)
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        first = self._configuration(self._credentials)
        secure = grpc.dynamic_ssl_server_credentials(first, self._renewed, True)
        try:
            self.port = self._server.add_secure_port(address, secure)
        except RuntimeError as error:
            valid = "HOST:PORT that is free on this computer"
            raise SettingError("address", address, valid) from error

    def start(self) -> None:
        """Accept clients from now on."""
        self._server.start()
        LOG.info("%s listens at port %d", self._credentials.certificate.name, self.port)

    def stop(self, reason: str = "the server stops") -> None:
        """Abort what is open and accept nobody any more, within a second."""
        with self._lock:
            self._stopping = True
            channels = [*self._open]
        for channel in channels:
            channel.abort(AbortCode.OPERATOR, reason)
        self._server.stop(_LAST_WORDS_S).wait()

    def __enter__(self) -> ChannelServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def sessions(self) -> int:
        """Sessions that are open."""
        return self._taken.total()

    def _renewed(self) -> Any:
        """Return what the next handshake shows and trusts; None for what the last one did."""
        try:
            found = Credentials.read(self._folder, Party.SERVER)
        except IdentityError as error:
            LOG.error("the certificate in use stays: %s", error)
            return None
        self._credentials = found
        return self._configuration(found)

    @staticmethod
    def _configuration(found: Credentials) -> Any:
        pair = found.key.pem, found.certificate.pem
        return grpc.ssl_server_certificate_configuration([pair], found.authorities)

    def _converse(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """One call: a refusal, or a session until its end."""
        try:
            peer, certificate = self._admitted(context)
            self._take_place(peer)
        except _RefusedError as refused:
            LOG.warning("refused %s (%s): %s", context.peer(), refused.code, refused.reason)
            context.abort(refused.status, f"{refused.code}: {refused.reason}")
        wire = QueueWire()
        gone = "the connection ended"
        context.add_callback(lambda: wire.lose(AbortCode.PEER_LOST, gone))
        for work in (self._read, self._session):
            arguments = (wire, peer, requests if work == self._read else certificate)
            threading.Thread(target=work, args=arguments, daemon=True).start()
        # So that a client knows that it was let in before it says anything.
        context.send_initial_metadata((("labctl", "open"),))
        yield from wire.outgoing()

    def _admitted(self, context: Any) -> tuple[Peer, Certificate]:
        """Return who calls; raises _RefusedError."""
        found = context.auth_context()
        reason = transport_refusal(found)
        status = grpc.StatusCode.UNAUTHENTICATED
        if reason is not None:
            raise _RefusedError(status, AbortCode.CERTIFICATE, reason)
        try:
            pem = b"".join(found.get("x509_pem_cert", ())[:1])
            certificate = Certificate(x509.load_pem_x509_certificate(pem))
            reason = self._credentials.trust.refusal_of(certificate, Party.CLIENT)
        except (ValueError, IdentityError) as error:
            reason = str(error) or "no certificate"
        if reason is not None:
            raise _RefusedError(status, AbortCode.CERTIFICATE, reason)
        return peer_of(certificate, Party.CLIENT, context.peer()), certificate

    def _take_place(self, peer: Peer) -> None:
        status = grpc.StatusCode.RESOURCE_EXHAUSTED
        if self._pace.wait_s(peer.fingerprint) > _MOST_WAIT_S:
            reason = f"more than {self._limits.messages_per_s:g} messages per second"
            raise _RefusedError(status, AbortCode.TOO_MANY, reason)
        with self._lock:
            if self._stopping:
                unavailable = grpc.StatusCode.UNAVAILABLE
                raise _RefusedError(unavailable, AbortCode.OPERATOR, "the server stops")
            if self.sessions >= self._limits.sessions:
                reason = f"{self.sessions} sessions are open, the maximum"
                raise _RefusedError(status, AbortCode.TOO_MANY, reason)
            own = self._taken[peer.fingerprint]
            if own >= self._limits.sessions_per_client:
                reason = f"{own} sessions of this client are open, the maximum for one"
                raise _RefusedError(status, AbortCode.TOO_MANY, reason)
            self._taken[peer.fingerprint] = own + 1

    def _read(self, wire: QueueWire, peer: Peer, requests: Iterator[bytes]) -> None:
        """Hand in what comes, no faster than a client may speak."""
        reason = "it left without an end"
        try:
            for data in requests:
                wire.pause(self._pace.wait_s(peer.fingerprint))
                if not wire.offer(data):
                    return
        except Exception as error:
            # gRPC raises an exception of no type when a call ends.
            reason = str(error) or "the connection ended"
        wire.lose(AbortCode.PEER_LOST, reason)

    def _session(self, wire: QueueWire, peer: Peer, certificate: Certificate) -> None:
        """Call the handler, and end the session with it."""
        channel = None
        try:
            channel = self._channel(wire, peer, certificate)
            with self._lock:
                self._open.add(channel)
            LOG.info("%s opens a session", peer)
            if channel.resumes:
                channel.resumed()
            with channel:
                self._handler(peer, channel)
            LOG.info("session with %s ended", peer)
        except AbortedError as error:
            LOG.info("session with %s: %s", peer, error)
        except Exception:
            # The text may hold what only this party may know: it is logged here, and not said.
            LOG.exception("the handler of the session with %s failed", peer)
        finally:
            wire.close()
            with self._lock:
                self._taken[peer.fingerprint] -= 1
                if not self._taken[peer.fingerprint]:
                    del self._taken[peer.fingerprint]
                if channel is not None:
                    self._open.discard(channel)
                    ticket = channel.ticket() if channel.gone and channel.ended is None else None
                    if ticket is not None:
                        self._tickets.keep(ticket)

    def _channel(self, wire: QueueWire, peer: Peer, certificate: Certificate) -> PartyChannel:
        """Return a channel for a new session, or for one that goes on."""
        try:
            data = wire.first(self._limits.deadlines_s[PartyState.NEW])
        except (TimeoutError, WireLostError):
            # The conversation says so, by its name and in its time.
            data = b""

        def accept(der: bytes) -> Verifier:
            if der != certificate.der:
                raise ProtocolError("server", "greeting", "not the certificate of the connection")
            return self._credentials.trust.accept(der, Party.CLIENT)

        conversation = Conversation(
            Party.SERVER,
            self._credentials.identity,
            accept,
            ticket=self._tickets.take(session_in(data), fingerprint(certificate.der)),
            deadlines_s=self._limits.deadlines_s,
        )
        return PartyChannel(conversation, wire, peer)


def peer_of(certificate: Certificate, role: Party, address: str) -> Peer:
    """Return who a certificate is of."""
    whole = fingerprint(certificate.der)
    return Peer(certificate.name, role, certificate.public, whole, address)
