"""What containers and service units promise: who reaches whom, what is safe when one is killed."""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import StationFileError
from labctl.instruments.simulated.bench_file import load_bench
from labctl.station.file import read_station_file

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SIDES = ("server", "client")
# The addresses of compose.yaml.
PLACED = {
    "server": ("10.24.1.10", "10.24.1.0/24"),
    "client": ("10.24.2.10", "10.24.2.0/24"),
}


def place(folder: Path, *extra: str, server: str = PLACED["server"][0]) -> None:
    """Write the three files as the image has them; raises CalledProcessError."""
    hosts = {"server": server, "client": PLACED["client"][0]}
    options = [
        word
        for side in SIDES
        for word in (f"--{side}", hosts[side], f"--{side}-from", PLACED[side][1])
    ]
    command = [sys.executable, str(DEPLOY / "place_sites.py"), str(folder), *options, *extra]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the compose file")
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def unit(path: Path) -> configparser.ConfigParser:
    read = configparser.ConfigParser(interpolation=None, strict=True)
    read.optionxform = str  # type: ignore[assignment,method-assign]  # keys have capitals
    read.read_string(path.read_text(encoding="utf-8"))
    return read


def test_the_placed_files_have_the_addresses_of_the_networks(
    tmp_path: Path, compose: dict[str, Any]
) -> None:
    place(tmp_path, "--client-user", "1234")
    doors = load_bench(tmp_path / "bench.toml").doors
    networks = compose["services"]["bench"]["networks"]
    for side in SIDES:
        host, network = PLACED[side]
        assert networks[f"{side}_bench"]["ipv4_address"] == host
        (pool,) = compose["networks"][f"{side}_bench"]["ipam"]["config"]
        assert pool["subnet"] == network
        own = {name: each for name, each in doors.items() if each.side == side}
        assert {each.host for each in own.values()} == {host}
        assert {each.networks for each in own.values()} == {(IPv4Network(network),)}
        assert {each.users for each in own.values()} == {("1234",) if side == "client" else None}
        station = read_station_file(tmp_path / f"{side}.toml")
        assert set(station.instruments) == set(own)
        for name, instrument in station.instruments.items():
            at = instrument.address.split("::")
            ports = {own[name].hislip_port, own[name].socket_port}
            assert at[1] == host
            assert int(at[2].rpartition(",")[2]) in ports


def test_files_for_an_address_that_no_bench_may_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        place(tmp_path, server="0.0.0.0")
    assert StationFileError.__name__ in caught.value.stderr.decode()


def test_no_container_reaches_more_than_its_site(compose: dict[str, Any]) -> None:
    assert all(network["internal"] is True for network in compose["networks"].values())
    found = {name: set(service["networks"]) for name, service in compose["services"].items()}
    assert found == {
        "bench": {"server_bench", "client_bench"},
        "server": {"channel", "server_bench"},
        "server_guard": {"server_bench"},
        "client": {"channel", "client_bench"},
        "client_guard": {"client_bench"},
    }
    subnets = [
        IPv4Network(network["ipam"]["config"][0]["subnet"])
        for network in compose["networks"].values()
    ]
    assert not any(a.overlaps(b) for i, a in enumerate(subnets) for b in subnets[:i])
    for service in compose["services"].values():
        for name, settings in service["networks"].items():
            if settings:
                pool = compose["networks"][name]["ipam"]["config"][0]["subnet"]
                assert IPv4Address(settings["ipv4_address"]) in IPv4Network(pool)


def test_every_container_is_hardened_and_publishes_nothing(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["user"].partition(":")[0]) > 0
        assert "ports" not in service
        for volume in service.get("volumes", []):
            if isinstance(volume, dict):
                assert volume["target"] == "/run/secrets/labctl"
                assert volume["read_only"] is True
    states = {name: str(compose["services"][name]["volumes"]) for name in SIDES}
    assert "client_" not in states["server"]
    assert "server_" not in states["client"]
    assert {"bench", "server"} <= {n for n, s in compose["services"].items() if "healthcheck" in s}


@pytest.mark.parametrize("side", SIDES)
def test_a_program_and_its_guard_share_a_lock_and_a_station(
    side: str, compose: dict[str, Any]
) -> None:
    program, guard = (compose["services"][name] for name in (side, f"{side}_guard"))
    station = f"/etc/labctl/{side}.toml"
    assert program["entrypoint"] == ["labctl-guard", "hold", "/run/labctl/lock", "labctl"]
    assert program["command"][:2] == [side, station]
    assert guard["entrypoint"] == ["labctl-guard", "watch", "/run/labctl/lock", station]
    assert guard["restart"] == "always"
    (lock,) = guard["volumes"]
    assert lock == f"{side}_lock:/run/labctl"
    assert lock in program["volumes"]


