"""OCSF events of a session: Detection Finding (class 2004), by models made here.

OCSF, the Open Cybersecurity Schema Framework, version 1.5.0. An event is a function of the facts,
which it holds whole under `unmapped.labctl`: who has one can make it again and compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any, Literal

from labctl.evidence.facts import AccountFacts, Facts, Part, VerdictName, milliseconds

OCSF_VERSION = "1.5.0"
# Of Detection Finding, and of the category Findings, in the schema.
CLASS_UID, CATEGORY_UID = 2004, 2
# Taken of a limit, what is spent and reserved together: a fifth is left to act in.
NEARLY_SPENT = 0.8
# As long as a session's id.
_UID_DIGITS = 32


class Activity(StrEnum):
    """Why an event is sent: the finding is new, is sent again, or is closed by who looked at it."""

    CREATE = "create"
    UPDATE = "update"
    CLOSE = "close"


class Severity(IntEnum):
    """The schema's levels that are used."""

    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4


# Numbers of the schema: activity_id, then status_id (new, in progress, resolved).
_ACTIVITIES = {Activity.CREATE: (1, 1), Activity.UPDATE: (2, 2), Activity.CLOSE: (3, 4)}
_STATUSES = {1: "New", 2: "In Progress", 4: "Resolved"}
_SEVERITIES = {
    VerdictName.ACCEPTED: Severity.INFORMATIONAL,
    VerdictName.REJECTED: Severity.HIGH,
    VerdictName.NOT_VERIFIED: Severity.LOW,
}


class _Product(Part):
    name: Literal["labctl"] = "labctl"
    vendor_name: Literal["labctl"] = "labctl"
    version: str


class _Metadata(Part):
    version: Literal["1.5.0"] = "1.5.0"
    product: _Product


class _FindingInfo(Part):
    uid: str
    title: str
    types: tuple[str, ...]
    created_time: int


class _Resource(Part):
    type: str
    name: str | None = None
    uid: str | None = None


class _Unmapped(Part):
    labctl: Facts


class DetectionFinding(Part):
    """One event, with the names of the schema."""

    activity_id: int
    activity_name: str
    category_name: Literal["Findings"] = "Findings"
    category_uid: Literal[2] = 2
    class_name: Literal["Detection Finding"] = "Detection Finding"
    class_uid: Literal[2004] = 2004
    finding_info: _FindingInfo
    message: str
    metadata: _Metadata
    resources: tuple[_Resource, ...]
    severity: str
    severity_id: int
    status: str
    status_code: str
    status_id: int
    time: int
    start_time: int
    end_time: int
    type_name: str
    type_uid: int
    unmapped: _Unmapped

    def as_json(self) -> dict[str, Any]:
        """Return the event as plain values for JSON; optional attributes without a value are not.

        The facts keep theirs: there None says that something is not known.
        """
        values = self.model_dump(mode="json", exclude_none=True)
        values["unmapped"] = self.unmapped.model_dump(mode="json")
        return values


def findings_of(facts: Facts, activity: Activity = Activity.CREATE) -> list[DetectionFinding]:
    """Return the events of a session: its verdict, then its budget if that is nearly spent."""
    budget = _budget_finding(facts, activity)
    return [session_finding(facts, activity), *([] if budget is None else [budget])]


def session_finding(facts: Facts, activity: Activity) -> DetectionFinding:
    """Return the event that says what the verdict on a session was."""
    kinds = [f"labctl/verdict/{_slug(name)}" for name in facts.failed]
    whole = f"labctl/verdict/{facts.verdict.value.lower()}"
    return _finding(
        facts,
        activity,
        uid=facts.session.id,
        title=f"Secure session {facts.verdict}: network {facts.model.name}",
        types=tuple(kinds) or (whole,),
        severity=_SEVERITIES[facts.verdict],
        status_code=facts.verdict.value,
        message=f"{facts.verdict}: {facts.reason}",
    )


def _budget_finding(facts: Facts, activity: Activity) -> DetectionFinding | None:
    """Return the event of a budget that is nearly spent or overdrawn, None where there is none."""
    account = facts.account
    if account is None:
        return None
    shares = {meter: share for meter, share in _shares(account).items() if share >= NEARLY_SPENT}
    if not (account.overdrawn or shares or account.queries_left == 0):
        return None
    code = "OVERDRAWN" if account.overdrawn else "NEARLY-SPENT"
    named = facts.client.name or "client"
    parts = [f"{share:.1%} of {meter}" for meter, share in sorted(shares.items())]
    left = "any number of" if account.queries_left is None else str(account.queries_left)
    parts.append(f"{left} more queries of these settings fit")
    return _finding(
        facts,
        activity,
        uid=f"budget-{_account_id(facts)}",
        title=f"Budget {code} of {named} on network {facts.model.name}",
        types=(f"labctl/budget/{code.lower()}",),
        severity=Severity.HIGH if account.overdrawn else Severity.MEDIUM,
        status_code=code,
        message=f"{code}: spent and reserved are {', '.join(parts)}",
    )


def _shares(account: AccountFacts) -> dict[str, float]:
    """Return what is taken of each limit that anything is charged against."""
    taken = {
        meter: account.spent.get(meter, 0.0) + account.reserved.get(meter, 0.0)
        for meter in account.budget
        if meter in account.spent or meter in account.reserved
    }
    return {
        meter: value / account.budget[meter] if account.budget[meter] > 0.0 else 1.0
        for meter, value in taken.items()
    }


def _account_id(facts: Facts) -> str:
    """Return what names an account of one client and one network, the same in all its sessions."""
    account = f"{facts.client.name}/{facts.model.sha256}"
    return hashlib.sha256(account.encode()).hexdigest()[:_UID_DIGITS]


def _finding(
    facts: Facts,
    activity: Activity,
    *,
    uid: str,
    title: str,
    types: tuple[str, ...],
    severity: Severity,
    status_code: str,
    message: str,
) -> DetectionFinding:
    activity_id, status_id = _ACTIVITIES[activity]
    start = milliseconds(facts.session.started_utc)
    end = milliseconds(facts.session.finished_utc or facts.session.started_utc)
    return DetectionFinding(
        activity_id=activity_id,
        activity_name=activity.capitalize(),
        finding_info=_FindingInfo(uid=uid, title=title, types=types, created_time=end),
        message=message,
        metadata=_Metadata(product=_Product(version=facts.builder.version)),
        resources=_resources(facts),
        severity=severity.name.capitalize(),
        severity_id=severity.value,
        status=_STATUSES[status_id],
        status_code=status_code,
        status_id=status_id,
        time=end,
        start_time=start,
        end_time=end,
        type_name=f"Detection Finding: {activity.capitalize()}",
        type_uid=CLASS_UID * 100 + activity_id,
        unmapped=_Unmapped(labctl=facts),
    )


def _resources(facts: Facts) -> tuple[_Resource, ...]:
    model = _Resource(type="machine-learning-model", name=facts.model.name, uid=facts.model.sha256)
    client = facts.client
    if client.name is None and client.fingerprint is None:
        return (model,)
    kind = (client.identity or "name alone").replace(" ", "-")
    return model, _Resource(type=f"client-{kind}", name=client.name, uid=client.fingerprint)


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def facts_of_event(event: Mapping[str, Any]) -> Any:
    """Return what an event says are its facts, None where it has none."""
    unmapped = event.get("unmapped")
    return unmapped.get("labctl") if isinstance(unmapped, Mapping) else None
