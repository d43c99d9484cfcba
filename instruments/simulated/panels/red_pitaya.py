"""Front panel of a Red Pitaya STEMlab 125-14 SCPI server: acquisition, generator and slow pins.

Source: docs/wire/red_pitaya.md, sections Line, Pins, Errors, Identity and Assumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from labctl.clock import Clock
from labctl.instruments.codecs.ieee488 import parse_error
from labctl.instruments.codecs.scpi import (
    SCPI_ERRORS,
    Command,
    Parameters,
    ScpiCore,
    Suffixes,
    only,
    readout,
)
from labctl.instruments.codecs.scpi_status import ERROR_TEXTS, MESSAGE_WAITS, ScpiError
from labctl.instruments.codecs.scpi_values import Text
from labctl.instruments.simulated.panel import EVERYTHING
from labctl.instruments.simulated.panels.red_pitaya_acquisition import RedPitayaAcquisition
from labctl.instruments.simulated.panels.red_pitaya_generator import RedPitayaGenerator
from labctl.instruments.simulated.panels.red_pitaya_pins import RedPitayaPins
from labctl.instruments.simulated.ports import DigitizerPort, DrivePort

_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.\d*)?")


class RedPitayaPanel:
    """One board with two fast inputs; satisfies `FrontPanel`. Messages and replies end with CR NL.

    After ACQ:START and ACQ:TRIG, in either order, a record of 16384 samples is taken: at once
    (NOW), at the first edge that a query finds within one record's length (CH1, CH2), at the
    digitizer's trigger (EXT), or when an output plays (AWG). Its end lies 8192 + ACQ:TRIG:DLY
    samples after the trigger, so 0 has the trigger in the middle. The oldest sample is
    number 0 of the buffer. ACQ:AVG and the debounce times are kept only: the digitizer port takes
    a sample rate. Inputs AIN read `analog_inputs_v`, 0 V where nothing is connected. Date and
    time run from `powered_on` on, until they are set. Assumed, not confirmed by a source: the
    identity's last two fields, ACQ:WPOS? 0, error codes of SCPI-99 instead of the board's own
    texts. Deep memory (AXI), split triggers (boards with four inputs), the load setting (boards
    with a switchable gain), and the serial buses are not fitted: -113.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        digitizer: DigitizerPort,
        outputs: Mapping[int, DrivePort],
        *,
        identity: str = "REDPITAYA,INSTR2020,0,01-02",
        board: str = "STEMlab 125-14",
        board_id: int = 2,
        version: str = "2.07-48",
        analog_inputs_v: Mapping[int, float] | None = None,
        powered_on: datetime = datetime(1970, 1, 1),
    ) -> None:
        self.name, self._clock = name, clock
        self._generator = RedPitayaGenerator(clock, outputs)
        self._acquisition = RedPitayaAcquisition(clock, digitizer, self._generator.playing)
        self._pins = RedPitayaPins(analog_inputs_v or {})
        self._board, self._board_id, self._version = board, board_id, version
        self._zero = powered_on - timedelta(seconds=clock.now_s())
        self._pending = b""
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            error_style=SCPI_ERRORS,
            message_bytes=1 << 20,
        )
        self.read_timed_out = self._scpi.read_timed_out
        self.power_cycle = self._scpi.power_cycle

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host."""
        if end and self._pending:
            self._pending = b""
            self._scpi.status.fault(ScpiError(-410))
        self._scpi.write(data, end=end)

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the oldest reply, and whether it ends with them."""
        if not self._pending:
            reply = self._scpi.read(EVERYTHING)[0]
            self._pending = reply[:-1] + b"\r\n" if reply else b""
        chunk, self._pending = self._pending[:limit], self._pending[limit:]
        return chunk, bool(chunk) and not self._pending

    def clear(self) -> None:
        """Device clear: drop input and output that wait."""
        self._pending = b""
        self._scpi.clear()

    def status_byte(self) -> int:
        """Return the status byte as a serial poll would read it."""
        return self._scpi.status_byte() | (MESSAGE_WAITS if self._pending else 0)

    def serial_poll(self) -> int:
        """Return the status byte and end the service request."""
        return self._scpi.serial_poll() | (MESSAGE_WAITS if self._pending else 0)

    def _reset(self) -> None:
        self._acquisition.reset()
        self._pins.reset()
        self._generator.reset()

    def _commands(self) -> list[Command]:
        commands = [
            *self._acquisition.commands(),
            *self._generator.commands(),
            *self._pins.commands(),
            readout(":SYSTem:ERRor:COUNt", lambda _: str(self._count_errors())),
            readout(":SYSTem:BRD:ID", lambda _: str(self._board_id)),
            readout(":SYSTem:BRD:Name", lambda _: self._board),
            readout(":SYSTem:VERSion", lambda _: self._version),
            Command(":SYSTem:DATE", self._put_date, readout("", lambda _: self._now("date")).ask),
            Command(":SYSTem:TIME", self._put_time, readout("", lambda _: self._now("time")).ask),
        ]
        listed = "\n".join(_spelled(commands))
        return [*commands, readout(":SYSTem:Help", lambda _: listed)]

    def _count_errors(self) -> int:
        """Count the errors that wait: take all off the queue and put them back."""
        status = self._scpi.status
        event, found = status.event, []
        while (error := parse_error(status.next_error()))[0] != 0:
            found.append(error)
        for code, text in found:
            standard = ERROR_TEXTS.get(code, "")
            status.fault(ScpiError(code, text.removeprefix(standard).removeprefix("; ")))
        status.event = event
        return len(found)

    def _local(self) -> datetime:
        return self._zero + timedelta(seconds=self._clock.now_s())

    def _now(self, part: str) -> str:
        now = self._local()
        return now.date().isoformat() if part == "date" else now.strftime("%H:%M:%S")

    def _put_date(self, _: Suffixes, parameters: Parameters) -> None:
        year, month, day = _fields(_DATE, parameters)
        self._set_clock(lambda now: now.replace(year=year, month=month, day=day))

    def _put_time(self, _: Suffixes, parameters: Parameters) -> None:
        hour, minute, second = _fields(_TIME, parameters)
        self._set_clock(
            lambda now: now.replace(hour=hour, minute=minute, second=second, microsecond=0)
        )

    def _set_clock(self, change: Callable[[datetime], datetime]) -> None:
        now = self._local()
        try:
            self._zero += change(now) - now
        except ValueError as error:
            raise ScpiError(-200, str(error)) from error


def _spelled(commands: Iterable[Command]) -> Iterator[str]:
    for command in commands:
        pattern = command.pattern.removeprefix(":")
        if command.do is not None:
            yield pattern
        if command.ask is not None:
            yield f"{pattern}?"


def _fields(form: re.Pattern[str], parameters: Parameters) -> tuple[int, int, int]:
    """Read three numbers of a quoted date or time; raises ScpiError -200 on anything else."""
    text = Text().parse(only(parameters)).strip()
    match = form.fullmatch(text)
    if match is None:
        raise ScpiError(-200, text[:32])
    first, second, third = map(int, match.groups())
    return first, second, third
