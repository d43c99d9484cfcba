"""What `labctl infer` makes of its options: the parts of a request, or a refusal."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from labctl.data import shipped_lab_path
from labctl.data.models import load_network
from labctl.errors import SettingError
from labctl.protocols.ledger.accounts import checked_client
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.probation.schedule import Probation
from labctl.protocols.receiver import (
    Homodyne,
    ReceiverKind,
    emission_factor_of_noise_figure,
    receiver_of,
)
from labctl.protocols.settings import Channel
from labctl.run.request import (
    BenchRun,
    Common,
    LedgerRequest,
    ModeRun,
    ProbationRequest,
    Stale,
)


class Reserve(StrEnum):
    """What is put aside before light is sent."""

    EVERYTHING = "everything"
    HONEST = "honest"


def bench_run(
    common: Common,
    receiver: ReceiverKind,
    station: Path | None,
    calibrations: Path,
    gain: float,
    stale: Stale,
) -> BenchRun:
    """Return a run on a station's instruments, the shipped laboratory's unless one is given."""
    if receiver is not ReceiverKind.AMPLIFIER:
        wanted = "an amplifier: a station's rotation unit has one"
        raise SettingError("receiver", str(receiver), wanted)
    return BenchRun(
        **common,
        station=station or shipped_lab_path(),
        calibrations=calibrations,
        gain=gain,
        stale=stale,
    )


def mode_run(
    common: Common,
    receiver: ReceiverKind,
    gain: float,
    noise_figure_db: float | None,
    homodyne: Homodyne,
    channel: Channel,
) -> ModeRun:
    """Return a run on simulated modes; without a noise figure the amplifier is at its limit."""
    factor = 1.0
    if noise_figure_db is not None:
        factor = emission_factor_of_noise_figure(noise_figure_db, gain)
    return ModeRun(
        **common,
        channel=channel,
        receiver=receiver_of(receiver, gain, factor, homodyne),
        verifier=homodyne,
    )


def probation_of(queries: int, real_share: float, stand_in: str | None) -> ProbationRequest | None:
    """Return how the client is watched, None if every query is real from the first on."""
    wanted = Probation(queries, real_share)
    if wanted.none and stand_in is None:
        return None
    if stand_in is None:
        raise SettingError("--stand-in", None, "a network, given with --probation or --real-share")
    if wanted.none:
        raise SettingError("--stand-in", stand_in, "given with --probation or --real-share")
    return ProbationRequest(wanted, load_network(stand_in))


def mismatch_of(gain_error: float | None, phase_rad: float | None) -> CloneMismatch | None:
    """Return the clone's mismatch that was stated, None if none was."""
    if gain_error is None and phase_rad is None:
        return None
    return CloneMismatch(gain_error or 0.0, phase_rad or 0.0)


def ledger_of(
    folder: Path | None, client: str | None, budget_bits: float | None, reserve: Reserve
) -> LedgerRequest | None:
    """Return what to book where; refuses what only makes sense with a ledger."""
    if folder is None:
        for name, value in (("--client", client), ("--budget-bits", budget_bits)):
            if value is not None:
                raise SettingError(name, value, "given with --ledger")
        return None
    if client is None:
        raise SettingError("--client", None, "given with --ledger: accounts are per client")
    return LedgerRequest(folder, checked_client(client), budget_bits, Basis(reserve))
