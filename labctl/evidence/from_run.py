"""The facts of a run file that was read; a run without assumptions or verdict has none."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labctl.data.run_file import Run, is_written_now, read_run
from labctl.data.session_record import SessionRecord
from labctl.errors import EvidenceError, RunFileError, SettingError
from labctl.evidence.facts import LEAKAGE_LIMIT, NOT_STATED, Facts, VerdictName
from labctl.evidence.problems import first_problem
from labctl.party import Party
from labctl.protocols.ledger.chain import canonical
from labctl.protocols.receiver import IDEAL_HOMODYNE, TapReceiver

# What documents of other shapes than labctl's own raise.
_MALFORMED = (ValueError, TypeError, AttributeError, KeyError, StopIteration)
# As long as a session's id.
_ID_DIGITS = 32
_CHECK_FIELDS = (
    *("name", "passed", "statistic", "threshold", "p_value"),
    *("false_alarm_probability", "sentence"),
)
# Whether a session was accepted, as a verdict says it.
_VERDICTS = (
    (True, VerdictName.ACCEPTED),
    (False, VerdictName.REJECTED),
    (None, VerdictName.NOT_VERIFIED),
)


def is_beside_its_server_s(path: Path) -> bool:
    """Tell whether a file is the client's of a run whose server's file is in the same folder.

    One process wrote both: the session's evidence is of the server's.
    """
    try:
        run = read_run(path)
    except RunFileError:
        return False
    peer = run.peer_file
    return run.party is Party.CLIENT and peer is not None and path.with_name(peer).is_file()


def facts_of_file(path: Path) -> Facts:
    """Return the facts of a run file.

    Raises RunFileError where it cannot be read, EvidenceError where it is still written, or holds
    no verdict or no assumptions.
    """
    if path.is_file() and is_written_now(path):
        raise EvidenceError(f"{path}: is being written; evidence is of runs that have ended")
    return facts_of(read_run(path))


def facts_of(run: Run) -> Facts:
    """Return the facts of a run; raises EvidenceError and RunFileError as `facts_of_file` does."""
    if run.verification is None or run.leakage is None:
        raise EvidenceError(f"{run.path}: no verdict ({run.status}); evidence needs one")
    if run.party is Party.CLIENT and run.peer_file and "checks" not in run.verification:
        raise EvidenceError(
            f"{run.path}: has what the client got of the verdict; all of it is in the "
            f"server's file, {run.peer_file}"
        )
    assumed = _at(run.leakage, "assumptions")
    if not _at(assumed, "in_words"):
        raise EvidenceError(
            f"{run.path}: no assumptions; evidence states them with every figure, or is none"
        )
    try:
        return Facts.model_validate_json(canonical(_document(run, run.verification, run.leakage)))
    except ValidationError as error:
        raise RunFileError(f"{run.path}: cannot be evidence: {first_problem(error)}") from error
    except (*_MALFORMED, SettingError) as error:
        raise RunFileError(f"{run.path}: cannot be evidence: {error!r}") from error


def _at(where: Any, name: str) -> Any:
    """Return a part of a document that was read, None where there is none."""
    return where.get(name) if isinstance(where, Mapping) else None


def _document(
    run: Run, verification: Mapping[str, Any], leakage: Mapping[str, Any]
) -> dict[str, Any]:
    session, settings = run.session, run.settings
    return {
        "session": _session(run, session),
        "model": {"name": run.model.name, "sha256": run.model.sha256},
        "verdict": next(name for said, name in _VERDICTS if verification["accepted"] is said),
        "reason": verification["reason"],
        "failed": _failed(verification, settings),
        "checks": [
            {name: _finite(check[name]) for name in _CHECK_FIELDS}
            for check in verification.get("checks", ())
        ],
        "client": {
            "name": None if session is None else session.client,
            "identity": None if session is None else session.client_identity,
            "fingerprint": None if session is None else session.client_fingerprint,
        },
        "server_fingerprint": None if session is None else session.server_fingerprint,
        "light": {
            "mean_photons": _first(settings, _at(settings, "light"), "mean_photons"),
            "gain": _gain(settings),
            "transmittance_lower": verification["transmittance_lower"],
            "excess_noise_upper": verification["excess_noise_upper"],
            "samples": verification.get("samples"),
        },
        "bits": _bits(verification, leakage),
        "failure_probability": verification["failure_probability"],
        "false_alarm_probability": verification.get("false_alarm_probability"),
        "assumptions": _assumptions(verification, leakage, session),
        "account": _account(session),
        "ledger_head": None if session is None else session.server_ledger_head,
        "client_ledger_head": None if session is None else session.client_ledger_head,
        "transcript_sha256": None if session is None else session.transcript_sha256,
        "builder": {"version": run.versions["labctl"]},
        "materials": [
            {"name": name, "id": record}
            for name, record in sorted(settings.get("calibration", {}).get("records", {}).items())
        ],
    }


def _session(run: Run, session: SessionRecord | None) -> dict[str, Any]:
    return {
        "id": _header_id(run) if session is None else session.id,
        "identified_by": "header of the run file" if session is None else "session id",
        "kind": "in-process" if session is None else session.kind,
        "party": None if run.party is None else str(run.party),
        "link": run.settings["link"],
        "run_status": run.status,
        "started_utc": run.started_utc,
        "finished_utc": run.finished_utc,
    }


def _header_id(run: Run) -> str:
    """Return what tells apart runs from before sessions had an id: a hash of what is set first."""
    header = {
        "started_utc": run.started_utc,
        "settings": dict(run.settings),
        "model_sha256": run.model.sha256,
        "versions": dict(run.versions),
        "seed": run.seed,
    }
    return hashlib.sha256(canonical(header)).hexdigest()[:_ID_DIGITS]


def _finite(value: Any) -> Any:
    """Return None for a threshold that no value crosses."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _first(settings: Mapping[str, Any], inside: Any, name: str) -> Any:
    """Return a setting; files of one party have some of them inside another."""
    return settings[name] if name in settings else inside[name]


