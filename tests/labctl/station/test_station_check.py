"""What is wrong with a station file is reported before anything is opened, with file and line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.data import (
    shipped_bench_path,
    shipped_fleet_path,
    shipped_fleet_station_path,
    shipped_own_laser_client_path,
    shipped_station_path,
)
from labctl.errors import LabctlError, LimitError, StationFileError
from labctl.instruments import drivers
from labctl.instruments.capabilities import PowerMeter, VoltageSource, WaveformGenerator
from labctl.quantities import quantities_of
from labctl.station import Station, can_serve
from labctl.station.check import channel_methods
from labctl.station.equipment import ROLES, equipment_of, require_roles
from labctl.station.file import read_station_file
from labctl.testing.wires import SilentWire

FLEET = shipped_fleet_station_path().read_text(encoding="utf-8")
LAB = shipped_station_path().read_text(encoding="utf-8")


def watched(reading: str) -> str:
    """Return the text that begins the client's table, with a limit of a reading before it."""
    return f'[watch.limits]\n"{reading}" = {{ high = 1.0 }}\n\n[client]'


@pytest.fixture
def faults(tmp_path: Path) -> Callable[..., list[str]]:
    """Return what `check` says of a changed file, line by line without its folder."""

    def read(text: str, *changes: tuple[str, str]) -> list[str]:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "fleet_bench.toml").write_text(shipped_fleet_path().read_text("utf-8"))
        (tmp_path / "demo_bench.toml").write_text(shipped_bench_path().read_text("utf-8"))
        path = tmp_path / "s.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(StationFileError) as caught:
            require_roles(Station.read(path))
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return read


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "options = { sweep_speeds_nm_s = [0.5, 1.0, 50.0, 80.0] }",
            "options = { sweep_speed_nm_s = [0.5] }",
            "s.toml:14: swept_laser: unknown option 'sweep_speed_nm_s'; "
            "did you mean 'sweep_speeds_nm_s'?",
        ),
        (
            "[6.0, 12.0, 12.0]",
            '[6.0, 12.0, "12"]',
            "s.toml:52: supply option max_voltages_v = '12': must be a valid number",
        ),
        (
            "power_w = { high = 0.0225 }",
            "pwoer_w = { high = 0.0225 }",
            "s.toml:9: link_laser.limits.pwoer_w: purephotonics_ppcl550 sets no such quantity; "
            "did you mean 'power_w'?",
        ),
        (
            "power_w = { high = 0.0225 }",
            "power = { high = 0.0225 }",
            "s.toml:9: link_laser.limits.power, which names no unit: ",
        ),
        (
            'driver = "keithley_2450"',
            'driver = "keithly-2450"',
            "s.toml:45: instrument 'bias_source': unknown driver 'keithly-2450'; "
            "did you mean 'keithley_2450'?",
        ),
    ],
)
def test_a_fault_is_told_with_its_line(
    old: str, new: str, told: str, faults: Callable[..., list[str]]
) -> None:
    said = faults(FLEET, (old, new))
    assert len(said) == 1
    assert said[0].startswith(told)


def test_all_faults_are_told_at_once(faults: Callable[..., list[str]]) -> None:
    said = faults(FLEET, ("sweep_speeds_nm_s", "x"), ("[6.0, 12.0, 12.0]", "3"), ("power_w", "w_w"))
    assert [line.partition(": ")[0] for line in said] == ["s.toml:9", "s.toml:14", "s.toml:52"]


def test_an_instrument_that_cannot_play_its_role_is_told(
    faults: Callable[..., list[str]],
) -> None:
    said = faults(LAB, ('monitor = "monitor"', 'monitor = "link_meter"'))
    assert said == [
        "s.toml:75: role server.monitor: 'link_meter' (keysight_n7744a) cannot serve as PowerMeter"
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            'shutter = { instrument = "server_phase", channel = 2 }',
            'shutter = { instrument = "server_phase", channel = 1 }',
            "role server.shutter: 'server_phase/1' is the output of role server.lo_phase already",
        ),
        (
            "i_channel = 1, q_channel = 2",
            "i_channel = 2, q_channel = 2",
            "role server.drive.q_channel: 'server_generator/2' is the output of role "
            "server.drive.i_channel already",
        ),
        (
            "laser_power_dbm = 13.0",
            "laser_power_dbm = 17.0",
            "limits.power_w",
        ),
        ("shutter_closed_v = 4.5", "shutter_closed_v = 45.0", "limits.voltage_v"),
        ("gain_off_v = -0.1", "gain_off_v = -45.0", "limits.voltage_v"),
    ],
)
def test_roles_that_contradict_each_other_or_the_limits_are_told(
    old: str, new: str, told: str, faults: Callable[..., list[str]]
) -> None:
    (said,) = faults(LAB, (old, new))
    assert told in said
    assert said.startswith("s.toml:")


