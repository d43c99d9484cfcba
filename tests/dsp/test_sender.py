"""The sender's predistortion: an algebra with an inverse, and fields that do not fit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.data import shipped_station_path
from labctl.dsp.layout import PEAK
from labctl.dsp.sender import FrameSender, Predistortion
from labctl.errors import SettingError
from labctl.instruments.capabilities import TriggerSource
from labctl.station import Station
from labctl.station.equipment import equipment_of

PREDISTORTIONS = st.builds(
    Predistortion,
    gain=st.floats(0.8, 1.25),
    quadrature_rad=st.floats(-0.3, 0.3),
    carrier_i=st.floats(-0.1, 0.1),
    carrier_q=st.floats(-0.1, 0.1),
)


class Generator:
    """A waveform generator that keeps what is uploaded to it, and does nothing else."""

    def __init__(self) -> None:
        self.samples: dict[tuple[int, str], npt.NDArray[np.floating]] = {}

    def upload(self, channel: int, name: str, samples: npt.NDArray[np.floating]) -> None:
        self.samples[channel, name] = samples

    def stored(self, channel: int) -> tuple[str, ...]:
        return tuple(name for number, name in self.samples if number == channel)

    def forget(self, channel: int) -> None:
        self.samples.clear()

    def play(
        self, channel: int, name: str, *, sample_rate_hz: float, amplitude_v: float, offset_v: float
    ) -> None:
        raise AssertionError("not to be played")

    def burst(
        self, channel: int, *, cycles: int, trigger: TriggerSource, delay_s: float = 0.0
    ) -> None:
        raise AssertionError("not to be played")

    def set_output(self, channel: int, on: bool) -> None:
        raise AssertionError("not to be switched")

    def trigger(self) -> None:
        raise AssertionError("not to be triggered")

    def wait_for_bursts(self) -> None:
        raise AssertionError("not to be waited for")

    def memory_free(self, channel: int) -> int:
        return 1 << 20


@given(predistortion=PREDISTORTIONS, seed=st.integers(0, 1000))
@settings(deadline=None)
def test_what_is_driven_comes_out_as_wanted(predistortion: Predistortion, seed: int) -> None:
    draw = np.random.default_rng(seed)
    wanted_i, wanted_q = draw.uniform(-0.7, 0.7, (2, 50)).astype(np.float32)
    made = predistortion.made(*predistortion.driven(wanted_i, wanted_q))
    assert made == pytest.approx(wanted_i + 1j * wanted_q, abs=1e-6)


def test_no_predistortion_drives_what_is_wanted() -> None:
    wanted = np.array([0.1, -0.2], np.float32)
    driven = Predistortion().driven(wanted, wanted)
    assert driven[0] is wanted
    assert driven[1] is wanted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gain", 0.0),
        ("gain", math.nan),
        ("gain", math.inf),
        ("quadrature_rad", math.pi / 2.0),
        ("quadrature_rad", math.nan),
        ("carrier_i", 1.0),
        ("carrier_q", math.nan),
    ],
)
def test_what_is_no_map_is_refused(name: str, value: float) -> None:
    with pytest.raises(SettingError, match=name):
        replace(Predistortion(), **{name: value})


def _sender(predistortion: Predistortion) -> tuple[FrameSender, Generator]:
    generator = Generator()
    with Station.read(shipped_station_path()) as station:
        equipment = equipment_of(station)
    drive = replace(equipment.server.drive, generator=generator)
    server = replace(equipment.server, drive=drive)
    return FrameSender(server, equipment.frame, predistortion=predistortion), generator


def test_drive_is_linear_in_the_field_after_the_modulator() -> None:
    """sin(pi v / (2 V_pi)) of what is uploaded is the predistorted field."""
    predistortion = Predistortion(1.05, 0.02, 0.01, -0.01)
    sender, generator = _sender(predistortion)
    layout = sender.layout(rows=1, modes=4)
    quadratures = np.linspace(-0.8, 0.8, 8, dtype=np.float32)[None]
    symbols = layout.server_symbols(quadratures, 1.0)
    sender.upload("FRAME", layout, symbols)
    fields = [np.sin(math.pi / 2.0 * generator.samples[channel, "FRAME"]) for channel in (1, 2)]
    made = predistortion.made(*fields)
    assert made.real == pytest.approx(layout.pulses(symbols.real), abs=1e-5)
    assert made.imag == pytest.approx(layout.pulses(symbols.imag), abs=1e-5)


def test_field_beyond_the_largest_is_refused_before_anything_is_uploaded() -> None:
    sender, generator = _sender(Predistortion(gain=0.9))
    layout = sender.layout(rows=1, modes=2)
    symbols = np.zeros(layout.slots, np.complex64)
    symbols[20] = PEAK * 1j
    with pytest.raises(SettingError, match="largest field"):
        sender.upload("FRAME", layout, symbols)
    assert not generator.samples
