"""What every driver owes its callers, checked against its front panel on a simulated bench."""

from __future__ import annotations

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
    InstrumentReportedError,
    InstrumentTimeoutError,
    LimitError,
    OtherInstrumentError,
)
from labctl.instruments.capabilities import Identity
from labctl.instruments.simulated.faults.wire import faulty
from labctl.instruments.transports.transport import FrameTransport
from labctl.testing.abilities import CHECKS
from labctl.testing.alone import about
from labctl.testing.behind import what_the_panel_changes_is_no_wrong_value
from labctl.testing.lost_settings import what_is_read_back_is_found_when_it_is_lost
from labctl.testing.on_bench import OnBench
from labctl.testing.shape import channels_of, own_properties_of, parts_of, properties_of


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
    """`set_<noun>` and `<noun>` or `<noun>_<unit>` agree on at least two values of its unit."""
    for part in (*parts_of(bench.instrument), *bench.channels()):
        for what, put, get, values in own_properties_of(part):
            outcomes = [_read_back(what, put, get, value) for value in values]
            assert outcomes.count("read back") >= 2, f"{what}: {outcomes} of {values}"


def each_channel_is_one_of_its_own(bench: OnBench) -> None:
    """What is set at the last channel is not at the first, nor the other way round."""
    instrument = bench.instrument
    for method in channels_of(type(instrument)):
        first, *others = (getattr(instrument, method)(number) for number in bench.ends(method))
        for last in others:
            for here, there in ((first, last), (last, first)):
                _check_apart(here, there)
    instrument.safe_state()


def _check_apart(here: object, there: object) -> None:
    """Set each property of a channel to two values; another channel keeps its own."""
    elsewhere = {what: (put, get) for what, put, get, _ in properties_of(there)}
    for what, put, _, values in properties_of(here):
        with about(f"{type(here).__name__}.{what} of two channels"):
            taken = [value for value in values if _is_taken(put, value)]
            different = [value for value in taken if value != taken[0]]
            if not different:
                continue
            put_there, get_there = elsewhere[what]
            put_there(taken[0])
            before = get_there()
            put(different[-1])
            assert get_there() == before, f"{what} of one channel changes the other channel"


def _is_taken(put: Callable[[Any], object], value: Any) -> bool:
    """Tell whether a channel takes a value."""
    try:
        put(value)
    except (LimitError, InstrumentReportedError):
        return False
    return True


def _read_back(what: str, put: Callable[[Any], object], get: Callable[[], Any], value: Any) -> str:
    """Set one value and compare; return what came of it."""
    try:
        put(value)
    except LimitError:
        return "out of range"
    except InstrumentReportedError:
        return "refused by the instrument"
    found = get()
    if what.endswith("_range"):
        # The instrument takes the narrowest range that holds what was asked for.
        assert found >= 0.999 * value, f"{what}({value}): {found}"
        return "read back"
    wanted = value if isinstance(value, Enum) else pytest.approx(value, rel=1e-3, abs=1e-9)
    assert found == wanted, what
    return "read back"


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
    each_channel_is_one_of_its_own,
    after_a_time_out_no_old_answer_is_taken_for_a_new_one,
    a_connection_that_is_lost_is_told_and_found_again,
    another_instrument_in_its_place_is_refused,
    what_the_panel_changes_is_no_wrong_value,
    what_is_read_back_is_found_when_it_is_lost,
)
"""Those that hold for every driver; each capability that it has adds another."""