METER = """
[instruments.meter]
driver = "thorlabs_pm100d"
address = "USB0::0x1313::0x8078::P0012345::INSTR"
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "shutter = { channel = 2, closed_v = 4.5 }",
            "s.toml:5: 'meter/2' (thorlabs_pm100d) has no voltage output for a shutter",
        ),
        (
            "ramp = { v_per_s = 1.0 }",
            "s.toml:5: 'meter' (thorlabs_pm100d) has no voltage output for a ramp",
        ),
    ],
)
def test_a_shutter_or_a_ramp_without_an_output_is_told(
    line: str, told: str, faults: Callable[..., list[str]]
) -> None:
    assert faults(METER + line) == [told]


@pytest.mark.parametrize("name", ["close", "path", "snapshot", "names"])
def test_an_instrument_is_not_called_by_a_word_of_the_station(
    name: str, faults: Callable[..., list[str]]
) -> None:
    (said,) = faults(METER.replace("meter", name))
    assert said.endswith(f"{name!r} is a word of every station: call the instrument otherwise")


def test_an_instrument_has_a_name(faults: Callable[..., list[str]]) -> None:
    (said,) = faults(METER.replace("meter", '""'))
    assert "at least 1 character" in said


def test_a_record_elsewhere_is_told_before_anything_is_opened(
    faults: Callable[..., list[str]],
) -> None:
    (said,) = faults('record = "../../x.jsonl"\n' + METER)
    assert said.startswith("s.toml:1: record: expected a file in the station file's folder")


def test_a_station_without_roles_is_refused_by_the_experiment_alone(
    faults: Callable[..., list[str]],
) -> None:
    (said,) = faults(FLEET)
    assert said.endswith(
        "no [frame] and [server] and [client]: this experiment needs the roles in it"
    )


def test_roles_are_those_of_the_file() -> None:
    files = shipped_station_path(), shipped_own_laser_client_path()
    used = {role for path in files for role, _ in read_station_file(path).roles()}
    assert set(ROLES) == used


@pytest.mark.parametrize(
    ("driver", "channel", "capability", "can"),
    [
        ("thorlabs_pm100d", None, PowerMeter, True),
        ("thorlabs_pm100d", 1, PowerMeter, True),
        ("thorlabs_pm100d", 2, PowerMeter, False),
        ("keysight_n7744a", None, PowerMeter, False),
        ("keysight_n7744a", 3, PowerMeter, True),
        ("keysight_n7744a", 3, VoltageSource, False),
        ("keithley_2450", None, VoltageSource, True),
        ("keysight_33512b", 2, VoltageSource, True),
        ("keysight_33512b", None, VoltageSource, False),
        ("keysight_33512b", None, WaveformGenerator, True),
        ("qontrol_q8iv", 0, VoltageSource, True),
    ],
)
def test_an_instrument_of_one_channel_is_its_own_only_channel(
    driver: str, channel: int | None, capability: type, can: bool
) -> None:
    assert can_serve(drivers.load(driver), channel, capability) is can


@pytest.mark.parametrize("name", drivers.names())
def test_every_driver_says_which_options_it_takes(name: str) -> None:
    driver = drivers.load(name)
    with pytest.raises(LabctlError, match="option surely_unknown"):
        driver.open("x", "y", library="", options={"surely_unknown": 1})
    assert "timeout_s" in vars(driver)["Options"].model_fields


def test_what_a_meter_reads_and_a_scope_shows_cannot_be_limited() -> None:
    assert "voltage_v" not in quantities_of(drivers.load("keysight_infiniivision"))
    assert "amplitude_v" not in quantities_of(drivers.load("keysight_infiniivision"))


def test_a_power_meter_input_and_a_single_channel_head_play_each_others_roles(
    tmp_path: Path,
) -> None:
    text = LAB.replace('monitor = "monitor"', 'monitor = "link_meter/4"')
    text = text.replace('{ instrument = "link_meter", channel = 2,', '{ instrument = "monitor",')
    (tmp_path / "demo_bench.toml").write_text(shipped_bench_path().read_text("utf-8"))
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    with Station.read(path) as station:
        equipment = equipment_of(station)
        assert equipment.server.monitor is not None
        arrival = equipment.client.arrival_meter
        assert arrival is not None
        assert arrival.input == station["monitor"]
        assert equipment.server.monitor == station["link_meter/4"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('monitor = "monitor"', 'monitor = "link_meter/9"', "channel = 9: link_meter has no"),
        ("q_channel = 2", "q_channel = 3", "q_channel = 3: .* has no channel 3; .* 1 to 2"),
        ("[client]", watched("link_meter/9.power_w"), "has no channel 9; valid here: 1 to 4"),
        ("[client]", watched("monitor/2.power_w"), "has one channel only, got 2"),
    ],
)
def test_a_channel_that_is_not_there_is_told(
    old: str, new: str, told: str, faults: Callable[..., list[str]]
) -> None:
    (said,) = faults(LAB, (old, new))
    assert re.search(told, said)
    assert re.match(r"s\.toml:\d+: ", said)


def test_a_digitizer_and_a_shutter_have_the_channels_that_are_named(
    faults: Callable[..., list[str]],
) -> None:
    found = re.search(r"digitizer = \{[^}]*channel = \d", LAB)
    assert found is not None
    (said,) = faults(LAB, (found[0], f"{found[0][:-1]}7"))
    assert "channel = 7" in said
    supply = '[instruments.supply]\ndriver = "keysight_e36312a"\naddress = "X"\n'
    (said,) = faults(f"{supply}shutter = {{ channel = 4, closed_v = 4.5 }}\n")
    assert said.endswith("shutter: supply has no channel 4; valid here: 1 to 3")
    limits = "limits = { voltage_v = { low = 0.0, high = 4.0 } }\n"
    (said,) = faults(f"{supply}{limits}shutter = {{ channel = 3, closed_v = 4.5 }}\n")
    assert said == "s.toml:5: closed_v = 4.5: supply.limits.voltage_v allows 0 to 4 V"


@pytest.mark.parametrize("name", drivers.names())
def test_channels_that_options_state_are_those_that_a_driver_hands_out(name: str) -> None:
    driver: Any = drivers.load(name)
    stated = driver.Options().channel_range()
    for method in channel_methods(driver):
        assert stated is not None
        made = driver(SilentWire())
        for number in stated:
            assert getattr(made, method)(number) is not None
        for number in (stated[0] - 1, stated[-1] + 1):
            with pytest.raises(LimitError):
                getattr(made, method)(number)
