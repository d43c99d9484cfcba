"""A run file as evidence, in the formats that there are."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from labctl.evidence.envelope import SignedEnvelope
from labctl.evidence.from_run import facts_of_file
from labctl.evidence.keys import EvidenceKey
from labctl.evidence.ocsf import Activity, findings_of
from labctl.evidence.statement import payload_of


class EvidenceFormat(StrEnum):
    """OCSF: events for a platform, not signed. in-toto: a signed statement."""

    OCSF = "ocsf"
    IN_TOTO = "in-toto"


def evidence_of(
    path: Path,
    form: EvidenceFormat,
    *,
    keys: Sequence[EvidenceKey] = (),
    activity: Activity = Activity.CREATE,
) -> list[dict[str, Any]]:
    """Return the evidence of a run file as plain values: events, or one signed statement.

    The same run file gives the same evidence. `activity` of events alone, `keys` of statements
    alone. Raises RunFileError and EvidenceError as `facts_of_file` does.
    """
    facts = facts_of_file(path)
    if form is EvidenceFormat.OCSF:
        return [finding.as_json() for finding in findings_of(facts, activity)]
    return [SignedEnvelope.signed(payload_of(facts), keys).as_json()]
