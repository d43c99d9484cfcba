"""What TLS has to be between two parties, as far as gRPC can be made to ask for it.

gRPC has no setting for TLS 1.3 alone. Its cipher suites for TLS 1.2 can be set, those of TLS 1.3
cannot: with a suite that needs an RSA key, and certificates with keys over P-256, nobody can agree
on TLS 1.2, and the handshake fails. That setting is one of the process, and another library may
have started gRPC without it, so that a server looks at every call again before it acts on it. The
key exchange can be looked at there alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from labctl.errors import UsageError
from labctl.parties.codec import MOST_BYTES

VERSION, GROUP = "TLSv1.3", "X25519MLKEM768"
# Beside a message of the largest size: what is larger is refused by name, not by gRPC.
_ROOM = 65_536
# What must not be agreed on: no party has an RSA key.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES128-GCM-SHA256")

try:
    import grpc
except ImportError as error:
    raise UsageError(
        "two parties in two processes need gRPC: pip install 'labctl[parties]'"
    ) from error

__all__ = ["BOTH", "GROUP", "VERSION", "grpc", "transport_refusal"]

# Of either side. A connection that is silent is asked after 10 s, and given up 5 s later.
BOTH: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MOST_BYTES + _ROOM),
    ("grpc.max_send_message_length", MOST_BYTES + _ROOM),
    ("grpc.max_metadata_size", 8192),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)


def transport_refusal(found: Mapping[str, Sequence[bytes]]) -> str | None:
    """Return why a connection is refused, by gRPC's `auth_context`; None if it is not."""

    def first(name: str) -> str:
        return b"".join(found.get(name, ())[:1]).decode("utf-8", "replace")

    if first("transport_security_type") != "ssl":
        return f"plain text; expected {VERSION}"
    if first("ssl_tls_version") != VERSION:
        return f"{first('ssl_tls_version') or 'no TLS'}; expected {VERSION}"
    group = first("ssl_negotiated_key_exchange_group")
    if group != GROUP:
        return f"key exchange {group or 'unknown'}; expected {GROUP}"
    return None
