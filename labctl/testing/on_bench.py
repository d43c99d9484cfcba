"""A driver opened on its front panel, with what it sends, and ways to send past it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pyvisa

from labctl.addresses import canonical
from labctl.errors import InstrumentReportedError, LimitError
from labctl.instruments.codecs.itla import Request
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.transports.transport import FrameTransport
from labctl.instruments.transports.visa_link import close_library, resource_manager
from labctl.testing.shape import channels_of, hint

# A number that is out of range for every quantity, in any power of ten of its unit.
_NO_VALUE = b"987654321"
_MOST_FRAME_DATA = 0x7FFF
_MOST_READS = 100
_MOST_CHANNELS = 1000


@dataclass(frozen=True)
class PanelPlace:
    """Where a driver has a front panel: a bench file, the address in it, options of the driver.

    `questions`: messages without a question mark that set nothing, as they are sent. `values`: of
    properties, by the name of their setter, instead of drawn ones.
    """

    bench: Path
    address: str
    options: Mapping[str, object]
    questions: tuple[bytes, ...] = ()
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass
class OnBench:
    """A driver opened on its panel: what it sent and received over its declared transport."""

    instrument: Any
    place: PanelPlace
    sent: list[bytes]
    transport: type[Any]
    sessions: list[Any]
    library: Any
    received: list[bytes] = field(default_factory=list)

    def settings(self) -> list[bytes]:
        """Return what was sent that asks nothing: frames that write, or lines."""
        if self.transport is FrameTransport:
            return [each for each in self.sent if len(each) == 4 and Request.decode(each).write]
        lines = [line for message in self.sent for line in re.split(rb"[\r\n]+", message)]
        asked = self.place.questions
        return [line for line in lines if line and b"?" not in line and line not in asked]

    def send(self, message: bytes) -> None:
        """Send bytes past the driver, and drop what is replied."""
        self.library.write(self.sessions[-1], message)
        with suppress(pyvisa.errors.VisaIOError):
            for _ in range(_MOST_READS):
                self.library.read(self.sessions[-1], 4096)

    @property
    def panel(self) -> FrontPanel:
        """The front panel itself, past every session."""
        panels: dict[str, FrontPanel] = self.library.world.panels
        return next(panel for at, panel in panels.items() if canonical(at) == self._address)

    def put(self, panel: FrontPanel) -> None:
        """Put another panel at the address; a session that is open keeps the old one."""
        panels: dict[str, FrontPanel] = self.library.world.panels
        at = next(at for at in panels if canonical(at) == self._address)
        panels[at] = panel

    @property
    def _address(self) -> str:
        return canonical(self.place.address)

    def panel_write(self, message: str) -> None:
        """Send a line to the panel as another program does; what it replies is dropped."""
        self.panel_reply(message)

    def panel_reply(self, message: str) -> str:
        """Ask the panel a line as another program does, and return its reply."""
        self.panel.write(message.encode("ascii") + b"\n", end=True)
        return self.panel.read(1 << 20)[0].decode("latin-1").strip()

    def get(self, capability: type[Any]) -> list[Any]:
        """Return all that has the capability: the instrument, its first and its last channel."""
        return [
            each for each in (self.instrument, *self.channels()) if isinstance(each, capability)
        ]

    def channels(self) -> list[Any]:
        """Return the first and the last channel of each kind that the instrument has."""
        return [channel for _, channel in self.numbered_channels()]

    def numbered_channels(self) -> list[tuple[int, Any]]:
        """Return the same, each with its number."""
        found = []
        for method in channels_of(type(self.instrument)):
            numbers = numbers_of(getattr(self.instrument, method))
            for number in numbers[:1] + numbers[1:][-1:]:
                found.append((number, getattr(self.instrument, method)(number)))
        return found


def numbers_of(use: Callable[[int], object]) -> list[int]:
    """Return the numbers of channels, in one run, by trying them; fails if there are none."""
    found: list[int] = []
    for number in range(_MOST_CHANNELS):
        try:
            use(number)
        except LimitError:
            if found:
                break
        else:
            found.append(number)
    assert found, f"{use}: expected channels within 0 to {_MOST_CHANNELS - 1}, got none"
    return found


@contextmanager
def opened(driver: type[Any], place: PanelPlace) -> Iterator[OnBench]:
    """Open a driver on its panel, on a fresh bench that ends with the block."""
    library_name = f"{place.bench}@labctl"
    close_library(library_name)
    library: Any = resource_manager(library_name).visalib
    write, read = library.write, library.read
    sent: list[bytes] = []
    received: list[bytes] = []
    sessions: list[Any] = []

    def noted(session: Any, data: bytes) -> Any:
        sent.append(bytes(data))
        sessions.append(session)
        return write(session, data)

    def listened(session: Any, count: int) -> Any:
        answer = read(session, count)
        received.append(bytes(answer[0]))
        return answer

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library, "write", noted)
            patch.setattr(library, "read", listened)
            instrument = driver.open(
                "dut", place.address, library=library_name, options=place.options
            )
            transport = hint(driver.__init__, "transport")
            yield OnBench(instrument, place, sent, transport, sessions, library, received)
            instrument.close()
    finally:
        close_library(library_name)


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

    The message is the driver's own for `value`, which is there as `written`, with the number
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
        return Request(Request.decode(settings[-1]).register, _MOST_FRAME_DATA, write=True).encode()
    spans = [(line, span) for line in settings if (span := _span_of(value, line))]
    assert spans, f"no setting in {bench.sent} holds {value}"
    line, (start, stop) = spans[-1]
    ends = {end for each in bench.sent if (end := each[len(each.rstrip(b"\r\n")) :])}
    return line[:start] + _NO_VALUE + line[stop:] + min(ends, default=b"\n")


def _span_of(value: float, line: bytes) -> tuple[int, int] | None:
    """Return where in a line a value is, in any power of ten of its unit."""
    for found in re.finditer(rb"(?<!\d)\d+(?:\.\d*)?(?:E[-+]?\d+)?", line, re.IGNORECASE):
        number = float(found.group())
        digits = math.log10(number / value) if number else 0.5
        if abs(digits - round(digits)) < 1e-4:
            return found.span()
    return None
