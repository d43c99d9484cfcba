"""Notices to a service manager: that a program is ready, and that it still works.

systemd gives a service the name of a socket, and ends a service that is silent for `WatchdogSec`.
Source: sd_notify(3). Without such a socket nothing is sent.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def ready() -> None:
    """Say that the program has started and does its work from now on."""
    _say(b"READY=1")


def alive() -> None:
    """Say that the program still works; call it from the main thread, where the work is done.

    A few times within `WatchdogSec`. An opened station with a watchdog calls it by itself.
    """
    _say(b"WATCHDOG=1")


def _say(what: bytes) -> None:
    name = os.environ.get("NOTIFY_SOCKET", "")
    # A name of the abstract namespace begins with a zero byte, written as @.
    address = f"\0{name[1:]}" if name.startswith("@") else name
    if not address.startswith(("/", "\0")):
        return
    with (
        suppress(OSError),  # the service manager is gone or busy: the work goes on
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there,
    ):
        there.setblocking(False)
        there.sendto(what, address)
