"""Volatile waveform memory of a function generator: named samples between -1 and +1.

Source: docs/wire/keysight_33512b.md, sections Arbitrary waveforms and Assumed.
"""

from __future__ import annotations

import re

import numpy as np

from labctl.instruments.codecs.scpi import Parameters
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Form, Text
from labctl.instruments.simulated.panels.waveforms import Samples

# Fewest points, longest name and the error are assumed ([M]); the DAC's codes are on the page.
FEWEST_POINTS = 8
LONGEST_NAME = 12
DAC_FULL_SCALE = 32767
DUPLICATE_NAME = 786
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


class ArbitraryMemory:
    """The memory of one channel, of `capacity` samples, kept as float32."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waveforms: dict[str, Samples] = {}

    @property
    def free(self) -> int:
        """How many samples still fit."""
        return self._capacity - sum(samples.size for samples in self._waveforms.values())

    def names(self) -> list[str]:
        """Return the names in the order of upload."""
        return list(self._waveforms)

    def get(self, name: str) -> Samples | None:
        """Return a waveform, None if there is none of that name."""
        return self._waveforms.get(name)

    def clear(self) -> None:
        """Forget all waveforms."""
        self._waveforms.clear()

    def upload(self, parameters: Parameters, *, dac: bool, swapped: bool) -> None:
        """Store `<name>,<values or block>`; raises ScpiError and stores nothing if it is wrong.

        Values are -1..+1, or -32767..+32767 for `dac`. A block holds float32 or int16, least
        significant byte first if `swapped`.
        """
        if len(parameters) < 2:
            raise ScpiError(-109)
        name = Text(LONGEST_NAME).parse(parameters[0]).upper()
        if _NAME.fullmatch(name) is None:
            raise ScpiError(-224, name)
        if name in self._waveforms:
            raise ScpiError(DUPLICATE_NAME, "Specified arb waveform already exists")
        samples = _samples(parameters[1:], dac=dac, swapped=swapped)
        if samples.size > self.free:
            raise ScpiError(-225)
        self._waveforms[name] = samples


def _samples(parameters: Parameters, *, dac: bool, swapped: bool) -> Samples:
    values = _decode(parameters, ("<" if swapped else ">") + ("i2" if dac else "f4"))
    limit = DAC_FULL_SCALE if dac else 1.0
    if values.size < FEWEST_POINTS:
        raise ScpiError(-222, f"fewer than {FEWEST_POINTS} points")
    if not (values.min() >= -limit and values.max() <= limit):
        raise ScpiError(-222)
    return values / np.float32(limit) if dac else values


def _decode(parameters: Parameters, element: str) -> Samples:
    first = parameters[0]
    if first.form is Form.BLOCK:
        if len(parameters) > 1:
            raise ScpiError(-108)
        if len(first.data) % np.dtype(element).itemsize:
            raise ScpiError(-161, "not a whole number of samples")
        return np.frombuffer(first.data, element).astype(np.float32)
    if any(parameter.form is not Form.PLAIN for parameter in parameters):
        raise ScpiError(-104)
    try:
        with np.errstate(over="ignore"):  # too large for a float32 is out of range, like infinity
            return np.array([bytes(parameter.data) for parameter in parameters]).astype(np.float32)
    except ValueError as error:
        raise ScpiError(-104) from error
