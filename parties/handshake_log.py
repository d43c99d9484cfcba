"""Refusals at the TLS handshake in the log: gRPC writes them to the process' stderr alone.

No call comes of such a connection, so that a server's own code never sees it. While this is on,
what the process writes to stderr goes through a pipe: gRPC's lines about handshakes become log
records, all others go on as they came. It is for the program that serves, once, not for libraries.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from labctl.parties.channel import LOG

# The descriptor of stderr in any process (POSIX).
_STDERR = 2
_FAILED = re.compile(rb"\bssl_transport_security\S*\] Handshake failed with error (.*)")
# "SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:", which says nothing to people.
_LIBRARY = re.compile(r"^.*OPENSSL_internal:|: (OK|Invalid certificate verification context)$")


@contextmanager
def handshakes_logged() -> Iterator[None]:
    """Log why handshakes fail, in the block, as warnings of `labctl.parties`."""
    own = os.dup(_STDERR)
    come, go = os.pipe()
    os.dup2(go, _STDERR)
    os.close(go)
    reader = threading.Thread(target=_read, args=(come, own), daemon=True)
    reader.start()
    try:
        yield
    finally:
        # The pipe ends with its last writer, this descriptor, and the thread with the pipe.
        os.dup2(own, _STDERR)
        reader.join()
        os.close(own)


def reason_in(line: bytes) -> str | None:
    """Return why a handshake failed, if a line of gRPC's says so."""
    found = _FAILED.search(line)
    if found is None:
        return None
    return _LIBRARY.sub("", found[1].decode("utf-8", "replace").strip())


def _read(come: int, own: int) -> None:
    with os.fdopen(come, "rb") as lines:
        for line in lines:
            reason = reason_in(line)
            if reason is None:
                os.write(own, line)
            else:
                LOG.warning("refused at the handshake: %s", reason)
