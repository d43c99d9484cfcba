"""Secrets: found by the names of options, gone from every text that could carry them."""

from __future__ import annotations

import pytest

from labctl.instruments.transports import masking
from labctl.instruments.transports.masking import conceal, is_secret, masked, masked_arguments
from labctl.instruments.transports.opening import DriverOptions, read_options


class LockedOptions(DriverOptions):
    password: str = ""
    pin: int | None = None
    damping: float = 1.0


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_known", set())


@pytest.mark.parametrize(
    "name",
    ["password", "Password", "admin_password", "pin", "pin_2", "key", "api_key", "--api-key"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["damping", "spinning_hz", "model", "keyence", "pinhole_m", ""])
def test_names_of_what_is_no_secret(name: str) -> None:
    assert not is_secret(name)


def test_a_secret_is_masked_wherever_it_stands() -> None:
    conceal({"password": "hunter22", "model": "PM100D"})
    assert masked('SYST:PASS "hunter22";*IDN? PM100D') == 'SYST:PASS "***";*IDN? PM100D'


def test_a_short_secret_or_a_number_is_masked_where_it_stands_alone() -> None:
    conceal({"pin": 1234, "key": "ab"})
    told = masked(":LOCK 0,1234;VOLT 0.1234;1234.5;LEV1234;ab;abc")
    assert told == ":LOCK 0,***;VOLT 0.1234;1234.5;LEV1234;***;abc"


def test_of_two_secrets_the_longer_one_is_masked_whole() -> None:
    conceal({"pin": "abcd", "key": "abcdef"})
    assert masked("abcdef abcd") == "*** ***"


@pytest.mark.parametrize("value", [None, "", True])
def test_what_says_nothing_hides_nothing(value: object) -> None:
    conceal({"password": value})
    assert masked("None True  1") == "None True  1"


def test_options_of_a_driver_are_concealed_as_they_are_read() -> None:
    read_options(LockedOptions, "laser", {"password": "open sesame", "pin": 4711, "damping": 5.0})
    assert masked("open sesame 4711 5.0") == "*** *** 5.0"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["run", "--password", "x", "--model", "y"], ["run", "--password", "***", "--model", "y"]),
        (["run", "--api-key=x=y", "z"], ["run", "--api-key=***", "z"]),
        (["run", "password", "x", "--pin"], ["run", "password", "x", "--pin"]),
    ],
)
def test_command_lines(arguments: list[str], shown: list[str]) -> None:
    assert masked_arguments(arguments) == shown
