"""One of two sites calibrates what is its own, and says what it cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from served_bench import offers_of
from shipped_sites import ShippedSites
from two_sites import CLIENT, SERVER, station_text

from labctl.calibration.catalogue import ROUTINES, SERVERS_OWN
from labctl.calibration.names import V_PI_V
from labctl.calibration.store import Store
from labctl.errors import StationFileError
from labctl.party import Party
from labctl.station import Station
from labctl.station.equipment import server_site_of

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[3]
JOINT = tuple(each.name for each in ROUTINES if each.name not in SERVERS_OWN)


@pytest.fixture
def site(tmp_path: Path) -> Callable[[Party], str]:
    def write(party: Party) -> str:
        path = tmp_path / f"{party}.toml"
        path.write_text(station_text(party), encoding="utf-8")
        return str(path)

    return write


def test_a_servers_site_measures_what_ends_in_meters_before_the_fibre(
    site: Callable[[Party], str], run_here: Run, tmp_path: Path
) -> None:
    result = run_here("calibrate", site(SERVER), "--effort", "0.3")
    assert result.returncode == 0, result.stderr
    records = Store(tmp_path / "labctl-calibration").records()
    assert [record.routine for record in records] == list(SERVERS_OWN)
    left_out = next(line for line in result.stderr.splitlines() if "left out" in line)
    assert all(name in result.stderr for name in JOINT)
    assert "[server] alone" in " ".join(result.stderr.split())
    assert left_out.startswith("·")
    # 3.50 V is in the bench file, which no routine reads.
    found = records[0].quantities[str(V_PI_V.of("i"))].quantity()
    assert abs(found.value - 3.50) < 5.0 * found.standard_uncertainty < 0.05
    shown = run_here("calibration", "list", "--station", site(SERVER))
    assert shown.returncode == 0, shown.stderr
    assert "applicable" in shown.stdout


def commands_of_the_page() -> list[str]:
    """Return the commands of the page's part on calibration, in order."""
    page = (ROOT / "docs" / "two-sites.md").read_text(encoding="utf-8")
    part = page.partition("\n## Calibration\n")[2].partition("\n## ")[0]
    blocks = part.split("```")[1::2]
    return [line.strip() for block in blocks for line in block.strip().splitlines()]


@pytest.mark.long
def test_the_pages_order_is_followed_at_the_doors_of_a_served_bench(
    shipped_sites: ShippedSites, tmp_path: Path
) -> None:
    """With one joint routine and one of the server's own, and few readings."""
    for party, path in ((SERVER, shipped_sites.server), (CLIENT, shipped_sites.client)):
        (tmp_path / f"{party}.toml").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    few = {
        "labctl calibrate both.toml": "electronic_noise --effort 0.1",
        "labctl calibrate server.toml": "half_wave_voltage --effort 0.1",
    }
    serve = [sys.executable, "-m", "labctl", "sim", "serve", str(shipped_sites.bench), "--json"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as bench:
        try:
            offers_of(bench)
            for command in commands_of_the_page():
                added = next((more for each, more in few.items() if command.startswith(each)), "")
                whole = f"{command} {added}".replace("labctl ", f"{sys.executable} -m labctl ", 1)
                subprocess.run(["sh", "-ec", whole], cwd=tmp_path, check=True, timeout=200.0)
        finally:
            bench.terminate()
    records = Store(tmp_path / "labctl-calibration").records()
    assert [record.routine for record in records] == ["electronic_noise", "half_wave_voltage"]
    assert {name.partition(".")[0] for name in records[0].quantities} == {"server", "client"}
    assert (tmp_path / "together.html").exists()


@pytest.mark.parametrize("name", ["electronic_noise", "rotation"])
def test_what_needs_both_sites_is_refused_by_name(
    name: str, site: Callable[[Party], str], run_here: Run
) -> None:
    result = run_here("calibrate", site(SERVER), name)
    assert result.returncode == 2
    said = " ".join(result.stderr.split())
    assert "need light of both sites" in said
    assert f"It runs by itself: {', '.join(SERVERS_OWN)}" in said


def test_a_clients_site_has_nothing_to_run_by_itself(
    site: Callable[[Party], str], run_here: Run
) -> None:
    result = run_here("calibrate", site(CLIENT))
    assert result.returncode == 2
    assert "It runs by itself: none" in " ".join(result.stderr.split())


def test_whatever_is_asked_of_the_other_site_is_refused_by_name(
    site: Callable[[Party], str],
) -> None:
    with Station.read(Path(site(SERVER))) as station:
        equipment = server_site_of(station)
        assert all(role.startswith("server.") for role in equipment.parts())
        with pytest.raises(StationFileError, match=r"no \[client\]: client.digitizer is at"):
            _ = equipment.client.digitizer
