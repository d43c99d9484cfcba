"""Locks among the HiSLIP clients of one instrument.

Source: IVI-6.1, AsyncLock transaction: one exclusive lock, or a shared one for all who know its
string; who shares may also take the exclusive one. Locks do not nest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import IntEnum

# A client that holds a lock and has said nothing for so long loses it to one that waits. No
# measurement of one message takes longer.
LONGEST_SILENCE_S = 300.0


class LockReply(IntEnum):
    """Control codes of AsyncLockResponse."""

    FAILURE = 0
    SUCCESS = 1
    SHARED_RELEASED = 2
    ERROR = 3


class Locks:
    """Who holds which lock. Clients are distinguished by identity.

    `silent_s` returns for how long a client has said nothing.
    """

    def __init__(self, silent_s: Callable[[object], float] = lambda _: 0.0) -> None:
        self._silent_s = silent_s
        self._exclusive: object | None = None
        self._shared: set[object] = set()
        self._key = ""
        self._changed = asyncio.Event()

    @property
    def is_exclusive(self) -> bool:
        """Whether a client holds the exclusive lock."""
        return self._exclusive is not None

    @property
    def holders(self) -> int:
        """The number of clients that hold a lock."""
        return len(self._shared | {self._exclusive} - {None})

    def permits(self, client: object) -> bool:
        """Return whether a client is not locked out by others."""
        self._forget_the_silent(client)
        if self._exclusive is not None:
            return self._exclusive is client
        return not self._shared or client in self._shared

    def take(self, client: object, key: str) -> LockReply:
        """Take the exclusive lock, or with a key the shared one; FAILURE if others are in the way.

        ERROR if the client holds that lock already.
        """
        held = client in self._shared if key else self._exclusive is client
        if held:
            return LockReply.ERROR
        self._forget_the_silent(client)
        if not self._is_free(client, key):
            return LockReply.FAILURE
        if key:
            self._shared.add(client)
            self._key = key
        else:
            self._exclusive = client
        return LockReply.SUCCESS

    def release(self, client: object) -> LockReply:
        """Give up the exclusive lock, else the shared one; ERROR if the client holds none."""
        if self._exclusive is client:
            self._exclusive = None
            reply = LockReply.SUCCESS
        elif client in self._shared:
            self._shared.discard(client)
            reply = LockReply.SHARED_RELEASED
        else:
            return LockReply.ERROR
        self.wake()
        return reply

    def leave(self, client: object) -> None:
        """A client is gone, and its locks with it."""
        if self._exclusive is client:
            self._exclusive = None
        self._shared.discard(client)
        self.wake()

    def wake(self) -> None:
        """Let all who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until a lock was released, or `wake` was called."""
        await self._changed.wait()

    def _forget_the_silent(self, but: object) -> None:
        """Take the locks of others that have been silent for too long."""
        for holder in (self._shared | {self._exclusive}) - {None, but}:
            if self._silent_s(holder) >= LONGEST_SILENCE_S:
                self.leave(holder)

    def _is_free(self, client: object, key: str) -> bool:
        if self._exclusive is not None and self._exclusive is not client:
            return False
        if not self._shared:
            return True
        return key == self._key if key else client in self._shared
