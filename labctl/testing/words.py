"""Words and messages for a front panel, found in its own source, its declaration and its tests."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

from labctl.instruments.codecs.scpi import ScpiCore
from labctl.instruments.simulated.panel import FrontPanel

_WORD = re.compile(r"[\x20-\x7e]{1,24}")
_MESSAGE = re.compile(r"[:*A-Za-z][\x20-\x7e]{0,99}")


def messages_in(*paths: str | Path) -> tuple[str, ...]:
    """Return what looks like messages among the string constants of Python files, sorted.

    For a file of tests with the messages of a panel's specification; one that is missing has none.
    """
    found: set[str] = set()
    for path in map(Path, paths):
        if path.is_file():
            found.update(filter(_MESSAGE.fullmatch, _constants(path.read_text(encoding="utf-8"))))
    return tuple(sorted(found))


@cache
def words_in_source(panel: Callable[..., object]) -> tuple[str, ...]:
    """Return the short words in the source of a panel, and of its package's modules it imports."""
    module = inspect.getmodule(panel)
    assert module is not None
    modules = [module, *(sys.modules[name] for name in _imported(module))]
    words = {word for each in modules for word in _constants(inspect.getsource(each), texts=True)}
    return tuple(sorted(filter(_WORD.fullmatch, words)))


def scpi_cores(panel: FrontPanel) -> list[ScpiCore]:
    """Return the SCPI declarations of a panel; none if it speaks something else."""
    return [part for part in vars(panel).values() if isinstance(part, ScpiCore)]


def package_of(panel: Callable[..., object]) -> str:
    """Return the start of the names of modules that belong to a panel: its package, or itself."""
    name = panel.__module__
    return name.rpartition(".")[0] + "." if "." in name else name


def _imported(module: ModuleType) -> set[str]:
    own = module.__name__.rpartition(".")[0]
    owners = {getattr(value, "__module__", None) for value in vars(module).values()}
    return {name for name in owners if name and own and name.startswith(own + ".")} - {
        module.__name__
    }


def _constants(source: str, *, texts: bool = False) -> set[str]:
    """Return the strings in a source, and bytes as strings unless `texts` alone are wanted."""
    kinds = str if texts else str | bytes
    return {
        node.value if isinstance(node.value, str) else node.value.decode("latin-1")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, kinds)
    }
