"""A driver and a panel in another package, tested by the public kit, found by labctl.

The package is examples/my_lab, a copy of it in a folder with the metadata that an installation
leaves, used by other processes. The pages on drivers and panels show the same files; what the page
on testing shows is run as a further file of its tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "examples" / "my_lab"
SCRIPT = """from pathlib import Path

from labctl.errors import LimitError
from labctl.instruments.capabilities import VoltageSource
from labctl.station import Station

with Station.read(Path("station.toml")) as station:
    source = station.instrument("spare", VoltageSource)
    source.set_voltage(2.5)
    print(source.voltage_v())
    try:
        source.set_voltage(6.0)
    except LimitError as error:
        print(error)
"""


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package and the metadata of its installation."""
    folder = tmp_path_factory.mktemp("own") / "my_lab"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    page = "\n\n".join(blocks("testing.md", "python"))
    (folder / "tests" / "test_page.py").write_text(page, encoding="utf-8")
    metadata = folder / "my_lab-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_its_tests_pass_which_use_the_public_kit_alone(folder: Path) -> None:
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)
    assert "skipped" not in done.stdout
    tests = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.glob("tests/*.py"))
    used = set(re.findall(r"from (labctl[\w.]*) import", tests))
    assert used == {"labctl", "labctl.clock", "labctl.errors", "labctl.testing"}


def test_the_same_tests_run_on_a_station(folder: Path) -> None:
    """A second bench replaces the instrument; what looks at its own bench is skipped."""
    far = folder / "far"
    far.mkdir()
    for name in ("bench.toml", "station.toml"):
        shutil.copy(folder / name, far)
    done = run(
        folder,
        *("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"),
        *("--labctl-station", "far/station.toml", "-k", "station or queues or time or read_back"),
    )
    assert done.returncode == 0, done.stdout
    assert "needs a simulated bench, which --labctl-station replaces" in done.stdout


def test_the_pages_show_its_files() -> None:
    for page, module in (("drivers.md", "example_vs1"), ("panels.md", "example_vs1_panel")):
        source = (PACKAGE / "my_lab" / f"{module}.py").read_text(encoding="utf-8")
        assert blocks(page, "python")[0] == source, page
    points, bench = blocks("panels.md", "toml")[:2]
    shown = tomllib.loads(points)["project"]["entry-points"]
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"] == shown
    assert bench in (PACKAGE / "bench.toml").read_text(encoding="utf-8")


def test_a_station_sets_it_within_limits(folder: Path) -> None:
    done = run(folder, "-c", SCRIPT)
    assert done.stderr == ""
    value, refusal = done.stdout.splitlines()
    assert value == "2.5"
    assert "voltage_v = 6.0 refused, must be 0 to 5 V by limits.voltage_v at" in refusal


def test_the_commands_know_it(folder: Path) -> None:
    listed = run(folder, "-m", "labctl", "instruments", "list", "--json")
    assert "example_vs1" in json.dumps(json.loads(listed.stdout))
    checked = run(folder, "-m", "labctl", "station", "check", "station.toml")
    assert checked.returncode == 0, checked.stderr


def test_a_wrong_option_is_found_without_opening_anything(folder: Path) -> None:
    station = (folder / "station.toml").read_text(encoding="utf-8")
    wrong = station.replace("max_voltage_v = 8.0", "max_volts = 8.0")
    assert wrong != station
    (folder / "wrong.toml").write_text(wrong, encoding="utf-8")
    checked = run(folder, "-m", "labctl", "station", "check", "wrong.toml")
    assert checked.returncode == 2
    assert re.search(r"wrong\.toml:\d+.*max_volts", checked.stdout + checked.stderr)
