"""What one run found, and its figures as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labctl.calibration.knowledge import Knowledge
from labctl.calibration.quantity import Quantity
from labctl.data.run_pair import RunFiles
from labctl.data.session_record import AccountRecord, SessionRecord, new_session_id
from labctl.protocols.copies.figure import CopyFigure
from labctl.protocols.labels.figures import (
    LabelFigure,
)
from labctl.protocols.leakage import LEAKAGE_FIGURES, MEAN_OVER_SESSION, Leakage
from labctl.protocols.leakage.cumulative import Cumulative
from labctl.protocols.ledger.admission import NAME_ALONE
from labctl.protocols.parameters import SessionParameters
from labctl.protocols.receiver import Receiver, ReceiverKind, TapReceiver
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.trust import UnderTrust
from labctl.protocols.verification.verdict import VerificationReport
from labctl.protocols.weight_distribution import WeightDistribution
from labctl.run.request import (
    LinkLevel,
)
from labctl.shares import share_interval

# What a client learns of a verdict.
TOLD = (
    "accepted",
    "reason",
    "transmittance_lower",
    "excess_noise_upper",
    "weights_bits_prior_free_upper",
    "failure_probability",
)
_OF_BOUNDS = (f"bounds in bits per weight and query: {MEAN_OVER_SESSION}",)


@dataclass(frozen=True)
class Report:
    """What a run found.

    `calibration`: the records that it rests on by routine, what is doubtful about them, and the
    measured values that it used. `predicted_accuracy`: what an exact link of the same measured
    parameters finds on the same images, on average. `parameters`: mu, G, T and excess noise with
    their uncertainty. All None for a mode-level link. `weights_under_trust`: what the returned
    light says of the weights under each assumption. `ledger`: what the run was charged and what
    its account holds, None without a ledger. `cumulative`: what all queries leaked of
    the weights together. `stopped`: why it ended before the last image.
    `probation`: worthless queries asked for and sent, None where there were none to be.
    `label_cap`: with decoys, the most labels that any reader of the returned light names.
    `decoys_price`: what that costs in weights; without decoys, what three would protect and cost.
    `labels`: how often a curious server reads an image's label from one sending, empty where that
    was not measured for images of this size.
    `distribution`: whether the weights are such that figures for Gaussian weights apply to them.
    `run_files`: each party's file; `run_file` is the client's, which has the classes.
    `best_copy`: what the best copy known is worth after the run's queries; with a ledger, after all
    of the account.
    `phase_rad2`: variance of the phases of a client with its own laser, the largest of all layers.
    """

    accuracy: float
    images: int
    link: LinkLevel
    model: str
    settings: SessionSettings
    leakage: Leakage
    verification: VerificationReport
    seconds: float
    run_files: RunFiles
    signal_to_noise: float
    calibration: Mapping[str, Any] | None = None
    predicted_accuracy: float | None = None
    parameters: SessionParameters | None = None
    weights_under_trust: tuple[UnderTrust, ...] = ()
    ledger: Mapping[str, Any] | None = None
    stopped: str | None = None
    probation: Mapping[str, Any] | None = None
    label_cap: float | None = None
    decoys_price: Mapping[str, float] | None = None
    cumulative: Cumulative | None = None
    labels: tuple[LabelFigure, ...] = ()
    distribution: WeightDistribution | None = None
    best_copy: CopyFigure | None = None
    phase_rad2: float | None = None

    @property
    def run_file(self) -> Path:
        """The client's file: inputs' numbers, labels, classes and measured values."""
        return self.run_files.client

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values for JSON; what is not finite becomes null."""
        return finite(
            {
                "accuracy": self.accuracy,
                "accuracy_interval": list(share_interval(self.accuracy, self.images)),
                "accuracy_standard_error": math.sqrt(
                    self.accuracy * (1.0 - self.accuracy) / self.images
                ),
                "accuracy_predicted": self.predicted_accuracy,
                "images": self.images,
                "link": str(self.link),
                "model": self.model,
                "mu": self.settings.light.mean_photons,
                "gain": self.settings.receiver.gain,
                "F": self.signal_to_noise,
                "local_oscillator": None
                if self.settings.oscillator is None
                else {**asdict(self.settings.oscillator), "phase_rad2": self.phase_rad2},
                "block_modes": self.settings.channel.block_modes,
                "decoys": self.settings.hiding.decoys,
                "return_modes": self.settings.hiding.return_modes,
                "hidden_return_modes": self.settings.hiding.hidden_return_modes,
                "label_cap": self.label_cap,
                "decoys_price": self.decoys_price,
                "receiver": _kind(self.settings.receiver),
                "loss_db": self.settings.channel.loss_db,
                "technical_noise": self.settings.channel.technical_noise,
                "sample": str(self.settings.sampling),
                "disguise": asdict(self.settings.light.disguise),
                "seed": self.settings.seed,
                "leakage": leakage_json(self.leakage, queries=self.images),
                "cumulative": None
                if self.cumulative is None
                else finite(self.cumulative.as_json()),
                "label_read": [each.as_json() for each in self.labels],
                "best_copy": None if self.best_copy is None else self.best_copy.as_json(),
                "weight_distribution": None
                if self.distribution is None
                else self.distribution.as_json(),
                "verification": verification_json(self.verification),
                "weights_under_trust": [trust_json(each) for each in self.weights_under_trust],
                "parameters": None
                if self.parameters is None
                else {
                    name: quantity_json(quantity)
                    for name, quantity in self.parameters.known().items()
                },
                "calibration": self.calibration,
                "ledger": self.ledger,
                "probation": self.probation,
                "stopped": self.stopped,
                "seconds": self.seconds,
                "run_file": str(self.run_file),
                "run_files": self.run_files.as_json(),
            }
        )


