"""Who may come in at a door: by the network that a connection comes from, and by its user.

A refused connection is cut before a byte of it is read, and said in the log `labctl.doors`.
"""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from labctl.clock import Clock, SystemClock
from labctl.visible import visible_logger

Address = tuple[str, int]

_LOG = visible_logger("labctl.doors")
# A program that tries again and again must not fill the disk of the bench's machine.
_MOST_LINES_A_SECOND = 10
_CONNECTIONS = Path("/proc/net/tcp")


@dataclass(frozen=True)
class Entrance:
    """Where a door listens, and whom it lets in; `user_ids` is None for anybody."""

    host: str
    port: int
    networks: tuple[IPv4Network, ...]
    user_ids: frozenset[int] | None = None

    def fault(self, peer: object, own: object) -> str | None:
        """Return why a connection from `peer` to `own`, each host and port, is refused, or None."""
        there, here = _address(peer), _address(own)
        if there is None or here is None:
            return "it has no IPv4 address"
        if not any(IPv4Address(there[0]) in network for network in self.networks):
            return f"it is not from {', '.join(map(str, self.networks))}"
        if self.user_ids is None:
            return None
        user_id = user_of_connection(there, here)
        if user_id is None:
            return "no user of this machine is known to hold it"
        return None if user_id in self.user_ids else f"it is held by user {user_id}"


def _address(value: object) -> Address | None:
    """Return what a socket says of an end of it, if that is an IPv4 address."""
    if not (isinstance(value, tuple) and len(value) == 2):
        return None
    return str(IPv4Address(value[0])), int(value[1])


def user_of_connection(peer: Address, own: Address) -> int | None:
    """Return the id of the user who holds the other end of a TCP connection on this machine.

    None: the other end is elsewhere, in another network namespace or container, or closed by now.
    Linux only. Source: proc(5), /proc/net/tcp: addresses are words in the machine's byte order.
    """
    wanted = f"{_written(peer)} {_written(own)}"
    for line in _CONNECTIONS.read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if f"{fields[1]} {fields[2]}" == wanted:
            # What no program holds any more has no inode, and is shown as root's.
            return int(fields[7]) if int(fields[9]) else None
    return None


def _written(address: Address) -> str:
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{host:08X}:{address[1]:04X}"


def user_ids(names: Iterable[str]) -> frozenset[int]:
    """Return the ids of users, by name or number; raises OSError if there is no such user.

    It is raised too where the system does not tell whose a connection is.
    """
    if not os.access(_CONNECTIONS, os.R_OK):
        raise OSError(0, f"users are known by {_CONNECTIONS}, which is not here")
    return frozenset(int(name) if name.isdecimal() else _user_id(name) for name in names)


def _user_id(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise OSError(0, f"this machine has no user {name!r}") from error


class RefusalLog:
    """Says who was refused: ten lines a second, and how many were left out."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._since_s, self._lines, self._left_out = -1.0, 0, 0

    def say(self, door: str, peer: object, fault: str) -> None:
        """Log one refusal at a door."""
        now_s = self._clock.now_s()
        if now_s - self._since_s >= 1.0:
            self.close()
            self._since_s, self._lines = now_s, 0
        if self._lines >= _MOST_LINES_A_SECOND:
            self._left_out += 1
            return
        self._lines += 1
        who = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) >= 2 else "somebody"
        _LOG.warning("refused %s at %s: %s", who, door, fault)

    def close(self) -> None:
        """Say how many were left out, if any."""
        if self._left_out:
            _LOG.warning("refused %d more", self._left_out)
        self._left_out = 0
