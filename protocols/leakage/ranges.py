"""The check of a setting against its range."""

from __future__ import annotations

from labctl.errors import SettingError


def require(name: str, value: float, holds: bool, valid: str) -> None:
    """Raise SettingError with the name and the valid range unless the condition `holds`."""
    if not holds:
        raise SettingError(name, value, valid)
