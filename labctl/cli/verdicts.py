"""How commands end that judge a session of their user's: after all of its report is printed."""

from __future__ import annotations

from typing import Any

import typer

from labctl.run.inference import run_inference
from labctl.run.report import Report
from labctl.run.request import Asked

# Neither a failure (1) nor a wrong option (2): the run is whole and its results are written.
REJECTED = 3


def end_if_rejected(*reports: Report) -> None:
    """End with exit code 3 if a session's verdict was "rejected"; call it after all is printed.

    A session that nobody verified has no verdict.
    """
    if any(report.verification.accepted is False for report in reports):
        raise typer.Exit(REJECTED)


def reported(request: Asked, **on: Any) -> tuple[Report, BaseException | None]:
    """Run a request; return its report, and what went wrong after it was made, if anything.

    That is a station that could not be left safe, or an interruption meanwhile: to be raised once
    the report is printed. `on`: what `run_inference` calls. Raises what `run_inference` does.
    """
    made: list[Report] = []
    try:
        run_inference(request, on_report=made.append, **on)
    except BaseException as late:
        if not made:
            raise
        return made[0], late
    return made[0], None
