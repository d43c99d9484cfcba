"""QCoDeS' driver of a 33512B generator, unmodified, at `labctl sim serve`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from labctl.instruments.simulated.doors.serving import Offer

drivers = pytest.importorskip(
    "qcodes.instrument_drivers.Keysight", reason="QCoDeS is not installed"
)
SETTINGS: dict[str, Any] = {
    "function_type": "PULS",
    "frequency": 2e4,
    "pulse_width": 1e-5,
    "amplitude": 0.5,
    "offset": 0.1,
    "phase": 30.0,
    "ramp_symmetry": 30.0,
    "output_polarity": "INV",
    "burst_mode": "N Cycle",
    "burst_ncycles": 5,
    "burst_phase": 20.0,
    "burst_polarity": "INV",
    "trigger_source": "BUS",
    "trigger_slope": "NEG",
    "trigger_count": 2,
    "trigger_timer": 0.1,
    "burst_state": "ON",
    "output": "ON",
}


@pytest.fixture
def generator(fleet: Mapping[str, Offer]) -> Iterator[Any]:
    """The driver of the server's generator."""
    address = fleet["server_generator"].hislip
    generator = drivers.Keysight33512B("generator", address, visalib="@py", silent=True)
    yield generator
    generator.reset()
    generator.close()


@pytest.mark.parametrize("channel", ["ch1", "ch2"])
def test_a_channel_of_a_33512b_is_set_read_back_and_triggered(generator: Any, channel: str) -> None:
    output = getattr(generator, channel)
    for name, value in SETTINGS.items():
        output.parameters[name].set(value)
    for name, value in SETTINGS.items():
        assert output.parameters[name].get() == pytest.approx(value), name
    generator.force_trigger()
    assert generator.error() == (0, "No error")
