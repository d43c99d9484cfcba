"""The :MEASure subsystem of an InfiniiVision oscilloscope: which trace is measured, and how.

Source: docs/wire/keysight_infiniivision.md, section Measurements. What a command without `?`
would put on the screen is not drawn. Assumed, not confirmed by a source: intervals and types that
are left out are DISPlay and DC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labctl.instruments.codecs.scpi import Command, Parameters, Reply, Suffixes, none, setting
from labctl.instruments.codecs.scpi_values import Word
from labctl.instruments.simulated.panels.oscilloscope_measure import (
    MEASUREMENTS,
    NOT_MEASURED,
    Trace,
    average_v,
    reply,
    rms_v,
)

Measure = Callable[[Trace, Sequence[str]], float]

_INTERVALS = ("CYCLe", "DISPlay")


class Measurements:
    """The subsystem; `trace` returns what is displayed of a channel, None if it is not."""

    def __init__(self, channels: Sequence[int], trace: Callable[[int], Trace | None]) -> None:
        self._sources = Word(*(f"CHANnel{number}" for number in channels))
        self._first = f"CHAN{channels[0]}"
        self._trace = trace
        self.reset()

    def reset(self) -> None:
        """Measure the first channel."""
        self._source = self._first

    def commands(self) -> list[Command]:
        """Declare the commands."""
        return [
            setting(":MEASure:SOURce", self._sources, lambda _: self._source, self._put_source),
            *(
                self._command(name, (), _without_options(measure))
                for name, measure in MEASUREMENTS.items()
            ),
            self._command(
                "VAVerage", _INTERVALS, lambda t, words: average_v(t, of_a_cycle="CYCL" in words)
            ),
            self._command(
                "VRMS",
                (*_INTERVALS, "AC", "DC"),
                lambda t, words: rms_v(t, of_a_cycle="CYCL" in words, ac="AC" in words),
            ),
        ]

    def _put_source(self, _: Suffixes, source: str) -> None:
        self._source = source

    def _command(self, name: str, options: Sequence[str], measure: Measure) -> Command:
        """Declare a measurement: [option, ...][, source]."""
        kind = Word(*options)

        def parse(parameters: Parameters) -> list[str]:
            left = list(parameters)
            if left and (not options or left[-1].text().upper().startswith("CHAN")):
                self._source = self._sources.parse(left.pop())
            none(left[len(options) // 2 :])
            return [kind.parse(parameter) for parameter in left]

        def do(_: Suffixes, parameters: Parameters) -> None:
            parse(parameters)

        def ask(_: Suffixes, parameters: Parameters) -> Reply:
            words = parse(parameters)
            trace = self._trace(int(self._source.removeprefix("CHAN")))
            return NOT_MEASURED if trace is None else reply(lambda: measure(trace, words))

        return Command(f":MEASure:{name}", do, ask)


def _without_options(measure: Callable[[Trace], float]) -> Measure:
    return lambda trace, _: measure(trace)
