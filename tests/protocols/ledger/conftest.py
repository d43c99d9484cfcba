"""A ledger in its own folder and what it says; the ledgers of both parties for a client."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.run import Ledgers


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def ledger(tmp_path: Path, notices: list[str]) -> Ledger:
    return Ledger(tmp_path / "ledger", Party.SERVER, on_notice=notices.append)


@pytest.fixture
def ledgers(tmp_path: Path) -> Ledgers:
    return Ledgers.in_folder(tmp_path / "ledger", "alice")
