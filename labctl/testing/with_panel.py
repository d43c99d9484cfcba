"""What every driver owes its callers, checked against its front panel on a simulated bench."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any

import pytest
import pyvisa
from pyvisa.constants import StatusCode

from labctl.errors import (
    ConnectionFailedError,
    InstrumentError,
    InstrumentTimeoutError,
    OtherInstrumentError,
)
from labctl.instruments.capabilities import Identity
from labctl.instruments.simulated.faults.wire import faulty
from labctl.instruments.transports.transport import FrameTransport
from labctl.testing.abilities import CHECKS
from labctl.testing.alone import about
from labctl.testing.behind import what_the_panel_changes_is_no_wrong_value
from labctl.testing.channels import each_channel_is_set_alone, no_two_channels_send_the_same
from labctl.testing.lost_settings import what_is_read_back_is_found_when_it_is_lost
from labctl.testing.on_bench import OnBench, refused
from labctl.testing.properties import Property, further, none_taken, properties_of, put_if_valid
from labctl.testing.shape import parts_of


def it_finds_its_instrument_and_leaves_it_safe_twice(bench: OnBench) -> None:
    """Identity, safe state and close; what is closed refuses to be used."""
    identity = bench.instrument.identify()
    assert isinstance(identity, Identity)
    assert identity.model
    for _ in range(2):
        bench.instrument.safe_state()
    for _ in range(2):
        bench.instrument.close()
    with pytest.raises(ConnectionFailedError, match="closed"):
        bench.instrument.identify()


def each_further_property_is_read_back(bench: OnBench) -> None:
    """`set_<noun>` and `<noun>` or `<noun>_<unit>` agree on two values at least; NaN is refused."""
    given = bench.place.values
    for part in (*parts_of(bench.instrument), *bench.channels()):
        for each in further(part, properties_of(part, given)):
            with about(f"{type(part).__name__}.{each.name}"):
                _check_property(bench, each)


def _check_property(bench: OnBench, each: Property) -> None:
    outcomes: list[tuple[Any, str]] = []
    kept: list[tuple[Any, Any]] = []
    for value in each.values():
        refusal = put_if_valid(each, value)
        if refusal is None:
            kept.append((value, _check_read_back(each, value)))
        outcomes.append((value, refusal or "read back"))
    assert any(found != kept[0][1] for _, found in kept), none_taken(each, outcomes)
    each.put(kept[0][0])  # an end of a range may narrow what other properties take
    if each.kind is float:
        refused(bench, each.put, math.nan)


def _check_read_back(each: Property, value: Any) -> Any:
    """Check what is read after a value was set, and return it."""
    found = each.get()
    if each.name == "set_range" and each.kind is float:
        # A range covers what was asked for; what it says of itself is the same range again.
        assert found >= value * (1 - 1e-3), f"expected at least {value}, got {found}"
        each.put(found)
        value, found = found, each.get()
    exact = isinstance(value, bool | str | Enum)
    wanted = value if exact else pytest.approx(value, rel=1e-3, abs=1e-12)
    assert found == wanted, f"expected {value}, got {found}"
    return found


def after_a_time_out_no_old_answer_is_taken_for_a_new_one(bench: OnBench) -> None:
    """The reply that was given up on stays on the wire; a driver out of step would read it."""
    identity = bench.instrument.identify()
    read = bench.library.read
    failures = [pyvisa.errors.VisaIOError(StatusCode.error_timeout)]

    def late(session: Any, count: int) -> Any:
        if failures:
            raise failures.pop()
        return read(session, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.library, "read", late)
        # A driver may ask again by itself: then the answer has to be the right one.
        with suppress(InstrumentTimeoutError):
            assert bench.instrument.identify() == identity
        assert failures == []
        bench.instrument.safe_state()
        assert bench.instrument.identify() == identity


def a_connection_that_is_lost_is_told_and_found_again(bench: OnBench) -> None:
    """ConnectionFailedError with the address; the next call connects again."""
    identity = bench.instrument.identify()
    with _lost(bench):
        with pytest.raises(ConnectionFailedError, match=re.escape(bench.place.address)):
            bench.instrument.identify()
        with pytest.raises(InstrumentError):
            bench.instrument.safe_state()
    assert bench.instrument.identify() == identity


def another_instrument_in_its_place_is_refused(bench: OnBench) -> None:
    """Model and serial number are compared after a lost connection; nothing is set on another."""
    known = bench.instrument.identify()
    new = _other_serial(known.serial or known.model)
    panel = faulty(bench.panel, bench.library.clock, framed=bench.transport is FrameTransport)
    bench.put(panel)
    with _lost(bench), pytest.raises(ConnectionFailedError):
        bench.instrument.identify()
    panel.replace_by(known.serial or known.model, new)
    bench.sent.clear()
    with pytest.raises(OtherInstrumentError) as raised:
        bench.instrument.identify()
    for named in (known.serial or known.model, new, bench.place.address):
        assert named in raised.value.problem
    assert raised.value.command
    with suppress(OtherInstrumentError):  # some have nothing to send
        bench.instrument.safe_state()
    assert bench.settings() == []
    panel.disarm()
    assert bench.instrument.identify() == known


@contextmanager
def _lost(bench: OnBench) -> Iterator[None]:
    """Let every read find the connection lost."""
    lost = pyvisa.errors.VisaIOError(StatusCode.error_connection_lost)

    def fails(session: Any, count: int) -> Any:
        raise lost

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(bench.library, "read", fails)
        yield


def _other_serial(serial: str) -> str:
    """Return a serial number, or a model, of the same length."""
    return serial[:-1] + ("8" if serial[-1] != "8" else "9")


def sets_and_reads_back(capability: type[Any]) -> Callable[[OnBench], None]:
    """Return the check of a capability, on all of an instrument that has it."""

    def check(bench: OnBench) -> None:
        found = bench.get(capability)
        assert found, f"no {capability.__name__} on the bench"
        for each in found:
            with about(type(each).__name__):
                CHECKS[capability](bench, each)
        bench.instrument.safe_state()

    check.__name__ = f"as_{capability.__name__}_it_reads_back_what_is_set_and_refuses_what_is_wrong"
    return check


WITH_PANEL: tuple[Callable[[OnBench], None], ...] = (
    it_finds_its_instrument_and_leaves_it_safe_twice,
    each_further_property_is_read_back,
    each_channel_is_set_alone,
    no_two_channels_send_the_same,
    after_a_time_out_no_old_answer_is_taken_for_a_new_one,
    a_connection_that_is_lost_is_told_and_found_again,
    another_instrument_in_its_place_is_refused,
    what_the_panel_changes_is_no_wrong_value,
    what_is_read_back_is_found_when_it_is_lost,
)
"""Those that hold for every driver; each capability that it has adds another."""
