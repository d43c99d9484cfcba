"""Scripts for drivers: how a conversation with an SCPI instrument is written down."""

from __future__ import annotations

import pytest

OK = '+0,"No error"'
Steps = list[tuple[str | bytes, str | None]]


@pytest.fixture
def accepted() -> object:
    """Settings, each followed by an error query that finds nothing."""

    def steps(*commands: str | bytes) -> Steps:
        return [step for command in commands for step in ((command, None), ("SYST:ERR?", OK))]

    return steps
