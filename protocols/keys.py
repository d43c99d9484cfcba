"""Keys that a party draws in secret from: as long as nobody can guess."""

from __future__ import annotations

from labctl import checks

# 128 bits, the security strength that NIST SP 800-57 (part 1, revision 5, table 4) accepts beyond
# 2030.
_LEAST_KEY_BYTES = 16


def require_key(key: bytes) -> None:
    """Refuse a key that is too short; raises SettingError, which does not show it."""
    holds = len(key) >= _LEAST_KEY_BYTES
    checks.require(holds, "key", f"{len(key)} bytes", f"{_LEAST_KEY_BYTES} bytes or more")
