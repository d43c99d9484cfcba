"""The exit code of commands that judge a session of their user's."""

from __future__ import annotations

import typer

from labctl.run.report import Report

# Neither a failure (1) nor a wrong option (2): the run is whole and its results are written.
REJECTED = 3


def end_if_rejected(*reports: Report) -> None:
    """End with exit code 3 if a session's verdict was "rejected"; call it after all is printed.

    A session that nobody verified has no verdict.
    """
    if any(report.verification.accepted is False for report in reports):
        raise typer.Exit(REJECTED)
