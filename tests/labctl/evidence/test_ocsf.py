"""Events for a security platform, as an independent library reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence_runs import (
    FINGERPRINT,
    ID,
    NETWORK_SHA256,
    account,
    check,
    session,
    verification,
    write_run,
)

from labctl.data.session_record import AccountRecord
from labctl.evidence.from_run import facts_of_file
from labctl.evidence.ocsf import Activity, DetectionFinding, findings_of


def findings(
    folder: Path,
    accepted: bool | None = True,
    held: AccountRecord | None = None,
    activity: Activity = Activity.CREATE,
) -> list[DetectionFinding]:
    record = session(account=account() if held is None else held)
    path = write_run(folder / "run.h5", verdict=verification(accepted), record=record)
    return findings_of(facts_of_file(path), activity)


@pytest.mark.parametrize(
    ("accepted", "code", "severity", "kinds"),
    [
        (True, "ACCEPTED", 1, ["labctl/verdict/accepted"]),
        (False, "REJECTED", 4, ["labctl/verdict/pooled-noise"]),
        (None, "NOT-VERIFIED", 2, ["labctl/verdict/not-verified"]),
    ],
)
def test_a_verdict_is_a_finding(
    tmp_path: Path, accepted: bool | None, code: str, severity: int, kinds: list[str]
) -> None:
    (finding,) = findings(tmp_path, accepted)
    event = finding.as_json()
    assert (event["status_code"], event["severity_id"]) == (code, severity)
    assert event["finding_info"]["types"] == kinds
    assert event["finding_info"]["uid"] == ID
    assert event["message"].startswith(f"{code}: ")
    assert event["message"].endswith(event["unmapped"]["labctl"]["reason"])
    assert event["metadata"]["product"]["version"] == "0.1.0"
    assert event["resources"] == [
        {"type": "machine-learning-model", "name": "small", "uid": NETWORK_SHA256},
        {"type": "client-certificate", "name": "alice", "uid": FINGERPRINT},
    ]


def test_every_check_that_failed_is_a_type_of_the_finding(tmp_path: Path) -> None:
    checks = [check("row noise", passed=False), check("offset", passed=False), check("mode gain")]
    path = write_run(tmp_path / "run.h5", verdict=verification(False, checks=checks))
    (finding,) = findings_of(facts_of_file(path))
    assert finding.finding_info.types == ("labctl/verdict/row-noise", "labctl/verdict/offset")


def test_a_client_by_its_name_alone_has_no_fingerprint(tmp_path: Path) -> None:
    alone = session(client_identity="name alone", client_fingerprint=None)
    (finding,) = findings_of(facts_of_file(write_run(tmp_path / "run.h5", record=alone)))
    assert finding.as_json()["resources"][1] == {"type": "client-name-alone", "name": "alice"}


def test_a_client_that_is_not_known_is_no_resource(tmp_path: Path) -> None:
    nobody = session(client=None, client_identity=None, client_fingerprint=None, account=None)
    (finding,) = findings_of(facts_of_file(write_run(tmp_path / "run.h5", record=nobody)))
    assert [each["type"] for each in finding.as_json()["resources"]] == ["machine-learning-model"]


@pytest.mark.parametrize(
    ("activity", "number", "status"),
    [(Activity.CREATE, 1, 1), (Activity.UPDATE, 2, 2), (Activity.CLOSE, 3, 4)],
)
def test_an_event_says_why_it_is_sent(
    tmp_path: Path, activity: Activity, number: int, status: int
) -> None:
    (finding,) = findings(tmp_path, activity=activity)
    assert (finding.activity_id, finding.type_uid) == (number, 200400 + number)
    assert finding.status_id == status


@pytest.mark.parametrize(
    ("held", "code", "severity"),
    [
        (account(spent=3.2), "NEARLY-SPENT", 3),
        (account(spent=3.19), None, None),
        (account(spent=1.0, left=0), "NEARLY-SPENT", 3),
        (account(spent=4.2, overdrawn=True, left=0), "OVERDRAWN", 4),
        (account(spent=9.0, budget=None, left=None), None, None),
        (account(spent=0.0, budget=0.0), "NEARLY-SPENT", 3),
    ],
)
def test_a_budget_that_is_nearly_spent_or_overdrawn_is_a_finding_of_its_own(
    tmp_path: Path, held: AccountRecord, code: str | None, severity: int | None
) -> None:
    _, *budget = findings(tmp_path, held=held)
    assert [(each.status_code, each.severity_id) for each in budget] == (
        [] if code is None else [(code, severity)]
    )


def test_what_is_reserved_counts_as_spent(tmp_path: Path) -> None:
    held = account(spent=2.0)
    held = held.model_copy(update={"reserved": {"bits_per_weight": 1.3}})
    _, budget = findings(tmp_path, held=held)
    assert budget.message == (
        "NEARLY-SPENT: spent and reserved are 82.5% of bits_per_weight, "
        "9 more queries of these settings fit"
    )


def test_a_budget_is_one_finding_over_all_sessions_of_a_client_and_network(tmp_path: Path) -> None:
    uids = set()
    for number, name in enumerate(("alice", "alice", "bob")):
        record = session(id=f"{number:032x}", client=name, account=account(spent=3.9))
        path = write_run(tmp_path / f"{number}.h5", record=record)
        uids.add(findings_of(facts_of_file(path))[1].finding_info.uid)
    assert len(uids) == 2


@pytest.mark.parametrize("accepted", [True, False, None])
@pytest.mark.parametrize("activity", list(Activity))
def test_an_independent_library_takes_the_events(
    tmp_path: Path, accepted: bool | None, activity: Activity
) -> None:
    reason = "py-ocsf-models is not installed (extra test-full)"
    library = pytest.importorskip("py_ocsf_models.events.findings.detection_finding", reason=reason)
    made = findings(tmp_path, accepted, account(spent=3.9), activity)
    assert len(made) == 2
    for finding in made:
        event = finding.as_json()
        read = library.DetectionFinding.model_validate(event)
        # What the library knows of an event is all of it: nothing is left over or changed.
        back = read.model_dump(mode="json", exclude_none=True)
        back["unmapped"] = read.unmapped
        assert back == event
