"""Wire faults against drivers: each fault hits each question; no wrong value may be taken as right.

A question is asked of a driver on the shipped fleet bench without a fault, then with it, then three
times again. The fault may cost the question that it hits an error; an answer must be the right
one, and so must every later answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labctl.errors import LabctlError
from labctl.instruments import drivers
from labctl.instruments.simulated.faults.plan import FaultyBench, PlannedFault
from labctl.instruments.transports.visa_link import close_library, resource_manager
from labctl.station.file import SIMULATED, read_station_file

LATER = 3
"""How often a question is asked again after a fault."""

# Light drifts and readings scatter by less; a wrong field is off by far more.
_RELATIVE = 0.02


@dataclass(frozen=True)
class Question:
    """What is asked of an instrument of the fleet station, and the message that a fault hits.

    `prepare` sets the instrument up; `on`: text in the message, or what a frame does;
    `noise`: by how much readings may differ beyond 2 %, in the answer's unit.
    """

    instrument: str
    name: str
    on: str
    ask: Callable[[Any], object]
    prepare: Callable[[Any], object] = lambda instrument: None
    noise: float = 1e-12


@dataclass(frozen=True)
class WireOutcome:
    """What came of one fault at one question.

    `answer`: "right", "error" or "wrong"; `said`: the error; `wrong_later`: how many of the later
    answers were wrong, `errors_later`: how many were errors.
    """

    fault: str
    instrument: str
    question: str
    answer: str
    said: str
    wrong_later: int
    errors_later: int

    @property
    def is_safe(self) -> bool:
        """Whether no wrong value was taken as right, then or later."""
        return self.answer != "wrong" and self.wrong_later == 0


def _lit(laser: Any) -> None:
    laser.set_emission(True)


def _record(scope: Any) -> None:
    scope.configure_channel(1, range_v=1.0, offset_v=0.0)
    scope.configure_record(start_s=0.0, duration_s=2e-6)
    scope.configure_trigger("external", level_v=1.0)
    scope.arm([1])


QUESTIONS: tuple[Question, ...] = (
    Question("monitor", "power", "MEAS:POW?", lambda d: d.power_w(), noise=1e-8),
    Question("monitor", "wavelength", "SENS:CORR:WAV?", lambda d: d.wavelength_m()),
    Question("meter", "power", "READ1", lambda d: d.channel(1).power_w(), noise=1e-8),
    Question("link_laser", "power", "read 42", lambda d: d.power_w(), _lit),
    Question("link_laser", "emission", "read 32", lambda d: d.emission(), _lit),
    Question("link_laser", "frequency", "read 35", lambda d: d.frequency_hz()),
    Question("swept_laser", "power", "POW?", lambda d: d.power_w(), _lit),
    Question("swept_laser", "emission", "STAT?", lambda d: d.emission(), _lit),
    Question("tunable_laser", "power", ":POW:ACT?", lambda d: d.power_w(), _lit),
    Question("tunable_laser", "frequency", "?", lambda d: d.frequency_hz()),
    Question(
        "probe_attenuator",
        "attenuation",
        "A?",
        lambda d: d.attenuation_db(),
        lambda d: d.set_attenuation(7.5),
    ),
    Question(
        "modulator_bias",
        "voltage",
        "MZM:",
        lambda d: d.bias_voltage_v(),
        lambda d: d.hold_voltage(1.25),
    ),
    Question(
        "bias_source",
        "voltage",
        ":SOUR:VOLT?",
        lambda d: d.voltage_v(),
        lambda d: d.set_voltage(1.5),
    ),
    Question(
        "bias_source",
        "current",
        ":READ?",
        lambda d: d.measured_current_a(),
        lambda d: d.set_voltage(1.5),
    ),
    Question(
        "supply",
        "voltage",
        "VOLT?",
        lambda d: d.dc_output(1).voltage_v(),
        lambda d: d.dc_output(1).set_voltage(2.25),
    ),
    Question(
        "heaters",
        "voltage",
        "V0?",
        lambda d: d.dc_output(0).voltage_v(),
        lambda d: d.dc_output(0).set_voltage(2.5),
    ),
    Question(
        "generator",
        "voltage",
        "OFFS?",
        lambda d: d.dc_output(1).voltage_v(),
        lambda d: d.dc_output(1).set_voltage(0.75),
    ),
)
"""One or two questions to every kind of driver, on every kind of wire."""

_TEXT_FAULTS: dict[str, dict[str, object]] = {
    "reply lost": {"kind": "lost"},
    "reply 10 ms late": {"kind": "late", "value": 0.01},
    "reply late by a minute": {"kind": "late", "value": 60.0},
    "reply cut off": {"kind": "cut", "value": 3.0},
    "number cut": {"kind": "cut number", "value": 1.0},
    "reply doubled": {"kind": "doubled"},
    "reply doubled 10 ms later": {"kind": "doubled late", "value": 0.01},
    "terminator before the reply": {"kind": "stray terminator", "value": 0.01},
    "line nobody asked for": {"kind": "unasked line", "value": 0.01, "text": "NO23"},
    "number nobody asked for": {"kind": "unasked line", "value": 0.01, "text": "x1.0"},
    "reply garbled": {"kind": "garbled"},
    "exponent of 1e9": {"kind": "exponent changed"},
    "digits with an underscore": {"kind": "underscore"},
    "reply without an end": {"kind": "endless"},
    "empty reply": {"kind": "empty"},
    "9.91E37": {"kind": "said", "text": "9.91E37"},
    "NAN": {"kind": "said", "text": "NAN"},
    "Infinity": {"kind": "said", "text": "Infinity"},
    "command garbled": {"kind": "command garbled"},
    "command lost": {"kind": "command lost"},
    "connection dropped": {"kind": "dropped"},
    "connection dropped for 2 s": {"kind": "dropped", "value": 2.0},
    "connection half-closed": {"kind": "half-closed"},
    "foreign error in the queue": {"kind": "foreign error"},
    "error queue full": {"kind": "queue full", "value": 40.0},
}
_FRAME_FAULTS: dict[str, dict[str, object]] = {
    name: _TEXT_FAULTS[name]
    for name in (
        "reply lost",
        "reply 10 ms late",
        "reply late by a minute",
        "reply cut off",
        "reply doubled",
        "reply doubled 10 ms later",
        "reply without an end",
        "command garbled",
        "command lost",
        "connection dropped",
        "connection dropped for 2 s",
        "connection half-closed",
    )
} | {
    "two bits flipped under the checksum": {"kind": "bits flipped"},
    "reply of another moment": {"kind": "stale", "value": 0.01},
    "checksum refused": {"kind": "checksum refused", "times": 2},
}
_FRAMED = "link_laser"
# These speak no SCPI: they have no queue of errors.
_WITHOUT_QUEUE = frozenset({"link_laser", "probe_attenuator", "modulator_bias", "heaters"})
_OF_QUEUES = ("foreign error in the queue", "error queue full")


def faults_of(question: Question) -> dict[str, PlannedFault]:
    """Return the faults that can hit a question, by name."""
    table = _FRAME_FAULTS if question.instrument == _FRAMED else _TEXT_FAULTS
    return {
        name: PlannedFault.model_validate({"panel": question.instrument, "on": question.on, **keys})
        for name, keys in table.items()
        if not (question.instrument in _WITHOUT_QUEUE and name in _OF_QUEUES)
    }


def measured(station: Path, questions: Sequence[Question] = QUESTIONS) -> Iterator[WireOutcome]:
    """Yield the outcome of every fault at every question, on the bench of a station file."""
    for question in questions:
        for name, fault in faults_of(question).items():
            yield outcome_of(station, question, name, fault)


def outcome_of(station: Path, question: Question, name: str, fault: PlannedFault) -> WireOutcome:
    """Return what one fault does to one question, on a fresh bench."""
    table = read_station_file(station)
    own = table.instruments[question.instrument]
    library = f"{station.parent / str(table.library).removesuffix(SIMULATED)}{SIMULATED}"
    close_library(library)
    world: Any = resource_manager(library).visalib
    try:
        bench = FaultyBench(world.world)
        panel = world.world.names
        at = next(each for address, (each, _) in panel.items() if address == own.address)
        instrument: Any = drivers.load(own.driver).open(
            question.instrument, own.address, library=library, options=own.options
        )
        question.prepare(instrument)
        right = question.ask(instrument)
        bench.arm(fault.model_copy(update={"panel": at}))
        answer, said = asked(question, instrument, right)
        assert bench.hits() > 0, f"{name} did not act on {question.on!r}"
        bench.bench.clock.sleep(3.0)
        later = [asked(question, instrument, right)[0] for _ in range(LATER)]
        with suppress(LabctlError):
            instrument.safe_state()
        instrument.close()
    finally:
        close_library(library)
    return WireOutcome(
        fault=name,
        instrument=own.driver,
        question=question.name,
        answer=answer,
        said=said,
        wrong_later=later.count("wrong"),
        errors_later=later.count("error"),
    )


def asked(question: Question, instrument: Any, right: object) -> tuple[str, str]:
    """Ask; return whether the answer is "right", "error" or "wrong", and what else was said."""
    try:
        value = question.ask(instrument)
    except LabctlError as error:
        return "error", f"{type(error).__name__}: {error}"
    is_right = _same(value, right, question.noise)
    return ("right", "") if is_right else ("wrong", f"{value!r}, not {right!r}")


def _same(value: Any, right: Any, noise: float) -> bool:
    if isinstance(right, bool) or not isinstance(right, float | np.ndarray):
        return bool(value == right)
    if isinstance(right, np.ndarray):
        return np.shape(value) == right.shape and bool(np.all(np.isfinite(value)))
    return math.isclose(value, right, rel_tol=_RELATIVE, abs_tol=noise)
