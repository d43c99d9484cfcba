"""The way out of a station: by hazard, what emits first, all transports at once, each bounded.

The order is that of `labctl.hazards.Hazard`: emission off, shutters closed, then what amplifies,
heats and biases, then what only looks. Each is a round; a round is given to all transports at once
and waits for the slow ones `ROUND_S` at most, so that an instrument that is silent holds up its own
wire and, by that time, the others' next rounds, but never the emission of another transport.

Emission off is asked for again when a frame was lost, each time with more patience, and read back.
What was not read back as dark is asked again at the end, and counts as lit if it does not
answer: nobody knows better. A shutter that is closed stays closed: the other outputs of what drives
it go to their safe state around it, and where a driver cannot do that, only once all is dark. One
that is open is closed if something may still emit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from labctl.errors import InstrumentError, LabctlError, ReplyError
from labctl.haste import at_most
from labctl.hazards import Hazard
from labctl.safety import last_words, uninterrupted
from labctl.station.crew import Crew, CrewTask, await_all
from labctl.station.drivers import CHANNEL_METHODS, Openable
from labctl.visible import visible_logger

BUDGET_S = 6.0
"""How long one instrument may take in s, unless its driver or the station file says another:
twice the sum of `PATIENCE_S`, for after a lost frame its wire has to be put in step as well."""
PATIENCE_S = (0.4, 0.8, 1.6)
"""How long an answer is waited for at each attempt to switch light off, in s. A serial laser
answers within 0.05 s, a LAN instrument within 0.2 s; the last is for one that is busy."""
ROUND_S = 0.5
"""How long a round waits for its slowest transport, in s: most of the second after which light
must be off has passed by then, and emission off was its first step."""
_SHARE_OF_BUDGET = 0.75
# An answer is waited for so long in steps other than emission off: it still ends by itself, and
# says more, before the instrument is given up.

_log = visible_logger(__name__)


@dataclass(frozen=True)
class Shutter:
    """What holds a shutter closed: an output at a voltage; channel None: the instrument's only."""

    channel: int | None
    closed_v: float


@dataclass(frozen=True)
class Ramp:
    """How voltages are lowered to zero: `channels` (none: the instrument itself) at `v_per_s`."""

    channels: tuple[int, ...]
    v_per_s: float


@dataclass
class Leaving:
    """One instrument on the way out; one that is not open yet is opened by `open` when reached."""

    name: str
    instrument: Openable | None = None
    open: Callable[[], Openable] | None = None
    hazard: Hazard = Hazard.BIAS
    transport: str = ""
    address: str = ""
    budget_s: float = BUDGET_S
    shutter: Shutter | None = None
    ramp: Ramp | None = None
    emits: bool = False
    dark: bool = False
    tasks: list[CrewTask] = field(default_factory=list)

    def get(self) -> Openable:
        """Return the instrument; raises InstrumentError where it cannot be opened."""
        if self.instrument is None:
            assert self.open is not None
            self.instrument = self.open()
        return self.instrument

    @property
    def shown(self) -> str:
        """Its name, with the address where there is one."""
        return f"{self.name} ({self.address})" if self.address else self.name


@dataclass(frozen=True)
class Left:
    """How a station was left: what failed, in words, and what may still emit."""

    failures: tuple[str, ...] = ()
    lit: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.failures or self.lit)

    def __str__(self) -> str:
        """Return all of it, what may still emit last and in capitals."""
        last = (last_words(self.lit),) if self.lit else ()
        return "; ".join((*self.failures, *last))


def leave_safe(leaving: Sequence[Leaving], crew: Crew) -> Left:
    """Leave all safe and close all; returns what failed, never raises for it.

    `leaving`: in the order in which they were opened; within a round the last comes first. Signals
    wait until the end.
    """
    backwards = list(leaving)[::-1]
    with uninterrupted():
        darken(backwards, crew)
        if not _all_dark(backwards):
            _round(backwards, crew, "shutter closed", _close_shutter, lambda each: each.shutter)
        for hazard in Hazard:
            _round(
                backwards,
                crew,
                "safe state",
                partial(_make_safe, all_dark=partial(_all_dark, backwards)),
                partial(_is_of, hazard),
            )
        _round(
            backwards,
            crew,
            "emission read back",
            _go_dark,
            lambda each: each.emits and not each.dark,
        )
        _round(backwards, crew, "close", _close, lambda _: True)
        _end(backwards)
    left = _left(leaving)
    if leaving:
        _log.info(
            "left %s: %s",
            ", ".join(each.name for each in leaving),
            str(left) or "all safe and closed",
        )
    return left


def darken(backwards: Sequence[Leaving], crew: Crew) -> None:
    """Switch off all that emits, on all transports at once; returns after `ROUND_S` at most."""
    _round(backwards, crew, "emission off", _go_dark, lambda each: each.emits)


def _is_of(hazard: Hazard, each: Leaving) -> bool:
    return each.hazard is hazard


def _all_dark(leaving: Sequence[Leaving]) -> bool:
    return all(each.dark for each in leaving if each.emits)


