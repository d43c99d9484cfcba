"""An output that is switched on or off is seen to be: lost once it is sent again, else an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.data import shipped_fleet_path
from labctl.errors import ReplyError
from labctl.instruments.sources.keithley_2450 import Keithley2450
from labctl.instruments.sources.keysight_e36312a import KeysightE36312A
from labctl.testing import Bench, PlannedFault

BIAS_SOURCE = "TCPIP0::bias-source::hislip0::INSTR"
SUPPLY = "TCPIP0::supply::hislip0::INSTR"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench with every instrument, its wires ready for faults."""
    made = Bench(shipped_fleet_path(), tmp_path)
    assert made.faults
    yield made
    made.close()


Act = Callable[[Any], object]
# The driver, its address and its panel's name, what is lost, and the call that sends it.
SWITCHED: dict[str, tuple[type[Any], str, str, str, Act]] = {
    "2450 voltage": (Keithley2450, BIAS_SOURCE, "bias_source", "OUTP ON",
                     lambda smu: smu.set_voltage(1.0)),
    "2450 current": (Keithley2450, BIAS_SOURCE, "bias_source", "OUTP ON",
                     lambda smu: smu.source_current(1e-4, voltage_limit_v=1.0)),
    "2450 on": (Keithley2450, BIAS_SOURCE, "bias_source", "OUTP ON",
                lambda smu: smu.set_output(True)),
    "2450 off": (Keithley2450, BIAS_SOURCE, "bias_source", "OUTP OFF",
                 lambda smu: smu.set_output(False)),
    "E36312A voltage": (KeysightE36312A, SUPPLY, "supply", "OUTP 1",
                        lambda supply: supply.dc_output(2).set_voltage(1.0)),
    "E36312A on": (KeysightE36312A, SUPPLY, "supply", "OUTP 1",
                   lambda supply: supply.set_output(2, True)),
    "E36312A off": (KeysightE36312A, SUPPLY, "supply", "OUTP 0, (@2)",
                    lambda supply: supply.set_output(2, False)),
}  # fmt: skip


@pytest.fixture(params=SWITCHED)
def switched(request: pytest.FixtureRequest, bench: Bench) -> tuple[Any, str, str, Act]:
    """The instrument, its panel, the message and the call; what goes off was on before."""
    kind, address, panel, message, act = SWITCHED[request.param]
    instrument = bench.open(kind, address)
    if request.param.endswith("off"):
        on = instrument.set_voltage if kind is Keithley2450 else instrument.dc_output(2).set_voltage
        on(1.0)
    return instrument, panel, message, act


def output_of(instrument: Any) -> float:
    """Ask the output's state past the driver."""
    query = "OUTP?" if isinstance(instrument, Keithley2450) else "OUTP? (@2)"
    return float(instrument._scpi.query(query))


def test_a_switch_that_is_lost_once_is_sent_again(
    bench: Bench, switched: tuple[Any, str, str, Act]
) -> None:
    instrument, panel, message, act = switched
    bench.faults.arm(PlannedFault(kind="command lost", panel=panel, on=message))
    act(instrument)
    assert output_of(instrument) == (0.0 if message.startswith(("OUTP OFF", "OUTP 0")) else 1.0)


def test_a_switch_that_is_lost_each_time_is_an_error_that_says_so(
    bench: Bench, switched: tuple[Any, str, str, Act]
) -> None:
    instrument, panel, message, act = switched
    bench.faults.arm(PlannedFault(kind="command lost", panel=panel, on=message, times=0))
    with pytest.raises(ReplyError, match=r"expected [01] after it was set, got [01] \(from 'OUTP"):
        act(instrument)
    bench.faults.repair()


def test_an_output_in_local_mode_is_an_error(
    bench: Bench, switched: tuple[Any, str, str, Act]
) -> None:
    """Somebody has taken the instrument at its front panel: settings are ignored."""
    instrument, panel, message, act = switched
    bench.faults.arm(PlannedFault(kind="local", panel=panel, on=message, times=0))
    with pytest.raises(ReplyError, match="after it was set, got"):
        act(instrument)
    bench.faults.repair()
