"""SCPI channel lists such as `(@1)`, `(@1,3)` and `(@1:3)`.

Source: SCPI-99 volume 1, 8.3.2.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from labctl.instruments.codecs.scpi import Parameters
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Form, Parameter

_ITEM = re.compile(r"(\d{1,4})(?:\s*:\s*(\d{1,4}))?")


def channel_list(parameter: Parameter, fitted: Collection[int]) -> list[int]:
    """Return the channels that a list names, in its order; raises ScpiError -102, -104 or -222."""
    if parameter.form is not Form.EXPRESSION:
        raise ScpiError(-104)
    text = parameter.text()[1:-1].strip()
    if not text.startswith("@"):
        raise ScpiError(-102)
    channels: list[int] = []
    for item in text[1:].split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise ScpiError(-102)
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        step = 1 if first <= last else -1
        named = range(first, last + step, step)
        if any(channel not in fitted for channel in named):
            raise ScpiError(-222, "no such channel")
        channels += named
    return channels


def split_channels(
    parameters: Parameters, fitted: Collection[int], default: int
) -> tuple[Parameters, list[int]]:
    """Separate a channel list at the end from the parameters before it."""
    if parameters and parameters[-1].form is Form.EXPRESSION:
        return parameters[:-1], channel_list(parameters[-1], fitted)
    return parameters, [default]
