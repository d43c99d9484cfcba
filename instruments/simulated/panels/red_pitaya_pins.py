"""Slow pins of a Red Pitaya board: LEDs, digital pins, analogue inputs and outputs.

Source: docs/wire/red_pitaya.md, section Pins.
"""

from __future__ import annotations

from collections.abc import Mapping

from labctl.instruments.codecs.scpi import Command, Parameters, Reply, Suffixes, action, only
from labctl.instruments.codecs.scpi_values import Boolean, Number, Word
from labctl.instruments.simulated.panels.red_pitaya_values import two

DIGITAL_PINS = tuple(f"LED{n}" for n in range(8)) + tuple(
    f"DIO{n}_{side}" for side in "PN" for n in range(8)
)
ANALOG_INPUTS = tuple(f"AIN{n}" for n in range(4))
ANALOG_OUTPUTS = tuple(f"AOUT{n}" for n in range(4))


class RedPitayaPins:
    """The pins; inputs AIN read `inputs_v`, 0 V where nothing is connected."""

    def __init__(self, inputs_v: Mapping[int, float]) -> None:
        self._inputs_v = dict(inputs_v)
        self.reset()

    def reset(self) -> None:
        """Switch all outputs off."""
        self._pins = dict.fromkeys(DIGITAL_PINS, False)
        self._directions = dict.fromkeys(DIGITAL_PINS[8:], "IN")
        self._analog_v = dict.fromkeys(ANALOG_OUTPUTS, 0.0)

    def commands(self) -> list[Command]:
        """Declare the commands of the pins."""
        return [
            action(":DIG:RST", lambda _: self.reset()),
            action(":ANALOG:RST", lambda _: self.reset()),
            Command(":DIG:PIN", self._put_pin, self._ask_pin),
            Command(":DIG:PIN:DIR", self._put_direction, self._ask_direction),
            Command(":ANALOG:PIN", self._put_analog, self._ask_analog),
        ]

    def _put_pin(self, _: Suffixes, parameters: Parameters) -> None:
        pin, state = two(parameters, Word(*DIGITAL_PINS), Boolean())
        self._pins[pin] = state

    def _ask_pin(self, _: Suffixes, parameters: Parameters) -> Reply:
        return f"{self._pins[Word(*DIGITAL_PINS).parse(only(parameters))]:d}"

    def _put_direction(self, _: Suffixes, parameters: Parameters) -> None:
        direction, pin = two(parameters, Word("IN", "OUT"), Word(*DIGITAL_PINS[8:]))
        self._directions[pin] = direction

    def _ask_direction(self, _: Suffixes, parameters: Parameters) -> Reply:
        return self._directions[Word(*DIGITAL_PINS[8:]).parse(only(parameters))]

    def _put_analog(self, _: Suffixes, parameters: Parameters) -> None:
        pin, voltage_v = two(parameters, Word(*ANALOG_OUTPUTS), Number("V", 0.0, 1.8))
        self._analog_v[pin] = voltage_v

    def _ask_analog(self, _: Suffixes, parameters: Parameters) -> Reply:
        pin = Word(*ANALOG_INPUTS, *ANALOG_OUTPUTS).parse(only(parameters))
        if pin in self._analog_v:
            return f"{self._analog_v[pin]:.6f}"
        return f"{self._inputs_v.get(int(pin[3:]), 0.0):.6f}"
