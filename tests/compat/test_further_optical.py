"""Further public drivers of optical instruments, unmodified, at `labctl sim serve`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import pyvisa

from labctl.instruments.simulated.doors.serving import Offer

pytest.importorskip("pymeasure", reason="PyMeasure is not installed (extra test-full)")

from pymeasure.instruments.keysight import KeysightN7776C
from pymeasure.instruments.santec import TSL570
from pymeasure.instruments.thorlabs import ThorlabsMBXSeries, ThorlabsPM100USB

Connect = Callable[..., Any]
Fleet = Mapping[str, Offer]
# `*OPT?` is in no public source for these lasers and this meter; the head measures no energy.
UNANSWERED = {"options", "energy"}


def properties(driver: object) -> list[str]:
    """Return the names of what a driver can read of its instrument."""
    kind = type(driver)
    names = (name for name in dir(kind) if not name.startswith("_") and name not in UNANSWERED)
    found = ((name, inspect.getattr_static(kind, name)) for name in names)
    readable = [name for name, member in found if isinstance(member, property) and member.fget]
    assert readable
    return readable


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("swept_laser", KeysightN7776C),
        ("tunable_laser", TSL570),
        ("monitor", ThorlabsPM100USB),
    ],
)
def test_every_property_of_a_pymeasure_driver_is_answered(
    fleet: Fleet, connect: Connect, name: str, driver: type
) -> None:
    instrument = connect(driver, fleet[name].hislip)
    for member in properties(instrument):
        getattr(instrument, member)
    assert instrument.ask("SYST:ERR?").strip().lstrip("+").startswith("0,")


def test_every_property_of_the_mbx_driver_is_answered(fleet: Fleet, connect: Connect) -> None:
    controller = connect(ThorlabsMBXSeries, f"ASRL{fleet['bias_parent'].pty}::INSTR")
    for part in (controller.mzm, controller.voa, controller.rgb):
        for member in properties(part):
            assert "Err" not in str(getattr(part, member)), member


def test_the_lamp_of_the_mbx_is_set(fleet: Fleet, connect: Connect) -> None:
    lamp = connect(ThorlabsMBXSeries, f"ASRL{fleet['bias_parent'].pty}::INSTR").rgb
    lamp.rgb, lamp.white = (10, 20, 30), 40
    assert (lamp.rgb, lamp.white) == ((10, 20, 30), 40)
    lamp.rgb, lamp.white = (0, 0, 0), 0


def test_the_library_of_qontrol_sets_and_reads_all_channels(fleet: Fleet) -> None:
    qontrol = pytest.importorskip("qontrol", reason="qontrol is not installed (extra test-full)")
    module = qontrol.QXOutput(serial_port_name=fleet["heaters"].pty, response_timeout=0.5)
    assert (module.device_id, module.n_chs, module.v_full) == ("Q8iv-0123", 8, 12.0)
    module.v[6] = 3.0
    assert module.v[6] == pytest.approx(3.0, abs=0.01)
    assert module.i[6] == pytest.approx(5.0, rel=0.02)
    module.imax[:] = 4.0
    assert module.i[6] == pytest.approx(4.0, rel=0.02)
    module.imax[:] = 24.0
    module.i[:] = 0.0
    assert module.v[7] == pytest.approx(0.0, abs=0.01)
    module.close()


def test_the_library_of_qontrol_speaks_binary(fleet: Fleet) -> None:
    qontrol = pytest.importorskip("qontrol", reason="qontrol is not installed (extra test-full)")
    module = qontrol.QXOutput(
        serial_port_name=fleet["heaters"].pty, response_timeout=0.5, binary_mode=True
    )
    module.v[6] = 2.0
    assert module.v[6] == pytest.approx(2.0, abs=0.01)
    assert len(module.v[:]) == 8
    module.v[6] = 0.0
    module.close()


def test_pylablib_moves_the_attenuator(fleet: Fleet) -> None:
    devices = pytest.importorskip(
        "pylablib.devices.OZOptics", reason="pylablib is not installed (extra test-full)"
    )
    attenuator = devices.DD100(fleet["probe_attenuator"].pty)
    attenuator.home()
    assert (attenuator.get_min_attenuation(), attenuator.get_max_attenuation()) == (0.0, 55.0)
    attenuator.set_attenuation(12.5)
    assert attenuator.get_attenuation() == 12.5
    # Beyond the range the module answers with an error, and the driver clamps.
    attenuator.set_attenuation(0.0)
    assert attenuator.get_attenuation() == 0.0
    attenuator.close()


@pytest.fixture
def thorlabs_pm100(fleet: Fleet) -> Iterator[tuple[Any, Any]]:
    """The package ThorlabsPM100 on the power meter, and the resource below it."""
    package = pytest.importorskip(
        "ThorlabsPM100", reason="ThorlabsPM100 is not installed (extra test-full)"
    )
    manager = pyvisa.ResourceManager("@py")
    resource = manager.open_resource(str(fleet["monitor"].hislip))
    yield package.ThorlabsPM100(inst=resource), resource
    resource.close()
    manager.close()


def test_the_package_thorlabspm100_reads_and_sets_what_a_photodiode_has(
    thorlabs_pm100: tuple[Any, Any],
) -> None:
    meter, resource = thorlabs_pm100
    sense = meter.sense
    sense.correction.wavelength = 1310.0
    assert sense.correction.wavelength == 1310.0
    assert sense.correction.minimum_wavelength == 800.0
    assert sense.correction.power.pdiode.response > 0.0
    sense.correction.wavelength = 1550.0
    sense.average.count = 10
    assert sense.average.count == 10
    sense.correction.loss.input.magnitude = 3.0
    assert sense.correction.loss.input.magnitude == 3.0
    sense.correction.loss.input.magnitude = 0.0
    assert sense.power.dc.range.maximum_upper > sense.power.dc.range.minimum_upper
    sense.power.dc.range.auto = "ON"
    assert sense.power.dc.range.auto
    assert sense.current.dc.range.upper > 0.0
    meter.configure.scalar.power()
    assert (meter.getconfigure, type(meter.read)) == ("POW", float)
    assert resource.query("SYST:ERR?").startswith("+0,")
