"""A record of a Keysight InfiniiVision oscilloscope: its preamble, and its samples as words.

Source: docs/wire/keysight_infiniivision.md, section Record [V]:
V = (code - yref) * yinc + yorg and t = (n - xref) * xinc + xorg, with unsigned codes.
"""

from __future__ import annotations

import numpy as np

from labctl.errors import ReplyError
from labctl.instruments.capabilities import Trace
from labctl.instruments.transports.scpi_session import ScpiSession

_SETTINGS = ":WAV:FORM WORD;:WAV:BYT LSBF;:WAV:UNS 1;:WAV:POIN:MODE RAW;:WAV:POIN MAX"
_PREAMBLE = ":WAV:PRE?"
# Fields of the preamble, its format and its type (docs/wire/keysight_infiniivision.md).
_PREAMBLE_FIELDS = 10
_WORD_FORMAT = 1
_PEAK_DETECTION = 1


def read_record(scpi: ScpiSession, channel: int) -> Trace:
    """Return all samples of a channel; raises ReplyError on a malformed record.

    Peak detection gives two samples for each time and is refused: a Trace has one.
    """
    scpi.set(f":WAV:SOUR CHAN{channel};{_SETTINGS}")
    layout, kind, points, _, xinc, xorg, xref, yinc, yorg, yref = scpi.numbers(
        _PREAMBLE, _PREAMBLE_FIELDS, "fields of a preamble"
    )
    if kind == _PEAK_DETECTION:
        raise ReplyError(scpi.name, "peak detection is on, choose another type", _PREAMBLE)
    if layout != _WORD_FORMAT or points < 1 or xinc <= 0:
        problem = f"format {layout:g}, {points:g} points every {xinc:g} s is no record of words"
        raise ReplyError(scpi.name, problem, _PREAMBLE)
    codes = scpi.array(":WAV:DATA?", "<u2", int(points), "samples")
    voltage_v = codes.astype(np.float32)
    voltage_v -= np.float32(yref)
    voltage_v *= np.float32(yinc)
    voltage_v += np.float32(yorg)
    return Trace(xorg - xref * xinc, xinc, voltage_v)
