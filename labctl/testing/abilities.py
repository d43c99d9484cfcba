"""What each capability owes: what is set is read back, what is out of range is refused unsent.

A check takes the driver on its panel, and the instrument or channel that has the capability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from labctl.errors import InstrumentError, InstrumentTimeoutError, LimitError
from labctl.instruments.capabilities import (
    Attenuator,
    BiasPoint,
    Digitizer,
    Laser,
    ModulatorBias,
    PowerMeter,
    Restartable,
    SourceMeter,
    SweptLaser,
    TriggerSource,
    TunableLaser,
    VoltageSource,
    WaveformGenerator,
)
from labctl.instruments.simulated.panel import PowerCycledPanel
from labctl.testing.on_bench import OnBench, numbers_of, refused, refused_by_panel
from labctl.units import frequency_to_wavelength_m

NO_NUMBERS = (math.nan, math.inf, -math.inf)
# More than any digitizer has.
_MOST_INPUTS = 64


def check_attenuator(bench: OnBench, each: Attenuator) -> None:
    """Attenuation in dB, to 0.06 dB."""
    for attenuation_db in (3.0, 10.0, 15.5, 1.0):
        each.set_attenuation(attenuation_db)
        assert each.attenuation_db() == pytest.approx(attenuation_db, abs=0.06)
    refused(bench, each.set_attenuation, -1.0, 1e3, *NO_NUMBERS)
    assert each.attenuation_db() == pytest.approx(1.0, abs=0.06)
    refused_by_panel(bench, each.set_attenuation, each.attenuation_db, 7.3)


def check_laser(bench: OnBench, each: Laser) -> None:
    """Powers of 1 to 15 mW as far as they are allowed, to 10 %; emission off in the safe state."""
    accepted = []
    for power_w in (1e-3, 5e-3, 8e-3, 10e-3, 15e-3):
        with suppress(LimitError):
            each.set_power(power_w)
            accepted.append(power_w)
    assert len(accepted) >= 2, "takes two powers of 1 to 15 mW"
    each.set_emission(True)
    assert each.emission() is True
    for power_w in accepted:
        each.set_power(power_w)
        assert each.power_w() == pytest.approx(power_w, rel=0.1)
    refused(bench, each.set_power, -1.0, 1e3, *NO_NUMBERS)
    # 10 mW is 10 dBm: the same digits in either unit.
    refused_by_panel(bench, each.set_power, each.power_w, 10e-3)
    each.set_emission(False)
    assert each.emission() is False
    assert each.power_w() < 0.01 * min(accepted)
    each.set_emission(True)
    bench.instrument.safe_state()
    assert each.emission() is False


def check_tunable_laser(bench: OnBench, each: TunableLaser) -> None:
    """Frequencies within the limits that the instrument states, to 50 MHz."""
    lowest_hz, highest_hz = each.frequency_limits_hz()
    assert 1e14 < lowest_hz < highest_hz < 3e14
    for share in (0.0, 0.3, 0.5, 1.0):
        frequency_hz = lowest_hz + share * (highest_hz - lowest_hz)
        each.set_frequency(frequency_hz)
        assert each.frequency_hz() == pytest.approx(frequency_hz, abs=5e7)
    refused(bench, each.set_frequency, 0.0, lowest_hz - 1e12, highest_hz + 1e12, *NO_NUMBERS)
    assert each.frequency_hz() == pytest.approx(highest_hz, abs=5e7)
    middle_hz = (lowest_hz + highest_hz) / 2
    refused_by_panel(
        bench, each.set_frequency, each.frequency_hz, middle_hz, frequency_to_wavelength_m
    )


def check_swept_laser(bench: OnBench, each: SweptLaser) -> None:
    """A sweep starts and stops; speeds and wavelengths out of range are refused."""
    assert isinstance(each, TunableLaser)
    shortest_m, longest_m = sorted(map(frequency_to_wavelength_m, each.frequency_limits_hz()))
    start_m, stop_m = shortest_m + 5e-9, longest_m - 5e-9
    each.set_emission(True)
    each.configure_sweep(start_m, stop_m, 50e-9)
    assert each.sweeping() is False
    each.start_sweep()
    assert each.sweeping() is True
    each.stop_sweep()
    assert each.sweeping() is False
    refused(bench, lambda speed: each.configure_sweep(start_m, stop_m, speed), -1.0, *NO_NUMBERS)
    refused(bench, lambda stop: each.configure_sweep(start_m, stop, 50e-9), 0.0, 1.0, *NO_NUMBERS)


def check_voltage_source(bench: OnBench, each: VoltageSource) -> None:
    """Voltages of 0 to 2 V, to 2 mV."""
    for voltage_v in (0.0, 0.5, 1.25, 2.0):
        each.set_voltage(voltage_v)
        assert each.voltage_v() == pytest.approx(voltage_v, abs=2e-3)
    refused(bench, each.set_voltage, 1e4, -1e4, *NO_NUMBERS)
    assert each.voltage_v() == pytest.approx(2.0, abs=2e-3)
    refused_by_panel(bench, each.set_voltage, each.voltage_v, 1.75)


def check_source_meter(bench: OnBench, each: SourceMeter) -> None:
    """Measured values stay within the current limit; next to no current in the safe state."""
    each.set_current_limit(5e-3)
    each.set_voltage(1.0)
    assert abs(each.measured_voltage_v()) <= 1.01
    assert abs(each.measured_current_a()) <= 5.1e-3
    refused(bench, each.set_current_limit, 0.0, -1.0, 1e3, *NO_NUMBERS)
    bench.instrument.safe_state()
    assert abs(each.measured_current_a()) <= 1e-4


def check_modulator_bias(bench: OnBench, each: ModulatorBias) -> None:
    """Bias voltages of -2.25 to 3 V, to 2 mV; each bias point can be locked."""
    for voltage_v in (0.0, 1.5, -2.25, 3.0):
        each.hold_voltage(voltage_v)
        assert each.bias_voltage_v() == pytest.approx(voltage_v, abs=2e-3)
    refused(bench, each.hold_voltage, 1e3, -1e3, *NO_NUMBERS)
    assert each.bias_voltage_v() == pytest.approx(3.0, abs=2e-3)
    refused_by_panel(bench, each.hold_voltage, each.bias_voltage_v, 1.234)
    for point in BiasPoint:
        each.lock(point)
        assert math.isfinite(each.bias_voltage_v())
    each.release()


def check_waveform_generator(bench: OnBench, each: WaveformGenerator) -> None:
    """A waveform is stored, played, triggered and forgotten on the first and the last channel."""
    numbers = numbers_of(each.stored)
    for channel in {numbers[0], numbers[-1]}:
        others = {number: each.stored(number) for number in numbers if number != channel}
        _check_generator_channel(bench, each, channel, others)


def _check_generator_channel(
    bench: OnBench, each: WaveformGenerator, channel: int, others: Mapping[int, tuple[str, ...]]
) -> None:
    each.forget(channel)
    empty = each.stored(channel)
    free = each.memory_free(channel)
    samples = np.linspace(-1.0, 1.0, 4000)
    each.upload(channel, "ramp", samples)
    assert any("ramp" in name.lower() for name in set(each.stored(channel)) - set(empty))
    assert {number: each.stored(number) for number in others} == others
    assert each.memory_free(channel) < free

    def play(rate_hz: float = 1e6, amplitude_v: float = 0.5, offset_v: float = 0.0) -> None:
        each.play(
            channel, "ramp", sample_rate_hz=rate_hz, amplitude_v=amplitude_v, offset_v=offset_v
        )

    play()
    each.burst(channel, cycles=2, trigger=TriggerSource.SOFTWARE, delay_s=1e-6)
    each.set_output(channel, True)
    each.trigger()
    each.wait_for_bursts()
    refused(
        bench, lambda peak: each.upload(channel, "wrong", peak * samples), 1.5, math.nan, math.inf
    )
    refused(bench, lambda rate_hz: play(rate_hz=rate_hz), 0.0, -1.0, 1e15, *NO_NUMBERS)
    refused(bench, lambda amplitude_v: play(amplitude_v=amplitude_v), 0.0, 1e3, *NO_NUMBERS)
    refused(bench, lambda offset_v: play(offset_v=offset_v), 1e3, *NO_NUMBERS)
    refused(
        bench,
        lambda delay_s: each.burst(
            channel, cycles=1, trigger=TriggerSource.SOFTWARE, delay_s=delay_s
        ),
        -1.0,
        *NO_NUMBERS,
    )
    refused(bench, lambda number: each.set_output(int(number), True), 0, -1, 99)
    each.forget(channel)
    assert set(each.stored(channel)) == set(empty)


def check_digitizer(bench: OnBench, each: Digitizer) -> None:
    """A record without its trigger times out; settings out of range are refused.

    On the first and on the last channel that the panel has.
    """
    numbers = _digitizer_channels(each)
    for number in {numbers[0], numbers[-1]}:
        _check_digitizer_channel(bench, each, number)


def _digitizer_channels(each: Digitizer) -> list[int]:
    """Return the channels that can be configured, on a panel that may have fewer than the model."""
    found = []
    with suppress(InstrumentError):
        for number in range(1, _MOST_INPUTS + 1):
            each.configure_channel(number, range_v=1.0, offset_v=0.0)
            found.append(number)
    assert found, "has a channel 1"
    return found


def _check_digitizer_channel(bench: OnBench, each: Digitizer, input_number: int) -> None:
    def channel(range_v: float = 1.0, offset_v: float = 0.0) -> None:
        each.configure_channel(input_number, range_v=range_v, offset_v=offset_v)

    def level(level_v: float) -> None:
        each.configure_trigger(input_number, level_v=level_v)

    def length(duration_s: float) -> None:
        each.configure_record(start_s=0.0, duration_s=duration_s)

    channel()
    length(10e-6)
    each.configure_trigger("external", level_v=0.5)
    each.arm([input_number])
    assert each.complete() is False
    with pytest.raises(InstrumentTimeoutError, match="trigger"):
        each.read(input_number)
    refused(bench, lambda range_v: channel(range_v=range_v), 0.0, -1.0, *NO_NUMBERS)
    refused(bench, lambda offset_v: channel(offset_v=offset_v), *NO_NUMBERS)
    refused(bench, length, 0.0, -1.0, *NO_NUMBERS)
    refused(
        bench, lambda level_v: each.configure_trigger(input_number, level_v=level_v), *NO_NUMBERS
    )
    refused(bench, lambda number: each.arm([int(number)]), 0, -1, 99)


def check_power_meter(bench: OnBench, each: PowerMeter) -> None:
    """Wavelengths around 1310 and 1550 nm; the power is a number."""
    read_back: Callable[[], float] | None = getattr(each, "wavelength_m", None)
    for wavelength_m in (1310e-9, 1550e-9, 1550.12e-9):
        each.set_wavelength(wavelength_m)
        assert math.isfinite(each.power_w())
        if read_back is not None:
            assert read_back() == pytest.approx(wavelength_m, abs=1e-12)
    refused(bench, each.set_wavelength, 0.0, 1.0, 1550.0, *NO_NUMBERS)
    if read_back is not None:
        refused_by_panel(bench, each.set_wavelength, read_back, 1543.21e-9)
    each.zero()
    assert math.isfinite(each.power_w())


def check_restartable(bench: OnBench, each: Restartable) -> None:
    """It has not been off since it was opened; once its supply was, it says so one time."""
    assert each.restarted() is False
    panel = bench.panel
    assert isinstance(panel, PowerCycledPanel), f"{type(panel).__name__} has no power_cycle"
    panel.power_cycle()
    assert each.restarted() is True
    assert each.restarted() is False


CHECKS: dict[type[Any], Callable[[OnBench, Any], None]] = {
    Attenuator: check_attenuator,
    Laser: check_laser,
    TunableLaser: check_tunable_laser,
    SweptLaser: check_swept_laser,
    VoltageSource: check_voltage_source,
    SourceMeter: check_source_meter,
    ModulatorBias: check_modulator_bias,
    WaveformGenerator: check_waveform_generator,
    Digitizer: check_digitizer,
    PowerMeter: check_power_meter,
    Restartable: check_restartable,
}
"""Each capability with its check; a driver or channel that has it is checked by it."""
