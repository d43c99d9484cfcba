"""The registers of an OIF ITLA module: read, written and waited for, over checked frames.

Source: docs/wire/purephotonics_ppcl550.md, sections Frame, Registers and Errors [2+]. Strings and
lists (AEA) are read in the exact number of words that the module announces.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from labctl.errors import InstrumentReportedError, InstrumentTimeoutError, ReplyError
from labctl.instruments.codecs.itla import (
    ChecksumError,
    Reply,
    Request,
    Status,
    to_signed,
    to_unsigned,
)
from labctl.instruments.driver_rules import asked_again, wait_for
from labctl.instruments.transports.transport import FrameTransport


class Register(IntEnum):
    """The registers that drivers use; 0x90 is PurePhotonics' own."""

    NOP = 0x00
    DEV_TYP = 0x01
    MFGR = 0x02
    MODEL = 0x03
    SERIAL = 0x04
    MFG_DATE = 0x05
    RELEASE = 0x06
    REL_BACK = 0x07
    AEA_EAR = 0x0B
    STATUS_F = 0x20
    STATUS_W = 0x21
    CHANNEL = 0x30
    PWR = 0x31
    RES_ENA = 0x32
    GRID = 0x34
    FCF1 = 0x35
    FCF2 = 0x36
    LF1 = 0x40
    LF2 = 0x41
    OOP = 0x42
    C_TEMP = 0x43
    FTFR = 0x4F
    OPSL = 0x50
    OPSH = 0x51
    LFL1 = 0x52
    LFL2 = 0x53
    LFH1 = 0x54
    LFH2 = 0x55
    LGRID = 0x56
    CURRENTS = 0x57
    TEMPS = 0x58
    FTF = 0x62
    MODE = 0x90


# Error field of NOP (docs/wire/purephotonics_ppcl550.md).
NOT_IMPLEMENTED = 1
PENDING = 4
_ERRORS = {
    1: "RNI: register not implemented",
    2: "RNW: register not writeable",
    3: "RVE: value out of range",
    PENDING: "CIP: ignored, an operation is pending",
    5: "CII: ignored, the module is initialising",
    6: "ERE: extended address out of range",
    7: "ERO: extended address is read-only",
    8: "EXF: execution failed",
    9: "CIE: ignored while the output is enabled",
    10: "IVC: invalid configuration",
    15: "VSE: vendor-specific error",
}
# A bit of ResEna and a bit of NOP (docs/wire/purephotonics_ppcl550.md, section Registers).
_MODULE_RESET = 0x0001
_READY = 0x0010
# Noise that damages three frames in a row is a fault of the line, not an accident.
_ATTEMPTS = 3
# Two readings that agree are found among four, even if one in the middle was damaged.
_READINGS = 4
# Beyond any string or list of the registers: a damaged length must not ask for kilobytes in pairs.
_LONGEST_BYTES = 1024


