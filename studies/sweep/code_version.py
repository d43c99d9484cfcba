"""Which code computes: the versions that a point's values may depend on, as one line."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

import labctl.calibration
import labctl.data
import labctl.protocols
import labctl.studies.sweep
from labctl.version import __version__

_PACKAGES = (labctl.calibration, labctl.data, labctl.protocols, labctl.studies.sweep)
_LIBRARIES = ("numpy", "scipy")
# 48 bits: no two versions of a project have the same by chance.
_DIGITS = 12


@cache
def code_version() -> str:
    """Return `labctl VERSION (source HASH), numpy VERSION, scipy VERSION`.

    The hash is over the source of all modules that compute, because a version number says nothing
    about a checkout that is being worked on.
    """
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"labctl {__version__} (source {_source()}), {libraries}"


def _source() -> str:
    digest = hashlib.sha256()
    for package in _PACKAGES:
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package.__name__}/{path.relative_to(folder).as_posix()}\n".encode())
            digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:_DIGITS]
