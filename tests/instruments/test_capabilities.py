"""Capabilities: values are frozen, protocols are small, and drivers are recognised by them."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from labctl.instruments import capabilities, drivers
from labctl.instruments.attenuators.oz_optics_dd100 import OzOpticsDD100
from labctl.instruments.capabilities import BiasPoint, Identity, Trace, TriggerSource
from labctl.instruments.digitizers.red_pitaya import RedPitaya
from labctl.instruments.generators.keysight_33512b import Keysight33512B
from labctl.instruments.lasers.keysight_n7776c import KeysightN7776C
from labctl.instruments.lasers.purephotonics_ppcl550 import PurePhotonicsPPCL550
from labctl.instruments.lasers.santec_tsl570 import SantecTSL570
from labctl.instruments.modulators.thorlabs_mx10b import ThorlabsMX10B
from labctl.instruments.oscilloscopes.keysight_infiniivision import KeysightInfiniiVision
from labctl.instruments.power_meters.keysight_n7744a import KeysightN7744A
from labctl.instruments.power_meters.keysight_n7744a_port import PowerMeterPort
from labctl.instruments.power_meters.thorlabs_pm100d import ThorlabsPM100D
from labctl.instruments.sources.keithley_2450 import Keithley2450
from labctl.instruments.sources.keysight_e36312a import KeysightE36312A
from labctl.instruments.sources.qontrol_q8iv import QontrolQ8iv

# Only a type checker can tell that signatures agree; at run time names are all there is. The tests
# below see to it that no registered driver, and none of its capabilities, is missing here.
DRIVERS: tuple[type[capabilities.Driver], ...] = (
    Keithley2450,
    Keysight33512B,
    KeysightE36312A,
    KeysightInfiniiVision,
    KeysightN7744A,
    KeysightN7776C,
    OzOpticsDD100,
    PurePhotonicsPPCL550,
    QontrolQ8iv,
    RedPitaya,
    SantecTSL570,
    ThorlabsMX10B,
    ThorlabsPM100D,
)
LASERS: tuple[type[capabilities.Laser], ...] = (KeysightN7776C, PurePhotonicsPPCL550, SantecTSL570)
TUNABLE: tuple[type[capabilities.TunableLaser], ...] = (
    KeysightN7776C,
    PurePhotonicsPPCL550,
    SantecTSL570,
)
SWEPT: tuple[type[capabilities.SweptLaser], ...] = (KeysightN7776C, SantecTSL570)
ATTENUATORS: tuple[type[capabilities.Attenuator], ...] = (OzOpticsDD100, ThorlabsMX10B)
BIASES: tuple[type[capabilities.ModulatorBias], ...] = (ThorlabsMX10B,)
SOURCES: tuple[type[capabilities.VoltageSource], ...] = (Keithley2450,)
SOURCE_METERS: tuple[type[capabilities.SourceMeter], ...] = (Keithley2450,)
GENERATORS: tuple[type[capabilities.WaveformGenerator], ...] = (Keysight33512B,)
DIGITIZERS: tuple[type[capabilities.Digitizer], ...] = (KeysightInfiniiVision, RedPitaya)
METERS: tuple[type[capabilities.PowerMeter], ...] = (ThorlabsPM100D,)
PORT: type[capabilities.PowerMeter] = PowerMeterPort

TYPED: dict[type[object], tuple[type[object], ...]] = {
    capabilities.Laser: LASERS,
    capabilities.TunableLaser: TUNABLE,
    capabilities.SweptLaser: SWEPT,
    capabilities.Attenuator: ATTENUATORS,
    capabilities.ModulatorBias: BIASES,
    capabilities.VoltageSource: SOURCES,
    capabilities.SourceMeter: SOURCE_METERS,
    capabilities.WaveformGenerator: GENERATORS,
    capabilities.Digitizer: DIGITIZERS,
    capabilities.PowerMeter: METERS,
}


def test_every_registered_driver_is_type_checked() -> None:
    loaded = {drivers.load(name) for name in drivers.names()}
    shipped = {driver for driver in loaded if driver.__module__.startswith("labctl.")}
    assert shipped == set(DRIVERS)


@pytest.mark.parametrize("capability", TYPED, ids=lambda kind: kind.__name__)
def test_every_driver_is_type_checked_for_what_it_can_do(capability: type[object]) -> None:
    members = {
        name
        for kind in capability.__mro__
        if kind.__module__ == capabilities.__name__
        for name in vars(kind)
        if not name.startswith("_")
    }
    able = {driver for driver in DRIVERS if members <= set(dir(driver))}
    assert able == set(TYPED[capability])


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_public_method_of_a_driver_says_what_it_does(driver: type[object]) -> None:
    public = [member for name, member in vars(driver).items() if not name.startswith("_")]
    assert len(public) > 4
    for member in public:
        assert inspect.getdoc(member), member


def test_an_identity_cannot_change() -> None:
    identity = Identity("A", "B", "C", "D")
    for field in fields(identity):
        with pytest.raises(FrozenInstanceError):
            setattr(identity, field.name, "E")


def test_the_times_of_a_trace_count_from_the_trigger() -> None:
    trace = Trace(-1.0, 0.5, np.zeros(4, dtype=np.float32))
    assert trace.time_s.tolist() == [-1.0, -0.5, 0.0, 0.5]


def test_an_object_without_the_methods_has_no_capability() -> None:
    for protocol in (
        capabilities.Instrument,
        capabilities.Laser,
        capabilities.Attenuator,
        capabilities.ModulatorBias,
        capabilities.VoltageSource,
        capabilities.WaveformGenerator,
        capabilities.Digitizer,
        capabilities.PowerMeter,
    ):
        assert not isinstance(object(), protocol)


def test_the_bias_points_and_triggers_are_all_there() -> None:
    assert [point.name for point in BiasPoint] == [
        "PEAK",
        "NULL",
        "QUADRATURE_PLUS",
        "QUADRATURE_MINUS",
    ]
    assert [source.name for source in TriggerSource] == ["IMMEDIATE", "EXTERNAL", "SOFTWARE"]
