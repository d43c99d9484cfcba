"""Front panel of an OIF ITLA laser module: four-byte frames in, registers behind.

Source: docs/wire/purephotonics_ppcl550.md, sections Frame, Registers, Status bits, Errors, Strings
and lists, Behaviour and PurePhotonics registers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import IntEnum

from labctl.clock import Clock
from labctl.instruments.codecs.itla import (
    FRAME_BYTES,
    ChecksumError,
    Reply,
    Request,
    Status,
    to_signed,
    to_unsigned,
)
from labctl.instruments.simulated.ports import LaserPort
from labctl.units import dbm_to_w, w_to_dbm

# Bits of the registers ResEna, NOP, MCB and StatusF (docs/wire/purephotonics_ppcl550.md). The
# reading of a dark output is assumed ([M] there).
SENA, SOFT_RESET, MODULE_RESET = 8, 2, 1
READY = 0x10
ALARM_DURING_TUNING, SHUTDOWN_ON_FATAL = 2, 4
POWER_FAULT, FREQUENCY_FAULT = 1, 4
LATCH_SOFT_RESET, LATCH_MODULE_RESET, LATCH_CHECKSUM, LATCH_EXECUTION = 0x10, 0x20, 0x40, 0x80
NOT_DISABLED, FATAL, ALARM, SERVICE_REQUEST = 0x1000, 0x2000, 0x4000, 0x8000
DARK_DBM = -60.0
# Bytes that wait for a host that reads none; what comes then is lost.
LONGEST_OUTPUT = 4096

Read = Callable[[], int]
Write = Callable[[int], bool]


class Error(IntEnum):
    """Error field of NOP, bits 3:0."""

    NOT_IMPLEMENTED = 1
    NOT_WRITEABLE = 2
    RANGE = 3
    PENDING = 4
    INITIALISING = 5
    EXTENDED_RANGE = 6
    EXTENDED_READ_ONLY = 7
    OUTPUT_ENABLED = 9


class RefusedError(Exception):
    """The module answers XE and puts this in the error field of NOP."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.name)
        self.error = error


