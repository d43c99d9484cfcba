"""Importing stays light: what is heavy is loaded by the command that needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"scipy", "h5py", "matplotlib", "jax", "optax", "pooch", "pyvisa", "serial", "safetensors"}


def loaded_by(statement: str, folder: Path) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after a statement."""
    script = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=200,
        check=True,
    )
    return set(result.stdout.split())


def test_importing_labctl_loads_nothing_beyond_the_standard_library(tmp_path: Path) -> None:
    mine = loaded_by("import labctl, labctl.errors, labctl.units, labctl.clock", tmp_path)
    foreign = mine - loaded_by("import urllib, ipaddress", tmp_path) - sys.stdlib_module_names
    assert {name for name in foreign if "editable" not in name} == {"labctl"}


def test_importing_the_command_line_loads_none_of_the_heavy_packages(tmp_path: Path) -> None:
    found = loaded_by("import labctl.cli", tmp_path)
    assert "labctl" in found
    assert found & (HEAVY | {"numpy", "pydantic"}) == set()


@pytest.mark.parametrize("module", ["labctl.station.file", "labctl.station", "labctl.safety"])
def test_reading_station_files_loads_no_science(module: str, tmp_path: Path) -> None:
    assert loaded_by(f"import {module}", tmp_path) & (HEAVY | {"numpy"}) == set()


@pytest.mark.parametrize("module", ["labctl.run.inference", "labctl.data.run_file"])
def test_what_runs_inference_draws_no_figures_and_trains_nothing(
    module: str, tmp_path: Path
) -> None:
    found = loaded_by(f"import {module}", tmp_path)
    assert "numpy" in found
    assert found & {"matplotlib", "jax", "optax", "pooch", "pyvisa"} == set()


@pytest.mark.parametrize(
    "module",
    ["labctl.run.inference", "labctl.calibration.calibrator", "labctl.instruments.simulated.bench"],
)
def test_the_slow_half_of_scipy_waits_until_light_or_a_fit_needs_it(
    module: str, tmp_path: Path
) -> None:
    """A second of processor time, which a refused or aborted run need not spend."""
    slow = ("stats", "signal", "optimize", "ndimage", "interpolate", "linalg", "sparse")
    asked = f"import {module}\nassert not {{f'scipy.{{p}}' for p in {slow}}} & set(sys.modules)"
    assert "numpy" in loaded_by(asked, tmp_path)


def test_the_version_is_printed_without_numpy(tmp_path: Path) -> None:
    statement = (
        "import labctl.cli\nsys.argv = ['labctl', '--version']\n"
        "try:\n    labctl.cli.main()\nexcept SystemExit as ended:\n    assert ended.code == 0"
    )
    assert "numpy" not in loaded_by(statement, tmp_path)
