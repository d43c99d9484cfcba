"""A verdict without its figures in bits, which take most of the time."""

from __future__ import annotations

import pytest

from labctl.protocols.leakage import holevo_bits_per_mode
from labctl.protocols.verification import verdict


@pytest.fixture
def no_leakage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let verdicts state the closed formula as prior-free leakage too: nine tenths of their time.

    Neither checks nor bounds depend on it; what it is at the bounds has separate tests.
    """
    monkeypatch.setattr(verdict, "prior_free_bits_per_mode", holevo_bits_per_mode)
