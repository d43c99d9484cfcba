"""Service requests through PyVISA: queued, by handler, suspended; on the shipped bench."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import pyvisa
from pyvisa.constants import EventAttribute, EventMechanism, EventType, StatusCode
from pyvisa.events import Event
from pyvisa.resources import MessageBasedResource, Resource
from pyvisa.typing import VISAHandler

from labctl.data import shipped_bench_path

GENERATOR = "TCPIP0::server-generator::hislip0::INSTR"
LASER = "ASRL1::INSTR"
REQUEST = EventType.service_request
QUEUE, HANDLER = EventMechanism.queue, EventMechanism.handler
SUSPENDED = EventMechanism.suspend_handler
LONGEST_S = 30.0
NO_MORE = StatusCode.success_no_more_handler_calls_in_chain


@pytest.fixture
def manager() -> Iterator[pyvisa.ResourceManager]:
    manager = pyvisa.ResourceManager(f"{shipped_bench_path()}@labctl")
    yield manager
    manager.close()


@pytest.fixture
def generator(manager: pyvisa.ResourceManager) -> MessageBasedResource:
    """A generator that requests service when an operation is complete."""
    resource = manager.open_resource(GENERATOR)
    assert isinstance(resource, MessageBasedResource)
    resource.write("*CLS;*ESE 1;*SRE 32")
    return resource


class Calls:
    """A handler that remembers how it was called."""

    def __init__(self, answer: StatusCode | None = None) -> None:
        self.events: list[tuple[Resource, EventType, object]] = []
        self.came = threading.Event()
        self.threads: set[int] = set()
        self.answer = answer

    def __call__(self, resource: Resource, event: Event, user_handle: object) -> StatusCode | None:
        kind = event.get_visa_attribute(EventAttribute.event_type)
        self.events.append((resource, kind, user_handle))
        self.threads.add(threading.get_ident())
        self.came.set()
        return self.answer


def install(resource: Resource, calls: Calls, user_handle: object = None) -> VISAHandler:
    # PyVISA reads a handler's name, which an instance has none of.
    def handler(source: Resource, event: Event, handle: object) -> None:
        return calls(source, event, handle)  # type: ignore[return-value]

    wrapped = resource.wrap_handler(handler)
    assert resource.install_handler(REQUEST, wrapped, user_handle) is user_handle
    return wrapped


def test_a_handler_is_called_as_the_documentation_of_pyvisa_has_it(
    generator: MessageBasedResource,
) -> None:
    calls = Calls()
    wrapped = install(generator, calls, 42)
    generator.enable_event(REQUEST, HANDLER, None)
    generator.write("*OPC")
    assert calls.came.wait(LONGEST_S)
    generator.disable_event(REQUEST, HANDLER)
    generator.uninstall_handler(REQUEST, wrapped, 42)
    assert calls.events == [(generator, REQUEST, 42)]
    assert threading.get_ident() not in calls.threads


def test_bench_time_goes_on_while_somebody_sleeps_until_the_handler_is_called(
    manager: pyvisa.ResourceManager, generator: MessageBasedResource
) -> None:
    """A burst of 200 ms: nobody calls the library while it lasts."""
    calls = Calls()
    install(generator, calls)
    generator.enable_event(REQUEST, HANDLER)
    generator.write(
        "SOUR1:FUNC SIN;:SOUR1:FREQ 10;:SOUR1:BURS:NCYC 2;:SOUR1:BURS:STAT ON;:TRIG1:SOUR BUS"
    )
    generator.write("OUTP1 ON;*TRG;*OPC")
    assert not calls.events
    assert calls.came.wait(LONGEST_S)


def test_a_handler_may_use_the_instrument(generator: MessageBasedResource) -> None:
    seen: list[str] = []
    done = threading.Event()

    def handler(source: Resource, event: Event, _: object) -> None:
        assert isinstance(source, MessageBasedResource)
        seen.append(f"{source.read_stb() & 64} {source.query('*ESR?').strip()}")
        done.set()

    generator.install_handler(REQUEST, generator.wrap_handler(handler))
    generator.enable_event(REQUEST, HANDLER)
    generator.write("*OPC")
    assert done.wait(LONGEST_S)
    assert seen[0] in ("64 1", "64 +1")


def test_the_newest_handler_comes_first_and_may_keep_the_others_out(
    generator: MessageBasedResource,
) -> None:
    older, newer = Calls(), Calls(NO_MORE)
    install(generator, older)
    wrapped = install(generator, newer)
    generator.enable_event(REQUEST, HANDLER)
    generator.write("*OPC")
    assert newer.came.wait(LONGEST_S)
    generator.uninstall_handler(REQUEST, wrapped)
    assert not older.events
    generator.query("*ESR?")
    generator.write("*OPC")
    assert older.came.wait(LONGEST_S)


def test_suspended_handlers_get_their_events_later(generator: MessageBasedResource) -> None:
    calls = Calls()
    install(generator, calls)
    generator.enable_event(REQUEST, SUSPENDED)
    generator.write("*OPC")
    generator.query("*ESR?")
    generator.discard_events(REQUEST, SUSPENDED)
    generator.enable_event(REQUEST, HANDLER)
    assert not calls.came.wait(0.05)
    generator.enable_event(REQUEST, SUSPENDED)
    generator.write("*OPC")
    assert not calls.came.wait(0.05)
    generator.enable_event(REQUEST, HANDLER)
    assert calls.came.wait(LONGEST_S)
    assert len(calls.events) == 1


def test_queue_and_handler_both_get_the_event(generator: MessageBasedResource) -> None:
    calls = Calls()
    install(generator, calls)
    generator.enable_event(REQUEST, HANDLER)
    generator.enable_event(REQUEST, QUEUE)
    generator.write("*OPC")
    response = generator.wait_on_event(REQUEST, 1000)
    assert response.event.event_type == REQUEST
    assert response.event.get_visa_attribute(EventAttribute.event_type) == REQUEST
    assert calls.came.wait(LONGEST_S)


def test_a_queued_event_outlives_the_request(generator: MessageBasedResource) -> None:
    generator.enable_event(REQUEST, QUEUE)
    generator.write("*OPC")
    generator.query("*ESR?")
    assert not generator.wait_on_event(REQUEST, 0, capture_timeout=True).timed_out
    assert generator.wait_on_event(REQUEST, 0, capture_timeout=True).timed_out
    generator.write("*OPC")
    generator.discard_events(REQUEST, QUEUE)
    assert generator.wait_on_event(REQUEST, 10, capture_timeout=True).timed_out


def test_what_a_handler_raises_is_reported_and_others_are_called(
    generator: MessageBasedResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: reported.append(hook.exc_value))
    calls = Calls()
    install(generator, calls)

    def broken(*_: object) -> None:
        raise ValueError("of the handler's own")

    generator.install_handler(REQUEST, broken)
    generator.enable_event(REQUEST, HANDLER)
    generator.write("*OPC")
    assert calls.came.wait(LONGEST_S)
    assert [str(error) for error in reported] == ["of the handler's own"]


@pytest.mark.parametrize(
    ("event", "mechanism", "status"),
    [
        (EventType.trig, QUEUE, StatusCode.error_invalid_event),
        (EventType.io_completion, QUEUE, StatusCode.error_invalid_event),
        (EventType.all_enabled, QUEUE, StatusCode.error_invalid_event),
        (REQUEST, HANDLER, StatusCode.error_handler_not_installed),
        (REQUEST, HANDLER | SUSPENDED, StatusCode.error_invalid_mechanism),
        (REQUEST, 8, StatusCode.error_invalid_mechanism),
        (REQUEST, 0, StatusCode.error_invalid_mechanism),
    ],
)
def test_what_cannot_be_enabled_is_refused(
    generator: MessageBasedResource,
    event: EventType,
    mechanism: EventMechanism,
    status: StatusCode,
) -> None:
    with pytest.raises(pyvisa.VisaIOError, check=lambda error: error.error_code == status):
        generator.enable_event(event, mechanism)


def test_streams_request_no_service(manager: pyvisa.ResourceManager) -> None:
    with manager.open_resource(LASER) as laser:
        with pytest.raises(pyvisa.VisaIOError, match="VI_ERROR_INV_EVENT"):
            laser.enable_event(REQUEST, QUEUE)
        with pytest.raises(pyvisa.VisaIOError, match="VI_ERROR_INV_EVENT"):
            laser.install_handler(REQUEST, laser.wrap_handler(lambda *_: None))


def test_unknown_and_impossible_handlers_are_refused(generator: MessageBasedResource) -> None:
    with pytest.raises(pyvisa.errors.VisaTypeError, match="to call"):
        generator.install_handler(REQUEST, 3)  # type: ignore[arg-type]
    with pytest.raises(pyvisa.errors.UnknownHandler):
        generator.uninstall_handler(REQUEST, print)
    with pytest.raises(pyvisa.VisaIOError, match="VI_ERROR_INV_HNDLR_REF"):
        generator.visalib.uninstall_handler(generator.session, REQUEST, print)


def test_closing_a_resource_ends_its_handlers(
    manager: pyvisa.ResourceManager, generator: MessageBasedResource
) -> None:
    calls = Calls()
    install(generator, calls)
    generator.enable_event(REQUEST, HANDLER)
    generator.close()
    with manager.open_resource(GENERATOR) as again:
        assert isinstance(again, MessageBasedResource)
        again.write("*OPC")
        assert again.read_stb() & 64
    assert not calls.came.wait(0.05)
