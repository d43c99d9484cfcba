"""What every test starts from: Ctrl-C works, as at a terminal."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_not_ignored() -> None:
    """A shell starts background jobs with SIGINT ignored, which child processes would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
