"""Another instrument at an address of an open station: it is sent nothing, the light goes off."""

from __future__ import annotations

import pytest

from labctl.data import shipped_station_path
from labctl.errors import InstrumentError, OtherInstrumentError, StillLitError, StoppedError
from labctl.station import Station
from labctl.testing import Bench, FaultyBench, PlannedFault


@pytest.fixture
def station(bench: Bench, faults: FaultyBench) -> Station:
    return bench.station(shipped_station_path())


def test_a_replaced_oscilloscope_darkens_the_laser_and_ends_the_station(
    bench: Bench, faults: FaultyBench, station: Station
) -> None:
    laser = bench.world.optics.laser
    station.server_laser.set_power(10e-3)
    station.server_laser.set_emission(True)
    assert laser.emitted_power_w() > 0.0
    faults.arm(
        PlannedFault(kind="other serial", panel="client_scope", text="MY57450002 > MY57459999")
    )
    with pytest.raises(InstrumentError, match=r"connection to .* failed"):
        station.client_scope.identify()
    with pytest.raises(OtherInstrumentError, match=r"'MY57450002', got .*'MY57459999'"):
        station.client_scope.configure_channel(1, range_v=1.0, offset_v=0.0)
    assert laser.emitted_power_w() == 0.0
    with pytest.raises(StoppedError, match="another instrument answers at TCPIP0::client-scope"):
        station.server_laser.set_emission(True)
    assert laser.emitted_power_w() == 0.0
    faults.repair()


def test_a_replaced_laser_is_not_said_to_be_dark(
    bench: Bench, faults: FaultyBench, station: Station
) -> None:
    faults.arm(PlannedFault(kind="other serial", panel="server_laser", text="CRTN0001 > CRTN0002"))
    with pytest.raises(InstrumentError, match=r"connection to .* failed"):
        station.server_laser.emission()
    with pytest.raises(OtherInstrumentError, match=r"'CRTN0001', got .*'CRTN0002'"):
        station.server_laser.set_emission(True)
    with pytest.raises(StillLitError, match=r"server_laser: another instrument"):
        station.close()
