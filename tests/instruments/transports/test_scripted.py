"""A script is kept to the letter, or the test that uses it fails."""

from __future__ import annotations

import pytest

from labctl.errors import ConnectionFailedError
from labctl.instruments.transports.scripted import ScriptedFrames, ScriptedTransport


def test_another_command_than_the_script_s_fails() -> None:
    with pytest.raises(AssertionError, match=r"'\*RST' was sent, '\*CLS' expected"):
        ScriptedTransport([("*CLS", None)]).write("*RST")


def test_more_than_the_script_fails() -> None:
    with pytest.raises(AssertionError, match="after the script's end"):
        ScriptedTransport([]).query("*IDN?")
    with pytest.raises(AssertionError, match="after the script's end"):
        ScriptedFrames([]).exchange(b"\0\0\0\0")


def test_less_than_the_script_fails() -> None:
    with pytest.raises(AssertionError, match=r"never sent: \['\*CLS'\]"):
        ScriptedTransport([("*CLS", None)]).finish()
    with pytest.raises(AssertionError, match="never sent"):
        ScriptedFrames([("00000000", "00000000")]).finish()


def test_a_query_for_a_setting_and_a_setting_for_a_query_fail() -> None:
    with pytest.raises(AssertionError, match="stays unread"):
        ScriptedTransport([("A?", "1")]).write("A?")
    with pytest.raises(AssertionError, match="was queried"):
        ScriptedTransport([("A", None)]).query("A")


def test_a_closed_script_refuses() -> None:
    wire = ScriptedTransport([("A", None)])
    wire.close()
    with pytest.raises(ConnectionFailedError):
        wire.write("A")