class ITLAPanel:
    """One module on its serial line; satisfies `FrontPanel`.

    `frequency_limits_hz` and `power_limits_w` are what LFL/LFH and OPSL/OPSH report. Switching on
    takes `turn_on_s` and tuning while on `tune_s` of bench time: as long, NOP shows a pending
    operation. The head itself is switched at once; how it settles is physics. The MSA leaves open
    whether the write itself answers "pending" too: the registers in `pending_replies` do (fine
    tune alone suits pytla, which takes it as an error elsewhere). `nop_reports_pending` also
    marks the reply to NOP itself as pending (the MSA has the flags in its data only). With
    `checks_frequency` off, as PurePhotonics modules behave, a frequency outside the limits is
    accepted, and the laser stops at the limit with a frequency alarm. Assumed, not confirmed by a
    source: `fine_tune_limit_hz`, `boot_s`, the defaults of the alarm masks and thresholds, -60
    dBm as the reading of a dark output, the temperatures. Bit 12 (DIS) of the status registers is
    1 while the output is on, as pytla reads it. Clean sweep and clean jump are not fitted (RNI).
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        laser: LaserPort,
        *,
        model: str = "PPCL550",
        manufacturer: str = "Pure Photonics",
        serial: str = "CRTNF00001",
        firmware: str = "8.0.8.2",
        built: str = "12-JAN-2024",
        frequency_limits_hz: tuple[float, float] = (191.5e12, 196.25e12),
        power_limits_w: tuple[float, float] = (dbm_to_w(6.0), dbm_to_w(13.5)),
        grid_limit_hz: float = 1e8,
        fine_tune_limit_hz: float = 12e9,
        turn_on_s: float = 5.0,
        tune_s: float = 0.5,
        boot_s: float = 1.0,
        supports_v13: bool = False,
        pending_replies: Collection[int] = (0x62,),
        nop_reports_pending: bool = False,
        checks_frequency: bool = False,
        diode_temperature_c: float = 35.0,
        case_temperature_c: float = 27.0,
        diode_current_a: float = 0.25,
        cooler_current_a: float = 0.1,
    ) -> None:
        self.name, self._clock, self._laser = name, clock, laser
        self._frequency_limits_hz, self._power_limits_w = frequency_limits_hz, power_limits_w
        self._grid_limit_hz, self._fine_limit_mhz = grid_limit_hz, round(fine_tune_limit_hz / 1e6)
        self._turn_on_s, self._tune_s, self._boot_s = turn_on_s, tune_s, boot_s
        self._v13, self._nop_pending = supports_v13, nop_reports_pending
        self._pending_replies = frozenset(pending_replies)
        self._checks_frequency = checks_frequency
        self._temperatures_c = (diode_temperature_c, case_temperature_c)
        self._currents_a = (cooler_current_a, diode_current_a)
        device = "CW ITLA" if supports_v13 else "CW uITLA"
        release = "01.3.0" if supports_v13 else "01.2.0"
        self._strings = {1: device, 2: manufacturer, 3: model, 4: serial, 5: built}
        self._strings |= {6: f"FW{firmware}", 7: f"HW{release}"}
        self._readers = self._build_readers()
        self._writers = self._build_writers()
        self._input = bytearray()
        self._output = b""
        self._reply = Reply(0)
        self._power_up()

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes; each four make a frame and give a reply. END means nothing here.

        A host that never reads loses the replies beyond 4096 bytes.
        """
        self._input += data
        while len(self._input) >= FRAME_BYTES:
            frame = bytes(self._input[:FRAME_BYTES])
            del self._input[:FRAME_BYTES]
            reply = self._answer(frame).encode()
            if len(self._output) < LONGEST_OUTPUT:
                self._output += reply

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the replies that wait, at most one frame of them."""
        frame_rest = (len(self._output) - 1) % FRAME_BYTES + 1 if self._output else 0
        chunk = self._output[: min(limit, frame_rest)]
        self._output = self._output[len(chunk) :]
        return chunk, bool(chunk) and len(chunk) == frame_rest

    def clear(self) -> None:
        """Drop half a frame and replies that wait."""
        self._input.clear()
        self._output = b""

    def status_byte(self) -> int:
        """Return 0: a serial module has none."""
        return 0

    def power_cycle(self) -> None:
        """Lose the supply and come back: dark, with the settings of the factory."""
        self.clear()
        self._power_up()

    def _power_up(self) -> None:
        low_hz = self._frequency_limits_hz[0]
        self._stored = dict.fromkeys((0x08, 0x09, 0x0A, 0x0D, 0x0E, 0x0F, 0x33, 0x59, 0x5A), 0)
        self._stored |= dict.fromkeys((0x5B, 0x5C, 0x62, 0x90), 0)
        self._stored |= {0x22: 1000, 0x23: 500, 0x24: 100, 0x25: 50, 0x26: 300, 0x27: 150}
        self._stored |= {0x28: 0x1FBF, 0x29: 0x000F, 0x2A: 0x0D0D, 0x30: 1, 0x34: 500}
        self._stored |= {0x5D: to_unsigned(-500), 0x5E: 7000, 0x5F: 90, 0x60: 75}
        self._stored |= {0x31: self._dbm100(self._power_limits_w[1])}
        self._stored |= {0x35: _terahertz(low_hz), 0x36: _tenth_gigahertz(low_hz)}
        if self._v13:
            self._stored |= {0x63: 500, 0x64: 250, 0x65: 0, 0x66: 0, 0x67: _megahertz(low_hz)}
        self._enabled = False
        self._error: Error | None = None
        self._latched = LATCH_MODULE_RESET
        self._extended = b""
        self._turned_on_s = self._tuned_s = self._ready_s = self._clock.now_s()
        self._laser.set_emission(False, 0.0, self._frequency_hz())

    def _answer(self, frame: bytes) -> Reply:
        try:
            request = Request.decode(frame)
        except ChecksumError:
            self._latched |= LATCH_CHECKSUM
            return Reply(frame[1], frame[2] << 8 | frame[3], checksum_error=True)
        if request.last_response or request.register == 0x13:
            return self._reply
        try:
            self._reply = self._carry_out(request)
        except RefusedError as refusal:
            self._error = refusal.error
            self._latched |= LATCH_EXECUTION
            self._reply = Reply(request.register, request.data, Status.EXECUTION_ERROR)
        return self._reply

    def _carry_out(self, request: Request) -> Reply:
        register = request.register
        if register == 0x00:
            return self._no_operation()
        if self._clock.now_s() < self._ready_s:
            raise RefusedError(Error.INITIALISING)
        if request.write:
            pending = self._write(register, request.data) and register in self._pending_replies
            return Reply(register, request.data, Status.PENDING if pending else Status.OK)
        if register in self._strings or register in (0x57, 0x58):
            self._extended = self._long_value(register)
            return Reply(register, len(self._extended), Status.AEA)
        if register not in self._readers and register not in self._stored:
            raise RefusedError(Error.NOT_IMPLEMENTED)
        read = self._readers.get(register)
        return Reply(register, self._stored[register] if read is None else read())

    def _no_operation(self) -> Reply:
        now_s = self._clock.now_s()
        pending = 1 if now_s < max(self._turned_on_s, self._tuned_s, self._ready_s) else 0
        ready = READY if now_s >= self._ready_s else 0
        data = pending << 8 | ready | (self._error or 0)
        self._error = None
        return Reply(0, data, Status.PENDING if pending and self._nop_pending else Status.OK)

    def _write(self, register: int, data: int) -> bool:
        """Write a register; returns whether the operation is now pending."""
        write = self._writers.get(register)
        if write is not None:
            return write(data)
        if register in self._readers or register in self._strings or register in (0x57, 0x58):
            raise RefusedError(Error.NOT_WRITEABLE)
        if register not in self._stored:
            raise RefusedError(Error.NOT_IMPLEMENTED)
        self._stored[register] = data
        return False

    def _build_readers(self) -> dict[int, Read]:
        low_hz, high_hz = self._frequency_limits_hz
        readers: dict[int, Read] = {
            0x0B: self._next_extended,
            0x10: self._manual_extended,
            0x32: self._enable_bits,
            0x20: lambda: self._status(0x22),
            0x21: lambda: self._status(0x23),
            0x40: lambda: _terahertz(self._channel_hz()),
            0x41: lambda: _tenth_gigahertz(self._channel_hz()),
            0x42: self._output_power,
            0x43: lambda: _hundredths(self._temperatures_c[1]),
            0x4F: lambda: self._fine_limit_mhz,
            0x50: lambda: self._dbm100(self._power_limits_w[0]),
            0x51: lambda: self._dbm100(self._power_limits_w[1]),
            0x52: lambda: _terahertz(low_hz),
            0x53: lambda: _tenth_gigahertz(low_hz),
            0x54: lambda: _terahertz(high_hz),
            0x55: lambda: _tenth_gigahertz(high_hz),
            0x56: lambda: round(self._grid_limit_hz / 1e8),
            0x61: lambda: 0,
        }
        if self._v13:
            readers |= {0x68: lambda: _megahertz(self._channel_hz())}
            readers |= {0x69: lambda: _megahertz(low_hz), 0x6A: lambda: _megahertz(high_hz)}
            readers |= {0x6B: lambda: round(self._grid_limit_hz % 1e8 / 1e6)}
        return readers

    def _build_writers(self) -> dict[int, Write]:
        writers: dict[int, Write] = {
            0x0B: self._refuse_extended,
            0x10: self._refuse_extended,
            0x20: self._clear_latches,
            0x21: self._clear_latches,
            0x32: self._enable,
            0x30: lambda data: self._set_channel(0x30, data),
            0x31: self._set_power,
            0x34: lambda data: self._set_first_frequency(0x34, data),
            0x35: lambda data: self._set_first_frequency(0x35, data),
            0x36: lambda data: self._set_first_frequency(0x36, data),
            0x62: self._set_fine_tune,
            0x90: self._set_mode,
        }
        if self._v13:
            writers |= {0x65: lambda data: self._set_channel(0x65, data)}
            writers |= {0x66: lambda data: self._set_first_frequency(0x66, data)}
            writers |= {0x67: lambda data: self._set_first_frequency(0x67, data)}
        return writers

    def _long_value(self, register: int) -> bytes:
        """Return what an AEA register holds, padded to whole 16-bit words."""
        if register in self._strings:
            text = self._strings[register].encode("ascii") + b"\0"
            return text + b"\0" * (len(text) % 2)
        if register == 0x57:
            cooler_a, diode_a = self._currents_a
            values = [round(cooler_a * 1e4), round(diode_a * 1e4) if self._enabled else 0]
        else:
            values = [_hundredths(value_c) for value_c in self._temperatures_c]
        return b"".join((value & 0xFFFF).to_bytes(2, "big") for value in values)

    def _next_extended(self) -> int:
        if not self._extended:
            raise RefusedError(Error.EXTENDED_RANGE)
        word, self._extended = self._extended[:2], self._extended[2:]
        return int.from_bytes(word, "big")

    def _manual_extended(self) -> int:
        raise RefusedError(Error.EXTENDED_RANGE)

    def _refuse_extended(self, data: int) -> bool:
        raise RefusedError(Error.EXTENDED_READ_ONLY)

    def _clear_latches(self, data: int) -> bool:
        self._latched &= ~data & 0xFF
        return False

    def _enable_bits(self) -> int:
        return SENA if self._enabled else 0

    def _enable(self, data: int) -> bool:
        if data & MODULE_RESET:
            self._power_up()
            self._ready_s = self._clock.now_s() + self._boot_s
            return False
        if data & SOFT_RESET:
            self._extended = b""
            self._latched |= LATCH_SOFT_RESET
        was, wanted = self._enabled, bool(data & SENA)
        if wanted and not was:
            self._check_frequency()
            self._turned_on_s = self._clock.now_s() + self._turn_on_s
        if was and not wanted:
            self._turned_on_s = self._tuned_s = self._clock.now_s()
        if was != wanted:
            self._enabled = wanted
            self._emit()
        return wanted and not was and self._turn_on_s > 0.0

    def _set_channel(self, register: int, data: int) -> bool:
        channel = {0x30: self._stored[0x30], 0x65: self._stored.get(0x65, 0)} | {register: data}
        if channel[0x65] << 16 | channel[0x30] == 0 and register == 0x30:
            raise RefusedError(Error.RANGE)
        before = self._stored[register]
        return self._retune(register, data, before)

    def _set_fine_tune(self, data: int) -> bool:
        if abs(to_signed(data)) > self._fine_limit_mhz:
            raise RefusedError(Error.RANGE)
        return self._retune(0x62, data, self._stored[0x62])

    def _retune(self, register: int, data: int, before: int) -> bool:
        self._refuse_while_turning_on()
        self._stored[register] = data
        try:
            self._check_frequency()
        except RefusedError:
            self._stored[register] = before
            raise
        return self._begin_tuning()

    def _set_power(self, data: int) -> bool:
        self._refuse_while_turning_on()
        low, high = (to_signed(self._dbm100(power_w)) for power_w in self._power_limits_w)
        if not low <= to_signed(data) <= high:
            raise RefusedError(Error.RANGE)
        self._stored[0x31] = data
        return self._begin_tuning()

    def _set_first_frequency(self, register: int, data: int) -> bool:
        if self._enabled:
            raise RefusedError(Error.OUTPUT_ENABLED)
        limit = {0x35: 999, 0x36: 9999, 0x67: 99}.get(register, 0xFFFF)
        if data > limit:
            raise RefusedError(Error.RANGE)
        self._stored[register] = data
        return False

    def _set_mode(self, data: int) -> bool:
        if data > 2:
            raise RefusedError(Error.RANGE)
        self._stored[0x90] = data
        return False

    def _refuse_while_turning_on(self) -> None:
        if self._enabled and self._clock.now_s() < self._turned_on_s:
            raise RefusedError(Error.PENDING)

    def _begin_tuning(self) -> bool:
        if not self._enabled:
            return False
        self._tuned_s = self._clock.now_s() + self._tune_s
        self._emit()
        return self._tune_s > 0.0

    def _emit(self) -> None:
        power_w = dbm_to_w(to_signed(self._stored[0x31]) / 100.0)
        self._laser.set_emission(self._enabled, power_w, self._frequency_hz())

    def _wanted_hz(self) -> float:
        """Return the frequency asked for, in whole MHz so that no rounding error adds up."""
        stored = self._stored
        first_mhz = stored[0x35] * 10**6 + stored[0x36] * 100 + stored.get(0x67, 0)
        grid_mhz = to_signed(stored[0x34]) * 100 + to_signed(stored.get(0x66, 0))
        channel = stored.get(0x65, 0) << 16 | stored[0x30]
        return (first_mhz + (channel - 1) * grid_mhz) * 1e6

    def _channel_hz(self) -> float:
        low_hz, high_hz = self._frequency_limits_hz
        return min(max(self._wanted_hz(), low_hz), high_hz)

    def _frequency_hz(self) -> float:
        return self._channel_hz() + to_signed(self._stored[0x62]) * 1e6

    def _check_frequency(self) -> None:
        low_hz, high_hz = self._frequency_limits_hz
        if self._checks_frequency and not low_hz <= self._wanted_hz() <= high_hz:
            raise RefusedError(Error.RANGE)

    def _output_power(self) -> int:
        return self._dbm100(self._laser.emitted_power_w())

    def _dbm100(self, power_w: float) -> int:
        return _hundredths(max(w_to_dbm(power_w), DARK_DBM))

    def _status(self, power_threshold: int) -> int:
        """Return StatusF or StatusW, by the thresholds from that register on."""
        live = self._deviations(power_threshold)
        self._latched |= live
        status = self._latched | live << 8
        fatal = bool(status & self._stored[0x29])
        alarm = bool(status & self._stored[0x2A])
        if fatal and self._enabled and self._stored[0x33] & SHUTDOWN_ON_FATAL:
            self._enable(0)
        status |= (FATAL if fatal else 0) | (ALARM if alarm else 0)
        status |= SERVICE_REQUEST if status & self._stored[0x28] else 0
        return status | (NOT_DISABLED if self._enabled else 0)

    def _deviations(self, power_threshold: int) -> int:
        """Return which of power and frequency are further off than their thresholds."""
        if not self._enabled or self._clock.now_s() < self._turned_on_s:
            return 0
        tuning = self._clock.now_s() < self._tuned_s
        if tuning and not self._stored[0x33] & ALARM_DURING_TUNING:
            return 0
        off_db100 = abs(to_signed(self._output_power()) - to_signed(self._stored[0x31]))
        off_hz = abs(self._wanted_hz() - self._channel_hz())
        power = off_db100 > self._stored[power_threshold]
        frequency = tuning or off_hz / 1e8 > self._stored[power_threshold + 2]
        return (POWER_FAULT if power else 0) | (FREQUENCY_FAULT if frequency else 0)


def _hundredths(value: float) -> int:
    return to_unsigned(max(min(round(value * 100.0), 0x7FFF), -0x8000))


def _terahertz(frequency_hz: float) -> int:
    return round(frequency_hz / 1e6) // 10**6


def _tenth_gigahertz(frequency_hz: float) -> int:
    return round(frequency_hz / 1e6) % 10**6 // 100


def _megahertz(frequency_hz: float) -> int:
    return round(frequency_hz / 1e6) % 100
