"""OZ Optics DD-100-MC and DA-100 motorised attenuators (serial, 9600 baud).

Commands: docs/wire/oz_optics_dd100.md, sections Line and Commands, on which three public drivers
agree [2+]. A reply is some lines closed by `Done`, sometimes with an empty line behind it; an error
is a line that starts with `Error`. How long the motor may take is [M]: an option.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field

from labctl.errors import InstrumentReportedError, LimitError, ReplyError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity
from labctl.instruments.codecs.replies import NumberForms
from labctl.instruments.driver_rules import asked_again, require_range
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.transport import LinesTransport
from labctl.instruments.transports.visa_lines import open_visa_lines
from labctl.quantities import sets

_DONE = "Done"
_ERROR = "ERROR"
# The instrument gives its errors in words, without a number.
_NO_CODE = -1

_QUESTIONS = ("A?", "CD", "D")
# A unit may follow, a letter or sign of another number may not.
_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)(?:[\s(].*)?", re.ASCII)


class DD100Options(DriverOptions):
    """Line, and the time a movement of the motor may take.

    `timeout_s` must cover the longest movement [M]. `terminator` ends the commands: a carriage
    return, unless given. `model`: how the model starts in the unit's description.
    """

    baud_rate: int = Field(default=9600, gt=0)
    timeout_s: float = Field(default=10.0, gt=0)
    terminator: Literal["\r", "\r\n"] = "\r"
    model: str = Field(default="DD100", min_length=1)


def _unknown(loss_db: float) -> float:
    """Return the attenuation in dB after another insertion loss: none that a limit could allow.

    The number stays within the limit while the light that passes does not.
    """
    return math.nan


class OzOpticsDD100:
    """An Attenuator, with its motor to home and its insertion loss to set."""

    Options = DD100Options
    hazard = Hazard.SHUTTER
    # The motor answers when it has arrived, which its time-out allows 10 s for.
    leaving_s = 15.0

    def __init__(self, transport: LinesTransport, options: DD100Options | None = None) -> None:
        self.name = transport.name
        self._transport = transport
        self._options = options or DD100Options()
        self._max_attenuation_db: float | None = None
        self._forms = NumberForms()

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(DD100Options, name, options)
        transport = open_visa_lines(
            name,
            address,
            library=library,
            timeout_s=read.timeout_s,
            baud_rate=read.baud_rate,
            end=read.terminator,
        )
        attenuator = cls(transport, read)
        return verified(attenuator, address, attenuator.identify)

    def identify(self) -> Identity:
        """Ask for the unit's description; raises ReplyError if it is another model."""
        lines = self._command("CD")
        wanted = self._options.model
        start = next(
            (n for n, line in enumerate(lines) if line.upper().startswith(wanted.upper())), None
        )
        if start is None or start + 1 >= len(lines):
            raise ReplyError(self.name, f"expected a {wanted}, got {lines!r}", "CD")
        self._max_attenuation_db = self._field(lines, "MAX ATTEN:", "CD")
        serial = next((line[3:].strip() for line in lines if line.startswith("NO:")), "")
        return Identity("OZ Optics", lines[start], serial, lines[start + 1])

    def set_attenuation(self, attenuation_db: float) -> None:
        """Set the attenuation in dB (0.01 dB steps), 0 to what the unit states (else LimitError).

        Returns when the motor is there.
        """
        highest = self.max_attenuation_db()
        require_range(self.name, "attenuation_db", attenuation_db, 0, highest, "dB")
        self._command(f"A{abs(attenuation_db):.2f}")  # no "-0.00"

    def attenuation_db(self) -> float:
        """Return the attenuation that is set, in dB."""
        return self._field([self._confirmed("A?")], "ATTEN:", "A?")

    def max_attenuation_db(self) -> float:
        """Return the largest attenuation in dB that the unit states; asked for once."""
        if self._max_attenuation_db is None:
            self._max_attenuation_db = self._field(self._command("CD"), "MAX ATTEN:", "CD")
        return self._max_attenuation_db

    def motor_position(self) -> int:
        """Return where the motor is, in steps."""
        position = self._field(self._command("D"), "DPOS:", "D")
        if position != int(position):
            raise ReplyError(self.name, f"position {position:g} is no number of steps", "D")
        return int(position)

    @sets(attenuation_db=_unknown)
    def set_insertion_loss(self, loss_db: float) -> None:
        """Set the insertion loss that the unit counts with, in dB, 0 or more (else LimitError).

        It moves what attenuations count from: a station that limits `attenuation_db` refuses it.
        """
        if not 0 <= loss_db < math.inf:
            raise LimitError(self.name, "loss_db", loss_db, "0 dB or more")
        self._command(f"L{abs(loss_db):.2f}")

    def home(self) -> None:
        """Move the motor to its home position and find the origin again."""
        self._command("H")

    def reset(self) -> None:
        """Restart the unit."""
        self._command("RST")

    def safe_state(self) -> None:
        """Attenuate as much as the unit can."""
        self.set_attenuation(self.max_attenuation_db())

    def close(self) -> None:
        """End the session."""
        self._transport.close()

    def _command(self, command: str) -> list[str]:
        def exchange() -> tuple[str, ...]:
            return self._transport.exchange(command, _closed)

        lines = asked_again(exchange) if command in _QUESTIONS else exchange()
        last = lines[-1]
        if last.upper().startswith(_ERROR):
            # Whether `Done` follows an error is not documented: it must not close the next reply.
            self._transport.clear()
            raise InstrumentReportedError(self.name, _NO_CODE, last, command)
        return [line for line in lines[:-1] if line]

    def _confirmed(self, command: str) -> str:
        """Return a line of reply, in the form that it has each time."""

        def ask() -> str:
            return "\n".join(self._command(command))

        try:
            return self._forms.confirmed(command, ask(), ask)
        except ValueError as error:
            raise ReplyError(self.name, str(error), command) from error

    def _field(self, lines: Sequence[str], label: str, command: str) -> float:
        for line in lines:
            if line.upper().startswith(label):
                match = _NUMBER.fullmatch(line, len(label))
                if match is not None:
                    return float(match.group(1))
        raise ReplyError(self.name, f"{list(lines)!r} has no number behind {label!r}", command)


def _closed(lines: Sequence[str]) -> bool:
    return lines[-1] == _DONE or lines[-1].upper().startswith(_ERROR)
