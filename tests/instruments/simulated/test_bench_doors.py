"""Sides in a bench file: whose panels, at which ports; what cannot be is refused with its line."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from labctl.data import shipped_bench_path, shipped_two_sites_bench_path
from labctl.errors import StationFileError
from labctl.instruments.simulated.bench_doors import doors_of
from labctl.instruments.simulated.bench_file import load_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.toml_file import read_toml

SHIPPED = shipped_bench_path().read_text(encoding="utf-8")
SCOPE = '[doors.server]\npanels = ["server_scope"]\n'


def bench(folder: Path, doors: str) -> Path:
    """Write the demo's bench with tables of doors."""
    path = folder / "bench.toml"
    path.write_text(f"{SHIPPED}\n{doors}", encoding="utf-8")
    return path


def line_of(path: Path, text: str) -> int:
    return path.read_text(encoding="utf-8").splitlines().index(text) + 1


def test_a_bench_without_sides_has_panels_of_nobody() -> None:
    assert load_bench(shipped_bench_path()).doors == {}


def test_a_side_has_two_ports_for_each_panel_in_the_order_of_its_list(tmp_path: Path) -> None:
    path = bench(
        tmp_path,
        '[doors.north]\npanels = ["server_laser", "bias_q"]\nfirst_port = 24800\n'
        'host = "192.0.2.7"\nfrom = ["192.0.2.0/24", "198.51.100.9/32"]\n'
        'users = ["alice", "1004"]\n'
        '[doors.south]\npanels = ["monitor"]\n',
    )
    found = load_bench(path).doors
    assert list(found) == ["server_laser", "bias_q", "monitor"]
    assert [(doors.hislip_port, doors.socket_port) for doors in found.values()] == [
        (24800, 24801),
        (24802, 24803),
        (0, 0),
    ]
    laser, monitor = found["server_laser"], found["monitor"]
    assert (laser.side, laser.host, laser.users) == ("north", "192.0.2.7", ("alice", "1004"))
    assert laser.networks == (IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.9/32"))
    assert (monitor.side, monitor.host, monitor.users) == ("south", "127.0.0.1", None)
    assert monitor.networks == (IPv4Network("127.0.0.0/8"),)


def test_each_panel_of_the_shipped_bench_of_two_sites_belongs_to_one_of_them() -> None:
    table = read_toml(shipped_two_sites_bench_path(), BenchFile)
    assert set(table.doors) == {"server", "client"}
    assert set(doors_of(table)) == set(table.panels)


def test_its_light_is_that_of_the_demo() -> None:
    ours, demo = (
        read_toml(path, BenchFile).model_dump(exclude={"panels", "doors"})
        for path in (shipped_two_sites_bench_path(), shipped_bench_path())
    )
    assert ours == demo


@pytest.mark.parametrize(
    ("doors", "key", "fault"),
    [
        ('panels = ["server_scop"]', "panels", "no panel 'server_scop'; did you mean 'server_sc"),
        ('panels = ["xyzzy"]', "panels", "there is no panel 'xyzzy'; there are: server_laser, "),
        ('panels = ["monitor", "monitor"]', "panels", "'monitor' stands in doors.server.panels al"),
        ("panels = []", "panels", "should have at least 1 item"),
        ('panels = ["monitor"]\nfirst_port = 0', "first_port", "greater than or equal to 1"),
        ('panels = ["monitor"]\nfirst_port = true', "first_port", "valid integer"),
        ('panels = ["monitor"]\nfirst_port = 65535', "first_port", "the highest port is 65535"),
        ('panels = ["monitor"]\nhost = "bench"', "host", "must be one IPv4 address"),
        ('panels = ["monitor"]\nhost = "0.0.0.0"', "host", "must be one IPv4 address"),
        ('panels = ["monitor"]\nhost = "224.0.0.1"', "host", "must be one IPv4 address"),
        ('panels = ["monitor"]\nhost = "127.0.0.256"', "host", "must be one IPv4 address"),
        ('panels = ["monitor"]\nhost = "::1"', "host", "must be one IPv4 address"),
        ('panels = ["monitor"]\nhost = "192.0.2.7"', "host", "say with doors.server.from"),
        ('panels = ["monitor"]\nfrom = ["192.0.2.0/24"]', "from", "come from 127.0.0.0/8 alone"),
        (
            'panels = ["monitor"]\nhost = "192.0.2.7"\nfrom = ["127.0.0.0/9"]',
            "from",
            "no connection to 192.0.2.7 comes from 127.0.0.0/8",
        ),
        ('panels = ["monitor"]\nfrom = []', "from", "should have at least 1 item"),
        ('panels = ["monitor"]\nfrom = ["127.0.0.1/8"]', "from", "no bits set beyond its prefix"),
        ('panels = ["monitor"]\nfrom = ["127.0.0.0/33"]', "from", "must be an IPv4 network"),
        ('panels = ["monitor"]\nfrom = [5]', "from", "must be an IPv4 network"),
        ('panels = ["monitor"]\nusers = []', "users", "should have at least 1 item"),
        (
            'panels = ["monitor"]\nfrm = []',
            "frm",
            "key 'doors.server.frm'; did you mean 'from'?",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(
    tmp_path: Path, doors: str, key: str, fault: str
) -> None:
    path = bench(tmp_path, f"[doors.server]\n{doors}\n")
    with pytest.raises(StationFileError) as caught:
        load_bench(path)
    (line,) = [text for text in doors.splitlines() if text.startswith(key)] or ["[doors.server]"]
    assert str(caught.value).startswith(f"{path}:{line_of(path, line)}: ")
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("doors", "line", "fault"),
    [
        (
            f'{SCOPE}[doors.client]\npanels = ["client_scope", "server_scope"]\n',
            'panels = ["client_scope", "server_scope"]',
            "panel 'server_scope' stands in doors.server.panels already; each belongs to one side",
        ),
        (
            f"{SCOPE}first_port = 4881\n"
            '[doors.client]\npanels = ["client_scope"]\nfirst_port = 4880\n',
            "first_port = 4880",
            "port 4881 of 127.0.0.1 belongs to doors.server, which has 4881 to 4882",
        ),
        (
            '[doors."no name"]\npanels = ["server_scope"]\n',
            '[doors."no name"]',
            "String should match pattern",
        ),
    ],
)
def test_two_sides_share_neither_panel_nor_port(
    tmp_path: Path, doors: str, line: str, fault: str
) -> None:
    path = bench(tmp_path, doors)
    with pytest.raises(StationFileError) as caught:
        load_bench(path)
    assert str(caught.value).startswith(f"{path}:{line_of(path, line)}: ")
    assert fault in str(caught.value)


def test_two_hosts_may_have_the_same_ports(tmp_path: Path) -> None:
    second = '[doors.client]\npanels = ["client_scope"]\nhost = "127.0.0.2"\nfirst_port = 4880\n'
    found = load_bench(bench(tmp_path, f"{SCOPE}first_port = 4880\n{second}")).doors
    assert {doors.hislip_port for doors in found.values()} == {4880}