def _round(
    leaving: Sequence[Leaving],
    crew: Crew,
    what: str,
    step: Callable[[Leaving], object],
    concerns: Callable[[Leaving], object],
) -> None:
    """Have a step done to each instrument that it concerns."""
    tasks = []
    for each in leaving:
        if concerns(each):
            task = CrewTask(
                what, partial(_within_budget, each, step), _SHARE_OF_BUDGET * each.budget_s
            )
            each.tasks.append(task)
            tasks.append(crew.submit(each.transport, task))
    await_all(tasks, time.monotonic() + ROUND_S)


def _within_budget(each: Leaving, step: Callable[[Leaving], object]) -> None:
    """Do a step unless the instrument has had its time; it is closed all the same."""
    if sum(task.took_s for task in each.tasks) < each.budget_s or step is _close:
        step(each)


def _end(leaving: Sequence[Leaving]) -> None:
    """Wait for all steps: on each transport as long as its instruments' budgets allow."""
    budgets: dict[str, float] = {}
    for each in leaving:
        budgets[each.transport] = budgets.get(each.transport, 0.0) + each.budget_s
    now_s = time.monotonic()
    for each in leaving:
        await_all(each.tasks, now_s + budgets[each.transport])


def _left(leaving: Sequence[Leaving]) -> Left:
    """Return what failed, each failure once, and what was not seen dark."""
    failures: list[str] = []
    for each in list(leaving)[::-1]:
        for task in each.tasks:
            if not task.ended.is_set():
                waited = "given up" if task.began_s is not None else "not reached"
                failures.append(f"{each.name}: {task.what} {waited} after {each.budget_s:g} s")
            elif task.error is not None and not (each.emits and each.dark and _of_light(task)):
                failures.append(_told(each.name, task.error))
    lit = [each.shown for each in leaving if each.emits and not each.dark]
    return Left(tuple(dict.fromkeys(failures)), tuple(lit))


def _of_light(task: CrewTask) -> bool:
    """Tell whether a failure was only on the way to a darkness that was reached later."""
    return task.what.startswith("emission")


def _told(name: str, error: BaseException) -> str:
    if isinstance(error, InstrumentError):
        return str(error)
    if isinstance(error, LabctlError):
        return f"{name}: {error}"
    return f"{name}: unexpected {type(error).__name__}: {error}"


def _go_dark(each: Leaving) -> None:
    """Switch emission off and read it back; again when that fails, with more patience."""
    for patience_s in PATIENCE_S[:-1]:
        try:
            with at_most(patience_s):
                _switch_off(each)
            return
        except Exception as error:  # a driver may fail in any way; reported if all attempts do
            _log.info("%s: emission off is tried again: %s", each.name, error)
    with at_most(PATIENCE_S[-1]):
        _switch_off(each)


def _switch_off(each: Leaving) -> None:
    instrument: Any = each.get()
    instrument.set_emission(False)
    emission = getattr(instrument, "emission", None)
    if callable(emission) and emission():
        raise ReplyError(each.name, "still emits after it was switched off")
    each.dark = True


def _close_shutter(each: Leaving) -> None:
    assert each.shutter is not None
    _output(each.get(), each.shutter.channel).set_voltage(each.shutter.closed_v)


def _make_safe(each: Leaving, all_dark: Callable[[], bool]) -> None:
    instrument: Any = each.get()
    if each.ramp is not None:
        _ramp_down(instrument, each.ramp)
    if each.shutter is None or (all_dark() and not _is_closed(instrument, each.shutter)):
        instrument.safe_state()
    elif hasattr(instrument, "safe_state_except"):
        instrument.safe_state_except(each.shutter.channel or 1)
    elif _has_channels(instrument):
        if not all_dark():
            problem = "holds a shutter closed, and so is not put in its safe state"
            raise InstrumentError(each.name, problem)
        instrument.safe_state()


def _is_closed(instrument: Any, shutter: Shutter) -> bool:
    """Tell whether a shutter's output is at the voltage that shuts it, to 1 %."""
    ask = getattr(_output(instrument, shutter.channel), "voltage_v", None)
    return callable(ask) and math.isclose(ask(), shutter.closed_v, rel_tol=0.01, abs_tol=1e-3)


def _ramp_down(instrument: Any, ramp: Ramp) -> None:
    """Lower voltages to zero in steps of 20 ms, no faster than the ramp."""
    step_s = 0.02
    for channel in ramp.channels or (None,):
        output = _output(instrument, channel)
        now_v = output.voltage_v()
        steps = int(abs(now_v) / (ramp.v_per_s * step_s))
        for left in range(steps, -1, -1):
            output.set_voltage(now_v * left / (steps + 1))
            time.sleep(step_s)


def _output(instrument: Any, channel: int | None) -> Any:
    if channel is None:
        return instrument
    for method in CHANNEL_METHODS:
        if hasattr(instrument, method):
            return getattr(instrument, method)(channel)
    return instrument


def _has_channels(instrument: Any) -> bool:
    return any(hasattr(instrument, method) for method in CHANNEL_METHODS)


def _close(each: Leaving) -> None:
    if each.instrument is not None:
        each.instrument.close()
