"""What every driver owes its callers, whoever wrote it: found by entry point, none exempt.

The first part needs a driver alone. The second runs a driver against its front panel, if a bench
file that is shipped has one: each capability is checked by the functions that `CHECKS` names.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import tty
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvisa
from pyvisa.constants import StatusCode

from labctl.data import shipped_bench_path
from labctl.errors import (
    ConnectionFailedError,
    InstrumentError,
    InstrumentReportedError,
    InstrumentTimeoutError,
    LabctlError,
    LimitError,
    ReplyError,
    SettingError,
    StationFileError,
)
from labctl.instruments import capabilities, drivers
from labctl.instruments.capabilities import (
    Attenuator,
    BiasPoint,
    Digitizer,
    Identity,
    Instrument,
    Laser,
    ModulatorBias,
    PowerMeter,
    SourceMeter,
    SweptLaser,
    TriggerSource,
    TunableLaser,
    VoltageSource,
    WaveformGenerator,
)
from labctl.instruments.codecs.itla import Request
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.visa_backend import LabctlVisaLibrary
from labctl.instruments.transports import visa_link
from labctl.instruments.transports.opening import DriverOptions
from labctl.instruments.transports.scripted import ScriptedClock
from labctl.instruments.transports.transport import FrameTransport
from labctl.instruments.transports.visa_link import close_library, resource_manager
from labctl.station.file import read_station_file
from labctl.toml_file import read_toml
from labctl.units import frequency_to_wavelength_m

UNITS = {"hz": "Hz", "v": "V", "w": "W", "s": "s", "m": "m", "a": "A", "db": "dB", "dbm": "dBm",
         "ohm": "ohm", "rad": "rad", "k": "K", "c": "°C"}  # fmt: skip
QUESTIONS = (b"CD", b"D")  # the only ones of the fleet without a question mark
GARBAGE = ("", "garbage", "1", "a,b,c", "a,b,c,d", "\x00\xff?,", ",,,", "9" * 5000, "nan")
NO_NUMBERS = (math.nan, math.inf, -math.inf)

CAPABILITIES = {
    kind: {
        member
        for base in kind.__mro__
        if base.__module__ == capabilities.__name__
        for member in vars(base)
        if not member.startswith("_")
    }
    for name, kind in vars(capabilities).items()
    if inspect.isclass(kind) and getattr(kind, "_is_protocol", False)
    if kind.__module__ == capabilities.__name__ and name not in ("Instrument", "Driver")
}

DRIVERS = tuple(
    f"labctl.instruments.{folder}."
    for folder in (
        "attenuators",
        "digitizers",
        "generators",
        "lasers",
        "modulators",
        "oscilloscopes",
        "power_meters",
        "sources",
    )
)

every_driver = pytest.mark.parametrize("name", drivers.names())


class Wire:
    """Any transport, at whose other end nobody answers."""

    def __init__(self) -> None:
        self.name = "dut"
        self.clock = ScriptedClock()
        self.said: list[object] = []
        self.closed = 0

    def write(self, command: str) -> None:
        self.said.append(command)

    def query(self, command: str) -> str:
        return self._answer(command)

    def query_block(self, command: str) -> memoryview:
        return memoryview(self._answer(command).encode("latin-1"))

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        self.said.append(prefix)

    def fence(self, command: str, marker: str, answer: str) -> tuple[str, ...]:
        return (self._answer(command),)

    def exchange(self, message: bytes | str, complete: Callable[..., bool] | None = None) -> Any:
        answer = self._answer(str(message))
        if complete is None:
            return (answer.encode("latin-1") * len(message) + bytes(len(message)))[: len(message)]
        lines: list[str] = []
        while len(lines) < 300:
            lines.append(answer)
            if complete(lines):
                return tuple(lines)
        raise ReplyError(self.name, "reply has not ended", str(message))

    def clear(self) -> None:
        """Discard nothing."""

    def close(self) -> None:
        self.closed += 1

    def _answer(self, command: str) -> str:
        self.said.append(command)
        raise InstrumentTimeoutError(self.name, "no answer", command)


class GarbageWire(Wire):
    """Any transport, at whose other end somebody answers the same garbage to everything."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._garbage = answer

    def _answer(self, command: str) -> str:
        self.said.append(command)
        return self._garbage


