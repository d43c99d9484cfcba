"""The packages of the extra `train`, loaded when training starts and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from labctl.errors import UsageError


def optional(module: str) -> Any:
    """Import a package that only training needs; raises UsageError with what to install."""
    try:
        return import_module(module)
    except ImportError as problem:
        raise UsageError(
            f"training needs {module}, which cannot be imported ({problem}): "
            "pip install 'labctl[train]'"
        ) from problem
