"""A driver and a panel in a package of one's own, from the pages alone, found like installed ones.

The package is written from the code blocks of docs/drivers.md and docs/panels.md into a folder with
the metadata that an installation leaves, and used by other processes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from labctl.data import shipped_bench_path

DOCS = Path(__file__).resolve().parents[2] / "docs"
STATION = """library = "bench.toml@labctl"

[instruments.spare]
driver = "example_vs1"
address = "TCPIP0::192.0.2.50::inst0::INSTR"
options = { max_voltage_v = 8.0 }
limits = { voltage_v = { low = 0.0, high = 5.0 } }
"""
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
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package `my_lab`, its metadata, a bench and a station file."""
    folder = tmp_path_factory.mktemp("own")
    package, metadata = folder / "my_lab", folder / "my_lab-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text('"""Instruments of my lab."""\n', encoding="utf-8")
    (package / "example_vs1.py").write_text(blocks("drivers.md", "python")[0], encoding="utf-8")
    (package / "example_vs1_panel.py").write_text(
        blocks("panels.md", "python")[0], encoding="utf-8"
    )
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    points = ConfigParser()
    points.read_string(blocks("panels.md", "toml")[0].replace('"', ""))
    lines = [
        f"[{section.removeprefix('project.entry-points.')}]\n{name} = {target}\n"
        for section in points.sections()
        for name, target in points[section].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    bench = shipped_bench_path().read_text(encoding="utf-8") + "\n" + blocks("panels.md", "toml")[1]
    (folder / "bench.toml").write_text(bench, encoding="utf-8")
    (folder / "station.toml").write_text(STATION, encoding="utf-8")
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
    wrong = STATION.replace("max_voltage_v = 8.0", "max_volts = 8.0")
    (folder / "wrong.toml").write_text(wrong, encoding="utf-8")
    checked = run(folder, "-m", "labctl", "station", "check", "wrong.toml")
    assert checked.returncode == 2
    assert re.search(r"wrong\.toml:\d+.*max_volts", checked.stdout + checked.stderr)
