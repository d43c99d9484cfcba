"""Separate noise and secrets for each run of an account; see `protocols.ledger.run_numbers`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from labctl.environment import SIMULATED_RUN
from labctl.protocols.ledger.accounts import weights_account
from labctl.protocols.ledger.run_numbers import next_run, seed_of_run
from labctl.protocols.settings import SessionSettings
from labctl.run.request import Asked


def run_number(request: Asked) -> int:
    """Return how many runs of the same account came before; 0 without a ledger."""
    wanted = request.ledger
    if wanted is None:
        return 0
    return next_run(wanted.folder, weights_account(wanted.client, request.network.sha256))


def of_run(settings: SessionSettings, number: int) -> SessionSettings:
    """Return the settings with the noise and the secrets of one run of an account."""
    return replace(settings, seed=seed_of_run(settings.seed, number))


@contextmanager
def simulated_run(number: int) -> Iterator[None]:
    """Have benches that are simulated in this process draw new noise in each run."""
    before = os.environ.get(SIMULATED_RUN)
    if number:
        os.environ[SIMULATED_RUN] = str(number)
    try:
        yield
    finally:
        if before is not None:
            os.environ[SIMULATED_RUN] = before
        else:
            os.environ.pop(SIMULATED_RUN, None)
