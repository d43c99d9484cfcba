"""Write the shipped bench and station files of two sites with other addresses.

    python deploy/place_sites.py FOLDER --server 10.24.1.10 --server-from 10.24.1.0/24 \
        --client 10.24.2.10 --client-from 10.24.2.0/24
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from labctl.data import (
    shipped_two_sites_bench_path,
    shipped_two_sites_client_path,
    shipped_two_sites_server_path,
)
from labctl.instruments.simulated.bench_file import load_bench
from labctl.station.file import read_station_file

SHIPPED_HOSTS = {"server": "127.0.0.1", "client": "127.0.0.2"}
SHIPPED_NETWORK = "127.0.0.0/8"


def place(
    folder: Path,
    hosts: Mapping[str, str],
    networks: Mapping[str, str],
    users: Mapping[str, str | None],
) -> None:
    """Write the three files into a folder; `hosts`, `networks` and `users`, if any, by side.

    Raises StationFileError for addresses that no bench file may have, and ValueError if the
    shipped files are no longer as this script knows them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bench = folder / "bench.toml"
    text = shipped_two_sites_bench_path().read_text(encoding="utf-8")
    head, *sides = text.split("[doors.")
    if len(sides) != len(SHIPPED_HOSTS):
        raise ValueError(f"expected {len(SHIPPED_HOSTS)} sides, got {len(sides)}")
    placed = [head]
    for doors in sides:
        side, name = doors, doors.partition("]")[0]
        for old, new in ((SHIPPED_HOSTS[name], hosts[name]), (SHIPPED_NETWORK, networks[name])):
            if side.count(f'"{old}"') != 1:
                raise ValueError(f'expected "{old}" once in doors.{name}')
            side = side.replace(f'"{old}"', f'"{new}"')
        user = users[name]
        placed.append(side if user is None else f'{side.rstrip()}\nusers = ["{user}"]\n\n')
    bench.write_text("[doors.".join(placed).rstrip() + "\n", encoding="utf-8")
    load_bench(bench)
    for name, shipped in (
        ("server", shipped_two_sites_server_path()),
        ("client", shipped_two_sites_client_path()),
    ):
        station = folder / f"{name}.toml"
        written = shipped.read_text(encoding="utf-8")
        here = written.replace(f"::{SHIPPED_HOSTS[name]}::", f"::{hosts[name]}::")
        station.write_text(here, encoding="utf-8")
        read_station_file(station)


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for side in SHIPPED_HOSTS:
        parser.add_argument(f"--{side}", required=True, help=f"host of the {side}'s doors")
        parser.add_argument(f"--{side}-from", required=True, help="network that may connect")
        parser.add_argument(f"--{side}-user", help="user that may connect, on the bench's machine")
    given = vars(parser.parse_args())
    place(
        given["folder"],
        {side: given[side] for side in SHIPPED_HOSTS},
        {side: given[f"{side}_from"] for side in SHIPPED_HOSTS},
        {side: given[f"{side}_user"] for side in SHIPPED_HOSTS},
    )


if __name__ == "__main__":
    main()
