"""The shipped station files of two sites: each finds its own instruments at a served bench."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from served_bench import ServedBench, offers_of
from shipped_sites import ShippedSites

from labctl import open_station
from labctl.data import (
    shipped_station_path,
    shipped_two_sites_client_path,
    shipped_two_sites_server_path,
)
from labctl.station import Station
from labctl.station.equipment import client_equipment_of, server_equipment_of
from labctl.station.file import read_station_file

Result = subprocess.CompletedProcess[str]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="systemd is on Linux alone")
SITES = {"server": shipped_two_sites_server_path, "client": shipped_two_sites_client_path}


def test_each_site_opens_its_own_instruments_at_the_served_bench(
    shipped_sites: ShippedSites,
) -> None:
    command = [sys.executable, "-m", "labctl", "sim", "serve", str(shipped_sites.bench), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as bench:
        try:
            offers = offers_of(bench)
            with open_station(shipped_sites.server) as station:
                server = server_equipment_of(station)
                assert server.laser.frequency_limits_hz()[0] < server.laser_frequency_hz
                assert server.launch_meter is not None
                assert server.launch_meter.fibre_power_w() < 1e-6
            with open_station(shipped_sites.client) as station:
                client = client_equipment_of(station)
                assert client.arrival_meter is not None
                assert client.arrival_meter.fibre_power_w() < 1e-6
        finally:
            bench.send_signal(signal.SIGTERM)
        assert bench.stderr is not None
        assert bench.stderr.read() == b""
    for side, path in (("server", shipped_sites.server), ("client", shipped_sites.client)):
        table = read_station_file(path)
        assert {offers[name]["side"] for name in table.instruments} == {side}
        assert {name for name, offer in offers.items() if offer["side"] == side} == set(
            table.instruments
        )


@on_linux
def test_an_open_station_that_can_emit_beats_for_the_service_manager(
    served_bench: ServedBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"labctl-test-{os.getpid()}"
        manager.bind(f"\0{name}")
        manager.settimeout(20.0)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        with open_station(served_bench.station(tmp_path)):
            assert [manager.recv(64) for _ in range(3)] == 3 * [b"WATCHDOG=1"]


def test_the_watchdog_of_a_program_in_a_folder_with_another_labctl_is_the_right_one(
    served_bench: ServedBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone has a folder of that name, and anybody may put one where a program is started."""
    (tmp_path / "labctl").mkdir()
    other = tmp_path / "labctl" / "__init__.py"
    other.write_text("raise SystemExit('another labctl')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with open_station(served_bench.station(tmp_path)) as station:
        assert station.is_open


@pytest.mark.parametrize("side", SITES)
def test_a_site_has_its_own_roles_as_the_demo_has_them(side: str) -> None:
    ours, demo = read_station_file(SITES[side]()), read_station_file(shipped_station_path())
    assert ours.model_fields_set >= {"frame", side}
    assert ours.model_fields_set.isdisjoint({"server", "client"} - {side})
    assert ours.frame == demo.frame
    meters = {"launch_meter", "return_meter", "arrival_meter"}
    roles, shown = getattr(ours, side), getattr(demo, side)
    assert roles.model_dump(exclude=meters) == shown.model_dump(exclude=meters)
    for name in meters & set(type(roles).model_fields):
        own, its = getattr(roles, name), getattr(shown, name)
        assert (own.ratio, own.ratio_uncertainty) == (its.ratio, its.ratio_uncertainty)
    for name, instrument in ours.instruments.items():
        expected = demo.instruments.get(name) or demo.instruments["link_meter"]
        assert (instrument.driver, instrument.limits) == (expected.driver, expected.limits)


@pytest.mark.parametrize("side", SITES)
def test_its_check_asks_for_the_roles_of_one_party_alone(
    side: str, run_here: Callable[..., Result]
) -> None:
    result = run_here("station", "check", str(SITES[side]()), "--json")
    assert (result.returncode, result.stderr) == (0, "")
    count = len(Station.read(SITES[side]()).table.instruments)
    assert json.loads(result.stdout)["instruments"] == count


def test_a_file_with_a_frame_and_no_party_lacks_both(
    tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    text = shipped_two_sites_client_path().read_text(encoding="utf-8")
    path = tmp_path / "site.toml"
    path.write_text(text.partition("[client]")[0], encoding="utf-8")
    result = run_here("station", "check", str(path))
    assert result.returncode == 2
    assert "no [server] and [client]: this experiment needs the roles in it" in result.stderr
