"""Scripts for drivers: how a conversation with an SCPI instrument is written down."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labctl import testing


@pytest.fixture
def accepted() -> Callable[..., object]:
    """Settings, each followed by an error query that finds nothing."""
    return testing.accepted
