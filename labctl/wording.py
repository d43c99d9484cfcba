"""Words beside numbers in what people read."""

from __future__ import annotations


def counted(number: int, one: str, many: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "query", "queries"), counted(3, "query", "queries")
    ('1 query', '3 queries')
    """
    return f"{number} {one if number == 1 else many}"
