"""The way out of a station: no light first, then all safe, then all closed, each step bounded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from labctl.errors import InstrumentTimeoutError
from labctl.safety import run_all
from labctl.station.drivers import Openable

STEP_S = 15.0
"""How long one step of one instrument may take: a driver's own time-out, 10 s by default, ends
before it and says more. An instrument that hangs longer is given up, and the next one reached."""

_log = logging.getLogger(__name__)


def leave_safe(opened: Mapping[str, Openable]) -> list[str]:
    """Switch off what emits light, make all safe, close all, the last opened first each time.

    Returns what failed, in words; never raises for it. Signals wait until the end.
    """
    leaving = list(opened.items())[::-1]
    hung: set[str] = set()
    steps: list[tuple[str, Callable[[], None]]] = []
    for name, each in leaving:
        emission: Any = getattr(each, "set_emission", None)
        if callable(emission):
            steps.append((name, _bounded(name, "emission off", partial(emission, False), hung)))
    steps += [(name, _bounded(name, "safe state", each.safe_state, hung)) for name, each in leaving]
    steps += [(name, _bounded(name, "close", each.close, hung)) for name, each in leaving]
    failures = list(dict.fromkeys(run_all(steps)))
    if leaving:
        _log.info("left %s: %s", ", ".join(opened), "; ".join(failures) or "all safe and closed")
    return failures


def _bounded(
    name: str, what: str, step: Callable[[], object], hung: set[str]
) -> Callable[[], None]:
    """Return a step that gives up after `STEP_S`, and is left out once its instrument hung."""

    def run() -> None:
        if name in hung:
            return
        ended: list[BaseException | None] = []

        def work() -> None:
            try:
                step()
            except BaseException as error:  # raised again below, where it is told
                ended.append(error)
            else:
                ended.append(None)

        thread = threading.Thread(target=work, name=f"{name}: {what}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # From Python 3.12 on no thread starts once the interpreter ends: the driver's own
            # time-outs bound the step then.
            step()
            return
        thread.join(STEP_S)
        if not ended:
            hung.add(name)
            raise InstrumentTimeoutError(name, f"{what} did not end within {STEP_S:g} s: given up")
        if ended[0] is not None:
            raise ended[0]

    return run
