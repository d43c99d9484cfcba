"""What the parts of a Red Pitaya board have in common: channels, pairs of parameters, replies.

Source: docs/wire/red_pitaya.md, sections Sources and Records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.codecs.scpi import Parameters, Reply
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Boolean, Kind, Parameter, T

U = TypeVar("U")

# docs/wire/red_pitaya.md.
CLOCK_HZ = 125e6
BUFFER_SAMPLES = 16384
FLOAT = "{:g}"
"""How the server's SCPI library writes a number."""


class Switch:
    """ON or OFF, in the replies too."""

    def parse(self, parameter: Parameter) -> bool:
        """Read a boolean; raises ScpiError -104 or -222."""
        return Boolean().parse(parameter)

    def limit(self, parameter: Parameter) -> bool:
        """Refuse: a boolean query takes no parameter (ScpiError -108)."""
        raise ScpiError(-108)

    def format(self, value: bool) -> str:
        """Write ON or OFF."""
        return "ON" if value else "OFF"


@dataclass(frozen=True)
class DataFormat:
    """How samples are sent; `binary` in blocks, else as text in braces."""

    binary: bool = False
    little_endian: bool = False

    def encode(self, values: npt.NDArray[np.float32] | npt.NDArray[np.int16]) -> Reply:
        """Return the reply that carries float32 volts or int16 codes."""
        if self.binary:
            order = values.dtype.newbyteorder("<" if self.little_endian else ">")
            return encode_block(values.astype(order).tobytes())
        style = "{:.6f}" if values.dtype.kind == "f" else "{:d}"
        return "{" + ",".join(map(style.format, values.tolist())) + "}"


def two(parameters: Parameters, first: Kind[T], second: Kind[U]) -> tuple[T, U]:
    """Read the two parameters there must be; raises ScpiError -109 or -108."""
    if len(parameters) != 2:
        raise ScpiError(-109 if len(parameters) < 2 else -108)
    return first.parse(parameters[0]), second.parse(parameters[1])
