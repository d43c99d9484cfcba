"""Connects to a server that may be just starting: waits while nobody is at its address.

What a server says is final at once: a refusal, a certificate that is not in order, no answer. Only
an address where nothing listens yet, or a machine that is not up yet, is tried again.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from labctl import checks
from labctl.errors import AbortedError
from labctl.parties.channel import PartyChannel
from labctl.parties.grpc_client import connect
from labctl.protocols.messages import AbortCode

# Between two tries, in s: short beside what a server takes to start.
_AGAIN_S = 0.5
# For a bare connection, in s: on any network that light is sent beside.
_PROBE_S = 2.0

Waits = Callable[[str, float], None]


@contextmanager
def connect_when_there(
    address: str, folder: Path, *, patience_s: float, on_wait: Waits | None = None
) -> Iterator[PartyChannel]:
    """Yield a channel as `connect`, tried for `patience_s` while nobody is at the address.

    on_wait: called before each further try, with why nobody is there, and for how many seconds it
    is tried yet. Raises AbortedError, naming the address, once patience is over.
    """
    checks.at_least("patience_s", patience_s, 0.0, " s")
    until_s = time.monotonic() + patience_s
    # A server may begin to listen between a refused connection and the look at it.
    again = True
    with ExitStack() as stack:
        while True:
            try:
                channel = stack.enter_context(connect(address, folder))
                break
            except AbortedError as error:
                if error.code != AbortCode.PEER_LOST or error.by != "client":
                    raise
                why = _nobody_at(address)
                if why is None and not again:
                    raise
                again = why is not None
            left_s = until_s - time.monotonic()
            if why is not None:
                if left_s <= 0.0:
                    reason = f"no server at {address} in {patience_s:g} s: {why}"
                    raise AbortedError("client", str(AbortCode.PEER_LOST), reason)
                if on_wait is not None:
                    on_wait(why, left_s)
                time.sleep(min(_AGAIN_S, left_s))
        yield channel


def _nobody_at(address: str) -> str | None:
    """Return why no connection comes to be, None if one does or the name is of no machine."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PROBE_S):
            return None
    except socket.gaierror:
        return None
    except OSError as error:
        return (error.strerror or str(error)).lower()
