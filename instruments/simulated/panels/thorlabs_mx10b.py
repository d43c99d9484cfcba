"""Front panel of a Thorlabs MX10B: lines in, `Err:` or values out.

Source: docs/wire/thorlabs_mx10b.md, sections Line, Acknowledgement, Errors, System and Assumed.
"""

from __future__ import annotations

import re
from typing import Literal

from labctl.clock import Clock
from labctl.instruments.codecs.scpi_syntax import header_expression
from labctl.instruments.codecs.scpi_values import spellings
from labctl.instruments.simulated.panels.thorlabs_mx10b_sections import (
    AttenuatorSection,
    BiasSection,
    Entry,
    LampSection,
    LaserSection,
    PanelError,
    whole,
)
from labctl.instruments.simulated.ports import AttenuatorPort, BiasPort, LaserPort

# Bytes of a command, and of replies that nobody reads: what comes beyond is lost.
LONGEST_LINE = 256
LONGEST_OUTPUT = 1 << 16
PARTS = ("LASer", "MZM", "VOA", "AMP")
Section = LaserSection | BiasSection | AttenuatorSection | LampSection
_LINE = re.compile(r"([A-Za-z]\w*(?::[A-Za-z]\w*)*)([:?]?)\s*(.*)", re.ASCII)


class ThorlabsMX10BPanel:
    """The controller on its serial line; satisfies `FrontPanel`.

    A port that is None is not fitted: its commands answer `Err: Feature not present`, as those of
    the RF amplifier (`AMP`) and of lasers of other bands always do. `ack` is whom to follow in the
    conflict between manual and driver: "manual" answers `1` to every command that sets something,
    "pymeasure" only to VOA:MODE and MZM:RESET. Modes 5 and 6 (hold quadrature) lock to
    quadrature. Modes 8 and 9 (auto-power) answer `Err: Illegal parameter value`, which the manual
    has (page 5) for what this device does not support: its bias controller sees no light before
    the modulator, to which the held power would be a ratio. Assumed, not confirmed by a source:
    the laser's channel grid, fixed power and lock time, -100 dBm as the reading of a
    dark tap, the defaults after switching on, and that VOA:MEAS? and VOA:ERR? follow the
    attenuation applied (in power mode, the power reached). SYS:SLEEP darkens laser, bias and
    attenuator until SYS:WAKE; SYS:RESTART restores all defaults.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        laser: LaserPort | None,
        bias: BiasPort | None,
        attenuator: AttenuatorPort | None,
        *,
        ack: Literal["manual", "pymeasure"] = "manual",
        model: str = "MX10B",
        serial: str = "T00123456",
        firmware: str = "2.0.1",
        hardware: str = "1.0",
        boot: str = "1.0",
        laser_power_w: float = 20e-3,
        first_channel_hz: float = 191.5e12,
        channel_spacing_hz: float = 50e9,
        channels: int = 96,
        lock_s: float = 5.0,
        attenuation_limits_db: tuple[float, float] = (0.5, 20.0),
    ) -> None:
        self.name, self._clock, self._ack = name, clock, ack
        self._laser, self._bias, self._attenuator = laser, bias, attenuator
        self._laser_power_w, self._lock_s = laser_power_w, lock_s
        self._first_channel_hz, self._spacing_hz = first_channel_hz, channel_spacing_hz
        self._channels, self._attenuation_limits_db = channels, attenuation_limits_db
        self._identity = {"MODEL": model, "SERial": serial, "FIRMware": firmware}
        self._identity |= {"HARDware": hardware, "BOOTloader": boot}
        self._line = ""
        self._output = b""
        self._restart()

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes; a line ends with NL, CR or both, or with END."""
        *lines, rest = re.split("[\r\n]", self._line + data.decode("latin-1"))
        for line in [*lines, rest] if end else lines:
            if line.strip():
                self._reply(self._answer(line.strip()))
        self._line = "" if end else rest
        if len(self._line) > LONGEST_LINE:
            self._line = ""
            self._reply("Err: Undefined header")

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the oldest reply, and whether it ends with them."""
        stop = min(limit, self._output.find(b"\n") + 1)
        chunk, self._output = self._output[:stop], self._output[stop:]
        return chunk, chunk.endswith(b"\n")

    def clear(self) -> None:
        """Drop half a line and replies that wait."""
        self._line, self._output = "", b""

    def status_byte(self) -> int:
        """Return 0: it has none."""
        return 0

    def power_cycle(self) -> None:
        """Lose the supply and come back: dark, with the defaults after switching on."""
        self.clear()
        self._restart()

    def _reply(self, text: str | None) -> None:
        if text is not None and len(self._output) < LONGEST_OUTPUT:
            self._output += text.encode("ascii") + b"\r\n"

    def _answer(self, line: str) -> str | None:
        try:
            return self._carry_out(line)
        except PanelError as trouble:
            return f"Err: {trouble}"

    def _carry_out(self, line: str) -> str | None:
        match = _LINE.fullmatch(line)
        if match is None:
            raise PanelError("Undefined header")
        header, mark, argument = match.group(1).upper(), match.group(2), match.group(3)
        entry = self._entry(header)
        if argument and mark != ":":
            raise PanelError("Parameter error")
        if mark == "?" and entry.ask is not None:
            return entry.ask()
        if mark == ":" and entry.put is not None:
            entry.put(argument)
        elif not mark and entry.do is not None:
            entry.do()
        else:
            raise PanelError("Undefined header")
        return "1" if self._ack == "manual" or header in ("VOA:MODE", "MZM:RESET") else None

    def _entry(self, header: str) -> Entry:
        if header in self._found:
            return self._found[header]
        for expression, entry in self._entries:
            if expression.fullmatch(":" + header):
                self._found[header] = entry
                return entry
        missing = header.partition(":")[0] in self._missing
        raise PanelError("Feature not present" if missing else "Undefined header")

    def _restart(self) -> None:
        """Build the fitted sections again, with their defaults."""
        self._wavelength_nm = 1550
        self._sections: list[Section] = [LampSection()]
        if self._laser is not None:
            self._sections.append(self._laser_section(self._laser))
        if self._bias is not None:
            self._sections.append(BiasSection(self._bias))
        if self._attenuator is not None:
            limits_db = self._attenuation_limits_db
            self._sections.append(AttenuatorSection(self._attenuator, limits_db))
        table = self._system_table()
        for section in self._sections:
            table |= section.table()
        fitted = {pattern.partition(":")[0] for pattern in table}
        self._missing = {word for part in PARTS if part not in fitted for word in spellings(part)}
        self._entries = [(header_expression(p), entry) for p, entry in table.items()]
        self._found: dict[str, Entry] = {}

    def _laser_section(self, port: LaserPort) -> LaserSection:
        return LaserSection(
            self._clock,
            port,
            power_w=self._laser_power_w,
            first_channel_hz=self._first_channel_hz,
            spacing_hz=self._spacing_hz,
            channels=self._channels,
            lock_s=self._lock_s,
        )

    def _system_table(self) -> dict[str, Entry]:
        table = {f"SYStem:{key}": Entry(ask=text.__str__) for key, text in self._identity.items()}
        return table | {
            "SYStem:WAVElength": Entry(self._put_wavelength, lambda: str(self._wavelength_nm)),
            "SYStem:SLEEP": Entry(do=lambda: self._wake(False)),
            "SYStem:WAKE": Entry(do=lambda: self._wake(True)),
            "SYStem:RESTART": Entry(do=self._restart),
        }

    def _put_wavelength(self, text: str) -> None:
        wavelength_nm = whole(text, 0, 10_000)
        if wavelength_nm not in (1310, 1550, 1590):
            raise PanelError("Illegal parameter value")
        self._wavelength_nm = wavelength_nm

    def _wake(self, awake: bool) -> None:
        for section in self._sections:
            section.wake(awake)
