"""Whether a station's instruments may be used: not in a forked child, not once it is being left.

All that a station hands out asks its gate before each call. Another thread that is in the middle of
its work would otherwise switch on again what the way out has just switched off.
"""

from __future__ import annotations

import os

from labctl.errors import StoppedError, UsageError


class Gate:
    """Open from the station's opening until it is closed for a reason, in one process."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why it is closed; None while it is open."""
        return self._reason

    def close(self, reason: str) -> None:
        """Refuse all calls from now on; the first reason stays."""
        self._reason = self._reason or reason

    def check(self, instrument: str) -> None:
        """Raise UsageError in another process, StoppedError once it is closed."""
        if self._process != os.getpid():
            raise UsageError(
                f"{instrument}: opened by process {self._process}; a forked child "
                f"(process {os.getpid()}) must open its own station, or ask its parent"
            )
        if self._reason is not None:
            raise StoppedError(instrument, self._reason)
