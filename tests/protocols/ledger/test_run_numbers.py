"""Runs of an account are numbered: each number once, so that simulated noise never repeats."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labctl.errors import RecordError
from labctl.protocols.ledger.accounts import Party
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.run_numbers import next_run, seed_of_run

ALICE, BOB = (f"{name}/{'0' * 64}" for name in ("alice", "bob"))


def test_runs_at_the_same_time_get_numbers_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda _: next_run(tmp_path, ALICE), range(12)))
    assert sorted(numbers) == list(range(12))
    assert next_run(tmp_path, BOB) == 0


@pytest.mark.parametrize("left", [None, b"", b"-3", b"many", b"9" * 40])
def test_a_lost_count_goes_on_from_the_queries(tmp_path: Path, left: bytes | None) -> None:
    ledger = Ledger(tmp_path, Party.SERVER)
    ledger.reserve({ALICE: {Meter.QUERIES: 7}}, {})
    if left is not None:
        next_run(tmp_path, ALICE)
        next(tmp_path.glob("runs/alice-*")).write_bytes(left)
    assert next_run(tmp_path, ALICE) == 7
    assert next_run(tmp_path, ALICE) == 8


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RecordError, match="runs"):
        next_run(tmp_path, ALICE)


def test_the_first_run_has_the_seed_given_and_each_further_one_another() -> None:
    seeds = [seed_of_run(seed, number) for seed in (0, 1) for number in range(50)]
    assert (seed_of_run(0, 0), seed_of_run(1, 0)) == (0, 1)
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**48 for seed in seeds)