def leakage_json(leakage: Leakage, *, queries: int) -> dict[str, Any]:
    """Return a leakage figure with its assumptions as plain values."""
    values = {name: getattr(leakage, name) for name in LEAKAGE_FIGURES}
    return finite(
        {
            **values,
            "queries": queries,
            "weights_bits_prior_free_all_queries": leakage.after(queries),
            "assumptions": {
                "loss": str(leakage.assumptions.loss),
                "technical_noise": str(leakage.assumptions.technical_noise),
                "in_words": list(leakage.assumptions.sentences()),
            },
        }
    )


def trust_json(found: UnderTrust) -> dict[str, Any]:
    """Return what the light says under one assumption as plain values."""
    return finite(
        {
            "loss": str(found.assumptions.loss),
            "technical_noise": str(found.assumptions.technical_noise),
            "weights_bits_prior_free": found.bits_at_estimate,
            "weights_bits_prior_free_upper": found.bits_upper,
        }
    )


def quantity_json(quantity: Quantity) -> dict[str, Any]:
    """Return a measured quantity with its 95 % interval as plain values."""
    low, high = quantity.interval()
    return {
        "value": quantity.value,
        "standard_uncertainty": quantity.standard_uncertainty,
        "low_95": low,
        "high_95": high,
        "unit": quantity.unit,
        "budget": dict(quantity.budget),
    }


def verification_json(report: VerificationReport) -> dict[str, Any]:
    """Return a verdict as plain values."""
    return finite({**asdict(report), "assumptions": list(_OF_BOUNDS)})


def told_json(report: VerificationReport) -> dict[str, Any]:
    """Return what the client gets of a verdict (`messages.Verdict`) as plain values."""
    told = {name: getattr(report, name) for name in TOLD}
    return finite({**told, "assumptions": list(_OF_BOUNDS)})


def session_record(ledger: Mapping[str, Any] | None) -> SessionRecord:
    """Return what the file of a run in one process says of its session.

    ledger: the state of the run's ledger, None without one.
    """
    if ledger is None:
        return SessionRecord(id=new_session_id())
    bound = ledger["identity"] != NAME_ALONE
    return SessionRecord(
        id=new_session_id(),
        client=ledger["client"],
        client_identity="key" if bound else "name alone",
        client_fingerprint=ledger["identity"] if bound else None,
        account=account_record(ledger),
        server_ledger_head=ledger["head"]["hash"],
    )


def known_to_client(session: SessionRecord) -> SessionRecord:
    """Return what the client's file says of a session: nothing of the server's books."""
    return session.model_copy(update={"account": None, "server_ledger_head": None})


def account_record(ledger: Mapping[str, Any]) -> AccountRecord:
    """Return what a run file says of the client's account; ledger: the state of the run's."""
    return AccountRecord(
        spent=_plain(ledger["spent"]),
        reserved=_plain(ledger["reserved"]),
        budget=_plain(ledger["budget"]),
        overdrawn=ledger["overdrawn"],
        queries_left=ledger["queries_left"],
        basis=ledger["basis_in_words"],
        composition=tuple(ledger["composition"]),
    )


def _plain(amounts: Mapping[Any, float]) -> dict[str, float]:
    return {str(meter): value for meter, value in amounts.items()}


def calibration_json(knowledge: Knowledge) -> dict[str, Any]:
    """Return what a result rests on: records, doubts, and measured values with uncertainty."""
    return {
        "records": dict(knowledge.records),
        "doubts": dict(knowledge.doubts),
        "values": {
            name: {
                "value": quantity.value,
                "standard_uncertainty": quantity.standard_uncertainty,
                "unit": quantity.unit,
            }
            for name, quantity in knowledge.quantities.items()
        },
    }


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with infinities and NaN as None, which JSON can say."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def _kind(receiver: Receiver) -> str:
    tap = isinstance(receiver, TapReceiver)
    return str(ReceiverKind.TAP if tap else ReceiverKind.AMPLIFIER)
