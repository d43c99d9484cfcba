"""What may sit between a driver and its wire: a recorder, a record played back, or a witness.

Everything is decided when a transport is opened: without a tap the driver holds the wire itself.
`LABCTL_RECORD=FILE` writes all messages of this process to a wire record (`wire_record`), and
`LABCTL_REPLAY=FILE` answers from one instead of opening anything (`wire_replay`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from labctl.clock import Clock
from labctl.environment import RECORD, REPLAY
from labctl.instruments.transports.transport import FrameTransport, MessageTransport

if TYPE_CHECKING:
    from labctl.instruments.transports.transport import LinesTransport


_witness: ContextVar[list[MessageTransport] | None] = ContextVar("witness", default=None)


@contextmanager
def opened_message_transports() -> Iterator[list[MessageTransport]]:
    """Yield a list that takes up each message transport this thread opens inside the block."""
    opened: list[MessageTransport] = []
    token = _witness.set(opened)
    try:
        yield opened
    finally:
        _witness.reset(token)


def tapped_messages(
    name: str, address: str, connect: Callable[[], MessageTransport]
) -> MessageTransport:
    """Return the transport that `connect` opens, behind the tap that is on, if one is.

    Raises what `connect` raises, and RunFileError if a wire record cannot be read or written.
    """
    if replayed := os.environ.get(REPLAY):
        from labctl.instruments.transports.wire_replay import ReplayedMessages

        transport: MessageTransport = ReplayedMessages(replayed, name, address)
    elif recorded := os.environ.get(RECORD):
        from labctl.instruments.transports.wire_record import RecordedMessages

        transport = RecordedMessages(recorded, name, address, connect)
    else:
        transport = connect()
    opened = _witness.get()
    if opened is not None:
        opened.append(transport)
    return transport


def tapped_frames(name: str, address: str, connect: Callable[[], FrameTransport]) -> FrameTransport:
    """Return a frame transport behind the tap that is on; see `tapped_messages`."""
    if replayed := os.environ.get(REPLAY):
        from labctl.instruments.transports.wire_replay import ReplayedFrames

        return ReplayedFrames(replayed, name, address)
    if recorded := os.environ.get(RECORD):
        from labctl.instruments.transports.wire_record import RecordedFrames

        return RecordedFrames(recorded, name, address, connect)
    return connect()


def tapped_clock(name: str, clock: Callable[[], Clock], record: str | None = None) -> Clock:
    """Return a clock behind the tap that is on; `record` is a station's own wire record."""
    if replayed := os.environ.get(REPLAY):
        from labctl.instruments.transports.wire_replay import replay_clock

        return replay_clock(replayed, name)
    if recorded := os.environ.get(RECORD) or record:
        from labctl.instruments.transports.wire_record import record_clock

        return record_clock(recorded, name, clock())
    return clock()


def tapped_lines(name: str, address: str, connect: Callable[[], LinesTransport]) -> LinesTransport:
    """Return a transport of several lines behind the tap that is on; see `tapped_messages`."""
    if replayed := os.environ.get(REPLAY):
        from labctl.instruments.transports.wire_replay import ReplayedLines

        return ReplayedLines(replayed, name, address)
    if recorded := os.environ.get(RECORD):
        from labctl.instruments.transports.wire_record import RecordedLines

        return RecordedLines(recorded, name, address, connect)
    return connect()