def options_of(driver: type[Any]) -> type[DriverOptions]:
    """Return the options model that a driver's constructor declares."""
    declared = typing.get_type_hints(driver.__init__)["options"]
    models = [kind for kind in typing.get_args(declared) if kind is not type(None)]
    assert len(models) == 1, f"options: {declared} must be one model, or None"
    model = models[0]
    assert isinstance(model, type)
    assert issubclass(model, DriverOptions)
    return model


def public_methods(driver: type[object]) -> dict[str, Any]:
    found = inspect.getmembers(driver, callable)
    kept = ((name, member) for name, member in found if not name.startswith("_"))
    return {name: member for name, member in kept if not inspect.isclass(member)}


def capabilities_of(kind: type[object]) -> list[type[Any]]:
    """Return the capabilities that a class has by the names of its methods, as isinstance tells."""
    return [each for each, members in CAPABILITIES.items() if members <= set(dir(kind))]


def outputs_of(driver: type[object]) -> dict[str, type[object]]:
    """Return the methods that hand out one channel as an object of its own, with its class."""
    found = {}
    for name, member in public_methods(driver).items():
        parameters = list(inspect.signature(member).parameters.values())[1:]
        hints = typing.get_type_hints(member) if inspect.isfunction(member) else {}
        one_number = len(parameters) == 1 and hints.get(parameters[0].name) is int
        if one_number and inspect.isclass(hints["return"]) and capabilities_of(hints["return"]):
            found[name] = hints["return"]
    return found


def parts_of(instrument: object) -> list[Any]:
    """Return an instrument and what it has as public attributes with methods of their own."""
    owned = [value for name, value in vars(instrument).items() if not name.startswith("_")]
    return [instrument, *(each for each in owned if type(each).__module__.startswith(DRIVERS))]


def questions(part: object) -> list[Callable[[], object]]:
    """Return the methods that need nothing to be told and return something."""
    found = []
    for member in public_methods(type(part)):
        method = getattr(part, member)
        hints = typing.get_type_hints(method) if inspect.ismethod(method) else {}
        if hints.get("return", type(None)) is not type(None):
            parameters = inspect.signature(method).parameters.values()
            if all(each.default is not inspect.Parameter.empty for each in parameters):
                found.append(method)
    return found


def properties_of(part: object) -> Iterator[tuple[str, Any, Any, tuple[Any, ...]]]:
    """Yield what is set by `set_<noun>` and told by `<noun>` or `<noun>_<unit>`, with values.

    What belongs to a capability has a check of its own.
    """
    covered = set().union(*(CAPABILITIES[each] for each in capabilities_of(type(part))))
    methods = public_methods(type(part))
    for setter in methods:
        noun = setter.removeprefix("set_")
        getters = [noun, *(f"{noun}_{unit}" for unit in UNITS)]
        getter = next((each for each in getters if each in methods), None)
        needed = inspect.signature(getattr(part, setter)).parameters if noun != setter else {}
        if getter is None or setter in covered or len(needed) != 1:
            continue
        hints = typing.get_type_hints(getattr(type(part), setter))
        argument = next(iter(needed))
        values = values_of(hints[argument], argument)
        if values:
            yield setter, getattr(part, setter), getattr(part, getter), values


def values_of(kind: Any, argument: str) -> tuple[Any, ...]:
    """Return values of a type to set and read back; none if it is no plain value."""
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return tuple(kind)
    if kind is bool:
        return (True, False, True)
    if kind is int:
        return (1, 2, 4, 7)
    if kind not in (float, float | None):
        return ()
    numbers = (0.0, 0.25, 1.0, 2.0, 5.0, 50.0, 1e9, -1.5)
    return tuple(1e8 * number for number in numbers) if argument.endswith("_hz") else numbers


def documentation(driver: type[object], method: str) -> str:
    """Return what is written of a method: in the driver, and in the capabilities that have it."""
    protocols = [kind for kind in vars(capabilities).values() if hasattr(kind, method)]
    texts = [inspect.getdoc(getattr(kind, method)) or "" for kind in (driver, *protocols)]
    return "\n".join(texts)


@every_driver
def test_it_is_an_instrument_with_its_words(name: str) -> None:
    driver = drivers.load(name)
    module = inspect.getmodule(driver)
    assert inspect.isclass(driver)
    assert inspect.getdoc(module), "the module says what instrument this is, and its sources"
    assert driver.__doc__, "the class says what it is"
    assert isinstance(driver(Wire()), Instrument)  # type: ignore[call-arg]  # a constructor is no part of the protocol


