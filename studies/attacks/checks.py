"""Checks of an attack's strength: a number outside what can be tried is a `SettingError`."""

from __future__ import annotations

from labctl import checks


def require_share(attack: str, name: str, value: float) -> None:
    """Raise SettingError unless a share is 0 to 1."""
    checks.within(f"{attack} {name}", value, 0.0, 1.0)
