"""pytla, unmodified, at the pseudo-terminal of `labctl sim serve`: an ITLA of MSA 1.2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from labctl.instruments.simulated.doors.serving import Offer

pytest.importorskip("itla", reason="pytla is not installed (extra test-full)")

from itla import ITLA, PPLaser
from itla.itla_errors import CPException, ExecutionError, RNIError, RVEError
from itla.pplaser import Mode

Fleet = Mapping[str, Offer]
Patiently = Callable[..., None]
DRIVERS = {
    "ITLA": lambda port: ITLA(port, 9600, version="1.2"),
    "PPLaser": PPLaser,
}


@pytest.fixture(params=DRIVERS)
def module(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Any]:
    """The laser of the link, off."""
    module = DRIVERS[request.param](fleet["server_laser"].pty)
    module.connect()
    module.disable()
    yield module
    module.disconnect()


def test_strings_and_limits_are_read(module: Any) -> None:
    assert module.get_device_type().startswith("CW")
    assert module.get_manufacturer().strip(" \0") == "Pure Photonics"
    assert module.get_model().strip(" \0") == "PPCL550"
    assert module.get_serialnumber().strip(" \0") == "CRTN0001"
    assert "8.0.8.2" in module.get_firmware_release()
    assert module.get_manufacturing_date().strip(" \0") == "12-JAN-2024"
    assert module.get_frequency_min() == pytest.approx(191.5)
    assert module.get_frequency_max() == pytest.approx(196.25)
    assert (module.get_power_min(), module.get_power_max()) == (6.0, 13.5)
    assert len(module.get_temps()) == len(module.get_currents()) == 2
    assert module.get_ftf_range() == 12.0


def test_it_is_set_switched_on_and_seen_by_a_power_meter(
    module: Any, meter: Any, patiently: Patiently
) -> None:
    module.set_power(13.0)
    module.set_frequency(194.05)
    assert module.get_power_setting() == 13.0
    assert (module.get_fcf(), module.get_frequency()) == pytest.approx((194.05, 194.05))
    assert module.get_channel() == 1
    module.set_grid(100)
    assert module.get_grid() == 100.0
    assert module.is_disabled()
    dark_w = meter.power

    module.enable()
    module.wait_until_enabled()
    assert module.is_enabled()
    lit_w = meter.power
    assert lit_w > 1000 * abs(dark_w)
    patiently(module.set_power, 10.0)
    assert module.get_power_output() == pytest.approx(10.0, abs=0.05)
    assert meter.power == pytest.approx(lit_w / 10**0.3, rel=0.02)

    module.disable()
    module.wait_until_disabled()
    assert meter.power < lit_w / 1000
    module.set_grid(50)
    module.nop()


def test_fine_tuning_is_set_while_on_and_read_back_apart_from_the_channel(
    module: Any, patiently: Patiently
) -> None:
    module.set_frequency(193.4)
    module.enable()
    patiently(module.set_power, 13.0)
    # As the driver announces, for a module that is on.
    with pytest.raises(CPException):
        module.set_fine_tuning(5.0)
    assert module.get_fine_tuning() == 5.0
    assert module.get_frequency() == pytest.approx(193.4)
    module.disable()
    module.set_fine_tuning(0.0)
    assert module.get_fine_tuning() == 0.0


def test_what_is_out_of_range_or_not_fitted_is_the_error_of_the_module(module: Any) -> None:
    module.set_power(13.0)
    with pytest.raises(RVEError):
        module.set_power(40.0)
    assert module.get_power_setting() == 13.0
    module.send_command(0xE4)
    with pytest.raises(ExecutionError):
        module.get_response(0xE4)
    with pytest.raises(RNIError):
        module.nop()
    module.nop()


def test_the_last_response_is_a_packet_of_its_own_which_the_driver_does_not_expect(
    module: Any,
) -> None:
    """MSA 9.4.12: register 0x13 answers with the packet sent last, under that one's register."""
    module.get_power_output()
    with pytest.raises(Exception, match="Got 66 expected 19"):
        module.get_last_response()


def test_the_low_noise_mode_is_read_back(fleet: Fleet, patiently: Patiently) -> None:
    laser = PPLaser(fleet["server_laser"].pty)
    laser.connect()
    with pytest.raises(RVEError, match="outside of the range for this laser"):
        laser.set_frequency(100.0)
    laser.enable()
    patiently(laser.whispermode)
    assert laser.get_mode() is Mode.whisper
    laser.normalmode()
    assert laser.get_mode() is Mode.normal
    laser.disconnect()