@every_driver
def test_every_public_method_says_what_it_does_and_in_which_units(name: str) -> None:
    driver: Any = drivers.load(name)
    kinds = {type(part) for part in parts_of(driver(Wire()))} | set(outputs_of(driver).values())
    for kind in kinds:
        for method, member in public_methods(kind).items():
            text = documentation(kind, method)
            assert text.strip(), f"{kind.__name__}.{method} has no docstring"
            for argument in (method, *inspect.signature(member).parameters):
                unit = UNITS.get(argument.rpartition("_")[2]) if "_" in argument else None
                told = unit is None or re.search(rf"\b{unit}\b|\b{argument}\b", text)
                assert told, f"{method}: neither {unit} nor {argument} is in its docstring"


@every_driver
def test_it_has_a_capability_that_callers_can_ask_for(name: str) -> None:
    driver = drivers.load(name)
    assert capabilities_of(driver) or outputs_of(driver)


@every_driver
def test_what_looks_like_a_capability_can_be_called_like_it(name: str) -> None:
    """At run time names are all that a capability is asked by: they must not promise too much."""
    driver = drivers.load(name)
    for kind in (driver, *outputs_of(driver).values()):
        for capability in capabilities_of(kind):
            for method in CAPABILITIES[capability]:
                wanted = inspect.signature(getattr(capability, method)).parameters
                found = inspect.signature(getattr(kind, method)).parameters
                shown = f"{kind.__name__}.{method}{tuple(found)} is no {capability.__name__}"
                assert list(found)[: len(wanted)] == list(wanted), shown
                more = list(found.values())[len(wanted) :]
                assert all(each.default is not inspect.Parameter.empty for each in more), shown


@every_driver
def test_a_channel_that_is_not_there_is_refused_before_the_wire(name: str) -> None:
    driver: Any = drivers.load(name)
    for method in outputs_of(driver):
        for number in (-1, 1000):
            wire = Wire()
            with pytest.raises(LimitError):
                getattr(driver(wire), method)(number)
            assert wire.said == []


