"""What the pytest plugin costs a project that does not use it: `pytest --version` with and without.

Usage: python benchmarks/plugin_cost.py [RUNS]. CPU time of the process, in ms; the two take turns.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile


def cpu_ms(*options: str) -> float:
    """Return user and system time of one `pytest --version` in an empty folder, in ms."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pytest", "--version", *options],
            cwd=folder,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
            capture_output=True,
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    """Print median and spread of both."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    cpu_ms()
    found: dict[str, list[float]] = {"with the plugin": [], "without": []}
    for _ in range(runs):
        found["with the plugin"].append(cpu_ms())
        found["without"].append(cpu_ms("-p", "no:labctl"))
    for name, values in found.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name}: median {middle:.0f} ms of CPU, middle half {low:.0f} to {high:.0f} ms")


if __name__ == "__main__":
    main()