class ItlaRegisters:
    """A module by its registers; `timeout_s` is how long a pending operation may take, in s."""

    def __init__(self, transport: FrameTransport, timeout_s: float) -> None:
        self._name = transport.name
        self._transport = transport
        self._timeout_s = timeout_s

    def read(self, register: Register) -> int:
        """Return the unsigned 16 bits of a register, read until they are the same twice in a row.

        The checksum has four bits: two that are flipped in the same column of a reply keep it.
        Raises ReplyError where four replies are all different.
        """
        return self._agreed(register, lambda one, other: one == other)

    def read_signed(self, register: Register, *, scatter: int = 0) -> int:
        """Return a register as two's complement; two readings agree to within `scatter`."""

        def agree(one: int, other: int) -> bool:
            return abs(to_signed(one) - to_signed(other)) <= scatter

        return to_signed(self._agreed(register, agree))

    def write(self, register: Register, value: int) -> int:
        """Write -32768 to 65535 to a register and wait until nothing is pending; return the reply.

        What an earlier program left pending when it was killed is waited for first.
        """
        command = f"write {register.name} = {value}"
        request = Request(register, to_unsigned(value), write=True)
        try:
            reply = self._checked(request, command)
        except InstrumentReportedError as error:
            if error.code != PENDING:
                raise
            self.wait(self._is_idle, "end what was pending before " + repr(command))
            reply = self._checked(request, command)
        self.wait(self._is_idle, f"complete {command!r}")
        return reply.data

    def write_and_see(self, register: Register, value: int) -> None:
        """Write as `write` does; raises ReplyError unless the register then holds the value.

        A reply to a write says what the register holds, so that this takes no message more.
        """
        held = to_signed(self.write(register, value))
        if held != value:
            problem = f"expected {value} after it was set, got {held}"
            raise ReplyError(self._name, problem, f"write {register.name} = {value}")

    def text(self, register: Register) -> str:
        """Return the string that a register gives access to."""
        return self._extended(register).split(b"\0")[0].decode("latin-1").strip()

    def numbers(self, register: Register) -> tuple[int, ...]:
        """Return the list of signed 16-bit numbers that a register gives access to."""
        payload = self._extended(register)
        if len(payload) % 2:
            problem = f"{len(payload)} bytes are no list of 16-bit numbers"
            raise ReplyError(self._name, problem, f"read {register.name}")
        words = (payload[n : n + 2] for n in range(0, len(payload), 2))
        return tuple(int.from_bytes(word, "big", signed=True) for word in words)

    def reboot(self) -> None:
        """Reset the module and wait until its output may be enabled; it may be silent meanwhile."""
        request = Request(Register.RES_ENA, _MODULE_RESET, write=True)
        self._checked(request, f"write RES_ENA = {_MODULE_RESET}")
        self.wait(self._is_ready_again, "become ready to be enabled")

    def wait_until_ready(self) -> None:
        """Wait until the output may be enabled; raises InstrumentTimeoutError."""
        self.wait(self._is_ready, "become ready to be enabled")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Poll a condition; raises InstrumentTimeoutError, naming `what` did not happen."""
        wait_for(
            condition,
            self._transport.clock,
            self._timeout_s,
            instrument=self._name,
            problem=f"did not {what} within {self._timeout_s:g} s",
            command="read NOP",
        )

    def _agreed(self, register: Register, agree: Callable[[int, int], bool]) -> int:
        command = f"read {register.name}"
        found = [self._read(register)]
        while len(found) < _READINGS:
            found.append(self._read(register))
            if agree(*found[-2:]):
                return found[-1]
        problem = f"answered {', '.join(map(str, found))}; check the line and the baud rate"
        raise ReplyError(self._name, problem, command)

    def _read(self, register: Register) -> int:
        return self._checked(Request(register), f"read {register.name}").data

    def _is_ready(self) -> bool:
        return bool(self._nop().data & _READY)

    def _is_ready_again(self) -> bool:
        try:
            return self._is_ready()
        except InstrumentTimeoutError:
            return False

    def _is_idle(self) -> bool:
        reply = self._nop()
        return reply.status is not Status.PENDING and reply.data >> 8 == 0

    def _nop(self) -> Reply:
        return self._exchange(Request(Register.NOP), "read NOP")

    def _extended(self, register: Register) -> bytes:
        command = f"read {register.name}"
        reply = self._checked(Request(register), command)
        if reply.status is not Status.AEA or not 0 < reply.data <= _LONGEST_BYTES:
            raise ReplyError(self._name, f"{reply.data} is not the length of a string", command)
        words = [self._read(Register.AEA_EAR) for _ in range((reply.data + 1) // 2)]
        return b"".join(word.to_bytes(2, "big") for word in words)[: reply.data]

    def _checked(self, request: Request, command: str) -> Reply:
        reply = self._exchange(request, command)
        if reply.status is Status.EXECUTION_ERROR:
            code = self._nop().data & 0x000F
            message = _ERRORS.get(code, "reserved error code" if code else "no reason given")
            raise InstrumentReportedError(self._name, code, message, command)
        return reply

    def _asked_again(self, frame: bytes) -> bytes:
        """Send a frame, again if it is not answered: each may be carried out twice.

        A write sets the same value again.
        """
        return asked_again(lambda: self._transport.exchange(frame))

    def _exchange(self, request: Request, command: str) -> Reply:
        """Send a request until both ends agree on the checksums; at most three times.

        A request that arrived damaged (CE) was not executed and is repeated. After a damaged
        reply the last response is asked for again, so that nothing is executed twice.
        """
        frame = request.encode()
        for _ in range(_ATTEMPTS):
            answer = self._asked_again(frame)
            try:
                reply = Reply.decode(answer)
            except ChecksumError:
                frame = Request(request.register, request.data, request.write, True).encode()
                continue
            if reply.checksum_error:
                continue
            if reply.register != request.register:
                self._transport.clear()
                problem = f"answered for register 0x{reply.register:02X}"
                raise ReplyError(self._name, problem, command)
            return reply
        self._transport.clear()
        problem = f"checksum errors in {_ATTEMPTS} attempts; check the line and the baud rate"
        raise ReplyError(self._name, problem, command)