@every_driver
def test_it_is_opened_like_every_other(name: str) -> None:
    driver = drivers.load(name)
    assert isinstance(inspect.getattr_static(driver, "open"), classmethod)
    found = list(inspect.signature(driver.open).parameters.values())
    assert [(each.name, each.kind) for each in found] == [
        ("name", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        ("address", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        ("library", inspect.Parameter.KEYWORD_ONLY),
        ("options", inspect.Parameter.KEYWORD_ONLY),
    ]
    assert all(each.default is inspect.Parameter.empty for each in found)


@every_driver
def test_it_is_made_with_its_defaults_and_sends_nothing(name: str) -> None:
    driver: Any = drivers.load(name)
    model = options_of(driver)
    assert "timeout_s" in model.model_fields
    for options in (None, model()):
        wire = Wire()
        assert driver(wire, options).name == "dut"
        assert wire.said == []


@every_driver
def test_an_unknown_option_is_refused_by_name(name: str) -> None:
    with pytest.raises(SettingError, match=r"dut option colour = 'red': .* timeout_s"):
        drivers.load(name).open("dut", "x", library="@nowhere", options={"colour": "red"})


@every_driver
def test_silence_is_a_time_out_and_never_a_success(name: str) -> None:
    driver: Any = drivers.load(name)
    with pytest.raises(InstrumentTimeoutError, match="dut: no answer"):
        driver(Wire()).identify()
    wire = Wire()
    instrument = driver(wire)
    for _ in range(2):
        wire.said.clear()
        try:
            instrument.safe_state()
        except InstrumentTimeoutError:
            continue
        assert wire.said == [], "was sent, but nobody confirmed it"


@every_driver
def test_no_question_is_answered_by_silence(name: str) -> None:
    driver: Any = drivers.load(name)
    for part in parts_of(driver(Wire())):
        for question in questions(part):
            with pytest.raises((InstrumentTimeoutError, LimitError)):
                question()


@every_driver
@pytest.mark.parametrize("answer", GARBAGE)
def test_garbage_raises_no_surprise_from_any_question(name: str, answer: str) -> None:
    driver: Any = drivers.load(name)
    for part in parts_of(driver(GarbageWire(answer))):
        for question in questions(part):
            with suppress(InstrumentError):
                question()


@every_driver
@pytest.mark.parametrize("answer", GARBAGE)
def test_garbage_identifies_nobody(name: str, answer: str) -> None:
    driver: Any = drivers.load(name)
    with pytest.raises(ReplyError, match=r"^dut: "):
        driver(GarbageWire(answer)).identify()


@every_driver
@pytest.mark.parametrize("answer", GARBAGE)
def test_garbage_raises_no_surprise_on_the_way_to_the_safe_state(name: str, answer: str) -> None:
    driver: Any = drivers.load(name)
    with suppress(InstrumentError):
        driver(GarbageWire(answer)).safe_state()


@every_driver
def test_closing_twice_is_closing_once_and_sends_nothing(name: str) -> None:
    driver: Any = drivers.load(name)
    wire = Wire()
    instrument = driver(wire)
    instrument.close()
    instrument.close()
    assert wire.closed >= 1
    assert wire.said == []


@pytest.fixture
def silent_line() -> Iterator[str]:
    far, near = os.openpty()
    tty.setraw(near)
    yield f"ASRL{os.ttyname(near)}::INSTR"
    os.close(near)
    os.close(far)


@every_driver
def test_a_silent_address_is_named(name: str, silent_line: str) -> None:
    with pytest.raises(ConnectionFailedError, match=f"dut: {re.escape(silent_line)} opened but"):
        drivers.load(name).open("dut", silent_line, library="@py", options={"timeout_s": 0.05})


@every_driver
def test_an_absent_address_is_named(name: str) -> None:
    with pytest.raises(ConnectionFailedError, match="dut: cannot open ASRL/dev/none::INSTR"):
        drivers.load(name).open("dut", "ASRL/dev/none::INSTR", library="@py", options={})


class DeadPanel:
    """A front panel that takes everything and answers nothing."""

    def write(self, data: bytes, *, end: bool) -> None:
        """Take it."""

    def read(self, limit: int) -> tuple[bytes, bool]:
        return b"", False

    def clear(self) -> None:
        """Drop nothing."""

    def status_byte(self) -> int:
        return 0


@dataclass
class DeadWorld:
    panels: Mapping[str, FrontPanel]
    clock: BenchClock


class BrokenLibrary(LabctlVisaLibrary):
    """A VISA library whose every read fails as it is told."""

    failure: BaseException

    @staticmethod
    def load_world(path: Path) -> DeadWorld:
        return DeadWorld({"TCPIP0::dut::inst0::INSTR": DeadPanel()}, BenchClock())

    def read(self, session: Any, count: int) -> Any:
        raise self.failure


@every_driver
@pytest.mark.parametrize(
    "failure",
    [
        pyvisa.errors.VisaIOError(StatusCode.error_connection_lost),
        pyvisa.errors.VisaIOError(StatusCode.error_io),
        pyvisa.errors.VisaIOError(StatusCode.error_timeout),
        pyvisa.errors.InvalidSession(),
        OSError(5, "Input/output error"),
        ValueError("what a backend may raise"),
    ],
    ids=repr,
)
def test_what_a_visa_library_raises_never_gets_out(
    name: str, failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = BrokenLibrary("broken")
    library.failure = failure
    manager = pyvisa.ResourceManager(library)
    monkeypatch.setitem(visa_link._managers, "broken", manager)
    try:
        with pytest.raises(ConnectionFailedError, match="TCPIP0::dut::inst0::INSTR"):
            drivers.load(name).open(
                "dut", "TCPIP0::dut::inst0::INSTR", library="broken", options={}
            )
    finally:
        manager.close()


@dataclass(frozen=True)
class Place:
    """Where a driver has a front panel."""

    library: str
    address: str
    options: Mapping[str, object]


@dataclass
class OnBench:
    """A driver opened on its panel: with what it sent, over the transport that it declares."""

    instrument: Any
    address: str
    sent: list[bytes]
    transport: type[Any]
    sessions: list[Any]
    library: Any

    def settings(self) -> list[bytes]:
        """Return what was sent that asks nothing: frames that write, or lines."""
        if self.transport is FrameTransport:
            return [each for each in self.sent if len(each) == 4 and Request.decode(each).write]
        lines = [line for message in self.sent for line in re.split(rb"[\r\n]+", message)]
        return [line for line in lines if line and b"?" not in line and line not in QUESTIONS]

    def send(self, message: bytes) -> None:
        """Send bytes past the driver, and drop what is replied."""
        self.library.write(self.sessions[-1], message)
        with suppress(pyvisa.errors.VisaIOError):
            for _ in range(100):
                self.library.read(self.sessions[-1], 4096)

    def get(self, capability: type[Any]) -> list[Any]:
        """Return all that has the capability: the instrument, and its first channel."""
        kind = type(self.instrument)
        channels = [getattr(self.instrument, method)(1) for method in outputs_of(kind)]
        return [each for each in (self.instrument, *channels) if isinstance(each, capability)]


STATIONS = shipped_bench_path().parent


@cache
def places() -> dict[str, Place]:
    """Return where each driver has a panel: by a station file, or else by asking every panel."""
    found: dict[str, Place] = {}
    for path in sorted(STATIONS.glob("*.toml")):
        with suppress(StationFileError):
            station = read_station_file(path)
            library = f"{path.with_name(station.library.removesuffix('@labctl'))}@labctl"
            for table in station.instruments.values():
                place = Place(library, table.address, table.options)
                found.setdefault(table.driver, place)
    for name in drivers.names():
        answering = _asked(name) if name not in found else None
        if answering is not None:
            found[name] = answering
    return found


def _asked(name: str) -> Place | None:
    """Return the first panel on a shipped bench that a driver takes for its instrument."""
    driver = drivers.load(name)
    for path in sorted(STATIONS.glob("*.toml")):
        library = f"{path}@labctl"
        with suppress(StationFileError):
            panels = read_toml(path, BenchFile).panels.values()
            try:
                for panel in panels:
                    with suppress(LabctlError):
                        driver.open(name, panel.address, library=library, options={}).close()
                        return Place(library, panel.address, {})
            finally:
                close_library(library)
    return None


@pytest.fixture
def on_bench(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnBench]:
    place = places().get(name)
    if place is None:
        pytest.skip("no shipped bench has a panel for this driver")
    close_library(place.library)
    library: Any = resource_manager(place.library).visalib
    write = library.write
    sent: list[bytes] = []
    sessions: list[Any] = []

    def noted(session: Any, data: bytes) -> Any:
        sent.append(bytes(data))
        sessions.append(session)
        return write(session, data)

    monkeypatch.setattr(library, "write", noted)
    driver = drivers.load(name)
    instrument = driver.open("dut", place.address, library=place.library, options=place.options)
    transport = typing.get_type_hints(driver.__init__)["transport"]
    yield OnBench(instrument, place.address, sent, transport, sessions, library)
    instrument.close()
    close_library(place.library)


def refused(bench: OnBench, use: Callable[[float], object], *values: float) -> None:
    """Check that values are refused with LimitError, and that nothing but questions was sent."""
    for value in values:
        bench.sent.clear()
        with pytest.raises(LimitError) as raised:
            use(value)
        assert raised.value.valid, "says what would be valid"
        assert bench.settings() == []


def refused_by_panel(
    bench: OnBench,
    use: Callable[[float], object],
    get: Callable[[], float],
    value: float,
    written: Callable[[float], float] = float,
) -> None:
    """Check that the panel itself keeps its value when a number far out of range is sent raw.

    The message is the driver's own for `value`, which stands there as `written`, with the number
    replaced; the driver's declared transport tells what a message is.
    """
    bench.sent.clear()
    use(value)
    before = get()
    bench.send(out_of_range(bench, written(value)))
    assert get() == pytest.approx(before, rel=1e-6)
    with suppress(InstrumentReportedError):  # what the panel has to say of the raw command
        use(value)
    use(value)


def out_of_range(bench: OnBench, value: float) -> bytes:
    """Return the setting sent last that holds a value, with a number that no instrument takes."""
    settings = bench.settings()
    if bench.transport is FrameTransport:
        return Request(Request.decode(settings[-1]).register, 0x7FFF, write=True).encode()
    spans = [(line, span) for line in settings if (span := _span_of(value, line))]
    assert spans, f"no setting in {bench.sent} holds {value}"
    line, (start, stop) = spans[-1]
    ends = {end for each in bench.sent if (end := each[len(each.rstrip(b"\r\n")) :])}
    return line[:start] + b"987654321" + line[stop:] + min(ends, default=b"\n")


def _span_of(value: float, line: bytes) -> tuple[int, int] | None:
    """Return where in a line a value stands, whatever power of ten its unit is."""
    for found in re.finditer(rb"(?<!\d)\d+(?:\.\d*)?(?:E[-+]?\d+)?", line, re.IGNORECASE):
        number = float(found.group())
        digits = math.log10(number / value) if number else 0.5
        if abs(digits - round(digits)) < 1e-4:
            return found.span()
    return None


def check_attenuator(bench: OnBench, each: Attenuator) -> None:
    for attenuation_db in (3.0, 10.0, 15.5, 1.0):
        each.set_attenuation(attenuation_db)
        assert each.attenuation_db() == pytest.approx(attenuation_db, abs=0.06)
    refused(bench, each.set_attenuation, -1.0, 1e3, *NO_NUMBERS)
    assert each.attenuation_db() == pytest.approx(1.0, abs=0.06)
    refused_by_panel(bench, each.set_attenuation, each.attenuation_db, 7.3)


def check_laser(bench: OnBench, each: Laser) -> None:
    accepted = []
    for power_w in (1e-3, 5e-3, 8e-3, 10e-3, 15e-3):
        with suppress(LimitError):
            each.set_power(power_w)
            accepted.append(power_w)
    assert len(accepted) >= 2, "takes two powers of 1 to 15 mW"
    each.set_emission(True)
    assert each.emission() is True
    for power_w in accepted:
        each.set_power(power_w)
        assert each.power_w() == pytest.approx(power_w, rel=0.1)
    refused(bench, each.set_power, -1.0, 1e3, *NO_NUMBERS)
    # 10 mW is 10 dBm: the same digits in either unit.
    refused_by_panel(bench, each.set_power, each.power_w, 10e-3)
    each.set_emission(False)
    assert each.emission() is False
    assert each.power_w() < 0.01 * min(accepted)
    each.set_emission(True)
    bench.instrument.safe_state()
    assert each.emission() is False


def check_tunable_laser(bench: OnBench, each: TunableLaser) -> None:
    lowest_hz, highest_hz = each.frequency_limits_hz()
    assert 1e14 < lowest_hz < highest_hz < 3e14
    for share in (0.0, 0.3, 0.5, 1.0):
        frequency_hz = lowest_hz + share * (highest_hz - lowest_hz)
        each.set_frequency(frequency_hz)
        assert each.frequency_hz() == pytest.approx(frequency_hz, abs=5e7)
    refused(bench, each.set_frequency, 0.0, lowest_hz - 1e12, highest_hz + 1e12, *NO_NUMBERS)
    assert each.frequency_hz() == pytest.approx(highest_hz, abs=5e7)
    middle_hz = (lowest_hz + highest_hz) / 2
    refused_by_panel(
        bench, each.set_frequency, each.frequency_hz, middle_hz, frequency_to_wavelength_m
    )


def check_swept_laser(bench: OnBench, each: SweptLaser) -> None:
    assert isinstance(each, TunableLaser)
    shortest_m, longest_m = sorted(map(frequency_to_wavelength_m, each.frequency_limits_hz()))
    start_m, stop_m = shortest_m + 5e-9, longest_m - 5e-9
    each.set_emission(True)
    each.configure_sweep(start_m, stop_m, 50e-9)
    assert each.sweeping() is False
    each.start_sweep()
    assert each.sweeping() is True
    each.stop_sweep()
    assert each.sweeping() is False
    refused(bench, lambda speed: each.configure_sweep(start_m, stop_m, speed), -1.0, *NO_NUMBERS)
    refused(bench, lambda stop: each.configure_sweep(start_m, stop, 50e-9), 0.0, 1.0, *NO_NUMBERS)


def check_voltage_source(bench: OnBench, each: VoltageSource) -> None:
    for voltage_v in (0.0, 0.5, 1.25, 2.0):
        each.set_voltage(voltage_v)
        assert each.voltage_v() == pytest.approx(voltage_v, abs=2e-3)
    refused(bench, each.set_voltage, 1e4, -1e4, *NO_NUMBERS)
    assert each.voltage_v() == pytest.approx(2.0, abs=2e-3)
    refused_by_panel(bench, each.set_voltage, each.voltage_v, 1.75)


def check_source_meter(bench: OnBench, each: SourceMeter) -> None:
    each.set_current_limit(5e-3)
    each.set_voltage(1.0)
    assert abs(each.measured_voltage_v()) <= 1.01
    assert abs(each.measured_current_a()) <= 5.1e-3
    refused(bench, each.set_current_limit, 0.0, -1.0, 1e3, *NO_NUMBERS)
    bench.instrument.safe_state()
    assert abs(each.measured_current_a()) <= 1e-4


def check_modulator_bias(bench: OnBench, each: ModulatorBias) -> None:
    for voltage_v in (0.0, 1.5, -2.25, 3.0):
        each.hold_voltage(voltage_v)
        assert each.bias_voltage_v() == pytest.approx(voltage_v, abs=2e-3)
    refused(bench, each.hold_voltage, 1e3, -1e3, *NO_NUMBERS)
    assert each.bias_voltage_v() == pytest.approx(3.0, abs=2e-3)
    refused_by_panel(bench, each.hold_voltage, each.bias_voltage_v, 1.234)
    for point in BiasPoint:
        each.lock(point)
        assert math.isfinite(each.bias_voltage_v())
    each.release()


def check_waveform_generator(bench: OnBench, each: WaveformGenerator) -> None:
    each.forget(1)
    empty = each.stored(1)
    free = each.memory_free(1)
    samples = np.linspace(-1.0, 1.0, 4000)
    each.upload(1, "ramp", samples)
    assert any("ramp" in name.lower() for name in set(each.stored(1)) - set(empty))
    assert each.memory_free(1) < free

    def play(rate_hz: float = 1e6, amplitude_v: float = 0.5, offset_v: float = 0.0) -> None:
        each.play(1, "ramp", sample_rate_hz=rate_hz, amplitude_v=amplitude_v, offset_v=offset_v)

    play()
    each.burst(1, cycles=2, trigger=TriggerSource.SOFTWARE, delay_s=1e-6)
    each.set_output(1, True)
    each.trigger()
    each.wait_for_bursts()
    refused(bench, lambda peak: each.upload(1, "wrong", peak * samples), 1.5, math.nan, math.inf)
    refused(bench, lambda rate_hz: play(rate_hz=rate_hz), 0.0, -1.0, 1e15, *NO_NUMBERS)
    refused(bench, lambda amplitude_v: play(amplitude_v=amplitude_v), 0.0, 1e3, *NO_NUMBERS)
    refused(bench, lambda offset_v: play(offset_v=offset_v), 1e3, *NO_NUMBERS)
    refused(
        bench,
        lambda delay_s: each.burst(1, cycles=1, trigger=TriggerSource.SOFTWARE, delay_s=delay_s),
        -1.0,
        *NO_NUMBERS,
    )
    refused(bench, lambda channel: each.set_output(int(channel), True), 0, -1, 99)
    each.forget(1)
    assert set(each.stored(1)) == set(empty)


def check_digitizer(bench: OnBench, each: Digitizer) -> None:
    def channel(range_v: float = 1.0, offset_v: float = 0.0) -> None:
        each.configure_channel(1, range_v=range_v, offset_v=offset_v)

    def length(duration_s: float) -> None:
        each.configure_record(start_s=0.0, duration_s=duration_s)

    channel()
    length(10e-6)
    each.configure_trigger("external", level_v=0.5)
    each.arm([1])
    assert each.complete() is False
    with pytest.raises(InstrumentTimeoutError, match="trigger"):
        each.read(1)
    refused(bench, lambda range_v: channel(range_v=range_v), 0.0, -1.0, *NO_NUMBERS)
    refused(bench, lambda offset_v: channel(offset_v=offset_v), *NO_NUMBERS)
    refused(bench, length, 0.0, -1.0, *NO_NUMBERS)
    refused(bench, lambda level_v: each.configure_trigger(1, level_v=level_v), *NO_NUMBERS)
    refused(bench, lambda number: each.arm([int(number)]), 0, -1, 99)


def check_power_meter(bench: OnBench, each: PowerMeter) -> None:
    read_back: Callable[[], float] | None = getattr(each, "wavelength_m", None)
    for wavelength_m in (1310e-9, 1550e-9, 1550.12e-9):
        each.set_wavelength(wavelength_m)
        assert math.isfinite(each.power_w())
        if read_back is not None:
            assert read_back() == pytest.approx(wavelength_m, abs=1e-12)
    refused(bench, each.set_wavelength, 0.0, 1.0, 1550.0, *NO_NUMBERS)
    if read_back is not None:
        refused_by_panel(bench, each.set_wavelength, read_back, 1543.21e-9)
    each.zero()
    assert math.isfinite(each.power_w())


CHECKS: dict[type[Any], Callable[[OnBench, Any], None]] = {
    Attenuator: check_attenuator,
    Laser: check_laser,
    TunableLaser: check_tunable_laser,
    SweptLaser: check_swept_laser,
    VoltageSource: check_voltage_source,
    SourceMeter: check_source_meter,
    ModulatorBias: check_modulator_bias,
    WaveformGenerator: check_waveform_generator,
    Digitizer: check_digitizer,
    PowerMeter: check_power_meter,
}


def abilities() -> list[tuple[str, type[Any]]]:
    """Return each driver with each capability that it or one of its channels has."""
    found = []
    for name in drivers.names():
        driver = drivers.load(name)
        kinds = (driver, *outputs_of(driver).values())
        owned = {each for kind in kinds for each in capabilities_of(kind)}
        found += [(name, each) for each in CAPABILITIES if each in owned]
    return found


def test_every_capability_has_its_check() -> None:
    assert set(CAPABILITIES) == set(CHECKS)


@every_driver
def test_on_the_bench_it_finds_its_instrument_and_leaves_it_safe_twice(
    name: str, on_bench: OnBench
) -> None:
    identity = on_bench.instrument.identify()
    assert isinstance(identity, Identity)
    assert identity.model
    for _ in range(2):
        on_bench.instrument.safe_state()
    for _ in range(2):
        on_bench.instrument.close()
    with pytest.raises(ConnectionFailedError, match="closed"):
        on_bench.instrument.identify()


@pytest.mark.parametrize(("name", "capability"), abilities())
def test_on_the_bench_what_is_set_is_read_back_and_what_is_wrong_is_refused(
    name: str, capability: type[Any], on_bench: OnBench
) -> None:
    found = on_bench.get(capability)
    assert found
    for each in found:
        CHECKS[capability](on_bench, each)
    on_bench.instrument.safe_state()


@every_driver
def test_on_the_bench_each_further_property_is_read_back(name: str, on_bench: OnBench) -> None:
    instrument = on_bench.instrument
    channels = [getattr(instrument, method)(1) for method in outputs_of(type(instrument))]
    for part in (*parts_of(instrument), *channels):
        for what, put, get, values in properties_of(part):
            outcomes = [read_back(what, put, get, value) for value in values]
            missing = set(outcomes) <= {"refused by the instrument", "out of range"}
            assert outcomes.count("read back") >= 2 or missing, f"{what}: {outcomes}"


def read_back(what: str, put: Callable[[Any], object], get: Callable[[], Any], value: Any) -> str:
    """Set one value and compare; return what came of it."""
    try:
        put(value)
    except LimitError:
        return "out of range"
    except InstrumentReportedError:
        return "refused by the instrument"
    found = get()
    wanted = value if isinstance(value, Enum) else pytest.approx(value, rel=1e-3, abs=1e-9)
    assert found == wanted, what
    return "read back"


@every_driver
def test_after_a_time_out_no_old_answer_is_taken_for_a_new_one(
    name: str, on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply that was given up on stays on the wire; a driver out of step would read it."""
    identity = on_bench.instrument.identify()
    read = on_bench.library.read
    failures = [pyvisa.errors.VisaIOError(StatusCode.error_timeout)]

    def late(session: Any, count: int) -> Any:
        if failures:
            raise failures.pop()
        return read(session, count)

    monkeypatch.setattr(on_bench.library, "read", late)
    with pytest.raises(InstrumentTimeoutError, match=re.escape(on_bench.address)):
        on_bench.instrument.identify()
    on_bench.instrument.safe_state()
    assert on_bench.instrument.identify() == identity


@every_driver
def test_a_connection_that_is_lost_is_told_and_found_again(
    name: str, on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = on_bench.instrument.identify()
    lost = pyvisa.errors.VisaIOError(StatusCode.error_connection_lost)

    def fails(session: Any, count: int) -> Any:
        raise lost

    with monkeypatch.context() as broken:
        broken.setattr(on_bench.library, "read", fails)
        with pytest.raises(ConnectionFailedError, match=re.escape(on_bench.address)):
            on_bench.instrument.identify()
        with pytest.raises(InstrumentError):
            on_bench.instrument.safe_state()
    assert on_bench.instrument.identify() == identity
