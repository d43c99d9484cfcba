"""Front panel of an OZ Optics DD-100-MC motor-driven attenuator: letters in, lines out.

Source: docs/wire/oz_optics_dd100.md, sections Sources, Line, Commands and Assumed.
"""

from __future__ import annotations

import re

from labctl.clock import Clock
from labctl.instruments.simulated.panels.serial_lines import LineInput, LineOutput
from labctl.instruments.simulated.ports import AttenuatorPort

ERROR = "Error!"
_COMMAND = re.compile(r"([A-Z]+)\s*(\?|[+-]?\d*\.?\d+|[+-]?\d+\.)?", re.ASCII)


class RefusedError(Exception):
    """The reply is `Error!`."""


class OzOpticsDD100Panel:
    """One attenuator on its serial line; satisfies `FrontPanel`.

    A reply is lines that end with CR NL, the last of them `Done`, then an empty line; it comes
    when the motor rests. Commands that arrive meanwhile wait. The light follows the motor at every
    message and read. Assumed, not confirmed by a source: an empty line after `Error!` too, motor
    positions proportional to the attenuation (`steps_per_db`), the motor's speed, home at no
    attenuation and always found (`Diff=0`), `Error!` for a position beyond, RST going home, the
    text of CALIB, and that attenuations count from the insertion loss set with L.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        attenuator: AttenuatorPort,
        *,
        identity: tuple[str, str, str] = ("DD100MC", "V6.2a", "NO:303699-01"),
        largest_attenuation_db: float = 55.0,
        wavelength_nm: int = 1550,
        overshoot_steps: int = -30,
        calibration: str = "",
        steps_per_db: float = 100.0,
        steps_per_s: float = 2000.0,
    ) -> None:
        self.name, self._clock, self._port = name, clock, attenuator
        self._identity, self._largest_db = identity, largest_attenuation_db
        self._wavelength_nm, self._overshoot = wavelength_nm, overshoot_steps
        self._calibration = calibration
        self._steps_per_db, self._steps_per_s = steps_per_db, steps_per_s
        self._insertion_loss_db = 0.0
        self._input, self._output = LineInput(), LineOutput()
        self._from_step, self._to_step, self._begun_s = 0, 0, clock.now_s()
        self._due: list[str] | None = None
        self._follow()

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host."""
        self._input.feed(data, end=end)
        self._work()

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the oldest line, and whether it ends with them."""
        self._work()
        return self._output.read(limit)

    def clear(self) -> None:
        """Drop commands and replies that wait; the motor keeps moving."""
        self._input.clear()
        self._output.clear()
        self._due = None

    def status_byte(self) -> int:
        """Return 0: it has none."""
        return 0

    def _work(self) -> None:
        """Carry out what waits, as far as the motor allows."""
        self._follow()
        while self._stands():
            if self._due is not None:
                self._reply(self._due)
                self._due = None
            line = self._input.take()
            if line is None:
                return
            try:
                self._due = [*self._carry_out(line.upper()), "Done"]
            except RefusedError:
                self._reply([ERROR])
            self._follow()

    def _reply(self, lines: list[str]) -> None:
        self._output.put("".join(f"{line}\r\n" for line in [*lines, ""]))

    def _carry_out(self, line: str) -> list[str]:
        """Begin a command and return the lines before `Done`; raises RefusedError."""
        match = _COMMAND.fullmatch(line)
        if match is None:
            raise RefusedError
        letters, argument = match.groups()
        if letters == "A" and argument == "?":
            return [f"Atten:{self._attenuation_db():.2f}(dB)"]
        if letters in ("S", "F", "B"):
            return self._put_position(letters, argument)
        if letters in ("A", "L") and argument not in (None, "?"):
            put = self._put_attenuation if letters == "A" else self._put_insertion_loss
            return put(float(argument))
        if argument is not None or letters not in ("D", "CD", "H", "RST"):
            raise RefusedError
        if letters == "D":
            return [f"DPos:{self._to_step}", f"ATTEN:{self._attenuation_db():.2f}"]
        if letters == "CD":
            return self._configuration()
        self._move(0)
        return ["Diff=0"] if letters == "H" else []

    def _put_position(self, letters: str, argument: str | None) -> list[str]:
        """Move to a step from home (S), or by steps (S+, S-, F, B), or reply the position (S?)."""
        if (argument is None) is (letters == "S") or "." in (argument or ""):
            raise RefusedError
        step = self._to_step
        if argument is None:
            step += 1 if letters == "F" else -1
        elif argument != "?":
            step = int(argument) + (step if argument[0] in "+-" else 0)
        if not 0 <= step <= self._largest_step():
            raise RefusedError
        if argument != "?":
            self._move(step)
        return [f"Pos:{step}"]

    def _largest_step(self) -> int:
        return round((self._largest_db - self._insertion_loss_db) * self._steps_per_db)

    def _put_attenuation(self, attenuation_db: float) -> list[str]:
        if not self._insertion_loss_db <= attenuation_db <= self._largest_db:
            raise RefusedError
        steps = round((attenuation_db - self._insertion_loss_db) * self._steps_per_db)
        self._move(steps)
        return [f"Pos:{steps}"]

    def _put_insertion_loss(self, loss_db: float) -> list[str]:
        if not 0.0 <= loss_db <= self._largest_db:
            raise RefusedError
        self._insertion_loss_db = loss_db
        return []

    def _configuration(self) -> list[str]:
        return [
            *self._identity,
            f"MAX ATTEN:{self._largest_db:.2f}",
            f"OVERSHOOT:{self._overshoot}",
            f"CALIB:{self._calibration}",
            f"IL:{self._insertion_loss_db:.2f}",
            f"WAVELENGTH:{self._wavelength_nm}",
        ]

    def _attenuation_db(self) -> float:
        return self._to_step / self._steps_per_db + self._insertion_loss_db

    def _move(self, step: int) -> None:
        self._from_step, self._to_step = self._to_step, step
        self._begun_s = self._clock.now_s()

    def _stands(self) -> bool:
        return self._step() == self._to_step

    def _step(self) -> float:
        """Return where the motor is."""
        way = self._to_step - self._from_step
        gone = (self._clock.now_s() - self._begun_s) * self._steps_per_s
        if gone >= abs(way) - 1e-6:
            return self._to_step
        return self._from_step + (gone if way > 0 else -gone)

    def _follow(self) -> None:
        """Put the attenuator where the motor is."""
        self._port.set_attenuation(self._step() / self._steps_per_db)
