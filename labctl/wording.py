"""Words beside numbers in what people read."""

from __future__ import annotations


def counted(number: int, one: str, many: str, shown: str = "d") -> str:
    """Return a number of things in words, the number as the format `shown` has it.

    >>> counted(1, "query", "queries"), counted(3, "query", "queries")
    ('1 query', '3 queries')
    >>> counted(1234567, "image", "images", ".3g")
    '1.23e+06 images'
    """
    return f"{number:{shown}} {one if number == 1 else many}"
