"""What `labctl infer` makes of its options: the parts of a request, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from labctl.cli.choices import refuse_given
from labctl.data import shipped_lab_path
from labctl.data.models import load_network
from labctl.errors import SettingError
from labctl.protocols.hiding.hiding import DEFAULT_DECOYS, OPEN, Hiding
from labctl.protocols.ledger.accounts import checked_client
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.mismatch import CloneMismatch
from labctl.protocols.own_oscillator import LocalOscillatorKind, OwnOscillator
from labctl.protocols.probation.schedule import Probation
from labctl.protocols.receiver import (
    Homodyne,
    ReceiverKind,
    emission_factor_of_noise_figure,
    receiver_of,
)
from labctl.protocols.rotation import Rotation
from labctl.protocols.settings import Channel
from labctl.run.request import (
    BenchRun,
    Common,
    LedgerRequest,
    ModeRun,
    ProbationRequest,
    Stale,
)

# Of the shipped benches' lasers.
_LINEWIDTH_HZ = 100.0


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


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """What was said of a link of simulated modes; None where nothing was, a bench measures it.

    Losses in dB, noise in SNU, errors of hardware in rad; `clone_gain_error` relative.
    """

    loss_db: float | None
    technical_noise: float | None
    efficiency: float | None
    electronic_noise: float | None
    noise_figure_db: float | None
    block_modes: int | None
    rotation_loss_db_per_mode: float | None
    coupler_error_rad: float | None
    phase_error_rad: float | None
    clone_gain_error: float | None
    clone_phase_rad: float | None
    local_oscillator: LocalOscillatorKind | None
    linewidth_hz: float | None
    signal_linewidth_hz: float | None

    def by_option(self) -> dict[str, object]:
        """Return each value by the option that gives it."""
        return {f"--{name.replace('_', '-')}": value for name, value in vars(self).items()}

    def run(self, common: Common, receiver: ReceiverKind, gain: float) -> ModeRun:
        """Return a run on such a link; without a noise figure the amplifier is at its limit."""
        factor = 1.0
        if self.noise_figure_db is not None:
            factor = emission_factor_of_noise_figure(self.noise_figure_db, gain)
        homodyne = Homodyne(
            1.0 if self.efficiency is None else self.efficiency, self.electronic_noise or 0.0
        )
        return ModeRun(
            **common,
            channel=self._channel(),
            receiver=receiver_of(receiver, gain, factor, homodyne),
            verifier=homodyne,
            oscillator=self._oscillator(),
        )

    def _oscillator(self) -> OwnOscillator | None:
        """Return the client's own laser; both lasers have 100 Hz, the demo's, unless they say."""
        if self.local_oscillator is not LocalOscillatorKind.OWN:
            given = {
                "--linewidth-hz": self.linewidth_hz,
                "--signal-linewidth-hz": self.signal_linewidth_hz,
            }
            refuse_given(given, "the server's light as local oscillator (--local-oscillator own)")
            return None
        own, signal = (
            _LINEWIDTH_HZ if each is None else each
            for each in (self.linewidth_hz, self.signal_linewidth_hz)
        )
        return OwnOscillator(own, signal)

    def _channel(self) -> Channel:
        rotation = Rotation(
            self.rotation_loss_db_per_mode or 0.0,
            self.coupler_error_rad or 0.0,
            self.phase_error_rad or 0.0,
        )
        mismatch = None
        if self.clone_gain_error is not None or self.clone_phase_rad is not None:
            mismatch = CloneMismatch(self.clone_gain_error or 0.0, self.clone_phase_rad or 0.0)
        return Channel(
            self.loss_db or 0.0, self.technical_noise or 0.0, rotation, self.block_modes, mismatch
        )


def hiding_of(
    decoys: int | None,
    decoy_images: str | None,
    return_modes: int | None,
    hidden_return_modes: int | None,
) -> Hiding:
    """Return how inputs are hidden; pictures for decoys alone ask for the usual number of them."""
    if decoys is None and decoy_images is not None and return_modes is None:
        decoys = DEFAULT_DECOYS
    hiding = Hiding(decoys or 0, return_modes, hidden_return_modes)
    if hiding == OPEN:
        refuse_given({"--decoy-images": decoy_images}, "a run without decoys")
    return hiding


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


def ledger_of(
    folder: Path | None,
    client: str | None,
    budget_bits: float | None,
    reserve: Reserve,
    *,
    client_key: Path | None = None,
    operator_keys: Path | None = None,
) -> LedgerRequest | None:
    """Return what to book where; refuses what only makes sense with a ledger."""
    if folder is None:
        of_a_ledger = {
            "--client": client,
            "--client-key": client_key,
            "--budget-bits": budget_bits,
            "--operator-keys": operator_keys,
        }
        for name, value in of_a_ledger.items():
            if value is not None:
                raise SettingError(name, value, "given with --ledger")
        return None
    if client is None:
        raise SettingError("--client", None, "given with --ledger: accounts are per client")
    return LedgerRequest(
        folder,
        checked_client(client),
        budget_bits,
        Basis(reserve),
        client_key=client_key,
        operator_keys=operator_keys,
    )
