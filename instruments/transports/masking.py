"""Secrets of instruments: which options hold one, and text with every known secret masked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MASK = "***"
_SECRET_NAME = re.compile(r"password|passwd|(?:^|[_-])(?:pin|[a-z]*key)(?:$|[_-])", re.IGNORECASE)
# Shorter secrets may be parts of other words.
_SHORT = 4

_known: set[str] = set()


def is_secret(name: str) -> bool:
    """Return whether an option of this name holds a secret: a password, a pin or a key."""
    return _SECRET_NAME.search(name) is not None


def conceal(options: Mapping[str, object]) -> None:
    """Remember the values of the options that hold secrets, so that `masked` hides them."""
    for name, value in options.items():
        if is_secret(name) and value not in (None, "") and not isinstance(value, bool):
            _known.add(str(value))


def masked(text: str) -> str:
    """Return text with each known secret replaced.

    One of digits alone, or of under four characters, is replaced where it is a word by itself: it
    may be part of a number.
    """
    for secret in sorted(_known, key=len, reverse=True):
        if secret.isdigit() or len(secret) < _SHORT:
            text = re.sub(rf"(?<![\w.]){re.escape(secret)}(?![\w.])", MASK, text)
        else:
            text = text.replace(secret, MASK)
    return text


def masked_arguments(arguments: Iterable[str]) -> list[str]:
    """Return a command line with the values of `--password X`, `--api-key=X` and such masked."""
    shown: list[str] = []
    due = False
    for argument in arguments:
        option, equals, _ = argument.partition("=")
        secret = option.startswith("-") and is_secret(option)
        if due:
            shown.append(MASK)
        else:
            shown.append(f"{option}={MASK}" if secret and equals else masked(argument))
        due = secret and not equals and not due
    return shown
