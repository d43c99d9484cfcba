"""Front panel of a Keysight E36312A three-output supply: SCPI with channel lists.

Source: docs/wire/keysight_e36312a.md, sections Commands, Outputs and Assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labctl.clock import Clock
from labctl.instruments.codecs.scpi import (
    Command,
    Parameters,
    Reply,
    ScpiCore,
    Suffixes,
    none,
    only,
)
from labctl.instruments.codecs.scpi_values import Boolean, Kind, Number, T
from labctl.instruments.simulated.panels.channel_list import split_channels
from labctl.instruments.simulated.panels.kept_settings import as_set
from labctl.instruments.simulated.ports import SourcePort

LIMITS = {1: (6.0, 5.0), 2: (25.0, 1.0), 3: (25.0, 1.0)}
STYLE = "{:+.8E}"
_LEVEL = "[:LEVel][:IMMediate][:AMPLitude]"


@dataclass(frozen=True)
class Output:
    """Settings of one output, in V and A."""

    voltage_v: float
    current_a: float
    on: bool = False


class KeysightE36312APanel:
    """A supply with one output per entry of `outputs`; satisfies `FrontPanel`.

    A command without channel list means the first output. An output holds its voltage, or its
    current where the load would draw more. `limits` are the largest voltage in V and current in A
    of each output (PyMeasure). Assumed, not confirmed by a source: the identity, the time of a
    measurement, and that *RST sets 0 V and the largest current.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        outputs: Mapping[int, SourcePort],
        *,
        identity: str = "Keysight Technologies,E36312A,MY00000001,1.0.0",
        limits: Mapping[int, tuple[float, float]] = LIMITS,
        measurement_s: float = 20e-3,
    ) -> None:
        self.name, self._clock, self._ports = name, clock, dict(outputs)
        self._limits, self._measurement_s = limits, measurement_s
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            message_bytes=1 << 16,
            output_bytes=1 << 20,
        )
        self.write, self.read = self._scpi.write, self._scpi.read
        self.clear, self.status_byte = self._scpi.clear, self._scpi.status_byte
        self.serial_poll = self._scpi.serial_poll
        self.read_timed_out = self._scpi.read_timed_out
        self.power_cycle = self._scpi.power_cycle
        self._reset()

    def _reset(self) -> None:
        self._outputs = {n: Output(0.0, self._limits[n][1]) for n in self._ports}
        for number in self._ports:
            self._force(number)

    def _commands(self) -> list[Command]:
        return [
            self._setting(
                f"[:SOURce]:VOLTage{_LEVEL}",
                lambda n: Number("V", 0.0, self._limits[n][0], 0.0, STYLE),
                *as_set("voltage_v"),
            ),
            self._setting(
                f"[:SOURce]:CURRent{_LEVEL}",
                lambda n: Number("A", 0.0, self._limits[n][1], self._limits[n][1], STYLE),
                *as_set("current_a"),
            ),
            self._setting(":OUTPut[:STATe]", lambda _: Boolean(), *as_set("on")),
            Command(":MEASure[:SCALar]:VOLTage[:DC]", ask=self._measuring(lambda p: p.voltage_v())),
            Command(":MEASure[:SCALar]:CURRent[:DC]", ask=self._measuring(lambda p: p.current_a())),
        ]

    def _setting(
        self,
        pattern: str,
        kind: Callable[[int], Kind[T]],
        get: Callable[[Output], T],
        put: Callable[[Output, T], Output],
    ) -> Command:
        """Declare a setting of the outputs that a channel list names: all are set, or none."""

        def do(_: Suffixes, parameters: Parameters) -> None:
            values, channels = self._split(parameters)
            parsed = {n: kind(n).parse(only(values)) for n in channels}
            for number, value in parsed.items():
                self._outputs[number] = put(self._outputs[number], value)
                self._force(number)

        def ask(_: Suffixes, parameters: Parameters) -> Reply:
            words, channels = self._split(parameters)
            replies = (
                kind(n).limit(only(words)) if words else get(self._outputs[n]) for n in channels
            )
            return ",".join(kind(n).format(v) for n, v in zip(channels, replies, strict=True))

        return Command(pattern, do, ask)

    def _measuring(
        self, reading: Callable[[SourcePort], float]
    ) -> Callable[[Suffixes, Parameters], Reply]:
        def ask(_: Suffixes, parameters: Parameters) -> Reply:
            words, channels = self._split(parameters)
            none(words)
            self._clock.sleep(self._measurement_s * len(channels))
            return ",".join(STYLE.format(reading(self._ports[n])) for n in channels)

        return ask

    def _split(self, parameters: Parameters) -> tuple[Parameters, list[int]]:
        return split_channels(parameters, self._ports, min(self._ports))

    def _force(self, number: int) -> None:
        output = self._outputs[number]
        self._ports[number].force_voltage(output.on, output.voltage_v, output.current_a)
