"""Checks of an attack's strength: a number outside what can be tried is a `SettingError`."""

from __future__ import annotations

from labctl.errors import SettingError


def require_share(attack: str, name: str, value: float) -> None:
    """Raise SettingError unless a share is 0 to 1."""
    if not 0.0 <= value <= 1.0:
        raise SettingError(f"{attack} {name}", value, "a share, 0 to 1")
