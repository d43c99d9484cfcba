"""PurePhotonics PPCL550 tunable laser (OIF micro-ITLA: binary frames on a serial line).

Registers: OIF-ITLA-MSA-01.3 table 9.2-1 as in section 1.2 of the command tables [2+]; rules of
section 1.4. The laser takes frequencies outside its range without an error [1], so they are
checked here against what it says its limits are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Self

from pydantic import Field

from labctl.clock import wait_until
from labctl.errors import InstrumentReportedError, InstrumentTimeoutError, LimitError, ReplyError
from labctl.instruments.capabilities import Identity
from labctl.instruments.codecs.itla import (
    FRAME_BYTES,
    ChecksumError,
    Reply,
    Request,
    Status,
    to_signed,
    to_unsigned,
)
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.transport import FrameTransport
from labctl.instruments.transports.visa_transport import open_visa_frames
from labctl.units import dbm_to_w, w_to_dbm


class Register(IntEnum):
    """The registers that this driver uses."""

    NOP = 0x00
    MFGR = 0x02
    MODEL = 0x03
    SERIAL = 0x04
    RELEASE = 0x06
    AEA_EAR = 0x0B
    CHANNEL = 0x30
    PWR = 0x31
    RES_ENA = 0x32
    GRID = 0x34
    FCF1 = 0x35
    FCF2 = 0x36
    OOP = 0x42
    FTFR = 0x4F
    OPSL = 0x50
    OPSH = 0x51
    LFL1 = 0x52
    LFL2 = 0x53
    LFH1 = 0x54
    LFH2 = 0x55
    FTF = 0x62
    MODE = 0x90


class ControlMode(IntEnum):
    """How the control loops work: whisper switches them, and their 888 Hz tone, off."""

    DITHER = 0
    NO_DITHER = 1
    WHISPER = 2


_ERRORS = {
    1: "RNI: register not implemented",
    2: "RNW: register not writeable",
    3: "RVE: value out of range",
    4: "CIP: ignored, an operation is pending",
    5: "CII: ignored, the module is initialising",
    6: "ERE: extended address out of range",
    7: "ERO: extended address is read-only",
    8: "EXF: execution failed",
    9: "CIE: ignored while the output is enabled",
    10: "IVC: invalid configuration",
    15: "VSE: vendor-specific error",
}
_NOT_IMPLEMENTED = 1
_SENA = 0x0008
_READY = 0x0010
_ATTEMPTS = 3
_LONGEST_STRING = 1024
_STEP_HZ = 1e8
_FINE_STEP_HZ = 1e6


class PPCL550Options(DriverOptions):
    """Line, waits and the model expected.

    `baud_rate`: 9600 unless the module was told otherwise. `tuning_timeout_s`: how long switching
    on or tuning may take. `model`: how the model string starts [M].
    """

    baud_rate: int = Field(default=9600, gt=0)
    timeout_s: float = Field(default=0.5, gt=0)
    tuning_timeout_s: float = Field(default=60.0, gt=0)
    model: str = "PPCL"


class PurePhotonicsPPCL550:
    """A TunableLaser."""

    def __init__(self, transport: FrameTransport, options: PPCL550Options | None = None) -> None:
        self.name = transport.name
        self._transport = transport
        self._options = options or PPCL550Options()

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(PPCL550Options, name, options)
        transport = open_visa_frames(
            name,
            address,
            library=library,
            timeout_s=read.timeout_s,
            frame_bytes=FRAME_BYTES,
            filler=b"\0",
            baud_rate=read.baud_rate,
        )
        laser = cls(transport, read)
        return verified(laser, address, laser.identify)

    def identify(self) -> Identity:
        """Read the identification strings; raises ReplyError if the model is another one."""
        registers = (Register.MFGR, Register.MODEL, Register.SERIAL, Register.RELEASE)
        identity = Identity(*(self._text(register) for register in registers))
        wanted = self._options.model
        if not identity.model.upper().startswith(wanted.upper()):
            problem = f"a {identity.maker} {identity.model!r} answers, a {wanted} is expected"
            raise ReplyError(self.name, problem, "read MODEL")
        return identity

    def set_power(self, power_w: float) -> None:
        """Set the power in W (0.01 dB steps), within the module's own limits (else LimitError)."""
        lowest = to_signed(self._read(Register.OPSL))
        highest = to_signed(self._read(Register.OPSH))
        code = w_to_dbm(power_w) * 100 if power_w > 0 else -math.inf
        # Half a step of grace: a limit converted to W and back must still be inside.
        if not lowest - 0.5 <= code <= highest + 0.5:
            valid = f"{dbm_to_w(lowest / 100):.4g} to {dbm_to_w(highest / 100):.4g} W"
            raise LimitError(self.name, "power_w", power_w, valid)
        self._write(Register.PWR, round(code))

    def power_w(self) -> float:
        """Return the measured output power in W."""
        return dbm_to_w(to_signed(self._read(Register.OOP)) / 100)

    def set_emission(self, on: bool) -> None:
        """Switch the light and wait until nothing is pending; raises InstrumentTimeoutError."""
        if on and not self.emission():
            self._wait(self._is_ready, "become ready to be enabled")
        self._write(Register.RES_ENA, _SENA if on else 0)
        if self.emission() is not on:
            raise ReplyError(self.name, f"emission did not go {'on' if on else 'off'}", "ResEna")

    def emission(self) -> bool:
        """Tell whether the output is enabled."""
        return bool(self._read(Register.RES_ENA) & _SENA)

    def set_frequency(self, frequency_hz: float) -> None:
        """Tune to a frequency in Hz (1 MHz steps).

        While the light is off: anywhere within `frequency_limits_hz`, as channel 1. While it is
        on: as fine tuning around that channel, as far as the module can. Raises LimitError.
        """
        lowest, highest = self.frequency_limits_hz()
        if not lowest <= frequency_hz <= highest:
            valid = f"{lowest:.7g} to {highest:.7g} Hz"
            raise LimitError(self.name, "frequency_hz", frequency_hz, valid)
        if self.emission():
            self._fine_tune(frequency_hz)
            return
        steps = round(frequency_hz / _STEP_HZ)
        self._write(Register.FCF1, steps // 10_000)
        self._write(Register.FCF2, steps % 10_000)
        self._write(Register.CHANNEL, 1)
        self._write(Register.FTF, round((frequency_hz - steps * _STEP_HZ) / _FINE_STEP_HZ))

    def frequency_hz(self) -> float:
        """Return the frequency in Hz that channel, grid and fine tuning stand for."""
        return self._channel_hz() + to_signed(self._read(Register.FTF)) * _FINE_STEP_HZ

    def frequency_limits_hz(self) -> tuple[float, float]:
        """Return the lowest and the highest frequency in Hz that the module states."""
        return (
            self._terahertz(Register.LFL1, Register.LFL2),
            self._terahertz(Register.LFH1, Register.LFH2),
        )

    def set_mode(self, mode: ControlMode) -> None:
        """Choose how the control loops work (register 0x90, PurePhotonics only)."""
        self._write(Register.MODE, mode)

    def mode(self) -> ControlMode:
        """Return how the control loops work; raises ReplyError on an unknown mode."""
        value = self._read(Register.MODE)
        try:
            return ControlMode(value)
        except ValueError as error:
            raise ReplyError(self.name, f"mode {value} is unknown", "read MODE") from error

    def safe_state(self) -> None:
        """Switch the light off."""
        self.set_emission(False)

    def close(self) -> None:
        """End the session."""
        self._transport.close()

    def _fine_tune(self, frequency_hz: float) -> None:
        centre_hz = self._channel_hz()
        reach = self._fine_reach()
        steps = round((frequency_hz - centre_hz) / _FINE_STEP_HZ)
        if abs(steps) > reach:
            valid = (
                f"within {reach} MHz of {centre_hz:.7g} Hz while the light is on "
                "(switch it off to tune further)"
            )
            raise LimitError(self.name, "frequency_hz", frequency_hz, valid)
        self._write(Register.FTF, steps)

    def _fine_reach(self) -> int:
        try:
            return self._read(Register.FTFR)
        except InstrumentReportedError as error:
            if error.code == _NOT_IMPLEMENTED:
                return 0
            raise

    def _channel_hz(self) -> float:
        first_hz = self._terahertz(Register.FCF1, Register.FCF2)
        channel = self._read(Register.CHANNEL)
        if channel == 1:
            return first_hz
        return first_hz + (channel - 1) * to_signed(self._read(Register.GRID)) * _STEP_HZ

    def _terahertz(self, whole: Register, fraction: Register) -> float:
        return self._read(whole) * 1e12 + self._read(fraction) * _STEP_HZ

    def _is_ready(self) -> bool:
        reply = self._exchange(Request(Register.NOP), "read NOP")
        return bool(reply.data & _READY)

    def _is_idle(self) -> bool:
        reply = self._exchange(Request(Register.NOP), "read NOP")
        return reply.status is not Status.PENDING and reply.data >> 8 == 0

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        timeout_s = self._options.tuning_timeout_s
        if not wait_until(condition, self._transport.clock, timeout_s):
            problem = f"did not {what} within {timeout_s:g} s"
            raise InstrumentTimeoutError(self.name, problem, "read NOP")

    def _read(self, register: Register) -> int:
        command = f"read {register.name}"
        reply = self._exchange(Request(register), command)
        self._check(reply, command)
        return reply.data

    def _write(self, register: Register, value: int) -> None:
        command = f"write {register.name} = {value}"
        reply = self._exchange(Request(register, to_unsigned(value), write=True), command)
        self._check(reply, command)
        self._wait(self._is_idle, f"complete {command!r}")

    def _text(self, register: Register) -> str:
        command = f"read {register.name}"
        reply = self._exchange(Request(register), command)
        self._check(reply, command)
        if reply.status is not Status.AEA or not 0 < reply.data <= _LONGEST_STRING:
            raise ReplyError(self.name, f"{reply.data} is not the length of a string", command)
        words = [self._read(Register.AEA_EAR) for _ in range((reply.data + 1) // 2)]
        text = b"".join(word.to_bytes(2, "big") for word in words)[: reply.data]
        return text.split(b"\0")[0].decode("latin-1").strip()

    def _check(self, reply: Reply, command: str) -> None:
        if reply.status is not Status.EXECUTION_ERROR:
            return
        code = self._exchange(Request(Register.NOP), "read NOP").data & 0x000F
        message = _ERRORS.get(code, "reserved error code" if code else "no reason given")
        raise InstrumentReportedError(self.name, code, message, command)

    def _exchange(self, request: Request, command: str) -> Reply:
        """Send a request until both ends agree on the checksums; at most three times.

        A request that arrived damaged (CE) was not executed and is repeated. After a damaged
        reply the last response is asked for again, so that nothing is executed twice.
        """
        frame = request.encode()
        for _ in range(_ATTEMPTS):
            answer = self._transport.exchange(frame)
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
                raise ReplyError(self.name, problem, command)
            return reply
        self._transport.clear()
        problem = f"checksum errors in {_ATTEMPTS} attempts; check the line and the baud rate"
        raise ReplyError(self.name, problem, command)
