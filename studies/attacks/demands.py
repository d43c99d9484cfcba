"""What attacks demand of a session that they are mounted in; raises SettingError otherwise."""

from __future__ import annotations

from labctl import checks
from labctl.protocols.settings import Sampling, SessionSettings


def require_returned_light(settings: SessionSettings) -> None:
    """Refuse a session whose returned light is not drawn."""
    sampling = settings.sampling
    checks.require(sampling is Sampling.ALL, "sampling", str(sampling), "all: light must return")


def require_whole_rows(settings: SessionSettings, why: str) -> None:
    """Refuse a session whose rows are collected in blocks; `why`: what the attack does."""
    blocks = settings.channel.block_modes
    checks.require(blocks is None, "block_modes", blocks, f"none: {why}")
