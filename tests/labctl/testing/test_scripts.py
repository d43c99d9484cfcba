"""A script is kept to the letter, or the test that uses it fails and says where."""

from __future__ import annotations

import pytest

from labctl.errors import ConnectionFailedError, InstrumentTimeoutError
from labctl.testing import ScriptedFrames, ScriptedLines, ScriptedTransport, ScriptError, accepted


def test_another_command_than_the_script_s_fails() -> None:
    wire = ScriptedTransport([("*IDN?", "A,B,C,D"), ("*CLS", None)])
    assert wire.query("*IDN?") == "A,B,C,D"
    with pytest.raises(ScriptError, match=r"'\*RST' was sent, '\*CLS' expected \(step 2 of 2\)"):
        wire.write("*RST")


def test_more_than_the_script_fails() -> None:
    with pytest.raises(ScriptError, match="after the script's end"):
        ScriptedTransport([]).query("*IDN?")
    with pytest.raises(ScriptError, match="after the script's end"):
        ScriptedFrames([]).exchange(b"\0\0\0\0")


def test_less_than_the_script_fails() -> None:
    with pytest.raises(ScriptError, match=r"never sent: \['\*CLS'\]"):
        ScriptedTransport([("*CLS", None)]).finish()
    with pytest.raises(ScriptError, match="never sent"):
        ScriptedFrames([("00000000", "00000000")]).finish()


def test_a_query_for_a_setting_and_a_setting_for_a_query_fail() -> None:
    with pytest.raises(ScriptError, match="stays unread"):
        ScriptedTransport([("A?", "1")]).write("A?")
    with pytest.raises(ScriptError, match="was queried"):
        ScriptedTransport([("A", None)]).query("A")


def test_a_closed_script_refuses() -> None:
    wire = ScriptedTransport([("A", None)])
    wire.close()
    with pytest.raises(ConnectionFailedError):
        wire.write("A")


def test_a_failed_script_fails_as_an_assertion_does() -> None:
    assert issubclass(ScriptError, AssertionError)


def test_an_error_in_a_script_is_raised() -> None:
    wire = ScriptedTransport([("A?", InstrumentTimeoutError("scripted", "no answer", "A?"))])
    with pytest.raises(InstrumentTimeoutError, match="no answer"):
        wire.query("A?")
    wire.finish()


def test_lines_come_until_the_reply_ends() -> None:
    wire = ScriptedLines([("id?", ("1", "OK")), ("x", ("1",)), ("y", ("OK", "2"))])
    assert wire.exchange("id?", lambda lines: lines[-1] == "OK") == ("1", "OK")
    with pytest.raises(InstrumentTimeoutError, match="has not ended"):
        wire.exchange("x", lambda lines: lines[-1] == "OK")
    with pytest.raises(ScriptError, match=r"\('2',\) is left for the next reply"):
        wire.exchange("y", lambda lines: lines[-1] == "OK")


def test_accepted_settings_are_each_asked_for_errors() -> None:
    asked = ("SYST:ERR?", '+0,"No error"')
    assert accepted("OUTP 1", b"DATA #11x") == [
        ("OUTP 1", None),
        asked,
        (b"DATA #11x", None),
        asked,
    ]
