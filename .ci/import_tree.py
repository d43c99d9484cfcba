"""Lay the import tree out as links, so that tools that read folders see what is imported.

Usage: python .ci/import_tree.py [FOLDER] (default .tree). The repository's folders are imported
under other names than those of their folders (see package-dir in pyproject.toml).
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Make the tree again from nothing."""
    tree = ROOT / (sys.argv[1] if len(sys.argv) > 1 else ".tree")
    shutil.rmtree(tree, ignore_errors=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    places = dict(project["tool"]["setuptools"]["package-dir"])
    kernel = places.pop("labctl")
    (tree / "labctl").mkdir(parents=True)
    for entry in (ROOT / kernel).iterdir():
        if entry.name != "__pycache__":
            (tree / "labctl" / entry.name).symlink_to(entry)
    for name, folder in places.items():
        (tree / Path(*name.split("."))).symlink_to(ROOT / folder)


if __name__ == "__main__":
    main()
