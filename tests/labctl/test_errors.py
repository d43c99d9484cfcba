"""The error tree tells users what is wrong and scripts, by the exit code, whose fault it is."""

from __future__ import annotations

import inspect

import pytest

from labctl import errors
from labctl.errors import (
    ConnectionFailedError,
    InstrumentError,
    InstrumentReportedError,
    LabctlError,
    LimitError,
    ReplyError,
    RunFileError,
    SettingError,
    SignalError,
    StationFileError,
    StillLitError,
    UsageError,
    VerificationError,
)

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_a_labctl_error(kind: type[Exception]) -> None:
    assert issubclass(kind, LabctlError)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_drawn_in_the_tree_at_the_top(kind: type[Exception]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", [kind for kind in ALL if issubclass(kind, UsageError)])
def test_what_the_user_asked_wrongly_exits_with_2(kind: type[LabctlError]) -> None:
    assert kind.exit_code == 2


@pytest.mark.parametrize("kind", [kind for kind in ALL if not issubclass(kind, UsageError)])
def test_what_failed_on_the_way_exits_with_1(kind: type[LabctlError]) -> None:
    assert kind.exit_code == (4 if kind is StillLitError else 1)


def test_the_branches_are_what_the_tree_says() -> None:
    on_the_wire = (ConnectionFailedError, ReplyError, InstrumentReportedError, LimitError)
    assert all(issubclass(kind, InstrumentError) for kind in on_the_wire)
    asked_wrongly = (SettingError, StationFileError)
    assert all(issubclass(kind, UsageError) for kind in asked_wrongly)
    went_wrong = (SignalError, VerificationError, RunFileError, InstrumentError)
    assert not any(issubclass(kind, UsageError) for kind in went_wrong)


def test_a_setting_error_names_setting_value_and_what_is_valid() -> None:
    error = SettingError("gain", 1.0, "above 1")
    assert str(error) == "gain = 1.0: must be above 1"
    assert (error.name, error.value, error.valid) == ("gain", 1.0, "above 1")


def test_an_instrument_error_names_instrument_and_command() -> None:
    error = ReplyError("scope", "answered nothing", "*IDN?")
    assert str(error) == "scope: answered nothing (command '*IDN?')"
    assert (error.instrument, error.command) == ("scope", "*IDN?")


def test_an_instrument_error_without_a_command_says_nothing_of_one() -> None:
    assert str(InstrumentError("scope", "is off")) == "scope: is off"


def test_an_instruments_own_error_keeps_its_code() -> None:
    error = InstrumentReportedError("awg", -222, "Data out of range", "VOLT 99")
    assert (error.code, error.message) == (-222, "Data out of range")
    assert str(error) == "awg: reports error -222, Data out of range (command 'VOLT 99')"


def test_a_limit_error_names_quantity_value_and_limits() -> None:
    error = LimitError("laser", "power_w", 1.0, "0 to 0.02")
    assert str(error) == "laser: power_w = 1.0 refused, must be 0 to 0.02"
