"""Capabilities: values are frozen, protocols are small, and drivers are recognised by them."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from labctl.instruments import capabilities
from labctl.instruments.capabilities import BiasPoint, Identity, Trace, TriggerSource
from labctl.instruments.generators.keysight_33512b import Keysight33512B
from labctl.instruments.lasers.purephotonics_ppcl550 import PurePhotonicsPPCL550
from labctl.instruments.modulators.thorlabs_mx10b import ThorlabsMX10B
from labctl.instruments.oscilloscopes.keysight_infiniivision import KeysightInfiniiVision
from labctl.instruments.power_meters.thorlabs_pm100d import ThorlabsPM100D

# Only a type checker can tell that signatures agree; at run time names are all there is.
DRIVERS: tuple[type[capabilities.Driver], ...] = (
    Keysight33512B,
    KeysightInfiniiVision,
    PurePhotonicsPPCL550,
    ThorlabsMX10B,
    ThorlabsPM100D,
)
GENERATOR: type[capabilities.WaveformGenerator] = Keysight33512B
DIGITIZER: type[capabilities.Digitizer] = KeysightInfiniiVision
LASER: type[capabilities.TunableLaser] = PurePhotonicsPPCL550
BIAS: type[capabilities.ModulatorBias] = ThorlabsMX10B
ATTENUATOR: type[capabilities.Attenuator] = ThorlabsMX10B
METER: type[capabilities.PowerMeter] = ThorlabsPM100D


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
