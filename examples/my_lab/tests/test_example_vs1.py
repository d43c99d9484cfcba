"""The VS1's driver and front panel, tested with labctl.testing alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import pyvisa

from labctl import Station
from labctl.clock import Clock
from labctl.errors import InstrumentReportedError, LimitError
from labctl.testing import (
    Bench,
    Check,
    ScriptedTransport,
    accepted,
    driver_checks,
    messages_in,
    panel_fuzz,
    panel_walk,
)
from my_lab.example_vs1 import ExampleVS1, VS1Options

BENCH = Path(__file__).resolve().parents[1] / "bench.toml"
ADDRESS = "TCPIP0::192.0.2.50::inst0::INSTR"


@pytest.mark.parametrize("check", driver_checks(ExampleVS1, bench=BENCH, address=ADDRESS))
def test_the_driver_keeps_what_every_driver_owes(check: Check) -> None:
    check()


def test_a_voltage_is_set_before_the_output_is_switched_on() -> None:
    wire = ScriptedTransport(
        [
            ("*IDN?", "Example,VS1,0001,1.0"),
            *accepted("SOUR:VOLT 1.5", "OUTP 1"),
            ("SOUR:VOLT?", "1.5"),
            *accepted("OUTP 0"),
        ]
    )
    source = ExampleVS1(wire)
    assert source.identify().serial == "0001"
    source.set_voltage(1.5)
    assert source.voltage_v() == 1.5
    source.safe_state()
    wire.finish()


def test_a_voltage_above_the_option_is_never_sent() -> None:
    wire = ScriptedTransport([])
    with pytest.raises(LimitError, match="-2 to 2 V"):
        ExampleVS1(wire, VS1Options(max_voltage_v=2.0)).set_voltage(2.5)
    assert wire.sent == []


def test_no_message_disturbs_the_panel() -> None:
    panel_fuzz(BENCH, "spare_source", messages=500, specified=messages_in(__file__))


def test_no_setting_disturbs_the_panel() -> None:
    panel_walk(BENCH, "spare_source", steps=300, specified=messages_in(__file__))


def test_the_panel_queues_an_error_for_what_is_out_of_range(bench: Bench) -> None:
    host = pyvisa.ResourceManager(bench.library).open_resource(ADDRESS, read_termination="\n")
    assert isinstance(host, pyvisa.resources.MessageBasedResource)
    host.write(":SOUR:VOLT 11")
    assert host.query(":SYST:ERR?").startswith("-222")
    assert float(host.query(":SOUR:VOLT?")) == 0.0


def test_the_driver_says_what_the_panel_refuses(bench: Bench) -> None:
    source = bench.open(ExampleVS1, ADDRESS, options={"max_voltage_v": 20.0})
    with pytest.raises(InstrumentReportedError, match="-222"):
        source.set_voltage(11.0)


def test_what_is_set_is_read_back(station: Station) -> None:
    station.spare.set_voltage(2.5)
    assert station.spare.voltage_v() == pytest.approx(2.5, abs=1e-3)


def test_the_station_keeps_to_its_limits(station: Station) -> None:
    with pytest.raises(LimitError, match="0 to 5 V"):
        station.spare.set_voltage(6.0)


def test_time_passes_as_one_waits(station: Station, clock: Clock) -> None:
    station.spare.set_voltage(1.0)
    began_s = clock.now_s()
    clock.sleep(0.1)
    assert clock.now_s() - began_s == pytest.approx(0.1, abs=0.05)
