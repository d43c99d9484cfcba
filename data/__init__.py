"""Data: datasets, model weights, run files and the shipped station files."""

from __future__ import annotations

from pathlib import Path

_STATIONS = Path(__file__).resolve().parent / "stations"


def shipped_station_path() -> Path:
    """Return the station file of the demo."""
    return _STATIONS / "demo.toml"


def shipped_lab_path() -> Path:
    """Return the station file of a realistic lab, whose hardware calibration has to find out."""
    return _STATIONS / "lab.toml"


def shipped_bench_path() -> Path:
    """Return the bench file of the demo."""
    return _STATIONS / "demo_bench.toml"


def shipped_fleet_path() -> Path:
    """Return the bench file that holds every instrument there is a front panel for."""
    return _STATIONS / "fleet_bench.toml"


def shipped_fleet_station_path() -> Path:
    """Return a station file of that bench: one instrument of every kind, and no experiment."""
    return _STATIONS / "fleet.toml"


def shipped_two_sites_bench_path() -> Path:
    """Return the bench file of two sites: the demo's bench, with panels of server and client."""
    return _STATIONS / "two_sites_bench.toml"


def shipped_two_sites_server_path() -> Path:
    """Return the station file of the server's site, at the doors of that bench."""
    return _STATIONS / "two_sites_server.toml"


def shipped_two_sites_client_path() -> Path:
    """Return the station file of the client's site, at the doors of that bench."""
    return _STATIONS / "two_sites_client.toml"


def shipped_own_laser_bench_path() -> Path:
    """Return the bench file of two sites whose client has its own laser as local oscillator."""
    return _STATIONS / "own_laser_bench.toml"


def shipped_own_laser_client_path() -> Path:
    """Return the station file of that client's site, at the doors of that bench."""
    return _STATIONS / "own_laser_client.toml"