def test_the_image_is_built_from_every_package_and_from_nothing_else() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert [line for line in lines if line and line[0] not in "!#"] == ["*", "**/__pycache__"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    places = project["tool"]["setuptools"]["package-dir"].values()
    folders = {place.partition("/")[0] for place in places if place != "."}
    assert kept == folders | {
        *("LICENSE", "README.md", "pyproject.toml"),
        *("deploy/guard.sh", "deploy/place_sites.py"),
    }


def test_the_image_installs_wheels_and_does_not_run_as_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    final = text.rpartition("\nFROM ")[2]
    assert "pip install --no-cache-dir --only-binary=:all:" in final
    assert final.count("\nUSER ") == 1
    assert "\nUSER 10001:10001\n" in final


GUARDED = """#!/bin/sh
case $1 in
safe)
    echo "safe $2" >> "$SAID"
    # The first attempt fails.
    [ "$(grep -c safe "$SAID")" -gt 1 ]
    ;;
work) echo lit >> "$SAID"; exec sleep 60 ;;
esac
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[dict[str, str], Path, list[subprocess.Popen[bytes]]]]:
    """A stand-in for labctl that says what it was asked; what is started is killed in the end."""
    if shutil.which("flock") is None:
        pytest.skip("flock of util-linux is not here")
    stand_in = tmp_path / "labctl"
    stand_in.write_text(GUARDED, encoding="utf-8")
    stand_in.chmod(0o755)
    said = tmp_path / "said"
    started: list[subprocess.Popen[bytes]] = []
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    yield {**os.environ, "PATH": path, "SAID": str(said)}, said, started
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def says(said: Path, *expected: str) -> None:
    """Wait until the stand-in has said that."""
    until_s = time.monotonic() + 20.0
    while (found := said.read_text().splitlines() if said.exists() else []) != list(expected):
        assert time.monotonic() < until_s, found
        time.sleep(0.02)


def test_the_guard_leaves_a_station_safe_each_time_its_program_was_killed(
    tmp_path: Path, guarded: tuple[dict[str, str], Path, list[subprocess.Popen[bytes]]]
) -> None:
    environment, said, started = guarded
    guard, lock = ["sh", str(DEPLOY / "guard.sh")], str(tmp_path / "lock")

    def start(*words: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([*guard, *words], env=environment, start_new_session=True))
        return started[-1]

    start("watch", lock, "site.toml")
    expected: list[str] = []
    for attempts in (2, 1):
        program = start("hold", lock, "labctl", "work")
        says(said, *expected, "lit")
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        started.remove(program)
        expected += ["lit", *["safe site.toml"] * attempts]
        says(said, *expected)


@pytest.mark.parametrize("side", SIDES)
def test_a_unit_is_made_safe_however_it_ended(side: str) -> None:
    service = unit(DEPLOY / "systemd" / f"labctl-{side}.service")["Service"]
    station = f"/etc/labctl/{side}.toml"
    assert service["ExecStart"].startswith(f"/opt/labctl/bin/labctl {side} {station} ")
    assert service["ExecStopPost"] == f"/opt/labctl/bin/labctl safe {station}"
    assert int(service["WatchdogSec"]) > 0
    assert service["NotifyAccess"] == "main"
    assert service["User"] == f"labctl-{side}"
    # The client's budget is its own: a run that failed is not begun again by itself.
    assert service["Restart"] == {"server": "on-failure", "client": "no"}[side]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_hardened(path: Path) -> None:
    service = unit(path)["Service"]
    expected = {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
        "SystemCallFilter": "@system-service",
        "IPAddressDeny": "any",
    }
    assert {key: service[key] for key in expected} == expected
    assert service["User"] not in ("root", "")


def test_each_unit_reaches_its_own_doors_and_not_the_others() -> None:
    allowed = {
        side: unit(DEPLOY / "systemd" / f"labctl-{side}.service")["Service"]["IPAddressAllow"]
        for side in SIDES
    }
    doors = {"server": "127.0.0.1", "client": "127.0.0.2"}
    assert doors["server"] in allowed["server"].split()
    assert doors["client"] in allowed["client"].split()
    assert doors["client"] not in allowed["server"].split()
    assert doors["server"] not in allowed["client"].split()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_knows_every_key(path: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    copy = tmp_path / path.name
    text = path.read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/labctl/bin/labctl", "/bin/true"), encoding="utf-8")
    result = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
