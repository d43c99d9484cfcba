"""Rate and light of an inference, counted slot by slot and photon by photon."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from labctl.errors import SettingError
from labctl.protocols.leakage import LayerShape
from labctl.studies.planner.throughput import Transmission, throughput_of

REFERENCE = (LayerShape(784, 392, 784), LayerShape(10, 392, 784))


def test_the_reference_network_counted_by_hand() -> None:
    """Frames of 257 + 16 + rows (1 + 392 + 1) + 16 slots at 20 MHz; hν of 193.4 THz."""
    found = throughput_of(REFERENCE, Transmission(), mean_photons=0.5, leg_transmittance=0.8)
    slots = 2 * (257 + 16 + 16) + 794 * 394
    assert found.seconds_per_inference == pytest.approx(slots / 20e6, rel=1e-12)
    assert found.inferences_per_s == pytest.approx(20e6 / slots, rel=1e-12)
    assert (found.modes, found.macs) == (311_248, 622_496)
    assert found.payload_share == pytest.approx(311_248 / slots)
    assert found.photons_sent == pytest.approx(155_624.0)
    assert found.photons_at_client == pytest.approx(0.8 * 155_624.0)
    assert found.energy_at_client_j == pytest.approx(
        0.8 * 155_624.0 * 6.62607015e-34 * 193.4e12, rel=1e-12
    )
    assert found.photons_per_mac == pytest.approx(0.2)
    assert found.energy_per_mac_j == pytest.approx(found.energy_at_client_j / 622_496)
    assert found.local_oscillator_energy_j is None


def test_blocks_take_pilots_and_readouts_of_their_own() -> None:
    blocks = (LayerShape(784, 392, 784, 100), LayerShape(10, 392, 784, 100))
    found = throughput_of(blocks, Transmission(), mean_photons=1.0, leg_transmittance=1.0)
    slots = 2 * (257 + 32) + 794 * 4 * (1 + 100 + 1)
    assert found.seconds_per_inference == pytest.approx(slots / 20e6, rel=1e-12)
    assert found.modes == 311_248


def test_local_oscillators_are_counted_if_asked_for() -> None:
    found = throughput_of(
        REFERENCE,
        Transmission(local_oscillator_w=0.01),
        mean_photons=1.0,
        leg_transmittance=1.0,
    )
    assert found.local_oscillator_energy_j == pytest.approx(0.02 * found.seconds_per_inference)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("symbol_rate_hz", lambda: Transmission(symbol_rate_hz=0.0)),
        ("symbol_rate_hz", lambda: Transmission(symbol_rate_hz=math.nan)),
        ("frequency_hz", lambda: Transmission(frequency_hz=math.inf)),
        ("preamble_symbols", lambda: Transmission(preamble_symbols=256)),
        ("preamble_symbols", lambda: Transmission(preamble_symbols=-1)),
        ("local_oscillator_w", lambda: Transmission(local_oscillator_w=-1.0)),
        ("local_oscillator_w", lambda: Transmission(local_oscillator_w=math.nan)),
    ],
)
def test_what_cannot_be_sent_is_refused(name: str, wrong: Callable[[], Transmission]) -> None:
    with pytest.raises(SettingError, match=name):
        wrong()


def test_guards_are_checked_with_the_frame() -> None:
    with pytest.raises(SettingError, match="guard_symbols"):
        Transmission(guard_symbols=-1).slots(REFERENCE[0])
