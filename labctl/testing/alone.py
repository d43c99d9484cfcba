"""What every driver owes its callers, checked without its instrument.

Each check takes the driver class and fails with an AssertionError that says what is owed.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import pyvisa
from pyvisa.constants import StatusCode

from labctl.errors import (
    ConnectionFailedError,
    InstrumentError,
    InstrumentTimeoutError,
    LimitError,
    ReplyError,
    SettingError,
)
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Instrument
from labctl.instruments.transports import visa_link
from labctl.testing.shape import (
    CAPABILITIES,
    UNITS,
    capabilities_of,
    channels_of,
    documentation,
    hint,
    may_hand_out_a_channel,
    options_of,
    parts_of,
    public_methods,
    questions_of,
)
from labctl.testing.wires import DEAD_ADDRESS, BrokenLibrary, GarbageWire, SilentWire

GARBAGE = ("", "garbage", "1", "a,b,c", "a,b,c,d", "\x00\xff?,", ",,,", "9" * 5000, "nan")
"""Answers that no instrument gives to every question."""

NO_CHANNELS = (-1, 1000)
"""Numbers of channels that no instrument has."""

_Driver = type[Any]


def it_is_an_instrument_with_its_words(driver: _Driver) -> None:
    """Module and class say what they are, and the class is an Instrument."""
    module = inspect.getmodule(driver)
    assert inspect.getdoc(module), "the module says what instrument this is, and its sources"
    assert driver.__doc__, "the class says what it is"
    assert isinstance(driver(SilentWire()), Instrument)


def every_public_method_says_what_it_does_and_in_which_units(driver: _Driver) -> None:
    """Each method has a docstring that names the unit of each argument that has one."""
    kinds = {type(part) for part in parts_of(driver(SilentWire()))}
    for kind in kinds | set(channels_of(driver).values()):
        for method, member in public_methods(kind).items():
            text = documentation(kind, method)
            assert text.strip(), f"{kind.__name__}.{method} has no docstring"
            for argument in (method, *inspect.signature(member).parameters):
                unit = UNITS.get(argument.rpartition("_")[2]) if "_" in argument else None
                named = unit is None or re.search(rf"\b{unit}\b|\b{argument}\b", text)
                assert named, f"{method}: neither {unit} nor {argument} is in its docstring"


def it_has_a_capability_that_callers_can_ask_for(driver: _Driver) -> None:
    """The driver, a channel of it or both have a capability."""
    assert capabilities_of(driver) or channels_of(driver), "no capability"


def what_it_declares_is_of_its_kind(driver: _Driver) -> None:
    """`hazard`, `leaving_s`, `Options` and `reads_back` are what stations and checks take them for.

    What a method with one whole number hands out is annotated, or no one can tell a channel.
    """
    declared = getattr(driver, "hazard", Hazard.NONE)
    assert isinstance(declared, Hazard), f"hazard: expected one of Hazard, got {declared!r}"
    leaving_s = getattr(driver, "leaving_s", 1.0)
    number = isinstance(leaving_s, int | float) and not isinstance(leaving_s, bool)
    assert number, f"leaving_s: expected a duration in s, got {leaving_s!r}"
    assert 0 < leaving_s < math.inf, f"leaving_s: expected a duration in s, got {leaving_s!r}"
    options, model = getattr(driver, "Options", None), options_of(driver)
    assert options in (None, model), f"Options: expected {model}, got {options!r}"
    for kind in {type(part) for part in parts_of(driver(SilentWire()))} | set(
        channels_of(driver).values()
    ):
        names: object = getattr(kind, "reads_back", frozenset())
        expected = f"{kind.__name__}.reads_back: expected a frozenset of its setters"
        assert isinstance(names, frozenset), f"{expected}, got {names!r}"
        for name in names:
            assert name in public_methods(kind), f"{expected}, got {name!r}"
        for method in public_methods(kind).values():
            if may_hand_out_a_channel(method):
                hint(method, "return")


def what_looks_like_a_capability_can_be_called_like_it(driver: _Driver) -> None:
    """At run time names are all that a capability is asked by: they must not promise too much."""
    for kind in (driver, *channels_of(driver).values()):
        for capability in capabilities_of(kind):
            for method in CAPABILITIES[capability]:
                wanted = inspect.signature(getattr(capability, method)).parameters
                found = inspect.signature(getattr(kind, method)).parameters
                shown = f"{kind.__name__}.{method}{tuple(found)} is no {capability.__name__}"
                assert list(found)[: len(wanted)] == list(wanted), shown
                more = list(found.values())[len(wanted) :]
                assert all(each.default is not inspect.Parameter.empty for each in more), shown


def a_channel_that_is_not_there_is_refused_before_the_wire(driver: _Driver) -> None:
    """LimitError, and nothing is sent."""
    for method in channels_of(driver):
        for number in NO_CHANNELS:
            wire = SilentWire()
            with about(f"{method}({number})"), pytest.raises(LimitError):
                getattr(driver(wire), method)(number)
            assert wire.said == []


def it_is_opened_like_every_other(driver: _Driver) -> None:
    """`open(name, address, *, library, options)` is a class method."""
    assert isinstance(inspect.getattr_static(driver, "open"), classmethod)
    found = list(inspect.signature(driver.open).parameters.values())
    assert [(each.name, each.kind) for each in found] == [
        ("name", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        ("address", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        ("library", inspect.Parameter.KEYWORD_ONLY),
        ("options", inspect.Parameter.KEYWORD_ONLY),
    ]
    assert all(each.default is inspect.Parameter.empty for each in found)


def it_is_made_with_its_defaults_and_sends_nothing(driver: _Driver) -> None:
    """All options have defaults, `timeout_s` among them; the constructor is silent."""
    model = options_of(driver)
    assert "timeout_s" in model.model_fields
    for options in (None, model()):
        wire = SilentWire()
        assert driver(wire, options).name == "dut"
        assert wire.said == []


def an_unknown_option_is_refused_by_name(driver: _Driver) -> None:
    """SettingError, which names the valid ones."""
    with pytest.raises(SettingError, match=r"dut option colour = 'red': .* timeout_s"):
        driver.open("dut", "x", library="@nowhere", options={"colour": "red"})


def silence_is_a_time_out_and_never_a_success(driver: _Driver) -> None:
    """`identify` times out; `safe_state` does too, unless it has nothing to send."""
    with pytest.raises(InstrumentTimeoutError, match="dut: no answer"):
        driver(SilentWire()).identify()
    wire = SilentWire()
    instrument = driver(wire)
    for _ in range(2):
        wire.said.clear()
        try:
            instrument.safe_state()
        except InstrumentTimeoutError:
            continue
        assert wire.said == [], "was sent, but nobody confirmed it"


def no_question_is_answered_by_silence(driver: _Driver) -> None:
    """Every question of the driver and its parts times out."""
    for part in parts_of(driver(SilentWire())):
        for question in questions_of(part):
            with about(question), pytest.raises((InstrumentTimeoutError, LimitError)):
                question()


def garbage_raises_no_surprise_from_any_question(driver: _Driver) -> None:
    """An InstrumentError at most."""
    for answer in GARBAGE:
        for part in parts_of(driver(GarbageWire(answer))):
            for question in questions_of(part):
                with about(f"{question} answered by {answer!r}"), suppress(InstrumentError):
                    question()


def garbage_identifies_nobody(driver: _Driver) -> None:
    """ReplyError."""
    for answer in GARBAGE:
        with about(f"answer {answer!r}"), pytest.raises(ReplyError, match=r"^dut: "):
            driver(GarbageWire(answer)).identify()


def garbage_raises_no_surprise_on_the_way_to_the_safe_state(driver: _Driver) -> None:
    """An InstrumentError at most."""
    for answer in GARBAGE:
        with about(f"answer {answer!r}"), suppress(InstrumentError):
            driver(GarbageWire(answer)).safe_state()


def closing_twice_is_closing_once_and_sends_nothing(driver: _Driver) -> None:
    """The transport is closed, and nothing is sent."""
    wire = SilentWire()
    instrument = driver(wire)
    instrument.close()
    instrument.close()
    assert wire.closed >= 1
    assert wire.said == []


def a_silent_address_is_named(driver: _Driver) -> None:
    """ConnectionFailedError with the address, on a line where nobody answers."""
    tty = pytest.importorskip("tty", reason="needs pseudo-terminals")
    far, near = os.openpty()
    try:
        tty.setraw(near)
        line = f"ASRL{os.ttyname(near)}::INSTR"
        with pytest.raises(ConnectionFailedError, match=f"dut: {re.escape(line)} opened but"):
            driver.open("dut", line, library="@py", options={"timeout_s": 0.05})
    finally:
        os.close(near)
        os.close(far)


def an_absent_address_is_named(driver: _Driver) -> None:
    """ConnectionFailedError with the address."""
    with pytest.raises(ConnectionFailedError, match="dut: cannot open ASRL/dev/none::INSTR"):
        driver.open("dut", "ASRL/dev/none::INSTR", library="@py", options={})


def what_a_visa_library_raises_never_gets_out(driver: _Driver) -> None:
    """ConnectionFailedError with the address, for any kind of error that a library raises."""
    for failure in _failures():
        library = BrokenLibrary("broken")
        library.failure = failure
        manager = pyvisa.ResourceManager(library)
        try:
            with pytest.MonkeyPatch.context() as patch, about(repr(failure)):
                patch.setitem(visa_link._managers, "broken", manager)
                with pytest.raises(ConnectionFailedError, match=DEAD_ADDRESS):
                    driver.open("dut", DEAD_ADDRESS, library="broken", options={})
        finally:
            manager.close()


def _failures() -> tuple[BaseException, ...]:
    return (
        pyvisa.errors.VisaIOError(StatusCode.error_connection_lost),
        pyvisa.errors.VisaIOError(StatusCode.error_io),
        pyvisa.errors.VisaIOError(StatusCode.error_timeout),
        pyvisa.errors.InvalidSession(),
        OSError(5, "Input/output error"),
        ValueError("what a backend may raise"),
    )


@contextmanager
def about(what: object) -> Iterator[None]:
    """Add to an error what was being done, for a check that tries many things."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"while checking {what}")
        raise


ALONE: tuple[Callable[[_Driver], None], ...] = (
    it_is_an_instrument_with_its_words,
    every_public_method_says_what_it_does_and_in_which_units,
    it_has_a_capability_that_callers_can_ask_for,
    what_it_declares_is_of_its_kind,
    what_looks_like_a_capability_can_be_called_like_it,
    a_channel_that_is_not_there_is_refused_before_the_wire,
    it_is_opened_like_every_other,
    it_is_made_with_its_defaults_and_sends_nothing,
    an_unknown_option_is_refused_by_name,
    silence_is_a_time_out_and_never_a_success,
    no_question_is_answered_by_silence,
    garbage_raises_no_surprise_from_any_question,
    garbage_identifies_nobody,
    garbage_raises_no_surprise_on_the_way_to_the_safe_state,
    closing_twice_is_closing_once_and_sends_nothing,
    a_silent_address_is_named,
    an_absent_address_is_named,
    what_a_visa_library_raises_never_gets_out,
)
"""All of them, in the order in which a driver is written."""
