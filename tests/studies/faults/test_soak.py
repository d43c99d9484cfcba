"""What the soak command calls growth: memory by more than 5 %, descriptors beyond their range."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import soak

MB = 1_000_000


def samples(megabytes: list[float], descriptors: list[int]) -> list[soak.Sample]:
    """One sample a minute: those of the program, beside a bench that stays as it is."""
    return [
        soak.Sample(60.0 * minute, (round(each * MB), 100 * MB), (open_, 98))
        for minute, (each, open_) in enumerate(zip(megabytes, descriptors, strict=True))
    ]


@pytest.mark.parametrize(
    ("megabytes", "descriptors", "found"),
    [
        ([100.0, 104.0, 104.0, 108.0, 109.0, 109.0], [19] * 6, []),
        ([100.0, 104.0, 106.0, 108.0, 110.0, 112.0], [19] * 6, ["memory of the program"]),
        ([100.0] * 6, [18, 19, 18, 19, 25, 19], []),
        ([100.0] * 6, [18, 19, 19, 20, 20, 21], ["descriptors of the program"]),
    ],
    ids=["memory within 5 %", "memory beyond", "descriptors come and go", "descriptors stay open"],
)
def test_growth_is_told_from_coming_and_going(
    megabytes: list[float], descriptors: list[int], found: list[str]
) -> None:
    said = list(soak.grown(samples(megabytes, descriptors)))
    assert [each.partition(" grew")[0] for each in said] == found


def test_this_process_has_memory_and_descriptors() -> None:
    before = soak.descriptors(os.getpid())
    with Path(__file__).open(encoding="utf-8"):
        assert soak.descriptors(os.getpid()) == before + 1
    assert soak.memory_bytes(os.getpid()) > MB