def _gain(settings: Mapping[str, Any]) -> float:
    """Return G; of a tap, the gain of the amplifier that adds as much noise."""
    receiver = settings["receiver"]
    if "gain" in settings or "gain" in receiver:
        return float(_first(settings, receiver, "gain"))
    return TapReceiver(receiver["tap_transmittance"], IDEAL_HOMODYNE).gain


def _failed(verification: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Return what failed; a client knows the reason, not which of the server's checks it was."""
    checks = verification.get("checks", ())
    failed = [check["name"] for check in checks if check["passed"] is False]
    bits = verification.get("weights_bits_prior_free_upper")
    limit = settings["verification"]["weights_bits_limit"] if "verification" in settings else None
    if limit is not None and bits is not None and bits > limit:
        failed.append(LEAKAGE_LIMIT)
    if verification["accepted"] is False and not checks and not failed:
        failed.append(NOT_STATED)
    return failed


def _bits(verification: Mapping[str, Any], leakage: Mapping[str, Any]) -> dict[str, Any]:
    together = leakage.get("cumulative", {})
    return {
        "prior_free": verification.get("weights_bits_prior_free_upper"),
        "network": verification.get("weights_bits_network_upper"),
        "honest": verification.get("weights_bits_honest_upper"),
        "cumulative": together.get("bits_per_real_weight"),
        "cumulative_basis": together.get("headline"),
        "queries": together.get("queries", leakage.get("queries")),
        "not_valid": verification.get("discrete_weights"),
    }


def _assumptions(
    verification: Mapping[str, Any],
    leakage: Mapping[str, Any],
    session: SessionRecord | None,
) -> dict[str, Any]:
    """Return what all figures of the facts assume, each sentence once."""
    assumed, together = leakage["assumptions"], leakage.get("cumulative")
    words = [*assumed["in_words"], *verification.get("assumptions", ())]
    if together is not None:
        words.append(f"cumulative: {together['assumptions'][together['headline']]}")
    if session is not None and session.account is not None:
        words += [f"ledger: {sentence}" for sentence in session.account.composition]
    return {
        "loss": assumed["loss"],
        "technical_noise": assumed["technical_noise"],
        "in_words": list(dict.fromkeys(words)),
    }


def _account(session: SessionRecord | None) -> dict[str, Any] | None:
    if session is None or session.account is None:
        return None
    return session.account.model_dump(mode="json", exclude={"composition"})
