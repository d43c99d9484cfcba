"""A station file says who stands where; what does not fit together is refused on reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.data import shipped_bench_path, shipped_station_path
from labctl.errors import StationFileError
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.station.file import library_of, read_station_file, record_of
from labctl.toml_file import read_toml

STATION = shipped_station_path().read_text(encoding="utf-8")
TWO = """\
[instruments.laser]
driver = "santec_tsl570"
address = "A::1"
[instruments.meter]
driver = "thorlabs_pm100d"
address = "A::2"
"""


def refusal(folder: Path, old: str, new: str) -> str:
    """Return what is said of the shipped station file with one part replaced."""
    assert old in STATION
    path = folder / "station.toml"
    path.write_text(STATION.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(StationFileError) as caught:
        read_station_file(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def test_the_shipped_station_file_is_valid_and_names_twelve_instruments() -> None:
    station = read_station_file(shipped_station_path())
    assert station.name == "demo"
    assert len(station.instruments) == 12
    assert station.instruments["server_laser"].limits["power_w"].high == 0.0225


def test_the_shipped_bench_file_has_a_panel_at_every_address_of_the_station() -> None:
    station = read_station_file(shipped_station_path())
    bench = read_toml(shipped_bench_path(), BenchFile)
    assert {panel.address for panel in bench.panels.values()} == {
        table.address for table in station.instruments.values()
    }


def test_every_role_is_listed_with_its_instrument() -> None:
    roles = dict(read_station_file(shipped_station_path()).roles())
    assert roles["server.laser"] == "server_laser"
    assert roles["server.drive"] == "server_generator"
    assert roles["server.attenuator"] == roles["server.bias_i"] == "bias_i"
    assert roles["client.digitizer"] == "client_scope"
    assert len(roles) == 17


def test_a_role_of_an_unknown_instrument_is_refused_with_those_there_are(tmp_path: Path) -> None:
    said = refusal(tmp_path, 'laser = "server_laser"', 'laser = "sever_laser"')
    assert "role server.laser names instrument 'sever_laser'; there are: server_laser" in said


def test_a_channel_role_of_an_unknown_instrument_is_refused(tmp_path: Path) -> None:
    said = refusal(
        tmp_path, 'digitizer = { instrument = "client_scope"', 'digitizer = { instrument = "x"'
    )
    assert "role client.digitizer names instrument 'x'" in said


def test_an_instrument_without_a_role_is_one_more_instrument(tmp_path: Path) -> None:
    spare = '[instruments.spare]\ndriver = "thorlabs_mx10b"\naddress = "ASRL9::INSTR"\n[frame]'
    path = tmp_path / "station.toml"
    path.write_text(STATION.replace("[frame]", spare, 1), encoding="utf-8")
    assert "spare" in read_station_file(path).instruments


def test_instruments_alone_are_a_station(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(TWO, encoding="utf-8")
    station = read_station_file(path)
    assert (station.name, station.library, list(station.roles())) == ("two", "", [])
    with pytest.raises(StationFileError, match=r"no \[server\] table, which this experiment needs"):
        _ = station.server.constants


@pytest.mark.parametrize(
    ("written", "instrument", "channel"),
    [
        ('"server_phase/2"', "server_phase", 2),
        ('"server_phase"', "server_phase", None),
        ('{ instrument = "server_phase/2" }', "server_phase", 2),
        ('{ instrument = "server_phase", channel = 0 }', "server_phase", 0),
    ],
)
def test_a_role_names_an_instrument_or_one_of_its_channels(
    written: str, instrument: str, channel: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "station.toml"
    old = 'shutter = { instrument = "server_phase", channel = 2 }'
    assert old in STATION
    path.write_text(STATION.replace(old, f"shutter = {written}"), encoding="utf-8")
    role = read_station_file(path).server.shutter
    assert (role.instrument, role.channel) == (instrument, channel)


def test_two_channels_in_one_role_are_refused(tmp_path: Path) -> None:
    new = 'shutter = { instrument = "server_phase/1", channel = 2 }'
    said = refusal(tmp_path, 'shutter = { instrument = "server_phase", channel = 2 }', new)
    assert "two channels: 'server_phase/1' and 2" in said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ASRL2", "ASRL2::INSTR"),
        ("TCPIP::meter::hislip0::INSTR", "TCPIP0::METER::hislip0"),
        ("USB0::0x1313::0x8078::P1::INSTR", "USB::4883::32888::P1::0::INSTR"),
        ("TCPIP0::10.0.0.2::INSTR", "TCPIP::10.0.0.2::inst0"),
        ("GPIB0::7::INSTR", "GPIB::07"),
    ],
)
def test_two_names_for_one_address_are_refused(one: str, other: str, tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(TWO.replace("A::1", one).replace("A::2", other), encoding="utf-8")
    with pytest.raises(StationFileError) as caught:
        read_station_file(path)
    assert str(caught.value) == (
        f"{path}:6: 'meter' and 'laser' share address {other!r}, which is {one!r} in other words"
    )


def test_one_address_of_two_libraries_is_two_instruments(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    text = TWO.replace("A::2", "A::1") + 'library = "bench.toml@labctl"\n'
    path.write_text(text, encoding="utf-8")
    station = read_station_file(path)
    assert library_of(station, path, "laser") == ""
    assert library_of(station, path, "meter") == f"{tmp_path / 'bench.toml'}@labctl"


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TWO.encode())
    assert list(read_station_file(path).instruments) == ["laser", "meter"]


def test_two_instruments_at_one_address_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, "ASRL3::INSTR", "ASRL2::INSTR")
    assert "'bias_q' and 'bias_i' share address 'ASRL2::INSTR'" in said


def test_reversed_limits_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, "low = 0.0, high = 0.0225", "low = 0.03, high = 0.0225")
    assert (
        "server_laser.limits.power_w: expected low not above high, got low 0.03 and high 0.0225"
        in said
    )


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("{}", "expected low, high or both"),
        ("{ low = -inf, high = inf }", "expected low, high or both"),
        ("{ low = nan }", "got low nan and high inf"),
        ("{ low = 0.0, hihg = 1.0 }", "did you mean 'high'?"),
    ],
)
def test_a_limit_that_limits_nothing_is_refused(limit: str, told: str, tmp_path: Path) -> None:
    assert told in refusal(tmp_path, "{ low = 0.0, high = 0.0225 }", limit)


def test_one_end_of_a_limit_may_be_open(tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(STATION.replace("{ low = 0.0, high = 0.0225 }", "{ high = 0.02 }", 1))
    limit = read_station_file(path).instruments["server_laser"].limits["power_w"]
    assert (limit.low, limit.high) == (float("-inf"), 0.02)


def test_limits_may_leave_a_single_value(tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(STATION.replace("low = 0.0, high = 0.0225", "low = 0.01, high = 0.01", 1))
    limit = read_station_file(path).instruments["server_laser"].limits["power_w"]
    assert (limit.low, limit.high) == (0.01, 0.01)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "key 'instruments' is missing"),
        ("# nothing\n", "key 'instruments' is missing"),
        ("[instruments]\n", "at least 1 item"),
    ],
)
def test_a_file_without_instruments_is_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(text)
    with pytest.raises(StationFileError, match=told):
        read_station_file(path)


def test_a_station_without_instruments_is_refused(tmp_path: Path) -> None:
    head, tables = STATION.split("[instruments.server_laser]")
    path = tmp_path / "station.toml"
    path.write_text(head + "[instruments]\n\n[frame]" + tables.split("[frame]")[1])
    with pytest.raises(StationFileError, match="at least 1 item"):
        read_station_file(path)


@pytest.mark.parametrize("library", ["", "@py", "@ivi", "@labctl"])
def test_a_library_that_is_no_bench_file_is_left_as_it_is(
    library: str, small_station: Callable[..., Path]
) -> None:
    path = small_station({"a": ("x", "1"), "b": ("x", "2"), "c": ("x", "3")}, library=library)
    assert library_of(read_station_file(path), path) == library


PLAYERS = {"a": ("x", "1"), "b": ("x", "2"), "c": ("x", "3")}


@pytest.mark.parametrize("library", ["/opt/visa/libvisa.so", "evil@evil", "@evil", "lib.so@ivi"])
def test_a_library_that_would_load_other_code_is_refused_with_its_line(
    library: str, small_station: Callable[..., Path]
) -> None:
    path = small_station(PLAYERS, library=library)
    with pytest.raises(StationFileError, match=r"expected one of .*FILE@labctl") as caught:
        read_station_file(path)
    assert f"{path}:" in str(caught.value)
    assert repr(library) in str(caught.value)


@pytest.mark.parametrize("kind", ["above", "absolute", "link"])
def test_a_record_outside_the_station_files_folder_is_refused(
    kind: str, small_station: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = small_station(PLAYERS, library="@py")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (path.parent / "link").symlink_to(elsewhere)
    record = {"above": "../wire.jsonl", "absolute": f"{elsewhere}/x", "link": "link/wire.jsonl"}
    path.write_text(f"record = {record[kind]!r}\n" + path.read_text(encoding="utf-8"))
    with pytest.raises(StationFileError, match="expected a file in the station file's folder"):
        record_of(read_station_file(path), path)


def test_a_bench_file_stands_relative_to_the_station_file(
    small_station: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_station({"a": ("x", "1"), "b": ("x", "2"), "c": ("x", "3")}, "b/x.toml@labctl")
    table = read_station_file(path)
    assert library_of(table, path) == f"{path.parent / 'b/x.toml'}@labctl"
    monkeypatch.chdir(path.parent)
    assert library_of(table, Path(path.name)) == f"{path.parent.resolve() / 'b/x.toml'}@labctl"


def test_an_absolute_bench_file_stays_where_it_is(small_station: Callable[..., Path]) -> None:
    bench = shipped_bench_path()
    path = small_station({"a": ("x", "1"), "b": ("x", "2"), "c": ("x", "3")}, f"{bench}@labctl")
    assert library_of(read_station_file(path), path) == f"{bench}@labctl"
